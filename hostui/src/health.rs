//! `/healthz` and `/readyz`, for people's monitoring.

use axum::{Json, extract::State, http::StatusCode};
use quantix_api::{Check, CheckState, Readiness, calls};
use serde_json::{Value, json};

use crate::web::Web;

/// `GET /healthz`: the page server answers.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "alive": true }))
}

/// `GET /readyz`: what works on this host and what does not.
pub(crate) async fn readyz(State(web): State<Web>) -> (StatusCode, Json<Readiness>) {
    let readiness = web.agent.call(&calls::ready()).await.unwrap_or_else(|error| {
        Readiness::of(vec![Check {
            name: "agent".to_owned(),
            state: CheckState::Failed,
            detail: error.to_string(),
        }])
    });
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
