//! What is set for the whole cluster.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use quantix_api::{Problem, ProblemCode, SetSyslog, Syslog, Tried};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
};
use crate::{
    audit::Line,
    syslog::{self, kept},
    version::{Version, tag},
};

/// Where the audit log is sent, and how far it has got.
#[utoipa::path(get, path = "/api/v1/settings/syslog", tag = "settings", responses((status = 200, body = Syslog)))]
pub(crate) async fn show_syslog(State(agent): State<Arc<Agent>>) -> Result<impl IntoResponse, Failure> {
    let set = agent.cluster.read(kept::show).await?;
    Ok((tag(set.version), Json(set)))
}

/// Says where the audit log is sent.
#[utoipa::path(put, path = "/api/v1/settings/syslog", tag = "settings", request_body = SetSyslog, responses((status = 200, body = Syslog)))]
pub(crate) async fn set_syslog(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
    Body(body): Body<SetSyslog>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "set syslog", "syslog");
    let set = move |connection: &Connection, line: &mut Line| {
        line.was(&kept::show(connection)?);
        let set = kept::set(connection, &body, seen)?;
        line.is(&set);
        Ok(set)
    };
    let set = agent.cluster.write_telling(line, set).await?;
    Ok((tag(set.version), Json(set)))
}

/// Sends the audit log nowhere any more.
#[utoipa::path(delete, path = "/api/v1/settings/syslog", tag = "settings", responses((status = 204)))]
pub(crate) async fn remove_syslog(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    seen: Version,
) -> Result<StatusCode, Failure> {
    let line = person.line(client, "remove syslog", "syslog");
    agent.cluster.write_noted(line, move |connection| kept::remove(connection, seen)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends one line with the settings that are kept, turned on or not.
#[utoipa::path(post, path = "/api/v1/settings/syslog/test", tag = "settings", responses((status = 200, body = Tried)))]
pub(crate) async fn test_syslog(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
) -> Result<Json<Tried>, Failure> {
    let set = agent.cluster.read(kept::show).await?;
    if set.version == 0 {
        let sentence = "No receiver is set. Set one, and then test it.";
        return Err(Problem::new(ProblemCode::NotFound, sentence).into());
    }
    let line = syslog::test_line(person.name(), client.to_string());
    Ok(Json(match syslog::deliver(&set, &agent.name, &[line]).await {
        Ok(()) => Tried { works: true, detail: format!("{} has taken a line.", set.address) },
        Err(why) => Tried { works: false, detail: why },
    }))
}
