//! What happened by itself, and what is wrong now.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use quantix_api::{Event, EventQuery, ListQuery, Page, Problem, ProblemCode, Right, Scope, Severity};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Failure, Queried},
    peer::Client,
    person::Person,
};
use crate::{
    events::{self, TABLE},
    list::{Asked, must_be_short},
    sessions::now_ms,
};

/// What happened, the newest first; with `open`, only what is wrong and lasts.
#[utoipa::path(get, path = "/api/v1/events", tag = "activity", params(EventQuery), responses((status = 200, body = Page<Event>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Queried(query): Queried<EventQuery>,
) -> Result<Json<Page<Event>>, Failure> {
    let EventQuery { after, limit, text, .. } = query.clone();
    let asked = Asked::of(&ListQuery { after, limit, sort: None, text }, &TABLE)?;
    if let Some(severity) = &query.severity
        && Severity::of(severity).is_none()
    {
        let sentence = "A severity is one of info, warning, error.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("severity").into());
    }
    must_be_short("component", query.component.as_deref().unwrap_or_default(), 40)?;
    let seen = person.sees();
    let list = move |connection: &Connection| events::list(connection, &asked, &query, seen.as_deref());
    Ok(Json(agent.cluster.read(list).await?))
}

/// Says that one looks after what is wrong. The first who says so is shown.
#[utoipa::path(post, path = "/api/v1/events/{id}/acknowledge", tag = "activity", params(("id" = i64, Path,)), responses((status = 200, body = Event), (status = 409, description = "It is over.")))]
pub(crate) async fn acknowledge(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<Event>, Failure> {
    let event = agent.event(&person, &id).await?;
    let line = person.line(client, "acknowledge event", format!("{} ({})", event.sentence, event.id));
    let by = person.name().to_owned();
    let write = move |connection: &Connection| events::acknowledge(connection, event.id, &by);
    Ok(Json(agent.cluster.write_noted(line, write).await?))
}

/// Says that something is over. What lasts is over by itself.
#[utoipa::path(post, path = "/api/v1/events/{id}/clear", tag = "activity", params(("id" = i64, Path,)), responses((status = 200, body = Event), (status = 409, description = "It lasts.")))]
pub(crate) async fn clear(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<Event>, Failure> {
    let event = agent.event(&person, &id).await?;
    let line = person.line(client, "clear event", format!("{} ({})", event.sentence, event.id));
    let write = move |connection: &Connection| events::clear_by_hand(connection, event.id, now_ms());
    Ok(Json(agent.cluster.write_noted(line, write).await?))
}

impl Agent {
    /// An event that somebody may do something about.
    async fn event(&self, person: &Person, id: &str) -> Result<Event, Problem> {
        let not_there = || Problem::new(ProblemCode::NotFound, "There is no such event.");
        let id: i64 = id.parse().map_err(|_| not_there())?;
        let event = self.cluster.read(move |connection| events::find(connection, id)).await?;
        let event = event.ok_or_else(not_there)?;
        let scope: Scope = event.object.parse().unwrap_or(Scope::Datacenter);
        let right = if matches!(scope, Scope::Vm(_)) { Right::OperateVms } else { Right::OperateHosts };
        let place = self.place(scope).await?;
        if person.must_have(Right::See, place.clone()).is_err() {
            return Err(not_there());
        }
        person.must_have(right, place)?;
        Ok(event)
    }
}
