//! Only the leader changes data. What a person asks of another host goes to the leader and comes back, so that no page
//! and no command needs to know who leads.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, Method, Response},
    middleware::Next,
    response::IntoResponse,
};
use quantix_api::{INDEX_HEADER, MAX_BODY_BYTES, calls, connection::asks_for_change};
use quantix_store::HostId;

use super::{
    Agent,
    answer::{Failure, says_too_much, too_large},
    peer::sign_in_needed,
};
use crate::cluster::{Contact, FromHost};

/// What a host does for itself.
const HERE: &[&str] =
    &[calls::JOIN_PATH, calls::LEAVE_PATH, calls::RECOVER_PATH, calls::BACKUP_PATH, calls::RESTORE_PATH];
/// How long the answer waits until this host has what the leader has done. It is right without, but a page that is
/// read here next may not show it yet.
const CATCH_UP: Duration = Duration::from_secs(2);

/// How long somebody who signs in waits for a leader. While there is none a session is this host's alone, and only good
/// for looking; an election takes seconds.
const ELECTION: Duration = Duration::from_secs(6);

pub(crate) async fn to_leader(
    State(agent): State<Arc<Agent>>,
    request: Request,
    next: Next,
) -> axum::response::Response {
    if request.extensions().get::<FromHost>().is_some() {
        return with_index(&agent, next.run(request).await);
    }
    if let Some(host) = agent.host_in_charge(request.uri().path()) {
        if asks_for_change(&request) {
            return match agent.cluster.tunnel(&host, request).await {
                Ok(response) => response,
                Err(problem) => Failure(problem).into_response(),
            };
        }
        return to_host(&agent, &host, request).await;
    }
    let is_for_here = is_about_host(request.uri().path())
        || is_about_guest(request.uri().path())
        || is_about_file(request.uri().path())
        || request.method().is_safe()
        || HERE.contains(&request.uri().path());
    if is_for_here {
        return next.run(request).await;
    }
    let is_sign_in = request.method() == Method::POST && request.uri().path() == calls::SESSION_PATH;
    if is_sign_in {
        agent.cluster.wait_for_leader(ELECTION).await;
    }
    let Some(leader) = agent.cluster.other_leader() else { return next.run(request).await };
    if agent.ends_with_a_leader(request.headers()) {
        return Failure(sign_in_needed()).into_response();
    }

    let (parts, body) = request.into_parts();
    if says_too_much(&body) {
        return Failure(too_large()).into_response();
    }
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return Failure(too_large()).into_response();
    };
    let path = parts.uri.path().to_owned();
    let passed =
        agent.cluster.pass_on(&leader, parts.method.clone(), &path, &parts.headers, body.clone()).await;
    match passed {
        Ok(response) => {
            catch_up(&agent, &response).await;
            response.map(Body::from)
        }
        // To see what can still be seen, people must get in when nobody leads.
        Err(_) if is_sign_in => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(problem) => Failure(problem).into_response(),
    }
}

/// What a host answers for alone, whoever leads: the path goes on behind the host's name with one of these.
const OF_HOST: &[&str] = &["certificate", "consoles"];

/// The host that has a machine gives out the ways to its console, whoever leads.
fn is_about_guest(path: &str) -> bool {
    let is_its_own = |rest: &str| rest.ends_with("/console") || rest.ends_with("/guest/password");
    path.strip_prefix(calls::VMS_PATH).is_some_and(is_its_own)
}

/// The file of an image comes to the host that is asked.
fn is_about_file(path: &str) -> bool {
    path.strip_prefix(calls::IMAGES_PATH).is_some_and(|rest| rest.ends_with("/content"))
}

fn about_host(path: &str) -> Option<&str> {
    let (host, rest) = path.strip_prefix(calls::HOSTS_PATH)?.strip_prefix('/')?.split_once('/')?;
    let first = rest.split('/').next().unwrap_or_default();
    OF_HOST.contains(&first).then_some(host)
}

fn is_about_host(path: &str) -> bool {
    about_host(path).is_some()
}

impl Agent {
    /// The other host that answers for what is asked, if there is one.
    fn host_in_charge(&self, path: &str) -> Option<Contact> {
        let host = about_host(path).filter(|host| host.len() == 16)?;
        let host = HostId(u64::from_str_radix(host, 16).ok()?);
        self.cluster.other_member(host)
    }
}

/// Passes a request on to the one host that can answer it.
async fn to_host(agent: &Agent, host: &Contact, request: Request) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    if says_too_much(&body) {
        return Failure(too_large()).into_response();
    }
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return Failure(too_large()).into_response();
    };
    match agent.cluster.pass_on(host, parts.method, parts.uri.path(), &parts.headers, body).await {
        Ok(response) => {
            catch_up(agent, &response).await;
            response.map(Body::from)
        }
        Err(problem) => Failure(problem).into_response(),
    }
}

fn with_index(agent: &Agent, mut response: axum::response::Response) -> axum::response::Response {
    if let Ok(store) = agent.cluster.store() {
        response.headers_mut().insert(INDEX_HEADER, HeaderValue::from(store.applied()));
    }
    response
}

async fn catch_up(agent: &Agent, response: &Response<Bytes>) {
    let index = response.headers().get(INDEX_HEADER).and_then(|index| index.to_str().ok()?.parse().ok());
    if let (Some(index), Ok(store)) = (index, agent.cluster.store()) {
        drop(tokio::time::timeout(CATCH_UP, store.wait_for(index)).await);
    }
}
