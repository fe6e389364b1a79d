//! The disks of machines: those that are made with one, and what libvirt is told of where each is.

use quantix_api::{
    CloudInit, DiskLimit, NewDisk, NewVm, Problem, ProblemCode, Scope, VmCd, VmDisk, VmSpec, VmState,
};
use quantix_compute::{Drive, Format, VmId};
use quantix_host::pci_refused;
use quantix_storage::VolumeId;
use quantix_store::HostId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{cloud_init, kept::Kept, snapshots};
use crate::{
    api::Agent,
    cluster::Refused,
    storage::{
        copies, images, pools,
        volumes::{self, ToMake},
    },
};

const MOST_AT_ONCE: usize = 16;

/// A machine that is made, with its disks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Making {
    /// Its disks are among those it shall have.
    pub(crate) vm: NewVm,
    pub(crate) volumes: Vec<ToMake>,
    /// What its guest is told, with no password in it.
    #[serde(default)]
    pub(crate) cloud_init: Option<cloud_init::Kept>,
    /// The machine it is cloned from, if its state has to be held first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Source>,
}

/// A machine that another is cloned from, and the snapshot that is made for that.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) vm: String,
    pub(crate) snapshot: String,
    /// Whether nobody needs it once the other machine is made.
    pub(crate) is_passing: bool,
}

/// What is removed with a machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removing {
    pub(crate) volumes: Vec<String>,
}

impl Making {
    /// Gives names and ids to the disks that are made with a machine.
    pub(crate) fn plan(connection: &Connection, new: &NewVm, host: HostId) -> Result<Self, Refused> {
        let NewVm { mut spec, disks, cloud_init, .. } = new.clone();
        if disks.len() > MOST_AT_ONCE {
            let sentence = format!("At most {MOST_AT_ONCE} disks are made with a machine.");
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("disks").into());
        }
        let mut volumes: Vec<ToMake> = Vec::new();
        for (at, disk) in disks.iter().enumerate() {
            let new = plan(connection, disk, &mut spec, host, &volumes, &format!("disks.{at}.bytes"))?;
            volumes.push(new);
        }
        let told = cloud_init.map(|asked| cloud_init::Kept::of(asked, None)).transpose();
        let mut told = told.map_err(|problem| {
            let field = format!("cloud_init.{}", problem.field.as_deref().unwrap_or_default());
            problem.in_field(&field)
        })?;
        let image = disks.iter().find_map(|disk| disk.image.as_deref());
        if let Some(image) = image.map(|image| images::find(connection, image)).transpose()?.flatten() {
            let lets_in = new.has_way_in || new.cloud_init.as_ref().is_some_and(CloudInit::may_let_in);
            // What was a machine elsewhere has its users.
            if !lets_in && !image.shown.user.is_empty() && image.shown.draft.is_none() {
                return Err(nobody_gets_in(&image.shown.name).into());
            }
            if let Some(told) = &mut told {
                told.usual_user(&image.shown.user);
            }
        }
        let vm = NewVm { spec, disks: Vec::new(), cloud_init: None, ..new.clone() };
        Ok(Self { vm, volumes, cloud_init: told, source: None })
    }
}

fn nobody_gets_in(image: &str) -> Problem {
    let sentence = format!(
        "Nobody would get in: {image} is a cloud image. Give an SSH key or a password, or say that it has a way in of its own."
    );
    Problem::new(ProblemCode::Invalid, sentence).in_field("cloud_init.ssh_keys")
}

