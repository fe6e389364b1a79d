//! Rights: what somebody may do, the roles that bundle them, and where a role counts.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// Something that not everybody may do. Every call needs one of these, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// See hosts, cluster, tasks and events.
    See,
    /// Read who did what.
    SeeActivity,
    /// Restart hosts, shut them down, and cancel what others have begun.
    OperateHosts,
    /// Let hosts join, remove them, and say which has the vDC role.
    ManageCluster,
    /// Look after users, groups and roles; nobody can give a right that they do not have.
    ManagePeople,
    /// Change the certificate, how people sign in, and where messages are sent.
    ManageSettings,
    /// Make backups of all data and begin anew from one. A backup holds every secret of the cluster.
    BackUp,
}

impl Right {
    /// All rights.
    pub const ALL: [Self; 7] = [
        Self::See,
        Self::SeeActivity,
        Self::OperateHosts,
        Self::ManageCluster,
        Self::ManagePeople,
        Self::ManageSettings,
        Self::BackUp,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::SeeActivity => "see-activity",
            Self::OperateHosts => "operate-hosts",
            Self::ManageCluster => "manage-cluster",
            Self::ManagePeople => "manage-people",
            Self::ManageSettings => "manage-settings",
            Self::BackUp => "back-up",
        }
    }

    /// What it lets somebody do, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::See => "See hosts, cluster, tasks and events",
            Self::SeeActivity => "Read who did what",
            Self::OperateHosts => "Restart hosts and shut them down",
            Self::ManageCluster => "Add and remove hosts, and move the vDC role",
            Self::ManagePeople => "Look after users, groups and roles",
            Self::ManageSettings => "Change certificate, sign-in and messages",
            Self::BackUp => "Back up and restore everything",
        }
    }
}

impl FromStr for Right {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|right| right.name() == name).ok_or(Unknown)
    }
}

/// A name that stands for nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a name that is known here")]
pub struct Unknown;

/// The roles that every cluster has.
pub mod built_in {
    use super::Right;

    /// Everything, also what later versions bring.
    pub const ADMINISTRATOR: &str = "administrator";
    /// Everything that keeps things running.
    pub const OPERATOR: &str = "operator";
    /// Only looks.
    pub const VIEWER: &str = "viewer";

    /// Their names, from the most to the least.
    pub const ALL: [&str; 3] = [ADMINISTRATOR, OPERATOR, VIEWER];

    /// What a built-in role may do; nothing for a name that is none.
    pub fn rights(role: &str) -> Option<&'static [Right]> {
        match role {
            ADMINISTRATOR => Some(&Right::ALL),
            OPERATOR => Some(&[Right::See, Right::SeeActivity, Right::OperateHosts]),
            VIEWER => Some(&[Right::See]),
            _ => None,
        }
    }

    /// What a built-in role is for.
    pub fn purpose(role: &str) -> &'static str {
        match role {
            ADMINISTRATOR => "May do everything.",
            OPERATOR => "Sees everything and keeps it running.",
            VIEWER => "Sees what runs, and changes nothing but their own password.",
            _ => "",
        }
    }
}

/// A role: rights with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// What it lets somebody do.
    pub rights: BTreeSet<Right>,
    /// Whether every cluster has it; such a role cannot be changed.
    pub built_in: bool,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
}

/// `POST /api/v1/roles`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// Its name.
    #[schema(min_length = 1, max_length = 32)]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub purpose: String,
    /// What it lets somebody do.
    pub rights: BTreeSet<Right>,
}

/// `PATCH /api/v1/roles/{name}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRole {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub purpose: Option<String>,
    /// What it lets somebody do from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<BTreeSet<Right>>,
}

/// Where a role counts: `datacenter` for everywhere, or `host/` and the id of a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Everywhere.
    Datacenter,
    /// On one host.
    Host(String),
}

impl Scope {
    /// Whether what counts here counts there too.
    pub fn covers(&self, other: &Self) -> bool {
        *self == Self::Datacenter || self == other
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datacenter => f.write_str("datacenter"),
            Self::Host(id) => write!(f, "host/{id}"),
        }
    }
}

