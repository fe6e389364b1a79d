//! What is changed of a machine while it is on: disks and network cards are plugged in and given back, CDs put into drives
//! and taken out, processors and memory given. What a machine cannot change now waits for its next start.

use std::sync::Arc;

use quantix_api::{VmCpu, VmDisk, VmNic, VmSpec, VolumeState};
use quantix_compute::{
    Accelerator, Drawn, Element, Failed, VmId, cards, draw_cd, draw_memory, draw_nic, draw_plugged,
    plugged_as,
};

use super::{disks::leaving, kept::Kept};
use crate::{api::Agent, storage::volumes};

/// Guests take in memory in blocks of this.
const BLOCK_MIB: u64 = 128;

impl Agent {
    /// Makes a machine that is on what it shall be, as far as that can be while it is on, and tells what it is then.
    pub(crate) async fn change_while_on(self: &Arc<Self>, id: VmId) -> Result<(), String> {
        // What is asleep is still what it was, and changes when it is awake.
        let Some(vm) = self.own_vm(id).await?.filter(|vm| vm.seen.is_on()) else { return Ok(()) };
        let Some(running) = &vm.more.running else { return Ok(()) };
        if vm.spec == *running {
            return Ok(());
        }
        let mut now = running.clone();
        self.grow_processors(&vm, &mut now).await?;
        self.grow_memory(&vm, &mut now).await?;
        self.change_disks(&vm, &mut now).await?;
        self.change_cds(&vm, &mut now).await?;
        self.change_nics(&vm, &mut now).await?;
        if now == *running {
            return Ok(());
        }
        self.tell_of_vm(id, |more| more.running = Some(now)).await
    }

    /// Gives it more processors, or asks for some back, as far as it was started with room for them.
    async fn grow_processors(self: &Arc<Self>, vm: &Kept, now: &mut VmSpec) -> Result<(), String> {
        let wanted = VmCpu { cores: now.cpu.cores, ..vm.spec.cpu.clone() };
        if vm.spec.cpu == now.cpu || wanted != now.cpu {
            return Ok(());
        }
        let count = vm.spec.cpu.count();
        if done(vm, "A processor", self.libvirt.set_processors(vm.id, count).await)? {
            if count > now.cpu.count() {
                self.use_processors_of(vm.id, count);
            }
            now.cpu = vm.spec.cpu.clone();
        }
        Ok(())
    }

    /// Plugs in memory, as far as it was started with room for it. What it has been given it keeps until it is off.
    async fn grow_memory(&self, vm: &Kept, now: &mut VmSpec) -> Result<(), String> {
        let (wanted, is) = (&vm.spec.memory, &mut now.memory);
        let more = wanted.mib.saturating_sub(is.mib);
        let has_room =
            wanted.balloon == is.balloon && wanted.most_mib == is.most_mib && wanted.mib <= is.most_mib;
        if more == 0 || !has_room || !more.is_multiple_of(BLOCK_MIB) {
            return Ok(());
        }
        if done(vm, "Memory", self.libvirt.plug_in(vm.id, draw_memory(more).to_xml()).await)? {
            is.mib = wanted.mib;
        }
        Ok(())
    }

    async fn domain(&self, id: VmId) -> Result<Element, String> {
        let description = self.libvirt.running(id).await.map_err(|failed| format!("{failed}."))?;
        Element::from_xml(&description).map_err(|malformed| malformed.to_string())
    }

    async fn change_disks(&self, vm: &Kept, now: &mut VmSpec) -> Result<(), String> {
        if vm.spec.disks == now.disks {
            return Ok(());
        }
        let known = self.volumes_of(vm.id).await?;
        self.take_disks(vm, now, &known).await?;
        self.limit_disks(vm, now, &known).await?;
        self.plug_in_disks(vm, now, &known).await
    }

    /// Asks for disks back that it shall not have. When its guest has given one back, that is told, and it is looked at again.
    async fn take_disks(&self, vm: &Kept, now: &mut VmSpec, known: &[volumes::Kept]) -> Result<(), String> {
        let leaving: Vec<_> = leaving(&vm.spec, now).cloned().collect();
        if leaving.is_empty() {
            return Ok(());
        }
        let domain = self.domain(vm.id).await?;
        for disk in leaving {
            match plugged_as(&domain, &self.drive_of(&disk, known)?.path) {
                Some(device) => {
                    done(vm, "Taking a disk", self.libvirt.unplug(vm.id, device.to_xml()).await)?;
                }
                None => now.disks.retain(|one| one.volume != disk.volume),
            }
        }
        Ok(())
    }

    /// Limits how much its disks may be used.
    async fn limit_disks(&self, vm: &Kept, now: &mut VmSpec, known: &[volumes::Kept]) -> Result<(), String> {
        for disk in &mut now.disks {
            let wanted = vm.spec.disks.iter().find(|wanted| wanted.volume == disk.volume);
            let Some(limit) = wanted.map(|wanted| wanted.limit).filter(|limit| *limit != disk.limit) else {
                continue;
            };
            let path = self.drive_of(disk, known)?.path.display().to_string();
            let (bytes, times) = (u64::from(limit.mib_s) << 20, u64::from(limit.iops));
            if done(vm, "A limit", self.libvirt.limit_disk(vm.id, &path, bytes, times).await)? {
                disk.limit = limit;
            }
        }
        Ok(())
    }

