//! Groups of users: what is given to a group, everybody in it has.

use quantix_api::{ChangeGroup, Group, Held, NewGroup, Page, Problem, ProblemCode};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{check_name, check_purpose, rights, users};
use crate::{
    cluster::Refused,
    list::{self, Asked, Table},
    text,
    version::{self, Version},
};

const MOST: i64 = 200;

/// Where the list of them comes from.
pub(crate) const TABLE: Table = Table {
    columns: "name, purpose, provider_name, version",
    from: "user_group",
    key: "name",
    searched: "name || ' ' || purpose",
    sorts: &[("name", "name")],
    newest_first: false,
};

fn group(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Group> {
    let name: String = row.get(0)?;
    let members = connection
        .prepare_cached("SELECT username FROM membership WHERE user_group = ?1 ORDER BY username")?
        .query_map([&name], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let roles = rights::of_group(connection, &name)?;
    let (purpose, provider_name, version) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Group { name, purpose, members, roles, provider_name, version })
}

/// The part of them that is asked for.
pub(crate) fn list(connection: &Connection, asked: &Asked) -> rusqlite::Result<Page<Group>> {
    list::read(connection, &TABLE, asked, &[], |row| group(connection, row))
}

/// One group.
pub(crate) fn one(connection: &Connection, name: &str) -> Result<Group, Refused> {
    let found = connection
        .prepare_cached("SELECT name, purpose, provider_name, version FROM user_group WHERE name = ?1")?
        .query_row([name], |row| group(connection, row))
        .optional()?;
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such group.").into())
}

/// What the identity provider calls it; an empty text stands for none.
fn check_provider_name(name: Option<&String>) -> Result<Option<&str>, Problem> {
    let name = name.map(|name| name.trim()).filter(|name| !name.is_empty());
    if name.is_some_and(|name| !text::is_line(name, 200)) {
        let sentence =
            "The identity provider's name for a group has at most 200 characters that can be typed.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("provider_name"));
    }
    Ok(name)
}

/// Makes a group.
pub(crate) fn add(connection: &Connection, new: &NewGroup) -> Result<Group, Refused> {
    check_name("name", &new.name)?;
    check_purpose(&new.purpose)?;
    let provider_name = check_provider_name(new.provider_name.as_ref())?;
    let count: i64 = connection.query_row("SELECT count(*) FROM user_group", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(Problem::new(ProblemCode::Invalid, format!("There are {MOST} groups already.")).into());
    }
    let added = connection.execute(
        "INSERT INTO user_group (name, purpose, provider_name) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![new.name, new.purpose.trim(), provider_name],
    )?;
    if added == 0 {
        let sentence = format!("There is a group named {} already.", new.name);
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into());
    }
    one(connection, &new.name)
}

/// Changes a group.
pub(crate) fn change(
    connection: &Connection,
    giver: &[Held],
    name: &str,
    change: &ChangeGroup,
    seen: Version,
) -> Result<Group, Refused> {
    let before = one(connection, name)?;
    seen.must_be(before.version)?;
    rights::must_cover(connection, giver, &before.roles)?;
    if let Some(purpose) = &change.purpose {
        check_purpose(purpose)?;
        connection
            .execute("UPDATE user_group SET purpose = ?2 WHERE name = ?1", params![name, purpose.trim()])?;
    }
    if change.provider_name.is_some() {
        let provider_name = check_provider_name(change.provider_name.as_ref())?;
        connection.execute(
            "UPDATE user_group SET provider_name = ?2 WHERE name = ?1",
            params![name, provider_name],
        )?;
    }
    version::count(connection, "user_group", "name", name)?;
    one(connection, name)
}

/// Puts a user into a group, or takes one out.
pub(crate) fn set_member(
    connection: &Connection,
    giver: &[Held],
    name: &str,
    username: &str,
    is_in: bool,
) -> Result<Group, Refused> {
    let before = one(connection, name)?;
    rights::must_cover(connection, giver, &before.roles)?;
    users::one(connection, username)?;
    if before.provider_name.is_some() {
        let sentence = format!("{name} is filled by the identity provider. Change who is in it there.");
        return Err(Problem::new(ProblemCode::Forbidden, sentence).into());
    }
    let sql = if is_in {
        "INSERT INTO membership (user_group, username) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM membership WHERE user_group = ?1 AND username = ?2"
    };
    if connection.execute(sql, [name, username])? > 0 {
        version::count(connection, "user_group", "name", name)?;
    }
    rights::somebody_is_left(connection)?;
    one(connection, name)
}

/// Removes a group, with what it was given.
pub(crate) fn remove(connection: &Connection, giver: &[Held], name: &str) -> Result<Group, Refused> {
    let group = one(connection, name)?;
    rights::must_cover(connection, giver, &group.roles)?;
    connection.execute("DELETE FROM user_group WHERE name = ?1", [name])?;
    rights::somebody_is_left(connection)?;
    Ok(group)
}
