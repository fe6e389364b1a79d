//! The audit log, for people to read and to take away.

use std::{io, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use quantix_api::{AuditLine, AuditQuery, Page, Problem};

use tokio::sync::mpsc;

use super::{
    Agent,
    answer::{Failure, Leaving, Queried},
};
use crate::audit::{self, AskedLines};

/// So many lines of an export are read at once.
const PART: u32 = 500;
/// So many parts are read ahead.
const PIECES: usize = 2;

/// Who did what, the newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "activity", params(AuditQuery), responses((status = 200, body = Page<AuditLine>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    Queried(query): Queried<AuditQuery>,
) -> Result<Json<Page<AuditLine>>, Failure> {
    Ok(Json(part(&agent, &query).await?))
}

/// All lines that are asked for as JSON lines, read a part at a time as they leave; with a limit no more than that.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "activity", params(AuditQuery), responses((status = 200, body = String, content_type = "application/jsonl")))]
pub(crate) async fn export(
    State(agent): State<Arc<Agent>>,
    Queried(query): Queried<AuditQuery>,
) -> Result<Response, Failure> {
    let is_whole = query.limit.is_none();
    let query = AuditQuery { limit: query.limit.or(Some(PART)), ..query };
    // What is wrong with the question is said before anything is sent.
    let first = part(&agent, &query).await?;
    let (leaving, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut page = Ok(first);
        // It ends with the list, or when nobody takes what it sends.
        loop {
            let lines = page.map_err(io::Error::other).and_then(|page| Ok((as_lines(&page)?, page.next)));
            let (lines, next) = match lines {
                Ok((lines, next)) => (Ok(lines), next),
                Err(error) => (Err(error), None),
            };
            if leaving.send(lines).await.is_err() {
                return;
            }
            let Some(next) = next.filter(|_| is_whole) else { return };
            page = part(&agent, &AuditQuery { after: Some(next), ..query.clone() }).await;
        }
    });
    let mut response = Leaving(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    let name = HeaderValue::from_static("attachment; filename=\"quantix-audit.jsonl\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

async fn part(agent: &Agent, query: &AuditQuery) -> Result<Page<AuditLine>, Problem> {
    let asked = AskedLines::of(query)?;
    agent.cluster.read(move |connection| audit::lines(connection, &asked)).await
}

fn as_lines(page: &Page<AuditLine>) -> io::Result<Bytes> {
    let mut text = Vec::new();
    for line in &page.items {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text.into())
}
