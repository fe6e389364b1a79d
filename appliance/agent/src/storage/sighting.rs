//! How a host sees one of its pools, as it tells whoever leads.

use quantix_api::{PoolState, Problem, ProblemCode, Severity};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{
    layers,
    pools::{self, per_cent},
};
use crate::{
    cluster::Refused,
    events::{self, Happened},
};

/// Layers that are told of at once.
pub(crate) const MOST_LAYERS: usize = 500;
/// From these shares on people are told, in per cent.
const FILLING: u64 = 80;
const NEARLY_FULL: u64 = 90;

/// How a host sees one of its pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sighting {
    pub(crate) pool: String,
    pub(crate) state: PoolState,
    pub(crate) trouble: String,
    pub(crate) capacity: u64,
    pub(crate) used: u64,
    /// Layers that are otherwise than was told of them before, and what they take; nothing for those that are not there.
    pub(crate) layers: Vec<(String, Option<u64>)>,
}

/// Takes in how a host sees one of its pools.
pub(crate) fn take(
    connection: &Connection,
    host: HostId,
    sighting: &Sighting,
    now_ms: i64,
) -> Result<(), Refused> {
    if sighting.layers.len() > MOST_LAYERS || sighting.trouble.len() > 2000 {
        return Err(Problem::new(ProblemCode::Malformed, "More is told of a pool than can be kept.").into());
    }
    let pool = pools::one(connection, &sighting.pool)?;
    let before: Option<(String, i64)> = connection
        .prepare_cached("SELECT state, since FROM pool_seen WHERE pool = ?1 AND host = ?2")?
        .query_row(params![pool.id, host.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let state = sighting.state.name();
    let since = before.filter(|(before, _)| before == state).map_or(now_ms, |(_, since)| since);
    connection
        .prepare_cached(
            "INSERT INTO pool_seen (pool, host, state, since, trouble, capacity, used)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (pool, host) DO UPDATE SET state = excluded.state, since = excluded.since,
                 trouble = excluded.trouble, capacity = excluded.capacity, used = excluded.used",
        )?
        .execute(params![
            pool.id,
            host.0,
            state,
            since,
            sighting.trouble,
            sighting.capacity,
            sighting.used
        ])?;
    for (layer, used) in &sighting.layers {
        layers::is_seen(connection, host, &pool.id, layer, *used)?;
    }
    tell(connection, host, &pool.name, sighting, now_ms)
}

/// Tells people when a pool is missing, or is filling up.
fn tell(
    connection: &Connection,
    host: HostId,
    pool: &str,
    sighting: &Sighting,
    now_ms: i64,
) -> Result<(), Refused> {
    let key = |what: &str| format!("pool/{}/{host}/{what}", sighting.pool);
    let host_name: Option<String> = connection
        .prepare_cached("SELECT name FROM host WHERE id = ?1")?
        .query_row([host.0], |row| row.get(0))
        .optional()?;
    let happened = |what: &str, severity, sentence: String| Happened {
        key: key(what),
        severity,
        component: "storage".to_owned(),
        object: format!("host/{host}"),
        host: host_name.clone().unwrap_or_default(),
        sentence,
        is_lasting: true,
    };
    if sighting.state == PoolState::Missing {
        let affected = match pools::users_of(connection, &sighting.pool, host)? {
            (_, 0) => String::new(),
            (names, count) if count > names.len() => {
                format!(" {count} machines have disks in it, {} among them.", names.join(", "))
            }
            (names, 1) => format!(" {} has disks in it.", names.join(", ")),
            (names, _) => format!(" These machines have disks in it: {}.", names.join(", ")),
        };
        let sentence = format!("The pool {pool} is missing: {}{affected}", sighting.trouble);
        return events::raise(connection, &happened("missing", Severity::Error, sentence), now_ms);
    }
    events::clear(connection, &key("missing"), now_ms)?;
    let share = per_cent(sighting.used, sighting.capacity);
    if share < FILLING {
        return events::clear(connection, &key("filling"), now_ms);
    }
    let severity = if share < NEARLY_FULL { Severity::Warning } else { Severity::Error };
    // In steps, so that it is not said anew with every byte.
    let step = if share < NEARLY_FULL { FILLING } else { NEARLY_FULL };
    let sentence =
        format!("The pool {pool} is more than {step} per cent full. Guests stand still when it is full.");
    events::raise(connection, &happened("filling", severity, sentence), now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{HOST, with_host};

    fn sees(connection: &Connection, state: PoolState, used: u64) {
        let trouble = if state == PoolState::Ready { "" } else { "It is not mounted." };
        let sighting = Sighting {
            pool: "local".into(),
            state,
            trouble: trouble.into(),
            capacity: 1000,
            used,
            layers: Vec::new(),
        };
        take(connection, HOST, &sighting, 1000).unwrap();
    }

    #[test]
    fn people_are_told_when_a_pool_fills_up_or_goes_and_when_that_is_over() {
        let connection = with_host();
        let open = || events::open_below(&connection, "pool/local/").unwrap();
        sees(&connection, PoolState::Ready, 799);
        assert_eq!(open(), []);
        assert_eq!(pools::is_closed(&pools::one(&connection, "local").unwrap(), HOST), None);
        sees(&connection, PoolState::Ready, 850);
        assert!(open()[0].1.contains("80 per cent"), "{:?}", open());
        sees(&connection, PoolState::Ready, 900);
        assert!(open()[0].1.contains("90 per cent"), "{:?}", open());
        let closed = pools::is_closed(&pools::one(&connection, "local").unwrap(), HOST).unwrap();
        assert!(closed.contains("90 per cent full"), "{closed}");
        sees(&connection, PoolState::Ready, 100);
        assert_eq!(open(), []);
        sees(&connection, PoolState::Missing, 0);
        assert!(open()[0].1.contains("missing: It is not mounted."));
        let closed = pools::is_closed(&pools::one(&connection, "local").unwrap(), HOST).unwrap();
        assert!(closed.contains("missing on qx-1"), "{closed}");
        sees(&connection, PoolState::Ready, 100);
        assert_eq!(open(), []);
    }
}
