//! Users as administrators look after them, as SQL. At least one administrator can always sign in.

use jiff::Timestamp;
use quantix_api::{ChangeUser, Held, Page, Problem, ProblemCode, User};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{access, check_name, rights, second_factor};
use crate::{
    cluster::Refused,
    list::{self, Asked, Table},
    version::{self, Version},
};

/// So many users can be kept.
const MOST: i64 = 1000;

const COLUMNS: &str = "username, locked, first_password IS NOT NULL OR must_change, made_at, last_sign_in,
    (SELECT count(*) FROM session WHERE session.username = account.username), version";

/// Where the list of them comes from.
pub(crate) const TABLE: Table = Table {
    columns: COLUMNS,
    from: "account",
    key: "username",
    searched: "username",
    sorts: &[
        ("username", "username"),
        ("last_sign_in", "coalesce(last_sign_in, 0)"),
        ("made_at", "coalesce(made_at, 0)"),
    ],
    newest_first: false,
};

/// The part of them that is asked for.
pub(crate) fn list(connection: &Connection, asked: &Asked) -> rusqlite::Result<Page<User>> {
    list::read(connection, &TABLE, asked, &[], |row| user(connection, row))
}

/// One user.
pub(crate) fn one(connection: &Connection, name: &str) -> Result<User, Refused> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM account WHERE username = ?1"))?
        .query_row([name], |row| user(connection, row))
        .optional()?;
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such user.").into())
}

