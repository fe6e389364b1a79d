//! The audit log: who did what, from where, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/audit?…`: the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Lines older than the one of this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// So many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Lines that have this text in any of their columns, in capitals or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl AuditQuery {
    /// The same as the part of an address behind the question mark.
    pub fn to_query(&self) -> String {
        // Numbers and texts always have a form.
        serde_urlencoded::to_string(self).unwrap_or_default()
    }
}

/// A part of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLines {
    /// The lines, the newest first.
    pub items: Vec<AuditLine>,
    /// What to ask for `before` to get the next part, if there is one.
    pub next: Option<i64>,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}
