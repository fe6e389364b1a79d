//! What works on a host and what does not.

use serde::{Deserialize, Serialize};

/// How a part of the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It works.
    Ok,
    /// It works with less than it should; `detail` says what is missing.
    Warn,
    /// It does not work.
    Failed,
}

/// One part of the host and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Check {
    /// A stable name: `libvirt`, `open-vswitch`, `state-storage` …
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// What was seen, and if it is not well, what to do: a sentence.
    pub detail: String,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Readiness {
    /// True when nothing has failed.
    pub ready: bool,
    /// Every part that was looked at.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Ready is what no failed check contradicts.
    pub fn of(checks: Vec<Check>) -> Self {
        Self { ready: checks.iter().all(|check| check.state != CheckState::Failed), checks }
    }
}
