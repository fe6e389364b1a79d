//! Snapshots as they are kept, as SQL: moments of a machine to which one can go back.

use jiff::Timestamp;
use quantix_api::{
    ChangeSnapshot, NewSnapshot, Problem, ProblemCode, Snapshot, VmSpec, VmState, VolumeState, text::is_line,
};
use quantix_compute::{VmId, allows_hold};
use quantix_storage::{Below, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    checks::{self, invalid},
    holding::{HeldDisk, Holding, Reverting, Told},
    kept::{self, text, unreadable},
};
use crate::{
    cluster::Refused,
    storage::{
        images,
        layers::{self, New},
        pools, volumes,
    },
    version::Version,
};

/// How many a machine has at most: every one lets its disks consist of a layer more.
const MOST: usize = 100;
const LONGEST_NAME: usize = 63;
const LONGEST_DESCRIPTION: usize = 1000;

const SELECT: &str = "SELECT snapshot.id, snapshot.name, snapshot.description, snapshot.parent,
        snapshot.spec, snapshot.has_memory, snapshot.memory, snapshot.is_frozen, snapshot.is_ready,
        snapshot.made_at, snapshot.made_by, snapshot.version, vm.snapshot IS snapshot.id AS is_current,
        (SELECT count(*) FROM snapshot_disk WHERE snapshot_disk.snapshot = snapshot.id) AS disks,
        (SELECT sum(layer.used) FROM snapshot_disk JOIN layer ON layer.id = snapshot_disk.layer
         WHERE snapshot_disk.snapshot = snapshot.id) AS used
    FROM snapshot LEFT JOIN vm ON vm.id = snapshot.vm";

/// A snapshot as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) spec: VmSpec,
    pub(crate) shown: Snapshot,
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let memory: Option<u64> = row.get("memory")?;
    let used: Option<u64> = row.get("used")?;
    let bytes = (memory.is_some() || used.is_some()).then(|| memory.unwrap_or(0) + used.unwrap_or(0));
    Ok(Kept {
        spec: serde_json::from_str(&row.get::<_, String>("spec")?).map_err(unreadable)?,
        shown: Snapshot {
            id: row.get("id")?,
            name: row.get("name")?,
            description: row.get("description")?,
            parent: row.get("parent")?,
            is_current: row.get("is_current")?,
            is_ready: row.get("is_ready")?,
            has_memory: row.get("has_memory")?,
            is_frozen: row.get("is_frozen")?,
            disks: row.get::<_, u32>("disks")? as usize,
            bytes,
            made_at: Timestamp::from_millisecond(row.get("made_at")?).unwrap_or_default(),
            made_by: row.get("made_by")?,
            version: row.get("version")?,
        },
    })
}

fn conflict(sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Conflict, sentence).into()
}

/// Those of a machine, the oldest first.
pub(crate) fn of_vm(connection: &Connection, vm: &str) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE snapshot.vm = ?1 ORDER BY snapshot.id"))?
        .query_map([vm], of_row)?
        .collect()
}

/// Those that are there of what a schedule made, the oldest first.
pub(crate) fn made_by_schedule(
    connection: &Connection,
    vm: &str,
    schedule: &str,
) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!(
            "{SELECT} WHERE snapshot.vm = ?1 AND snapshot.schedule = ?2 AND snapshot.is_ready
             ORDER BY snapshot.made_at, snapshot.id"
        ))?
        .query_map([vm, schedule], of_row)?
        .collect()
}

/// One of a machine, if it is there.
pub(crate) fn find(connection: &Connection, vm: &str, id: &str) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE snapshot.id = ?2 AND snapshot.vm = ?1"))?
        .query_row([vm, id], of_row)
        .optional()
}

/// One of a machine.
pub(crate) fn one(connection: &Connection, vm: &str, id: &str) -> Result<Kept, Refused> {
    let not_there = || Problem::new(ProblemCode::NotFound, "This machine has no such snapshot.");
    find(connection, vm, id)?.ok_or_else(|| not_there().into())
}

