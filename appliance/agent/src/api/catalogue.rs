//! What is offered as images: by distributions, or by whoever has a catalogue of their own.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use quantix_api::{Catalogue, SetCatalogue};
use serde_json::json;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
};
use crate::{sessions::now_ms, storage::catalogue};

/// What is offered: addresses from which images can be fetched.
#[utoipa::path(get, path = "/api/v1/images/catalogue", tag = "storage", responses((status = 200, body = Catalogue)))]
pub(crate) async fn show(State(agent): State<Arc<Agent>>) -> Result<Json<Catalogue>, Failure> {
    Ok(Json(agent.cluster.read(catalogue::offered).await?))
}

/// Offers what is at an address, in the form in which this is told, instead of what is built in; again, to fetch it anew.
#[utoipa::path(put, path = "/api/v1/images/catalogue", tag = "storage", request_body = SetCatalogue, responses((status = 200, body = Catalogue)))]
pub(crate) async fn set(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<SetCatalogue>,
) -> Result<Json<Catalogue>, Failure> {
    let items = catalogue::fetched(&body).await?;
    let line = person.line(client, "set-catalogue", &body.url);
    let offered = agent
        .cluster
        .write_telling(line, move |connection, line| {
            line.is(&json!({ "url": body.url, "allow_private": body.allow_private, "offers": items.len() }));
            catalogue::set(connection, &body, &items, now_ms())?;
            Ok(catalogue::offered(connection)?)
        })
        .await?;
    Ok(Json(offered))
}

/// Offers what is built in again.
#[utoipa::path(delete, path = "/api/v1/images/catalogue", tag = "storage", responses((status = 204)))]
pub(crate) async fn reset(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "reset-catalogue", "catalogue");
    agent.cluster.write_noted(line, move |connection| Ok(catalogue::reset(connection)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}
