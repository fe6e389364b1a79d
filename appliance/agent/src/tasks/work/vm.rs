//! What is done with virtual machines on their host.

use std::time::Duration;

use quantix_api::{Progress, Unit, VmAction, VmState};
use quantix_compute::{Failed, VmId, allowed};
use serde_json::Value;
use tokio::time::Instant;

use super::{Work, snapshot, volume};
use crate::{
    api::Agent,
    tasks::runner::{Did, Hand},
    vms::disks::{Making, Removing, Source},
};

/// What libvirt does not tell is looked for so often.
const LOOK: Duration = Duration::from_secs(1);
/// Whether it has begun, which takes a moment, is looked at so often.
const BEGINS: Duration = Duration::from_millis(100);
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
const GONE: &str = "It is not there: it was removed, or could not be made.";

pub(super) fn id(work: &Work) -> Result<VmId, String> {
    work.task.vm().ok_or_else(|| "The task names no virtual machine.".to_owned())
}

pub(super) fn sentence(failed: &Failed) -> String {
    match failed {
        Failed::Unknown => GONE.to_owned(),
        failed => format!("{failed}."),
    }
}

/// How it is now, as libvirt says.
pub(super) async fn state(agent: &Agent, id: VmId) -> Result<VmState, String> {
    agent.look_at_vm(id).await.map(|seen| seen.state).map_err(|failed| sentence(&failed))
}

/// How it is once it does not just begin any more: an earlier attempt may have started it.
async fn once_begun(agent: &Agent, id: VmId) -> Result<VmState, String> {
    let begun = Instant::now();
    loop {
        let now = state(agent, id).await?;
        if now != VmState::Starting || begun.elapsed() > BEGINS_WITHIN {
            return Ok(now);
        }
        tokio::time::sleep(BEGINS).await;
    }
}

/// How it is now.
pub(super) async fn state_or_off(agent: &Agent, id: VmId) -> Result<VmState, String> {
    agent.vm_state_or_off(id).await.map_err(|failed| sentence(&failed))
}

/// Does one thing, if its state allows that; who has it done twice is told that it is done.
async fn act(
    work: &Work,
    action: VmAction,
    is_done: impl Fn(VmState) -> bool,
    act: impl AsyncFnOnce(VmId) -> Result<(), Failed>,
) -> Result<Did, String> {
    let (agent, id) = (&work.agent, id(work)?);
    let now = state(agent, id).await?;
    if !is_done(now) {
        allowed(action, now).map_err(|refused| refused.to_string())?;
        let done = act(id).await;
        // What came of it is told before the task ends: whoever waits for that end looks at the machine next.
        agent.see_vm(id, false).await?;
        done.map_err(|failed| sentence(&failed))?;
    } else {
        agent.see_vm(id, false).await?;
    }
    Ok(Did::Done)
}

pub(super) fn making(work: &Work) -> Result<Making, String> {
    serde_json::from_value(work.task.params.clone())
        .map_err(|error| format!("What is to be made cannot be read: {error}."))
}

/// Takes a place for it among the machines, if it has none any more.
async fn take_place(work: &Work, making: Making) -> Result<(), String> {
    let id = id(work)?;
    let taken = work.agent.cluster.add_vm(id, making, &work.task.actor).await;
    taken.map_err(|problem| problem.detail)?;
    // What was taken is read here next.
    work.agent.cluster.catch_up().await.map_err(|problem| problem.detail)
}

/// Makes the disks that are made with it.
pub(super) async fn make_disks(work: &Work, hand: &Hand) -> Result<Did, String> {
    let making = making(work)?;
    take_place(work, making.clone()).await?;
    if let Some(source) = &making.source
        && !snapshot::is_held(work, source, hand).await?
    {
        return Ok(Did::Stopped);
    }
    for one in &making.volumes {
        if !volume::make_one(&work.agent, one, hand).await? {
            return Ok(Did::Stopped);
        }
    }
    Ok(Did::Done)
}

