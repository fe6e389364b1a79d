//! Who is signed in. Sessions are kept with all data, so that every host knows them; of each token only a hash. While
//! nothing can be kept, because too few hosts answer or the disk is full, a session is this host's alone.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quantix_api::{Problem, Role, Secret};
use rand::TryRngCore;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::{
    account::{Account, changed_meanwhile, users},
    cluster::Refused,
    lock,
};

const IDLE: Duration = Duration::from_secs(30 * 60);
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// That a session is in use is written down no more often than this.
const NOTED: Duration = Duration::from_secs(5 * 60);
/// Beyond this the one idle for longest makes room.
const MOST: i64 = 1000;
/// The same for those that only this host knows.
const MOST_HERE: usize = 1000;

/// What is kept of a token.
pub(crate) type TokenHash = [u8; 32];

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) username: String,
    pub(crate) role: Role,
    pub(crate) must_change_password: bool,
    opened_at: u64,
    used_at: u64,
}

/// Sessions that only this host knows.
#[derive(Debug, Default)]
pub(crate) struct Here(Mutex<HashMap<TokenHash, Open>>);

/// A new token; `None` when the system has no randomness to give.
pub(crate) fn new_token() -> Option<Secret> {
    let mut token = [0_u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut token).ok()?;
    Some(Secret::new(token.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Tokens are looked up by hash: the time it takes tells nothing about the tokens there are.
pub(crate) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Opens a session of an account, if its password is still the one that was proven.
pub(crate) fn open(
    connection: &Connection,
    account: &Account,
    token: &TokenHash,
    now: u64,
) -> Result<(), Refused> {
    let (idle, longest) = (IDLE.as_secs(), LONGEST.as_secs());
    connection.execute(
        "DELETE FROM session WHERE abs(?1 - used_at) >= ?2 OR abs(?1 - opened_at) >= ?3
         OR token_hash IN (SELECT token_hash FROM session ORDER BY used_at DESC LIMIT -1 OFFSET ?4)",
        params![now, idle, longest, MOST - 1],
    )?;
    let opened = connection.execute(
        "INSERT INTO session (token_hash, username, opened_at, used_at)
         SELECT ?1, username, ?4, ?4 FROM account WHERE username = ?2 AND password_hash = ?3 AND NOT locked",
        params![token, account.username, account.password_hash, now],
    )?;
    if opened == 0 {
        return Err(changed_meanwhile().into());
    }
    connection.execute(
        "UPDATE account SET last_sign_in = ?2 WHERE username = ?1",
        params![account.username, now],
    )?;
    Ok(())
}

/// The session of a token, if it is open.
pub(crate) fn find(connection: &Connection, token: &TokenHash, now: u64) -> rusqlite::Result<Option<Open>> {
    let found = connection
        .prepare_cached(
            "SELECT username, first_password IS NOT NULL OR must_change, opened_at, used_at, role
             FROM session JOIN account USING (username) WHERE token_hash = ?1 AND NOT locked",
        )?
        .query_row([token], |row| {
            Ok(Open {
                username: row.get(0)?,
                must_change_password: row.get(1)?,
                opened_at: row.get(2)?,
                used_at: row.get(3)?,
                role: users::role(&row.get::<_, String>(4)?),
            })
        })
        .optional()?;
    Ok(found.filter(|session| session.is_alive(now)))
}

/// Notes that a session is in use.
pub(crate) fn note(connection: &Connection, token: &TokenHash, now: u64) -> Result<(), Refused> {
    connection.execute("UPDATE session SET used_at = ?2 WHERE token_hash = ?1", params![token, now])?;
    Ok(())
}

/// Ends a session.
pub(crate) fn close(connection: &Connection, token: &TokenHash) -> Result<(), Refused> {
    connection.execute("DELETE FROM session WHERE token_hash = ?1", [token])?;
    Ok(())
}

impl Open {
    /// A clock that jumps ends a session and never makes it longer.
    fn is_alive(&self, now: u64) -> bool {
        now.abs_diff(self.used_at) < IDLE.as_secs() && now.abs_diff(self.opened_at) < LONGEST.as_secs()
    }

    /// Whether it is time to note that the session is in use.
    pub(crate) fn is_to_be_noted(&self, now: u64) -> bool {
        now.abs_diff(self.used_at) >= NOTED.as_secs()
    }
}

impl Here {
    pub(crate) fn open(&self, account: &Account, token: TokenHash, now: u64) {
        let mut open = lock(&self.0);
        open.retain(|_, session| session.is_alive(now));
        while open.len() >= MOST_HERE
            && let Some(idlest) =
                open.iter().min_by_key(|(_, session)| session.used_at).map(|(token, _)| *token)
        {
            open.remove(&idlest);
        }
        let session = Open {
            username: account.username.clone(),
            role: account.role,
            must_change_password: account.must_change_password,
            opened_at: now,
            used_at: now,
        };
        open.insert(token, session);
    }

    pub(crate) fn find(&self, token: &TokenHash, now: u64) -> Option<Open> {
        let mut open = lock(&self.0);
        let session = open.get_mut(token).filter(|session| session.is_alive(now))?;
        session.used_at = now;
        Some(session.clone())
    }

    pub(crate) fn close(&self, token: &TokenHash) -> bool {
        lock(&self.0).remove(token).is_some()
    }

    /// Ends the sessions of an account; its password has changed.
    pub(crate) fn close_all(&self, username: &str) {
        lock(&self.0).retain(|_, session| session.username != username);
    }
}

/// The answer when there is no randomness.
pub(crate) fn no_randomness() -> Problem {
    Problem::new(quantix_api::ProblemCode::Unavailable, "The system has no randomness to give. Try again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tables;

    fn account(connection: &Connection) -> Account {
        let account = Account {
            username: "admin".into(),
            password_hash: "one".into(),
            first_password: None,
            role: Role::Administrator,
            locked: false,
            must_change_password: false,
        };
        account.keep_new(connection).unwrap();
        account
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let (connection, start) = (tables(), 1_000_000);
        let (token, other) = (hash("one"), hash("other"));
        let account = account(&connection);
        open(&connection, &account, &token, start).unwrap();
        let idle = IDLE.as_secs();
        assert_eq!(find(&connection, &token, start + idle / 2).unwrap().unwrap().username, "admin");
        assert!(find(&connection, &token, start + idle).unwrap().is_none());
        open(&connection, &account, &other, start).unwrap();
        let mut now = start;
        while now < start + LONGEST.as_secs() - idle / 2 {
            now += idle / 2;
            note(&connection, &other, now).unwrap();
        }
        assert!(find(&connection, &other, start + LONGEST.as_secs()).unwrap().is_none());
    }

    #[test]
    fn a_changed_password_ends_the_other_sessions_only() {
        let (connection, now) = (tables(), 1_000_000);
        let (kept, other) = (hash("kept"), hash("other"));
        let account = account(&connection);
        open(&connection, &account, &kept, now).unwrap();
        open(&connection, &account, &other, now).unwrap();
        account.change_password(&connection, "two", &kept).unwrap();
        assert!(find(&connection, &kept, now).unwrap().is_some());
        assert!(find(&connection, &other, now).unwrap().is_none());
        // Whoever proved the old password comes too late.
        assert!(open(&connection, &account, &other, now).is_err());
        assert!(account.change_password(&connection, "three", &kept).is_err());
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let (connection, now) = (tables(), 1_000_000);
        let account = account(&connection);
        let here = Here::default();
        for number in 0..MOST + 10 {
            let token = hash(&number.to_string());
            open(&connection, &account, &token, now).unwrap();
            here.open(&account, token, now);
        }
        let kept: i64 = connection.query_row("SELECT count(*) FROM session", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, MOST);
        assert_eq!(lock(&here.0).len(), MOST_HERE);
    }
}
