//! Signing in and out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
};
use quantix_api::{
    OpenSession, Page, Problem, ProblemCode, SecondFactorCode, Secret, Session, SessionInfo, SignIn, calls,
};
use rusqlite::Connection;
use tokio::time::timeout;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token},
    person::{Person, bearer},
};
use crate::{
    account::{self, Account, second_factor, tokens},
    audit::Line,
    cluster::Cluster,
    hashing::NoTurn,
    lock, sessions,
};

/// How long a sign-in waits for the cluster to keep the session, before the session is this host's alone.
const KEEP: Duration = Duration::from_secs(3);

impl Agent {
    /// Whether a request is in a session that only this host knows. It ends when there is a leader, who does not.
    pub(crate) fn ends_with_a_leader(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|token| self.sessions_here.close(&sessions::hash(token)))
    }

    /// Nobody waits for it: what is not noted now is noted with the next request.
    pub(super) fn note_later(&self, token: String) {
        let cluster = Arc::clone(&self.cluster);
        tokio::spawn(async move {
            let mut headers = HeaderMap::new();
            if let (Some(leader), Ok(value)) = (cluster.other_leader(), format!("Bearer {token}").parse()) {
                headers.insert(header::AUTHORIZATION, value);
                drop(
                    cluster.pass_on(&leader, Method::PUT, calls::SESSION_PATH, &headers, Bytes::new()).await,
                );
            } else {
                drop(note_here(&cluster, &token).await);
            }
        });
    }

    /// Checks a password, slowed down for whoever guesses, and when it is right goes on with `then`, in the same turn.
    pub(super) async fn prove<T: Send + 'static>(
        &self,
        username: &str,
        password: Secret,
        client: Client,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Account, T), Problem> {
        let source = client.source();
        self.must_not_wait(client)?;
        let place = self.hashing.place(source).ok_or_else(busy)?;
        // Counted before the hash and taken back after it: who hangs up has tried as well.
        lock(&self.throttle).failed(source, Instant::now());
        let name = username.to_owned();
        let find = move |connection: &Connection| {
            // Who signs in with the identity provider has no password.
            let found = Account::find(connection, &name)?.filter(|found| !found.password_hash.is_empty());
            // A name that does not exist takes as long as one that does.
            Ok((found.is_some(), found.map_or_else(|| Account::any(connection), |found| Ok(Some(found)))?))
        };
        let (known, account) = self.cluster.read(find).await?;
        let account = account.ok_or_else(|| {
            Problem::new(ProblemCode::Unavailable, "The host is starting. Try again in a few seconds.")
                .retry_after(2)
        })?;
        let kept = account.password_hash.clone();
        let work = move || (account::verify(password.expose(), &kept) && known).then(then);
        match self.hashing.run(place, work).await {
            Ok(Some(_)) if account.locked => {
                let sentence = "This user is locked. An administrator can let you in again.";
                Err(Problem::new(ProblemCode::Forbidden, sentence))
            }
            Ok(Some(done)) => {
                lock(&self.throttle).succeeded(source);
                Ok((account, done))
            }
            Ok(None) => {
                // What a stranger typed as a name may be a password: it is not logged.
                log::warn!(client:% = client; "Sign-in refused for {client}");
                let line = Line::done("a stranger", &client, "sign in", "")
                    .refused("The name or the password is wrong.");
                self.cluster.note_refusal(client.address(), line);
                self.count_refusal(client);
                Err(account::changed_meanwhile())
            }
            Err(NoTurn) => Err(busy()),
        }
    }

    /// Whoever guesses waits.
    pub(super) fn must_not_wait(&self, client: Client) -> Result<(), Problem> {
        let wait = lock(&self.throttle).wait(client.source(), Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let seconds = wait.as_secs() + 1;
        Err(too_many("Too many wrong passwords or codes from your address.", seconds))
    }
}

fn too_many(what: &str, seconds: u64) -> Problem {
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let sentence = format!("{what} Try again in {seconds} {unit}.");
    Problem::new(ProblemCode::TooManyAttempts, sentence).retry_after(seconds)
}

pub(super) fn busy() -> Problem {
    Problem::new(ProblemCode::Unavailable, "Many people are signing in. Try again in a few seconds.")
        .retry_after(2)
}

/// Signs in with name and password.
///
/// Where the account has a second factor, the session is good for nothing but giving its code.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "session", request_body = SignIn,
    responses(
        (status = 201, body = Session),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "The name or the password is wrong."),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The user is locked.")
    )
)]
pub(crate) async fn open(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Body(body): Body<SignIn>,
) -> Result<(StatusCode, Json<Session>), Failure> {
    let (account, ()) = agent.prove(&body.username, body.password, client, || ()).await?;
    let token = sessions::new_token().ok_or_else(sessions::no_randomness)?;
    let (hash, now, opened) = (sessions::hash(token.expose()), sessions::now(), account.clone());
    let line = Line::done(&account.username, &client, "sign in", "");
    let address = client.to_string();
    let open = move |connection: &Connection| {
        let code_needed = sessions::open(connection, &opened, &hash, &address, now)?;
        if !code_needed {
            crate::audit::note(connection, &line)?;
        }
        Ok(())
    };
    match timeout(KEEP, agent.cluster.write(open)).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) if problem.code == ProblemCode::WrongCredentials => return Err(problem.into()),
        Ok(Err(_)) | Err(_) => {
            let name = account.username.clone();
            let is_set_up = move |connection: &Connection| second_factor::is_set_up(connection, &name);
            let code_needed = agent.cluster.read(is_set_up).await?;
            agent.sessions_here.open(&account, code_needed, hash, now);
        }
    }
    let info = agent.person(token.expose()).await?.info;
    if !info.code_needed {
        log::info!(user:% = info.username, client:% = client; "{} signed in from {client}", info.username);
    }
    Ok((StatusCode::CREATED, Json(Session { token, info })))
}