/// Removes its disks.
pub(super) async fn remove_disks(work: &Work) -> Result<Did, String> {
    let removing: Removing = serde_json::from_value(work.task.params.clone())
        .map_err(|error| format!("What is to be removed cannot be read: {error}."))?;
    for id in &removing.volumes {
        volume::remove_one(&work.agent, id).await?;
        volume::forget_one(&work.agent, id).await?;
    }
    Ok(Did::Done)
}

/// Describes it to libvirt.
pub(super) async fn describe(work: &Work) -> Result<Did, String> {
    let (agent, id) = (&work.agent, id(work)?);
    let making = making(work)?;
    take_place(work, making.clone()).await?;
    agent.describe_vm(id).await?;
    if let Some(source) = making.source.filter(|source| source.is_passing) {
        drop_snapshot(work, source).await;
    }
    // It is made. What cannot be told of it now is told later.
    if let Err(why) = agent.see_vm(id, false).await {
        log::info!("{id} waits to be looked at: {why}");
    }
    Ok(Did::Done)
}

/// Nothing of a machine stays that could not be made. What libvirt cannot be asked to forget now has no place among the
/// machines all the same.
pub(super) async fn undo(work: &Work) {
    let Ok(id) = id(work) else { return };
    let (volumes, source) = making(work).map(|making| (making.volumes, making.source)).unwrap_or_default();
    for one in volumes {
        volume::take_back(&work.agent, &one).await;
    }
    if let Err(failed) = work.agent.libvirt.forget(id).await {
        log::warn!("libvirt did not forget {}: {failed}", work.task.object_name);
    }
    if let Err(why) = work.agent.forget_seed(id).await {
        log::warn!("What {} would be told could not be removed: {why}", work.task.object_name);
    }
    if let Err(problem) = work.agent.cluster.forget_vm(id).await {
        log::warn!("{} could not be taken back: {problem}", work.task.object_name);
    }
    if let Some(source) = source {
        drop_snapshot(work, source).await;
    }
}

/// Has the snapshot removed that was made for this machine to begin from.
async fn drop_snapshot(work: &Work, source: Source) {
    if let Err(problem) = work.agent.cluster.drop_snapshot(source.vm, source.snapshot).await {
        log::info!("A snapshot that was made for {} stays: {}", work.task.object_name, problem.detail);
    }
}

/// Switches it on, or wakes it.
pub(super) async fn start(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (agent, id) = (&work.agent, id(work)?);
    if let Some(vm) = agent.own_vm(id).await? {
        vm.must_be_no_template().map_err(|problem| problem.detail)?;
        if !agent.bring_cds(&vm.spec.cds, volume::going(hand)).await? {
            return Ok(Did::Stopped);
        }
    }
    agent.settle_names(id).await?;
    agent.describe_vm_as_it_runs_now(id).await?;
    let now = once_begun(agent, id).await?;
    let was_off = !matches!(now, VmState::Running | VmState::Suspended);
    if now != VmState::Running {
        allowed(VmAction::Start, now).map_err(|refused| refused.to_string())?;
        agent.pools_are_there(id).await?;
        agent.devices_are_free(id).await?;
        let with_console = work.task.params.get("with_console").and_then(Value::as_bool).unwrap_or(false);
        if let Err(failed) = agent.libvirt.start(id, with_console).await {
            agent.see_vm(id, false).await?;
            return Err(sentence(&failed));
        }
        if with_console {
            agent.await_console(id);
        }
        if now == VmState::Suspended {
            agent.set_clock_of(id);
        }
    }
    agent.see_vm(id, was_off).await?;
    Ok(Did::Done)
}

/// Asks the guest to end.
pub(super) async fn ask_to_end(work: &Work) -> Result<Did, String> {
    let is_off = |state| matches!(state, VmState::Stopped | VmState::Crashed);
    act(work, VmAction::ShutDown, is_off, async |id| work.agent.libvirt.shut_down(id).await).await
}

