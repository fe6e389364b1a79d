//! What was done, by whom, and what came of it.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use quantix_api::{AuditLine, AuditQuery, calls};

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

/// `GET /activity?text=…&before=…`
pub(crate) async fn page(
    State(web): State<Web>,
    SignedIn(token): SignedIn,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Response {
    // An address that was mistyped shows the newest.
    let asked = query.map(|Query(query)| query).unwrap_or_default();
    let text = asked.text.unwrap_or_default().trim().to_owned();
    let wanted = AuditQuery { before: asked.before, limit: Some(LINES), text: Some(text.clone()) };
    match web.agent.call(&calls::audit(&wanted).as_session(&token)).await {
        Ok(found) => {
            let older = found.next.map(|next| {
                let query = AuditQuery { before: Some(next), limit: None, text: Some(text.clone()) };
                format!("/activity?{}", query.to_query())
            });
            draw(&ActivityPage { lines: found.items, text, older, is_further: asked.before.is_some() })
        }
        Err(error) => turned_away(&error),
    }
}
