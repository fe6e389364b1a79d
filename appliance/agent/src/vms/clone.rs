//! Machines that begin as others are, or were.

use quantix_api::{
    CloneVm, NewSnapshot, NewVm, Problem, ProblemCode, VmPolicy, VmSpec, VmState, VolumeState,
};
use quantix_storage::VolumeId;
use rusqlite::Connection;

use super::{
    checks::invalid,
    cloud_init,
    disks::{Making, Source},
    holding::{HeldDisk, Holding},
    kept::Kept,
    snapshots,
};
use crate::{
    cluster::Refused,
    storage::{
        layers,
        volumes::{self, ToMake},
    },
};

const LONGEST_NAME: usize = 63;

/// What is done so that a machine is cloned.
#[derive(Clone, Debug)]
pub(crate) struct Cloning {
    pub(crate) making: Making,
    /// The snapshot that is made first, if the machine it is cloned from can change.
    pub(crate) holding: Option<Holding>,
}

fn conflict(sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Conflict, sentence).into()
}

/// A name for the snapshot that no other has.
fn free_name(connection: &Connection, vm: &Kept, clone: &str) -> rusqlite::Result<String> {
    let taken = snapshots::of_vm(connection, &vm.id.to_string())?;
    let clone: String = clone.chars().take(LONGEST_NAME - 16).collect();
    let names = (1..).map(|number| match number {
        1 => format!("For {}", clone.trim()),
        _ => format!("For {} ({number})", clone.trim()),
    });
    let is_free =
        |name: &String| !taken.iter().any(|other| other.shown.name.to_lowercase() == name.to_lowercase());
    // There are fewer snapshots than numbers.
    Ok(names.into_iter().find(is_free).unwrap_or_default())
}

/// The disks of a template, which stay as they are.
fn disks_of(connection: &Connection, vm: &Kept) -> Result<Vec<HeldDisk>, Refused> {
    let mut disks = Vec::new();
    for volume in volumes::of_vm(connection, &vm.id.to_string())? {
        if volume.shown.state != VolumeState::Ready {
            return Err(conflict(format!("Its disk {} is not there now.", volume.shown.name)));
        }
        let (layer, next) = (volume.layer.to_string(), String::new());
        disks.push(HeldDisk { volume: volume.shown.id, pool: volume.shown.pool, layer, next });
    }
    Ok(disks)
}

/// What a machine is cloned from: as what it begins, its disks, and the snapshot that is made for it.
fn begins_as(
    connection: &Connection,
    vm: &Kept,
    asked: &CloneVm,
    by: &str,
    now_ms: i64,
) -> Result<(VmSpec, Vec<HeldDisk>, Option<Holding>), Refused> {
    if let Some(id) = &asked.snapshot {
        let snapshot =
            snapshots::one(connection, &vm.id.to_string(), id).map_err(|refused| match refused {
                Refused::Problem(problem) => Refused::Problem(problem.in_field("snapshot")),
                other => other,
            })?;
        if !snapshot.shown.is_ready {
            return Err(conflict("The snapshot is just being made."));
        }
        let disks = snapshots::held(connection, id)?;
        return Ok((snapshot.spec, disks, None));
    }
    if vm.policy.template {
        return Ok((vm.spec.clone(), disks_of(connection, vm)?, None));
    }
    if vm.spec.disks.is_empty() && vm.state != VmState::Unknown {
        return Ok((vm.spec.clone(), Vec::new(), None));
    }
    let new = NewSnapshot {
        name: free_name(connection, vm, &asked.name)?,
        description: format!("Made when {} was cloned.", asked.name),
        memory: false,
        freeze: false,
    };
    let holding = snapshots::add(connection, vm, &new, by, now_ms)?;
    let spec = snapshots::one(connection, &vm.id.to_string(), &holding.snapshot)?.spec;
    Ok((spec, holding.disks.clone(), Some(holding)))
}

/// Plans how a machine is cloned.
pub(crate) fn plan(
    connection: &Connection,
    vm: &Kept,
    asked: &CloneVm,
    by: &str,
    now_ms: i64,
) -> Result<Cloning, Refused> {
    if asked.name.is_empty() {
        return Err(invalid("name", "The new machine needs a name."));
    }
    let (spec, held, holding) = begins_as(connection, vm, asked, by, now_ms)?;
    // What lies on nothing needs nothing that is held.
    let is_free = held.iter().all(HeldDisk::is_copied);
    let mut volumes: Vec<ToMake> = Vec::new();
    let mut disks = Vec::new();
    for disk in &spec.disks {
        let Some(held) = held.iter().find(|held| held.volume == disk.volume) else { continue };
        // A copy that is made for it is not there yet: it has the size of what it is made of.
        let known = if holding.is_some() && held.is_copied() { &held.next } else { &held.layer };
        let known = known.parse().ok().map(|layer: VolumeId| layers::find(connection, layer));
        let Some(known) = known.transpose()?.flatten() else {
            return Err(conflict("One of its disks is not there now."));
        };
        let name = volumes::free_name(connection, &held.pool, vm.host, &asked.name, &volumes)?;
        let id = VolumeId::new().to_string();
        disks.push(quantix_api::VmDisk { volume: id.clone(), ..disk.clone() });
        volumes.push(ToMake {
            layer: Some(held.layer.clone()),
            linked: asked.linked,
            ..ToMake::empty(id, name, held.pool.clone(), known.bytes)
        });
    }
    // A device of the host is one machine's; whoever shall have another is given it.
    let mut spec = VmSpec { name: asked.name.clone(), disks, pci: Vec::new(), ..spec };
    for nic in &mut spec.nics {
        nic.mac.clear();
    }
    let told = cloud_init::find(connection, &vm.id.to_string())?.map(cloud_init::Kept::for_another);
    let policy = VmPolicy { protected: false, template: false, owner: String::new(), ..vm.policy.clone() };
    let new = NewVm { policy, folder: asked.folder, start: asked.start, ..NewVm::usual(spec) };
    let source = holding.as_ref().map(|holding| Source {
        vm: vm.id.to_string(),
        snapshot: holding.snapshot.clone(),
        is_passing: !asked.linked || is_free,
    });
    Ok(Cloning { making: Making { vm: new, volumes, cloud_init: told, source }, holding })
}