/// Waits until the guest has ended, and does what was said for when it does not.
pub(super) async fn wait_until_off(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (agent, id) = (&work.agent, id(work)?);
    let within = work.task.params.get("within").and_then(Value::as_u64).unwrap_or(120);
    let force = work.task.params.get("force").and_then(Value::as_bool).unwrap_or(false);
    let (begin, within_time) = (Instant::now(), Duration::from_secs(within));
    let mut events = agent.libvirt.events();
    loop {
        if !state(agent, id).await?.is_on() {
            agent.see_vm(id, false).await?;
            return Ok(Did::Done);
        }
        if hand.is_to_end() {
            return Ok(Did::Stopped);
        }
        let waited = begin.elapsed();
        if waited >= within_time {
            break;
        }
        hand.is_at(Progress::at(waited.as_secs(), Some(within), Unit::Seconds));
        // Whatever happens to any machine is a reason to look, and so is time that passes.
        drop(tokio::time::timeout(LOOK, events.recv()).await);
    }
    if !force {
        return Err(format!(
            "Its guest has not ended within {within} seconds. Look at its screen, or force it off."
        ));
    }
    let forced = agent.libvirt.force_stop(id).await;
    agent.see_vm(id, false).await?;
    forced.map(|()| Did::Done).map_err(|failed| sentence(&failed))
}

/// Asks the guest to start anew.
pub(super) async fn reboot(work: &Work) -> Result<Did, String> {
    act(work, VmAction::Reboot, |_| false, async |id| work.agent.libvirt.reboot(id).await).await
}

/// Switches it off.
pub(super) async fn force_stop(work: &Work) -> Result<Did, String> {
    let is_off = |state| matches!(state, VmState::Stopped | VmState::Crashed);
    act(work, VmAction::ForceStop, is_off, async |id| work.agent.libvirt.force_stop(id).await).await
}

/// Starts it anew.
pub(super) async fn reset(work: &Work) -> Result<Did, String> {
    act(work, VmAction::Reset, |_| false, async |id| work.agent.libvirt.reset(id).await).await
}

/// Lets it stand still.
pub(super) async fn pause(work: &Work) -> Result<Did, String> {
    let is_done = |state| state == VmState::Paused;
    act(work, VmAction::Pause, is_done, async |id| work.agent.libvirt.pause(id).await).await
}

/// Lets it go on.
pub(super) async fn resume(work: &Work) -> Result<Did, String> {
    let is_done = |state| state == VmState::Running;
    act(work, VmAction::Resume, is_done, async |id| work.agent.libvirt.resume(id).await).await
}

/// Puts its memory on disk.
pub(super) async fn suspend(work: &Work) -> Result<Did, String> {
    let is_done = |state| state == VmState::Suspended;
    act(work, VmAction::Suspend, is_done, async |id| work.agent.libvirt.suspend(id).await).await
}

/// Takes it from libvirt, with what that keeps of it.
pub(super) async fn take_from_libvirt(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (agent, id) = (&work.agent, id(work)?);
    // It may have been protected since an attempt that failed.
    if let Some(vm) = agent.own_vm(id).await? {
        vm.must_not_be_protected().map_err(|problem| problem.detail)?;
    }
    match state(agent, id).await {
        Ok(now) => allowed(VmAction::Delete, now).map_err(|refused| refused.to_string())?,
        Err(why) if why == GONE => {}
        Err(why) => return Err(why),
    }
    agent.libvirt.forget(id).await.map_err(|failed| sentence(&failed))?;
    agent.forget_seed(id).await?;
    snapshot::forget_all(work, id, hand).await
}

/// Forgets it.
pub(super) async fn forget(work: &Work) -> Result<Did, String> {
    let id = id(work)?;
    work.agent.cluster.forget_vm(id).await.map(|()| Did::Done).map_err(|problem| problem.detail)
}
