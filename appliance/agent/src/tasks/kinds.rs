//! The kinds of tasks: for each what it is called, who does it, what it consists of, and what may be done to it.

use std::time::Duration;

use quantix_api::{Right, TaskKind, TaskState};
use serde_json::Value;

/// Who does a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doer {
    /// The host it is about.
    Host,
    /// Whichever host has the vDC role: when the role moves, the task goes with it.
    Leader,
}

/// What becomes of a task that was being done when the agent of its owner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterCrash {
    /// It goes on with the step it was in, which may be done twice.
    GoesOn,
    /// What was done is undone, and it fails.
    GoesBack,
}

/// A kind of task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) kind: TaskKind,
    pub(crate) doer: Doer,
    /// Who may ask for it, for its end, and for another attempt.
    pub(crate) right: Right,
    pub(crate) after_crash: AfterCrash,
    /// From this step on it cannot be cancelled.
    pub(crate) cancel_until: usize,
    /// Whether what was done stays when it fails or is cancelled, because there is nothing to undo.
    pub(crate) stays: bool,
    /// Whether it is safe to do it again after it failed or was cancelled.
    pub(crate) can_retry: bool,
    /// Whether only one task at a time may change what it is about.
    pub(crate) is_exclusive: bool,
    /// An owner that does not answer keeps it waiting no longer than this.
    pub(crate) begins_within: Duration,
}

const SOON: Duration = Duration::from_secs(30);
/// A host that restarts is given up after so long.
pub(crate) const COMES_BACK_WITHIN: Duration = Duration::from_secs(20 * 60);
/// A host that was told to switch off and is silent for so long is off.
const IS_OFF_AFTER: Duration = Duration::from_secs(10);

const KINDS: [Kind; 6] = [
    Kind {
        kind: TaskKind::MoveVdcRole,
        doer: Doer::Leader,
        right: Right::ManageCluster,
        after_crash: AfterCrash::GoesOn,
        cancel_until: 0,
        stays: true,
        can_retry: true,
        is_exclusive: true,
        begins_within: SOON,
    },
    Kind {
        kind: TaskKind::RemoveHost,
        doer: Doer::Leader,
        right: Right::ManageCluster,
        after_crash: AfterCrash::GoesOn,
        cancel_until: 0,
        stays: true,
        can_retry: true,
        is_exclusive: true,
        begins_within: SOON,
    },
    Kind {
        kind: TaskKind::RestartHost,
        doer: Doer::Host,
        right: Right::OperateHosts,
        after_crash: AfterCrash::GoesOn,
        cancel_until: 1,
        stays: true,
        can_retry: true,
        is_exclusive: true,
        begins_within: SOON,
    },
    Kind {
        kind: TaskKind::ShutDownHost,
        doer: Doer::Host,
        right: Right::OperateHosts,
        after_crash: AfterCrash::GoesOn,
        cancel_until: 1,
        stays: true,
        can_retry: true,
        is_exclusive: true,
        begins_within: SOON,
    },
    Kind {
        kind: TaskKind::RestartServices,
        doer: Doer::Host,
        right: Right::OperateHosts,
        after_crash: AfterCrash::GoesOn,
        cancel_until: usize::MAX,
        stays: true,
        can_retry: true,
        is_exclusive: true,
        begins_within: SOON,
    },
    Kind {
        kind: TaskKind::SupportBundle,
        doer: Doer::Host,
        right: Right::OperateHosts,
        after_crash: AfterCrash::GoesBack,
        cancel_until: usize::MAX,
        stays: false,
        can_retry: true,
        is_exclusive: false,
        begins_within: SOON,
    },
];

/// Services that can be restarted: their names in the facts about a host, their names for people, and their units.
pub(crate) const SERVICES: [(&str, &str, &str); 6] = [
    ("libvirt", "libvirt", "libvirtd.service"),
    ("open-vswitch", "Open vSwitch", "ovs-vswitchd.service"),
    ("ovn-northbound", "OVN northbound database", "ovn-ovsdb-server-nb.service"),
    ("ovn-southbound", "OVN southbound database", "ovn-ovsdb-server-sb.service"),
    ("ovn-northd", "OVN northd", "ovn-northd.service"),
    ("ovn-controller", "OVN controller", "ovn-controller.service"),
];

