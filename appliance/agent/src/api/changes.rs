//! What changes, as it changes.

use std::sync::Arc;

use axum::{
    body::Body as AnyBody,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use quantix_api::{Change, Problem, ProblemCode};

use super::{Agent, answer::Failure, person::Person};
use crate::{
    account::{rights, tokens},
    changes::{Listener, listen},
    sessions,
};

/// What changes, as it changes: a stream of server-sent events. The name of an event is the kind of the object (`host`,
/// `cluster`, `task`, `event`, `user`, `session`, `settings`, `audit`), its id the entry of the log it came with; an event
/// named `resync` says that anything may have changed. With `Last-Event-ID` it goes on where it broke off.
#[utoipa::path(get, path = "/api/v1/changes", tag = "activity", params(("Last-Event-ID" = Option<String>, Header,)), responses((status = 200, body = Change, content_type = "text/event-stream")))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    person: Person,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let (session, username) = (person.hash, person.name().to_owned());
    let listener = Listener { session, username, is_program: person.is_program, rights: person.info.roles };
    let text = listen(&agent, listener, after).ok_or_else(|| {
        let sentence =
            "Too many pages listen to this host already. Close some, or open this one on another host.";
        Problem::new(ProblemCode::Unavailable, sentence).retry_after(10)
    })?;
    let mut response = AnyBody::new(text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Agent {
    /// Whether whoever listens is still who they were, with the same rights. That they listen is no use of a session.
    pub(crate) async fn may_still_listen(&self, listener: &Listener) -> bool {
        let (hash, now, is_program) = (listener.session, sessions::now(), listener.is_program);
        if self.sessions_here.is_open(&hash, now) {
            return true;
        }
        let find = move |connection: &rusqlite::Connection| {
            if is_program {
                let found = tokens::find(connection, &hash, now)?;
                return Ok(found.filter(|found| !found.must_change_password).map(|found| found.roles));
            }
            let session = sessions::find(connection, &hash, now)?;
            let session = session.filter(|session| !session.code_needed && !session.must_change_password);
            session.map(|session| rights::of_user(connection, &session.username)).transpose()
        };
        match self.cluster.read(find).await {
            Ok(rights) => rights.as_ref() == Some(&listener.rights),
            // A disk that does not answer now says nothing about anybody.
            Err(_) => true,
        }
    }
}