fn check_words(name: &str, description: &str) -> Result<(), Refused> {
    if name.trim() != name || name.is_empty() || !is_line(name, LONGEST_NAME) {
        let sentence =
            format!("A name is one line of at most {LONGEST_NAME} characters, without spaces around it.");
        return Err(invalid("name", sentence));
    }
    let is_text = |line| is_line(line, LONGEST_DESCRIPTION);
    if description.chars().count() > LONGEST_DESCRIPTION || !description.split('\n').all(is_text) {
        let sentence = format!("A description is a text of at most {LONGEST_DESCRIPTION} characters.");
        return Err(invalid("description", sentence));
    }
    Ok(())
}

fn name_must_be_free(connection: &Connection, vm: &str, name: &str, but: &str) -> Result<(), Refused> {
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM snapshot WHERE vm = ?1 AND name = ?2 COLLATE NOCASE AND id <> ?3")?
        .exists([vm, name, but])?;
    if is_taken {
        return Err(invalid("name", format!("This machine has a snapshot named {name} already.")));
    }
    Ok(())
}

/// What a machine is just now: as it was started, if it is on.
fn spec_now(vm: &kept::Kept) -> VmSpec {
    match &vm.more.running {
        Some(running) if vm.seen.is_on() => running.clone(),
        _ => vm.spec.clone(),
    }
}

/// Takes a place for a snapshot of a machine that its host makes next.
pub(crate) fn add(
    connection: &Connection,
    vm: &kept::Kept,
    new: &NewSnapshot,
    by: &str,
    now_ms: i64,
) -> Result<Holding, Refused> {
    let vm_id = vm.id.to_string();
    let description = new.description.replace("\r\n", "\n");
    check_words(&new.name, &description)?;
    allows_hold(vm.state, new.memory).map_err(|refused| conflict(refused.to_string()))?;
    vm.must_have_given_back()?;
    vm.must_be_as_described()?;
    if new.memory && vm.has_devices() {
        return Err(conflict(
            "What a device of its host holds cannot be kept. Make the snapshot without memory.",
        ));
    }
    if vm.policy.template {
        return Err(conflict("It is a template, and stays as it is: there is nothing to go back to."));
    }
    if new.freeze && vm.state != VmState::Running {
        return Err(invalid("freeze", "Only a guest that runs can hold its file systems."));
    }
    name_must_be_free(connection, &vm_id, &new.name, "")?;
    if of_vm(connection, &vm_id)?.len() >= MOST {
        return Err(conflict(format!("This machine has {MOST} snapshots. Remove some first.")));
    }
    let spec = spec_now(vm);
    let mut disks = Vec::new();
    for volume in volumes::of_vm(connection, &vm_id)? {
        let name = &volume.shown.name;
        if !spec.disks.iter().any(|disk| disk.volume == volume.shown.id) {
            continue;
        }
        if volume.shown.state != VolumeState::Ready {
            return Err(conflict(format!("Its disk {name} is not there now.")));
        }
        let pool = pools::one(connection, &volume.shown.pool)?;
        if let Some(why) = pools::is_closed(&pool, volume.host) {
            return Err(conflict(why));
        }
        let (head, new) = (volume.layer.to_string(), VolumeId::new().to_string());
        let (layer, next) = if pools::is_thin(&pool.id) { (new, head) } else { (head, new) };
        disks.push(HeldDisk { volume: volume.shown.id, pool: volume.shown.pool, layer, next });
    }
    let holding = Holding {
        snapshot: VolumeId::new().to_string(),
        name: new.name.clone(),
        disks,
        memory: new.memory,
        // What is in its memory and on its disks belongs together.
        freeze: new.freeze && !new.memory,
        runs: vm.state == VmState::Running,
    };
    place(connection, vm, &holding, &spec, &description, by, now_ms)?;
    Ok(holding)
}

fn place(
    connection: &Connection,
    vm: &kept::Kept,
    holding: &Holding,
    spec: &VmSpec,
    description: &str,
    by: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO snapshot (id, vm, name, description, parent, spec, has_memory, made_at, made_by)
             SELECT ?1, ?2, ?3, ?4, vm.snapshot, ?5, ?6, ?7, ?8 FROM vm WHERE vm.id = ?2",
            params![
                holding.snapshot,
                vm.id.to_string(),
                holding.name,
                description,
                text(spec),
                holding.memory,
                now_ms,
                by
            ],
        )
        .map(drop)
}

