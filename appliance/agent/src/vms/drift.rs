//! What somebody on the host changed of a machine, in the description that libvirt keeps of it or while it is on: how it is
//! noticed, and how what is kept here is restored. Nothing is overwritten before somebody says so.

use std::path::PathBuf;

use quantix_api::{Problem, ProblemCode, VmSpec, VmState};
use quantix_compute::{
    Accelerator, Drawn, Element, Failed, Runs, differences, draw, draw_cd, recognise, strayed,
};
use quantix_storage::is_same;

use super::{
    kept::Kept,
    live::{done, drawn},
    sighting::{MOST_DIFFERENCES, More},
};
use crate::{api::Agent, lock};

/// A machine that is on, beside what is known of it and what it shall be.
struct Beside {
    domain: Element,
    is: Runs,
    known: Runs,
    shall: Runs,
}

impl Kept {
    /// Checks that it may be described anew: what somebody changed at libvirt would be gone without a word.
    pub(crate) fn must_be_as_described(&self) -> Result<(), Problem> {
        if self.more.drift.is_empty() {
            return Ok(());
        }
        let sentence =
            "It was changed on its host. Adopt what differs there, or restore what is kept here, first.";
        Err(Problem::new(ProblemCode::Conflict, sentence))
    }

    /// Whether somebody said that what is kept here holds, and libvirt was not told since.
    pub(super) fn is_to_be_restored(&self) -> bool {
        let was_adopted = self.more.theirs.as_ref() == Some(&self.spec);
        self.more.described < self.described && !self.more.drift.is_empty() && !was_adopted
    }
}

impl Agent {
    /// Compares libvirt's description with what the machine shall be.
    pub(super) async fn compare(&self, vm: &Kept, more: &mut More) -> Result<(), String> {
        (more.drift, more.theirs) = (Vec::new(), None);
        if more.described < vm.described {
            // What libvirt has is of before the last change.
            return Ok(());
        }
        let description = match self.libvirt.description(vm.id).await {
            Ok(description) => description,
            Err(Failed::Unknown) => return Ok(()),
            Err(failed) => return Err(format!("{failed}.")),
        };
        let (drives, cds) = (self.drives(vm).await?, self.cds(vm).await?);
        let read = |element: &Element| recognise(element).map_err(|missing| missing.to_string());
        let description = Element::from_xml(&description).map_err(|error| error.to_string());
        let theirs = description.as_ref().map_err(Clone::clone).and_then(read);
        // What runs it is looked at before it starts, and is nothing that somebody has changed.
        let accelerator = theirs.as_ref().map_or(Accelerator::Tcg, |theirs| theirs.accelerator);
        let (id, seed) = (vm.id, self.seed_of(vm));
        let drawn = Drawn {
            id,
            called: None,
            spec: &vm.spec,
            drives: &drives,
            cds: &cds,
            seed: seed.as_deref(),
            accelerator,
        };
        let drawn = draw(&drawn);
        let Ok(ours) = read(&drawn) else { return Ok(()) };
        match theirs {
            Ok(theirs) => {
                // With what it was described is not known any more since this program was started.
                lock(&self.accelerators).entry(id).or_insert(accelerator);
                let strayed =
                    description.map(|description| strayed(&drawn, &description)).unwrap_or_default();
                more.drift = differences(&ours.spec, &theirs.spec);
                let is_ours = theirs.others == ours.others && strayed.is_empty();
                let only = |these: &[String], those: &[String]| {
                    let only: Vec<_> = these.iter().filter(|one| !those.contains(one)).cloned().collect();
                    only.join(", ")
                };
                for (what, only) in [
                    ("there, and not here", only(&theirs.others, &ours.others)),
                    ("here, and not there", only(&ours.others, &theirs.others)),
                ] {
                    if !only.is_empty() {
                        more.drift.push(format!("It has this {what}: {only}."));
                    }
                }
                more.drift.extend(strayed);
                more.drift.truncate(MOST_DIFFERENCES);
                // Where a volume is there is a path, which says nothing here.
                let is_whole =
                    is_ours && theirs.spec.disks == ours.spec.disks && theirs.spec.cds == ours.spec.cds;
                let (disks, cds) = (vm.spec.disks.clone(), vm.spec.cds.clone());
                let adopted = VmSpec { disks, cds, ..theirs.spec };
                more.theirs = (is_whole && !more.drift.is_empty()).then_some(adopted);
            }
            Err(why) => more.drift = vec![format!("What libvirt has cannot be read: {why}.")],
        }
        Ok(())
    }

