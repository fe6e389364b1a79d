//! A volume goes into another pool of its host: whether it may, and where it is meanwhile, as SQL.
//!
//! It is written to in a new layer from the moment at which both hold the same. The old one is kept until nobody may have it
//! open any more: if its guest does not go over, it goes back there.

use quantix_api::{Problem, ProblemCode, VmState, VolumeState};
use quantix_storage::{Below, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{
    layers, pools,
    volumes::{self, Kept},
};
use crate::{cluster::Refused, vms};

/// Where a volume is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) pool: String,
    pub(crate) layer: VolumeId,
}

/// A volume that goes into another pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moving {
    pub(crate) volume: String,
    /// What it is called, and the pool it goes into.
    pub(crate) name: String,
    pub(crate) pool_name: String,
    /// How big it is there.
    pub(crate) bytes: u64,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

fn conflict(sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Conflict, sentence).into()
}

/// Plans to move a volume, or says why it cannot be.
pub(crate) fn plan(connection: &Connection, volume: &Kept, pool: &str) -> Result<Moving, Refused> {
    let shown = &volume.shown;
    let in_pool = |code, sentence: String| Refused::from(Problem::new(code, sentence).in_field("pool"));
    let Ok(to) = pools::one(connection, pool) else {
        return Err(in_pool(ProblemCode::Invalid, "There is no such pool.".to_owned()));
    };
    if to.id == shown.pool {
        return Err(in_pool(
            ProblemCode::Invalid,
            format!("{} is in the pool {} already.", shown.name, to.name),
        ));
    }
    if let Some(why) = pools::is_closed(&to, volume.host) {
        return Err(in_pool(ProblemCode::Conflict, why));
    }
    let room = pools::on_host(&to, volume.host).map_or(0, |there| there.capacity.saturating_sub(there.used));
    if shown.used.is_some_and(|used| used > room) {
        let sentence = format!("There is not enough room for {} in the pool {}.", shown.name, to.name);
        return Err(in_pool(ProblemCode::Conflict, sentence));
    }
    match volumes::must_be_free(connection, &to.id, volume.host, &shown.name, &shown.id) {
        Err(Refused::Problem(problem)) => return Err(in_pool(problem.code, problem.detail)),
        free => free?,
    }
    if shown.state != VolumeState::Ready || shown.vm.is_some() != shown.vm_name.is_some() {
        return Err(conflict(format!("The volume {} is not there now.", shown.name)));
    }
    let vm = shown.vm.as_ref().map(|vm| vms::kept::one(connection, vm)).transpose()?;
    if let Some(vm) = &vm {
        vm.must_be_as_described()?;
    }
    if vm.is_some_and(|vm| vm.state == VmState::Suspended) {
        return Err(conflict(
            "The memory of its machine is on disk, and goes on with its disks where they were. Start it, or switch it off, first.",
        ));
    }
    let has_snapshots =
        connection.prepare_cached("SELECT 1 FROM snapshot_disk WHERE volume = ?1")?.exists([&shown.id])?;
    if has_snapshots {
        return Err(conflict(format!(
            "What {} was at snapshots stays in its pool. Remove the snapshots of its machine first.",
            shown.name
        )));
    }
    if layers::has_above(connection, volume.layer)? {
        return Err(conflict(format!("Other disks lie on {}, and need it where it is.", shown.name)));
    }
    Ok(Moving {
        volume: shown.id.clone(),
        name: shown.name.clone(),
        pool_name: to.name,
        bytes: pools::whole(&to.id, shown.bytes),
        from: Place { pool: shown.pool.clone(), layer: volume.layer },
        to: Place { pool: to.id, layer: VolumeId::new() },
    })
}

/// Notes that it is written to in its new layer from now on, whether its guest has gone over or goes over next. The old one
/// stays.
pub(crate) fn goes_over(connection: &Connection, host: HostId, moving: &Moving) -> Result<(), Refused> {
    let Some(kept) = volumes::find(connection, &moving.volume)?.filter(|kept| kept.host == host) else {
        return Err(conflict("The volume is not there any more."));
    };
    if kept.layer == moving.to.layer {
        return Ok(());
    }
    if kept.layer != moving.from.layer {
        return Err(conflict("The volume is not what it was when it was to be moved."));
    }
    let (pool, name) = (moving.to.pool.as_str(), kept.shown.name.as_str());
    volumes::must_be_free(connection, pool, host, name, &moving.volume)?;
    let (id, below) = (moving.to.layer.to_string(), Some(Below::Layer(moving.from.layer)));
    connection.execute("UPDATE layer SET volume = NULL WHERE volume = ?1", [&moving.volume])?;
    let new = layers::New { id: &id, volume: Some(&moving.volume), pool, host, below, bytes: moving.bytes };
    layers::add(connection, new)?;
    is_in(connection, &moving.volume, &moving.to)
}

/// Notes that it is in its old layer, whatever was noted before.
pub(crate) fn stays(connection: &Connection, host: HostId, moving: &Moving) -> Result<(), Refused> {
    let is_there = volumes::find(connection, &moving.volume)?
        .is_some_and(|kept| kept.host == host && kept.layer == moving.to.layer);
    if is_there {
        is_in(connection, &moving.volume, &moving.from)?;
        connection.execute(
            "UPDATE layer SET volume = ?1 WHERE id = ?2",
            [&moving.volume, &moving.from.layer.to_string()],
        )?;
        connection.execute("DELETE FROM layer WHERE id = ?1", [moving.to.layer.to_string()])?;
    }
    Ok(())
}

/// Notes that nobody has its old layer open any more.
pub(crate) fn has_gone_over(connection: &Connection, host: HostId, moving: &Moving) -> rusqlite::Result<()> {
    layers::stands_alone(connection, host, &moving.to.layer.to_string())
}

