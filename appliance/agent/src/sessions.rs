//! Who is signed in. Sessions are kept with all data, so that every host knows them; of each token only a hash. While
//! nothing can be kept, because too few hosts answer or the disk is full, a session is this host's alone.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quantix_api::{OpenSession, Problem, ProblemCode, Secret};
use rand::TryRngCore;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::{
    account::{Account, changed_meanwhile, second_factor},
    api::sign_in_needed,
    cluster::Refused,
    lock,
};

const IDLE: Duration = Duration::from_secs(30 * 60);
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// So long a session waits for the code of the second factor.
const CODE: Duration = Duration::from_secs(5 * 60);
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
    pub(crate) must_change_password: bool,
    /// The code of the second factor is still to be given.
    pub(crate) code_needed: bool,
    opened_at: u64,
    used_at: u64,
}

/// Sessions that only this host knows.
#[derive(Debug, Default)]
pub(crate) struct Here {
    open: Mutex<HashMap<TokenHash, Open>>,
    /// The time steps of the codes that opened them: each is good once, also where that cannot be written down.
    steps: Mutex<HashMap<String, u64>>,
}

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

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Opens a session of an account, if its password is still the one that was proven. Whether the code of a second factor
/// is still needed is told.
pub(crate) fn open(
    connection: &Connection,
    account: &Account,
    token: &TokenHash,
    address: &str,
    now: u64,
) -> Result<bool, Refused> {
    let code_needed = second_factor::is_set_up(connection, &account.username)?;
    let (idle, longest) = (IDLE.as_secs(), LONGEST.as_secs());
    connection.execute(
        "DELETE FROM session WHERE abs(?1 - used_at) >= ?2 OR abs(?1 - opened_at) >= ?3
         OR token_hash IN (SELECT token_hash FROM session ORDER BY used_at DESC LIMIT -1 OFFSET ?4)",
        params![now, idle, longest, MOST - 1],
    )?;
    let opened = connection.execute(
        "INSERT INTO session (token_hash, username, opened_at, used_at, address, code_needed)
         SELECT ?1, username, ?4, ?4, ?5, ?6 FROM account WHERE username = ?2 AND password_hash = ?3 AND NOT locked",
        params![token, account.username, account.password_hash, now, address, code_needed],
    )?;
    if opened == 0 {
        return Err(changed_meanwhile().into());
    }
    if !code_needed {
        signed_in(connection, &account.username, now)?;
    }
    Ok(code_needed)
}

fn signed_in(connection: &Connection, username: &str, now: u64) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE account SET last_sign_in = ?2 WHERE username = ?1", params![username, now])
        .map(drop)
}

/// Lets a session whose code was given go on under another token: whoever knew the first knows nothing now.
pub(crate) fn complete(
    connection: &Connection,
    token: &TokenHash,
    next: &TokenHash,
    now: u64,
) -> Result<(), Refused> {
    let username = connection
        .prepare_cached(
            "UPDATE session SET token_hash = ?2, code_needed = 0, opened_at = ?3, used_at = ?3
             WHERE token_hash = ?1 AND code_needed RETURNING username",
        )?
        .query_row(params![token, next, now], |row| row.get::<_, String>(0))
        .optional()?;
    let username = username.ok_or_else(sign_in_needed)?;
    Ok(signed_in(connection, &username, now)?)
}

/// The open sessions of an account, the newest first.
pub(crate) fn of(
    connection: &Connection,
    username: &str,
    this: Option<&TokenHash>,
    now: u64,
) -> rusqlite::Result<Vec<OpenSession>> {
    let time =
        |at: u64| jiff::Timestamp::from_second(i64::try_from(at).unwrap_or_default()).unwrap_or_default();
    let mut sessions = connection.prepare_cached(
        "SELECT token_hash, address, opened_at, used_at FROM session
         WHERE username = ?1 AND NOT code_needed ORDER BY opened_at DESC, token_hash",
    )?;
    let sessions = sessions.query_map([username], |row| {
        let hash: TokenHash = row.get(0)?;
        let (opened_at, used_at): (u64, u64) = (row.get(2)?, row.get(3)?);
        let is_alive = is_alive(opened_at, used_at, LONGEST, now);
        let shown = OpenSession {
            id: id(&hash),
            address: row.get(1)?,
            opened_at: time(opened_at),
            used_at: time(used_at),
            this: this == Some(&hash),
        };
        Ok(is_alive.then_some(shown))
    })?;
    sessions.filter_map(Result::transpose).collect()
}