    /// Plugs in disks that it shall have and does not have yet.
    async fn plug_in_disks(
        &self,
        vm: &Kept,
        now: &mut VmSpec,
        known: &[volumes::Kept],
    ) -> Result<(), String> {
        // What stands before others is in the place it was in when it was started.
        let count = now.disks.len();
        if vm.spec.disks.len() <= count || vm.spec.disks[..count] != now.disks {
            return Ok(());
        }
        let drives = self.drives_of(vm, known)?;
        let is_ready = |disk: &VmDisk| {
            known
                .iter()
                .any(|volume| volume.shown.id == disk.volume && volume.shown.state == VolumeState::Ready)
        };
        let drawn = Drawn { drives: &drives, ..drawn(vm) };
        for (at, disk) in vm.spec.disks.iter().enumerate().skip(count) {
            // What the last one is called shows when it is there.
            let domain = self.domain(vm.id).await?;
            if plugged_as(&domain, &drives[at].path).is_none() {
                if !is_ready(disk) {
                    break;
                }
                let Some(device) = draw_plugged(&drawn, at, &domain) else { break };
                if !done(vm, "A disk", self.libvirt.plug_in(vm.id, device.to_xml()).await)? {
                    break;
                }
            }
            now.disks.push(disk.clone());
        }
        Ok(())
    }

    /// Puts CDs into the drives that it has, and takes them out. A guest that holds on to one keeps it.
    async fn change_cds(self: &Arc<Self>, vm: &Kept, now: &mut VmSpec) -> Result<(), String> {
        if vm.spec.cds == now.cds {
            return Ok(());
        }
        let inside = self.cds(vm).await?;
        let drawn = Drawn { cds: &inside, ..drawn(vm) };
        for (at, (wanted, is)) in vm.spec.cds.iter().zip(&mut now.cds).enumerate() {
            if wanted != is
                && self.has_or_brings(vm.id, wanted).await
                && done(vm, "A CD", self.libvirt.change_device(vm.id, draw_cd(&drawn, at).to_xml()).await)?
            {
                is.clone_from(wanted);
            }
        }
        Ok(())
    }

    /// Plugs in cards that it shall have, puts others on another bridge, and asks for those back that it shall not have.
    async fn change_nics(&self, vm: &Kept, now: &mut VmSpec) -> Result<(), String> {
        if vm.spec.nics == now.nics {
            return Ok(());
        }
        let there = cards(&self.domain(vm.id).await?);
        let drawn = drawn(vm);
        let xml = |nic: &VmNic| draw_nic(&drawn, nic).to_xml();
        let wanted = |mac: &str| vm.spec.nics.iter().find(|nic| is(nic, mac));
        let mut left = Vec::new();
        for nic in &now.nics {
            match wanted(&nic.mac) {
                Some(same) if same == nic => left.push(nic.clone()),
                Some(other) => {
                    let moved = done(vm, "A card", self.libvirt.change_device(vm.id, xml(other)).await)?;
                    left.push(if moved { other.clone() } else { nic.clone() });
                }
                None if !there.contains(&nic.mac.to_ascii_lowercase()) => {}
                None => {
                    // When its guest has given it back, that is told, and it is looked at again.
                    done(vm, "A card", self.libvirt.unplug(vm.id, xml(nic)).await)?;
                    left.push(nic.clone());
                }
            }
        }
        for nic in &vm.spec.nics {
            let has = left.iter().any(|other| is(other, &nic.mac));
            if !has
                && (there.contains(&nic.mac.to_ascii_lowercase())
                    || done(vm, "A card", self.libvirt.plug_in(vm.id, xml(nic)).await)?)
            {
                left.push(nic.clone());
            }
        }
        // Whoever has the same cards has them in the same order.
        let order = |nic: &VmNic| vm.spec.nics.iter().position(|other| is(other, &nic.mac));
        left.sort_by_key(|nic| order(nic).unwrap_or(usize::MAX));
        now.nics = left;
        Ok(())
    }
}

fn is(nic: &VmNic, mac: &str) -> bool {
    nic.mac.eq_ignore_ascii_case(mac)
}

/// What is drawn of a machine that is on, without what is not needed for it.
pub(super) fn drawn(vm: &Kept) -> Drawn<'_> {
    Drawn {
        id: vm.id,
        called: None,
        spec: &vm.spec,
        drives: &[],
        cds: &[],
        seed: None,
        accelerator: Accelerator::Tcg,
    }
}

/// Whether something was done at once. What was refused waits; whether libvirt is away is another matter.
pub(super) fn done(vm: &Kept, what: &str, done: Result<(), Failed>) -> Result<bool, String> {
    match done {
        Ok(()) => Ok(true),
        Err(failed @ Failed::Refused(_)) => {
            log::info!("{what} of {} waits for its next start: {failed}", vm.spec.name);
            Ok(false)
        }
        Err(failed) => Err(format!("{failed}.")),
    }
}
