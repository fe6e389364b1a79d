//! Roles that were made here, beside the built-in ones.

use std::collections::BTreeSet;

use quantix_api::{ChangeRole, Held, NewRole, Page, Problem, ProblemCode, Right, Role, Scope, built_in};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{check_name, check_purpose, rights};
use crate::{
    cluster::Refused,
    list::{self, Asked, Table},
    version::{self, Version},
};

const MOST: i64 = 200;

/// Where the list of them comes from.
pub(crate) const TABLE: Table = Table {
    columns: "name, purpose, rights, version",
    from: "role",
    key: "name",
    searched: "name || ' ' || purpose",
    sorts: &[("name", "name")],
    newest_first: false,
};

fn role(row: &Row<'_>) -> rusqlite::Result<Role> {
    let rights = rights::read(&row.get::<_, String>(2)?);
    Ok(Role { name: row.get(0)?, purpose: row.get(1)?, rights, built_in: false, version: row.get(3)? })
}

fn built_in_role(name: &str) -> Option<Role> {
    let rights = built_in::rights(name)?.iter().copied().collect();
    let purpose = built_in::purpose(name).to_owned();
    Some(Role { name: name.to_owned(), purpose, rights, built_in: true, version: 1 })
}

/// The part of them that is asked for; the built-in ones stand before the first.
pub(crate) fn list(connection: &Connection, asked: &Asked, is_first: bool) -> rusqlite::Result<Page<Role>> {
    let mut page = list::read(connection, &TABLE, asked, &[], role)?;
    if is_first {
        page.items.splice(0..0, built_in::ALL.into_iter().filter_map(built_in_role));
    }
    Ok(page)
}

/// One role.
pub(crate) fn one(connection: &Connection, name: &str) -> Result<Role, Refused> {
    if let Some(role) = built_in_role(name) {
        return Ok(role);
    }
    let found = connection
        .prepare_cached("SELECT name, purpose, rights, version FROM role WHERE name = ?1")?
        .query_row([name], role)
        .optional()?;
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such role.").into())
}

/// All rights of a role, wherever it may be given: nobody makes a role of more than they have everywhere.
fn everywhere(rights: &BTreeSet<Right>) -> [Held; 1] {
    let (role, scope) = (String::new(), Scope::Datacenter);
    [Held { role, through: None, scope, rights: rights.clone() }]
}

fn kept(rights: &BTreeSet<Right>) -> Result<String, Problem> {
    if rights.is_empty() {
        let sentence = "A role without any right lets nobody do anything. Choose at least one.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("rights"));
    }
    let names: Vec<_> = rights.iter().map(|right| right.name()).collect();
    // Names are plain texts, which always have a form.
    Ok(serde_json::to_string(&names).unwrap_or_default())
}

/// Makes a role.
pub(crate) fn add(connection: &Connection, giver: &[Held], new: &NewRole) -> Result<Role, Refused> {
    check_name("name", &new.name)?;
    check_purpose(&new.purpose)?;
    rights::must_cover(connection, giver, &everywhere(&new.rights))?;
    let count: i64 = connection.query_row("SELECT count(*) FROM role", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(Problem::new(ProblemCode::Invalid, format!("There are {MOST} roles already.")).into());
    }
    let rights = kept(&new.rights)?;
    let added = match built_in::rights(&new.name) {
        Some(_) => 0,
        None => connection.execute(
            "INSERT INTO role (name, purpose, rights) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![new.name, new.purpose.trim(), rights],
        )?,
    };
    if added == 0 {
        let sentence = format!("There is a role named {} already.", new.name);
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into());
    }
    one(connection, &new.name)
}

fn must_be_own(role: &Role) -> Result<(), Problem> {
    if role.built_in {
        let sentence = format!("{} is built in and stays as it is. Make a role of your own.", role.name);
        return Err(Problem::new(ProblemCode::Forbidden, sentence));
    }
    Ok(())
}

/// Changes a role, for everybody who has it.
pub(crate) fn change(
    connection: &Connection,
    giver: &[Held],
    name: &str,
    change: &ChangeRole,
    seen: Version,
) -> Result<Role, Refused> {
    let before = one(connection, name)?;
    must_be_own(&before)?;
    seen.must_be(before.version)?;
    rights::must_cover(connection, giver, &everywhere(&before.rights))?;
    if let Some(purpose) = &change.purpose {
        check_purpose(purpose)?;
        connection.execute("UPDATE role SET purpose = ?2 WHERE name = ?1", params![name, purpose.trim()])?;
    }
    if let Some(rights) = &change.rights {
        rights::must_cover(connection, giver, &everywhere(rights))?;
        connection.execute("UPDATE role SET rights = ?2 WHERE name = ?1", params![name, kept(rights)?])?;
    }
    version::count(connection, "role", "name", name)?;
    one(connection, name)
}

/// Removes a role that nobody has.
pub(crate) fn remove(connection: &Connection, giver: &[Held], name: &str) -> Result<Role, Refused> {
    let role = one(connection, name)?;
    must_be_own(&role)?;
    rights::must_cover(connection, giver, &everywhere(&role.rights))?;
    let given: i64 =
        connection.query_row("SELECT count(*) FROM access WHERE role = ?1", [name], |row| row.get(0))?;
    if given > 0 {
        let whom =
            if given == 1 { "one user or group".to_owned() } else { format!("{given} users or groups") };
        let sentence = format!("{name} is given to {whom}. Take it back from them first.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).into());
    }
    connection.execute("DELETE FROM role WHERE name = ?1", [name])?;
    Ok(role)
}