impl Kind {
    pub(crate) fn of(kind: TaskKind) -> &'static Self {
        // Every kind is in the table; a test sees to it.
        KINDS.iter().find(|known| known.kind == kind).unwrap_or(&KINDS[0])
    }

    /// What is done, for people.
    pub(crate) fn title(&self, object_name: &str, params: &Value) -> String {
        match self.kind {
            TaskKind::MoveVdcRole => format!("Move the vDC role to {object_name}"),
            TaskKind::RemoveHost => format!("Remove {object_name} from the cluster"),
            TaskKind::RestartHost => format!("Restart {object_name}"),
            TaskKind::ShutDownHost => format!("Shut down {object_name}"),
            TaskKind::RestartServices => match services(params).as_slice() {
                [(_, title, _)] => format!("Restart {title} on {object_name}"),
                several => format!("Restart {} services on {object_name}", several.len()),
            },
            TaskKind::SupportBundle => format!("Support bundle of {object_name}"),
        }
    }

    /// What it consists of.
    pub(crate) fn steps(&self, params: &Value) -> Vec<String> {
        let steps = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match self.kind {
            TaskKind::MoveVdcRole => steps(&["Let the other host lead"]),
            TaskKind::RemoveHost => steps(&["Take back its key", "Withdraw its vote and its place"]),
            TaskKind::RestartHost => steps(&["Hand over the vDC role", "Restart"]),
            TaskKind::ShutDownHost => steps(&["Hand over the vDC role", "Switch off"]),
            TaskKind::RestartServices => {
                services(params).iter().map(|(_, title, _)| format!("Restart {title}")).collect()
            }
            TaskKind::SupportBundle => {
                steps(&["Collect versions and state", "Collect the journal", "Close the file"])
            }
        }
    }

    /// What came of it when it went well.
    pub(crate) fn done(&self, object_name: &str) -> String {
        match self.kind {
            TaskKind::MoveVdcRole => format!("{object_name} has the vDC role."),
            TaskKind::RemoveHost => format!("{object_name} is no longer a host of the cluster."),
            TaskKind::RestartHost => format!("{object_name} has restarted."),
            TaskKind::ShutDownHost => format!("{object_name} was switched off."),
            TaskKind::RestartServices => "They answer again.".to_owned(),
            TaskKind::SupportBundle => "The file is there for a day.".to_owned(),
        }
    }
}

/// The services of a task that restarts some.
pub(crate) fn services(params: &Value) -> Vec<(&'static str, &'static str, &'static str)> {
    let wanted = params.get("services").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted.as_str() == Some(name));
    SERVICES.into_iter().filter(|(name, ..)| is_wanted(name)).collect()
}

/// How the host stands that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It does not belong to the cluster any more.
    Removed,
    /// It was last heard so long ago.
    Silent(Duration),
}

/// What the leader makes of a task whose owner does not get on with it: the state it ends in, and the sentence.
pub(crate) fn given_up(
    kind: &Kind,
    state: TaskState,
    last_step_begun: bool,
    object_name: &str,
    owner: Owner,
    age: Duration,
) -> Option<(TaskState, String)> {
    let silent = match owner {
        Owner::Removed => {
            return Some((TaskState::Failed, format!("{object_name} was removed from the cluster.")));
        }
        Owner::Silent(silent) => silent,
    };
    match (kind.kind, state) {
        (_, TaskState::Waiting) if silent >= kind.begins_within && age >= kind.begins_within => {
            Some((TaskState::Failed, format!("{object_name} does not answer; nothing was begun.")))
        }
        (TaskKind::ShutDownHost, TaskState::Running) if last_step_begun && silent >= IS_OFF_AFTER => {
            Some((TaskState::Done, format!("{object_name} no longer answers: it is off.")))
        }
        (TaskKind::RestartHost, TaskState::Running) if silent >= COMES_BACK_WITHIN => Some((
            TaskState::Failed,
            format!(
                "{object_name} has not come back for {} minutes. Look at its screen.",
                COMES_BACK_WITHIN.as_secs() / 60
            ),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_is_in_the_table_and_has_steps() {
        let params = json!({"services": ["libvirt", "ovn-northd", "sshd"]});
        for kind in TaskKind::ALL {
            let known = Kind::of(kind);
            assert_eq!(known.kind, kind);
            assert!(!known.steps(&params).is_empty(), "{kind:?}");
            assert_eq!(TaskKind::of(kind.name()), Some(kind));
        }
        assert_eq!(
            Kind::of(TaskKind::RestartServices).steps(&params),
            ["Restart libvirt", "Restart OVN northd"]
        );
    }

    #[test]
    fn a_host_that_is_gone_keeps_no_task_open() {
        let check = |kind, state, begun, owner, age: u64| {
            given_up(Kind::of(kind), state, begun, "qx-1", owner, Duration::from_secs(age)).map(|end| end.0)
        };
        let silent = |seconds| Owner::Silent(Duration::from_secs(seconds));
        use TaskKind::{RestartHost, ShutDownHost, SupportBundle};
        use TaskState::{Done, Failed, Running, Waiting};
        for kind in TaskKind::ALL {
            assert_eq!(check(kind, Running, false, Owner::Removed, 0), Some(Failed));
            assert_eq!(check(kind, Waiting, false, silent(60), 60), Some(Failed));
            // It was only made, or its owner is there and has more to do.
            assert_eq!(check(kind, Waiting, false, silent(60), 1), None);
            assert_eq!(check(kind, Waiting, false, silent(1), 60), None);
        }
        assert_eq!(check(ShutDownHost, Running, true, silent(11), 20), Some(Done));
        assert_eq!(check(ShutDownHost, Running, false, silent(11), 20), None);
        assert_eq!(check(RestartHost, Running, true, silent(300), 300), None);
        assert_eq!(check(RestartHost, Running, true, silent(1201), 1300), Some(Failed));
        // It goes on, or back, when its host returns.
        assert_eq!(check(SupportBundle, Running, true, silent(5000), 5000), None);
    }
}
