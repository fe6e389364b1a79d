//! Virtual machines: how each is, and what can be done with it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{CloudInit, NewDisk, Right, VmGuest, VmSpec};

/// How a virtual machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VmState {
    /// Off.
    Stopped,
    /// It is being started.
    Starting,
    /// On.
    Running,
    /// On, and stands still.
    Paused,
    /// Off, with its memory on disk.
    Suspended,
    /// Its guest is ending.
    Stopping,
    /// It ended by itself in a way it should not.
    Crashed,
    /// Its host does not answer.
    Unknown,
}

impl VmState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Suspended,
        Self::Stopping,
        Self::Crashed,
        Self::Unknown,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a process of the host runs it.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopping)
    }
}

/// What can be done with a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VmAction {
    /// Switch it on, or wake it.
    Start,
    /// Ask the guest to end.
    ShutDown,
    /// Ask the guest to start anew.
    Reboot,
    /// Switch it off, as pulling the plug does.
    ForceStop,
    /// Start it anew, as the button does.
    Reset,
    /// Let it stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Put its memory on disk and switch it off.
    Suspend,
    /// Remove it.
    Delete,
}

impl VmAction {
    /// All actions.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::ShutDown,
        Self::Reboot,
        Self::ForceStop,
        Self::Reset,
        Self::Pause,
        Self::Resume,
        Self::Suspend,
        Self::Delete,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ShutDown => "shut-down",
            Self::Reboot => "reboot",
            Self::ForceStop => "force-stop",
            Self::Reset => "reset",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Suspend => "suspend",
            Self::Delete => "delete",
        }
    }

    /// The action of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// What is done with a virtual machine without being asked, and what is not done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmPolicy {
    /// Whether it is started when its host starts.
    #[serde(default)]
    pub start_at_boot: bool,
    /// When: lower numbers first, the same number at once.
    #[serde(default)]
    pub boot_order: u16,
    /// How many seconds are waited after it before the next number.
    #[serde(default)]
    #[schema(maximum = 3600)]
    pub boot_delay: u16,
    /// Whether it is started again when it ended in a way it should not.
    #[serde(default)]
    pub restart_after_crash: bool,
    /// Whether it cannot be removed.
    #[serde(default)]
    pub protected: bool,
    /// Whether it is a template: it is not started, and stays as it is for those that are cloned from it.
    #[serde(default)]
    pub template: bool,
    /// Whose it is, by the name of their account: whoever made it, if a new one says nothing. It gives them no right.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 128)]
    pub owner: String,
    /// What people sort it by: `key=value`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vm {
    /// Its id, which it keeps.
    pub id: String,
    /// What it shall be.
    pub spec: VmSpec,
    /// What is done with it without being asked.
    pub policy: VmPolicy,
    /// The folder it is in; nothing for none.
    pub folder: Option<i64>,
    /// The host it is on.
    pub host: String,
    /// The name of that.
    pub host_name: String,
    /// How it is.
    pub state: VmState,
    /// Since when, as far as is known.
    pub since: Timestamp,
    /// Whether somebody wants it to be on.
    pub is_wanted_on: bool,
    /// Whether what was changed of it counts only when it is started the next time.
    pub waits_for_restart: bool,
    /// What of it waits: “its memory”.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// Whether its processor is imitated by a program, which is slow.
    pub is_emulated: bool,
    /// How libvirt's description of it differs from what it shall be, if somebody changed that there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// Whether what is there can be adopted.
    #[serde(default)]
    pub can_adopt: bool,
    /// What is wrong with it; empty if nothing is.
    pub trouble: String,
    /// Whether its guest is told something when it starts for the first time.
    #[serde(default)]
    pub has_cloud_init: bool,
    /// As whom one gets in, if its guest is told so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// How many snapshots it has.
    #[serde(default)]
    pub snapshots: u32,
    /// What its guest tells of itself, if it is on and an agent answers in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<VmGuest>,
    /// The task that does something with it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<i64>,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
    /// What whoever asks may do with it.
    pub rights: BTreeSet<Right>,
}

impl Vm {
    /// What it should be, where it is something else and nobody is about to change that.
    pub fn should_be(&self) -> Option<&'static str> {
        if self.task.is_some() || self.policy.template {
            return None;
        }
        match self.state {
            VmState::Stopped | VmState::Crashed => self.is_wanted_on.then_some("on"),
            VmState::Running => (!self.is_wanted_on).then_some("off"),
            _ => None,
        }
    }
}

