//! Signing in and out, the second factor, and tokens for programs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Held, Place, Right, Scope, Secret};

/// `POST /api/v1/session`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// A session that was just opened. The token is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Goes into `Authorization: Bearer …`.
    pub token: Secret,
    /// Whose session it is and what it may do.
    #[serde(flatten)]
    pub info: SessionInfo,
}

/// `GET /api/v1/session`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionInfo {
    /// The account's name.
    pub username: String,
    /// What it may do, and where.
    pub roles: Vec<Held>,
    /// True until the code of the second factor has been given; nothing else is allowed before.
    pub code_needed: bool,
    /// True until the first password has been changed; nothing else is allowed before.
    pub must_change_password: bool,
    /// Whether the account has a second factor.
    pub second_factor: bool,
}

impl SessionInfo {
    /// Whether it may do something everywhere.
    pub fn may(&self, right: Right) -> bool {
        self.may_on(right, Scope::Datacenter)
    }

    /// Whether it may do something to an object.
    pub fn may_on(&self, right: Right, on: impl Into<Place>) -> bool {
        Held::give(&self.roles, right, &on.into())
    }

    /// Whether it may do something to one object at least.
    pub fn may_somewhere(&self, right: Right) -> bool {
        self.roles.iter().any(|held| held.rights.contains(&right))
    }

    /// What it is, in a word: the roles it has.
    pub fn title(&self) -> String {
        let mut names: Vec<&str> = self.roles.iter().map(|held| held.role.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }
}

/// `POST /api/v1/session/code`: answered with a session that may do everything its account may.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondFactorCode {
    /// The six digits that the authenticator shows, or one of the recovery codes.
    #[schema(max_length = 32)]
    pub code: Secret,
}

/// `POST /api/v1/session/second-factor`, and `DELETE`: proves that it is really the person.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvePassword {
    /// The present password.
    pub password: Secret,
}

/// A second factor that is being set up; it counts once a code of it was given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewSecondFactor {
    /// To type into an authenticator.
    pub secret: Secret,
    /// The same as an address, to show as a QR code.
    pub address: Secret,
}

/// Each opens one session when the authenticator is lost. They are shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// The codes.
    pub codes: Vec<Secret>,
}

/// An open session of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenSession {
    /// By this it is named; it is no part of what opens it.
    pub id: String,
    /// From where it was opened.
    pub address: String,
    /// When.
    pub opened_at: Timestamp,
    /// When it was last used, to five minutes.
    pub used_at: Timestamp,
    /// Whether it is the one that asks.
    pub this: bool,
}

/// `PUT /api/v1/session/password`: ends every other session of the account.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password as it is now.
    pub current: Secret,
    /// The password as it shall be.
    pub new: Secret,
}

/// A token for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// By this it is named; it is no part of the token.
    pub id: String,
    /// Whose it is: it may do no more than they may.
    pub username: String,
    /// What it is for.
    pub purpose: String,
    /// The role that says what of that it may do.
    pub role: String,
    /// Where.
    pub scope: Scope,
    /// When it was made.
    pub made_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// When it was last used, to the hour.
    pub last_used: Option<Timestamp>,
}

/// `POST /api/v1/tokens`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// What it is for, in the words of who makes it.
    #[schema(min_length = 1, max_length = 200)]
    pub purpose: String,
    /// The role that says what of the owner's rights it has.
    pub role: String,
    /// Where it has them.
    #[serde(default = "everywhere")]
    pub scope: Scope,
    /// For how many days it can be used.
    #[schema(minimum = 1, maximum = 730)]
    pub days: u32,
}

fn everywhere() -> Scope {
    Scope::Datacenter
}

/// A token that was just made. It is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MadeApiToken {
    /// Goes into `Authorization: Bearer …`.
    pub token: Secret,
    /// The token as it is kept.
    pub kept: ApiToken,
}
