//! Signing in and out.

use serde::{Deserialize, Serialize};

use crate::{Role, Secret};

/// `POST /api/v1/session`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// A session that was just opened. The token is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Goes into `Authorization: Bearer …`.
    pub token: Secret,
    /// Whose session it is and what it may do.
    #[serde(flatten)]
    pub info: SessionInfo,
}

/// `GET /api/v1/session`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The account's name.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// True until the first password has been changed; nothing else is allowed before.
    pub must_change_password: bool,
}

/// `PUT /api/v1/session/password`: ends every other session of the account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password as it is now.
    pub current: Secret,
    /// The password as it shall be.
    pub new: Secret,
}
