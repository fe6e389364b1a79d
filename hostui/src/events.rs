//! What happened by itself, and the alarms: what is wrong and lasts.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{CallError, Event, EventQuery, Problem, ProblemCode, Right, Severity, calls};

use crate::{
    component::{Chips, Fault, Heads, Icon, Level, Pager, Post, Search, Standing},
    frame::Frame,
    problem::{Page, draw},
    reader,
    session::turned_away,
    web::{ClientAddress, Web},
};

/// What a page shows.
const LINES: u32 = 50;
/// More alarms are not counted in the bar.
const MOST_COUNTED: u32 = 99;

const OPEN: [(&str, &str); 2] = [("", "All"), ("true", "Alarms")];
const SEVERITIES: [(&str, &str); 4] =
    [("", "Any"), ("error", "Errors"), ("warning", "Warnings"), ("info", "Good to know")];

#[derive(Debug, Template)]
#[template(path = "activity/events.html", blocks = ["events"])]
struct EventsPage {
    frame: Frame,
    events: Vec<Event>,
    pager: Pager,
    problem: Option<Problem>,
}

impl EventsPage {
    fn standing(&self, event: &Event) -> Standing {
        let standing = match (event.severity, event.is_open()) {
            (Severity::Info, _) => Standing::idle("Good to know"),
            (_, false) => Standing::ok("Over"),
            (Severity::Warning, true) => Standing::warn("Warning"),
            (Severity::Error, true) => Standing::bad("Error"),
        };
        standing.wraps()
    }

    fn may_act(&self) -> bool {
        self.frame.person.may(Right::OperateHosts)
    }

    fn deed(&self, event: &Event, deed: &str) -> String {
        format!("/activity/events/{}/{deed}", event.id)
    }

    fn is_narrowed(&self) -> bool {
        ["text", "open", "severity", "after"].iter().any(|name| !self.frame.address.get(name).is_empty())
    }
}

/// `GET /activity/events?open=true&severity=…&text=…&after=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, None).await
}

async fn show(web: &Web, frame: Frame, problem: Option<Problem>) -> Response {
    let given =
        |name: &str| Some(frame.address.get(name).trim().to_owned()).filter(|value| !value.is_empty());
    let query = EventQuery {
        after: given("after"),
        limit: Some(LINES),
        text: given("text"),
        severity: given("severity"),
        component: given("component"),
        open: (frame.address.get("open") == "true").then_some(true),
    };
    match web.agent.call(&calls::events(&query).as_session(frame.token())).await {
        Ok(found) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let pager = Pager::new(&frame.address, found.next.as_deref()).by_time();
            let page = EventsPage { events: found.items, pager, problem, frame };
            let is_block = page.frame.block() == Some("events");
            let drawn = if is_block { draw(&page.as_events()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        // An address that was mistyped leads to the newest.
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            Redirect::to("/activity/events").into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /activity/events/{id}/acknowledge` and `…/clear`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, deed)): Path<(i64, String)>,
) -> Response {
    let (call, sentence) = match deed.as_str() {
        "acknowledge" => (calls::acknowledge_event(id), "Others see that you look after it."),
        "clear" => (calls::clear_event(id), "It is over."),
        _ => return Page::not_found().into_response(),
    };
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => reader::done("/activity/events?open=true", sentence),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            show(&web, frame, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// In the bar: how many alarms there are that nobody looks after.
#[derive(Debug, Template)]
#[template(
    ext = "html",
    source = r#"<a class="btn quiet{% if open == 0 %} icon{% endif %}" href="/activity/events?open=true" aria-label="{% if open == 0 %}No alarms{% else if open == 1 %}1 alarm{% else %}{{ open }} alarms{% endif %}">{{ Icon("bell") }}{% if open > 0 %}<span class="badge {{ level.class() }}" aria-hidden="true">{{ open }}</span>{% endif %}</a>"#
)]
struct Alarms {
    open: usize,
    level: Level,
}

/// `GET /alarms`
pub(crate) async fn alarms(State(web): State<Web>, frame: Frame) -> Response {
    let query = EventQuery { limit: Some(MOST_COUNTED), open: Some(true), ..EventQuery::default() };
    match web.agent.call(&calls::events(&query).as_session(frame.token())).await {
        Ok(found) => {
            let unseen: Vec<_> = found.items.iter().filter(|event| event.acknowledged_by.is_none()).collect();
            let is_error = unseen.iter().any(|event| event.severity == Severity::Error);
            let level = if is_error { Level::Bad } else { Level::Warn };
            draw(&Alarms { open: unseen.len(), level })
        }
        Err(error) => turned_away(&error),
    }
}
