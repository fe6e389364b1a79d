//! What each host does so that its machines are as they shall be: it describes to libvirt what that does not know or knows
//! otherwise, and tells whoever leads how they are. Nothing is asked again and again: libvirt tells what happens, and the
//! feed what is wanted.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use quantix_api::{Problem, VmState};
use quantix_compute::{Accelerator, Drawn, Failed, Happened, Seen as SeenVm, VmId, domain_name, draw};
use quantix_store::{Seen, Store};
use rusqlite::{Connection, types::Value};
use tokio::sync::broadcast::error::RecvError;

use super::{
    kept::{self, Kept},
    sighting::{More, Sighting},
};
use crate::{api::Agent, lock};

/// What could not be looked at, or told, is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// Whether libvirt is still there is asked so often: nothing tells when it is not.
const IS_THERE: Duration = Duration::from_secs(5);
/// Everything is looked at so often, whatever was told.
const EVERYTHING: Duration = Duration::from_secs(5 * 60);

/// What each machine was described with, since this program runs.
pub(crate) type Accelerators = Mutex<HashMap<VmId, Accelerator>>;

/// What is to be looked at.
#[derive(Debug)]
enum Look {
    Everything,
    These(HashSet<VmId>),
}

/// Why a machine was not described.
#[derive(Debug)]
pub(crate) enum NotDescribed {
    /// libvirt will not have it like this.
    Refused(String),
    /// It could not be told now.
    Later(String),
}

impl From<String> for NotDescribed {
    fn from(why: String) -> Self {
        Self::Later(why)
    }
}

impl From<NotDescribed> for String {
    fn from(not: NotDescribed) -> Self {
        match not {
            NotDescribed::Refused(why) | NotDescribed::Later(why) => why,
        }
    }
}

impl Look {
    fn is_empty(&self) -> bool {
        matches!(self, Self::These(these) if these.is_empty())
    }

    fn at(&mut self, id: VmId) {
        if let Self::These(these) = self {
            these.insert(id);
        }
    }
}

