//! What people do for themselves: the password, the second factor, and tokens for programs.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use quantix_api::{
    ApiToken, ChangePassword, MadeApiToken, NewApiToken, NewSecondFactor, Page, Problem, ProblemCode,
    ProvePassword, RecoveryCodes, SecondFactorCode, Secret,
};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token},
    person::Person,
};
use crate::{
    account::{self, Account, second_factor, tokens},
    sessions,
};

impl Agent {
    /// Whoever is signed in shows that it is still them.
    async fn prove_again<T: Send + 'static>(
        &self,
        person: &Person,
        (field, password): (&str, Secret),
        client: Client,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Account, T), Problem> {
        let proven = self.prove(person.name(), password, client, then).await;
        proven.map_err(|problem| match problem.code {
            ProblemCode::WrongCredentials => {
                Problem::new(ProblemCode::Invalid, "This is not the present password.").in_field(field)
            }
            _ => problem,
        })
    }
}

/// Changes one's own password and ends one's other sessions.
#[utoipa::path(put, path = "/api/v1/session/password", tag = "session", request_body = ChangePassword, responses((status = 204)))]
pub(crate) async fn change_password(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Token(token): Token,
    Body(body): Body<ChangePassword>,
) -> Result<StatusCode, Failure> {
    account::check_new(body.current.expose(), body.new.expose())?;
    let new = body.new;
    let hash = move || account::hash(new.expose());
    let (account, hashed) = agent.prove_again(&person, ("current", body.current), client, hash).await?;
    let hashed = hashed.map_err(|error| {
        log::error!("A password could not be hashed: {error}");
        Problem::new(ProblemCode::Internal, format!("The password could not be hashed: {error}."))
    })?;
    // The session may have ended while this waited for its turn.
    agent.person(&token).await?;
    let (kept, username) = (person.hash, person.name());
    let line = person.line(client, "change password", username);
    let change = move |connection: &Connection| account.change_password(connection, &hashed, &kept);
    agent.cluster.write_noted(line, change).await?;
    agent.sessions_here.close_all(username);
    log::info!(user:% = username, client:% = client; "{username} changed the password from {client}");
    Ok(StatusCode::NO_CONTENT)
}

/// Begins to set up a second factor. It counts once a code of it was given.
#[utoipa::path(post, path = "/api/v1/session/second-factor", tag = "session", request_body = ProvePassword, responses((status = 201, body = NewSecondFactor)))]
pub(crate) async fn begin_second_factor(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<ProvePassword>,
) -> Result<(StatusCode, Json<NewSecondFactor>), Failure> {
    agent.prove_again(&person, ("password", body.password), client, || ()).await?;
    let begin = move |connection: &Connection| second_factor::begin(connection, person.name());
    Ok((StatusCode::CREATED, Json(agent.cluster.write(begin).await?)))
}

/// Ends setting it up with a code of it. The recovery codes are shown this once.
#[utoipa::path(put, path = "/api/v1/session/second-factor", tag = "session", request_body = SecondFactorCode, responses((status = 200, body = RecoveryCodes)))]
pub(crate) async fn confirm_second_factor(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<SecondFactorCode>,
) -> Result<Json<RecoveryCodes>, Failure> {
    let line = person.line(client, "set up second factor", person.name());
    let confirm = move |connection: &Connection| {
        let codes = second_factor::confirm(connection, person.name(), &body.code, sessions::now())?;
        // Sessions that were opened without it end.
        sessions::close_others(connection, person.name(), &person.hash)?;
        Ok(codes)
    };
    Ok(Json(agent.cluster.write_noted(line, confirm).await?))
}

/// Removes the second factor, and its recovery codes.
#[utoipa::path(delete, path = "/api/v1/session/second-factor", tag = "session", request_body = ProvePassword, responses((status = 204)))]
pub(crate) async fn remove_second_factor(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<ProvePassword>,
) -> Result<StatusCode, Failure> {
    agent.prove_again(&person, ("password", body.password), client, || ()).await?;
    let line = person.line(client, "remove second factor", person.name());
    let remove = move |connection: &Connection| second_factor::remove(connection, person.name());
    agent.cluster.write_noted(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes new recovery codes; those before are good for nothing any more.
#[utoipa::path(post, path = "/api/v1/session/recovery-codes", tag = "session", request_body = ProvePassword, responses((status = 201, body = RecoveryCodes)))]
pub(crate) async fn make_recovery_codes(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<ProvePassword>,
) -> Result<(StatusCode, Json<RecoveryCodes>), Failure> {
    agent.prove_again(&person, ("password", body.password), client, || ()).await?;
    let line = person.line(client, "make recovery codes", person.name());
    let make = move |connection: &Connection| second_factor::new_recovery_codes(connection, person.name());
    Ok((StatusCode::CREATED, Json(agent.cluster.write_noted(line, make).await?)))
}

/// One's own tokens for programs, the newest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = Page<ApiToken>)))]
pub(crate) async fn tokens(
    State(agent): State<Arc<Agent>>,
    person: Person,
) -> Result<Json<Page<ApiToken>>, Failure> {
    let read = move |connection: &Connection| tokens::of(connection, person.name());
    Ok(Json(Page::whole(agent.cluster.read(read).await?)))
}

/// Makes a token for a program. It is shown this once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewApiToken, responses((status = 201, body = MadeApiToken)))]
pub(crate) async fn make_token(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewApiToken>,
) -> Result<(StatusCode, Json<MadeApiToken>), Failure> {
    let token = tokens::shown(&sessions::new_token().ok_or_else(sessions::no_randomness)?);
    let (hash, now) = (sessions::hash(token.expose()), sessions::now());
    let line = person.line(client, "make token", body.purpose.trim());
    let make = move |connection: &Connection, line: &mut crate::audit::Line| {
        let made = tokens::add(connection, person.name(), &body, &hash, now)?;
        line.is(&made);
        Ok(made)
    };
    let kept = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::CREATED, Json(MadeApiToken { token, kept })))
}

/// Takes one of one's own tokens back.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path,)), responses((status = 204)))]
pub(crate) async fn revoke_token(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "take token back", id.chars().take(16).collect::<String>());
    let remove = move |connection: &Connection| tokens::remove(connection, person.name(), &id);
    agent.cluster.write_noted(line, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}
