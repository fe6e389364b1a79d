//! What was done, by whom, and what came of it.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{AuditLine, AuditQuery, CallError, ProblemCode, calls, to_query};

use crate::{
    problem::draw,
    session::{SignedIn, turned_away},
    web::Web,
};

/// What a page shows.
const LINES: u32 = 50;

#[derive(Debug, Template)]
#[template(path = "activity/page.html")]
struct ActivityPage {
    lines: Vec<AuditLine>,
    text: String,
    /// Where older lines are.
    older: Option<String>,
    /// Whether these are not the newest.
    is_further: bool,
}

impl ActivityPage {
    fn here(&self) -> &'static str {
        "activity"
    }

    /// What is done is good; anything else is worth a look.
    fn state(&self, line: &AuditLine) -> &'static str {
        if line.outcome == "done" { "ok" } else { "warn" }
    }

    fn is_search(&self) -> bool {
        !self.text.is_empty()
    }
}

/// `GET /activity?text=…&after=…`
pub(crate) async fn page(
    State(web): State<Web>,
    SignedIn(token): SignedIn,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Response {
    // An address that was mistyped shows the newest.
    let asked = query.map(|Query(query)| query).unwrap_or_default();
    let text = asked.text.as_deref().unwrap_or_default().trim().to_owned();
    let is_further = asked.after.is_some();
    let wanted = AuditQuery { limit: Some(LINES), text: Some(text.clone()), ..asked };
    match web.agent.call(&calls::audit(&wanted).as_session(&token)).await {
        Ok(found) => {
            let older = found.next.map(|next| {
                let query = AuditQuery { after: Some(next), limit: None, ..wanted.clone() };
                format!("/activity?{}", to_query(&query))
            });
            draw(&ActivityPage { lines: found.items, text, older, is_further })
        }
        // An address that was mistyped leads to the newest.
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            Redirect::to("/activity").into_response()
        }
        Err(error) => turned_away(&error),
    }
}
