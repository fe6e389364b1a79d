//! The disks of virtual machines.

use quantix_api::{Bus, Cache, ChangeVm, DiskLimit, Image, NewDisk, VmCd, VmDisk, calls, in_whole_gib};

use crate::{Failure, Session, images, shown::Output, vms};

pub(crate) fn new(pool: String, bytes: u64) -> NewDisk {
    NewDisk { pool, bytes, image: None, linked: false, bus: None, cache: Cache::default() }
}

/// How a disk is attached.
pub(crate) fn bus(text: &str) -> Result<Bus, String> {
    match text {
        "virtio" => Ok(Bus::Virtio),
        "scsi" => Ok(Bus::Scsi),
        "sata" => Ok(Bus::Sata),
        _ => Err("it is one of virtio, scsi and sata".to_owned()),
    }
}

/// Makes the first of some disks begin as a copy of an image. Without any, there is one in `pool` that is as big as the image's.
/// The further disks of a machine that came as an image come along.
pub(crate) async fn begin_as(
    session: &Session,
    image: Image,
    linked: bool,
    pool: String,
    disks: &mut Vec<NewDisk>,
) -> Result<(), Failure> {
    let bytes = in_whole_gib(image.bytes.unwrap_or_default());
    if disks.is_empty() {
        disks.push(new(pool, bytes));
    }
    if let Some(draft) = &image.draft {
        disks.extend(draft.further_disks(&session.call(calls::images()).await?.items, linked));
    }
    disks[0].image = Some(image.id);
    disks[0].linked = linked;
    Ok(())
}

/// The CD drives that are said; those there are, if none are.
pub(crate) async fn cds(session: &Session, said: &[String], before: Vec<VmCd>) -> Result<Vec<VmCd>, Failure> {
    match said {
        [] => return Ok(before),
        [one] if one == "none" => return Ok(Vec::new()),
        _ => {}
    }
    let mut cds = Vec::new();
    for inside in said {
        let image = if inside == "empty" { None } else { Some(images::find(session, inside).await?.id) };
        cds.push(VmCd { image });
    }
    Ok(cds)
}

/// Limits how much a disk of a machine may be used.
pub(crate) async fn limit(
    session: &Session,
    vm: &str,
    volume: &str,
    limit: DiskLimit,
    output: Output,
) -> Result<(), Failure> {
    let has = vms::find(session, vm).await?.spec.disks.iter().any(|disk| disk.volume == volume);
    if !has {
        return Err(Failure::Said(format!("{vm} does not have this volume. See: qx vm show {vm}")));
    }
    let set = |disks: &mut Vec<VmDisk>| {
        disks.iter_mut().filter(|disk| disk.volume == volume).for_each(|disk| disk.limit = limit);
    };
    change(session, vm, set, output).await
}

/// Changes which disks a machine has.
pub(crate) async fn change(
    session: &Session,
    vm: &str,
    change: impl FnOnce(&mut Vec<VmDisk>),
    output: Output,
) -> Result<(), Failure> {
    let vm = vms::find(session, vm).await?;
    let mut spec = vm.spec.clone();
    change(&mut spec.disks);
    let body = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
    let vm = session.call(calls::change_vm(&vm.id, &body).if_version(vm.version)).await?;
    vms::changed(&vm, output)
}
