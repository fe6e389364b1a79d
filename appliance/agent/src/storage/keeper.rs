//! What each host does about its pools: it makes those that are new to it, and tells whoever leads how they are.

use std::{collections::HashMap, sync::Arc, time::Duration};

use quantix_api::{Pool, PoolState};
use quantix_storage::{Backend, Directory, Found, VolumeId};
use quantix_store::HostId;

use super::{
    asked::Asked,
    layers::{self, Known},
    pools,
    sighting::{MOST_LAYERS, Sighting},
};
use crate::api::Agent;

/// How full a pool is, and whether it is there, is looked at so often: nothing tells.
const LOOK: Duration = Duration::from_secs(10);
/// What could not be told is told again after so long.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether it is worth telling that something takes another room: what is a little different is the same.
fn differs(before: u64, now: u64, whole: u64) -> bool {
    before.abs_diff(now) > whole / 200
}

/// The layers that are otherwise than they are known.
fn changed(known: &[Known], there: &HashMap<VolumeId, u64>) -> Vec<(String, Option<u64>)> {
    let is_otherwise = |layer: &&Known| match there.get(&layer.id) {
        None => !layer.is_missing,
        Some(_) if layer.is_missing => true,
        Some(now) => layer.used.is_none_or(|before| differs(before, *now, layer.bytes.min(*now * 4))),
    };
    let changed = known.iter().filter(is_otherwise).take(MOST_LAYERS);
    changed.map(|layer| (layer.id.to_string(), there.get(&layer.id).copied())).collect()
}

impl Agent {
    /// The pool of an id on this host.
    pub(crate) fn pool(&self, id: &str) -> Backend {
        Backend::of(id, &self.pools_dir, &self.disks)
    }

    /// The same of one that is a directory, as those are in which images lie, and in which volumes lie on each other.
    pub(crate) fn directory(&self, id: &str) -> Directory {
        Directory::at(self.pools_dir.join(id))
    }

    /// Looks after this host's pools, for as long as the program runs.
    pub(crate) async fn keep_pools(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let me = store.id();
        loop {
            let pause = match self.look_at_pools(me).await {
                Ok(()) => LOOK,
                Err(why) => {
                    log::debug!("The pools wait to be looked at: {why}");
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.pools_changed.notified() => {}
            }
        }
    }

    async fn look_at_pools(&self, me: HostId) -> Result<(), String> {
        let pools = self.cluster.read(pools::list).await.map_err(|problem| problem.detail)?;
        let is_here = |pool: &Pool| pools::host_of(pool).is_none_or(|host| host == me);
        for pool in pools.into_iter().filter(is_here) {
            self.look_at_pool(&pool, me).await?;
        }
        self.remove_left_over_copies(me).await
    }

    async fn look_at_pool(&self, pool: &Pool, me: HostId) -> Result<(), String> {
        let (backend, before) = (self.pool(&pool.id), pools::on_host(pool, me));
        // A pool that was here once and is not any more is missed, and not made anew.
        if before.is_none_or(|before| before.capacity == 0)
            && let Err(failed) = backend.prepare().await
        {
            log::warn!("The pool {} could not be made: {failed}", pool.name);
        }
        let (state, trouble, room, layers) = match backend.look().await {
            Ok((room, found)) => {
                let layers = self.changed_layers(found, &pool.id, me).await?;
                (PoolState::Ready, String::new(), Some(room), layers)
            }
            // It is just being made.
            Err(_) if before.is_none() && pool.host.is_some() => return Ok(()),
            Err(failed) => (PoolState::Missing, failed.to_string(), None, Vec::new()),
        };
        let (capacity, used) = match (room, before) {
            (Some(room), _) => (room.capacity, room.used),
            (None, Some(before)) => (before.capacity, before.used),
            (None, None) => (0, 0),
        };
        let is_as_before = before.is_some_and(|before| {
            before.state == state
                && before.trouble == trouble
                && !differs(before.capacity, capacity, capacity)
                && !differs(before.used, used, capacity)
        });
        if is_as_before && layers.is_empty() {
            return Ok(());
        }
        let sighting = Sighting { pool: pool.id.clone(), state, trouble, capacity, used, layers };
        let told = self.cluster.ask_about_storage(Asked::Sees(Box::new(sighting))).await;
        told.map_err(|problem| problem.detail)?;
        // What was told is read here next: it must have arrived.
        self.cluster.catch_up().await.map_err(|problem| problem.detail)
    }

    async fn changed_layers(
        &self,
        found: Vec<Found>,
        pool: &str,
        me: HostId,
    ) -> Result<Vec<(String, Option<u64>)>, String> {
        let id = pool.to_owned();
        let known = self.cluster.read(move |connection| layers::in_pool(connection, &id, me)).await;
        let known = known.map_err(|problem| problem.detail)?;
        let there = found.into_iter().map(|found| (found.id, found.used)).collect();
        Ok(changed(&known, &there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        storage::{
            layers::in_pool,
            volumes::{ToMake, add, is_made},
        },
        vms::kept::tests::{HOST, with_host, with_pool},
    };

    #[test]
    fn only_what_is_worth_telling_is_told() {
        let connection = with_host();
        with_pool(&connection);
        let new = ToMake::empty(VolumeId::new().to_string(), "a".into(), "local".into(), 1 << 30);
        let id = add(&connection, &new, HOST, "ada", 1000).unwrap().id;
        let told = |there: Option<u64>| {
            let known = in_pool(&connection, "local", HOST).unwrap();
            changed(&known, &there.map(|used| (id, used)).into_iter().collect())
        };
        // It is just being made.
        assert_eq!(told(None), []);
        is_made(&connection, HOST, &new.id, false).unwrap();
        assert_eq!(told(Some(1 << 20)), [(new.id.clone(), Some(1 << 20))]);
        assert_eq!(told(None), [(new.id.clone(), None)]);
        connection.execute("UPDATE layer SET used = 1048576", []).unwrap();
        assert_eq!(told(Some((1 << 20) + 4096)), []);
        assert_eq!(told(Some(1 << 24)), [(new.id.clone(), Some(1 << 24))]);
        connection.execute("UPDATE layer SET is_missing = 1", []).unwrap();
        assert_eq!(told(None), []);
        assert_eq!(told(Some(1 << 20)), [(new.id, Some(1 << 20))]);
    }
}
