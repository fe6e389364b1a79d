//! What is done with pools on their host.

use quantix_storage::ThinVolumes;
use rusqlite::Connection;

use super::{Work, volume::tell};
use crate::{
    storage::{asked::Asked, pools},
    tasks::runner::Did,
};

/// The pool that a task is about.
fn own(work: &Work) -> Result<(String, ThinVolumes), String> {
    let id = work.task.object.strip_prefix("pool/").ok_or("The task names no pool.")?;
    let pool = id.parse().map_err(|_| "The task names no pool that can be made.")?;
    Ok((id.to_owned(), ThinVolumes::new(pool, &work.agent.disks)))
}

/// The disks that a task is about, and whether what is on them may be lost.
fn disks(work: &Work) -> (Vec<String>, bool) {
    let params = &work.task.params;
    let named = params.get("disks").and_then(serde_json::Value::as_array);
    let disks = named.into_iter().flatten().filter_map(|disk| disk.as_str().map(str::to_owned)).collect();
    (disks, params.get("erase").and_then(serde_json::Value::as_bool).unwrap_or(false))
}

/// Makes it of its disks.
pub(super) async fn make(work: &Work) -> Result<Did, String> {
    let ((_, pool), (disks, erase)) = (own(work)?, disks(work));
    pool.make_pool(disks, erase).await.map_err(|failed| failed.to_string())?;
    work.agent.pools_changed.notify_one();
    Ok(Did::Done)
}

/// Makes it bigger by more disks.
pub(super) async fn add_disks(work: &Work) -> Result<Did, String> {
    let ((_, pool), (disks, erase)) = (own(work)?, disks(work));
    pool.add_disks(disks, erase).await.map_err(|failed| failed.to_string())?;
    work.agent.pools_changed.notify_one();
    Ok(Did::Done)
}

/// The disks by which it could not be made bigger are not its own. One on which there is something of it already stays.
pub(super) async fn give_back(work: &Work) {
    let done = async {
        let ((id, pool), (disks, _)) = (own(work)?, disks(work));
        pool.give_back(disks.clone()).await.map_err(|failed| failed.to_string())?;
        tell(&work.agent, Asked::DisksAreBack { pool: id, disks }).await
    };
    if let Err(why) = done.await {
        log::warn!("The disks for the pool {} could not be given back: {why}", work.task.object_name);
    }
}

/// Nothing of it stays that could not be made.
pub(super) async fn undo(work: &Work) {
    for done in [remove(work).await, forget(work).await] {
        if let Err(why) = done {
            log::warn!("What there is of the pool {} could not be removed: {why}", work.task.object_name);
        }
    }
}

/// Removes it, with what may be in it that nobody knows.
pub(super) async fn remove(work: &Work) -> Result<Did, String> {
    let (id, pool) = own(work)?;
    let find = move |connection: &Connection| Ok(pools::one(connection, &id).ok());
    let known = work.agent.cluster.read(find).await.map_err(|problem| problem.detail)?;
    let me = work.agent.cluster.store().map_err(|problem| problem.detail)?.id();
    // What was on a host that is gone is nowhere any more.
    if known.as_ref().and_then(pools::host_of) == Some(me) {
        pool.remove_pool().await.map_err(|failed| failed.to_string())?;
    }
    Ok(Did::Done)
}

/// Removes a file that nobody knows.
pub(super) async fn remove_file(work: &Work) -> Result<Did, String> {
    let pool = work.task.object.strip_prefix("pool/").ok_or("The task names no pool.")?;
    let path = work.task.params.get("path").and_then(serde_json::Value::as_str).unwrap_or_default();
    work.agent.remove_file(pool, path).await?;
    Ok(Did::Done)
}

/// Forgets it.
pub(super) async fn forget(work: &Work) -> Result<Did, String> {
    let (id, _) = own(work)?;
    tell(&work.agent, Asked::ForgetPool { pool: id }).await?;
    work.agent.pools_changed.notify_one();
    Ok(Did::Done)
}
