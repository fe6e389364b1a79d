//! Signing in and out, and changing the password.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use quantix_api::{ChangePassword, Problem, ProblemCode, Role, Secret, Session, SessionInfo, SignIn, calls};
use tokio::time::timeout;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token, sign_in_needed},
};
use crate::{
    account::{self, Account},
    audit::Line,
    cluster::Cluster,
    hashing::NoTurn,
    lock, sessions,
};

/// How long a sign-in waits for the cluster to keep the session, before the session is this host's alone.
const KEEP: Duration = Duration::from_secs(3);

impl Agent {
    pub(crate) async fn session(&self, token: &str) -> Result<SessionInfo, Problem> {
        let (hash, now) = (sessions::hash(token), sessions::now());
        let session = match self.sessions_here.find(&hash, now) {
            Some(session) => session,
            None => {
                let found =
                    self.cluster.read(move |connection| sessions::find(connection, &hash, now)).await?;
                let session = found.ok_or_else(sign_in_needed)?;
                if session.is_to_be_noted(now) {
                    self.note_later(token.to_owned());
                }
                session
            }
        };
        Ok(SessionInfo {
            username: session.username,
            role: session.role,
            must_change_password: session.must_change_password,
        })
    }

    /// Whether a request is in a session that only this host knows. It ends when there is a leader, who does not.
    pub(crate) fn ends_with_a_leader(&self, headers: &HeaderMap) -> bool {
        let token =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        token.is_some_and(|token| self.sessions_here.close(&sessions::hash(token)))
    }

    /// Nobody waits for it: what is not noted now is noted with the next request.
    fn note_later(&self, token: String) {
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

    /// A session that may do more than change its first password.
    pub(crate) async fn full_session(&self, token: &str) -> Result<SessionInfo, Problem> {
        let session = self.session(token).await?;
        if session.must_change_password {
            return Err(Problem::new(
                ProblemCode::PasswordChangeNeeded,
                "Choose a password of your own first.",
            ));
        }
        Ok(session)
    }

    /// A session of somebody who may do everything.
    pub(crate) async fn administrator(&self, token: &str) -> Result<SessionInfo, Problem> {
        let session = self.full_session(token).await?;
        if session.role != Role::Administrator {
            return Err(not_an_administrator());
        }
        Ok(session)
    }

    /// Checks a password, slowed down for whoever guesses, and when it is right goes on with `then`, in the same turn.
    async fn prove<T: Send + 'static>(
        &self,
        username: &str,
        password: Secret,
        client: Client,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Account, T), Problem> {
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
        let name = username.to_owned();
        let find = move |connection: &rusqlite::Connection| {
            let found = Account::find(connection, &name)?;
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
                Err(account::changed_meanwhile())
            }
            Err(NoTurn) => Err(busy()),
        }
    }
}

pub(super) fn not_an_administrator() -> Problem {
    Problem::new(ProblemCode::Forbidden, "Only administrators may do this. Ask one of them.")
}

/// Lets through whoever is signed in and has a password of their own.
pub(crate) async fn only_people(
    State(agent): State<Arc<Agent>>,
    Token(token): Token,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    agent.full_session(&token).await?;
    Ok(next.run(request).await)
}

/// Lets through administrators only.
pub(crate) async fn only_administrators(
    State(agent): State<Arc<Agent>>,
    Token(token): Token,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    agent.administrator(&token).await?;
    Ok(next.run(request).await)
}

pub(super) fn busy() -> Problem {
    Problem::new(ProblemCode::Unavailable, "Many people are signing in. Try again in a few seconds.")
        .retry_after(2)
}

/// `POST /api/v1/session`
pub(crate) async fn open(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Body(body): Body<SignIn>,
) -> Result<(StatusCode, Json<Session>), Failure> {
    let (account, ()) = agent.prove(&body.username, body.password, client, || ()).await?;
    let token = sessions::new_token().ok_or_else(sessions::no_randomness)?;
    let (hash, now, opened) = (sessions::hash(token.expose()), sessions::now(), account.clone());
    let line = Line::done(&account.username, &client, "sign in", "");
    let open = move |connection: &rusqlite::Connection| sessions::open(connection, &opened, &hash, now);
    let kept = agent.cluster.write_noted(line, open);
    match timeout(KEEP, kept).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) if problem.code == ProblemCode::WrongCredentials => return Err(problem.into()),
        Ok(Err(_)) | Err(_) => agent.sessions_here.open(&account, hash, now),
    }
    let username = account.username.clone();
    log::info!(user:% = username, client:% = client; "{username} signed in from {client}");
    let info =
        SessionInfo { username, role: account.role, must_change_password: account.must_change_password };
    Ok((StatusCode::CREATED, Json(Session { token, info })))
}

async fn note_here(cluster: &Cluster, token: &str) -> Result<(), Problem> {
    let (hash, now) = (sessions::hash(token), sessions::now());
    cluster.write(move |connection| sessions::note(connection, &hash, now)).await
}

/// `PUT /api/v1/session`: the session is in use.
pub(crate) async fn note(
    State(agent): State<Arc<Agent>>,
    Token(token): Token,
) -> Result<StatusCode, Failure> {
    // Only what is there is noted: who guesses tokens writes nothing.
    let (hash, now) = (sessions::hash(&token), sessions::now());
    let found = agent.cluster.read(move |connection| sessions::find(connection, &hash, now)).await?;
    found.ok_or_else(sign_in_needed)?;
    note_here(&agent.cluster, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/session`
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    Token(token): Token,
) -> Result<Json<SessionInfo>, Failure> {
    Ok(Json(agent.session(&token).await?))
}

/// `DELETE /api/v1/session`
pub(crate) async fn close(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Token(token): Token,
) -> Result<StatusCode, Failure> {
    let username = agent.session(&token).await?.username;
    let hash = sessions::hash(&token);
    if !agent.sessions_here.close(&hash) {
        let line = Line::done(&username, &client, "sign out", "");
        agent.cluster.write_noted(line, move |connection| sessions::close(connection, &hash)).await?;
    }
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
    let username = agent.session(&token).await?.username;
    account::check_new(body.current.expose(), body.new.expose())?;
    let new = body.new;
    let proven = agent.prove(&username, body.current, client, move || account::hash(new.expose())).await;
    let (account, hashed) = proven.map_err(|problem| match problem.code {
        ProblemCode::WrongCredentials => {
            Problem::new(ProblemCode::Invalid, "This is not the present password.").in_field("current")
        }
        _ => problem,
    })?;
    let hashed = hashed.map_err(|error| {
        log::error!("A password could not be hashed: {error}");
        Problem::new(ProblemCode::Internal, format!("The password could not be hashed: {error}."))
    })?;
    // The session may have ended while this waited for its turn.
    agent.session(&token).await?;
    let kept = sessions::hash(&token);
    let line = Line::done(&username, &client, "change password", &username);
    let change = move |connection: &rusqlite::Connection| account.change_password(connection, &hashed, &kept);
    agent.cluster.write_noted(line, change).await?;
    agent.sessions_here.close_all(&username);
    log::info!(user:% = username, client:% = client; "{username} changed the password from {client}");
    Ok(StatusCode::NO_CONTENT)
}
