//! Snapshots of virtual machines that are made by themselves.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use quantix_api::{NewSchedule, Schedule, Schedules};
use rusqlite::Connection;
use serde_json::json;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
    vms::named,
};
use crate::{
    audit::Line,
    sessions::now_ms,
    vms::{kept, schedules},
};

/// What makes snapshots of a virtual machine by itself.
#[utoipa::path(get, path = "/api/v1/vms/{vm}/schedules", tag = "virtual machines", params(("vm" = String, Path,)), responses((status = 200, body = Schedules)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
) -> Result<Json<Schedules>, Failure> {
    let list = move |connection: &Connection| {
        kept::one(connection, &id)?;
        let items = schedules::of_vm(connection, &id)?.into_iter().map(|kept| kept.shown).collect();
        Ok(Schedules { items })
    };
    Ok(Json(agent.found(list).await?))
}

/// Has snapshots of a virtual machine made by themselves, without its memory, and the last ones kept.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/schedules", tag = "virtual machines", params(("vm" = String, Path,)), request_body = NewSchedule, responses((status = 201, body = Schedule), (status = 409, description = "It has as many as it can have, or is a template.")))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<NewSchedule>,
) -> Result<(StatusCode, Json<Schedule>), Failure> {
    let line = person.line(client, "make-schedule", &id);
    let by = person.name().to_owned();
    let make = move |connection: &Connection, line: &mut Line| {
        let vm = kept::one(connection, &id)?;
        line.object = named(&vm);
        line.is(&body);
        Ok(schedules::add(connection, &vm, &body, &by, now_ms())?.shown)
    };
    let made = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Has no more snapshots made like this. Those that were made stay.
#[utoipa::path(delete, path = "/api/v1/vms/{vm}/schedules/{schedule}", tag = "virtual machines", params(("vm" = String, Path,), ("schedule" = String, Path,)), responses((status = 204, description = "It is removed.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((id, schedule)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "remove-schedule", &id);
    let remove = move |connection: &Connection, line: &mut Line| {
        line.object = named(&kept::one(connection, &id)?);
        let schedule = schedules::one(connection, &id, &schedule)?;
        line.was(&json!({ "when": schedule.shown.when, "keep": schedule.shown.keep }));
        schedules::remove(connection, &schedule, now_ms())
    };
    agent.cluster.write_telling(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}
