//! What is done with volumes on their host.

use quantix_api::{Progress, Unit};
use quantix_storage::{Backend, Below, VolumeId};

use super::Work;
use crate::{
    api::Agent,
    storage::{
        asked::Asked,
        layers, pools,
        volumes::{self, Kept, ToMake},
    },
    tasks::runner::{Did, Hand},
    vms::disks,
};

fn id(text: &str) -> Result<VolumeId, String> {
    text.parse().map_err(|_| "The task names no volume.".to_owned())
}

pub(super) async fn tell(agent: &Agent, asked: Asked) -> Result<(), String> {
    agent.tell_of_storage(asked).await
}

/// A volume as it is kept, if it is.
pub(super) async fn find(agent: &Agent, volume: &str) -> Result<Option<Kept>, String> {
    let volume = volume.to_owned();
    let find = agent.cluster.read(move |connection| volumes::find(connection, &volume)).await;
    find.map_err(|problem| problem.detail)
}

/// Tells how many bytes are done, and whether to go on.
pub(super) fn going(hand: &Hand) -> impl Fn(u64, Option<u64>) -> bool + Send + Sync + 'static {
    let hand = hand.clone();
    move |done, total| {
        hand.is_at(Progress::at(done, total, Unit::Bytes));
        !hand.is_to_end()
    }
}

/// Makes a volume that has its place among the volumes. Whether it was not stopped.
pub(super) async fn make_one(agent: &Agent, one: &ToMake, hand: &Hand) -> Result<bool, String> {
    let pool = agent.pool(&one.pool);
    let (id, bytes) = (id(&one.id)?, one.bytes);
    if let Some(Below::Image(image)) = one.begins_as()
        && !agent.bring_image(image, going(hand)).await?
    {
        return Ok(false);
    }
    let made = match (one.begins_as(), one.linked) {
        (None, _) if let Some(file) = &one.file => {
            let dir = agent.directory(&one.pool);
            let path = std::path::Path::new(&file.path);
            let path = if path.is_absolute() { Some(path.to_owned()) } else { dir.file(&file.path) };
            let path = path.ok_or_else(|| format!("{} is not in the pool any more.", file.path))?;
            dir.make_from_foreign(id, &path, file.format(), going(hand)).await
        }
        (None, _) => pool.make(id, bytes).await,
        (Some(below), true) => pool.lay(id, below, Some(bytes)).await,
        (Some(Below::Image(image)), false) => pool.make_from(id, image, bytes, going(hand)).await,
        (Some(Below::Layer(layer)), false) => pool.write_out(id, layer, bytes, going(hand)).await,
    };
    if made.is_err() && hand.is_to_end() {
        return Ok(false);
    }
    if made.is_err() {
        agent.pools_changed.notify_one();
    }
    made.map_err(|failed| failed.to_string())?;
    let linked = one.linked && !pools::is_thin(&one.pool);
    tell(agent, Asked::IsMade { volume: one.id.clone(), linked }).await?;
    agent.pools_changed.notify_one();
    Ok(true)
}

/// Nothing of a volume stays that could not be made, or that is not wanted any more.
pub(super) async fn take_back(agent: &Agent, one: &ToMake) {
    let Ok(id) = id(&one.id) else { return };
    // What was there before is nobody's to remove.
    if !one.file.as_ref().is_some_and(|file| file.stays)
        && let Err(failed) = agent.pool(&one.pool).remove(id).await
    {
        log::warn!("What there is of the volume {} could not be removed: {failed}", one.name);
    }
    if let Err(why) = forget_one(agent, &one.id).await {
        log::warn!("The volume {} could not be taken back: {why}", one.name);
    }
}

/// Removes what is in the pool.
pub(super) async fn remove_one(agent: &Agent, volume: &str) -> Result<(), String> {
    let Some(kept) = find(agent, volume).await? else { return Ok(()) };
    // What was on a host that is gone is nowhere any more.
    if agent.cluster.store().map_err(|problem| problem.detail)?.id() != kept.host {
        return Ok(());
    }
    // Others may lie on it: then only its name goes.
    let head = kept.layer;
    let is_shared = agent.cluster.read(move |connection| layers::has_above(connection, head)).await;
    if is_shared.map_err(|problem| problem.detail)? {
        return Ok(());
    }
    agent.pool(&kept.shown.pool).remove(head).await.map_err(|failed| failed.to_string())
}

