//! The host itself: whether it is ready, what it is made of, and what its own screen shows.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use quantix_api::{ConsoleCluster, ConsoleView, HostFacts, Readiness, Right, Scope};

use super::{Agent, answer::Failure, peer::Root, person::Person};
use crate::account::{ADMIN, Account};

/// What works and what does not: for monitoring, and nothing a stranger could use.
#[utoipa::path(get, path = "/api/v1/ready", tag = "host", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(crate) async fn ready(State(agent): State<Arc<Agent>>) -> (StatusCode, Json<Readiness>) {
    let readiness = Readiness::of(agent.checks().await);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// What the host that answers is made of.
#[utoipa::path(get, path = "/api/v1/host", tag = "host", responses((status = 200, body = HostFacts)))]
pub(crate) async fn facts(
    State(agent): State<Arc<Agent>>,
    person: Person,
) -> Result<Json<HostFacts>, Failure> {
    let here = agent.cluster.store()?.id().to_string();
    person.must_have(Right::See, Scope::Host(here))?;
    Ok(Json((*agent.host.facts().await).clone()))
}

/// What the screen at the machine shows. Only root on the machine itself may ask.
#[utoipa::path(get, path = "/api/v1/console", tag = "host", responses((status = 200, body = ConsoleView)))]
pub(crate) async fn console(State(agent): State<Arc<Agent>>, _: Root) -> Json<ConsoleView> {
    let checks = agent.checks().await;
    // While the data is not open there is no password to show, and the checks say why.
    let account = agent.cluster.read(|connection| Account::find(connection, ADMIN)).await.ok().flatten();
    let first_password = account.and_then(|account| account.first_password);
    let certificate_fingerprint = agent.certificates.fingerprint();
    let host = (*agent.host.facts().await).clone();
    let cluster = agent.cluster.store().ok().map(|store| {
        let status = store.status();
        let hosts = u32::try_from(status.members.len()).unwrap_or(u32::MAX);
        ConsoleCluster { hosts, writable: status.writable }
    });
    let readiness = Readiness::of(checks);
    Json(ConsoleView { certificate_fingerprint, first_password, readiness, host, cluster })
}
