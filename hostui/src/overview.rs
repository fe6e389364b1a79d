//! The first page: the host, what it is made of, and what needs attention.

use askama::Template;
use axum::{extract::State, response::Response};
use jiff::Timestamp;
use quantix_api::{Check, CheckState, HostFacts, Service, SlotName, calls};

use crate::{
    problem::draw,
    session::{Visitor, to_sign_in, turned_away},
    web::Web,
    words,
};

/// From here on a meter is amber, and from the second on red.
const WARN_PERCENT: u64 = 80;
const BAD_PERCENT: u64 = 90;

#[derive(Debug, Template)]
#[template(path = "overview/page.html")]
struct Overview {
    host: HostFacts,
    attention: Vec<Check>,
    slot: Option<String>,
    uptime: String,
    memory: Meter,
    state: Meter,
}

/// A part of a whole, drawn as a bar.
#[derive(Debug)]
struct Meter {
    used: String,
    total: String,
    percent: u64,
    level: &'static str,
}

impl Meter {
    fn new(available: u64, total: u64) -> Self {
        let used = total.saturating_sub(available);
        let percent = words::percent(used, total);
        let level = match percent {
            BAD_PERCENT.. => "bad",
            WARN_PERCENT.. => "warn",
            _ => "",
        };
        Self { used: words::bytes(used), total: words::bytes(total), percent, level }
    }
}

/// `GET /overview`
pub(crate) async fn page(State(web): State<Web>, visitor: Visitor) -> Response {
    let Some(token) = visitor.token() else { return to_sign_in() };
    let (host_call, ready_call) = (calls::host().as_session(token), calls::ready());
    match tokio::try_join!(web.agent.call(&host_call), web.agent.call(&ready_call)) {
        Ok((host, readiness)) => draw(&Overview::new(host, readiness.checks)),
        Err(error) => turned_away(&error),
    }
}

impl Overview {
    fn here(&self) -> &'static str {
        "overview"
    }

    fn new(host: HostFacts, checks: Vec<Check>) -> Self {
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
            memory: Meter::new(host.memory.available_bytes, host.memory.total_bytes),
            state: Meter::new(host.state_storage.available_bytes, host.state_storage.size_bytes),
            attention,
            host,
        }
    }

    fn is_failed(&self, check: &Check) -> bool {
        check.state == CheckState::Failed
    }

    fn service_state(&self, service: &Service) -> (&'static str, &'static str) {
        if service.error.is_none() { ("ok", "Answers") } else { ("bad", "Does not answer") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_quiet_until_it_is_nearly_full() {
        let level = |used: u64| Meter::new(100 - used, 100).level;
        assert_eq!([0, 79, 80, 89, 90, 100].map(level), ["", "", "warn", "warn", "bad", "bad"]);
        assert_eq!(Meter::new(0, 0).percent, 0);
    }
}