/// Gives a name and an id to a disk that is made for a machine, and adds it to those that it shall have.
pub(super) fn plan(
    connection: &Connection,
    disk: &NewDisk,
    spec: &mut VmSpec,
    host: HostId,
    others: &[ToMake],
    field: &str,
) -> Result<ToMake, Refused> {
    let NewDisk { pool, bytes, image, linked, bus, cache } = disk.clone();
    volumes::check_size(bytes, field)?;
    if let Some(image) = &image {
        images::check_copy(connection, image, &pool, linked, bytes, host)
            .map_err(|problem| problem.in_field(field))?;
    }
    let name = volumes::free_name(connection, &pool, host, &spec.name, others)?;
    let id = VolumeId::new().to_string();
    spec.disks.push(VmDisk { volume: id.clone(), bus, cache, discard: true, limit: DiskLimit::default() });
    Ok(ToMake { image, linked, ..ToMake::empty(id, name, pool, bytes) })
}

/// Why a machine with these disks cannot be on a host, if so.
pub(crate) fn keeps_out(
    connection: &Connection,
    new: &NewVm,
    host: HostId,
) -> Result<Option<Problem>, Refused> {
    for (at, disk) in new.spec.disks.iter().enumerate() {
        if let Some(volume) = volumes::find(connection, &disk.volume)?
            && volume.host != host
        {
            let sentence = format!("The volume {} is on {}.", volume.shown.name, volume.shown.host_name);
            let field = format!("spec.disks.{at}.volume");
            return Ok(Some(Problem::new(ProblemCode::Invalid, sentence).in_field(&field)));
        }
    }
    for (at, cd) in new.spec.cds.iter().enumerate() {
        if let Some(image) = &cd.image
            && let Err(problem) = images::check_cd(connection, image, host)
        {
            return Ok(Some(problem.in_field(&format!("spec.cds.{at}.image"))));
        }
    }
    for (at, disk) in new.disks.iter().enumerate() {
        let field = format!("disks.{at}.pool");
        let Ok(pool) = pools::one(connection, &disk.pool) else {
            return Ok(Some(Problem::new(ProblemCode::Invalid, "There is no such pool.").in_field(&field)));
        };
        if let Some(why) = pools::is_closed(&pool, host) {
            return Ok(Some(Problem::new(ProblemCode::Conflict, why).in_field(&field)));
        }
        if let Some(image) = &disk.image
            && let Err(problem) =
                images::check_copy(connection, image, &disk.pool, disk.linked, disk.bytes, host)
        {
            return Ok(Some(problem.in_field(&format!("disks.{at}.image"))));
        }
    }
    Ok(None)
}

/// How many of the images that a machine begins with would have to be brought to a host.
pub(crate) fn lacks_images(connection: &Connection, new: &NewVm, host: HostId) -> rusqlite::Result<usize> {
    let of_disks = new.disks.iter().filter_map(|disk| disk.image.as_deref());
    let of_cds = new.spec.cds.iter().filter_map(|cd| cd.image.as_deref());
    of_disks
        .chain(of_cds)
        .try_fold(0, |count, image| Ok(count + usize::from(!copies::is_there(connection, image, host)?)))
}

/// The volumes that a machine would have and does not have yet.
pub(crate) fn taken_over(before: Option<&VmSpec>, spec: &VmSpec) -> Vec<Scope> {
    let had = |volume: &str| before.is_some_and(|spec| spec.disks.iter().any(|disk| disk.volume == volume));
    let new = spec.disks.iter().filter(|disk| !had(&disk.volume));
    new.map(|disk| Scope::Volume(disk.volume.clone())).collect()
}

/// What a machine holds on to: the disks that it shall have, and those that its guest has not given back yet.
pub(super) fn held(spec: &VmSpec, running: Option<&VmSpec>) -> Vec<VmDisk> {
    let leaving = running.into_iter().flat_map(|running| leaving(spec, running));
    spec.disks.iter().chain(leaving).cloned().collect()
}

/// The disks that a machine that is on has, and shall not have any more.
pub(super) fn leaving<'a>(spec: &'a VmSpec, running: &'a VmSpec) -> impl Iterator<Item = &'a VmDisk> {
    let stays = |disk: &VmDisk| spec.disks.iter().any(|wanted| wanted.volume == disk.volume);
    running.disks.iter().filter(move |disk| !stays(disk))
}

