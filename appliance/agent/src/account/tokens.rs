//! Tokens for programs: each does a part of what its owner may, for a time.

use jiff::Timestamp;
use quantix_api::{ApiToken, Held, NewApiToken, Problem, ProblemCode, Scope, Secret};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{access, check_purpose, rights, roles};
use crate::{cluster::Refused, sessions::TokenHash};

/// What every token begins with: one that was published by mistake is found by this.
const PREFIX: &str = "qxt_";
const MOST_EACH: i64 = 50;
const MOST_DAYS: u32 = 730;
/// That a token is in use is written down no more often than this, in seconds.
const NOTED: u64 = 60 * 60;

const COLUMNS: &str = "id, username, purpose, role, scope, made_at, expires_at, last_used";

/// A token in use.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    pub(crate) username: String,
    pub(crate) roles: Vec<Held>,
    pub(crate) must_change_password: bool,
    pub(crate) is_to_be_noted: bool,
}

/// What a person sees of a secret that is used as a token.
pub(crate) fn shown(secret: &Secret) -> Secret {
    Secret::new(format!("{PREFIX}{}", secret.expose()))
}

/// Whether it looks like a token for programs.
pub(crate) fn is_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

fn token(row: &Row<'_>) -> rusqlite::Result<ApiToken> {
    let time = |at: i64| Timestamp::from_second(at).unwrap_or_default();
    Ok(ApiToken {
        id: row.get(0)?,
        username: row.get(1)?,
        purpose: row.get(2)?,
        role: row.get(3)?,
        scope: row.get::<_, String>(4)?.parse().unwrap_or(Scope::Datacenter),
        made_at: time(row.get(5)?),
        expires_at: time(row.get(6)?),
        last_used: row.get::<_, Option<i64>>(7)?.map(time),
    })
}

/// The tokens of a user, the newest first.
pub(crate) fn of(connection: &Connection, username: &str) -> rusqlite::Result<Vec<ApiToken>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM api_token WHERE username = ?1 ORDER BY made_at DESC, id"
        ))?
        .query_map([username], token)?
        .collect()
}

/// Makes a token of somebody's.
pub(crate) fn add(
    connection: &Connection,
    username: &str,
    new: &NewApiToken,
    hash: &TokenHash,
    now: u64,
) -> Result<ApiToken, Refused> {
    let invalid =
        |field: &str, sentence: String| Problem::new(ProblemCode::Invalid, sentence).in_field(field);
    check_purpose(&new.purpose)?;
    if new.purpose.trim().is_empty() {
        return Err(
            invalid("purpose", "Say what the token is for: later nobody else can tell.".into()).into()
        );
    }
    if !(1..=MOST_DAYS).contains(&new.days) {
        return Err(invalid("days", format!("A token can be used for 1 to {MOST_DAYS} days.")).into());
    }
    roles::one(connection, &new.role).map_err(|_| invalid("role", "There is no such role.".into()))?;
    access::check_scope(connection, &new.scope)?;
    connection
        .execute("DELETE FROM api_token WHERE username = ?1 AND expires_at <= ?2", params![username, now])?;
    let count: i64 =
        connection
            .query_row("SELECT count(*) FROM api_token WHERE username = ?1", [username], |row| row.get(0))?;
    if count >= MOST_EACH {
        let sentence = format!("You have {MOST_EACH} tokens already. Take back those that are not used.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).into());
    }
    let id: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    connection.execute(
        "INSERT INTO api_token (token_hash, id, username, purpose, role, scope, made_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            hash,
            id,
            username,
            new.purpose.trim(),
            new.role,
            new.scope.to_string(),
            now,
            now + u64::from(new.days) * 24 * 60 * 60
        ],
    )?;
    let made = of(connection, username)?.into_iter().find(|made| made.id == id);
    made.ok_or_else(|| Problem::new(ProblemCode::Internal, "The token was not kept.").into())
}