/// Forgets it.
pub(super) async fn forget_one(agent: &Agent, volume: &str) -> Result<(), String> {
    tell(agent, Asked::Forget { volume: volume.to_owned() }).await?;
    // What it lay on may have been there for it alone.
    agent.remove_spare_layers().await?;
    agent.pools_changed.notify_one();
    Ok(())
}

fn to_make(work: &Work) -> Result<ToMake, String> {
    serde_json::from_value(work.task.params.clone())
        .map_err(|error| format!("What is to be made cannot be read: {error}."))
}

/// Makes a volume by itself.
pub(super) async fn make(work: &Work, hand: &Hand) -> Result<Did, String> {
    let one = to_make(work)?;
    let vm = work.task.vm().map(|vm| vm.to_string());
    tell(&work.agent, Asked::Add { volume: one.clone(), vm, by: work.task.actor.clone() }).await?;
    if !make_one(&work.agent, &one, hand).await? {
        return Ok(Did::Stopped);
    }
    if let Some(vm) = work.task.vm() {
        work.agent.cluster.catch_up().await.map_err(|problem| problem.detail)?;
        // What cannot be plugged in now is there from the next start.
        if let Err(why) = work.agent.change_while_on(vm).await {
            log::info!("A disk of {} is not plugged in: {why}", work.task.object_name);
        }
    }
    Ok(Did::Done)
}

/// Takes it back.
pub(super) async fn undo(work: &Work) {
    if let Ok(one) = to_make(work) {
        take_back(&work.agent, &one).await;
    }
}

/// Makes a volume bigger, for the guest that has it too.
pub(super) async fn grow(work: &Work) -> Result<Did, String> {
    let (agent, params) = (&work.agent, &work.task.params);
    let text = |name: &str| params.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let bytes = params.get("bytes").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let kept = find(agent, text("volume")).await?.ok_or("The volume is not there any more.")?;
    grow_to(agent, &kept, bytes).await?;
    Ok(Did::Done)
}

pub(super) async fn grow_to(agent: &Agent, kept: &Kept, bytes: u64) -> Result<(), String> {
    let pool = agent.pool(&kept.shown.pool);
    let grow = async || pool.grow(kept.layer, bytes).await.map_err(|failed| failed.to_string());
    if pool.has_devices() {
        // A device is bigger before its guest is told.
        grow().await?;
        grow_live(agent, kept, &pool, bytes).await?;
    } else if !grow_live(agent, kept, &pool, bytes).await? {
        grow().await?;
    }
    tell(agent, Asked::HasGrown { volume: kept.shown.id.clone(), bytes }).await
}

/// Whether a guest is on that has it, and was told.
async fn grow_live(agent: &Agent, kept: &Kept, pool: &Backend, bytes: u64) -> Result<bool, String> {
    let Some(vm) = disks::machine_of(kept) else { return Ok(false) };
    if !agent.vm_state_or_off(vm).await.map_err(|failed| format!("{failed}."))?.is_on() {
        return Ok(false);
    }
    // By what libvirt calls it: of a layer it may know another name.
    for chain in agent.chains(vm).await? {
        if pool.is_file_of(kept.layer, chain.layers[0].path.clone()).await {
            let grown = agent.libvirt.grow_disk(vm, chain.target, bytes).await;
            return grown.map(|()| true).map_err(|failed| format!("{failed}."));
        }
    }
    Err("Its guest does not have it yet: it waits for the next start.".to_owned())
}

/// The volume that a task is about.
fn own(work: &Work) -> Result<&str, String> {
    work.task.object.strip_prefix("volume/").ok_or_else(|| "The task names no volume.".to_owned())
}

/// Removes it from its pool.
pub(super) async fn remove(work: &Work) -> Result<Did, String> {
    remove_one(&work.agent, own(work)?).await?;
    Ok(Did::Done)
}

/// Forgets it.
pub(super) async fn forget(work: &Work) -> Result<Did, String> {
    forget_one(&work.agent, own(work)?).await?;
    Ok(Did::Done)
}
