//! How a host sees one of its machines, as it tells whoever leads.

use quantix_api::{Problem, ProblemCode, Severity, TaskKind, VmGuest, VmSpec, VmState};
use quantix_store::HostId;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{
    disks,
    kept::{self, Kept},
};
use crate::{
    cluster::Refused,
    events::{self, Happened},
    storage::volumes,
};

/// Sentences about what differs; more help nobody.
pub(super) const MOST_DIFFERENCES: usize = 20;

const CANNOT_WRITE: &str = "It stands still because one of its disks could not be written: there is no room left in the pool. \
                            Nothing that it wrote is lost. Make room, and let it go on.";

/// How a host sees one of its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sighting {
    pub(crate) vm: String,
    pub(crate) state: VmState,
    pub(crate) more: More,
}

/// What is known of a machine besides its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct More {
    /// Which description of it libvirt has.
    pub(crate) described: u64,
    /// What libvirt calls it.
    pub(crate) called: String,
    /// What it is, if it is on or its memory is on disk: as it was started, with what was changed of it since.
    pub(crate) running: Option<VmSpec>,
    /// Whether its processor is imitated.
    pub(crate) is_emulated: bool,
    /// How libvirt's description differs.
    pub(crate) drift: Vec<String>,
    /// What libvirt has, if that differs and can be adopted.
    pub(crate) theirs: Option<VmSpec>,
    /// What is wrong with its description.
    pub(crate) trouble: String,
    /// Whether it stands still because one of its disks could not be written.
    pub(crate) cannot_write: bool,
    /// What its guest tells of itself.
    pub(crate) guest: Option<VmGuest>,
}

impl More {
    /// What is wrong with it.
    pub(crate) fn trouble(&self) -> String {
        if self.cannot_write { CANNOT_WRITE.to_owned() } else { self.trouble.clone() }
    }
}

impl Sighting {
    fn check(&self) -> Result<(), Problem> {
        let is_bounded = self.more.drift.len() <= MOST_DIFFERENCES
            && self.more.trouble.len() <= 2000
            && self.more.called.len() <= 1000
            && self.more.drift.iter().all(|sentence| sentence.len() <= 4000);
        if is_bounded {
            return Ok(());
        }
        Err(Problem::new(ProblemCode::Malformed, "More is told of a machine than can be kept."))
    }
}

/// The key of the event that a machine ended by itself.
fn crashed_key(id: &str) -> String {
    format!("vm/{id}/crashed")
}

/// The key of the event that a machine stands still because it cannot write.
fn cannot_write_key(id: &str) -> String {
    format!("vm/{id}/cannot-write")
}

fn happened(vm: &Kept, key: String, severity: Severity, sentence: String) -> Happened {
    Happened {
        key,
        severity,
        component: "virtual machines".to_owned(),
        object: vm.scope().to_string(),
        host: vm.host_name.clone(),
        sentence,
        is_lasting: true,
    }
}

/// Takes in how a host sees a machine. What is not on that host is none of its business.
pub(crate) fn take(
    connection: &Connection,
    host: HostId,
    sighting: &Sighting,
    now_ms: i64,
) -> Result<(), Refused> {
    sighting.check()?;
    let Some(vm) = kept::find(connection, &sighting.vm)?.filter(|vm| vm.host == host) else { return Ok(()) };
    if vm.seen == sighting.state && vm.more == sighting.more {
        return Ok(());
    }
    // A form of JSON is there for all of it.
    let more = serde_json::to_string(&sighting.more).unwrap_or_default();
    let since = if vm.seen == sighting.state { vm.since_ms } else { now_ms };
    connection
        .prepare_cached(
            "INSERT INTO vm_seen (vm, state, since, more) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (vm) DO UPDATE SET state = excluded.state, since = excluded.since, more = excluded.more",
        )?
        .execute(params![sighting.vm, sighting.state.name(), since, more])?;
    if vm.is_giving_back() {
        let held = disks::held(&vm.spec, sighting.more.running.as_ref());
        volumes::give_to(connection, &sighting.vm, &held)?;
    }
    if sighting.more.cannot_write {
        let sentence = format!(
            "{} stands still because one of its disks could not be written. Make room in the pool, and let it go on.",
            vm.spec.name
        );
        let happened = happened(&vm, cannot_write_key(&sighting.vm), Severity::Error, sentence);
        events::raise(connection, &happened, now_ms)?;
    } else if vm.more.cannot_write {
        events::clear(connection, &cannot_write_key(&sighting.vm), now_ms)?;
    }
    if vm.seen == sighting.state {
        return Ok(());
    }
    // One that runs already when it is imported is meant to.
    if sighting.state.is_on() && matches!(vm.task, Some((_, TaskKind::ImportVm))) {
        kept::want(connection, &sighting.vm, true)?;
    }
    // Its guest ended it, or somebody on the host did.
    if sighting.state == VmState::Stopped && vm.seen.is_on() && vm.task.is_none() {
        kept::want(connection, &sighting.vm, false)?;
    }
    match sighting.state {
        VmState::Crashed => {
            let sentence = format!("{} ended in a way it should not.", vm.spec.name);
            let happened = happened(&vm, crashed_key(&sighting.vm), Severity::Error, sentence);
            events::raise(connection, &happened, now_ms)
        }
        _ => events::clear(connection, &crashed_key(&sighting.vm), now_ms),
    }
}

/// What is open about a machine is over with it.
pub(crate) fn forget(connection: &Connection, id: &str, now_ms: i64) -> Result<(), Refused> {
    events::clear(connection, &cannot_write_key(id), now_ms)?;
    events::clear(connection, &crashed_key(id), now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{HOST, machine};

    fn sees(connection: &Connection, id: &str, state: VmState) {
        let sighting = Sighting { vm: id.into(), state, more: More::default() };
        take(connection, HOST, &sighting, 1000).unwrap();
    }

    fn is_wanted(connection: &Connection, id: &str) -> bool {
        kept::one(connection, id).unwrap().is_wanted_on
    }

    #[test]
    fn a_guest_that_ends_itself_is_wanted_off_and_one_that_crashes_is_not() {
        let (connection, id) = machine("web-01");
        kept::want(&connection, &id, true).unwrap();
        sees(&connection, &id, VmState::Running);
        sees(&connection, &id, VmState::Crashed);
        assert!(is_wanted(&connection, &id));
        let open = |connection: &Connection| events::open_below(connection, "vm/").unwrap().len();
        assert_eq!(open(&connection), 1);
        sees(&connection, &id, VmState::Running);
        assert_eq!(open(&connection), 0);
        sees(&connection, &id, VmState::Stopped);
        assert!(!is_wanted(&connection, &id));
    }

    #[test]
    fn a_host_tells_of_its_own_machines_only() {
        let (connection, id) = machine("web-01");
        let sighting = Sighting { vm: id.clone(), state: VmState::Running, more: More::default() };
        take(&connection, HostId(99), &sighting, 1000).unwrap();
        assert_eq!(kept::one(&connection, &id).unwrap().seen, VmState::Stopped);
        let long = More { trouble: "x".repeat(5000), ..More::default() };
        let sighting = Sighting { more: long, ..sighting };
        assert!(take(&connection, HOST, &sighting, 1000).is_err());
    }
}
