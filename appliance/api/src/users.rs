//! People: who may sign in, and what they may do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Secret;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Administrator,
    /// See everything that is no secret, and change nothing but their own password.
    Viewer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 2] = [Self::Administrator, Self::Viewer];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Viewer => "viewer",
        }
    }

    /// The role of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name to sign in with.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// A locked user cannot sign in.
    pub locked: bool,
    /// True until they have chosen a password of their own.
    pub must_change_password: bool,
    /// When the user was made; the first one is as old as the cluster.
    pub made_at: Option<Timestamp>,
    /// When they last signed in.
    pub last_sign_in: Option<Timestamp>,
    /// How many sessions they have open.
    pub sessions: u32,
}

/// `GET /api/v1/users`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// All, by name.
    pub items: Vec<User>,
}

/// `POST /api/v1/users`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name to sign in with.
    pub username: String,
    /// What they may do.
    pub role: Role,
}

/// A user with the password to sign in with for the first time. It is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserPassword {
    /// The user.
    pub user: User,
    /// To be changed at the first sign-in.
    pub password: Secret,
}

/// `PATCH /api/v1/users/{name}`: what is not named stays.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What they may do from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether they are kept out. Locking ends their sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
}
