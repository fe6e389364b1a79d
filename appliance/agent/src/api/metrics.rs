//! What hosts and virtual machines use. Each host knows it of itself and of its own.

use std::{io, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use quantix_api::{Metrics, MetricsQuery, Problem, ProblemCode, Right, Scope};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Failure, Queried},
    peer::Token,
    person::{Person, may_not},
};
use crate::vms::kept;

/// What a virtual machine used.
#[utoipa::path(get, path = "/api/v1/vms/{vm}/metrics", tag = "virtual machines", params(("vm" = String, Path,), MetricsQuery), responses((status = 200, body = Metrics), (status = 503, description = "Its host does not answer.")))]
pub(crate) async fn of_vm(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    Queried(query): Queried<MetricsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let vm = agent.found(move |connection: &Connection| kept::one(connection, &id)).await?;
    if vm.host != agent.cluster.store()?.id() {
        let what = format!("metrics?span={}", query.span.name());
        return Ok(agent.ask_its_host(&vm, Method::GET, &what, &headers, Vec::new()).await?);
    }
    let metrics = agent.metrics.of_vm(vm.id, query.span).await;
    Ok(Json(metrics.map_err(unreadable)?).into_response())
}

/// What a host used.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/metrics", tag = "host", params(("host" = String, Path,), MetricsQuery), responses((status = 200, body = Metrics), (status = 503, description = "It does not answer.")))]
pub(crate) async fn of_host(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Token(token): Token,
    Path(id): Path<String>,
    Queried(query): Queried<MetricsQuery>,
) -> Result<Json<Metrics>, Failure> {
    let (host, name) = agent.host_of(&id).await?;
    person.must_have(Right::See, Scope::Host(host.to_string()))?;
    if host == agent.cluster.store()?.id() {
        return Ok(Json(agent.metrics.of_host(query.span).await.map_err(unreadable)?));
    }
    Ok(Json(agent.ask_host((host, name), &format!("metrics?span={}", query.span.name()), &token).await?))
}

/// What this host and its machines that are on have used, for Prometheus. It is at `/metrics` too, and asked with a token.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "host", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn counters(
    State(agent): State<Arc<Agent>>,
    person: Person,
) -> Result<impl IntoResponse, Failure> {
    // Of a part of the machines nobody could tell what the host does.
    if !person.info.may(Right::See) {
        return Err(may_not(Right::See).into());
    }
    let text = agent.metrics_text().await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

fn unreadable(error: io::Error) -> Problem {
    Problem::new(ProblemCode::Unavailable, format!("What was used cannot be read: {error}."))
}
