//! Groups, roles, and to whom roles were given.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{
    Access, ChangeGroup, ChangeRole, Group, ListQuery, NewAccess, NewGroup, NewRole, Page, Role,
};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure, Queried},
    peer::Client,
    person::Person,
};
use crate::{
    account::{access, groups, roles},
    audit::Line,
    list::Asked,
    version::{Version, tag},
};

/// The groups.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups", params(ListQuery), responses((status = 200, body = Page<Group>)))]
pub(crate) async fn list_groups(
    State(agent): State<Arc<Agent>>,
    Queried(query): Queried<ListQuery>,
) -> Result<Json<Page<Group>>, Failure> {
    let asked = Asked::of(&query, &groups::TABLE)?;
    Ok(Json(agent.cluster.read(move |connection| groups::list(connection, &asked)).await?))
}

/// One group.
#[utoipa::path(get, path = "/api/v1/groups/{name}", tag = "groups", params(("name" = String, Path,)), responses((status = 200, body = Group)))]
pub(crate) async fn show_group(
    State(agent): State<Arc<Agent>>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let group = agent.found(move |connection| groups::one(connection, &name)).await?;
    Ok((tag(group.version), Json(group)))
}

/// Makes a group.
#[utoipa::path(post, path = "/api/v1/groups", tag = "groups", request_body = NewGroup, responses((status = 201, body = Group)))]
pub(crate) async fn make_group(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewGroup>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "make group", &body.name);
    let make = move |connection: &Connection, line: &mut Line| {
        let group = groups::add(connection, &body)?;
        line.is(&group);
        Ok(group)
    };
    let group = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::CREATED, tag(group.version), Json(group)))
}

/// Changes a group.
#[utoipa::path(patch, path = "/api/v1/groups/{name}", tag = "groups", params(("name" = String, Path,)), request_body = ChangeGroup, responses((status = 200, body = Group)))]
pub(crate) async fn change_group(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Path(name): Path<String>,
    Body(body): Body<ChangeGroup>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "change group", &name);
    let change = move |connection: &Connection, line: &mut Line| {
        line.was(&groups::one(connection, &name)?);
        let group = groups::change(connection, &person.info.roles, &name, &body, seen)?;
        line.is(&group);
        Ok(group)
    };
    let group = agent.cluster.write_telling(line, change).await?;
    Ok((tag(group.version), Json(group)))
}

