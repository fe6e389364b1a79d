//! What can be done with a machine in which state. Whatever cannot is refused with the reason, and with what to do.

use quantix_api::{VmAction, VmState};

/// Why something cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// Whether something can be done with a machine that is in a state.
pub fn allowed(action: VmAction, state: VmState) -> Result<(), Refused> {
    use VmAction::{Delete, ForceStop, Pause, Reboot, Reset, Resume, ShutDown, Start, Suspend};
    use VmState::{Crashed, Paused, Running, Starting, Stopped, Stopping, Suspended, Unknown};
    const OFF: &str = "It is off. Start it first.";
    const ASLEEP: &str = "It is suspended. Start it to wake it, or force it off to give up its memory.";
    const STANDS: &str = "It stands still. Resume it first.";
    const STARTS: &str = "It is being started. Wait until it runs, or force it off.";
    const ENDS: &str = "Its guest is ending. Wait until it is off, or force it off.";
    let refusal = match (action, state) {
        (_, Unknown) => "Its host does not answer, so nobody knows how it is. Wait for the host.",

        (Start, Stopped | Suspended | Crashed) => return Ok(()),
        (Start, Running) => "It is running already.",
        (Start, Paused) => STANDS,
        (Start, Starting) => "It is being started already.",
        (Start, Stopping) => ENDS,

        (ShutDown | Reboot | Suspend | Pause | Reset, Running) => return Ok(()),
        // A guest that does not end is helped on.
        (ShutDown | Reset, Stopping) => return Ok(()),
        (Reset, Paused) => return Ok(()),
        (Suspend, Paused) => return Ok(()),
        (Pause, Paused) => "It stands still already.",
        (Suspend, Suspended) => "It is suspended already.",
        (ShutDown, Stopped | Crashed) => "It is off already.",
        (ShutDown | Reboot, Paused) => STANDS,
        (Reboot | Reset | Pause | Suspend, Stopped | Crashed) => OFF,
        (ShutDown | Reboot | Reset | Pause, Suspended) => ASLEEP,
        (ShutDown | Reboot | Reset | Pause | Suspend, Starting) => STARTS,
        (Reboot | Pause | Suspend, Stopping) => ENDS,

        (Resume, Paused) => return Ok(()),
        (Resume, Running | Starting | Stopping) => "It does not stand still.",
        (Resume, Stopped | Crashed) => OFF,
        (Resume, Suspended) => ASLEEP,

        (ForceStop, Running | Paused | Starting | Stopping | Suspended) => return Ok(()),
        (ForceStop, Stopped | Crashed) => "It is off already.",

        (Delete, Stopped | Crashed | Suspended) => return Ok(()),
        (Delete, Running | Paused | Starting | Stopping) => "It is on. Shut it down or force it off first.",
    };
    Err(Refused(refusal))
}

/// Whether the state of a machine can be held while it is in one of its states; with its memory, if so.
pub fn allows_hold(state: VmState, with_memory: bool) -> Result<(), Refused> {
    let refusal = match (state, with_memory) {
        (VmState::Unknown, _) => "Its host does not answer, so nobody knows how it is. Wait for the host.",
        (VmState::Running | VmState::Paused, _) | (VmState::Stopped | VmState::Crashed, false) => {
            return Ok(());
        }
        (VmState::Stopped | VmState::Crashed, true) => {
            "It is off, and has no memory that could be held. Hold its disks alone, or start it first."
        }
        (VmState::Suspended, _) => {
            "It is suspended: its memory is on disk and belongs to its disks as they are. Start it to wake it first."
        }
        (VmState::Starting, _) => "It is being started. Wait until it runs.",
        (VmState::Stopping, _) => "Its guest is ending. Wait until it is off.",
    };
    Err(Refused(refusal))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn every_action_from_every_state() {
        let mut table = String::new();
        for action in VmAction::ALL {
            for state in VmState::ALL {
                let said =
                    allowed(action, state).map_or_else(|refused| refused.to_string(), |()| "yes".into());
                writeln!(table, "{:10} {:10} {said}", format!("{action:?}"), format!("{state:?}")).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn holding_from_every_state() {
        let mut table = String::new();
        for with_memory in [false, true] {
            for state in VmState::ALL {
                let said = allows_hold(state, with_memory)
                    .map_or_else(|refused| refused.to_string(), |()| "yes".into());
                let what = if with_memory { "memory" } else { "disks" };
                writeln!(table, "{what:6} {:10} {said}", format!("{state:?}")).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn from_every_state_something_can_be_done_but_of_a_lost_host() {
        for state in VmState::ALL {
            let any = VmAction::ALL.into_iter().any(|action| allowed(action, state).is_ok());
            assert_eq!(any, state != VmState::Unknown, "{state:?}");
        }
    }
}
