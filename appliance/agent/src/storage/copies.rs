//! Copies of images on hosts that are not theirs. One is made where an image is first needed, and goes when the image does.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use quantix_api::{ImageState, Problem, ProblemCode, VmCd};
use quantix_compute::VmId;
use quantix_storage::{Failed, Going, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, params};

use super::{
    asked::Asked,
    images::{self, Kept},
    pools,
};
use crate::{api::Agent, lock};

/// A line that breaks, or a host that is away for a moment, is tried again so often.
const ATTEMPTS: u32 = 5;
const AGAIN: Duration = Duration::from_secs(2);
/// Whether it is one's turn is looked at so often.
const TURN: Duration = Duration::from_millis(100);

/// What is brought to this host.
#[derive(Debug, Default)]
pub(crate) struct Bringing {
    /// One after the other: whoever wants the same finds it.
    turn: tokio::sync::Mutex<()>,
    /// What is brought for machines that are on.
    behind: Mutex<HashSet<VolumeId>>,
}

/// Whether an image is on a host, as far as is known.
fn is_at(connection: &Connection, image: &Kept, host: HostId) -> rusqlite::Result<bool> {
    let known = || {
        connection
            .prepare_cached("SELECT 1 FROM image_copy WHERE image = ?1 AND host = ?2")?
            .exists(params![image.shown.id, host.0])
    };
    Ok(image.host == host || known()?)
}

/// Whether an image is there already where a machine would be.
pub(crate) fn is_there(connection: &Connection, image: &str, host: HostId) -> rusqlite::Result<bool> {
    images::find(connection, image)?.map_or(Ok(false), |image| is_at(connection, &image, host))
}

/// Refuses an image that is not on a host and cannot be brought there.
pub(super) fn must_reach(connection: &Connection, image: &Kept, host: HostId) -> Result<(), Problem> {
    let shown = &image.shown;
    let conflict = |sentence: String| Err(Problem::new(ProblemCode::Conflict, sentence));
    let is_there = is_at(connection, image, host).unwrap_or_default();
    match shown.state {
        ImageState::Ready => {}
        // It was ready when it was copied.
        ImageState::Unknown if is_there => {}
        ImageState::Unknown => {
            return conflict(format!(
                "The image {} is on {}, which does not answer.",
                shown.name, shown.host_name
            ));
        }
        _ => return conflict(format!("The image {} is not ready yet.", shown.name)),
    }
    if is_there {
        return Ok(());
    }
    // It takes room there as well.
    match pools::one(connection, &shown.pool).ok().map(|pool| pools::is_closed(&pool, host)) {
        Some(None) => Ok(()),
        Some(Some(why)) => conflict(why),
        None => conflict("The pool of the image is not there.".to_owned()),
    }
}

/// Notes that a host has a copy.
pub(super) fn add(connection: &Connection, image: &str, host: HostId) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT OR IGNORE INTO image_copy (image, host) SELECT id, ?2 FROM image WHERE id = ?1 AND host <> ?2",
            params![image, host.0],
        )
        .map(drop)
}

/// Notes that it has it no longer.
pub(super) fn is_gone(connection: &Connection, image: &str, host: HostId) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM image_copy WHERE image = ?1 AND host = ?2", params![image, host.0])
        .map(drop)
}

/// Forgets what was on a host that is removed. An image of which another has a copy is that one's.
pub(crate) fn forget_host(connection: &Connection, host: HostId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM image_copy WHERE host = ?1", [host.0])?;
    connection.execute(
        "UPDATE image SET host = copy.host FROM (SELECT image, min(host) AS host FROM image_copy GROUP BY image) AS copy
         WHERE copy.image = image.id AND image.host = ?1",
        [host.0],
    )?;
    connection
        .execute(
            "DELETE FROM image_copy
             WHERE EXISTS (SELECT 1 FROM image WHERE image.id = image_copy.image AND image.host = image_copy.host)",
            [],
        )
        .map(drop)
}

