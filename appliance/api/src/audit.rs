//! The audit log: who did what, from where, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// `GET /api/v1/audit?…`: the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Lines older than the part whose `next` this was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 1000)]
    pub after: Option<String>,
    /// So many at most; 50 unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Lines that have this text in any of their columns, in capitals or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub text: Option<String>,
    /// Lines of one who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub actor: Option<String>,
    /// Lines about one object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 200)]
    pub object: Option<String>,
    /// Whether the oldest come first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oldest_first: bool,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// Its number; later lines have greater ones.
    pub id: i64,
    /// When, by the clock of the host that wrote it.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// From where.
    pub address: String,
    /// What was done or tried.
    pub action: String,
    /// To what.
    pub object: String,
    /// What came of it.
    pub outcome: String,
    /// What it was like before, where something was changed; without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// What it is like after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}
