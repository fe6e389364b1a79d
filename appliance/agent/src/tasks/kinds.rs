//! The kinds of tasks: for each what it is called, who does it, what it consists of, and what may be done to it.

use std::time::Duration;

use quantix_api::{Right, TaskKind, TaskState, VmAction};
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

const KINDS: [Kind; 31] = [
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
    Kind { cancel_until: usize::MAX, stays: false, ..of_vm(TaskKind::CreateVm, Right::ManageVms) },
    // What libvirt has been told of its volumes is not taken back: it goes on.
    Kind { cancel_until: 1, stays: false, ..of_vm(TaskKind::ImportVm, Right::ManageVms) },
    of_vm(TaskKind::StartVm, Right::OperateVms),
    Kind { cancel_until: usize::MAX, ..of_vm(TaskKind::ShutDownVm, Right::OperateVms) },
    // Nobody knows whether the guest has begun anew already.
    Kind { after_crash: AfterCrash::GoesBack, ..of_vm(TaskKind::RebootVm, Right::OperateVms) },
    of_vm(TaskKind::ForceStopVm, Right::OperateVms),
    Kind { after_crash: AfterCrash::GoesBack, ..of_vm(TaskKind::ResetVm, Right::OperateVms) },
    of_vm(TaskKind::PauseVm, Right::OperateVms),
    of_vm(TaskKind::ResumeVm, Right::OperateVms),
    of_vm(TaskKind::SuspendVm, Right::OperateVms),
    of_vm(TaskKind::DeleteVm, Right::ManageVms),
    // What was laid for one attempt may have been written to: another attempt is asked for anew.
    Kind {
        cancel_until: usize::MAX,
        stays: false,
        can_retry: false,
        ..of_vm(TaskKind::SnapshotVm, Right::ManageVms)
    },
    Kind { can_retry: false, ..of_vm(TaskKind::RevertVm, Right::ManageVms) },
    // What was not put together yet is put together with the next one.
    Kind { cancel_until: usize::MAX, ..of_vm(TaskKind::DeleteSnapshot, Right::ManageVms) },
    Kind { cancel_until: usize::MAX, stays: false, ..of_vm(TaskKind::CreateVolume, Right::ManageVms) },
    of_vm(TaskKind::GrowVolume, Right::ManageVms),
    // Once its guest has gone over, what is left is cleared away. It has a new layer each time.
    Kind { cancel_until: 1, stays: false, can_retry: false, ..of_vm(TaskKind::MoveVolume, Right::ManageVms) },
    of_vm(TaskKind::DeleteVolume, Right::ManageVms),
    // It has a new id each time.
    Kind { stays: false, can_retry: false, ..of_vm(TaskKind::CreatePool, Right::ManageStorage) },
    // The place of its disks is given up when it fails.
    Kind { stays: false, can_retry: false, ..of_vm(TaskKind::GrowPool, Right::ManageStorage) },
    of_vm(TaskKind::DeletePool, Right::ManageStorage),
    of_vm(TaskKind::RemoveFile, Right::ManageStorage),
    // What has come is removed when it fails: nothing is left to try again with.
    Kind {
        cancel_until: usize::MAX,
        stays: false,
        can_retry: false,
        ..of_vm(TaskKind::CreateImage, Right::ManageStorage)
    },
    Kind {
        cancel_until: usize::MAX,
        stays: false,
        can_retry: false,
        ..of_vm(TaskKind::FetchImage, Right::ManageStorage)
    },
    of_vm(TaskKind::DeleteImage, Right::ManageStorage),
];

/// What is usual for what is done with a virtual machine or a volume: it goes on after a crash, and there is nothing to undo.
const fn of_vm(kind: TaskKind, right: Right) -> Kind {
    Kind {
        kind,
        doer: Doer::Host,
        right,
        after_crash: AfterCrash::GoesOn,
        cancel_until: 0,
        stays: true,
        can_retry: true,
        is_exclusive: true,
        begins_within: SOON,
    }
}

