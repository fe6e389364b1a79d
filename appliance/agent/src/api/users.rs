//! People, as administrators look after them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{
    ApiToken, ChangeUser, ListQuery, NewUser, Page, Problem, ProblemCode, Secret, User, UserPassword,
};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure, Queried},
    peer::Client,
    person::Person,
    session::busy,
};
use crate::{
    account::{self, check_name, tokens, users},
    audit::Line,
    list::Asked,
    throttle::Source,
    version::{Version, tag},
};

/// The users.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(ListQuery), responses((status = 200, body = Page<User>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    Queried(query): Queried<ListQuery>,
) -> Result<Json<Page<User>>, Failure> {
    let asked = Asked::of(&query, &users::TABLE)?;
    Ok(Json(agent.cluster.read(move |connection| users::list(connection, &asked)).await?))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "users", params(("name" = String, Path,)), responses((status = 200, body = User)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let user = agent.found(move |connection| users::one(connection, &name)).await?;
    Ok((tag(user.version), Json(user)))
}

/// Adds a user, with a password for the first sign-in.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = NewUser, responses((status = 201, body = UserPassword)))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewUser>,
) -> Result<(StatusCode, Json<UserPassword>), Failure> {
    check_name("username", &body.username)?;
    let (password, hash) = agent.one_time_password(client.source()).await?;
    let line = person.line(client, "make user", &body.username);
    let now = line.at;
    let add = move |connection: &Connection, line: &mut Line| {
        let user = users::add(connection, &person.info.roles, &body.username, &body.role, &hash, now)?;
        line.is(&user);
        Ok(user)
    };
    let user = agent.cluster.write_telling(line, add).await?;
    Ok((StatusCode::CREATED, Json(UserPassword { user, password })))
}

/// Changes what a user may do everywhere, and whether they may sign in.
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "users", params(("name" = String, Path,)), request_body = ChangeUser, responses((status = 200, body = User)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Path(name): Path<String>,
    Body(body): Body<ChangeUser>,
) -> Result<impl IntoResponse, Failure> {
    let what = match (&body.role, body.locked) {
        (Some(role), None) => format!("make {role}"),
        (None, Some(true)) => "lock user".to_owned(),
        (None, Some(false)) => "unlock user".to_owned(),
        _ => "change user".to_owned(),
    };
    if person.name() == name && body.locked == Some(true) {
        return Err(Problem::new(ProblemCode::Invalid, "Nobody can lock themselves out.").into());
    }
    let (line, of) = (person.line(client, &what, &name), name.clone());
    let change = move |connection: &Connection, line: &mut Line| {
        line.was(&users::one(connection, &name)?);
        let user = users::change(connection, &person.info.roles, &name, &body, seen)?;
        line.is(&user);
        Ok(user)
    };
    let user = agent.cluster.write_telling(line, change).await?;
    if user.locked {
        agent.sessions_here.close_all(&of);
    }
    Ok((tag(user.version), Json(user)))
}

/// Gives a user a new password, for the next sign-in only.
#[utoipa::path(post, path = "/api/v1/users/{name}/password", tag = "users", params(("name" = String, Path,)), responses((status = 200, body = UserPassword)))]
pub(crate) async fn reset_password(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(name): Path<String>,
) -> Result<Json<UserPassword>, Failure> {
    let (password, hash) = agent.one_time_password(client.source()).await?;
    let (line, of) = (person.line(client, "reset password", &name), name.clone());
    let reset =
        move |connection: &Connection| users::reset_password(connection, &person.info.roles, &name, &hash);
    let user = agent.cluster.write_noted(line, reset).await?;
    agent.sessions_here.close_all(&of);
    Ok(Json(UserPassword { user, password }))
}

/// Lets a user who has lost the second factor sign in with the password alone.
#[utoipa::path(delete, path = "/api/v1/users/{name}/second-factor", tag = "users", params(("name" = String, Path,)), responses((status = 204)))]
pub(crate) async fn reset_second_factor(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let (line, of) = (person.line(client, "remove second factor", &name), name.clone());
    let reset =
        move |connection: &Connection| users::reset_second_factor(connection, &person.info.roles, &name);
    agent.cluster.write_noted(line, reset).await?;
    agent.sessions_here.close_all(&of);
    Ok(StatusCode::NO_CONTENT)
}

/// Signs a user out everywhere.
#[utoipa::path(delete, path = "/api/v1/users/{name}/sessions", tag = "users", params(("name" = String, Path,)), responses((status = 204)))]
pub(crate) async fn end_sessions(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let (line, of) = (person.line(client, "sign out everywhere", &name), name.clone());
    let end = move |connection: &Connection| {
        users::one(connection, &name)?;
        users::end_sessions(connection, &name)
    };
    agent.cluster.write_noted(line, end).await?;
    agent.sessions_here.close_all(&of);
    Ok(StatusCode::NO_CONTENT)
}

/// The tokens of a user.
#[utoipa::path(get, path = "/api/v1/users/{name}/tokens", tag = "users", params(("name" = String, Path,)), responses((status = 200, body = Page<ApiToken>)))]
pub(crate) async fn tokens(
    State(agent): State<Arc<Agent>>,
    Path(name): Path<String>,
) -> Result<Json<Page<ApiToken>>, Failure> {
    let read = move |connection: &Connection| {
        users::one(connection, &name)?;
        Ok(tokens::of(connection, &name)?)
    };
    Ok(Json(Page::whole(agent.found(read).await?)))
}

/// Takes a token of a user back.
#[utoipa::path(delete, path = "/api/v1/users/{name}/tokens/{id}", tag = "users", params(("name" = String, Path,), ("id" = String, Path,)), responses((status = 204)))]
pub(crate) async fn revoke_token(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "take token back", &name);
    agent.cluster.write_noted(line, move |connection| tokens::remove(connection, &name, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a user out, with their sessions and tokens.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "users", params(("name" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    if person.name() == name {
        return Err(Problem::new(ProblemCode::Invalid, "Nobody can remove themselves.").into());
    }
    let (line, of) = (person.line(client, "remove user", &name), name.clone());
    let remove = move |connection: &Connection, line: &mut Line| {
        line.was(&users::one(connection, &name)?);
        users::remove(connection, &person.info.roles, &name)
    };
    agent.cluster.write_telling(line, remove).await?;
    agent.sessions_here.close_all(&of);
    Ok(StatusCode::NO_CONTENT)
}

impl Agent {
    /// A random password and its hash.
    async fn one_time_password(&self, source: Source) -> Result<(Secret, String), Problem> {
        let place = self.hashing.place(source).ok_or_else(busy)?;
        let made = self.hashing.run(place, account::one_time_password).await;
        made.map_err(|_| busy())?.map_err(|error| {
            Problem::new(ProblemCode::Internal, format!("A password could not be made: {error}."))
        })
    }
}
