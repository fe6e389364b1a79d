//! The audit log, for people to read.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use quantix_api::{AuditLines, AuditQuery, Problem, ProblemCode};

use super::{Agent, answer::Failure};
use crate::audit;

const USUAL: u32 = 50;
const MOST: u32 = 1000;
/// The longest text to search for.
const LONGEST: usize = 100;

/// `GET /api/v1/audit`
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditLines>, Failure> {
    let invalid =
        |field: &str, sentence: String| Problem::new(ProblemCode::Invalid, sentence).in_field(field);
    let Query(asked) = query.map_err(|rejection| invalid("", rejection.body_text()))?;
    let limit = asked.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid("limit", format!("1 to {MOST} lines can be asked for at once.")).into());
    }
    let text = asked.text.unwrap_or_default().trim().to_owned();
    if text.chars().count() > LONGEST {
        return Err(invalid("text", format!("A text to search for has at most {LONGEST} characters.")).into());
    }
    let before = asked.before.unwrap_or(i64::MAX);
    let lines = agent.cluster.read(move |connection| audit::lines(connection, before, limit, &text)).await?;
    Ok(Json(lines))
}