/// From now on the disks of a machine are written to in other layers: those that are held lie ready below them.
pub(crate) fn lies_ready(
    connection: &Connection,
    host: HostId,
    vm: &str,
    holding: &Holding,
) -> Result<(), Refused> {
    on_host(connection, host, vm)?;
    one(connection, vm, &holding.snapshot)?;
    for disk in holding.disks.iter().filter(|disk| !disk.is_copied()) {
        if layers::find(connection, parsed(&disk.next)?)?.is_some() {
            continue;
        }
        let volume = volumes::one(connection, &disk.volume)?;
        if volume.layer.to_string() != disk.layer {
            return Err(conflict(format!("The disk {} has changed meanwhile.", volume.shown.name)));
        }
        lay(connection, host, disk, volume.shown.bytes)?;
        connection.execute(
            "INSERT INTO snapshot_disk (snapshot, volume, layer) VALUES (?1, ?2, ?3)",
            [&holding.snapshot, &disk.volume, &disk.layer],
        )?;
    }
    connection.execute("UPDATE vm SET snapshot = ?2 WHERE id = ?1", [vm, &holding.snapshot])?;
    Ok(())
}

/// Lets a volume be written to in another layer.
fn lay(connection: &Connection, host: HostId, disk: &HeldDisk, bytes: u64) -> Result<(), Refused> {
    let below = Below::Layer(parsed(&disk.layer)?);
    let below = (!disk.is_copied()).then_some(below);
    let (id, volume, pool) = (disk.next.as_str(), disk.volume.as_str(), disk.pool.as_str());
    layers::add(connection, New { id, volume: Some(volume), pool, host, below, bytes })?;
    connection
        .execute("UPDATE volume SET layer = ?2, bytes = ?3 WHERE id = ?1", params![volume, id, bytes])?;
    Ok(())
}

fn parsed(id: &str) -> Result<VolumeId, Refused> {
    id.parse().map_err(|error: quantix_storage::NoId| Refused::Sqlite(unreadable(error)))
}

fn on_host(connection: &Connection, host: HostId, vm: &str) -> Result<kept::Kept, Refused> {
    let kept = kept::one(connection, vm)?;
    if kept.host == host { Ok(kept) } else { Err(kept::not_there().into()) }
}

/// A snapshot is made.
pub(crate) fn is_made(
    connection: &Connection,
    host: HostId,
    vm: &str,
    snapshot: &str,
    memory: Option<u64>,
    is_frozen: bool,
    copies: &[HeldDisk],
) -> Result<(), Refused> {
    on_host(connection, host, vm)?;
    one(connection, vm, snapshot)?;
    for disk in copies {
        if layers::find(connection, parsed(&disk.layer)?)?.is_some() {
            continue;
        }
        let bytes = volumes::one(connection, &disk.volume)?.shown.bytes;
        // It is the snapshot's alone: the volume does not consist of it.
        let (id, pool) = (disk.layer.as_str(), disk.pool.as_str());
        layers::add(connection, New { id, volume: None, pool, host, below: None, bytes })?;
        connection.execute(
            "INSERT INTO snapshot_disk (snapshot, volume, layer) VALUES (?1, ?2, ?3)",
            [snapshot, &disk.volume, &disk.layer],
        )?;
    }
    connection.execute(
        "UPDATE snapshot SET is_ready = 1, memory = ?3, is_frozen = ?4 WHERE id = ?2 AND vm = ?1",
        params![vm, snapshot, memory, is_frozen],
    )?;
    Ok(())
}

/// A snapshot could not be made. The disks that are still written to in what was to be held go on so.
pub(crate) fn take_back(
    connection: &Connection,
    host: HostId,
    vm: &str,
    holding: &Holding,
    as_before: &[String],
) -> Result<(), Refused> {
    on_host(connection, host, vm)?;
    forget(connection, vm, &holding.snapshot)?;
    for disk in holding.disks.iter().filter(|disk| as_before.contains(&disk.volume)) {
        connection.execute(
            "UPDATE volume SET layer = ?2 WHERE id = ?1 AND layer = ?3",
            [&disk.volume, &disk.layer, &disk.next],
        )?;
        layers::is_gone(connection, host, &disk.next)?;
    }
    Ok(())
}

