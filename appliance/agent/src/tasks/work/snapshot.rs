//! What is done with the snapshots of virtual machines on their host.
//!
//! Whatever ends in the middle, nothing that a guest wrote is lost: from the moment at which new layers lie ready, a machine
//! that starts writes to those, and what was there before is the same with and without them.

use std::{path::PathBuf, time::Duration};

use quantix_api::{Progress, TaskKind, Unit, VmState};
use quantix_compute::{Element, VmId, draw_hold, targets, with_files};
use quantix_storage::{Below, VolumeId};
use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::{Work, vm, volume::going};
use crate::{
    api::Agent,
    tasks::{
        kinds::{RevertEnds, revert_ends},
        runner::{Did, Hand},
    },
    vms::{
        cloud_init::POOL,
        disks::Source,
        holding::{Dropping, HeldDisk, Holding, Reverting, Told},
        snapshots::{self, memory_of},
    },
};

/// How far the memory is, and whether another task has ended, is looked at so often.
const LOOK: Duration = Duration::from_millis(300);
const NO_MEMORY: &str =
    "It was interrupted while its memory was kept, and stays without. Make the snapshot again.";

fn asked<T: DeserializeOwned>(work: &Work) -> Result<T, String> {
    serde_json::from_value(work.task.params.clone())
        .map_err(|error| format!("What is to be done cannot be read: {error}."))
}

async fn tell(work: &Work, told: Told) -> Result<(), String> {
    let cluster = &work.agent.cluster;
    cluster.tell_of_snapshot(vm::id(work)?, told).await.map_err(|problem| problem.detail)?;
    // What was told is read here next.
    cluster.catch_up().await.map_err(|problem| problem.detail)
}

fn id(text: &str) -> Result<VolumeId, String> {
    text.parse().map_err(|_| "The task names no layer.".to_owned())
}

async fn lay_each(agent: &Agent, disks: &[HeldDisk]) -> Result<(), String> {
    for disk in disks {
        let below = Below::Layer(id(&disk.layer)?);
        let laid = agent.pool(&disk.pool).lay(id(&disk.next)?, below, None).await;
        laid.map_err(|failed| failed.to_string())?;
    }
    Ok(())
}

/// Lays new layers on the disks of a machine, where they lie in layers.
pub(super) async fn lay(work: &Work) -> Result<Did, String> {
    let holding: Holding = asked(work)?;
    lay_each(&work.agent, &holding.in_layers()).await?;
    tell(work, Told::LiesReady { holding }).await?;
    Ok(Did::Done)
}

/// How the disks of a machine that is on stand.
struct Open {
    domain: Element,
    /// What is written to now, and what is to be written to.
    to_change: Vec<(PathBuf, PathBuf)>,
    /// The volumes that are written to in their new layers.
    changed: Vec<String>,
}

async fn open(agent: &Agent, vm: VmId, disks: &[HeldDisk]) -> Result<Open, String> {
    let description = agent.libvirt.running(vm).await.map_err(|failed| vm::sentence(&failed))?;
    let domain = Element::from_xml(&description).map_err(|error| error.to_string())?;
    let (mut to_change, mut changed) = (Vec::new(), Vec::new());
    for chain in quantix_compute::chains(&domain) {
        let written_to = &chain.layers[0].path;
        for disk in disks {
            let pool = agent.pool(&disk.pool);
            if pool.is_file_of(id(&disk.next)?, written_to.clone()).await {
                changed.push(disk.volume.clone());
            } else if pool.is_file_of(id(&disk.layer)?, written_to.clone()).await {
                to_change.push((written_to.clone(), pool.path(id(&disk.next)?)));
            }
        }
    }
    Ok(Open { domain, to_change, changed })
}

/// What is held of a machine.
struct Held {
    memory: Option<u64>,
    is_frozen: bool,
}

/// Holds its state.
pub(super) async fn hold(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (agent, vm, holding) = (&work.agent, vm::id(work)?, asked::<Holding>(work)?);
    let copies = holding.copied();
    let held = if copies.is_empty() {
        hold_layers(work, vm, &holding, hand).await
    } else {
        let held = hold_still(work, vm, &holding, &copies, hand).await;
        go_on_after(agent, vm, &holding).await?;
        held
    };
    let Some(held) = held? else { return Ok(Did::Stopped) };
    agent.describe_vm(vm).await?;
    let Held { memory, is_frozen } = held;
    tell(work, Told::IsMade { snapshot: holding.snapshot, memory, is_frozen, copies }).await?;
    agent.pools_changed.notify_one();
    agent.see_vm(vm, false).await?;
    Ok(Did::Done)
}