/// What a token may do, if it can be used. It never has more than its owner has now.
pub(crate) fn find(connection: &Connection, hash: &TokenHash, now: u64) -> rusqlite::Result<Option<InUse>> {
    type Found = (String, String, String, u64, Option<u64>, bool);
    let found: Option<Found> = connection
        .prepare_cached(
            "SELECT username, api_token.role, scope, expires_at, last_used, first_password IS NOT NULL OR must_change
             FROM api_token JOIN account USING (username) WHERE token_hash = ?1 AND NOT locked",
        )?
        .query_row([hash], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .optional()?;
    let Some((username, role, scope, expires_at, last_used, must_change_password)) = found else {
        return Ok(None);
    };
    let (true, Ok(scope)) = (now < expires_at, scope.parse::<Scope>()) else { return Ok(None) };
    let owner = rights::of_user(connection, &username)?;
    let roles = rights::within(connection, &owner, &role, &rights::of_role(connection, &role)?, &scope)?;
    let is_to_be_noted = last_used.is_none_or(|used| now.abs_diff(used) >= NOTED);
    Ok(Some(InUse { username, roles, must_change_password, is_to_be_noted }))
}

/// Notes that a token is in use.
pub(crate) fn note(connection: &Connection, hash: &TokenHash, now: u64) -> Result<(), Refused> {
    connection.execute("UPDATE api_token SET last_used = ?2 WHERE token_hash = ?1", params![hash, now])?;
    Ok(())
}

/// Takes a token of somebody's back.
pub(crate) fn remove(connection: &Connection, username: &str, id: &str) -> Result<(), Refused> {
    let removed =
        connection.execute("DELETE FROM api_token WHERE username = ?1 AND id = ?2", [username, id])?;
    if removed == 0 {
        return Err(Problem::new(ProblemCode::NotFound, "There is no such token.").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quantix_api::Right;

    use super::*;

    fn new(role: &str, days: u32) -> NewApiToken {
        NewApiToken { purpose: "backups".into(), role: role.into(), scope: Scope::Datacenter, days }
    }

    #[test]
    fn a_token_does_no_more_than_its_role_and_its_owner_and_ends() {
        let connection = crate::cluster::tables();
        crate::account::users::tests::person(&connection, "ada", "administrator");
        let (hash, day) = ([7; 32], 24 * 60 * 60);
        let made = add(&connection, "ada", &new("viewer", 2), &hash, 1000).unwrap();
        let may = |right, now| {
            find(&connection, &hash, now)
                .unwrap()
                .map(|found| Held::give(&found.roles, right, &Scope::Datacenter.into()))
        };
        assert_eq!(may(Right::See, 1000), Some(true));
        assert_eq!(may(Right::ManagePeople, 1000), Some(false));
        assert_eq!(may(Right::See, 1000 + 2 * day), None);
        connection.execute("DELETE FROM access", []).unwrap();
        assert_eq!(may(Right::See, 1000), Some(false));
        connection.execute("UPDATE account SET locked = 1", []).unwrap();
        assert_eq!(may(Right::See, 1000), None);
        assert!(remove(&connection, "ben", &made.id).is_err());
        remove(&connection, "ada", &made.id).unwrap();
        assert!(of(&connection, "ada").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_is_not_made() {
        let connection = crate::cluster::tables();
        crate::account::users::tests::person(&connection, "ada", "viewer");
        for wrong in [
            new("viewer", 0),
            new("viewer", 731),
            new("king", 1),
            NewApiToken { purpose: " ".into(), ..new("viewer", 1) },
        ] {
            assert!(add(&connection, "ada", &wrong, &[1; 32], 1000).is_err(), "{wrong:?}");
        }
        for number in 0..MOST_EACH {
            let hash = [u8::try_from(number).unwrap(); 32];
            add(&connection, "ada", &new("viewer", 1), &hash, 1000).unwrap();
        }
        assert!(add(&connection, "ada", &new("viewer", 1), &[200; 32], 1000).is_err());
        let after = 1000 + 24 * 60 * 60;
        assert!(
            add(&connection, "ada", &new("viewer", 1), &[200; 32], after).is_ok(),
            "expired ones make room"
        );
    }
}