/// Forgets a snapshot. Those that came after it go on from the one before it.
fn forget(connection: &Connection, vm: &str, snapshot: &str) -> Result<(), Refused> {
    let Some(Kept { shown, .. }) = find(connection, vm, snapshot)? else { return Ok(()) };
    connection
        .execute("UPDATE snapshot SET parent = ?2 WHERE parent = ?1", params![snapshot, shown.parent])?;
    connection.execute(
        "UPDATE vm SET snapshot = ?2 WHERE id = ?3 AND snapshot = ?1",
        params![snapshot, shown.parent, vm],
    )?;
    connection.execute("DELETE FROM snapshot_disk WHERE snapshot = ?1", [snapshot])?;
    connection.execute("DELETE FROM snapshot WHERE id = ?1", [snapshot])?;
    Ok(())
}

/// Forgets snapshots of a machine; all of them, if none are named.
pub(crate) fn forget_some(
    connection: &Connection,
    host: HostId,
    vm: &str,
    named: Option<&[String]>,
) -> Result<(), Refused> {
    if kept::find(connection, vm)?.is_none_or(|kept| kept.host != host) {
        return Ok(());
    }
    let all;
    let these = match named {
        Some(named) => named,
        None => {
            all = of_vm(connection, vm)?.into_iter().map(|kept| kept.shown.id).collect::<Vec<_>>();
            &all
        }
    };
    these.iter().try_for_each(|snapshot| forget(connection, vm, snapshot))
}

/// A machine that is gone has no snapshots.
pub(crate) fn forget_all(connection: &Connection, vm: &str) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM snapshot_disk WHERE snapshot IN (SELECT id FROM snapshot WHERE vm = ?1)",
        [vm],
    )?;
    connection.execute("DELETE FROM snapshot WHERE vm = ?1", [vm]).map(drop)
}

/// The snapshots that go with one, if so with those that came from it: the last first.
pub(crate) fn with_children(
    connection: &Connection,
    vm: &str,
    snapshot: &Kept,
    children: bool,
) -> rusqlite::Result<Vec<String>> {
    let mut all = vec![snapshot.shown.id.clone()];
    if children {
        // The oldest come first: whatever came from one comes behind it.
        for kept in of_vm(connection, vm)? {
            if kept.shown.parent.as_ref().is_some_and(|parent| all.contains(parent)) {
                all.push(kept.shown.id);
            }
        }
    }
    all.reverse();
    Ok(all)
}

/// Gives a snapshot other words.
pub(crate) fn change(
    connection: &Connection,
    vm: &str,
    id: &str,
    change: &ChangeSnapshot,
    seen: Version,
) -> Result<Kept, Refused> {
    let before = one(connection, vm, id)?;
    seen.must_be(before.shown.version)?;
    let name = change.name.as_ref().unwrap_or(&before.shown.name);
    let description = change.description.as_ref().map(|words| words.replace("\r\n", "\n"));
    let description = description.as_ref().unwrap_or(&before.shown.description);
    check_words(name, description)?;
    name_must_be_free(connection, vm, name, id)?;
    connection.execute(
        "UPDATE snapshot SET name = ?2, description = ?3, version = version + 1 WHERE id = ?1",
        [id, name, description],
    )?;
    one(connection, vm, id)
}

/// What the host of a machine does so that it is again what it was at a snapshot.
pub(crate) fn revert(
    connection: &Connection,
    vm: &kept::Kept,
    id: &str,
    start: bool,
) -> Result<Reverting, Refused> {
    let snapshot = one(connection, &vm.id.to_string(), id)?;
    if !snapshot.shown.is_ready {
        return Err(conflict("The snapshot is just being made."));
    }
    match vm.state {
        VmState::Unknown => {
            return Err(conflict("Its host does not answer, so nobody knows how it is. Wait for the host."));
        }
        VmState::Starting | VmState::Stopping => return Err(conflict("Wait until it is on, or off.")),
        _ => {}
    }
    as_it_was(connection, vm, &snapshot)?;
    let mut disks = held(connection, id)?;
    for disk in &mut disks {
        disk.next = VolumeId::new().to_string();
    }
    Ok(Reverting {
        snapshot: id.to_owned(),
        name: snapshot.shown.name,
        disks,
        memory: snapshot.shown.has_memory,
        start: start || snapshot.shown.has_memory,
    })
}