/// `POST /api/v1/vms`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVm {
    /// What it shall be.
    pub spec: VmSpec,
    /// Disks that are made with it. They come after those it takes over.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub disks: Vec<NewDisk>,
    /// What its guest is told when it starts for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
    /// Whether its image, although it is one of those that let nobody in of whom they are not told, has a way in of its own.
    #[serde(default)]
    pub has_way_in: bool,
    /// What is done with it without being asked.
    #[serde(default)]
    pub policy: VmPolicy,
    /// The folder it goes into.
    #[serde(default)]
    pub folder: Option<i64>,
    /// The host it goes to; nothing for the one with the least memory spoken for.
    #[serde(default)]
    pub host: Option<String>,
    /// Whether it is started at once.
    #[serde(default)]
    pub start: bool,
}

impl NewVm {
    /// As usual: with no disks of its own, nothing done by itself, in no folder, on any host, and off.
    pub fn usual(spec: VmSpec) -> Self {
        Self {
            spec,
            disks: Vec::new(),
            cloud_init: None,
            has_way_in: false,
            policy: VmPolicy::default(),
            folder: None,
            host: None,
            start: false,
        }
    }
}

/// `PATCH /api/v1/vms/{vm}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeVm {
    /// What it shall be, the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<VmSpec>,
    /// What is done with it without being asked, the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<VmPolicy>,
    /// The folder it shall be in; null for none.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub folder: Option<Option<i64>>,
}

/// Tells null from what is not there.
pub(crate) fn even_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// `DELETE /api/v1/vms/{vm}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveVm {
    /// Its name, to make sure.
    pub name: String,
    /// Whether its disks stay, with all that is on them.
    #[serde(default)]
    pub keep_disks: bool,
}

/// `POST /api/v1/vms/{vm}/power`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerVm {
    /// What to do; to remove it is another call.
    pub action: VmAction,
    /// How many seconds the guest has to end, when it is asked to.
    #[serde(default = "two_minutes")]
    #[schema(minimum = 5, maximum = 3600)]
    pub within: u32,
    /// Whether it is switched off when its guest has not ended by then.
    #[serde(default)]
    pub force: bool,
    /// Whether a machine that is started stands still until somebody looks at its screen or its serial line, or a minute has
    /// passed: so that no key is missed that its firmware waits for.
    #[serde(default)]
    pub with_console: bool,
}

fn two_minutes() -> u32 {
    120
}

impl PowerVm {
    /// As it is usually done.
    pub fn usual(action: VmAction) -> Self {
        Self { action, within: two_minutes(), force: false, with_console: false }
    }
}

/// `POST /api/v1/vms/{vm}/drift`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleDrift {
    /// Which of the two holds.
    pub keep: Keep,
}

/// Which of two descriptions holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// What libvirt has: it is adopted.
    Theirs,
    /// What is kept here: it is restored.
    Ours,
}

/// What virtual machines are asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VmQuery {
    /// Where the part before this one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most: 50, if nothing is said, and 1000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// By what to sort; with a `-` in front, the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Only those in which this occurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub text: Option<String>,
    /// Only those in this folder; 0 for those in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<i64>,
    /// Only those on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only those that are like this: a state, or `on`, `off`, `attention` or `template` for those that `counts` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// How many virtual machines there are, of those that whoever asks may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmCounts {
    /// All of them.
    pub all: u64,
    /// Those that are on, or are being started.
    pub on: u64,
    /// Those that are off, with their memory on disk or without; no templates.
    pub off: u64,
    /// Those that somebody should look at: they crashed, are on a host that is lost, are off and should be on or the other
    /// way round, cannot write, miss a pool, or are not what they shall be. They are among the others, too.
    pub attention: u64,
    /// Templates.
    pub template: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_something_else_than_nothing() {
        let read = |text: &str| serde_json::from_str::<ChangeVm>(text).unwrap().folder;
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"folder": null}"#), Some(None));
        assert_eq!(read(r#"{"folder": 3}"#), Some(Some(3)));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for state in VmState::ALL {
            assert_eq!(VmState::of(state.name()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        for action in VmAction::ALL {
            assert_eq!(VmAction::of(action.name()), Some(action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
        }
    }
}