/// Holds its state while it stands still: what is copied of several disks, and of the memory, belongs to one moment.
async fn hold_still(
    work: &Work,
    vm: VmId,
    holding: &Holding,
    copies: &[HeldDisk],
    hand: &Hand,
) -> Result<Option<Held>, String> {
    let agent = &work.agent;
    let state = vm::state_or_off(agent, vm).await?;
    let kept = memory_of(&holding.snapshot).filter(|_| holding.memory);
    let has_memory = kept.is_some_and(|memory| agent.directory(POOL).memory(memory).exists());
    if are_there(agent, copies).await? {
        // It has gone on since, and all that was to be held is.
        return hold_layers(work, vm, holding, hand).await;
    }
    // It stands still as it was made to, before the program ended.
    let goes_on = holding.runs && state == VmState::Paused;
    if has_memory && !goes_on {
        return Err(NO_MEMORY.to_owned());
    }
    let mut is_frozen = false;
    if state == VmState::Running {
        if holding.freezes_here() {
            agent.libvirt.freeze(vm).await.map_err(|failed| vm::sentence(&failed))?;
            is_frozen = true;
        }
        agent.libvirt.pause(vm).await.map_err(|failed| vm::sentence(&failed))?;
    }
    if !goes_on {
        for disk in copies {
            agent.pool(&disk.pool).remove(id(&disk.layer)?).await.map_err(|failed| failed.to_string())?;
        }
    }
    let Some(held) = hold_layers(work, vm, holding, hand).await? else { return Ok(None) };
    for disk in copies {
        let copied = agent.pool(&disk.pool).lay(id(&disk.layer)?, Below::Layer(id(&disk.next)?), None).await;
        copied.map_err(|failed| failed.to_string())?;
    }
    Ok(Some(Held { is_frozen: is_frozen || held.is_frozen, ..held }))
}

