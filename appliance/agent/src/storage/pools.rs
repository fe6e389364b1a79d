//! Pools as they are kept, as SQL.

use jiff::Timestamp;
use quantix_api::{
    ChangePool, NewPool, Pool, PoolKind, PoolOnHost, PoolState, Problem, ProblemCode, text::is_line,
};
use quantix_storage::thin::{THIN_UNIT, ThinPool};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::volumes::unreadable;
use crate::{
    cluster::{self, Refused},
    events,
    version::Version,
};

const LONGEST_NAME: usize = 63;
const LONGEST_DISK: usize = 200;
/// Pools, and the disks of one.
const MOST: usize = 256;
const MOST_DISKS: usize = 32;
/// How many machines are named where a pool is missing.
const NAMED: usize = 5;
/// From this share of its room on a new pool takes nothing new, in per cent.
const FULL_AT: u8 = 90;

const SELECT: &str = "SELECT id, name, kind, host, disks, full_at, version FROM pool";

fn of_row(row: &Row<'_>) -> rusqlite::Result<Pool> {
    Ok(Pool {
        id: row.get("id")?,
        name: row.get("name")?,
        // Of what a later version calls a kind only the name is shown wrong: what a pool is made of stands in its id.
        kind: PoolKind::of(&row.get::<_, String>("kind")?).unwrap_or(PoolKind::Directory),
        host: row.get::<_, Option<u64>>("host")?.map(|host| HostId(host).to_string()),
        disks: serde_json::from_str(&row.get::<_, String>("disks")?).map_err(unreadable)?,
        limit: row.get("full_at")?,
        hosts: Vec::new(),
        version: row.get("version")?,
    })
}

/// How a pool is on its hosts.
fn on_hosts(connection: &Connection, pool: &str) -> rusqlite::Result<Vec<PoolOnHost>> {
    connection
        .prepare_cached(
            "SELECT host.id, host.name, CASE WHEN host.lost_at IS NULL THEN seen.state ELSE 'unknown' END AS state,
                    seen.since, seen.trouble, seen.capacity, seen.used,
                    coalesce(sum(volume.bytes), 0) AS promised, count(volume.id) AS volumes
             FROM pool_seen AS seen JOIN host ON host.id = seen.host
             LEFT JOIN volume ON volume.pool = seen.pool AND volume.host = seen.host
             WHERE seen.pool = ?1 GROUP BY host.id ORDER BY host.name COLLATE NOCASE",
        )?
        .query_map([pool], |row| {
            Ok(PoolOnHost {
                host: HostId(row.get("id")?).to_string(),
                host_name: row.get("name")?,
                state: state(row, "state")?,
                since: Timestamp::from_millisecond(row.get("since")?).unwrap_or_default(),
                trouble: row.get("trouble")?,
                capacity: row.get("capacity")?,
                used: row.get("used")?,
                promised: row.get("promised")?,
                volumes: row.get("volumes")?,
            })
        })?
        .collect()
}

fn state(row: &Row<'_>, column: &str) -> rusqlite::Result<PoolState> {
    // What a later version calls a state is none that is known here.
    Ok(PoolState::of(&row.get::<_, String>(column)?).unwrap_or(PoolState::Unknown))
}

/// All pools.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<Pool>> {
    let pools: Vec<Pool> = connection
        .prepare_cached(&format!("{SELECT} ORDER BY name COLLATE NOCASE"))?
        .query_map([], of_row)?
        .collect::<rusqlite::Result<_>>()?;
    pools.into_iter().map(|pool| Ok(Pool { hosts: on_hosts(connection, &pool.id)?, ..pool })).collect()
}

/// One pool.
pub(crate) fn one(connection: &Connection, id: &str) -> Result<Pool, Refused> {
    let found =
        connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], of_row).optional()?;
    let Some(pool) = found else {
        return Err(Problem::new(ProblemCode::NotFound, "There is no such pool.").into());
    };
    Ok(Pool { hosts: on_hosts(connection, &pool.id)?, ..pool })
}

fn invalid(field: &str, sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field).into()
}

