//! All pools and volumes on one page, and what is said of a pool.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    CallError, ChangePool, Pool, PoolOnHost, PoolState, Problem, ProblemCode, Right, Volume, VolumeQuery,
    calls,
};
use serde::Deserialize;

use super::{standing, taken};
use crate::{
    component::{Badge, Chips, Fault, Field, Heads, Icon, Meter, Pager, Search, Standing},
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    users::query,
    web::{ClientAddress, Web},
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

#[derive(Debug, Template)]
#[template(path = "storage/pool.html")]
struct PoolPage {
    frame: Frame,
    pool: Pool,
    problem: Option<Problem>,
}

/// `GET /storage/pools/{id}`
pub(crate) async fn pool_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    show_pool(&web, frame, &id, None).await
}

async fn show_pool(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    match web.agent.call(&calls::pool(id).as_session(frame.token())).await {
        Ok(pool) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            (status, draw(&PoolPage { frame, pool, problem })).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What is said of a pool.
#[derive(Debug, Deserialize)]
pub(crate) struct PoolForm {
    name: String,
    limit: String,
    version: u64,
}

/// `POST /storage/pools/{id}`
pub(crate) async fn change_pool(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<PoolForm>,
) -> Response {
    let Ok(limit) = form.limit.trim().parse() else {
        let problem = Problem::new(ProblemCode::Invalid, "A limit is 1 to 100 per cent.").in_field("limit");
        return show_pool(&web, frame, &id, Some(problem)).await;
    };
    let body = ChangePool { name: Some(form.name.trim().to_owned()), limit: Some(limit) };
    let call = calls::change_pool(&id, &body).if_version(form.version);
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => done("/storage", "Saved."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show_pool(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
