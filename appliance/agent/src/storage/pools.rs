//! Pools as they are kept, as SQL.

use jiff::Timestamp;
use quantix_api::{ChangePool, Pool, PoolKind, PoolOnHost, PoolState, Problem, ProblemCode, text::is_line};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{cluster::Refused, version::Version};

const LONGEST_NAME: usize = 63;

const SELECT: &str = "SELECT id, name, kind, full_at, version FROM pool";

fn of_row(row: &Row<'_>) -> rusqlite::Result<Pool> {
    Ok(Pool {
        id: row.get("id")?,
        name: row.get("name")?,
        // There is one kind.
        kind: PoolKind::Directory,
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
    if name.trim() != name || name.is_empty() || !is_line(name, LONGEST_NAME) {
        let sentence =
            format!("A name is one line of at most {LONGEST_NAME} characters, without spaces around it.");
        return Err(invalid("name", sentence));
    }
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM pool WHERE name = ?1 COLLATE NOCASE AND id <> ?2")?
        .exists(params![name, id])?;
    if is_taken {
        return Err(invalid("name", format!("There is a pool named {name} already.")));
    }
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

/// A share in per cent.
pub(crate) fn per_cent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{HOST, with_host};

    #[test]
    fn every_cluster_begins_with_a_pool() {
        let connection = with_host();
        let pools = list(&connection).unwrap();
        assert_eq!(pools.len(), 1);
        assert_eq!((pools[0].id.as_str(), pools[0].limit), ("local", 90));
        // No host has told of it.
        assert!(is_closed(&pools[0], HOST).is_some());
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