/// Gives a pool another name, or another limit.
pub(crate) fn change(
    connection: &Connection,
    id: &str,
    change: &ChangePool,
    seen: Version,
) -> Result<Pool, Refused> {
    let before = one(connection, id)?;
    seen.must_be(before.version)?;
    let name = change.name.as_ref().unwrap_or(&before.name);
    check_name(connection, name, id)?;
    let limit = change.limit.unwrap_or(before.limit);
    if !(1..=100).contains(&limit) {
        return Err(invalid("limit", "A limit is 1 to 100 per cent."));
    }
    connection.execute(
        "UPDATE pool SET name = ?2, full_at = ?3, version = version + 1 WHERE id = ?1",
        params![id, name, limit],
    )?;
    one(connection, id)
}

fn check_name(connection: &Connection, name: &str, but: &str) -> Result<(), Refused> {
    if name.trim() != name || name.is_empty() || !is_line(name, LONGEST_NAME) {
        let sentence =
            format!("A name is one line of at most {LONGEST_NAME} characters, without spaces around it.");
        return Err(invalid("name", sentence));
    }
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM pool WHERE name = ?1 COLLATE NOCASE AND id <> ?2")?
        .exists(params![name, but])?;
    if is_taken {
        return Err(invalid("name", format!("There is a pool named {name} already.")));
    }
    Ok(())
}

/// Takes a place for a pool that its host makes next.
pub(crate) fn add(connection: &Connection, new: &NewPool, host: HostId) -> Result<Pool, Refused> {
    check_name(connection, &new.name, "")?;
    let there = list(connection)?;
    check_disks(there.iter(), &new.disks, &host.to_string())?;
    if there.len() >= MOST {
        return Err(Problem::new(ProblemCode::Conflict, format!("There are {MOST} pools already.")).into());
    }
    let id = ThinPool::new().to_string();
    connection.execute(
        "INSERT INTO pool (id, name, kind, full_at, host, disks) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![id, new.name, PoolKind::Thin.name(), FULL_AT, host.0, as_json(&new.disks)],
    )?;
    one(connection, &id)
}

fn as_json(disks: &[String]) -> String {
    // Texts always have a form in JSON.
    serde_json::to_string(disks).unwrap_or_default()
}

/// Refuses disks of a host that a pool beside others cannot be made of.
fn check_disks<'a>(
    others: impl Iterator<Item = &'a Pool>,
    disks: &[String],
    host: &str,
) -> Result<(), Refused> {
    if disks.is_empty() || disks.len() > MOST_DISKS {
        return Err(invalid("disks", format!("A pool is made of 1 to {MOST_DISKS} disks.")));
    }
    for (at, disk) in disks.iter().enumerate() {
        if disk.is_empty() || !is_line(disk, LONGEST_DISK) {
            return Err(invalid(
                "disks",
                "Disks are named by the ids that the list of the host's disks has.",
            ));
        }
        if disks[..at].contains(disk) {
            return Err(invalid("disks", format!("The disk {disk} is named twice.")));
        }
    }
    for pool in others.filter(|pool| pool.host.as_deref() == Some(host)) {
        if let Some(disk) = disks.iter().find(|disk| pool.disks.contains(disk)) {
            let sentence = format!("The disk {disk} belongs to the pool {}.", pool.name);
            return Err(invalid("disks", sentence));
        }
    }
    Ok(())
}

/// Takes a place in a pool for more disks of its host, which makes it bigger by them next. Those that have one keep it: of
/// one that could be neither taken nor given back it is known when it is tried again.
pub(crate) fn add_disks(
    connection: &Connection,
    id: &str,
    disks: &[String],
) -> Result<(Pool, HostId), Refused> {
    let pool = one(connection, id)?;
    let Some((host, name)) = host_of(&pool).zip(pool.host.as_ref()) else {
        let sentence = format!("The pool {} is a directory: it is as big as what it lies on.", pool.name);
        return Err(Problem::new(ProblemCode::Conflict, sentence).into());
    };
    let there = list(connection)?;
    check_disks(there.iter().filter(|other| other.id != id), disks, name)?;
    let more = disks.iter().filter(|disk| !pool.disks.contains(disk));
    let all: Vec<_> = pool.disks.iter().chain(more).cloned().collect();
    if all.len() > MOST_DISKS {
        return Err(invalid("disks", format!("A pool is made of 1 to {MOST_DISKS} disks.")));
    }
    set_disks(connection, id, &all)?;
    Ok((one(connection, id)?, host))
}

