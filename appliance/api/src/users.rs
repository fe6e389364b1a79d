//! People: who may sign in, the groups they are in, and what they may do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Held, Secret};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The name to sign in with.
    pub username: String,
    /// What they may do, and where.
    pub roles: Vec<Held>,
    /// The groups they are in.
    pub groups: Vec<String>,
    /// A locked user cannot sign in.
    pub locked: bool,
    /// True until they have chosen a password of their own.
    pub must_change_password: bool,
    /// Whether signing in takes a code as well.
    pub second_factor: bool,
    /// When the user was made; the first one is as old as the cluster.
    pub made_at: Option<Timestamp>,
    /// When they last signed in.
    pub last_sign_in: Option<Timestamp>,
    /// How many sessions they have open.
    pub sessions: u32,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
}

/// `POST /api/v1/users`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name to sign in with.
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z][a-z0-9._-]*$")]
    pub username: String,
    /// What they may do everywhere; more is given with `POST /api/v1/access`.
    pub role: String,
}

/// A user with the password to sign in with for the first time. It is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserPassword {
    /// The user.
    pub user: User,
    /// To be changed at the first sign-in.
    pub password: Secret,
}

/// `PATCH /api/v1/users/{name}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What they may do everywhere from now on, instead of what was given to them for everywhere. What they have on
    /// single objects or through groups stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether they are kept out. Locking ends their sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
}

/// A group of users: what is given to it, all in it have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// Who is in it.
    pub members: Vec<String>,
    /// What everybody in it may do, and where.
    pub roles: Vec<Held>,
    /// What the identity provider calls it, if it fills it.
    pub provider_name: Option<String>,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
}

/// `POST /api/v1/groups`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its name.
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z][a-z0-9._-]*$")]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub purpose: String,
    /// What the identity provider calls it, if it shall fill it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub provider_name: Option<String>,
}

/// `PATCH /api/v1/groups/{name}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeGroup {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub purpose: Option<String>,
    /// What the identity provider calls it; empty for a group that is filled by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub provider_name: Option<String>,
}
