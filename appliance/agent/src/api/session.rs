//! Signing in and out, and changing the password.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State, http::StatusCode};
use quantix_api::{ChangePassword, Problem, ProblemCode, Secret, Session, SessionInfo, SignIn};

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token, sign_in_needed},
};
use crate::{
    account::{self, ADMIN, SaveError},
    hashing::NoTurn,
    lock,
};

impl Agent {
    fn session(&self, token: &str) -> Result<SessionInfo, Problem> {
        let username = lock(&self.sessions).username(token, Instant::now()).ok_or_else(sign_in_needed)?;
        let must_change_password =
            self.account.account().is_none_or(|account| account.must_change_password());
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

    /// Checks a password, slowed down for whoever guesses, and when it is right goes on with `then`. Both are one
    /// piece of work, and work is done one at a time: nobody signs in with a password while it is being replaced.
    async fn prove<T: Send + 'static>(
        self: &Arc<Self>,
        username: &str,
        password: Secret,
        client: Client,
        then: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let source = client.source();
        let wait = lock(&self.throttle).wait(source, Instant::now());
        if !wait.is_zero() {
            let seconds = wait.as_secs() + 1;
            let unit = if seconds == 1 { "second" } else { "seconds" };
            let sentence =
                format!("Too many wrong passwords from your address. Try again in {seconds} {unit}.");
            return Err(Problem::new(ProblemCode::TooManyAttempts, sentence).retry_after(seconds));
        }
        let place = self.hashing.place(source).ok_or_else(busy)?;
        // Counted before the hash and taken back after it: who hangs up has tried as well.
        lock(&self.throttle).failed(source, Instant::now());
        let (agent, known) = (Arc::clone(self), username == ADMIN);
        let work = move || {
            let Some(account) = agent.account.account() else {
                return Err(Problem::new(ProblemCode::Unavailable, agent.account.check().detail));
            };
            // A name that does not exist takes as long as one that does.
            if !account::verify(password.expose(), &account.password_hash) || !known {
                // What a stranger typed as a name may be a password: it is not logged.
                log::warn!(client:% = client; "Sign-in refused for {client}");
                return Err(Problem::new(
                    ProblemCode::WrongCredentials,
                    "The name or the password is wrong.",
                ));
            }
            lock(&agent.throttle).succeeded(source);
            then(&agent)
        };
        self.hashing.run(place, work).await.unwrap_or_else(|NoTurn| Err(busy()))
    }
}

fn busy() -> Problem {
    Problem::new(ProblemCode::Unavailable, "Many people are signing in. Try again in a few seconds.")
        .retry_after(2)
}

/// `POST /api/v1/session`
pub(crate) async fn open(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Body(body): Body<SignIn>,
) -> Result<(StatusCode, Json<Session>), Failure> {
    let signed_in = move |agent: &Agent| {
        let token = lock(&agent.sessions).open(ADMIN, Instant::now()).ok_or_else(|| {
            Problem::new(ProblemCode::Unavailable, "The system has no randomness to give. Try again.")
        })?;
        log::info!(user = ADMIN, client:% = client; "{ADMIN} signed in from {client}");
        let info = agent.session(token.expose())?;
        Ok(Session { token, info })
    };
    let session = agent.prove(&body.username, body.password, client, signed_in).await?;
    Ok((StatusCode::CREATED, Json(session)))
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
    let new = body.new;
    let change = move |agent: &Agent| {
        // The session may have ended while this waited for its turn.
        let username = agent.session(&token)?.username;
        let hash = account::hash(new.expose()).map_err(|error| not_saved(&error))?;
        agent.account.change_password(hash).map_err(|error| not_saved(&error))?;
        lock(&agent.sessions).close_others(&username, &token);
        log::info!(user:% = username, client:% = client; "{username} changed the password from {client}");
        Ok(())
    };
    agent.prove(&username, body.current, client, change).await.map_err(|problem| match problem.code {
        ProblemCode::WrongCredentials => {
            Problem::new(ProblemCode::Invalid, "This is not the present password.").in_field("current")
        }
        _ => problem,
    })?;
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