/// Whether all copies are made.
async fn are_there(agent: &Agent, copies: &[HeldDisk]) -> Result<bool, String> {
    for disk in copies {
        let (_, found) = agent.pool(&disk.pool).look().await.map_err(|failed| failed.to_string())?;
        let copy = id(&disk.layer)?;
        if !found.iter().any(|volume| volume.id == copy) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lets a machine go on that stood still for its snapshot.
async fn go_on_after(agent: &Agent, vm: VmId, holding: &Holding) -> Result<(), String> {
    if holding.runs && vm::state_or_off(agent, vm).await? == VmState::Paused {
        agent.libvirt.resume(vm).await.map_err(|failed| vm::sentence(&failed))?;
    }
    if holding.runs && holding.freezes_here() {
        // One that is not held needs nothing.
        drop(agent.libvirt.thaw(vm).await);
    }
    Ok(())
}

/// Holds what lies in layers, and the memory: one that is off is held by the layers alone, one that is on goes on with the new
/// ones. Nothing if it was stopped.
async fn hold_layers(work: &Work, vm: VmId, holding: &Holding, hand: &Hand) -> Result<Option<Held>, String> {
    let agent = &work.agent;
    let is_on = vm::state_or_off(agent, vm).await?.is_on();
    let memory = memory_of(&holding.snapshot).filter(|_| holding.memory);
    let disks = holding.in_layers();
    let mut kept = None;
    let mut is_frozen = false;
    if is_on {
        let open = open(agent, vm, &disks).await?;
        if open.changed.len() + open.to_change.len() != disks.len() {
            return Err(
                "Its disks are not those that are known here. Shut it down, and try again.".to_owned()
            );
        }
        let pool = agent.directory(POOL);
        let is_kept = memory.is_some_and(|memory| pool.memory(memory).exists());
        if memory.is_some() && !is_kept && !open.changed.is_empty() {
            return Err(NO_MEMORY.to_owned());
        }
        if !is_kept && (memory.is_some() || !open.to_change.is_empty()) {
            let part = match memory {
                Some(memory) => {
                    Some(pool.memory_arriving(memory).await.map_err(|failed| failed.to_string())?)
                }
                None => None,
            };
            let drawn = draw_hold(&open.domain, &open.to_change, part.as_deref());
            match held(agent, vm, &drawn, holding.freeze, part, hand).await {
                Ok(true) => is_frozen = holding.freeze,
                Ok(false) => return Ok(None),
                // libvirt goes on with what was asked before a fault, and has done it while it was asked once more.
                Err(_) if memory.is_none() && is_held_already(agent, vm, &disks).await? => {}
                Err(why) => return Err(why),
            }
        }
        if let Some(memory) = memory {
            kept = Some(pool.keep_memory(memory).await.map_err(|failed| failed.to_string())?);
        }
    } else if holding.memory {
        return Err(NO_MEMORY.to_owned());
    }
    Ok(Some(Held { memory: kept, is_frozen }))
}

/// Whether all disks of a machine that is on are written to in their new layers.
async fn is_held_already(agent: &Agent, vm: VmId, disks: &[HeldDisk]) -> Result<bool, String> {
    let now = open(agent, vm, disks).await?;
    Ok(now.changed.len() == disks.len())
}

/// Asks libvirt to hold it, and tells meanwhile how much of the memory is kept. Whether it was not stopped.
async fn held(
    agent: &Agent,
    vm: VmId,
    drawn: &Element,
    freezes: bool,
    memory: Option<PathBuf>,
    hand: &Hand,
) -> Result<bool, String> {
    let mut holding = std::pin::pin!(agent.libvirt.hold(vm, drawn, freezes));
    let mut is_stopped = false;
    loop {
        tokio::select! {
            held = &mut holding => return match held {
                Ok(()) => Ok(true),
                Err(_) if is_stopped => Ok(false),
                Err(failed) => Err(vm::sentence(&failed)),
            },
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Some(path) = &memory {
            let written = tokio::fs::metadata(path).await.map_or(0, |about| about.len());
            hand.is_at(Progress::at(written, None, Unit::Bytes));
        }
        if hand.is_to_end() && memory.is_some() && !is_stopped {
            is_stopped = agent.libvirt.give_up(vm).await.is_ok();
        }
    }
}

/// Nothing of a snapshot stays that could not be made. Disks that have gone on in new layers already are put together again.
pub(super) async fn undo(work: &Work) {
    let (Ok(vm), Ok(holding)) = (vm::id(work), asked::<Holding>(work)) else { return };
    if let Err(why) = take_back(work, vm, holding).await {
        log::warn!("What was begun of a snapshot of {} stays: {why}", work.task.object_name);
    }
}

async fn take_back(work: &Work, vm: VmId, holding: Holding) -> Result<(), String> {
    let agent = &work.agent;
    let (disks, copies) = (holding.in_layers(), holding.copied());
    if !copies.is_empty() {
        go_on_after(agent, vm, &holding).await?;
    }
    let mut as_before = Vec::new();
    if vm::state_or_off(agent, vm).await?.is_on() {
        let changed = open(agent, vm, &disks).await?.changed;
        let others = disks.iter().map(|disk| disk.volume.clone());
        as_before = others.filter(|volume| !changed.contains(volume)).collect();
    }
    tell(work, Told::TakenBack { holding: holding.clone(), as_before }).await?;
    let known = agent.layers_here().await?;
    let laid = disks.iter().map(|disk| (disk, &disk.next));
    for (disk, made) in laid.chain(copies.iter().map(|disk| (disk, &disk.layer))) {
        let made = id(made)?;
        if !known.iter().any(|layer| layer.id == made) {
            agent.pool(&disk.pool).remove(made).await.map_err(|failed| failed.to_string())?;
        }
    }
    remove_memory(agent, &holding.snapshot).await?;
    agent.describe_vm(vm).await?;
    agent.tidy_layers(vm, |_, _| true).await?;
    agent.see_vm(vm, false).await.map(drop)
}

async fn remove_memory(agent: &Agent, snapshot: &str) -> Result<(), String> {
    let Some(memory) = memory_of(snapshot) else { return Ok(()) };
    agent.directory(POOL).remove_memory(memory).await.map_err(|failed| failed.to_string())
}

/// Waits until the state of the machine is held that another is cloned from. Whether it was not stopped.
pub(super) async fn is_held(work: &Work, source: &Source, hand: &Hand) -> Result<bool, String> {
    let of: VmId = source.vm.parse().map_err(|_| "The task names no virtual machine.".to_owned())?;
    loop {
        // Looked at before: once the task has ended, what it made is there.
        let is_under_way = work.agent.own_vm(of).await?.is_some_and(|vm| vm.task.is_some());
        let (vm, snapshot) = (source.vm.clone(), source.snapshot.clone());
        let find = move |connection: &Connection| snapshots::find(connection, &vm, &snapshot);
        let found = work.agent.cluster.read(find).await.map_err(|problem| problem.detail)?;
        match found {
            Some(snapshot) if snapshot.shown.is_ready => return Ok(true),
            Some(_) if is_under_way => {}
            Some(_) | None => {
                let sentence =
                    "The moment that it was to begin from is not kept. Clone the machine once more.";
                return Err(sentence.to_owned());
            }
        }
        if hand.is_to_end() {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes a machine back to a snapshot.
pub(super) async fn revert(work: &Work, step: usize, hand: &Hand) -> Result<Did, String> {
    let ends = revert_ends(&work.task.params);
    match (step, ends) {
        (0, _) => switch_off(work).await,
        (1, _) => go_back(work).await,
        (2, RevertEnds::Woken) => wake(work).await,
        (3, RevertEnds::Woken) => go_on(work).await,
        (2, RevertEnds::Started) => vm::start(work, hand).await,
        _ => tidy(work, hand).await,
    }
}

async fn switch_off(work: &Work) -> Result<Did, String> {
    let (agent, vm) = (&work.agent, vm::id(work)?);
    let state = vm::state_or_off(agent, vm).await?;
    if state.is_on() || state == VmState::Suspended {
        agent.libvirt.force_stop(vm).await.map_err(|failed| vm::sentence(&failed))?;
    }
    agent.see_vm(vm, false).await?;
    Ok(Did::Done)
}

async fn go_back(work: &Work) -> Result<Did, String> {
    let (agent, vm, reverting) = (&work.agent, vm::id(work)?, asked::<Reverting>(work)?);
    agent.settle_names(vm).await?;
    lay_each(agent, &reverting.disks).await?;
    tell(work, Told::IsBack { reverting }).await?;
    agent.describe_vm(vm).await?;
    agent.see_vm(vm, false).await?;
    Ok(Did::Done)
}

/// Wakes it with the memory of then. It stands still until that is noted, so that nothing is written twice.
async fn wake(work: &Work) -> Result<Did, String> {
    let (agent, vm, reverting) = (&work.agent, vm::id(work)?, asked::<Reverting>(work)?);
    if !vm::state_or_off(agent, vm).await?.is_on() {
        let snapshot = memory_of(&reverting.snapshot).ok_or("The task names no snapshot.")?;
        let memory = agent.directory(POOL).memory(snapshot);
        let described = agent.libvirt.kept_description(&memory).await;
        let described =
            described.map_err(|failed| format!("Its memory of then cannot be read: {failed}."))?;
        let described = Element::from_xml(&described).map_err(|error| error.to_string())?;
        let machine = agent.own_vm(vm).await?.ok_or("It is not among the machines.")?;
        let drives = agent.drives(&machine).await?.into_iter().map(|drive| drive.path);
        let names = targets(&machine.spec, &described).into_iter();
        let files: Vec<_> = names.zip(drives).filter_map(|(name, path)| Some((name?, path))).collect();
        let woken = agent.libvirt.wake(&memory, &with_files(described, &files).to_xml()).await;
        woken.map_err(|failed| vm::sentence(&failed))?;
    }
    agent.see_vm(vm, true).await?;
    Ok(Did::Done)
}

async fn go_on(work: &Work) -> Result<Did, String> {
    let (agent, vm) = (&work.agent, vm::id(work)?);
    match vm::state_or_off(agent, vm).await? {
        VmState::Running => {}
        VmState::Paused => agent.libvirt.resume(vm).await.map_err(|failed| vm::sentence(&failed))?,
        _ => return Err("It ended while it woke. Take it back once more.".to_owned()),
    }
    agent.set_clock_of(vm);
    agent.see_vm(vm, true).await?;
    Ok(Did::Done)
}

/// Forgets snapshots, with the memory that was kept of them.
pub(super) async fn forget(work: &Work) -> Result<Did, String> {
    let dropping: Dropping = asked(work)?;
    tell(work, Told::Forgotten { snapshots: Some(dropping.snapshots.clone()) }).await?;
    for snapshot in &dropping.snapshots {
        remove_memory(&work.agent, snapshot).await?;
    }
    Ok(Did::Done)
}

/// Puts the layers together that nobody needs apart.
pub(super) async fn tidy(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (agent, vm) = (&work.agent, vm::id(work)?);
    if !agent.tidy_layers(vm, going(hand)).await? {
        return Ok(Did::Stopped);
    }
    agent.see_vm(vm, false).await?;
    Ok(Did::Done)
}

/// Forgets all snapshots of a machine that goes. The disks that stay are put together.
pub(super) async fn forget_all(work: &Work, vm: VmId, hand: &Hand) -> Result<Did, String> {
    let (agent, text) = (&work.agent, vm.to_string());
    let find = move |connection: &Connection| snapshots::of_vm(connection, &text);
    let there = agent.cluster.read(find).await.map_err(|problem| problem.detail)?;
    if there.is_empty() {
        return Ok(Did::Done);
    }
    for snapshot in &there {
        remove_memory(agent, &snapshot.shown.id).await?;
    }
    tell(work, Told::Forgotten { snapshots: None }).await?;
    if work.task.kind == TaskKind::DeleteVm && !super::has_volumes(&work.task.params) {
        return tidy(work, hand).await;
    }
    Ok(Did::Done)
}