/// Takes disks out of a pool, as its host tells: it could not be made bigger by them.
pub(crate) fn disks_are_back(
    connection: &Connection,
    id: &str,
    disks: &[String],
    teller: HostId,
) -> Result<(), Refused> {
    let Ok(pool) = one(connection, id) else { return Ok(()) };
    if host_of(&pool) != Some(teller) {
        return Ok(());
    }
    let left: Vec<_> = pool.disks.into_iter().filter(|disk| !disks.contains(disk)).collect();
    Ok(set_disks(connection, id, &left)?)
}

fn set_disks(connection: &Connection, id: &str, disks: &[String]) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE pool SET disks = ?2, version = version + 1 WHERE id = ?1",
            params![id, as_json(disks)],
        )
        .map(drop)
}

/// Refuses to remove a pool that every host has, or in which something is.
pub(crate) fn must_be_empty(connection: &Connection, pool: &Pool) -> Result<(), Refused> {
    let conflict = |sentence: String| Err(Problem::new(ProblemCode::Conflict, sentence).into());
    if pool.host.is_none() {
        return conflict(format!("Every host has the pool {}: it stays.", pool.name));
    }
    let count: u64 = connection
        .prepare_cached("SELECT count(*) FROM volume WHERE pool = ?1")?
        .query_row([&pool.id], |row| row.get(0))?;
    if count > 0 {
        return conflict(match count {
            1 => format!("There is a volume in the pool {}. Remove it first.", pool.name),
            _ => format!("There are {count} volumes in the pool {}. Remove them first.", pool.name),
        });
    }
    let is_held = connection.prepare_cached("SELECT 1 FROM layer WHERE pool = ?1")?.exists([&pool.id])?;
    if is_held {
        return conflict(format!("Snapshots are in the pool {}. Remove them first.", pool.name));
    }
    Ok(())
}

/// Forgets a pool, as its host tells, or whoever leads if that is gone for good.
pub(crate) fn forget(connection: &Connection, id: &str, teller: HostId, now_ms: i64) -> Result<(), Refused> {
    let Ok(pool) = one(connection, id) else { return Ok(()) };
    let Some(host) = host_of(&pool) else { return Ok(()) };
    if host != teller && cluster::kept::is_there(connection, host)? {
        return Ok(());
    }
    must_be_empty(connection, &pool)?;
    let about_it = format!("pool/{id}/");
    for (rest, _) in events::open_below(connection, &about_it)? {
        events::clear(connection, &format!("{about_it}{rest}"), now_ms)?;
    }
    connection.execute("DELETE FROM pool WHERE id = ?1", [id])?;
    Ok(())
}

/// The host that a pool is on alone.
pub(crate) fn host_of(pool: &Pool) -> Option<HostId> {
    u64::from_str_radix(pool.host.as_deref()?, 16).ok().map(HostId)
}

/// How big a volume becomes in a pool for which so much is asked.
pub(crate) fn whole(pool: &str, bytes: u64) -> u64 {
    if is_thin(pool) { bytes.next_multiple_of(THIN_UNIT) } else { bytes }
}

/// Whether a pool keeps thin volumes, which lie on nothing: what begins as another shares with it what both have in
/// common, and neither needs the other.
pub(crate) fn is_thin(pool: &str) -> bool {
    pool.parse::<ThinPool>().is_ok()
}

/// How a pool is on a host; nothing where it is not.
pub(crate) fn on_host(pool: &Pool, host: HostId) -> Option<&PoolOnHost> {
    let host = host.to_string();
    pool.hosts.iter().find(|there| there.host == host)
}

/// Why nothing new can be put into a pool on a host, if so.
pub(crate) fn is_closed(pool: &Pool, host: HostId) -> Option<String> {
    let Some(there) = on_host(pool, host) else {
        return Some(format!("The pool {} is not on this host.", pool.name));
    };
    let name = &there.host_name;
    match there.state {
        PoolState::Missing => Some(format!("The pool {} is missing on {name}: {}", pool.name, there.trouble)),
        PoolState::Unknown => Some(format!("{name} does not answer.")),
        PoolState::Ready if is_full(pool, there) => Some(format!(
            "The pool {} on {name} is {} per cent full, and takes nothing new from {} on. Make room, or raise the limit.",
            pool.name,
            per_cent(there.used, there.capacity),
            pool.limit
        )),
        PoolState::Ready => None,
    }
}

