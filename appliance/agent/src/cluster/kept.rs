//! What the cluster keeps about its hosts and tokens, as SQL.

use jiff::Timestamp;
use quantix_api::{AuditLine, AuditLines, Problem, ProblemCode};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Refused, authority::Authority, token};
use crate::sessions::now;

/// Lines of the audit log that are kept.
const AUDIT_LINES: u32 = 100_000;
/// Tokens that are kept, used up or not.
const TOKENS: u32 = 1000;

/// A host as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct KeptHost {
    pub(crate) id: HostId,
    pub(crate) name: String,
    pub(crate) joined_at: i64,
}

/// A token as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct KeptToken {
    pub(crate) id: [u8; 8],
    pub(crate) purpose: String,
    pub(crate) made_by: String,
    pub(crate) made_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) uses_left: u32,
    pub(crate) revoked: bool,
    pub(crate) used_by: Vec<String>,
}

pub(super) fn authority(connection: &Connection) -> rusqlite::Result<Option<Authority>> {
    connection
        .query_row("SELECT authority, authority_key FROM cluster", [], |row| {
            Ok(Authority { certificate: row.get(0)?, key: row.get(1)? })
        })
        .optional()
}

pub(super) fn keep_authority(connection: &Connection, authority: &Authority) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO cluster (one, authority, authority_key) VALUES (1, ?1, ?2)",
            params![authority.certificate, authority.key],
        )
        .map(drop)
}

