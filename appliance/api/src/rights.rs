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
    /// See hosts, virtual machines, tasks and events.
    See,
    /// Read who did what.
    SeeActivity,
    /// Restart hosts, shut them down, and cancel what others have begun.
    OperateHosts,
    /// Switch virtual machines on and off, and work at their screens.
    OperateVms,
    /// Make virtual machines, change them and remove them, with their folders.
    ManageVms,
    /// Look after pools and images.
    ManageStorage,
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
    pub const ALL: [Self; 10] = [
        Self::See,
        Self::SeeActivity,
        Self::OperateHosts,
        Self::OperateVms,
        Self::ManageVms,
        Self::ManageStorage,
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
            Self::OperateVms => "operate-vms",
            Self::ManageVms => "manage-vms",
            Self::ManageStorage => "manage-storage",
            Self::ManageCluster => "manage-cluster",
            Self::ManagePeople => "manage-people",
            Self::ManageSettings => "manage-settings",
            Self::BackUp => "back-up",
        }
    }

    /// What it lets somebody do, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::See => "See hosts, virtual machines, tasks and events",
            Self::SeeActivity => "Read who did what",
            Self::OperateHosts => "Restart hosts and shut them down",
            Self::OperateVms => "Switch virtual machines on and off",
            Self::ManageVms => "Make, change and remove virtual machines",
            Self::ManageStorage => "Look after pools and images",
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
            OPERATOR => Some(&[Right::See, Right::SeeActivity, Right::OperateHosts, Right::OperateVms]),
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

/// Where a role counts: `datacenter` for everywhere, `host/` and the id of a host, `folder/` and the id of a folder with
/// all that is in it, or `vm/` and the id of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Everywhere.
    Datacenter,
    /// On one host.
    Host(String),
    /// In a folder of virtual machines, and in the folders in it.
    Folder(i64),
    /// On one virtual machine.
    Vm(String),
    /// A volume. Roles do not count on one by itself; on the machine that has it they do.
    Volume(String),
    /// A pool. Roles do not count on one by itself.
    Pool(String),
    /// An image. Roles do not count on one by itself.
    Image(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datacenter => f.write_str("datacenter"),
            Self::Host(id) => write!(f, "host/{id}"),
            Self::Folder(id) => write!(f, "folder/{id}"),
            Self::Vm(id) => write!(f, "vm/{id}"),
            Self::Volume(id) => write!(f, "volume/{id}"),
            Self::Pool(id) => write!(f, "pool/{id}"),
            Self::Image(id) => write!(f, "image/{id}"),
        }
    }
}

impl FromStr for Scope {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text.split_once('/') {
            None if text == "datacenter" => Ok(Self::Datacenter),
            Some(("host", id)) if is_host_id(id) => Ok(Self::Host(id.to_owned())),
            Some(("folder", id)) => folder_id(id).map(Self::Folder).ok_or(Unknown),
            Some(("vm", id)) if is_uuid(id) => Ok(Self::Vm(id.to_owned())),
            Some(("volume", id)) if is_uuid(id) => Ok(Self::Volume(id.to_owned())),
            Some(("pool", id)) if is_pool_id(id) => Ok(Self::Pool(id.to_owned())),
            Some(("image", id)) if is_uuid(id) => Ok(Self::Image(id.to_owned())),
            _ => Err(Unknown),
        }
    }
}

fn is_host_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(is_hex)
}

fn is_pool_id(id: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&id.len()) && id.bytes().all(is_of_it)
}

/// The id of a folder, written in the one way there is.
fn folder_id(text: &str) -> Option<i64> {
    text.parse().ok().filter(|id: &i64| *id > 0 && id.to_string() == text)
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_hex(byte),
        })
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// An object, and what it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The object.
    pub scope: Scope,
    /// What is around it, the nearest first: folders, and of a volume the machine that has it.
    pub inside: Vec<Scope>,
}

impl Place {
    /// Whether what counts in a scope counts here.
    pub fn is_in(&self, scope: &Scope) -> bool {
        *scope == Scope::Datacenter || *scope == self.scope || self.inside.contains(scope)
    }
}

impl From<Scope> for Place {
    fn from(scope: Scope) -> Self {
        Self { scope, inside: Vec::new() }
    }
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
    Scope, "^(datacenter|host/[0-9a-f]{16}|folder/[1-9][0-9]*|vm/[0-9a-f-]{36})$", "datacenter";
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
    pub fn give(all: &[Self], right: Right, on: &Place) -> bool {
        all.iter().any(|held| on.is_in(&held.scope) && held.rights.contains(&right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "019acd00-0000-7000-8000-00000000000a";

    #[test]
    fn scopes_and_people_are_read_as_they_are_written() {
        for scope in ["datacenter", "host/0123456789abcdef", "folder/12", &format!("vm/{VM}")] {
            assert_eq!(scope.parse::<Scope>().unwrap().to_string(), scope);
        }
        for wrong in [
            "",
            "datacenter/",
            "host",
            "host/",
            "host/../../etc",
            "host/0123456789ABCDEF",
            "vm/1",
            &format!("vm/{}", VM.to_uppercase()),
            &format!("vm/{}", VM.replace('-', "0")),
            "folder/",
            "folder/0",
            "folder/-1",
            "folder/+1",
            "folder/01",
        ] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
        assert_eq!("user/ada".parse::<Who>().unwrap(), Who::User("ada".into()));
        assert!("ada".parse::<Who>().is_err());
    }

    #[test]
    fn a_right_counts_where_it_was_given_and_in_what_is_in_there() {
        let held = |scope: Scope| Held {
            role: "some".into(),
            through: None,
            scope,
            rights: [Right::OperateVms].into(),
        };
        let (outer, inner) = (Scope::Folder(1), Scope::Folder(2));
        let vm = Place { scope: Scope::Vm(VM.into()), inside: vec![inner.clone(), outer.clone()] };
        for scope in [Scope::Datacenter, outer.clone(), inner.clone(), vm.scope.clone()] {
            assert!(Held::give(&[held(scope.clone())], Right::OperateVms, &vm), "{scope}");
            assert!(!Held::give(&[held(scope)], Right::ManageVms, &vm));
        }
        for scope in [Scope::Folder(3), Scope::Host("0123456789abcdef".into())] {
            assert!(!Held::give(&[held(scope.clone())], Right::OperateVms, &vm), "{scope}");
        }
        let outer = Place::from(outer);
        assert!(!Held::give(&[held(inner)], Right::OperateVms, &outer));
        assert!(!Held::give(&[], Right::OperateVms, &vm));
    }

    #[test]
    fn each_role_has_all_that_the_next_one_has() {
        let rights = built_in::ALL.map(|role| built_in::rights(role).unwrap());
        for pair in rights.windows(2) {
            assert!(pair[1].iter().all(|right| pair[0].contains(right)));
        }
    }
}
