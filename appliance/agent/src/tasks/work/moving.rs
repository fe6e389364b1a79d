//! A volume goes into another pool, whether its machine is on or off.
//!
//! While it is on, all that its guest writes goes into both as soon as everything is copied: from then on either is right,
//! whatever ends. Only then is it noted that it is in the new one, and only after that does its guest go over.

use std::time::Duration;

use quantix_api::{Progress, Unit};
use quantix_compute::{Chain, Drive, Format, VmId, draw_copy};
use quantix_storage::Failed;

use super::{Work, vm, volume};
use crate::{
    api::Agent,
    storage::{asked::Asked, moving::Moving, volumes::Kept},
    tasks::runner::{Did, Hand},
    vms::disks,
};

/// How far libvirt is, is looked at so often: it tells only of the end.
const LOOK: Duration = Duration::from_millis(200);
/// What has to be told is told again after so long.
const AGAIN: Duration = Duration::from_secs(2);

fn asked(work: &Work) -> Result<Moving, String> {
    serde_json::from_value(work.task.params.clone())
        .map_err(|error| format!("What is to be moved cannot be read: {error}."))
}

fn sentence(failed: Failed) -> String {
    failed.to_string()
}

/// A machine that is on, and what QEMU has open as the disk that is moved.
struct Open {
    vm: VmId,
    chain: Chain,
    /// Whether it has gone over.
    is_new: bool,
}

/// The disk as its machine has it open; nothing if no machine is on that has it.
async fn open(agent: &Agent, kept: &Kept, moving: &Moving) -> Result<Option<Open>, String> {
    let Some(vm) = disks::machine_of(kept) else { return Ok(None) };
    if !vm::state_or_off(agent, vm).await?.is_on() {
        return Ok(None);
    }
    for chain in agent.chains(vm).await? {
        for (place, is_new) in [(&moving.from, false), (&moving.to, true)] {
            let written_to = chain.layers[0].path.clone();
            if agent.pool(&place.pool).is_file_of(place.layer, written_to).await {
                return Ok(Some(Open { vm, chain, is_new }));
            }
        }
    }
    // It waits to be plugged in.
    Ok(None)
}

async fn find(agent: &Agent, moving: &Moving) -> Result<Option<Kept>, String> {
    agent.cluster.catch_up().await.map_err(|problem| problem.detail)?;
    volume::find(agent, &moving.volume).await
}

/// Copies it, and lets its machine go on with the copy.
pub(super) async fn bring_over(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (agent, moving) = (&work.agent, asked(work)?);
    let gone = "The volume is not there any more.";
    let mut kept = find(agent, &moving).await?.ok_or(gone)?;
    if kept.layer != moving.to.layer {
        if kept.shown.bytes < moving.bytes {
            // Where volumes are devices, they consist of whole units.
            volume::grow_to(agent, &kept, moving.bytes).await?;
        }
        let was_open = open(agent, &kept, &moving).await?;
        let copied = match &was_open {
            Some(open) => copy_live(agent, open, &moving, hand).await?,
            None => copy(agent, &moving, hand).await?,
        };
        if !copied {
            return Ok(Did::Stopped);
        }
        if was_open.is_none() && open(agent, &kept, &moving).await?.is_some() {
            return Err(
                "Its machine was switched on meanwhile by somebody else. Move it once more.".to_owned()
            );
        }
        agent.tell_of_storage(Asked::GoesOver { moving: moving.clone() }).await?;
        kept = find(agent, &moving).await?.ok_or(gone)?;
    }
    if let Some(open) = open(agent, &kept, &moving).await?
        && !open.is_new
    {
        let gone_over = agent.libvirt.end_job(open.vm, &open.chain.target, true).await;
        gone_over.map_err(|failed| vm::sentence(&failed))?;
    }
    // From here on nothing leads back: what is described too late is described when the machine is looked at next.
    if let Some(vm) = disks::machine_of(&kept)
        && let Err(why) = agent.describe_vm(vm).await
    {
        log::warn!(
            "The machine {vm} is not described with its volume in another pool: {}",
            String::from(why)
        );
    }
    agent.pools_changed.notify_one();
    Ok(Did::Done)
}