/// The certificate of the cluster's authority and how many voters are wanted.
pub(crate) fn cluster(connection: &Connection) -> rusqlite::Result<Option<(String, Option<u32>)>> {
    connection
        .query_row("SELECT authority, wanted_voters FROM cluster", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

pub(crate) fn set_wanted_voters(connection: &Connection, wanted: Option<u32>) -> Result<(), Refused> {
    connection.execute("UPDATE cluster SET wanted_voters = ?1", [wanted])?;
    Ok(())
}

pub(crate) fn hosts(connection: &Connection) -> rusqlite::Result<Vec<KeptHost>> {
    connection
        .prepare_cached("SELECT id, name, joined_at FROM host ORDER BY name")?
        .query_map([], |row| {
            Ok(KeptHost { id: HostId(row.get(0)?), name: row.get(1)?, joined_at: row.get(2)? })
        })?
        .collect()
}

/// What the table of hosts knows of one who shows a key with the authority's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is a host of the cluster.
    Member,
    /// It was one, and was removed.
    Removed,
    /// Nothing; it may have been let in after what is known here.
    NotYet,
}

/// What is known of a host of this id with this key.
pub(super) fn known(connection: &Connection, host: HostId, key_hash: &[u8]) -> rusqlite::Result<Known> {
    let is_member = connection
        .prepare_cached("SELECT 1 FROM host WHERE id = ?1 AND key_hash = ?2")?
        .exists(params![host.0, key_hash])?;
    let mut removed = connection.prepare_cached("SELECT 1 FROM removed_host WHERE key_hash = ?1")?;
    Ok(match is_member {
        true => Known::Member,
        false if removed.exists([key_hash])? => Known::Removed,
        false => Known::NotYet,
    })
}

pub(super) fn keep_host(
    connection: &Connection,
    host: HostId,
    name: &str,
    key_hash: &[u8],
    now: u64,
) -> Result<(), Refused> {
    let taken = connection
        .query_row("SELECT id FROM host WHERE name = ?1 AND id <> ?2", params![name, host.0], |row| {
            row.get::<_, u64>(0)
        })
        .optional()?;
    if let Some(other) = taken {
        return Err(Problem::new(
            ProblemCode::Invalid,
            format!(
                "The cluster has a host named {name} already ({}). Give the new host another name, or remove the old one first.",
                HostId(other)
            ),
        )
        .in_field("name")
        .into());
    }
    connection.execute(
        "INSERT INTO host (id, name, key_hash, joined_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, key_hash = excluded.key_hash",
        params![host.0, name, key_hash, now],
    )?;
    Ok(())
}

pub(crate) fn remove_host(connection: &Connection, host: HostId) -> Result<(), Refused> {
    connection.execute(
        "INSERT OR IGNORE INTO removed_host SELECT key_hash, id, name FROM host WHERE id = ?1",
        [host.0],
    )?;
    connection.execute("DELETE FROM host WHERE id = ?1", [host.0])?;
    Ok(())
}

pub(crate) fn keep_token(
    connection: &Connection,
    kept: &token::Kept,
    purpose: &str,
    made_by: &str,
    now: u64,
    expires_at: u64,
    uses: u32,
) -> Result<(), Refused> {
    connection.execute(
        "DELETE FROM join_token WHERE id IN (SELECT id FROM join_token ORDER BY made_at DESC LIMIT -1 OFFSET ?1)",
        [TOKENS - 1],
    )?;
    connection.execute(
        "INSERT INTO join_token (id, stored_key, server_key, purpose, made_by, made_at, expires_at, uses_left)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![kept.id, kept.stored_key, kept.server_key, purpose, made_by, now, expires_at, uses],
    )?;
    Ok(())
}

/// What is needed to check a proof of knowing a token.
pub(super) fn token(connection: &Connection, id: &[u8]) -> rusqlite::Result<Option<token::Kept>> {
    connection
        .query_row("SELECT id, stored_key, server_key FROM join_token WHERE id = ?1", [id], |row| {
            Ok(token::Kept { id: row.get(0)?, stored_key: row.get(1)?, server_key: row.get(2)? })
        })
        .optional()
}

/// Uses a token for a host, if it may be used. The same host may try again.
pub(super) fn use_token(
    connection: &Connection,
    id: &[u8],
    host: HostId,
    name: &str,
    now: u64,
) -> Result<(), Refused> {
    let (expires_at, uses_left, revoked): (u64, u32, bool) = connection.query_row(
        "SELECT expires_at, uses_left, revoked FROM join_token WHERE id = ?1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let is_again = connection
        .prepare("SELECT 1 FROM join_token_use WHERE token = ?1 AND host = ?2")?
        .exists(params![id, host.0])?;
    let why = match () {
        () if revoked => "This join token was taken back.",
        () if now >= expires_at => "This join token has expired.",
        () if uses_left == 0 && !is_again => "This join token is used up.",
        () => "",
    };
    if !why.is_empty() {
        return Err(Problem::new(ProblemCode::Forbidden, format!("{why} Make a new one on a member.")).into());
    }
    if !is_again {
        connection.execute("UPDATE join_token SET uses_left = uses_left - 1 WHERE id = ?1", [id])?;
        connection.execute(
            "INSERT INTO join_token_use (token, host, name, at) VALUES (?1, ?2, ?3, ?4)",
            params![id, host.0, name, now],
        )?;
    }
    Ok(())
}

pub(crate) fn revoke_token(connection: &Connection, id: &[u8]) -> Result<(), Refused> {
    if connection.execute("UPDATE join_token SET revoked = 1 WHERE id = ?1", [id])? == 0 {
        return Err(Problem::new(ProblemCode::NotFound, "There is no such join token.").into());
    }
    Ok(())
}

pub(crate) fn tokens(connection: &Connection) -> rusqlite::Result<Vec<KeptToken>> {
    let mut used =
        connection.prepare_cached("SELECT name FROM join_token_use WHERE token = ?1 ORDER BY at")?;
    connection
        .prepare_cached(
            "SELECT id, purpose, made_by, made_at, expires_at, uses_left, revoked FROM join_token
             ORDER BY made_at DESC, id",
        )?
        .query_map([], |row| {
            let id: [u8; 8] = row.get(0)?;
            let used_by = used.query_map([id], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok(KeptToken {
                id,
                purpose: row.get(1)?,
                made_by: row.get(2)?,
                made_at: row.get(3)?,
                expires_at: row.get(4)?,
                uses_left: row.get(5)?,
                revoked: row.get(6)?,
                used_by,
            })
        })?
        .collect()
}

/// A line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) at: u64,
    pub(crate) actor: String,
    pub(crate) address: String,
    pub(crate) action: String,
    pub(crate) object: String,
    pub(crate) outcome: String,
}

impl Line {
    /// That something was done just now.
    pub(crate) fn done(
        actor: impl Into<String>,
        address: &impl std::fmt::Display,
        action: &str,
        object: impl Into<String>,
    ) -> Self {
        Self {
            at: now(),
            actor: actor.into(),
            address: address.to_string(),
            action: action.into(),
            object: object.into(),
            outcome: "done".into(),
        }
    }
}

/// Writes a line into the audit log.
pub(crate) fn note(connection: &Connection, line: &Line) -> Result<(), Refused> {
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM audit", [], |row| row.get(0))?;
    let next = newest.unwrap_or_default() + 1;
    connection.execute(
        "INSERT INTO audit (id, at, actor, address, action, object, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![next, line.at, line.actor, line.address, line.action, line.object, line.outcome],
    )?;
    connection.execute("DELETE FROM audit WHERE id <= ?1", [next - i64::from(AUDIT_LINES)])?;
    Ok(())
}

/// Lines of the audit log below a number that have a text somewhere, the newest first.
pub(crate) fn lines(
    connection: &Connection,
    before: i64,
    limit: u32,
    text: &str,
) -> rusqlite::Result<AuditLines> {
    let mut items: Vec<AuditLine> = connection
        .prepare_cached(
            "SELECT id, at, actor, address, action, object, outcome FROM audit
             WHERE id < ?1 AND (?2 = '' OR instr(lower(concat_ws(char(10), actor, address, action, object, outcome)), lower(?2)))
             ORDER BY id DESC LIMIT ?3",
        )?
        .query_map(params![before, text, i64::from(limit) + 1], |row| {
            Ok(AuditLine {
                id: row.get(0)?,
                at: Timestamp::from_second(row.get(1)?).unwrap_or_default(),
                actor: row.get(2)?,
                address: row.get(3)?,
                action: row.get(4)?,
                object: row.get(5)?,
                outcome: row.get(6)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(|last| last.id).filter(|_| has_more);
    Ok(AuditLines { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[(&str, &str)]) -> Connection {
        let connection = crate::cluster::tables();
        for (at, (actor, outcome)) in (0..).zip(lines) {
            let line = Line {
                at,
                actor: (*actor).into(),
                address: "192.0.2.1".into(),
                action: "test".into(),
                object: String::new(),
                outcome: (*outcome).into(),
            };
            note(&connection, &line).unwrap();
        }
        connection
    }

    fn ids(lines: &AuditLines) -> Vec<i64> {
        lines.items.iter().map(|line| line.id).collect()
    }

    #[test]
    fn the_newest_lines_come_first_and_the_rest_when_asked_for() {
        let connection = written(&[("a", "done"); 5]);
        let first = lines(&connection, i64::MAX, 2, "").unwrap();
        assert_eq!((ids(&first), first.next), (vec![5, 4], Some(4)));
        let second = lines(&connection, 4, 2, "").unwrap();
        assert_eq!((ids(&second), second.next), (vec![3, 2], Some(2)));
        let last = lines(&connection, 2, 2, "").unwrap();
        assert_eq!((ids(&last), last.next), (vec![1], None));
    }

    #[test]
    fn a_text_is_found_in_any_column_and_is_only_a_text() {
        let connection = written(&[("Ada", "done"), ("Ben", "50% of it"), ("Cem", "done")]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "ADA").unwrap()), [1]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "%").unwrap()), [2]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "192.0.2").unwrap()), [3, 2, 1]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "' OR 1 --").unwrap()), [0_i64; 0]);
    }
}