fn is_full(pool: &Pool, there: &PoolOnHost) -> bool {
    u128::from(there.used) * 100 >= u128::from(there.capacity) * u128::from(pool.limit)
}

/// What a machine misses with pools that its host has lost, since when, and why; nothing if it misses none.
pub(crate) fn missed_by(connection: &Connection, vm: &str) -> rusqlite::Result<String> {
    let missing: Vec<(String, i64, String)> = connection
        .prepare_cached(
            "SELECT DISTINCT pool.name, seen.since, seen.trouble FROM pool_seen AS seen JOIN pool ON pool.id = seen.pool
             JOIN volume ON volume.pool = seen.pool AND volume.host = seen.host
             WHERE seen.state = 'missing' AND volume.vm = ?1 ORDER BY pool.name COLLATE NOCASE",
        )?
        .query_map([vm], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let sentences = missing.into_iter().map(|(pool, since, why)| {
        let since = Timestamp::from_millisecond(since).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC");
        format!("The pool {pool} with its disks is missing since {since}: {why}")
    });
    Ok(sentences.collect::<Vec<_>>().join(" "))
}

/// Machines that have disks in a pool on a host, the first of them by name, and how many there are.
pub(crate) fn users_of(
    connection: &Connection,
    pool: &str,
    host: HostId,
) -> rusqlite::Result<(Vec<String>, usize)> {
    let all: Vec<String> = connection
        .prepare_cached(
            "SELECT DISTINCT vm.name FROM volume JOIN vm ON vm.id = volume.vm
             WHERE volume.pool = ?1 AND volume.host = ?2 ORDER BY vm.name COLLATE NOCASE",
        )?
        .query_map(params![pool, host.0], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let count = all.len();
    Ok((all.into_iter().take(NAMED).collect(), count))
}

/// A share in per cent.
pub(crate) fn per_cent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        storage::sighting::{self, Sighting},
        vms::kept::tests::{HOST, with_host},
    };

    #[test]
    fn every_cluster_begins_with_a_pool() {
        let connection = with_host();
        let pools = list(&connection).unwrap();
        assert_eq!(pools.len(), 1);
        assert_eq!((pools[0].id.as_str(), pools[0].limit), ("local", 90));
        // No host has told of it.
        assert!(is_closed(&pools[0], HOST).is_some());
    }

    fn of_disks(name: &str, disks: &[&str]) -> NewPool {
        let disks = disks.iter().map(|&disk| disk.to_owned()).collect();
        NewPool { name: name.to_owned(), host: HOST.to_string(), disks, erase: false }
    }

    #[test]
    fn a_pool_has_disks_that_no_other_has_and_goes_when_nothing_is_in_it() {
        let connection = with_host();
        for (name, disks) in [
            ("local", &["a"][..]),
            ("", &["a"]),
            ("fast", &[]),
            ("fast", &["a", "a"]),
            ("fast", &[""]),
            ("fast", &["a\nb"]),
        ] {
            assert!(add(&connection, &of_disks(name, disks), HOST).is_err(), "{name} {disks:?}");
        }
        assert!(add(&connection, &of_disks("fast", &["a"; 33]), HOST).is_err());
        let pool = add(&connection, &of_disks("fast", &["a", "b"]), HOST).unwrap();
        assert_eq!((pool.kind, pool.disks.len(), pool.limit), (PoolKind::Thin, 2, 90));
        assert!(is_thin(&pool.id) && !is_thin("local"));
        assert_eq!(host_of(&pool), Some(HOST));
        assert!(add(&connection, &of_disks("slow", &["b"]), HOST).is_err());
        // Another host calls its own disks the same.
        assert!(add(&connection, &of_disks("slow", &["b"]), HostId(77)).is_ok());

        // It grows by disks that no pool of its host has, and those by which it could not grow are not its own again.
        for (id, disks) in [
            ("local", &["c"][..]),
            ("thin-00000000", &["c"]),
            (&pool.id, &[]),
            (&pool.id, &["c", "c"]),
            (&pool.id, &["c\n"]),
        ] {
            let disks: Vec<_> = disks.iter().map(|&disk| disk.to_owned()).collect();
            assert!(add_disks(&connection, id, &disks).is_err(), "{id} {disks:?}");
        }
        let many: Vec<_> = (0..31).map(|number| number.to_string()).collect();
        assert!(add_disks(&connection, &pool.id, &many).is_err());
        let more = ["c".to_owned(), "d".to_owned()];
        let own = [&["b".to_owned()], &more[..]].concat();
        for disks in [&more[..], &own] {
            let (bigger, host) = add_disks(&connection, &pool.id, disks).unwrap();
            assert_eq!((bigger.disks.join(""), host), ("abcd".to_owned(), HOST));
        }
        let bigger = one(&connection, &pool.id).unwrap();
        assert!(bigger.version > pool.version);
        assert!(add(&connection, &of_disks("other", &["d"]), HOST).is_err());
        disks_are_back(&connection, &pool.id, &more, HostId(77)).unwrap();
        assert_eq!(one(&connection, &pool.id).unwrap().disks.len(), 4);
        for _ in 0..2 {
            disks_are_back(&connection, &pool.id, &more, HOST).unwrap();
            assert_eq!(one(&connection, &pool.id).unwrap().disks, pool.disks);
        }
        disks_are_back(&connection, "thin-00000000", &more, HOST).unwrap();

        // Nobody else tells that it is gone, and nobody that the pool is which every host has.
        forget(&connection, &pool.id, HostId(77), 1000).unwrap();
        forget(&connection, "local", HOST, 1000).unwrap();
        assert_eq!(list(&connection).unwrap().len(), 3);
        assert!(must_be_empty(&connection, &one(&connection, "local").unwrap()).is_err());
        let sighting = Sighting {
            pool: pool.id.clone(),
            state: PoolState::Ready,
            trouble: String::new(),
            capacity: 1000,
            used: 950,
            layers: Vec::new(),
        };
        sighting::take(&connection, HOST, &sighting, 1000).unwrap();
        let key = format!("pool/{}/", pool.id);
        assert_eq!(events::open_below(&connection, &key).unwrap().len(), 1);
        connection
            .execute(
                "INSERT INTO layer (id, pool, host, bytes) VALUES ('x', ?1, ?2, 1)",
                params![pool.id, HOST.0],
            )
            .unwrap();
        assert!(forget(&connection, &pool.id, HOST, 1000).is_err());
        connection.execute("DELETE FROM layer", []).unwrap();
        for _ in 0..2 {
            forget(&connection, &pool.id, HOST, 1000).unwrap();
        }
        assert!(one(&connection, &pool.id).is_err());
        assert_eq!(events::open_below(&connection, &key).unwrap(), []);
        // Of a host that is gone for good whoever leads gives it up.
        let slow = list(&connection).unwrap().into_iter().find(|pool| pool.name == "slow").unwrap();
        forget(&connection, &slow.id, HOST, 1000).unwrap();
        assert!(one(&connection, &slow.id).is_err());
    }

    #[test]
    fn volumes_are_whole_units_where_they_are_devices() {
        let connection = with_host();
        let pool = add(&connection, &of_disks("fast", &["a"]), HOST).unwrap().id;
        assert_eq!((whole(&pool, (64 << 20) + 512), whole("local", 512)), (65 << 20, 512));
    }

    #[test]
    fn a_name_and_a_limit_are_checked() {
        let connection = with_host();
        let try_one = |name: Option<&str>, limit| {
            let wanted = ChangePool { name: name.map(str::to_owned), limit };
            change(&connection, "local", &wanted, Version::ANY).map(|pool| (pool.name, pool.limit)).ok()
        };
        assert_eq!(try_one(Some("fast disks"), Some(80)), Some(("fast disks".into(), 80)));
        for wrong in ["", " a", "a\nb", &*"a".repeat(64)] {
            assert_eq!(try_one(Some(wrong), None), None);
        }
        assert_eq!(try_one(None, Some(0)), None);
        assert_eq!(try_one(None, Some(101)), None);
        assert_eq!(try_one(None, Some(100)), Some(("fast disks".into(), 100)));
    }
}
