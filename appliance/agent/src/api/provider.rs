//! Signing in with the identity provider, and how that is set.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use quantix_api::{
    BackFromProvider, BeginAtProvider, BegunAtProvider, Problem, ProblemCode, Provider, Session, SetProvider,
    Tried, WaysIn,
};
use rand::TryRngCore;
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
};
use crate::{
    audit::Line,
    lock,
    provider::{self, kept, people},
    sessions,
    version::{Version, tag},
};

/// With what people can sign in besides a password.
#[utoipa::path(get, path = "/api/v1/sign-in", tag = "session", responses((status = 200, body = WaysIn)))]
pub(crate) async fn ways_in(State(agent): State<Arc<Agent>>) -> Result<Json<WaysIn>, Failure> {
    let set = agent.cluster.read(kept::show).await?;
    Ok(Json(WaysIn { provider: set.on.then_some(set.title) }))
}

/// Begins to sign in with the identity provider.
#[utoipa::path(
    post, path = "/api/v1/sign-in/provider", tag = "session", request_body = BeginAtProvider,
    responses(
        (status = 200, body = BegunAtProvider),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Nobody signs in with an identity provider here.")
    )
)]
pub(crate) async fn begin(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Body(body): Body<BeginAtProvider>,
) -> Result<Json<BegunAtProvider>, Failure> {
    agent.must_not_wait(client)?;
    let settings = agent.found(kept::in_use).await?;
    Ok(Json(provider::begin(&settings, &agent.provider, &body.address).await?))
}

/// Ends it with what the provider sent somebody back with.
#[utoipa::path(
    post, path = "/api/v1/sign-in/provider/answer", tag = "session", request_body = BackFromProvider,
    responses(
        (status = 201, body = Session),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The provider vouches for nobody who may come in.")
    )
)]
pub(crate) async fn back(
    State(agent): State<Arc<Agent>>,
    client: Client,
    Body(body): Body<BackFromProvider>,
) -> Result<(StatusCode, Json<Session>), Failure> {
    agent.must_not_wait(client)?;
    // Counted before the provider is asked, and taken back when it vouches for somebody.
    lock(&agent.throttle).failed(client.source(), Instant::now());
    let token = sessions::new_token().ok_or_else(sessions::no_randomness)?;
    let line = Line::done("a stranger", &client, "sign in with the identity provider", "");
    let name = match agent.come_back(&body, sessions::hash(token.expose()), line.clone()).await {
        Ok(admitted) => admitted?,
        Err(problem) => {
            agent.cluster.note_refusal(client.address(), line.refused(problem.detail.as_str()));
            return Err(problem.into());
        }
    };
    lock(&agent.throttle).succeeded(client.source());
    log::info!(user:% = name, client:% = client; "{name} signed in with the identity provider from {client}");
    let info = agent.person(token.expose()).await?.info;
    Ok((StatusCode::CREATED, Json(Session { token, info })))
}

impl Agent {
    async fn come_back(
        &self,
        body: &BackFromProvider,
        token: sessions::TokenHash,
        line: Line,
    ) -> Result<people::Admitted, Problem> {
        let settings = self.found(kept::in_use).await?;
        let ticket = provider::ticket(&settings, body)?;
        let (used, now) = (ticket.hash(), sessions::now());
        self.cluster.write(move |connection| kept::use_once(connection, &used, now)).await?;
        let shown = provider::who(&settings, &self.provider, &ticket, &body.code).await?;
        let admit = move |connection: &Connection| {
            // It may have been turned off while the provider was asked.
            kept::in_use(connection)?;
            people::admit(connection, &shown, &token, line)
        };
        self.cluster.write(admit).await
    }
}

/// How people sign in with an identity provider.
#[utoipa::path(get, path = "/api/v1/settings/sign-in", tag = "settings", responses((status = 200, body = Provider)))]
pub(crate) async fn show(State(agent): State<Arc<Agent>>) -> Result<impl IntoResponse, Failure> {
    let set = agent.cluster.read(kept::show).await?;
    Ok((tag(set.version), Json(set)))
}

/// Says how people sign in with an identity provider.
#[utoipa::path(put, path = "/api/v1/settings/sign-in", tag = "settings", request_body = SetProvider, responses((status = 200, body = Provider)))]
pub(crate) async fn set(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Body(body): Body<SetProvider>,
) -> Result<impl IntoResponse, Failure> {
    let mut key = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut key).map_err(|_| sessions::no_randomness())?;
    let line = person.line(client, "set sign-in", "sign-in");
    let set = move |connection: &Connection, line: &mut Line| {
        line.was(&kept::show(connection)?);
        let set = kept::set(connection, &body, &key, seen)?;
        line.is(&set);
        Ok(set)
    };
    let set = agent.cluster.write_telling(line, set).await?;
    Ok((tag(set.version), Json(set)))
}

/// Nobody signs in with the identity provider any more.
#[utoipa::path(delete, path = "/api/v1/settings/sign-in", tag = "settings", responses((status = 204)))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "remove sign-in", "sign-in");
    agent.cluster.write_noted(line, move |connection| kept::remove(connection, seen)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks the identity provider how it is reached, turned on or not.
#[utoipa::path(post, path = "/api/v1/settings/sign-in/test", tag = "settings", responses((status = 200, body = Tried)))]
pub(crate) async fn test(State(agent): State<Arc<Agent>>) -> Result<Json<Tried>, Failure> {
    let settings = agent.cluster.read(kept::read).await?.ok_or_else(|| {
        Problem::new(ProblemCode::NotFound, "No identity provider is set. Set one, and then test it.")
    })?;
    Ok(Json(match provider::test(&settings).await {
        Ok(detail) => Tried { works: true, detail },
        Err(detail) => Tried { works: false, detail },
    }))
}