/// The disks that a snapshot has.
pub(crate) fn held(connection: &Connection, snapshot: &str) -> rusqlite::Result<Vec<HeldDisk>> {
    connection
        .prepare_cached(
            "SELECT snapshot_disk.volume, layer.pool, layer.id FROM snapshot_disk
             JOIN layer ON layer.id = snapshot_disk.layer WHERE snapshot_disk.snapshot = ?1",
        )?
        .query_map([snapshot], |row| {
            Ok(HeldDisk { volume: row.get(0)?, pool: row.get(1)?, layer: row.get(2)?, next: String::new() })
        })?
        .collect()
}

/// The machine as it was at a snapshot, as far as it can be that again. What people call it stays.
fn as_it_was(connection: &Connection, vm: &kept::Kept, snapshot: &Kept) -> Result<VmSpec, Refused> {
    let mut spec = VmSpec {
        name: vm.spec.name.clone(),
        description: vm.spec.description.clone(),
        ..snapshot.spec.clone()
    };
    // Of an image that is gone the drive is empty.
    for cd in &mut spec.cds {
        if cd.image.as_ref().is_some_and(|image| images::check_cd(connection, image, vm.host).is_err()) {
            cd.image = None;
        }
    }
    checks::checked(connection, &spec, &vm.id.to_string(), vm.host)
}

/// A machine is again what it was: its disks are written to in new layers on those that were held.
pub(crate) fn is_back(
    connection: &Connection,
    host: HostId,
    vm: &str,
    reverting: &Reverting,
) -> Result<(), Refused> {
    let kept = on_host(connection, host, vm)?;
    let snapshot = one(connection, vm, &reverting.snapshot)?;
    let spec = as_it_was(connection, &kept, &snapshot)?;
    let mut is_new = false;
    for disk in &reverting.disks {
        if layers::find(connection, parsed(&disk.next)?)?.is_some() {
            continue;
        }
        let held = layers::find(connection, parsed(&disk.layer)?)?;
        let held = held.ok_or_else(|| conflict("A disk of the snapshot is not there any more."))?;
        lay(connection, host, disk, held.bytes)?;
        is_new = true;
    }
    let is_current: Option<String> =
        connection.query_row("SELECT snapshot FROM vm WHERE id = ?1", [vm], |row| row.get(0))?;
    if !is_new && is_current.as_ref() == Some(&reverting.snapshot) && kept.spec == spec {
        return Ok(());
    }
    volumes::give_to(connection, vm, &spec.disks)?;
    connection.execute(
        "UPDATE vm SET spec = ?2, snapshot = ?3, described = described + 1, version = version + 1 WHERE id = ?1",
        params![vm, text(&spec), reverting.snapshot],
    )?;
    Ok(())
}

/// Why a volume cannot be taken from its machine, if snapshots have it.
pub(crate) fn holds(connection: &Connection, volume: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(
            "SELECT snapshot.name FROM snapshot_disk JOIN snapshot ON snapshot.id = snapshot_disk.snapshot
             WHERE snapshot_disk.volume = ?1 ORDER BY snapshot.id LIMIT 1",
        )?
        .query_row([volume], |row| row.get(0))
        .optional()
}

/// The id of a machine's snapshot for the host that keeps its memory.
pub(crate) fn memory_of(snapshot: &str) -> Option<VolumeId> {
    snapshot.parse().ok()
}

/// Takes in what a host tells.
pub(crate) fn take(connection: &Connection, host: HostId, vm: VmId, told: &Told) -> Result<(), Refused> {
    let vm = &vm.to_string();
    match told {
        Told::LiesReady { holding } => lies_ready(connection, host, vm, holding),
        Told::IsMade { snapshot, memory, is_frozen, copies } => {
            is_made(connection, host, vm, snapshot, *memory, *is_frozen, copies)
        }
        Told::TakenBack { holding, as_before } => take_back(connection, host, vm, holding, as_before),
        Told::Forgotten { snapshots } => forget_some(connection, host, vm, snapshots.as_deref()),
        Told::IsBack { reverting } => is_back(connection, host, vm, reverting),
    }
}
