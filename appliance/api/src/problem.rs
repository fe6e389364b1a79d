//! Errors as RFC 9457 problem documents: a stable code, a sentence for a person, and the field it is about.

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// What went wrong, in a word a program can match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemCode {
    /// Name or password do not match.
    WrongCredentials,
    /// No session, or one that has ended.
    SignInNeeded,
    /// The first password must be changed before anything else.
    PasswordChangeNeeded,
    /// The code of the second factor must be given before anything else.
    CodeNeeded,
    /// Too many attempts; wait as long as `retry_after_seconds` says.
    TooManyAttempts,
    /// A field of the request is not acceptable.
    Invalid,
    /// The request is not one the agent can read.
    Malformed,
    /// The request body is larger than accepted.
    TooLarge,
    /// There is nothing at this path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The caller may not do this.
    Forbidden,
    /// Somebody else has changed it since it was read: `If-Match` does not hold.
    ChangedMeanwhile,
    /// The idempotency key was used for something else.
    KeyUsed,
    /// Something that is being done, or was done already, is in the way.
    Conflict,
    /// The virtual machine is off: there is nothing to see of it.
    VmNotRunning,
    /// Somebody else has the console.
    ConsoleBusy,
    /// The host that is needed does not answer.
    HostUnreachable,
    /// The ticket was used, or has run out.
    TicketExpired,
    /// The change could not be written to disk.
    StorageUnavailable,
    /// The agent is busy or a part of it does not answer.
    Unavailable,
    /// A defect in Quantix.
    Internal,
}

impl ProblemCode {
    /// The HTTP status that goes with the code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::WrongCredentials | Self::SignInNeeded => StatusCode::UNAUTHORIZED,
            Self::PasswordChangeNeeded | Self::CodeNeeded | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ChangedMeanwhile => StatusCode::PRECONDITION_FAILED,
            Self::KeyUsed | Self::Conflict | Self::VmNotRunning | Self::ConsoleBusy => StatusCode::CONFLICT,
            Self::TicketExpired => StatusCode::GONE,
            Self::StorageUnavailable => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable | Self::HostUnreachable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The stable code.
    pub code: ProblemCode,
    /// The HTTP status, repeated as RFC 9457 asks.
    pub status: u16,
    /// What happened and what to do, in a sentence.
    pub detail: String,
    /// The field of the request it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How long to wait before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    /// Whether the same may be done a little later.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.code,
            ProblemCode::Unavailable | ProblemCode::StorageUnavailable | ProblemCode::TooManyAttempts
        )
    }

    /// The media type of a problem document.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem with a code and a sentence.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status().as_u16(),
            detail: detail.into(),
            field: None,
            retry_after_seconds: None,
        }
    }

    /// Names the field it is about.
    #[must_use]
    pub fn in_field(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    /// The sentence for a field, if the problem is about it; for no field, if it is about none.
    pub fn about(&self, field: &str) -> Option<&str> {
        (self.field.as_deref().unwrap_or_default() == field).then_some(self.detail.as_str())
    }

    /// Says how long to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}