/// By what a session is named to its owner. It is a part of a hash, from which no token can be found.
fn id(hash: &TokenHash) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ends one session of an account.
pub(crate) fn close_named(connection: &Connection, username: &str, named: &str) -> Result<(), Refused> {
    let closed = connection.execute(
        "DELETE FROM session WHERE username = ?1 AND lower(hex(substr(token_hash, 1, 8))) = ?2",
        [username, named],
    )?;
    if closed == 0 {
        return Err(Problem::new(ProblemCode::NotFound, "There is no such session.").into());
    }
    Ok(())
}

/// Ends all sessions of an account but one.
pub(crate) fn close_others(connection: &Connection, username: &str, kept: &TokenHash) -> Result<(), Refused> {
    connection
        .execute("DELETE FROM session WHERE username = ?1 AND token_hash <> ?2", params![username, kept])?;
    Ok(())
}

/// The session of a token, if it is open.
pub(crate) fn find(connection: &Connection, token: &TokenHash, now: u64) -> rusqlite::Result<Option<Open>> {
    let found = connection
        .prepare_cached(
            "SELECT username, first_password IS NOT NULL OR must_change, opened_at, used_at, code_needed
             FROM session JOIN account USING (username) WHERE token_hash = ?1 AND NOT locked",
        )?
        .query_row([token], |row| {
            Ok(Open {
                username: row.get(0)?,
                must_change_password: row.get(1)?,
                opened_at: row.get(2)?,
                used_at: row.get(3)?,
                code_needed: row.get(4)?,
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

fn is_alive(opened_at: u64, used_at: u64, longest: Duration, now: u64) -> bool {
    now.abs_diff(used_at) < IDLE.as_secs() && now.abs_diff(opened_at) < longest.as_secs()
}

impl Open {
    /// A clock that jumps ends a session and never makes it longer.
    fn is_alive(&self, now: u64) -> bool {
        let longest = if self.code_needed { CODE } else { LONGEST };
        is_alive(self.opened_at, self.used_at, longest, now)
    }

    /// Whether it is time to note that the session is in use.
    pub(crate) fn is_to_be_noted(&self, now: u64) -> bool {
        now.abs_diff(self.used_at) >= NOTED.as_secs()
    }
}

impl Here {
    pub(crate) fn open(&self, account: &Account, code_needed: bool, token: TokenHash, now: u64) {
        let mut open = lock(&self.open);
        open.retain(|_, session| session.is_alive(now));
        while open.len() >= MOST_HERE
            && let Some(idlest) =
                open.iter().min_by_key(|(_, session)| session.used_at).map(|(token, _)| *token)
        {
            open.remove(&idlest);
        }
        let session = Open {
            username: account.username.clone(),
            must_change_password: account.must_change_password,
            code_needed,
            opened_at: now,
            used_at: now,
        };
        open.insert(token, session);
    }

    /// Whether a session is open. To ask that is no use of it.
    pub(crate) fn is_open(&self, token: &TokenHash, now: u64) -> bool {
        lock(&self.open).get(token).is_some_and(|session| session.is_alive(now))
    }

    pub(crate) fn find(&self, token: &TokenHash, now: u64) -> Option<Open> {
        let mut open = lock(&self.open);
        let session = open.get_mut(token).filter(|session| session.is_alive(now))?;
        session.used_at = now;
        Some(session.clone())
    }

    pub(crate) fn close(&self, token: &TokenHash) -> bool {
        lock(&self.open).remove(token).is_some()
    }

    /// Lets a session go on whose code of this time step was given; `false` for a step that was used.
    pub(crate) fn complete(&self, token: &TokenHash, next: TokenHash, step: u64, now: u64) -> bool {
        let Some(mut session) = lock(&self.open).remove(token) else { return false };
        let mut steps = lock(&self.steps);
        let newest = steps.entry(session.username.clone()).or_default();
        if step <= *newest {
            return false;
        }
        *newest = step;
        (session.code_needed, session.opened_at, session.used_at) = (false, now, now);
        lock(&self.open).insert(next, session);
        true
    }

    /// Ends the sessions of an account; its password has changed.
    pub(crate) fn close_all(&self, username: &str) {
        lock(&self.open).retain(|_, session| session.username != username);
    }
}

/// The answer when there is no randomness.
pub(crate) fn no_randomness() -> Problem {
    Problem::new(ProblemCode::Unavailable, "The system has no randomness to give. Try again.")
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
        open(&connection, &account, &token, "", start).unwrap();
        let idle = IDLE.as_secs();
        assert_eq!(find(&connection, &token, start + idle / 2).unwrap().unwrap().username, "admin");
        assert!(find(&connection, &token, start + idle).unwrap().is_none());
        open(&connection, &account, &other, "", start).unwrap();
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
        open(&connection, &account, &kept, "", now).unwrap();
        open(&connection, &account, &other, "", now).unwrap();
        account.change_password(&connection, "two", &kept).unwrap();
        assert!(find(&connection, &kept, now).unwrap().is_some());
        assert!(find(&connection, &other, now).unwrap().is_none());
        // Whoever proved the old password comes too late.
        assert!(open(&connection, &account, &other, "", now).is_err());
        assert!(account.change_password(&connection, "three", &kept).is_err());
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let (connection, now) = (tables(), 1_000_000);
        let account = account(&connection);
        let here = Here::default();
        for number in 0..MOST + 10 {
            let token = hash(&number.to_string());
            open(&connection, &account, &token, "", now).unwrap();
            here.open(&account, false, token, now);
        }
        let kept: i64 = connection.query_row("SELECT count(*) FROM session", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, MOST);
        assert_eq!(lock(&here.open).len(), MOST_HERE);
    }

    #[test]
    fn a_session_waits_a_while_for_its_code_and_goes_on_under_another_token() {
        let (connection, now) = (tables(), 1_000_000);
        let account = account(&connection);
        connection
            .execute("INSERT INTO second_factor (username, secret, confirmed) VALUES ('admin', x'00', 1)", [])
            .unwrap();
        let (token, next) = (hash("one"), hash("next"));
        assert!(open(&connection, &account, &token, "192.0.2.1", now).unwrap());
        assert!(find(&connection, &token, now).unwrap().unwrap().code_needed);
        assert!(find(&connection, &token, now + CODE.as_secs()).unwrap().is_none());
        assert!(of(&connection, "admin", None, now).unwrap().is_empty());
        complete(&connection, &token, &next, now + 60).unwrap();
        assert!(find(&connection, &token, now + 60).unwrap().is_none());
        assert!(!find(&connection, &next, now + 60).unwrap().unwrap().code_needed);
        assert!(complete(&connection, &token, &next, now + 60).is_err());
        let open = of(&connection, "admin", Some(&next), now + 60).unwrap();
        assert!(open.len() == 1 && open[0].this && open[0].address == "192.0.2.1");
        assert!(close_named(&connection, "ada", &open[0].id).is_err());
        close_named(&connection, "admin", &open[0].id).unwrap();
        assert!(find(&connection, &next, now + 60).unwrap().is_none());
    }

    #[test]
    fn where_nothing_can_be_written_a_code_opens_one_session_too() {
        let connection = tables();
        let (account, here, now) = (account(&connection), Here::default(), 1_000_000);
        here.open(&account, true, hash("one"), now);
        here.open(&account, true, hash("other"), now);
        assert!(here.complete(&hash("one"), hash("next"), 7, now));
        assert!(!here.complete(&hash("other"), hash("again"), 7, now));
        assert!(here.find(&hash("next"), now).is_some_and(|session| !session.code_needed));
    }
}
