//! Virtual machines: the list with its folders, a machine, and the form that makes one step after step, or changes it.

mod choices;
mod cloud_init;
mod disks;
mod form;
mod found;
mod list;
mod machine;
mod password;
mod schedules;
mod snapshots;
mod wizard;

pub(crate) use cloud_init::{cloud_init_page, fetch_keys, remove_cloud_init, set_cloud_init};
pub(crate) use disks::{add_disk, let_go, let_go_page};
pub(crate) use form::{edit, edit_page, make, new_page};
pub(crate) use found::{found_page, import, import_page};
pub(crate) use list::{folder, make_folder, many, page};
pub(crate) use machine::{deed, power, remove, remove_page, vm_page};
pub(crate) use password::{password_page, set_password};
pub(crate) use schedules::{make_schedule, remove_schedule};
pub(crate) use snapshots::{
    change_snapshot, clone, clone_page, drop_page, drop_snapshot, make_snapshot, revert, revert_page,
    snapshot_page, snapshots_page,
};
pub(crate) use wizard::check;

use axum::response::{IntoResponse, Response};
use quantix_api::{CallError, Problem, ProblemCode, Vm, VmAction, VmState, calls};

use crate::{component::Standing, frame::Frame, problem::Page, session::turned_away, web::Web};

/// The machine that a page is about, or what is answered instead.
async fn machine_of(web: &Web, frame: &Frame, id: &str) -> Result<Vm, Response> {
    match web.agent.call(&calls::vm(id).as_session(frame.token())).await {
        Ok(vm) => Ok(vm),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Err(Page::not_found().into_response())
        }
        Err(error) => Err(turned_away(&error)),
    }
}

/// A machine's state as a dot with words.
fn standing(vm: &Vm) -> Standing {
    match vm.state {
        VmState::Stopped if vm.policy.template => Standing::idle("Template"),
        VmState::Stopped if vm.should_be().is_some() => Standing::warn("Off, and should be on"),
        VmState::Stopped => Standing::idle("Off"),
        VmState::Starting => Standing::busy("Is being started"),
        VmState::Running if vm.should_be().is_some() => Standing::warn("Running, and should be off"),
        VmState::Running => Standing::ok("Running"),
        VmState::Paused => Standing::warn("Stands still"),
        VmState::Suspended => Standing::idle("Suspended"),
        VmState::Stopping => Standing::busy("Is ending"),
        VmState::Crashed => Standing::bad("Crashed"),
        VmState::Unknown => Standing::bad("Its host is lost"),
    }
}

/// What can be done with a machine, in the order of its buttons: the action, its words, its icon, and its look.
const ACTIONS: [(VmAction, &str, &str, &str); 8] = [
    (VmAction::Start, "Start", "play", "primary"),
    (VmAction::Resume, "Resume", "play", "primary"),
    (VmAction::ShutDown, "Shut down", "power", ""),
    (VmAction::Reboot, "Reboot", "rotate-cw", ""),
    (VmAction::Pause, "Pause", "pause", ""),
    (VmAction::Suspend, "Suspend", "moon", ""),
    (VmAction::Reset, "Reset", "zap", "danger"),
    (VmAction::ForceStop, "Force off", "square", "danger"),
];

/// Whether a button for something makes sense for a machine now.
fn fits(action: VmAction, vm: &Vm) -> bool {
    // Whoever is starting it is waited for.
    makes_sense(action, vm.state) && (vm.state != VmState::Starting || vm.task.is_none())
}

/// Whether a button for something makes sense in a state. The agent decides again, and says why not.
fn makes_sense(action: VmAction, state: VmState) -> bool {
    use VmAction::{ForceStop, Pause, Reboot, Reset, Resume, ShutDown, Start, Suspend};
    match state {
        VmState::Stopped | VmState::Crashed => action == Start,
        VmState::Suspended => matches!(action, Start | ForceStop),
        VmState::Running => matches!(action, ShutDown | Reboot | Pause | Suspend | Reset | ForceStop),
        VmState::Paused => matches!(action, Resume | Suspend | Reset | ForceStop),
        // While a guest is asked to end nothing else is done with its machine.
        VmState::Stopping | VmState::Starting => action == ForceStop,
        VmState::Unknown => false,
    }
}

/// What was begun, for people.
fn begun(action: VmAction, name: &str) -> String {
    match action {
        VmAction::Start => format!("{name} is being started."),
        VmAction::ShutDown => format!("The guest of {name} was asked to end."),
        VmAction::Reboot => format!("The guest of {name} is asked to start anew."),
        VmAction::ForceStop => format!("{name} is being switched off."),
        VmAction::Reset => format!("{name} starts anew."),
        VmAction::Pause => format!("{name} is made to stand still."),
        VmAction::Resume => format!("{name} goes on."),
        VmAction::Suspend => format!("The memory of {name} is being put on disk."),
        VmAction::Delete => format!("{name} is being removed."),
    }
}

/// A problem with one card or one label is shown beside the field in which all of them are.
fn beside_its_field(mut problem: Problem) -> Problem {
    for field in ["spec.nics", "spec.cds", "spec.cpu", "policy.labels"] {
        // How far it can grow has a field of its own.
        let is_of_it = |of: &str| of.starts_with(field) && !matches!(of, "spec.cpu.most" | "spec.cpu.named");
        if problem.field.as_deref().is_some_and(is_of_it) {
            problem.field = Some(if field == "spec.cpu" { "spec.cpu.cores" } else { field }.to_owned());
        }
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_button_in_every_state_but_of_a_lost_host() {
        for state in VmState::ALL {
            let any = ACTIONS.iter().any(|(action, ..)| makes_sense(*action, state));
            assert_eq!(any, state != VmState::Unknown, "{state:?}");
        }
    }
}
