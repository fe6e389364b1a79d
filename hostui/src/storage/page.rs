//! All pools and volumes on one page.

use askama::Template;
use axum::{extract::State, response::Response};
use quantix_api::{Pool, PoolOnHost, PoolState, Right, Volume, VolumeQuery, calls};

use super::{standing, taken};
use crate::{
    component::{Badge, Chips, Heads, Icon, Meter, Pager, Search, Standing},
    frame::Frame,
    problem::draw,
    session::turned_away,
    users::query,
    web::Web,
    words,
};

const WHICH: [(&str, &str); 3] = [("", "All"), ("true", "In use"), ("false", "Not used")];

#[derive(Debug, Template)]
#[template(path = "storage/page.html", blocks = ["pools", "volumes"])]
struct StoragePage {
    frame: Frame,
    pools: Vec<Pool>,
    volumes: Vec<Volume>,
    pager: Pager,
}

impl StoragePage {
    fn standing(&self, volume: &Volume) -> Standing {
        standing(volume)
    }

    fn taken(&self, volume: &Volume) -> String {
        taken(volume)
    }

    fn size(&self, bytes: &u64) -> String {
        words::bytes(*bytes)
    }

    fn how(&self, there: &PoolOnHost) -> Standing {
        match there.state {
            PoolState::Ready => Standing::ok("Ready"),
            PoolState::Missing => Standing::bad("Missing"),
            PoolState::Unknown => Standing::bad("Its host is lost"),
        }
    }

    fn meter(&self, there: &PoolOnHost) -> Meter {
        Meter::of("Of the pool in use", there.used, there.capacity)
    }

    fn may_make(&self) -> bool {
        self.frame.may(Right::ManageVms)
    }

    fn may_change(&self) -> bool {
        self.frame.may(Right::ManageStorage)
    }

    fn is_narrowed(&self) -> bool {
        ["text", "used", "pool", "host"].iter().any(|name| !self.frame.address.get(name).is_empty())
    }
}

/// `GET /storage?text=…&used=…&sort=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let address = &frame.address;
    let asked = query(&frame);
    let text = |name| Some(address.get(name).to_owned()).filter(|text| !text.is_empty());
    let asked = VolumeQuery {
        after: asked.after,
        limit: asked.limit,
        sort: asked.sort,
        text: asked.text,
        pool: text("pool"),
        host: text("host"),
        vm: None,
        used: address.get("used").parse().ok(),
    };
    let pools = calls::pools().as_session(frame.token());
    let volumes = calls::volumes(&asked).as_session(frame.token());
    match tokio::try_join!(web.agent.call(&pools), web.agent.call(&volumes)) {
        Ok((pools, volumes)) => {
            let pager = Pager::new(&frame.address, volumes.next.as_deref());
            let page = StoragePage { frame, pools: pools.items, volumes: volumes.items, pager };
            match page.frame.block() {
                Some("pools") => draw(&page.as_pools()),
                Some("volumes") => draw(&page.as_volumes()),
                _ => draw(&page),
            }
        }
        Err(error) => turned_away(&error),
    }
}
