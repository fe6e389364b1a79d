//! Roles as they are given to users and groups, everywhere or on one object.

use quantix_api::{Access, Held, NewAccess, Page, Problem, ProblemCode, Scope, Who};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{groups, rights, roles, users};
use crate::{
    cluster::{Refused, kept},
    list::{self, Asked, Table},
    vms::{self, folders},
};

const MOST: i64 = 10_000;

/// Where the list of them comes from.
pub(crate) const TABLE: Table = Table {
    columns: "id, username, user_group, role, scope",
    from: "access",
    key: "id",
    searched: "concat_ws(' ', username, user_group, role, scope)",
    sorts: &[
        ("id", "id"),
        ("who", "coalesce('user/' || username, 'group/' || user_group)"),
        ("role", "role"),
        ("scope", "scope"),
    ],
    newest_first: false,
};

fn access(row: &Row<'_>) -> rusqlite::Result<Access> {
    let who = match (row.get::<_, Option<String>>(1)?, row.get::<_, Option<String>>(2)?) {
        (Some(user), _) => Who::User(user),
        (None, group) => Who::Group(group.unwrap_or_default()),
    };
    // A place that this version does not know is shown as everywhere by nobody: it gives nothing.
    let scope = row.get::<_, String>(4)?.parse().unwrap_or(Scope::Host("0".repeat(16)));
    Ok(Access { id: row.get(0)?, who, role: row.get(3)?, scope })
}

/// The part of them that is asked for.
pub(crate) fn list(connection: &Connection, asked: &Asked) -> rusqlite::Result<Page<Access>> {
    list::read(connection, &TABLE, asked, &[], access)
}

fn one(connection: &Connection, id: i64) -> Result<Access, Refused> {
    let found = connection
        .prepare_cached("SELECT id, username, user_group, role, scope FROM access WHERE id = ?1")?
        .query_row([id], access)
        .optional()?;
    let unknown = || Problem::new(ProblemCode::NotFound, "No role was given by this number.");
    found.ok_or_else(|| unknown().into())
}

fn as_held(connection: &Connection, role: &str, scope: &Scope) -> rusqlite::Result<[Held; 1]> {
    let rights = rights::of_role(connection, role)?;
    Ok([Held { role: role.to_owned(), through: None, scope: scope.clone(), rights }])
}

/// Only places that are there.
pub(super) fn check_scope(connection: &Connection, scope: &Scope) -> Result<(), Refused> {
    let sentence = match scope {
        Scope::Datacenter => return Ok(()),
        Scope::Host(id) if kept::hosts(connection)?.iter().any(|host| host.id.to_string() == *id) => {
            return Ok(());
        }
        Scope::Folder(id) if folders::one(connection, *id).is_ok() => return Ok(()),
        Scope::Vm(id) if vms::kept::find(connection, id)?.is_some() => return Ok(()),
        Scope::Host(id) => format!("The cluster has no host {id}. Take the id from the list of hosts."),
        Scope::Folder(id) => format!("There is no folder {id}. Take the id from the list of folders."),
        Scope::Vm(id) => format!("There is no virtual machine {id}. Take the id from the list of them."),
        Scope::Pool(_) => "A role does not count on a pool: machines of all share it.".to_owned(),
        Scope::Image(_) => "A role does not count on an image: all share them.".to_owned(),
        Scope::Volume(_) => {
            "A role does not count on a volume. Give it on the virtual machine that has it.".to_owned()
        }
    };
    Err(Problem::new(ProblemCode::Invalid, sentence).in_field("scope").into())
}

/// Gives a role; what somebody has already stays as it is.
pub(crate) fn give(connection: &Connection, giver: &[Held], new: &NewAccess) -> Result<Access, Refused> {
    let (user, group) = match &new.who {
        Who::User(name) => (Some(users::one(connection, name).map(|_| name).map_err(in_field("who"))?), None),
        Who::Group(name) => {
            (None, Some(groups::one(connection, name).map(|_| name).map_err(in_field("who"))?))
        }
    };
    roles::one(connection, &new.role).map_err(in_field("role"))?;
    check_scope(connection, &new.scope)?;
    rights::must_cover(connection, giver, &as_held(connection, &new.role, &new.scope)?)?;
    let scope = new.scope.to_string();
    let same = connection
        .prepare_cached(
            "SELECT id FROM access WHERE username IS ?1 AND user_group IS ?2 AND role = ?3 AND scope = ?4",
        )?
        .query_row(params![user, group, new.role, scope], |row| row.get(0))
        .optional()?;
    if let Some(same) = same {
        return one(connection, same);
    }
    let count: i64 = connection.query_row("SELECT count(*) FROM access", [], |row| row.get(0))?;
    if count >= MOST {
        let sentence = format!("Roles were given {MOST} times already. Give them to groups instead.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).into());
    }
    connection.execute(
        "INSERT INTO access (username, user_group, role, scope) VALUES (?1, ?2, ?3, ?4)",
        params![user, group, new.role, scope],
    )?;
    one(connection, connection.last_insert_rowid())
}

/// What is not there is a field that does not hold, here.
fn in_field(field: &'static str) -> impl Fn(Refused) -> Refused {
    move |refused| match refused {
        Refused::Problem(problem) => {
            Problem::new(ProblemCode::Invalid, problem.detail).in_field(field).into()
        }
        sqlite @ Refused::Sqlite(_) => sqlite,
    }
}

/// Takes a role back.
pub(crate) fn take(connection: &Connection, giver: &[Held], id: i64) -> Result<Access, Refused> {
    let access = one(connection, id)?;
    rights::must_cover(connection, giver, &as_held(connection, &access.role, &access.scope)?)?;
    connection.execute("DELETE FROM access WHERE id = ?1", [id])?;
    rights::somebody_is_left(connection)?;
    Ok(access)
}

/// Gives a user one role everywhere, instead of what they had everywhere.
pub(super) fn set_everywhere(connection: &Connection, username: &str, role: &str) -> Result<(), Refused> {
    roles::one(connection, role).map_err(in_field("role"))?;
    let everywhere = Scope::Datacenter.to_string();
    connection
        .execute("DELETE FROM access WHERE username = ?1 AND scope = ?2", [username, everywhere.as_str()])?;
    connection.execute(
        "INSERT INTO access (username, role, scope) VALUES (?1, ?2, ?3)",
        [username, role, everywhere.as_str()],
    )?;
    Ok(())
}
