//! Machines that this host's libvirt has and that are not among the machines, and how one of them becomes one.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use quantix_api::{FoundDisk, FoundVm, FoundVms, ImportVm, NewVm, Problem, ProblemCode, VmState};
use quantix_compute::{Element, Failed, Format, Found, Seen, VmId, found};
use quantix_storage::{DiskFormat, VolumeId};
use quantix_store::HostId;
use rusqlite::Connection;

use super::{disks::Making, kept};
use crate::{
    api::Agent,
    cluster::Refused,
    lock,
    storage::{
        layers,
        volumes::{self, FromFile, ToMake},
    },
};

/// What libvirt calls the machines that are not among the machines.
pub(crate) type FoundNames = Mutex<HashMap<VmId, String>>;

/// The pool that becomes theirs.
const POOL: &str = "local";
/// More are not looked at at once.
const MOST: usize = 200;

fn away(failed: &Failed) -> Problem {
    Problem::new(ProblemCode::Unavailable, format!("{failed}."))
}

/// Those of some that are among the machines.
fn known(connection: &Connection, ids: &[VmId]) -> rusqlite::Result<HashSet<VmId>> {
    let mut is_there = connection.prepare_cached("SELECT 1 FROM vm WHERE id = ?1")?;
    let there = ids.iter().filter_map(|id| match is_there.exists([id.to_string()]) {
        Ok(true) => Some(Ok(*id)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    });
    there.collect()
}

impl Agent {
    /// The machines that are not among the machines, by what libvirt calls them.
    async fn unknown_vms(&self) -> Result<Vec<Seen>, Problem> {
        let mut there: Vec<_> =
            self.libvirt.all().await.map_err(|failed| away(&failed))?.into_values().collect();
        let ids: Vec<_> = there.iter().map(|seen| seen.id).collect();
        let known = self.cluster.read(move |connection| known(connection, &ids)).await?;
        there.retain(|seen| !known.contains(&seen.id));
        there.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(there)
    }

    /// Notes which there are, so that people are told.
    pub(crate) async fn note_found_vms(&self) -> Result<(), Problem> {
        let found = self.unknown_vms().await?.into_iter().map(|seen| (seen.id, seen.name)).collect();
        *lock(&self.found_vms) = found;
        Ok(())
    }

    /// The same of one to which something happened, and that is not among the machines of this host.
    pub(super) async fn note_if_found(&self, id: VmId) -> Result<(), String> {
        let known = self.cluster.read(move |connection| known(connection, &[id])).await;
        let is_known = !known.map_err(|problem| problem.detail)?.is_empty();
        match self.libvirt.look(id).await {
            Ok(seen) if !is_known => drop(lock(&self.found_vms).insert(id, seen.name)),
            Ok(_) | Err(Failed::Unknown) => {
                // It may have had a name that one of ours shall have.
                if lock(&self.found_vms).remove(&id).is_some() {
                    self.vms_changed.notify_one();
                }
            }
            Err(failed) => return Err(failed.to_string()),
        }
        Ok(())
    }

    /// The same with all that is known of them.
    pub(crate) async fn look_at_found_vms(&self) -> Result<FoundVms, Problem> {
        let mut items = Vec::new();
        for seen in self.unknown_vms().await?.into_iter().take(MOST) {
            // One that is forgotten while it is looked at is one less.
            items.extend(self.look_at_found_vm(seen).await?);
        }
        Ok(FoundVms { items })
    }

    async fn look_at_found_vm(&self, seen: Seen) -> Result<Option<FoundVm>, Problem> {
        let Some((read, snapshots)) = self.read_found_vm(seen.id).await? else { return Ok(None) };
        let mut vm = FoundVm {
            id: seen.id.to_string(),
            called: seen.name,
            state: seen.state,
            spec: None,
            disks: Vec::new(),
            left_out: Vec::new(),
            why_not: String::new(),
        };
        let Found { spec, drives, left_out, why_not, .. } = match read {
            Ok(found) => found,
            Err(why) => return Ok(Some(FoundVm { why_not: why, ..vm })),
        };
        let mut why_not = why_not.or((snapshots > 0).then(|| {
            "libvirt has snapshots of it, which cannot come along. Remove them there first.".to_owned()
        }));
        for drive in drives {
            let (disk, wrong) = self.look_at_found_disk(&drive.path, drive.format).await?;
            vm.disks.push(disk);
            why_not = why_not.or(wrong);
        }
        why_not =
            why_not.or_else(|| can_come(seen.state, vm.disks.iter().all(|disk| disk.volume.is_some())).err());
        Ok(Some(FoundVm { spec: Some(spec), left_out, why_not: why_not.unwrap_or_default(), ..vm }))
    }

    /// What libvirt has of one, and how many snapshots of it.
    async fn read_found_vm(&self, id: VmId) -> Result<Option<(Result<Found, String>, u32)>, Problem> {
        let description = match self.libvirt.description(id).await {
            Ok(description) => description,
            Err(Failed::Unknown) => return Ok(None),
            Err(failed) => return Err(away(&failed)),
        };
        let snapshots = match self.libvirt.snapshots(id).await {
            Ok(count) => count,
            Err(Failed::Unknown) => return Ok(None),
            Err(failed) => return Err(away(&failed)),
        };
        let element = Element::from_xml(&description).map_err(|error| error.to_string());
        let read = element.and_then(|domain| found(&domain).map_err(|missing| missing.to_string()));
        Ok(Some((read.map_err(|why| format!("It cannot be read: {why}.")), snapshots)))
    }

    /// What is known of one of its disks, and why it cannot become a volume.
    async fn look_at_found_disk(
        &self,
        path: &std::path::Path,
        format: Format,
    ) -> Result<(FoundDisk, Option<String>), Problem> {
        let is_raw = format == Format::Raw;
        let shown = path.display().to_string();
        let mut disk = FoundDisk { path: shown.clone(), is_raw, bytes: 0, used: 0, volume: None };
        let looked = self.directory(POOL).look_at_foreign(path, kind(is_raw)).await;
        let foreign = match looked {
            Ok(foreign) => foreign,
            Err(failed) => return Ok((disk, Some(format!("Its disk {shown}: {failed}")))),
        };
        (disk.bytes, disk.used) = (foreign.bytes, foreign.used);
        // What lies on what somebody has is copied; what somebody has stays theirs.
        let Some(head) = foreign.layers.first().copied() else { return Ok((disk, None)) };
        let owner = self.cluster.read(move |connection| layers::owner(connection, head)).await?;
        if let Some(name) = owner {
            return Ok((disk, Some(format!("Its disk {shown} is the volume {name}."))));
        }
        disk.volume = foreign.volume.map(|volume| volume.to_string());
        Ok((disk, None))
    }

    /// Sees to it that one is as it must be to be taken over.
    pub(crate) async fn must_be_found(&self, id: VmId, making: &Making) -> Result<(), String> {
        let seen = self.libvirt.look(id).await.map_err(|failed| match failed {
            Failed::Unknown => "libvirt does not have it any more.".to_owned(),
            failed => format!("{failed}."),
        })?;
        let stays = |volume: &ToMake| volume.file.as_ref().is_some_and(|file| file.stays);
        can_come(seen.state, making.volumes.iter().all(stays))
    }
}

impl Making {
    /// Whether what libvirt says of the machine names files that were copied.
    pub(crate) fn is_of_originals(&self, description: &str) -> bool {
        let read = Element::from_xml(description).ok().and_then(|domain| found(&domain).ok());
        let Some(now) = read else { return true };
        let files = self.volumes.iter().filter_map(|volume| volume.file.as_ref());
        files
            .filter(|file| !file.stays)
            .any(|file| now.drives.iter().any(|drive| drive.path == std::path::Path::new(&file.path)))
    }
}

fn kind(is_raw: bool) -> DiskFormat {
    if is_raw { DiskFormat::Raw } else { DiskFormat::Qcow2 }
}

/// Whether a machine can come as it is: while it is on only if all its disks stay where they are.
fn can_come(state: VmState, all_stay: bool) -> Result<(), String> {
    let why = match state {
        VmState::Stopped | VmState::Crashed => return Ok(()),
        VmState::Running | VmState::Paused if all_stay => return Ok(()),
        VmState::Suspended => {
            "Its memory is on disk, and would not fit its disks any more. Start it there, and shut it down."
        }
        _ => "It is on, and its disks are copied. Shut it down first: in its guest, or with virsh shutdown.",
    };
    Err(why.to_owned())
}

/// What is to be made so that a machine that was found is among the machines.
pub(crate) fn plan(
    connection: &Connection,
    found: FoundVm,
    asked: &ImportVm,
    host: HostId,
) -> Result<Making, Refused> {
    let conflict = |sentence: String| Refused::from(Problem::new(ProblemCode::Conflict, sentence));
    let Some(mut spec) = found.spec.filter(|_| found.why_not.is_empty()) else {
        return Err(conflict(found.why_not));
    };
    if kept::find(connection, &found.id)?.is_some() {
        return Err(conflict(format!("{} is among the machines already.", found.called)));
    }
    if let Some(name) = &asked.name {
        spec.name.clone_from(name);
    }
    let mut volumes = Vec::new();
    for (disk, file) in spec.disks.iter_mut().zip(&found.disks) {
        let name = volumes::free_name(connection, POOL, host, &spec.name, &volumes)?;
        let id = file.volume.clone().unwrap_or_else(|| VolumeId::new().to_string());
        disk.volume.clone_from(&id);
        let from = FromFile { path: file.path.clone(), is_raw: file.is_raw, stays: file.volume.is_some() };
        volumes.push(ToMake { file: Some(from), ..ToMake::empty(id, name, POOL.to_owned(), file.bytes) });
    }
    let vm = NewVm { folder: asked.folder, ..NewVm::usual(spec) };
    Ok(Making { vm, volumes, cloud_init: None, source: None })
}

impl FromFile {
    pub(crate) fn format(&self) -> DiskFormat {
        kind(self.is_raw)
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::VmSpec;

    use super::*;
    use crate::vms::kept::tests::{HOST, machine, spec, with_host, with_pool};

    fn disk(path: &str, volume: Option<String>) -> FoundDisk {
        FoundDisk { path: path.into(), is_raw: volume.is_none(), bytes: 1 << 30, used: 1 << 20, volume }
    }

    fn found_one(disks: Vec<FoundDisk>) -> FoundVm {
        let one = |disk: &FoundDisk| quantix_api::VmDisk::usual(disk.path.clone());
        let spec = VmSpec { disks: disks.iter().map(one).collect(), ..spec("old") };
        FoundVm {
            id: VmId::new().to_string(),
            called: "old".into(),
            state: VmState::Stopped,
            spec: Some(spec),
            disks,
            left_out: Vec::new(),
            why_not: String::new(),
        }
    }

    fn asked(found: &FoundVm) -> ImportVm {
        ImportVm { host: HOST.to_string(), vm: found.id.clone(), name: None, folder: None }
    }

    #[test]
    fn each_disk_becomes_a_volume_and_what_is_one_stays_it() {
        let connection = with_host();
        with_pool(&connection);
        let there = VolumeId::new().to_string();
        let found = found_one(vec![disk("/srv/a.raw", None), disk("/pool/x.qcow2", Some(there.clone()))]);
        let asked = ImportVm { name: Some("new".into()), ..asked(&found) };
        let making = plan(&connection, found.clone(), &asked, HOST).unwrap();
        let names: Vec<_> = making.volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["new-disk-1", "new-disk-2"]);
        assert_eq!(making.volumes[1].id, there);
        let stays: Vec<_> = making.volumes.iter().map(|volume| volume.file.as_ref().unwrap().stays).collect();
        assert_eq!(stays, [false, true]);
        let volumes: Vec<_> = making.vm.spec.disks.iter().map(|disk| disk.volume.clone()).collect();
        assert_eq!(volumes, [making.volumes[0].id.clone(), there]);
        // It is kept, and not a second time.
        let id = found.id.parse().unwrap();
        kept::add(&connection, id, &making, HOST, "ada", 1000).unwrap();
        assert!(plan(&connection, found, &asked, HOST).is_err());
    }

    #[test]
    fn what_cannot_be_imported_says_why() {
        let (connection, _) = machine("web-01");
        let refused = |found: FoundVm| match plan(&connection, found.clone(), &asked(&found), HOST) {
            Err(Refused::Problem(problem)) => problem.detail,
            other => format!("{other:?}"),
        };
        let found = found_one(Vec::new());
        assert_eq!(refused(FoundVm { why_not: "It is on.".into(), ..found.clone() }), "It is on.");
        assert_eq!(refused(FoundVm { spec: None, why_not: "Unreadable.".into(), ..found }), "Unreadable.");
        assert!(can_come(VmState::Running, false).unwrap_err().contains("It is on"));
        assert!(can_come(VmState::Stopped, false).is_ok());
        assert!(can_come(VmState::Running, true).is_ok());
        assert!(can_come(VmState::Suspended, true).unwrap_err().contains("memory is on disk"));
    }
}
