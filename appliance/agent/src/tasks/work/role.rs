//! Who leads, and who belongs to the cluster.

use std::sync::Arc;

use quantix_store::HostId;

use super::Work;
use crate::{cluster::kept, tasks::runner::Did};

fn host(work: &Work) -> Result<HostId, String> {
    work.task.host().ok_or_else(|| "The task names no host.".to_owned())
}

/// Gives the role to another host. That one finds the task then, and ends it.
pub(super) async fn give_to(work: &Work) -> Result<Did, String> {
    let (to, name) = (host(work)?, &work.task.object_name);
    let store = work.agent.cluster.store().map_err(|problem| problem.detail)?;
    if to == store.id() {
        return Ok(Did::Done);
    }
    let moving = Arc::clone(&store);
    // Whoever moves the role must see it through, whatever becomes of the task.
    let moved = tokio::spawn(async move { moving.move_lead(to).await }).await;
    match moved {
        Ok(Err(failure)) if store.leadership().borrow().is_some() => {
            Err(format!("{name} did not get the vDC role: {failure}."))
        }
        Err(_) => Err(format!("{name} did not get the vDC role: moving it broke off.")),
        // This host leads no longer, so it cannot write that either.
        Ok(_) => Ok(Did::Done),
    }
}

/// Makes sure that no host talks to it any more.
pub(super) async fn take_back_key(work: &Work) -> Result<Did, String> {
    let id = host(work)?;
    let taken = work.agent.cluster.write(move |connection| kept::remove_host(connection, id)).await;
    taken.map(|()| Did::Done).map_err(|problem| problem.detail)
}

/// Takes a host out of the cluster.
pub(super) async fn take_out(work: &Work) -> Result<Did, String> {
    let id = host(work)?;
    let store = work.agent.cluster.store().map_err(|problem| problem.detail)?;
    if id == store.id() {
        // The role has moved to it meanwhile. Whoever leads next takes it out.
        work.agent.cluster.hand_over().await.map_err(|problem| problem.detail)?;
        return Ok(Did::Done);
    }
    let name = &work.task.object_name;
    store.remove(id).await.map(|()| Did::Done).map_err(|failure| format!("{name} is still there: {failure}."))
}

/// Lets another host lead before this one goes, if there is one.
pub(super) async fn hand_over(work: &Work) -> Result<Did, String> {
    if let Err(problem) = work.agent.cluster.hand_over().await {
        // It is to go all the same; the others choose a leader then.
        log::warn!("This host goes while it leads: {problem}");
    }
    Ok(Did::Done)
}