/// Puts a user into a group.
#[utoipa::path(put, path = "/api/v1/groups/{name}/members/{user}", tag = "groups", params(("name" = String, Path,), ("user" = String, Path,)), responses((status = 200, body = Group)))]
pub(crate) async fn add_member(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((name, user)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failure> {
    set_member(
        &agent,
        person.line(client, "put into group", format!("{user} into {name}")),
        person,
        (name, user),
        true,
    )
    .await
}

/// Takes a user out of a group.
#[utoipa::path(delete, path = "/api/v1/groups/{name}/members/{user}", tag = "groups", params(("name" = String, Path,), ("user" = String, Path,)), responses((status = 200, body = Group)))]
pub(crate) async fn take_member(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((name, user)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failure> {
    set_member(
        &agent,
        person.line(client, "take out of group", format!("{user} out of {name}")),
        person,
        (name, user),
        false,
    )
    .await
}

async fn set_member(
    agent: &Agent,
    line: Line,
    person: Person,
    (name, user): (String, String),
    is_in: bool,
) -> Result<impl IntoResponse + use<>, Failure> {
    let set = move |connection: &Connection| {
        groups::set_member(connection, &person.info.roles, &name, &user, is_in)
    };
    let group = agent.cluster.write_noted(line, set).await?;
    Ok((tag(group.version), Json(group)))
}

/// Removes a group; its members lose what they had through it.
#[utoipa::path(delete, path = "/api/v1/groups/{name}", tag = "groups", params(("name" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove_group(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "remove group", &name);
    let remove = move |connection: &Connection, line: &mut Line| {
        line.was(&groups::remove(connection, &person.info.roles, &name)?);
        Ok(())
    };
    agent.cluster.write_telling(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The roles, the built-in ones first.
#[utoipa::path(get, path = "/api/v1/roles", tag = "roles", params(ListQuery), responses((status = 200, body = Page<Role>)))]
pub(crate) async fn list_roles(
    State(agent): State<Arc<Agent>>,
    Queried(query): Queried<ListQuery>,
) -> Result<Json<Page<Role>>, Failure> {
    let asked = Asked::of(&query, &roles::TABLE)?;
    let is_first = query.after.is_none() && query.text.as_deref().unwrap_or_default().is_empty();
    Ok(Json(agent.cluster.read(move |connection| roles::list(connection, &asked, is_first)).await?))
}

/// One role.
#[utoipa::path(get, path = "/api/v1/roles/{name}", tag = "roles", params(("name" = String, Path,)), responses((status = 200, body = Role)))]
pub(crate) async fn show_role(
    State(agent): State<Arc<Agent>>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let role = agent.found(move |connection| roles::one(connection, &name)).await?;
    Ok((tag(role.version), Json(role)))
}

/// Makes a role.
#[utoipa::path(post, path = "/api/v1/roles", tag = "roles", request_body = NewRole, responses((status = 201, body = Role)))]
pub(crate) async fn make_role(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewRole>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "make role", &body.name);
    let make = move |connection: &Connection, line: &mut Line| {
        let role = roles::add(connection, &person.info.roles, &body)?;
        line.is(&role);
        Ok(role)
    };
    let role = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::CREATED, tag(role.version), Json(role)))
}

/// Changes a role, for everybody who has it.
#[utoipa::path(patch, path = "/api/v1/roles/{name}", tag = "roles", params(("name" = String, Path,)), request_body = ChangeRole, responses((status = 200, body = Role)))]
pub(crate) async fn change_role(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Path(name): Path<String>,
    Body(body): Body<ChangeRole>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "change role", &name);
    let change = move |connection: &Connection, line: &mut Line| {
        line.was(&roles::one(connection, &name)?);
        let role = roles::change(connection, &person.info.roles, &name, &body, seen)?;
        line.is(&role);
        Ok(role)
    };
    let role = agent.cluster.write_telling(line, change).await?;
    Ok((tag(role.version), Json(role)))
}

/// Removes a role that nobody has.
#[utoipa::path(delete, path = "/api/v1/roles/{name}", tag = "roles", params(("name" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove_role(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "remove role", &name);
    let remove = move |connection: &Connection, line: &mut Line| {
        line.was(&roles::remove(connection, &person.info.roles, &name)?);
        Ok(())
    };
    agent.cluster.write_telling(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The roles that were given, to whom and where.
#[utoipa::path(get, path = "/api/v1/access", tag = "access", params(ListQuery), responses((status = 200, body = Page<Access>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    Queried(query): Queried<ListQuery>,
) -> Result<Json<Page<Access>>, Failure> {
    let asked = Asked::of(&query, &access::TABLE)?;
    Ok(Json(agent.cluster.read(move |connection| access::list(connection, &asked)).await?))
}

/// Gives a role to a user or a group.
#[utoipa::path(post, path = "/api/v1/access", tag = "access", request_body = NewAccess, responses((status = 201, body = Access)))]
pub(crate) async fn give(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewAccess>,
) -> Result<(StatusCode, Json<Access>), Failure> {
    let line = person.line(client, "give role", format!("{} to {}", body.role, body.who));
    let give = move |connection: &Connection, line: &mut Line| {
        let access = access::give(connection, &person.info.roles, &body)?;
        line.is(&access);
        Ok(access)
    };
    Ok((StatusCode::CREATED, Json(agent.cluster.write_telling(line, give).await?)))
}

/// Takes a role back.
#[utoipa::path(delete, path = "/api/v1/access/{id}", tag = "access", params(("id" = i64, Path,)), responses((status = 204)))]
pub(crate) async fn take(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<i64>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "take role back", "");
    let take = move |connection: &Connection, line: &mut Line| {
        let access = access::take(connection, &person.info.roles, id)?;
        line.object = format!("{} from {}", access.role, access.who);
        line.was(&access);
        Ok(())
    };
    agent.cluster.write_telling(line, take).await?;
    Ok(StatusCode::NO_CONTENT)
}
