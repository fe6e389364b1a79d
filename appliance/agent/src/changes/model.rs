//! Which rows are which objects for people, and who may hear of them.

use quantix_api::{Change, ChangeOperation, Held, Place, Right, Scope};

/// A change as it is told: its kind, the right to hear of it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    /// Where the right must count.
    pub(crate) place: Place,
    /// Only for this user; nothing for all who have the right.
    pub(crate) person: Option<String>,
    pub(crate) change: Change,
}

/// The kinds of objects that are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Host,
    Cluster,
    Vm,
    Folder,
    Pool,
    Volume,
    Image,
    Task,
    Event,
    User,
    Session,
    Settings,
    Audit,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Cluster => "cluster",
            Self::Vm => "vm",
            Self::Folder => "folder",
            Self::Pool => "pool",
            Self::Volume => "volume",
            Self::Image => "image",
            Self::Task => "task",
            Self::Event => "event",
            Self::User => "user",
            Self::Session => "session",
            Self::Settings => "settings",
            Self::Audit => "audit",
        }
    }

    /// Who may hear of it; nothing for whoever it belongs to.
    fn right(self) -> Option<Right> {
        match self {
            Self::Host
            | Self::Cluster
            | Self::Vm
            | Self::Folder
            | Self::Pool
            | Self::Volume
            | Self::Image
            | Self::Task
            | Self::Event => Some(Right::See),
            Self::User => Some(Right::ManagePeople),
            Self::Settings => Some(Right::ManageSettings),
            Self::Audit => Some(Right::SeeActivity),
            Self::Session => None,
        }
    }

    /// The kind that rows of a table belong to; nothing for what no page shows.
    pub(crate) fn of_table(table: &str) -> Option<Self> {
        Some(match table {
            "host" => Self::Host,
            "cluster" | "join_token" | "join_token_use" => Self::Cluster,
            "vm" | "vm_seen" => Self::Vm,
            "folder" => Self::Folder,
            "pool" | "pool_seen" => Self::Pool,
            "volume" => Self::Volume,
            "image" => Self::Image,
            "task" => Self::Task,
            "event" => Self::Event,
            "account" | "role" | "user_group" | "membership" | "access" | "second_factor" | "api_token" => {
                Self::User
            }
            "session" => Self::Session,
            "audit" => Self::Audit,
            table if table.starts_with("setting") => Self::Settings,
            _ => return None,
        })
    }
}

impl Told {
    pub(crate) fn new(kind: Kind, place: impl Into<Place>, key: String, operation: ChangeOperation) -> Self {
        Self { kind, place: place.into(), person: None, change: Change { key, operation } }
    }

    /// Whether somebody may hear of it.
    pub(crate) fn is_for(&self, username: &str, rights: &[Held]) -> bool {
        if let Some(person) = &self.person {
            return person == username;
        }
        match self.kind.right() {
            // The cluster as a whole, and its voters, are there for everybody who sees some of it.
            Some(Right::See) if self.place.scope == Scope::Datacenter && self.kind != Kind::Task => {
                rights.iter().any(|held| held.rights.contains(&Right::See))
            }
            Some(right) => Held::give(rights, right, &self.place),
            None => false,
        }
    }

    /// As an event of a stream, without its end.
    pub(crate) fn text(&self) -> String {
        let data = serde_json::to_string(&self.change).unwrap_or_default();
        format!("event: {}\ndata: {data}\n", self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(scope: &str, rights: &[Right]) -> Held {
        let rights = rights.iter().copied().collect();
        Held { role: "some".into(), through: None, scope: scope.parse().unwrap(), rights }
    }

    fn told(kind: Kind, scope: &str) -> Told {
        Told::new(kind, scope.parse::<Scope>().unwrap(), "7".into(), ChangeOperation::Changed)
    }

    #[test]
    fn everybody_hears_of_what_they_may_see_and_of_nothing_else() {
        let (here, there) = ("host/0000000000000001", "host/0000000000000002");
        let all = [held("datacenter", &Right::ALL)];
        let viewer = [held("datacenter", &[Right::See])];
        let of_one = [held(here, &[Right::See, Right::OperateHosts])];
        let hears = |rights: &[Held], kind, scope| told(kind, scope).is_for("ada", rights);
        for kind in [Kind::Host, Kind::Task, Kind::Event] {
            assert!(hears(&all, kind, there) && hears(&viewer, kind, there), "{kind:?}");
            assert!(hears(&of_one, kind, here) && !hears(&of_one, kind, there), "{kind:?}");
        }
        assert!(hears(&of_one, Kind::Cluster, "datacenter") && !hears(&of_one, Kind::Task, "datacenter"));
        for kind in [Kind::User, Kind::Settings, Kind::Audit] {
            assert!(hears(&all, kind, "datacenter") && !hears(&viewer, kind, "datacenter"), "{kind:?}");
        }
        // Not even an administrator hears of another's sessions.
        let session = Told { person: Some("ben".into()), ..told(Kind::Session, "datacenter") };
        assert!(session.is_for("ben", &viewer) && !session.is_for("ada", &all));
        let of_nobody = told(Kind::Session, "datacenter");
        assert!(!of_nobody.is_for("ada", &all));
    }

    #[test]
    fn an_event_is_one_that_browsers_read() {
        let text = told(Kind::Task, "datacenter").text();
        assert_eq!(text, "event: task\ndata: {\"key\":\"7\",\"operation\":\"changed\"}\n");
        let strange =
            Told::new(Kind::User, Scope::Datacenter, "a\n\nevent: x".into(), ChangeOperation::Added);
        assert_eq!(strange.text().lines().count(), 2);
    }
}