fn user(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<User> {
    let time = |at: Option<i64>| at.and_then(|at| Timestamp::from_second(at).ok());
    let username: String = row.get(0)?;
    let groups = connection
        .prepare_cached("SELECT user_group FROM membership WHERE username = ?1 ORDER BY user_group")?
        .query_map([&username], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(User {
        roles: rights::of_user(connection, &username)?,
        groups,
        locked: row.get(1)?,
        must_change_password: row.get(2)?,
        second_factor: second_factor::is_set_up(connection, &username)?,
        made_at: time(row.get(3)?),
        last_sign_in: time(row.get(4)?),
        sessions: row.get(5)?,
        version: row.get(6)?,
        username,
    })
}

/// Adds a user who must choose a password at the first sign-in.
pub(crate) fn add(
    connection: &Connection,
    giver: &[Held],
    name: &str,
    role: &str,
    password_hash: &str,
    now: u64,
) -> Result<User, Refused> {
    check_name("username", name)?;
    must_have_room(connection)?;
    let added = connection.execute(
        "INSERT INTO account (username, password_hash, must_change, made_at) VALUES (?1, ?2, 1, ?3)
         ON CONFLICT DO NOTHING",
        params![name, password_hash, now],
    )?;
    if added == 0 {
        let sentence = format!("There is a user named {name} already.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("username").into());
    }
    access::set_everywhere(connection, name, role)?;
    let user = one(connection, name)?;
    rights::must_cover(connection, giver, &user.roles)?;
    Ok(user)
}

/// Refuses more users than can be kept.
pub(crate) fn must_have_room(connection: &Connection) -> Result<(), Refused> {
    let count: i64 = connection.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(Problem::new(ProblemCode::Invalid, format!("There are {MOST} users already.")).into());
    }
    Ok(())
}

/// Changes what a user may do everywhere, and whether they may sign in.
pub(crate) fn change(
    connection: &Connection,
    giver: &[Held],
    name: &str,
    change: &ChangeUser,
    seen: Version,
) -> Result<User, Refused> {
    let before = one(connection, name)?;
    seen.must_be(before.version)?;
    rights::must_cover(connection, giver, &before.roles)?;
    if let Some(role) = &change.role {
        access::set_everywhere(connection, name, role)?;
        rights::must_cover(connection, giver, &one(connection, name)?.roles)?;
    }
    if let Some(locked) = change.locked {
        connection.execute("UPDATE account SET locked = ?2 WHERE username = ?1", params![name, locked])?;
    }
    if change.locked == Some(true) {
        end_sessions(connection, name)?;
    }
    version::count(connection, "account", "username", name)?;
    rights::somebody_is_left(connection)?;
    one(connection, name)
}

/// Gives a user a password that must be changed at the next sign-in, and ends their sessions.
pub(crate) fn reset_password(
    connection: &Connection,
    giver: &[Held],
    name: &str,
    password_hash: &str,
) -> Result<User, Refused> {
    rights::must_cover(connection, giver, &one(connection, name)?.roles)?;
    if connection
        .prepare_cached("SELECT 1 FROM account WHERE username = ?1 AND issuer IS NOT NULL")?
        .exists([name])?
    {
        let sentence = format!("{name} signs in with the identity provider. The password is changed there.");
        return Err(Problem::new(ProblemCode::Forbidden, sentence).into());
    }
    connection.execute(
        "UPDATE account SET password_hash = ?2, first_password = NULL, must_change = 1, version = version + 1
         WHERE username = ?1",
        params![name, password_hash],
    )?;
    end_sessions(connection, name)?;
    one(connection, name)
}

/// Lets a user sign in without a second factor, with the password alone.
pub(crate) fn reset_second_factor(
    connection: &Connection,
    giver: &[Held],
    name: &str,
) -> Result<(), Refused> {
    rights::must_cover(connection, giver, &one(connection, name)?.roles)?;
    second_factor::remove(connection, name)?;
    end_sessions(connection, name)
}

/// Ends all sessions of a user.
pub(crate) fn end_sessions(connection: &Connection, name: &str) -> Result<(), Refused> {
    connection.execute("DELETE FROM session WHERE username = ?1", [name])?;
    Ok(())
}

/// Takes a user out, with their sessions and tokens.
pub(crate) fn remove(connection: &Connection, giver: &[Held], name: &str) -> Result<(), Refused> {
    rights::must_cover(connection, giver, &one(connection, name)?.roles)?;
    connection.execute("DELETE FROM account WHERE username = ?1", [name])?;
    rights::somebody_is_left(connection)
}

#[cfg(test)]
pub(crate) mod tests {
    use quantix_api::{ChangeGroup, ListQuery, NewAccess, NewGroup, NewRole, Right, Scope, Who};

    use super::*;
    use crate::account::{groups, roles};

    /// A user of a role, without a way to sign in that a test would need.
    pub(crate) fn person(connection: &Connection, name: &str, role: &str) -> Vec<Held> {
        connection
            .execute("INSERT INTO account (username, password_hash) VALUES (?1, 'a hash')", [name])
            .unwrap();
        access::set_everywhere(connection, name, role).unwrap();
        rights::of_user(connection, name).unwrap()
    }

    fn people() -> (Connection, Vec<Held>) {
        let connection = crate::cluster::tables();
        let admin = person(&connection, "admin", "administrator");
        (connection, admin)
    }

    /// Why a change is refused; as in the store, it leaves nothing behind.
    fn refused<T: std::fmt::Debug>(
        connection: &Connection,
        change: impl FnOnce() -> Result<T, Refused>,
    ) -> Problem {
        let undone = connection.unchecked_transaction().unwrap();
        let result = change();
        undone.rollback().unwrap();
        match result.unwrap_err() {
            Refused::Problem(problem) => problem,
            Refused::Sqlite(error) => panic!("{error}"),
        }
    }

    fn role(name: &str) -> ChangeUser {
        ChangeUser { role: Some(name.into()), locked: None }
    }

    fn lock() -> ChangeUser {
        ChangeUser { role: None, locked: Some(true) }
    }

    #[test]
    fn the_first_user_administers_and_others_are_what_they_are_made() {
        let (connection, admin) = people();
        let added = add(&connection, &admin, "ada", "viewer", "another", 7).unwrap();
        assert!(added.must_change_password && !added.locked && added.roles[0].role == "viewer");
        assert_eq!(added.made_at, Timestamp::from_second(7).ok());
        let twice = || add(&connection, &admin, "ada", "viewer", "x", 7);
        assert_eq!(refused(&connection, twice).field.as_deref(), Some("username"));
        assert_eq!(
            refused(&connection, || add(&connection, &admin, "ben", "king", "x", 7)).field.as_deref(),
            Some("role")
        );
        let asked = Asked::of(&ListQuery { sort: Some("-username".into()), ..ListQuery::default() }, &TABLE);
        let names: Vec<_> =
            list(&connection, &asked.unwrap()).unwrap().items.into_iter().map(|user| user.username).collect();
        assert_eq!(names, ["admin", "ada"]);
        assert_eq!(refused(&connection, || one(&connection, "bob")).code, ProblemCode::NotFound);
    }

    #[test]
    fn the_last_administrator_stays() {
        let (connection, admin) = people();
        let id: i64 = connection.query_row("SELECT id FROM access", [], |row| row.get(0)).unwrap();
        for refused in [
            refused(&connection, || change(&connection, &admin, "admin", &role("viewer"), Version::ANY)),
            refused(&connection, || change(&connection, &admin, "admin", &lock(), Version::ANY)),
            refused(&connection, || remove(&connection, &admin, "admin")),
            refused(&connection, || access::take(&connection, &admin, id)),
        ] {
            assert!(refused.detail.contains("last administrator"), "{refused}");
        }
    }

    #[test]
    fn of_two_administrators_one_can_go() {
        let (connection, admin) = people();
        add(&connection, &admin, "ada", "administrator", "another", 7).unwrap();
        assert!(change(&connection, &admin, "admin", &lock(), Version::ANY).unwrap().locked);
        assert!(
            refused(&connection, || remove(&connection, &admin, "ada")).detail.contains("last administrator")
        );
    }

    #[test]
    fn an_administrator_through_a_group_is_one_until_they_leave_it() {
        let (connection, admin) = people();
        person(&connection, "ada", "viewer");
        let new = NewGroup { name: "chiefs".into(), purpose: String::new(), provider_name: None };
        groups::add(&connection, &new).unwrap();
        let everything = NewAccess {
            who: Who::Group("chiefs".into()),
            role: "administrator".into(),
            scope: Scope::Datacenter,
        };
        access::give(&connection, &admin, &everything).unwrap();
        groups::set_member(&connection, &admin, "chiefs", "ada", true).unwrap();
        assert!(Held::give(
            &rights::of_user(&connection, "ada").unwrap(),
            Right::BackUp,
            &Scope::Datacenter.into()
        ));
        change(&connection, &admin, "admin", &role("viewer"), Version::ANY).unwrap();
        for refused in [
            refused(&connection, || groups::set_member(&connection, &admin, "chiefs", "ada", false)),
            refused(&connection, || groups::remove(&connection, &admin, "chiefs")),
            refused(&connection, || remove(&connection, &admin, "ada")),
        ] {
            assert!(refused.detail.contains("last administrator"), "{refused}");
        }
    }

    #[test]
    fn nobody_gives_or_takes_more_than_they_have() {
        let (connection, admin) = people();
        let new = NewRole {
            name: "people".into(),
            purpose: String::new(),
            rights: [Right::See, Right::ManagePeople].into(),
        };
        roles::add(&connection, &admin, &new).unwrap();
        let clerk = person(&connection, "clerk", "people");
        person(&connection, "ada", "viewer");
        let all = NewRole { name: "all".into(), rights: Right::ALL.into(), ..new };
        let give = |who: Who, role: &str| {
            access::give(&connection, &clerk, &NewAccess { who, role: role.into(), scope: Scope::Datacenter })
        };
        let more = |result: Problem| assert!(result.detail.contains("more rights than you have"), "{result}");
        more(refused(&connection, || give(Who::User("clerk".into()), "administrator")));
        more(refused(&connection, || change(&connection, &clerk, "admin", &lock(), Version::ANY)));
        more(refused(&connection, || reset_password(&connection, &clerk, "admin", "x")));
        more(refused(&connection, || remove(&connection, &clerk, "admin")));
        more(refused(&connection, || add(&connection, &clerk, "puppet", "administrator", "x", 7)));
        more(refused(&connection, || roles::add(&connection, &clerk, &all)));
        assert!(give(Who::User("ada".into()), "people").is_ok());
        assert!(change(&connection, &clerk, "ada", &lock(), Version::ANY).unwrap().locked);
    }

    #[test]
    fn a_role_that_is_given_stays_and_a_built_in_one_does_not_change() {
        let (connection, admin) = people();
        let new = NewRole { name: "night".into(), purpose: "At night".into(), rights: [Right::See].into() };
        roles::add(&connection, &admin, &new).unwrap();
        person(&connection, "ada", "night");
        assert!(
            refused(&connection, || roles::remove(&connection, &admin, "night"))
                .detail
                .contains("one user or group")
        );
        assert_eq!(
            refused(&connection, || roles::remove(&connection, &admin, "viewer")).code,
            ProblemCode::Forbidden
        );
        assert!(roles::add(&connection, &admin, &NewRole { name: "viewer".into(), ..new }).is_err());
        change(&connection, &admin, "ada", &role("viewer"), Version::ANY).unwrap();
        roles::remove(&connection, &admin, "night").unwrap();
    }

    #[test]
    fn a_group_that_the_provider_fills_is_not_filled_by_hand() {
        let (connection, admin) = people();
        let new =
            NewGroup { name: "ops".into(), purpose: String::new(), provider_name: Some("qx-ops".into()) };
        let made = groups::add(&connection, &new).unwrap();
        assert_eq!(
            refused(&connection, || groups::set_member(&connection, &admin, "ops", "admin", true)).code,
            ProblemCode::Forbidden
        );
        let by_hand = ChangeGroup { purpose: None, provider_name: Some(String::new()) };
        let changed = groups::change(&connection, &admin, "ops", &by_hand, Version::ANY).unwrap();
        assert!(changed.version > made.version && changed.provider_name.is_none());
        groups::set_member(&connection, &admin, "ops", "admin", true).unwrap();
    }
}