/// Copies on a host of images that are there no longer.
fn left_over(connection: &Connection, host: HostId) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT image FROM image_copy WHERE host = ?1 AND image NOT IN (SELECT id FROM image) LIMIT 100",
        )?
        .query_map([host.0], |row| row.get(0))?
        .collect()
}

impl Agent {
    /// Brings an image to this host, if it is not here. Whether it was not stopped.
    pub(crate) async fn bring_image(&self, id: VolumeId, going: impl Going) -> Result<bool, String> {
        let me = self.cluster.store().map_err(|problem| problem.detail)?.id();
        let find = move |connection: &Connection| {
            let Some(image) = images::find(connection, &id.to_string())? else { return Ok(None) };
            let is_known = is_at(connection, &image, me)?;
            Ok(Some((image, is_known)))
        };
        let found = self.cluster.read(find).await.map_err(|problem| problem.detail)?;
        let (image, is_known) = found.ok_or("The image is not there any more.")?;
        if image.host == me {
            return Ok(true);
        }
        let dir = self.directory(&image.shown.pool);
        let failed =
            |failed: Failed| format!("The image {} could not be brought here. {failed}", image.shown.name);
        let _turn = loop {
            // What is here waits for nobody.
            if dir.has_image(id).await.map_err(failed)? {
                break None;
            }
            match self.bringing.turn.try_lock() {
                Ok(turn) => break Some(turn),
                Err(_) if !going(0, None) => return Ok(false),
                Err(_) => tokio::time::sleep(TURN).await,
            }
        };
        if !dir.has_image(id).await.map_err(failed)? {
            match self.fetch_image(&image, &going).await {
                Ok(true) => dir.keep_copy(id, image.shown.is_cd()).await.map_err(failed)?,
                given_up => {
                    dir.forget_arrived(id).await.map_err(failed)?;
                    return given_up;
                }
            }
        }
        if !is_known {
            self.tell_of_storage(Asked::ImageIsCopied { image: id.to_string() }).await?;
        }
        Ok(true)
    }