/// Copies what nobody has open. Whether it was not stopped.
async fn copy(agent: &Agent, moving: &Moving, hand: &Hand) -> Result<bool, String> {
    let (from, to) = (agent.pool(&moving.from.pool), agent.pool(&moving.to.pool));
    // A copy that was begun is not what was written since.
    to.remove(moving.to.layer).await.map_err(sentence)?;
    let going = volume::going(hand);
    match to.copy_from(moving.to.layer, &from, moving.from.layer, moving.bytes, going).await {
        Ok(()) => Ok(true),
        Err(_) if hand.is_to_end() => Ok(false),
        Err(failed) => Err(sentence(failed)),
    }
}

/// Copies what a machine has open, until both hold the same. Whether it was not stopped.
async fn copy_live(agent: &Agent, open: &Open, moving: &Moving, hand: &Hand) -> Result<bool, String> {
    let (disk, failed) = (open.chain.target.as_str(), |failed| vm::sentence(&failed));
    let to = agent.pool(&moving.to.pool);
    let place = to.path(moving.to.layer);
    if open.chain.copy.as_ref() != Some(&place) {
        to.remove(moving.to.layer).await.map_err(sentence)?;
        to.make(moving.to.layer, moving.bytes).await.map_err(sentence)?;
        let format = if to.has_devices() { Format::Raw } else { Format::Qcow2 };
        let drawn = draw_copy(&Drive { path: place, format });
        agent.libvirt.copy_disk(open.vm, disk, &drawn).await.map_err(failed)?;
    }
    loop {
        let job = agent.libvirt.job(open.vm, disk).await.map_err(failed)?;
        let Some(job) = job else {
            return Err(format!(
                "It could not be copied. Is there room in the pool {}, and is its machine still on?",
                moving.pool_name
            ));
        };
        hand.is_at(Progress::at(job.done, Some(job.whole), Unit::Bytes));
        if hand.is_to_end() {
            return Ok(false);
        }
        if agent.chains(open.vm).await?.iter().any(|chain| chain.target == disk && chain.is_ready) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Removes what it was.
pub(super) async fn clear(work: &Work) -> Result<Did, String> {
    let (agent, moving) = (&work.agent, asked(work)?);
    agent.tell_of_storage(Asked::HasGoneOver { moving }).await?;
    agent.remove_spare_layers().await?;
    if let Some(vm) = work.task.vm() {
        agent.see_vm(vm, false).await?;
    }
    agent.pools_changed.notify_one();
    Ok(Did::Done)
}

/// It stays where it was, or is: a guest that has gone over does not come back.
pub(super) async fn undo(work: &Work) {
    let Ok(moving) = asked(work) else { return };
    while let Err(why) = take_back(work, &moving).await {
        log::warn!("Where the volume {} is has to be told before anything else: {why}", moving.name);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn take_back(work: &Work, moving: &Moving) -> Result<(), String> {
    let agent = &work.agent;
    let Some(kept) = find(agent, moving).await? else { return Ok(()) };
    let open = open(agent, &kept, moving).await?;
    // Its guest may have gone over and ended since.
    if open.as_ref().map_or(kept.layer == moving.to.layer, |open| open.is_new) {
        agent.tell_of_storage(Asked::GoesOver { moving: moving.clone() }).await?;
        return clear(work).await.map(drop);
    }
    // Until this is told both go on holding the same.
    agent.tell_of_storage(Asked::Stays { moving: moving.clone() }).await?;
    if let Some(open) = open.filter(|open| open.chain.copy.is_some()) {
        agent
            .libvirt
            .end_job(open.vm, &open.chain.target, false)
            .await
            .map_err(|failed| vm::sentence(&failed))?;
    }
    if let Err(failed) = agent.pool(&moving.to.pool).remove(moving.to.layer).await {
        log::warn!("What there is of the volume {} in another pool stays: {failed}", moving.name);
    }
    if let Some(vm) = disks::machine_of(&kept) {
        agent.describe_vm(vm).await?;
        agent.see_vm(vm, false).await?;
    }
    agent.pools_changed.notify_one();
    Ok(())
}
