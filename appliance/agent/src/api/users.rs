//! People, as administrators look after them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use quantix_api::{ChangeUser, NewUser, Problem, ProblemCode, Secret, User, UserPassword, Users};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token},
    session::busy,
};
use crate::{
    account::{self, users},
    throttle::Source,
};

/// `GET /api/v1/users`
pub(crate) async fn list(State(agent): State<Arc<Agent>>) -> Result<Json<Users>, Failure> {
    Ok(Json(Users { items: agent.cluster.read(users::all).await? }))
}

/// `POST /api/v1/users`
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(session): Token,
    Body(body): Body<NewUser>,
) -> Result<(StatusCode, Json<UserPassword>), Failure> {
    let line = agent.line(&session, client, "make user", &body.username).await?;
    users::check_name(&body.username)?;
    let (password, hash) = agent.one_time_password(client.source()).await?;
    let now = line.at;
    let add = move |connection: &Connection| users::add(connection, &body.username, body.role, &hash, now);
    let user = agent.cluster.write_noted(line, add).await?;
    Ok((StatusCode::CREATED, Json(UserPassword { user, password })))
}

/// `PATCH /api/v1/users/{name}`
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(session): Token,
    Path(name): Path<String>,
    Body(body): Body<ChangeUser>,
) -> Result<Json<User>, Failure> {
    let what = match (body.role, body.locked) {
        (Some(role), None) => format!("make {}", role.name()),
        (None, Some(true)) => "lock user".to_owned(),
        (None, Some(false)) => "unlock user".to_owned(),
        _ => "change user".to_owned(),
    };
    let line = agent.line(&session, client, &what, &name).await?;
    if line.actor == name && body.locked == Some(true) {
        return Err(Problem::new(ProblemCode::Invalid, "Nobody can lock themselves out.").into());
    }
    let of = name.clone();
    let change = move |connection: &Connection| users::change(connection, &name, body);
    let user = agent.cluster.write_noted(line, change).await?;
    if user.locked {
        agent.sessions_here.close_all(&of);
    }
    Ok(Json(user))
}

/// `POST /api/v1/users/{name}/password`: a new one, for the next sign-in only.
pub(crate) async fn reset_password(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(session): Token,
    Path(name): Path<String>,
) -> Result<Json<UserPassword>, Failure> {
    let line = agent.line(&session, client, "reset password", &name).await?;
    let (password, hash) = agent.one_time_password(client.source()).await?;
    let of = name.clone();
    let reset = move |connection: &Connection| users::reset_password(connection, &name, &hash);
    let user = agent.cluster.write_noted(line, reset).await?;
    agent.sessions_here.close_all(&of);
    Ok(Json(UserPassword { user, password }))
}

/// `DELETE /api/v1/users/{name}/sessions`
pub(crate) async fn end_sessions(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(session): Token,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = agent.line(&session, client, "sign out everywhere", &name).await?;
    let of = name.clone();
    let end = move |connection: &Connection| {
        users::one(connection, &name)?;
        users::end_sessions(connection, &name)
    };
    agent.cluster.write_noted(line, end).await?;
    agent.sessions_here.close_all(&of);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/v1/users/{name}`
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(session): Token,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = agent.line(&session, client, "remove user", &name).await?;
    if line.actor == name {
        return Err(Problem::new(ProblemCode::Invalid, "Nobody can remove themselves.").into());
    }
    let of = name.clone();
    agent.cluster.write_noted(line, move |connection| users::remove(connection, &name)).await?;
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
