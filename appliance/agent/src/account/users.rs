//! Users as administrators look after them, as SQL. At least one administrator can always sign in.

use jiff::Timestamp;
use quantix_api::{ChangeUser, Problem, ProblemCode, Role, User};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::cluster::Refused;

/// So many users can be kept.
const MOST: i64 = 1000;

const COLUMNS: &str =
    "username, role, locked, first_password IS NOT NULL OR must_change, made_at, last_sign_in,
    (SELECT count(*) FROM session WHERE session.username = account.username)";

/// A name that can be signed in with: what can be typed on any keyboard and mistaken for no other.
pub(crate) fn check_name(name: &str) -> Result<(), Problem> {
    let is_name = (1..=32).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
        && name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if is_name {
        return Ok(());
    }
    let sentence = "A name begins with a letter from a to z and goes on with such letters, digits, dots, dashes and \
                    underscores, at most 32.";
    Err(Problem::new(ProblemCode::Invalid, sentence).in_field("username"))
}

/// All users, by name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<User>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM account ORDER BY username"))?
        .query_map([], user)?
        .collect()
}

/// One user.
pub(crate) fn one(connection: &Connection, name: &str) -> Result<User, Refused> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM account WHERE username = ?1"))?
        .query_row([name], user)
        .optional()?;
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such user.").into())
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let time = |at: Option<i64>| at.and_then(|at| Timestamp::from_second(at).ok());
    Ok(User {
        username: row.get(0)?,
        role: role(&row.get::<_, String>(1)?),
        locked: row.get(2)?,
        must_change_password: row.get(3)?,
        made_at: time(row.get(4)?),
        last_sign_in: time(row.get(5)?),
        sessions: row.get(6)?,
    })
}

/// A role that this version does not know gives no rights that it could not judge.
pub(crate) fn role(name: &str) -> Role {
    Role::of(name).unwrap_or(Role::Viewer)
}

/// Adds a user who must choose a password at the first sign-in.
pub(crate) fn add(
    connection: &Connection,
    name: &str,
    role: Role,
    password_hash: &str,
    now: u64,
) -> Result<User, Refused> {
    let count: i64 = connection.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(Problem::new(ProblemCode::Invalid, format!("There are {MOST} users already.")).into());
    }
    let added = connection.execute(
        "INSERT INTO account (username, password_hash, role, must_change, made_at) VALUES (?1, ?2, ?3, 1, ?4)
         ON CONFLICT DO NOTHING",
        params![name, password_hash, role.name(), now],
    )?;
    if added == 0 {
        let sentence = format!("There is a user named {name} already.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("username").into());
    }
    one(connection, name)
}

/// Changes what a user may do, and whether they may sign in.
pub(crate) fn change(connection: &Connection, name: &str, change: ChangeUser) -> Result<User, Refused> {
    one(connection, name)?;
    if let Some(role) = change.role {
        connection.execute("UPDATE account SET role = ?2 WHERE username = ?1", params![name, role.name()])?;
    }
    if let Some(locked) = change.locked {
        connection.execute("UPDATE account SET locked = ?2 WHERE username = ?1", params![name, locked])?;
    }
    if change.locked == Some(true) {
        end_sessions(connection, name)?;
    }
    somebody_is_left(connection)?;
    one(connection, name)
}

/// Gives a user a password that must be changed at the next sign-in, and ends their sessions.
pub(crate) fn reset_password(
    connection: &Connection,
    name: &str,
    password_hash: &str,
) -> Result<User, Refused> {
    one(connection, name)?;
    connection.execute(
        "UPDATE account SET password_hash = ?2, first_password = NULL, must_change = 1 WHERE username = ?1",
        params![name, password_hash],
    )?;
    end_sessions(connection, name)?;
    one(connection, name)
}

/// Ends all sessions of a user.
pub(crate) fn end_sessions(connection: &Connection, name: &str) -> Result<(), Refused> {
    connection.execute("DELETE FROM session WHERE username = ?1", [name])?;
    Ok(())
}

/// Takes a user out, with their sessions.
pub(crate) fn remove(connection: &Connection, name: &str) -> Result<(), Refused> {
    one(connection, name)?;
    connection.execute("DELETE FROM account WHERE username = ?1", [name])?;
    somebody_is_left(connection)
}

/// Whatever was changed in this write is undone if it left nobody who could undo it.
fn somebody_is_left(connection: &Connection) -> Result<(), Refused> {
    let is_left = connection
        .prepare_cached("SELECT 1 FROM account WHERE role = ?1 AND NOT locked")?
        .exists([Role::Administrator.name()])?;
    if is_left {
        return Ok(());
    }
    let sentence =
        "This is the last administrator who can sign in. Make another user an administrator first.";
    Err(Problem::new(ProblemCode::Forbidden, sentence).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> Connection {
        let connection = crate::cluster::tables();
        connection
            .execute("INSERT INTO account (username, password_hash) VALUES ('admin', 'a hash')", [])
            .unwrap();
        connection
    }

    fn problem<T: std::fmt::Debug>(result: Result<T, Refused>) -> Problem {
        match result.unwrap_err() {
            Refused::Problem(problem) => problem,
            Refused::Sqlite(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_first_user_administers_and_others_are_what_they_are_made() {
        let connection = people();
        let added = add(&connection, "ada", Role::Viewer, "another", 7).unwrap();
        assert!(added.must_change_password && !added.locked && added.role == Role::Viewer);
        assert_eq!(added.made_at, Timestamp::from_second(7).ok());
        assert_eq!(problem(add(&connection, "ada", Role::Viewer, "x", 7)).field.as_deref(), Some("username"));
        let roles: Vec<_> = all(&connection).unwrap().into_iter().map(|user| user.role).collect();
        assert_eq!(roles, [Role::Viewer, Role::Administrator]);
        assert_eq!(problem(one(&connection, "bob")).code, ProblemCode::NotFound);
    }

    #[test]
    fn the_last_administrator_stays() {
        let connection = people();
        let viewer = ChangeUser { role: Some(Role::Viewer), locked: None };
        let lock = ChangeUser { role: None, locked: Some(true) };
        for refused in [
            problem(change(&connection, "admin", viewer)),
            problem(change(&connection, "admin", lock)),
            problem(remove(&connection, "admin")),
        ] {
            assert!(refused.detail.contains("last administrator"), "{refused}");
        }
    }

    #[test]
    fn of_two_administrators_one_can_go() {
        let connection = people();
        add(&connection, "ada", Role::Administrator, "another", 7).unwrap();
        assert!(change(&connection, "admin", ChangeUser { role: None, locked: Some(true) }).unwrap().locked);
        assert!(problem(remove(&connection, "ada")).detail.contains("last administrator"));
    }

    #[test]
    fn names_are_plain() {
        assert!(check_name("ada.l-2_x").is_ok());
        for wrong in ["", "Ada", "2a", "a b", "ä", "a\n", "../x", &"a".repeat(33), "-a"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
