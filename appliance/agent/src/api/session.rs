//! Signing in and out, and changing the password.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::StatusCode};
use quantix_api::{ChangePassword, Problem, ProblemCode, Session, SessionInfo, SignIn};
use quantix_host::blocking;

use super::{
    Agent,
    answer::{Body, Failure},
    lock,
    peer::{Client, Token, sign_in_needed},
};
use crate::account::{self, ADMIN, SaveError};

/// How long a sign-in waits for the hashes before it; beyond that it is told to come back.
const HASHING_WAIT: Duration = Duration::from_secs(10);

impl Agent {
    fn session(&self, token: &str) -> Result<SessionInfo, Problem> {
        let username = lock(&self.sessions).username(token, Instant::now()).ok_or_else(sign_in_needed)?;
        let must_change_password =
            lock(&self.account).account().is_none_or(account::Account::must_change_password);
        Ok(SessionInfo { username, must_change_password })
    }

    /// A session that may do more than change its first password.
    pub(crate) fn full_session(&self, token: &str) -> Result<SessionInfo, Problem> {
        let session = self.session(token)?;
        if session.must_change_password {
            return Err(Problem::new(
                ProblemCode::PasswordChangeNeeded,
                "Choose a password of your own first.",
            ));
        }
        Ok(session)
    }

    /// Hashes on another thread, one at a time.
    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || {
            Problem::new(ProblemCode::Unavailable, "Many people are signing in. Try again in a few seconds.")
                .retry_after(5)
        };
        let permit = tokio::time::timeout(HASHING_WAIT, self.hashing.acquire()).await;
        let _permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        blocking(work)
            .await
            .ok_or_else(|| Problem::new(ProblemCode::Internal, "The password could not be checked."))
    }

    /// Checks a password, slowed down for whoever guesses.
    async fn prove(&self, username: &str, password: String, client: Client) -> Result<(), Problem> {
        let source = client.source();
        let account = lock(&self.account).account().map(|account| account.password_hash.clone());
        let Some(hash) = account else {
            return Err(Problem::new(ProblemCode::Unavailable, lock(&self.account).check().detail));
        };
        // Counted before the hash and taken back after it, so that many at once from one source count each.
        {
            let mut throttle = lock(&self.throttle);
            let wait = throttle.wait(source, Instant::now());
            if !wait.is_zero() {
                let seconds = wait.as_secs() + 1;
                return Err(Problem::new(
                    ProblemCode::TooManyAttempts,
                    format!("Too many wrong passwords from your address. Try again in {seconds} seconds."),
                )
                .retry_after(seconds));
            }
            throttle.failed(source, Instant::now());
        }
        // A name that does not exist takes as long as one that does.
        let right = self.hashing(move || account::verify(&password, &hash)).await?;
        if !right || username != ADMIN {
            // What a stranger typed as a name may be a password: it is not logged.
            log::warn!(client:% = client; "Sign-in refused for {client}");
            return Err(Problem::new(ProblemCode::WrongCredentials, "The name or the password is wrong."));
        }
        lock(&self.throttle).succeeded(source);
        Ok(())
    }
}

/// `POST /api/v1/session`
pub(crate) async fn open(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Body(body): Body<SignIn>,
) -> Result<(StatusCode, Json<Session>), Failure> {
    agent.prove(&body.username, body.password.expose().to_owned(), client).await?;
    let token = lock(&agent.sessions).open(ADMIN, Instant::now()).ok_or_else(|| {
        Problem::new(ProblemCode::Unavailable, "The system has no randomness to give. Try again.")
    })?;
    log::info!(user = ADMIN, client:% = client; "{ADMIN} signed in from {client}");
    let info = agent.session(token.expose())?;
    Ok((StatusCode::CREATED, Json(Session { token, info })))
}

/// `GET /api/v1/session`
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    Token(token): Token,
) -> Result<Json<SessionInfo>, Failure> {
    Ok(Json(agent.session(&token)?))
}

/// `DELETE /api/v1/session`
pub(crate) async fn close(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(token): Token,
) -> Result<StatusCode, Failure> {
    let username = agent.session(&token)?.username;
    lock(&agent.sessions).close(&token);
    log::info!(user:% = username, client:% = client; "{username} signed out from {client}");
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /api/v1/session/password`
pub(crate) async fn change_password(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(token): Token,
    Body(body): Body<ChangePassword>,
) -> Result<StatusCode, Failure> {
    let username = agent.session(&token)?.username;
    account::check_new(body.current.expose(), body.new.expose())?;
    agent.prove(&username, body.current.expose().to_owned(), client).await.map_err(
        |problem| match problem.code {
            ProblemCode::WrongCredentials => {
                Problem::new(ProblemCode::Invalid, "This is not the present password.").in_field("current")
            }
            _ => problem,
        },
    )?;
    let new = body.new.expose().to_owned();
    let hash = agent.hashing(move || account::hash(&new)).await?.map_err(|error| not_saved(&error))?;
    lock(&agent.account).change_password(hash).map_err(|error| not_saved(&error))?;
    lock(&agent.sessions).close_others(&username, &token);
    log::info!(user:% = username, client:% = client; "{username} changed the password from {client}");
    Ok(StatusCode::NO_CONTENT)
}

fn not_saved(error: &SaveError) -> Problem {
    log::error!("The password was not changed: {error}");
    match error {
        SaveError::Hash(_) => Problem::new(ProblemCode::Internal, error.to_string()),
        SaveError::Write(_) | SaveError::Damaged => {
            Problem::new(ProblemCode::StorageUnavailable, error.to_string())
        }
    }
}