    /// Fetches its file from its host, behind what has come already.
    async fn fetch_image(&self, image: &Kept, going: &impl Going) -> Result<bool, String> {
        let (dir, mut attempts) = (self.directory(&image.shown.pool), 0);
        let failed =
            |failed: Failed| format!("The image {} could not be brought here. {failed}", image.shown.name);
        loop {
            let at = dir.arrived(image.id).await.map_err(failed)?;
            let (piece, length) = match self.cluster.fetch_image(image.host, image.id, at).await {
                Ok(piece) => piece,
                Err(problem) if attempts < ATTEMPTS && problem.code == ProblemCode::Unavailable => {
                    attempts += 1;
                    if !going(at, None) {
                        return Ok(false);
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(problem) => {
                    let (name, host) = (&image.shown.name, &image.shown.host_name);
                    return Err(format!(
                        "The image {name} could not be brought from {host}. {}",
                        problem.detail
                    ));
                }
            };
            attempts = 0;
            let end = at + piece.len() as u64;
            if piece.is_empty() && at < length || end > length {
                return Err(format!("The image {} has changed while it was brought here.", image.shown.name));
            }
            dir.take_piece(image.id, at, vec![piece]).await.map_err(failed)?;
            if end == length {
                return Ok(true);
            }
            if !going(end, Some(length)) {
                return Ok(false);
            }
        }
    }

    /// Brings what shall be in the drives of a machine. Whether it was not stopped.
    pub(crate) async fn bring_cds(&self, cds: &[VmCd], going: impl Going) -> Result<bool, String> {
        for id in cds.iter().filter_map(|cd| cd.image.as_ref()?.parse().ok()) {
            if !self.bring_image(id, &going).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the file of an image is here. If not it is brought, and then the machines are looked at again.
    pub(crate) async fn has_or_brings(self: &Arc<Self>, vm: VmId, cd: &VmCd) -> bool {
        let Some(id) = cd.image.as_ref().and_then(|image| image.parse::<VolumeId>().ok()) else {
            return true;
        };
        if self.directory("local").has_image(id).await.unwrap_or(true) {
            return true;
        }
        if lock(&self.bringing.behind).insert(id) {
            let agent = Arc::clone(self);
            tokio::spawn(async move {
                let brought = agent.bring_image(id, |_, _| true).await;
                lock(&agent.bringing.behind).remove(&id);
                match brought {
                    Ok(_) => agent.vms_changed.notify_one(),
                    Err(why) => log::warn!("A CD waits to be put into a drive of {vm}: {why}"),
                }
            });
        }
        false
    }

    /// Removes copies of images that are there no longer.
    pub(super) async fn remove_left_over_copies(&self, me: HostId) -> Result<(), String> {
        let left = self.cluster.read(move |connection| left_over(connection, me)).await;
        for image in left.map_err(|problem| problem.detail)? {
            if let Ok(id) = image.parse() {
                self.directory("local").remove_image(id).await.map_err(|failed| failed.to_string())?;
            }
            self.tell_of_storage(Asked::CopyIsGone { image }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster,
        vms::kept::tests::{HOST, with_host, with_pool},
    };

    const OTHER: HostId = HostId(0x77);

    fn with_image() -> Connection {
        let connection = with_host();
        with_pool(&connection);
        connection
            .execute_batch(
                "INSERT INTO host (id, name, key_hash, joined_at) VALUES (119, 'qx-2', x'01', 0);
                 INSERT INTO pool_seen (pool, host, state, since, trouble, capacity, used)
                     VALUES ('local', 119, 'ready', 0, '', 1000, 100);",
            )
            .unwrap();
        connection
            .execute(
                "INSERT INTO image (id, name, file, os, os_version, pool, host, length, format, bytes, used, state, made_at, made_by)
                 VALUES (?1, 'Debian', '', '', '', 'local', ?2, 1, 'qcow2', 1, 1, 'ready', 0, 'ada')",
                params![ID, HOST.0],
            )
            .unwrap();
        connection
    }

    const ID: &str = "0190c6f4-7a10-7cc0-b2aa-0123456789ab";

    fn refused(connection: &Connection, host: HostId) -> Option<String> {
        let image = images::find(connection, ID).unwrap().unwrap();
        must_reach(connection, &image, host).err().map(|problem| problem.detail)
    }

    #[test]
    fn an_image_is_within_reach_while_its_host_answers_or_a_copy_is_there() {
        let connection = with_image();
        assert_eq!((refused(&connection, HOST), refused(&connection, OTHER)), (None, None));
        cluster::kept::note_lost(&connection, HOST, Some(1)).unwrap();
        assert!(refused(&connection, OTHER).unwrap().contains("is on qx-1, which does not answer"));
        add(&connection, ID, OTHER).unwrap();
        add(&connection, ID, OTHER).unwrap();
        assert_eq!(refused(&connection, OTHER), None);
        cluster::kept::note_lost(&connection, HOST, None).unwrap();
        is_gone(&connection, ID, OTHER).unwrap();
        connection.execute("UPDATE pool_seen SET state = 'missing' WHERE host = 119", []).unwrap();
        assert!(refused(&connection, OTHER).unwrap().contains("missing on qx-2"));
    }

    #[test]
    fn an_image_whose_host_is_removed_is_that_of_a_host_with_a_copy() {
        let connection = with_image();
        add(&connection, ID, OTHER).unwrap();
        assert_eq!(images::find(&connection, ID).unwrap().unwrap().shown.also_on, ["qx-2"]);
        cluster::kept::remove_host(&connection, HOST).unwrap();
        let image = images::find(&connection, ID).unwrap().unwrap();
        assert_eq!((image.host, image.shown.also_on.len()), (OTHER, 0));
        assert_eq!(image.shown.state, ImageState::Ready);
        assert!(left_over(&connection, OTHER).unwrap().is_empty());
        // What is left of one that is removed is found, and no copy of what is gone is noted.
        add(&connection, ID, HOST).unwrap();
        images::forget(&connection, ID).unwrap();
        assert_eq!(left_over(&connection, HOST).unwrap(), [ID]);
        add(&connection, ID, OTHER).unwrap();
        assert!(left_over(&connection, OTHER).unwrap().is_empty());
    }
}