impl Agent {
    /// Keeps this host's machines as they shall be, for as long as the program runs.
    pub(crate) async fn keep_vms(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let mut events = self.libvirt.events();
        let mut connections = self.libvirt.connections();
        let mut watch = store.watch(store.applied());
        let mut look = Look::Everything;
        // With these something was being done.
        let mut passed_over = HashSet::new();
        let mut all_at = tokio::time::interval(EVERYTHING);
        let mut there_at = tokio::time::interval(IS_THERE);
        all_at.reset();
        loop {
            if !look.is_empty() {
                look = self.look_at_vms(&store, look, &mut passed_over).await;
            }
            let waits = !look.is_empty();
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) if event.happened == Happened::Agent => {}
                    Ok(event) => look.at(event.id),
                    Err(RecvError::Lagged(_)) => look = Look::Everything,
                    Err(RecvError::Closed) => return,
                },
                seen = watch.next() => match seen {
                    Seen::Resync(_) => look = Look::Everything,
                    Seen::Changes(changes) => {
                        if changes.rows.iter().any(|row| &*row.table == "task") {
                            passed_over.drain().for_each(|id| look.at(id));
                        }
                        for row in changes.rows.iter().filter(|row| &*row.table == "vm") {
                            if let Some(Value::Text(id)) = row.key.first() && let Ok(id) = id.parse() {
                                look.at(id);
                            }
                        }
                    }
                },
                // What happened while nobody listened was told to nobody.
                _ = connections.changed() => look = Look::Everything,
                _ = there_at.tick() => drop(self.libvirt.version().await),
                () = self.vms_changed.notified() => look = Look::Everything,
                _ = all_at.tick() => look = Look::Everything,
                () = tokio::time::sleep(AGAIN), if waits => {}
            }
        }
    }

    /// Looks at machines, and gives those that could not be looked at. Those with which something is being done are passed over.
    async fn look_at_vms(
        self: &Arc<Self>,
        store: &Store,
        look: Look,
        passed_over: &mut HashSet<VmId>,
    ) -> Look {
        let me = store.id();
        let looks_at_all = matches!(look, Look::Everything);
        let ids = match look {
            Look::These(ids) => ids,
            Look::Everything => {
                match self.cluster.read(move |connection| kept::on_host(connection, me)).await {
                    Ok(vms) => {
                        self.start_what_is_to_be_on();
                        vms.into_iter().map(|vm| vm.id).collect()
                    }
                    Err(_) => return Look::Everything,
                }
            }
        };
        let mut again = HashSet::new();
        if looks_at_all && let Err(problem) = self.note_found_vms().await {
            log::debug!("What nobody keeps waits to be looked at: {problem}");
        }
        for id in ids {
            match self.keep_vm(id).await {
                Ok(true) => {}
                Ok(false) => {
                    passed_over.insert(id);
                }
                Err(why) => {
                    log::debug!("{id} waits to be looked at: {why}");
                    again.insert(id);
                }
            }
        }
        Look::These(again)
    }

    /// Makes one machine what it shall be, as far as libvirt's description goes, and tells how it is; not while its layers are
    /// changed, or it comes or goes.
    pub(super) async fn keep_vm(self: &Arc<Self>, id: VmId) -> Result<bool, String> {
        let Some(vm) = self.own_vm(id).await? else {
            return self.note_if_found(id).await.map(|()| true);
        };
        lock(&self.found_vms).remove(&id);
        if vm.comes_or_goes() || vm.changes_layers() {
            return Ok(false);
        }
        let is_known = match self.libvirt.look(id).await {
            Ok(_) => true,
            Err(Failed::Unknown) => false,
            Err(failed) => return Err(failed.to_string()),
        };
        // A host's libvirt has forgotten everything when the host has started.
        if !is_known || vm.more.described < vm.described {
            match self.describe_vm(id).await {
                // That it was refused is told, and all there is to do.
                Ok(()) | Err(NotDescribed::Refused(_)) => {}
                Err(NotDescribed::Later(why)) => return Err(why),
            }
            if vm.is_to_be_restored() {
                self.restore_while_on(&vm).await?;
            }
        }
        let state = self.see_vm(id, false).await?;
        if state.is_on() {
            self.change_while_on(id).await?;
        }
        if state == VmState::Crashed && vm.policy.restart_after_crash && vm.is_wanted_on {
            self.start_after_crash(id);
        }
        Ok(true)
    }

    /// A machine of this host.
    pub(crate) async fn own_vm(&self, id: VmId) -> Result<Option<Kept>, String> {
        let me = self.cluster.store().map_err(|problem| problem.detail)?.id();
        let find = move |connection: &Connection| kept::find(connection, &id.to_string());
        let found = self.cluster.read(find).await.map_err(|problem| problem.detail)?;
        Ok(found.filter(|vm| vm.host == me))
    }

    async fn accelerator(&self) -> Accelerator {
        if self.host.runs_guests_itself().await { Accelerator::Kvm } else { Accelerator::Tcg }
    }

    /// Describes a machine to libvirt as it shall be.
    pub(crate) async fn describe_vm(&self, id: VmId) -> Result<(), NotDescribed> {
        let accelerator = self.accelerator().await;
        let called = match self.libvirt.look(id).await {
            Ok(seen) => Some(seen.name),
            Err(Failed::Unknown) => None,
            Err(failed) => return Err(NotDescribed::Later(format!("{failed}."))),
        };
        let Some(vm) = self.own_vm(id).await? else {
            return Err(NotDescribed::Refused("It is not among the machines.".to_owned()));
        };
        // What it was called before its host started anew: files of its firmware are named so.
        let before = Some(vm.more.called.clone()).filter(|called| !called.is_empty());
        let called = called.or(before).unwrap_or_else(|| domain_name(id, &vm.spec.name));
        let drives = self.drives(&vm).await?;
        let (cds, seed) = (self.cds(&vm).await?, self.keep_seed(&vm).await?);
        let drawn = Drawn {
            id,
            called: Some(&called),
            spec: &vm.spec,
            drives: &drives,
            cds: &cds,
            seed: seed.as_deref(),
            accelerator,
        };
        let description = draw(&drawn).to_xml();
        match self.libvirt.define(description).await {
            Ok(()) => {
                lock(&self.accelerators).insert(id, accelerator);
                self.tell_of_vm(id, |more| {
                    more.described = vm.described;
                    more.called = called;
                    more.trouble.clear();
                    more.is_emulated = accelerator == Accelerator::Tcg;
                })
                .await?;
                Ok(())
            }
            Err(Failed::Refused(why)) => {
                let trouble = format!("It cannot be described to libvirt like this: {why}.");
                self.tell_of_vm(id, |more| {
                    more.described = vm.described;
                    more.trouble.clone_from(&trouble);
                })
                .await?;
                Err(NotDescribed::Refused(trouble))
            }
            Err(failed) => Err(NotDescribed::Later(format!("{failed}."))),
        }
    }

    /// Before it is started: what was changed just now, or was described while it was not known yet whether guests run on the
    /// processor itself, is described anew.
    pub(crate) async fn describe_vm_as_it_runs_now(&self, id: VmId) -> Result<(), String> {
        let now = self.accelerator().await;
        let with = lock(&self.accelerators).get(&id).copied();
        let state = self.vm_state_or_off(id).await.map_err(|failed| format!("{failed}."))?;
        let is_off = matches!(state, VmState::Stopped | VmState::Crashed);
        let Some(vm) = self.own_vm(id).await? else { return Ok(()) };
        let is_behind = vm.more.described < vm.described;
        // A machine whose memory is on disk goes on as what it was.
        if !is_off || !(is_behind || with != Some(now)) {
            return Ok(());
        }
        if !is_behind {
            vm.must_be_as_described().map_err(|problem| problem.detail)?;
        }
        Ok(self.describe_vm(id).await?)
    }

    /// How a machine is now.
    pub(crate) async fn look_at_vm(&self, id: VmId) -> Result<SeenVm, Failed> {
        match self.vm_was(id).await? {
            VmState::Stopped | VmState::Crashed => self.libvirt.look(id).await,
            _ => self.libvirt.look_closely(id).await,
        }
    }

    /// How a machine is now. One that libvirt does not know is off, or sleeps on.
    pub(crate) async fn vm_state_or_off(&self, id: VmId) -> Result<VmState, Failed> {
        match self.look_at_vm(id).await {
            Ok(seen) => Ok(seen.state),
            Err(Failed::Unknown) if self.vm_was(id).await? == VmState::Suspended => Ok(VmState::Suspended),
            Err(Failed::Unknown) => Ok(VmState::Stopped),
            Err(failed) => Err(failed),
        }
    }

    /// How a machine of this host was when it was seen last.
    async fn vm_was(&self, id: VmId) -> Result<VmState, Failed> {
        let vm = self.own_vm(id).await.map_err(Failed::Away)?;
        Ok(vm.map_or(VmState::Stopped, |vm| vm.seen))
    }

    /// Looks at a machine and tells how it is. Machines are looked at one after the other, so that what was seen first is
    /// told first.
    pub(crate) async fn see_vm(&self, id: VmId, was_started: bool) -> Result<VmState, String> {
        let _one_at_a_time = self.seeing.lock().await;
        let Some(vm) = self.own_vm(id).await? else { return Ok(VmState::Unknown) };
        let (state, cannot_write) = match self.look_at_vm(id).await {
            Ok(seen) => (seen.state, seen.cannot_write),
            Err(Failed::Unknown) if vm.seen == VmState::Suspended => (VmState::Suspended, false),
            Err(Failed::Unknown) => (VmState::Stopped, false),
            Err(failed) => return Err(format!("{failed}.")),
        };
        let mut more = vm.more.clone();
        more.cannot_write = cannot_write;
        if !state.is_on() {
            more.guest = None;
        }
        more.running = match (state, was_started, more.running) {
            // One whose memory is on disk goes on as what it was, and begins with that.
            (VmState::Suspended | VmState::Starting, _, running) => running,
            (state, ..) if !state.is_on() => None,
            (_, false, Some(running)) => Some(running),
            // What was changed after it was described is not in it.
            _ => (more.described == vm.described).then(|| vm.spec.clone()),
        };
        if more.trouble.is_empty() {
            self.compare(&vm, &mut more).await?;
            self.compare_while_on(&vm, state, &mut more).await?;
            // What is done with its disks since it was looked at is nothing that somebody changed.
            if more.drift != vm.more.drift && self.own_vm(id).await?.is_none_or(|now| now.changes_layers()) {
                (more.drift, more.theirs) = (vm.more.drift.clone(), vm.more.theirs.clone());
            }
        }
        self.tell(&vm, state, more).await?;
        Ok(state)
    }

    pub(super) async fn tell_of_vm(&self, id: VmId, change: impl FnOnce(&mut More)) -> Result<(), String> {
        let _one_at_a_time = self.seeing.lock().await;
        let Some(vm) = self.own_vm(id).await? else { return Ok(()) };
        let mut more = vm.more.clone();
        change(&mut more);
        let state = vm.seen;
        self.tell(&vm, state, more).await
    }

    async fn tell(&self, vm: &Kept, state: VmState, more: More) -> Result<(), String> {
        if vm.seen == state && vm.more == more {
            return Ok(());
        }
        let sighting = Sighting { vm: vm.id.to_string(), state, more };
        let told = self.cluster.tell_sighting(sighting).await;
        told.map_err(|problem: Problem| problem.detail)?;
        // What was told is read here next: it must have arrived.
        self.cluster.catch_up().await.map_err(|problem| problem.detail)
    }
}
