//! What the cluster keeps about its hosts and tokens, as SQL.

use quantix_api::{Problem, ProblemCode};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Refused, authority::Authority, token};
use crate::storage::copies;

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

/// The hosts that whoever leads has not heard of late.
pub(crate) fn lost_hosts(connection: &Connection) -> rusqlite::Result<Vec<HostId>> {
    connection
        .prepare_cached("SELECT id FROM host WHERE lost_at IS NOT NULL")?
        .query_map([], |row| row.get(0).map(HostId))?
        .collect()
}

/// Notes that a host is lost, or was found again.
pub(crate) fn note_lost(
    connection: &Connection,
    id: HostId,
    lost_at_ms: Option<i64>,
) -> rusqlite::Result<()> {
    connection.execute("UPDATE host SET lost_at = ?2 WHERE id = ?1", params![id.0, lost_at_ms]).map(drop)
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

/// Whether a host belongs to the cluster.
pub(crate) fn is_there(connection: &Connection, host: HostId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM host WHERE id = ?1")?.exists([host.0])
}

pub(crate) fn remove_host(connection: &Connection, host: HostId) -> Result<(), Refused> {
    connection.execute(
        "INSERT OR IGNORE INTO removed_host SELECT key_hash, id, name FROM host WHERE id = ?1",
        [host.0],
    )?;
    connection.execute("DELETE FROM pool_seen WHERE host = ?1", [host.0])?;
    copies::forget_host(connection, host)?;
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