/// The task by which something is done with a virtual machine.
pub(crate) fn of_action(action: VmAction) -> TaskKind {
    match action {
        VmAction::Start => TaskKind::StartVm,
        VmAction::ShutDown => TaskKind::ShutDownVm,
        VmAction::Reboot => TaskKind::RebootVm,
        VmAction::ForceStop => TaskKind::ForceStopVm,
        VmAction::Reset => TaskKind::ResetVm,
        VmAction::Pause => TaskKind::PauseVm,
        VmAction::Resume => TaskKind::ResumeVm,
        VmAction::Suspend => TaskKind::SuspendVm,
        VmAction::Delete => TaskKind::DeleteVm,
    }
}

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
        let text = |name: &str| params.get(name).and_then(Value::as_str);
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
            TaskKind::CreateVm => format!("Create {object_name}"),
            TaskKind::ImportVm => format!("Import {object_name}"),
            TaskKind::StartVm => format!("Start {object_name}"),
            TaskKind::ShutDownVm => format!("Shut down {object_name}"),
            TaskKind::RebootVm => format!("Reboot {object_name}"),
            TaskKind::ForceStopVm => format!("Force off {object_name}"),
            TaskKind::ResetVm => format!("Reset {object_name}"),
            TaskKind::PauseVm => format!("Pause {object_name}"),
            TaskKind::ResumeVm => format!("Resume {object_name}"),
            TaskKind::SuspendVm => format!("Suspend {object_name}"),
            TaskKind::DeleteVm => format!("Delete {object_name}"),
            TaskKind::SnapshotVm => {
                format!("Make the snapshot {} of {object_name}", text("name").unwrap_or(""))
            }
            TaskKind::RevertVm => {
                format!("Take {object_name} back to {}", text("name").unwrap_or("a snapshot"))
            }
            TaskKind::DeleteSnapshot => {
                format!("Delete the snapshot {} of {object_name}", text("name").unwrap_or(""))
            }
            TaskKind::CreateVolume => format!("Create the volume {}", text("name").unwrap_or(object_name)),
            TaskKind::GrowVolume => format!("Grow the volume {}", text("name").unwrap_or(object_name)),
            TaskKind::DeleteVolume => format!("Delete the volume {object_name}"),
            TaskKind::MoveVolume => format!(
                "Move the volume {} to {}",
                text("name").unwrap_or(object_name),
                text("pool_name").unwrap_or("another pool")
            ),
            TaskKind::CreatePool => format!("Create the pool {object_name}"),
            TaskKind::GrowPool => format!("Add disks to the pool {object_name}"),
            TaskKind::DeletePool => format!("Delete the pool {object_name}"),
            TaskKind::RemoveFile => {
                format!("Remove the file {} of the pool {object_name}", text("path").unwrap_or(""))
            }
            TaskKind::CreateImage => format!("Create the image {object_name}"),
            TaskKind::FetchImage => format!("Fetch the image {object_name}"),
            TaskKind::DeleteImage => format!("Delete the image {object_name}"),
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
            TaskKind::CreateVm if has_volumes(params) => steps(&["Make its disks", "Describe it to libvirt"]),
            TaskKind::CreateVm => steps(&["Describe it to libvirt"]),
            TaskKind::ImportVm if has_volumes(params) => {
                steps(&["Make its disks volumes", "Describe it to libvirt with them"])
            }
            TaskKind::ImportVm => steps(&["Describe it to libvirt"]),
            TaskKind::StartVm => steps(&["Switch it on"]),
            TaskKind::ShutDownVm => steps(&["Ask its guest to end", "Wait until it is off"]),
            TaskKind::RebootVm => steps(&["Ask its guest to start anew"]),
            TaskKind::ForceStopVm => steps(&["Switch it off"]),
            TaskKind::ResetVm => steps(&["Start it anew"]),
            TaskKind::PauseVm => steps(&["Let it stand still"]),
            TaskKind::ResumeVm => steps(&["Let it go on"]),
            TaskKind::SuspendVm => steps(&["Put its memory on disk"]),
            TaskKind::DeleteVm if has_volumes(params) => {
                steps(&["Take it from libvirt", "Remove its disks", "Forget it"])
            }
            TaskKind::DeleteVm => steps(&["Take it from libvirt", "Forget it"]),
            TaskKind::SnapshotVm => steps(&["Lay new layers on its disks", "Hold its state"]),
            TaskKind::RevertVm => {
                let mut all = vec!["Switch it off", "Lay new layers on its disks of then"];
                all.extend(match revert_ends(params) {
                    RevertEnds::Woken => &["Wake it", "Let it go on"][..],
                    RevertEnds::Started => &["Switch it on"],
                    RevertEnds::Off => &[],
                });
                all.push("Clear away what it was meanwhile");
                steps(&all)
            }
            TaskKind::DeleteSnapshot => steps(&["Forget it", "Put the layers together that it held apart"]),
            TaskKind::CreateVolume => steps(&["Make it"]),
            TaskKind::GrowVolume => steps(&["Make it bigger"]),
            TaskKind::MoveVolume => steps(&["Copy it and go on with the copy", "Remove what it was"]),
            TaskKind::CreatePool => steps(&["Make it of its disks"]),
            TaskKind::GrowPool => steps(&["Make it bigger by the disks"]),
            TaskKind::RemoveFile => steps(&["Remove it"]),
            TaskKind::CreateImage => steps(&["Check its sum", "Look at it and write it as it is kept"]),
            TaskKind::FetchImage => {
                steps(&["Fetch its file", "Check its sum", "Look at it and write it as it is kept"])
            }
            TaskKind::DeleteVolume | TaskKind::DeletePool | TaskKind::DeleteImage => {
                steps(&["Remove it", "Forget it"])
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
            TaskKind::CreateVm => format!("{object_name} is made."),
            TaskKind::ImportVm => format!(
                "{object_name} is among the machines. Files that were copied are still where they were."
            ),
            TaskKind::StartVm => format!("{object_name} is on."),
            TaskKind::ShutDownVm | TaskKind::ForceStopVm => format!("{object_name} is off."),
            TaskKind::RebootVm => format!("The guest of {object_name} was asked to start anew."),
            TaskKind::ResetVm => format!("{object_name} starts anew."),
            TaskKind::PauseVm => format!("{object_name} stands still."),
            TaskKind::ResumeVm => format!("{object_name} goes on."),
            TaskKind::SuspendVm => format!("{object_name} is off, its memory on disk."),
            TaskKind::DeleteVm => format!("{object_name} is removed."),
            TaskKind::SnapshotVm => "The snapshot is made.".to_owned(),
            TaskKind::RevertVm => format!("{object_name} is what it was."),
            TaskKind::DeleteSnapshot => "The snapshot is removed.".to_owned(),
            TaskKind::CreateVolume => "The volume is made.".to_owned(),
            TaskKind::GrowVolume => "It is bigger now. Its guest has to make use of that.".to_owned(),
            TaskKind::DeleteVolume => format!("The volume {object_name} is removed."),
            TaskKind::MoveVolume => "It is in the other pool.".to_owned(),
            TaskKind::CreatePool => "Volumes can be made in it.".to_owned(),
            TaskKind::GrowPool => "It has more room now.".to_owned(),
            TaskKind::DeletePool => format!("The pool {object_name} is removed, and its disks are empty."),
            TaskKind::RemoveFile => "The file is removed.".to_owned(),
            TaskKind::CreateImage | TaskKind::FetchImage => "Disks can begin as copies of it.".to_owned(),
            TaskKind::DeleteImage => format!("The image {object_name} is removed."),
        }
    }
}