    /// Compares what a machine that is on consists of with what is known of it. What libvirt keeps differs first, if both do.
    pub(super) async fn compare_while_on(
        &self,
        vm: &Kept,
        state: VmState,
        more: &mut More,
    ) -> Result<(), String> {
        let Some(running) = more.running.as_ref().filter(|_| state.is_on() && !vm.changes_layers()) else {
            return Ok(());
        };
        let Some(beside) = self.beside(vm, running).await? else { return Ok(()) };
        let strays = beside.is.strays(&beside.known, &beside.shall);
        if strays.is_empty() {
            return Ok(());
        }
        if more.drift.is_empty() {
            let Beside { is, known, shall, .. } = &beside;
            let adopted = is.as_it_runs(&vm.spec, shall, [known, shall]);
            let would_be = self.would_be(vm, &adopted).await?;
            let is_whole = would_be.is_some_and(|would_be| is.strays(known, &would_be).is_empty());
            more.theirs = is_whole.then_some(adopted);
        }
        more.drift.extend(strays);
        more.drift.truncate(MOST_DIFFERENCES);
        Ok(())
    }

    /// Makes a machine that is on what is known of it: what somebody gave it goes, and what was taken is missing until it is
    /// given to it again.
    pub(super) async fn restore_while_on(&self, vm: &Kept) -> Result<(), String> {
        let Some(running) = vm.more.running.as_ref().filter(|_| vm.seen.is_on()) else { return Ok(()) };
        let Some(beside) = self.beside(vm, running).await? else { return Ok(()) };
        let Beside { domain, is, known, shall } = &beside;
        if is.strays(known, shall).is_empty() {
            return Ok(());
        }
        for device in is.spare(domain, known, shall) {
            done(vm, "Taking back what it was given", self.libvirt.unplug(vm.id, device.to_xml()).await)?;
        }
        let inside = self.cds(vm).await?;
        let drawn = Drawn { cds: &inside, ..drawn(vm) };
        for at in is.other_cds(known, shall) {
            let device = draw_cd(&drawn, at).to_xml();
            done(vm, "Changing a CD", self.libvirt.change_device(vm.id, device).await)?;
        }
        if is.has_other_processors(known, shall) {
            let count = running.cpu.count();
            done(vm, "The number of processors", self.libvirt.set_processors(vm.id, count).await)?;
        }
        let really = VmSpec { cpu: running.cpu.clone(), ..is.as_it_runs(running, known, [known, shall]) };
        self.tell_of_vm(vm.id, |more| more.running = Some(really)).await
    }

    async fn beside(&self, vm: &Kept, running: &VmSpec) -> Result<Option<Beside>, String> {
        let description = match self.libvirt.running(vm.id).await {
            Ok(description) => description,
            // It has just ended.
            Err(Failed::Unknown | Failed::Refused(_)) => return Ok(None),
            Err(failed) => return Err(format!("{failed}.")),
        };
        let Ok(domain) = Element::from_xml(&description) else { return Ok(None) };
        let (known, shall) = (self.would_be(vm, running).await?, self.would_be(vm, &vm.spec).await?);
        let (Some(is), Some(known), Some(shall)) = (Runs::of(&domain), known, shall) else { return Ok(None) };
        // It goes on with a file of which it may know another name.
        let mut disks = Vec::new();
        for disk in is.disks() {
            disks.push(called(disk, known.disks().iter().chain(shall.disks())).await);
        }
        Ok(Some(Beside { domain, is: is.with_disks(disks), known, shall }))
    }

    /// What a machine would consist of, if it were this.
    async fn would_be(&self, vm: &Kept, spec: &VmSpec) -> Result<Option<Runs>, String> {
        let mut vm = vm.clone();
        vm.spec.clone_from(spec);
        let (Ok(drives), cds) = (self.drives(&vm).await, self.cds(&vm).await?) else { return Ok(None) };
        Ok(Runs::of(&draw(&Drawn { drives: &drives, cds: &cds, ..drawn(&vm) })))
    }
}

/// The one of these names that is a file's, or the name by which it is known.
async fn called(path: &PathBuf, names: impl Iterator<Item = &PathBuf>) -> PathBuf {
    let mut others = Vec::new();
    for name in names {
        if name == path {
            return path.clone();
        }
        others.push(name);
    }
    for name in others {
        if is_same(name.clone(), path.clone()).await {
            return name.clone();
        }
    }
    path.clone()
}
