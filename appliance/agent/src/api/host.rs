//! The host itself: whether it is ready, what it is made of, and what its own screen shows.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use quantix_api::{ConsoleCluster, ConsoleView, HostFacts, Readiness};

use super::{Agent, peer::Root};
use crate::{
    account::{ADMIN, Account},
    lock,
};

/// `GET /api/v1/ready`: no session needed; it says what works and nothing a stranger could use.
pub(crate) async fn ready(State(agent): State<Arc<Agent>>) -> (StatusCode, Json<Readiness>) {
    let readiness = Readiness::of(agent.checks().await);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// `GET /api/v1/host`
pub(crate) async fn facts(State(agent): State<Arc<Agent>>) -> Json<HostFacts> {
    Json((*agent.host.facts().await).clone())
}

/// `GET /api/v1/console`
pub(crate) async fn console(State(agent): State<Arc<Agent>>, _: Root) -> Json<ConsoleView> {
    let checks = agent.checks().await;
    // While the data is not open there is no password to show, and the checks say why.
    let account = agent.cluster.read(|connection| Account::find(connection, ADMIN)).await.ok().flatten();
    let first_password = account.and_then(|account| account.first_password);
    let certificate_fingerprint = lock(&agent.certificate).clone().unwrap_or_default();
    let host = (*agent.host.facts().await).clone();
    let cluster = agent.cluster.store().ok().map(|store| {
        let status = store.status();
        let hosts = u32::try_from(status.members.len()).unwrap_or(u32::MAX);
        ConsoleCluster { hosts, writable: status.writable }
    });
    let readiness = Readiness::of(checks);
    Json(ConsoleView { certificate_fingerprint, first_password, readiness, host, cluster })
}