/// Checks that a machine can do without the disks that it would not have any more.
pub(super) fn check_leaving(connection: &Connection, vm: &Kept, spec: &VmSpec) -> Result<(), Refused> {
    let refused =
        |sentence: String| Err(Problem::new(ProblemCode::Conflict, sentence).in_field("spec.disks").into());
    // Of one that is on it must be known what it has: its guest goes on writing to that.
    let is_known = vm.is_off() || vm.seen.is_on() && vm.more.running.is_some();
    for disk in leaving(spec, &vm.spec) {
        if !is_known || vm.task.is_some() {
            let sentence =
                "A disk can be taken from a machine that is on or off, and with which nothing is being done.";
            return refused(sentence.to_owned());
        }
        if let Some(snapshot) = snapshots::holds(connection, &disk.volume)? {
            let sentence =
                format!("The snapshot {snapshot} has this disk. Remove the snapshots that have it first.");
            return refused(sentence);
        }
    }
    Ok(())
}

impl Kept {
    /// Whether it is off, and nothing of it is kept to go on with.
    pub(super) fn is_off(&self) -> bool {
        matches!(self.seen, VmState::Stopped | VmState::Crashed)
    }

    /// Whether its guest has not given back yet what was taken from it.
    pub(super) fn is_giving_back(&self) -> bool {
        self.more.running.as_ref().is_some_and(|running| leaving(&self.spec, running).next().is_some())
    }

    /// Checks that its state can be kept: not while its guest gives a disk back.
    pub(crate) fn must_have_given_back(&self) -> Result<(), Problem> {
        if !self.is_giving_back() {
            return Ok(());
        }
        let sentence =
            "Its guest has not given back a disk yet that was taken from it. Wait for that, or shut it down.";
        Err(Problem::new(ProblemCode::Conflict, sentence))
    }

    /// Whether it has devices of its host, now or when it is on.
    pub(crate) fn has_devices(&self) -> bool {
        !self.more.running.as_ref().unwrap_or(&self.spec).pci.is_empty()
    }
}

impl Agent {
    /// The volumes that a machine has.
    pub(super) async fn volumes_of(&self, vm: VmId) -> Result<Vec<volumes::Kept>, String> {
        let id = vm.to_string();
        let known = self.cluster.read(move |connection| volumes::of_vm(connection, &id)).await;
        known.map_err(|problem| problem.detail)
    }

    /// Sees to it that the pools are there in which the disks of a machine of this host are.
    pub(crate) async fn pools_are_there(&self, vm: VmId) -> Result<(), String> {
        let known = self.volumes_of(vm).await?;
        let mut pools: Vec<_> =
            known.into_iter().map(|volume| (volume.shown.pool, volume.shown.pool_name)).collect();
        pools.sort();
        pools.dedup();
        for (pool, name) in pools {
            let there = self.pool(&pool).must_be_there().await;
            there.map_err(|failed| format!("The pool {name} cannot be used. {failed}"))?;
        }
        Ok(())
    }

    /// Sees to it that its host can do without the devices that a machine shall have.
    pub(crate) async fn devices_are_free(&self, vm: VmId) -> Result<(), String> {
        let Some(vm) = self.own_vm(vm).await?.filter(|vm| !vm.spec.pci.is_empty()) else { return Ok(()) };
        pci_refused(&self.host.facts().await.pci, &vm.spec.pci).map_or(Ok(()), Err)
    }

    /// Where what is in the CD drives of a machine of this host is.
    pub(super) async fn cds(&self, vm: &Kept) -> Result<Vec<Option<std::path::PathBuf>>, String> {
        if vm.spec.cds.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = vm.spec.cds.clone();
        let find = move |connection: &Connection| {
            let one = |cd: &VmCd| cd.image.as_ref().map(|image| images::find(connection, image)).transpose();
            wanted.iter().map(one).collect::<rusqlite::Result<Vec<_>>>()
        };
        let found = self.cluster.read(find).await.map_err(|problem| problem.detail)?;
        // Of an image that is gone the drive is empty.
        let path = |image: images::Kept| self.directory(&image.shown.pool).iso_image(image.id);
        Ok(found.into_iter().map(|image| image.flatten().map(path)).collect())
    }