fn is_in(connection: &Connection, volume: &str, place: &Place) -> Result<(), Refused> {
    connection.execute(
        "UPDATE volume SET layer = ?2, pool = ?3, version = version + 1 WHERE id = ?1",
        params![volume, place.layer.to_string(), place.pool],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        storage::volumes::{ToMake, add, is_made, one},
        vms::kept::tests::{HOST, with_host, with_pool},
    };

    const FAST: &str = "thin-00000001";

    /// A volume, and a pool on the same host into which it can go.
    fn with_volume() -> (Connection, String) {
        let connection = with_host();
        with_pool(&connection);
        connection
            .execute_batch(&format!(
                "INSERT INTO pool (id, name, kind, full_at, host, disks) VALUES ('{FAST}', 'fast', 'thin', 90, {0}, '[]');
                 INSERT INTO pool_seen (pool, host, state, since, trouble, capacity, used)
                     VALUES ('{FAST}', {0}, 'ready', 0, '', 1000000000, 0);",
                HOST.0
            ))
            .unwrap();
        let new = ToMake::empty(VolumeId::new().to_string(), "data".into(), "local".into(), (64 << 20) + 512);
        add(&connection, &new, HOST, "ada", 1000).unwrap();
        is_made(&connection, HOST, &new.id, false).unwrap();
        (connection, new.id)
    }

    fn planned(connection: &Connection, id: &str, pool: &str) -> Result<Moving, String> {
        let planned = plan(connection, &one(connection, id).map_err(|_| "none").unwrap(), pool);
        planned.map_err(|refused| match refused {
            Refused::Problem(problem) => problem.detail,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn only_what_nobody_needs_where_it_is_is_moved() {
        let (connection, id) = with_volume();
        assert!(planned(&connection, &id, "nowhere").unwrap_err().contains("no such pool"));
        assert!(planned(&connection, &id, "local").unwrap_err().contains("already"));
        let moving = planned(&connection, &id, FAST).unwrap();
        assert_eq!((moving.bytes, moving.pool_name.as_str()), (65 << 20, "fast"));
        let why = |change: &str, back: &str| {
            connection.execute_batch(change).unwrap();
            let why = planned(&connection, &id, FAST).unwrap_err();
            connection.execute_batch(back).unwrap();
            why
        };
        assert!(
            why("UPDATE volume SET used = 2000000000", "UPDATE volume SET used = NULL")
                .contains("not enough room")
        );
        assert!(
            why("UPDATE pool_seen SET used = 950000000", "UPDATE pool_seen SET used = 0")
                .contains("per cent full")
        );
        assert!(
            why("UPDATE volume SET state = 'missing'", "UPDATE volume SET state = 'ready'")
                .contains("not there now")
        );
        let held = format!(
            "INSERT INTO snapshot (id, vm, name, description, spec, has_memory, made_at, made_by)
                 VALUES ('s', 'v', 'first', '', '{{}}', 0, 0, 'ada');
             INSERT INTO snapshot_disk (snapshot, volume, layer) VALUES ('s', '{id}', 'l')"
        );
        assert!(
            why(&held, "DELETE FROM snapshot_disk; DELETE FROM snapshot").contains("Remove the snapshots")
        );
        let above = format!(
            "INSERT INTO layer (id, pool, host, parent, bytes) VALUES ('x', 'local', {}, '{id}', 1)",
            HOST.0
        );
        assert!(why(&above, "DELETE FROM layer WHERE id = 'x'").contains("Other disks lie on data"));
        let other = format!(
            "INSERT INTO volume (id, name, pool, host, bytes, state, made_at, made_by, layer)
             VALUES ('y', 'Data', '{FAST}', {}, 1, 'ready', 0, 'ada', 'y')",
            HOST.0
        );
        assert!(why(&other, "DELETE FROM volume WHERE id = 'y'").contains("named data"));
        assert!(planned(&connection, &id, FAST).is_ok());
    }

    #[test]
    fn it_is_in_one_pool_or_the_other_whatever_is_told_twice() {
        let (connection, id) = with_volume();
        let moving = planned(&connection, &id, FAST).unwrap();
        let stands = || {
            let kept = one(&connection, &id).map_err(|_| "none").unwrap();
            let layers = layers::on_host(&connection, HOST).unwrap();
            let spare = layers.iter().filter(|layer| layers::is_spare(&layers, layer)).count();
            (kept.shown.pool, kept.layer, layers.len(), spare)
        };
        let (old, new) = (moving.from.layer, moving.to.layer);
        for _ in 0..2 {
            goes_over(&connection, HOST, &moving).unwrap();
            // What it was is not cleared away yet, whoever looks.
            assert_eq!(stands(), (FAST.to_owned(), new, 2, 0));
        }
        for _ in 0..2 {
            stays(&connection, HOST, &moving).unwrap();
            assert_eq!(stands(), ("local".to_owned(), old, 1, 0));
        }
        goes_over(&connection, HOST, &moving).unwrap();
        for _ in 0..2 {
            has_gone_over(&connection, HOST, &moving).unwrap();
            assert_eq!(stands(), (FAST.to_owned(), new, 2, 1));
        }
        layers::is_gone(&connection, HOST, &old.to_string()).unwrap();
        assert_eq!(stands(), (FAST.to_owned(), new, 1, 0));
        // Another host tells nothing of it, and what was written anew meanwhile is not taken for it.
        assert!(goes_over(&connection, HostId(77), &moving).is_err());
        connection.execute("UPDATE volume SET layer = 'z'", []).unwrap();
        connection.execute("UPDATE volume SET layer = ?1", [VolumeId::new().to_string()]).unwrap();
        assert!(goes_over(&connection, HOST, &moving).is_err());
    }
}
