//! Folders of virtual machines.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{ChangeFolder, Folder, Folders, NewFolder, Problem, ProblemCode, Right};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
};
use crate::{
    audit::Line,
    cluster::Refused,
    version::{Version, tag},
    vms::folders,
};

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::new(ProblemCode::NotFound, "There is no such folder."))
}

fn as_seen(connection: &Connection, folder: Folder, person: &Person) -> Result<Folder, Refused> {
    Ok(folders::with_rights(connection, folder, &person.info.roles)?)
}

/// The folders of virtual machines.
#[utoipa::path(get, path = "/api/v1/folders", tag = "virtual machines", responses((status = 200, body = Folders)))]
pub(crate) async fn list(State(agent): State<Arc<Agent>>, person: Person) -> Result<Json<Folders>, Failure> {
    let list = move |connection: &Connection| folders::list(connection, &person.info.roles);
    Ok(Json(Folders { items: agent.cluster.read(list).await? }))
}

/// Makes a folder.
#[utoipa::path(post, path = "/api/v1/folders", tag = "virtual machines", request_body = NewFolder, responses((status = 201, body = Folder)))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewFolder>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "make folder", &body.name);
    let make = move |connection: &Connection, line: &mut Line| {
        person.must_have(Right::ManageVms, folders::place_in(connection, body.parent)?)?;
        let made = folders::make(connection, &body)?;
        line.is(&made);
        as_seen(connection, made, &person)
    };
    let made = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::CREATED, tag(made.version), Json(made)))
}

/// Gives a folder another name, or puts it elsewhere with all that is in it.
#[utoipa::path(patch, path = "/api/v1/folders/{folder}", tag = "virtual machines", params(("folder" = i64, Path,)), request_body = ChangeFolder, responses((status = 200, body = Folder)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<ChangeFolder>,
) -> Result<impl IntoResponse, Failure> {
    let id = number(&id)?;
    let line = person.line(client, "change folder", format!("folder {id}"));
    let change = move |connection: &Connection, line: &mut Line| {
        let before = folders::one(connection, id)?;
        if let Some(parent) = body.parent {
            person.must_have(Right::ManageVms, folders::place_in(connection, parent)?)?;
            // What leaves a folder is missing there.
            person.must_have(Right::ManageVms, folders::place_in(connection, before.parent)?)?;
        }
        line.was(&before);
        let changed = folders::change(connection, id, &body, seen)?;
        line.is(&changed);
        as_seen(connection, changed, &person)
    };
    let changed = agent.cluster.write_telling(line, change).await?;
    Ok((tag(changed.version), Json(changed)))
}

/// Removes a folder in which nothing is.
#[utoipa::path(delete, path = "/api/v1/folders/{folder}", tag = "virtual machines", params(("folder" = i64, Path,)), responses((status = 204), (status = 409, description = "It is not empty.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
) -> Result<StatusCode, Failure> {
    let id = number(&id)?;
    let line = person.line(client, "remove folder", format!("folder {id}"));
    let remove = move |connection: &Connection, line: &mut Line| {
        line.was(&folders::remove(connection, id, seen)?);
        Ok(())
    };
    agent.cluster.write_telling(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}