    /// Where the disks of a machine of this host are.
    pub(crate) async fn drives(&self, vm: &Kept) -> Result<Vec<Drive>, String> {
        if vm.spec.disks.is_empty() {
            return Ok(Vec::new());
        }
        self.drives_of(vm, &self.volumes_of(vm.id).await?)
    }

    pub(super) fn drives_of(&self, vm: &Kept, known: &[volumes::Kept]) -> Result<Vec<Drive>, String> {
        vm.spec.disks.iter().map(|disk| self.drive_of(disk, known)).collect()
    }

    pub(super) fn drive_of(&self, disk: &VmDisk, known: &[volumes::Kept]) -> Result<Drive, String> {
        let volume = known.iter().find(|volume| volume.shown.id == disk.volume);
        let volume = volume.ok_or_else(|| format!("Its volume {} is not there.", disk.volume))?;
        let pool = self.pool(&volume.shown.pool);
        let format = if pool.has_devices() { Format::Raw } else { Format::Qcow2 };
        Ok(Drive { path: pool.path(volume.layer), format })
    }
}

/// The machine that has a volume.
pub(crate) fn machine_of(volume: &volumes::Kept) -> Option<VmId> {
    volume.shown.vm.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{HOST, new, with_host, with_pool};

    fn disk(bytes: u64) -> NewDisk {
        let cache = quantix_api::Cache::default();
        NewDisk { pool: "local".into(), bytes, image: None, linked: false, bus: None, cache }
    }

    #[test]
    fn disks_that_are_made_with_a_machine_have_names_of_their_own() {
        let connection = with_host();
        with_pool(&connection);
        let wanted = NewVm { disks: vec![disk(1 << 30), disk(2 << 30)], ..new("web-01") };
        let planned = Making::plan(&connection, &wanted, HOST).unwrap();
        let names: Vec<_> = planned.volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["web-01-disk-1", "web-01-disk-2"]);
        assert_eq!(planned.vm.spec.disks.len(), 2);
        assert_eq!(planned.vm.spec.disks[1].volume, planned.volumes[1].id);
        assert!(planned.vm.disks.is_empty());
        let long = NewVm { disks: vec![disk(1 << 30)], ..new(&"x".repeat(63)) };
        let name = &Making::plan(&connection, &long, HOST).unwrap().volumes[0].name;
        assert!(name.len() <= 63, "{name}");
        for wrong in [0, 1 << 19, (1 << 30) + 1, u64::MAX] {
            let wanted = NewVm { disks: vec![disk(wrong)], ..new("a") };
            assert!(Making::plan(&connection, &wanted, HOST).is_err(), "{wrong}");
        }
        let many = NewVm { disks: vec![disk(1 << 30); 17], ..new("a") };
        assert!(Making::plan(&connection, &many, HOST).is_err());
    }

    #[test]
    fn a_machine_is_where_its_disks_can_be() {
        let connection = with_host();
        let wanted = NewVm { disks: vec![disk(1 << 30)], ..new("a") };
        let why = |wanted: &NewVm, host| {
            keeps_out(&connection, wanted, host).unwrap().map(|problem| problem.detail)
        };
        assert!(why(&wanted, HOST).unwrap().contains("not on this host"));
        with_pool(&connection);
        assert_eq!(why(&wanted, HOST), None);
        let elsewhere =
            NewVm { disks: vec![NewDisk { pool: "nowhere".into(), ..disk(1 << 30) }], ..new("a") };
        assert_eq!(why(&elsewhere, HOST).unwrap(), "There is no such pool.");
    }
}