/// How a machine is after it was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RevertEnds {
    /// It goes on from where it was.
    Woken,
    /// It is started.
    Started,
    /// It is off.
    Off,
}

/// How a machine is after a task that takes it back.
pub(crate) fn revert_ends(params: &Value) -> RevertEnds {
    let is = |name: &str| params.get(name).and_then(Value::as_bool).unwrap_or(false);
    match (is("memory"), is("start")) {
        (true, _) => RevertEnds::Woken,
        (false, true) => RevertEnds::Started,
        (false, false) => RevertEnds::Off,
    }
}

/// Whether volumes come or go with a machine.
pub(crate) fn has_volumes(params: &Value) -> bool {
    params.get("volumes").and_then(Value::as_array).is_some_and(|volumes| !volumes.is_empty())
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
    let host = if matches!(kind.right, Right::OperateVms | Right::ManageVms | Right::ManageStorage) {
        "Its host"
    } else {
        object_name
    };
    let silent = match owner {
        Owner::Removed => {
            return Some((TaskState::Failed, format!("{host} was removed from the cluster.")));
        }
        Owner::Silent(silent) => silent,
    };
    match (kind.kind, state) {
        (_, TaskState::Waiting) if silent >= kind.begins_within && age >= kind.begins_within => {
            Some((TaskState::Failed, format!("{host} does not answer; nothing was begun.")))
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
