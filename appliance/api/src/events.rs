//! What happened by itself, and what is wrong now.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number; later events have greater ones.
    pub id: i64,
    /// When, by the clock of the host that wrote it.
    pub at: Timestamp,
    /// How bad it is.
    pub severity: Severity,
    /// The part of Quantix that tells it.
    pub component: String,
    /// What it is about: `datacenter`, or `host/` and the id of a host.
    pub object: String,
    /// The host it happened on, by name; empty for none in particular.
    pub host: String,
    /// What happened.
    pub sentence: String,
    /// How often it happened, shortly one after the other.
    pub times: u32,
    /// When it was over; nothing while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_at: Option<Timestamp>,
    /// Who has said that they look after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// Whether it lasts until somebody says that it is over.
    pub can_clear: bool,
}

impl Event {
    /// Whether it is an alarm: something is wrong and nobody has seen to it yet, or it lasts.
    pub fn is_open(&self) -> bool {
        self.severity != Severity::Info && self.cleared_at.is_none()
    }
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Worth a look soon.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The severity of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

/// `GET /api/v1/events?…`: the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// The part after the one whose `next` this was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 1000)]
    pub after: Option<String>,
    /// So many at most; 50 unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only what has this text somewhere, in capitals or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub text: Option<String>,
    /// Only those as bad as this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 40)]
    pub severity: Option<String>,
    /// Only those of this component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 40)]
    pub component: Option<String>,
    /// Only the alarms: what is wrong and lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

/// `GET /api/v1/changes`: what an event of the stream carries. Its name is the kind of object, its id the entry of the
/// log it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Which object changed; empty when there is only one, or when it may be any.
    pub key: String,
    /// What happened to it.
    pub operation: ChangeOperation,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeOperation {
    /// It is new.
    Added,
    /// It is not what it was.
    Changed,
    /// It is gone.
    Removed,
}
