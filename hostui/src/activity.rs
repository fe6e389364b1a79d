//! What was done, by whom, and what came of it.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{AuditLine, AuditQuery, CallError, ProblemCode, calls};

use crate::{
    component::{Heads, Pager, Search, Standing},
    frame::Frame,
    problem::draw,
    session::turned_away,
    web::Web,
};

/// What a page shows.
const LINES: u32 = 50;

#[derive(Debug, Template)]
#[template(path = "activity/page.html", blocks = ["lines"])]
struct ActivityPage {
    frame: Frame,
    lines: Vec<AuditLine>,
    text: String,
    pager: Pager,
}

impl ActivityPage {
    /// What is done is good; anything else is worth a look.
    fn outcome(&self, line: &AuditLine) -> Standing {
        let words = line.outcome.clone();
        if line.outcome == "done" { Standing::ok(words) } else { Standing::warn(words) }.wraps()
    }
}

/// `GET /activity?text=…&after=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    let text = frame.address.get("text").trim().to_owned();
    let after = Some(frame.address.get("after").to_owned()).filter(|after| !after.is_empty());
    let wanted = AuditQuery { after, limit: Some(LINES), text: Some(text.clone()), ..AuditQuery::default() };
    match web.agent.call(&calls::audit(&wanted).as_session(frame.token())).await {
        Ok(found) => {
            let pager = Pager::new(&frame.address, found.next.as_deref()).by_time();
            let page = ActivityPage { lines: found.items, text, pager, frame };
            if page.frame.block() == Some("lines") { draw(&page.as_lines()) } else { draw(&page) }
        }
        // An address that was mistyped leads to the newest.
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            Redirect::to("/activity").into_response()
        }
        Err(error) => turned_away(&error),
    }
}
