//! The first page: the host, what it is made of, and what needs attention.

use askama::Template;
use axum::{extract::State, response::Response};
use jiff::Timestamp;
use quantix_api::{Check, CheckState, HostFacts, Service, SlotName, calls};

use crate::{
    component::{Badge, Heads, Level, Meter, Standing},
    frame::Frame,
    problem::draw,
    session::turned_away,
    web::Web,
    words,
};

#[derive(Debug, Template)]
#[template(path = "overview/page.html")]
struct Overview {
    frame: Frame,
    host: HostFacts,
    attention: Vec<Check>,
    slot: Option<String>,
    uptime: String,
    memory: Share,
    state: Share,
}

/// What is in use, of how much, and as a meter.
type Share = (String, String, Meter);

fn share(label: &'static str, available: u64, total: u64) -> Share {
    let used = total.saturating_sub(available);
    (words::bytes(used), format!("of {}", words::bytes(total)), Meter::of(label, used, total))
}

/// `GET /overview`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let (host_call, ready_call) = (calls::host().as_session(frame.token()), calls::ready());
    match tokio::try_join!(web.agent.call(&host_call), web.agent.call(&ready_call)) {
        Ok((host, readiness)) => draw(&Overview::new(frame, host, readiness.checks)),
        Err(error) => turned_away(&error),
    }
}

impl Overview {
    fn new(frame: Frame, host: HostFacts, checks: Vec<Check>) -> Self {
        let mut attention: Vec<_> =
            checks.into_iter().filter(|check| check.state != CheckState::Ok).collect();
        attention.sort_by_key(|check| std::cmp::Reverse(check.state));
        let up = Timestamp::now().duration_since(host.booted_at).as_secs();
        Self {
            slot: host.slot.as_ref().map(|slot| {
                let name = match slot.name {
                    SlotName::A => "A",
                    SlotName::B => "B",
                };
                format!("{name}, {}", if slot.verified { "verified" } else { "not verified" })
            }),
            uptime: words::duration(u64::try_from(up).unwrap_or(0)),
            memory: share("Memory in use", host.memory.available_bytes, host.memory.total_bytes),
            state: share(
                "State partition in use",
                host.state_storage.available_bytes,
                host.state_storage.size_bytes,
            ),
            attention,
            frame,
            host,
        }
    }

    fn check_state(&self, check: &Check) -> Standing {
        let level = if check.state == CheckState::Failed { Level::Bad } else { Level::Warn };
        Standing::new(level, check.name.clone())
    }

    fn service_state(&self, service: &Service) -> Standing {
        if service.error.is_none() { Standing::ok("Answers") } else { Standing::bad("Does not answer") }
    }
}