/// Gives the code of the second factor, or a recovery code.
///
/// The answer is another session, which takes the place of the one that asked.
#[utoipa::path(post, path = "/api/v1/session/code", tag = "session", request_body = SecondFactorCode, responses((status = 201, body = Session)))]
pub(crate) async fn give_code(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<SecondFactorCode>,
) -> Result<(StatusCode, Json<Session>), Failure> {
    if !person.info.code_needed {
        return Err(Problem::new(ProblemCode::Invalid, "This session needs no code.").into());
    }
    agent.must_not_wait(client)?;
    let token = sessions::new_token().ok_or_else(sessions::no_randomness)?;
    let (next, now, hash) = (sessions::hash(token.expose()), sessions::now(), person.hash);
    let name = person.name().to_owned();
    let is_here = agent.sessions_here.find(&hash, now).is_some();
    let checked = if is_here {
        let look = move |connection: &Connection| second_factor::look(connection, &name, &body.code, now);
        let step = agent.cluster.read(look).await?;
        match step.is_some_and(|step| agent.sessions_here.complete(&hash, next, step, now)) {
            true => second_factor::Checked::Right,
            false => second_factor::Checked::Wrong,
        }
    } else {
        let mut line = person.line(client, "sign in", "");
        let check = move |connection: &Connection| {
            let checked = second_factor::check(connection, &name, &body.code, now)?;
            match checked {
                second_factor::Checked::Right => {}
                second_factor::Checked::Recovered(left) => {
                    line.action = format!("sign in with a recovery code ({left} left)");
                }
                second_factor::Checked::Wrong | second_factor::Checked::Wait(_) => return Ok(checked),
            }
            sessions::complete(connection, &hash, &next, now)?;
            crate::audit::note(connection, &line)?;
            Ok(checked)
        };
        agent.cluster.write(check).await?
    };
    match checked {
        second_factor::Checked::Right | second_factor::Checked::Recovered(_) => {}
        second_factor::Checked::Wait(seconds) => {
            return Err(too_many("Too many wrong codes for this user.", seconds).into());
        }
        second_factor::Checked::Wrong => {
            lock(&agent.throttle).failed(client.source(), Instant::now());
            let line = person.line(client, "sign in", "").refused("The code is wrong.");
            agent.cluster.note_refusal(client.address(), line);
            let sentence = "This is not the right code, or it was used already. Wait for the next one.";
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("code").into());
        }
    }
    let info = agent.person(token.expose()).await?.info;
    log::info!(user:% = info.username, client:% = client; "{} signed in from {client}", info.username);
    Ok((StatusCode::CREATED, Json(Session { token, info })))
}

async fn note_here(cluster: &Cluster, token: &str) -> Result<(), Problem> {
    let (hash, now, is_program) = (sessions::hash(token), sessions::now(), tokens::is_one(token));
    let note = move |connection: &Connection| match is_program {
        true => tokens::note(connection, &hash, now),
        false => sessions::note(connection, &hash, now),
    };
    cluster.write(note).await
}

/// Notes that the session is in use.
#[utoipa::path(put, path = "/api/v1/session", tag = "session", responses((status = 204)))]
pub(crate) async fn note(
    State(agent): State<Arc<Agent>>,
    _: Person,
    Token(token): Token,
) -> Result<StatusCode, Failure> {
    note_here(&agent.cluster, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose session it is, and what they may do.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", responses((status = 200, body = SessionInfo)))]
pub(crate) async fn show(person: Person) -> Json<SessionInfo> {
    Json(person.info)
}

/// Signs out.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", responses((status = 204)))]
pub(crate) async fn close(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
) -> Result<StatusCode, Failure> {
    if person.is_program {
        let sentence = "A token for programs is not signed out; take it back instead.";
        return Err(Problem::new(ProblemCode::Forbidden, sentence).into());
    }
    let hash = person.hash;
    if !agent.sessions_here.close(&hash) {
        let line = person.line(client, "sign out", "");
        agent.cluster.write_noted(line, move |connection| sessions::close(connection, &hash)).await?;
    }
    let username = person.name();
    log::info!(user:% = username, client:% = client; "{username} signed out from {client}");
    Ok(StatusCode::NO_CONTENT)
}

/// One's own open sessions, the newest first.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "session", responses((status = 200, body = Page<OpenSession>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    person: Person,
) -> Result<Json<Page<OpenSession>>, Failure> {
    let now = sessions::now();
    let read =
        move |connection: &Connection| sessions::of(connection, person.name(), Some(&person.hash), now);
    Ok(Json(Page::whole(agent.cluster.read(read).await?)))
}

/// Signs out everywhere else.
#[utoipa::path(delete, path = "/api/v1/sessions", tag = "session", responses((status = 204)))]
pub(crate) async fn close_others(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "sign out everywhere else", person.name());
    let close =
        move |connection: &Connection| sessions::close_others(connection, person.name(), &person.hash);
    agent.cluster.write_noted(line, close).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "session", params(("id" = String, Path,)), responses((status = 204)))]
pub(crate) async fn close_one(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "end session", person.name());
    let close = move |connection: &Connection| sessions::close_named(connection, person.name(), &id);
    agent.cluster.write_noted(line, close).await?;
    Ok(StatusCode::NO_CONTENT)
}
