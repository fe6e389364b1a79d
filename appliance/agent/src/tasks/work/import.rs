//! How a virtual machine that libvirt has, and that was not among the machines, becomes one of them: its disks become
//! volumes, and libvirt is told of these. What it had stays as it was, also when it goes wrong.

use serde_json::{Value, json};

use super::{
    Work,
    vm::{self, describe, id, making},
    volume,
};
use crate::tasks::{
    plan::Standing,
    runner::{Did, Hand},
};

/// What libvirt has of it before anything is done.
const BEFORE: &str = "before";

/// What must be remembered to leave it as it was.
pub(super) async fn memo(work: &Work) -> Value {
    let Ok(id) = id(work) else { return Value::Null };
    match work.agent.libvirt.description(id).await {
        Ok(description) => json!({ BEFORE: description }),
        // Then the first step says so.
        Err(_) => Value::Null,
    }
}

/// Makes its disks volumes.
pub(super) async fn take_disks(work: &Work, hand: &Hand) -> Result<Did, String> {
    work.agent.must_be_found(id(work)?, &making(work)?).await?;
    vm::make_disks(work, hand).await
}

/// Tells libvirt of these.
pub(super) async fn take_over(work: &Work, standing: &Standing) -> Result<Did, String> {
    if !standing.memo.is_object() {
        return Err("libvirt did not say what it has of it. Try again.".to_owned());
    }
    let (id, making) = (id(work)?, making(work)?);
    let described = work.agent.libvirt.description(id).await.map_err(|failed| vm::sentence(&failed))?;
    // An earlier attempt may have told it already.
    if making.is_of_originals(&described) {
        work.agent.must_be_found(id, &making).await?;
    }
    let done = describe(work).await?;
    if vm::state(&work.agent, id).await?.is_on() {
        let running = work.agent.libvirt.running(id).await.map_err(|failed| vm::sentence(&failed))?;
        // It goes on writing to what it had.
        if making.is_of_originals(&running) {
            return Err("It is on: somebody started it meanwhile. Shut it down, and try again.".to_owned());
        }
    }
    Ok(done)
}

/// Leaves it as it was.
pub(super) async fn undo(work: &Work, standing: &Standing) {
    let Ok(id) = id(work) else { return };
    let (agent, name) = (&work.agent, &work.task.object_name);
    if let Some(before) = standing.memo.get(BEFORE).and_then(Value::as_str) {
        let is_as_before = agent.libvirt.description(id).await.is_ok_and(|now| now == before);
        if !is_as_before && let Err(failed) = agent.libvirt.define(before.to_owned()).await {
            log::warn!("libvirt could not be told again what {name} was: {failed}");
        }
    }
    for one in making(work).map(|making| making.volumes).unwrap_or_default() {
        volume::take_back(agent, &one).await;
    }
    if let Err(problem) = agent.cluster.forget_vm(id).await {
        log::warn!("{name} could not be taken back: {problem}");
    }
}