impl FromStr for Scope {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text.split_once('/') {
            None if text == "datacenter" => Ok(Self::Datacenter),
            Some(("host", id)) if is_host_id(id) => Ok(Self::Host(id.to_owned())),
            _ => Err(Unknown),
        }
    }
}

fn is_host_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whom a role is given to: `user/` or `group/` and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    /// A user.
    User(String),
    /// Everybody in a group.
    Group(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user/{name}"),
            Self::Group(name) => write!(f, "group/{name}"),
        }
    }
}

impl FromStr for Who {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text.split_once('/') {
            Some(("user", name)) => Ok(Self::User(name.to_owned())),
            Some(("group", name)) => Ok(Self::Group(name.to_owned())),
            _ => Err(Unknown),
        }
    }
}

macro_rules! as_text {
    ($($kind:ty, $pattern:literal, $example:literal);+) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String);
                text.pattern(Some($pattern)).examples([$example]).into()
            }
        }

        impl ToSchema for $kind {}

        impl TryFrom<String> for $kind {
            type Error = Unknown;

            fn try_from(text: String) -> Result<Self, Unknown> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )+};
}

as_text!(
    Scope, "^(datacenter|host/[0-9a-f]{16})$", "datacenter";
    Who, "^(user|group)/", "user/ada"
);

/// A role that was given to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Access {
    /// By this it is taken back.
    pub id: i64,
    /// To whom.
    pub who: Who,
    /// The role.
    pub role: String,
    /// Where it counts.
    pub scope: Scope,
}

/// `POST /api/v1/access`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccess {
    /// To whom.
    pub who: Who,
    /// The role.
    pub role: String,
    /// Where it counts.
    #[serde(default = "everywhere")]
    pub scope: Scope,
}

fn everywhere() -> Scope {
    Scope::Datacenter
}

/// Rights that somebody has somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// The role they come from.
    pub role: String,
    /// The group through which it came, if it was not given to the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Where they count.
    pub scope: Scope,
    /// The rights.
    pub rights: BTreeSet<Right>,
}

impl Held {
    /// Whether somebody who holds all of these has a right on something.
    pub fn give(all: &[Self], right: Right, on: &Scope) -> bool {
        all.iter().any(|held| held.scope.covers(on) && held.rights.contains(&right))
    }

    /// Whether whoever holds the first may do all that whoever holds the second may.
    pub fn cover(all: &[Self], others: &[Self]) -> bool {
        others.iter().all(|other| other.rights.iter().all(|right| Self::give(all, *right, &other.scope)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_people_are_read_as_they_are_written() {
        for scope in ["datacenter", "host/0123456789abcdef"] {
            assert_eq!(scope.parse::<Scope>().unwrap().to_string(), scope);
        }
        for wrong in ["", "datacenter/", "host", "host/", "host/../../etc", "host/0123456789ABCDEF", "vm/1"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
        assert_eq!("user/ada".parse::<Who>().unwrap(), Who::User("ada".into()));
        assert!("ada".parse::<Who>().is_err());
    }

    #[test]
    fn a_right_on_one_host_is_none_on_another() {
        let one = Scope::Host("0123456789abcdef".into());
        let held = |scope: Scope, rights: &[Right]| Held {
            role: "some".into(),
            through: None,
            scope,
            rights: rights.iter().copied().collect(),
        };
        let here = [held(one.clone(), &[Right::See, Right::OperateHosts])];
        let everywhere = [held(Scope::Datacenter, &Right::ALL)];
        assert!(Held::give(&here, Right::OperateHosts, &one));
        assert!(!Held::give(&here, Right::OperateHosts, &Scope::Datacenter));
        assert!(!Held::give(&here, Right::OperateHosts, &Scope::Host("f".repeat(16))));
        assert!(Held::cover(&everywhere, &here) && !Held::cover(&here, &everywhere));
        assert!(Held::cover(&here, &[]) && !Held::cover(&[], &here));
    }

    #[test]
    fn each_role_has_all_that_the_next_one_has() {
        let rights = built_in::ALL.map(|role| built_in::rights(role).unwrap());
        for pair in rights.windows(2) {
            assert!(pair[1].iter().all(|right| pair[0].contains(right)));
        }
    }
}
