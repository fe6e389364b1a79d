//! Folders of virtual machines: a tree, in which roles can count.

use std::collections::BTreeSet;

use quantix_api::{
    ChangeFolder, Folder, Held, NewFolder, Place, Problem, ProblemCode, Right, Scope, text::is_line,
};
use rusqlite::{Connection, OptionalExtension, params, types::Value as Sql};

use crate::{cluster::Refused, version::Version};

const MOST: i64 = 1000;
/// Folders in folders. A way up that is longer is none that was made here.
const DEEPEST: usize = 8;
const LONGEST_NAME: usize = 63;

/// The folders around one, itself first.
fn upwards(connection: &Connection, folder: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "WITH RECURSIVE up (id, depth) AS (
                 SELECT ?1, 0
                 UNION ALL
                 SELECT parent, depth + 1 FROM folder JOIN up USING (id) WHERE parent IS NOT NULL AND depth < ?2)
             SELECT id FROM up ORDER BY depth",
        )?
        .query_map(params![folder, DEEPEST * 2], |row| row.get(0))?
        .collect()
}

/// Where a machine is, that is in this folder or in none.
pub(crate) fn place_of_vm(connection: &Connection, id: &str, folder: Option<i64>) -> rusqlite::Result<Place> {
    let inside = folder.map(|folder| upwards(connection, folder)).transpose()?.unwrap_or_default();
    Ok(Place { scope: Scope::Vm(id.to_owned()), inside: inside.into_iter().map(Scope::Folder).collect() })
}

/// Where an object is. What is not there is in no folder.
pub(crate) fn place(connection: &Connection, scope: &Scope) -> rusqlite::Result<Place> {
    match scope {
        Scope::Datacenter | Scope::Host(_) | Scope::Pool(_) | Scope::Image(_) => Ok(scope.clone().into()),
        Scope::Folder(id) => {
            let around = upwards(connection, *id)?.into_iter().skip(1);
            Ok(Place { scope: scope.clone(), inside: around.map(Scope::Folder).collect() })
        }
        Scope::Vm(id) => {
            let folder = connection
                .prepare_cached("SELECT folder FROM vm WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()?;
            place_of_vm(connection, id, folder.flatten())
        }
        // Whoever looks after a machine looks after its disks.
        Scope::Volume(id) => {
            let vm: Option<String> = connection
                .prepare_cached("SELECT vm FROM volume WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()?
                .flatten();
            let Some(vm) = vm else { return Ok(scope.clone().into()) };
            let around = place(connection, &Scope::Vm(vm))?;
            Ok(Place { scope: scope.clone(), inside: [vec![around.scope], around.inside].concat() })
        }
    }
}

/// Where something new goes: into a folder, or into none.
pub(crate) fn place_in(connection: &Connection, folder: Option<i64>) -> rusqlite::Result<Place> {
    place(connection, &folder.map_or(Scope::Datacenter, Scope::Folder))
}

/// What somebody may do at a place.
pub(crate) fn rights_at(roles: &[Held], place: &Place) -> BTreeSet<Right> {
    Right::ALL.into_iter().filter(|right| Held::give(roles, *right, place)).collect()
}

/// These scopes, and the folders in those of them that are folders: for questions about all that is there.
fn with_inner(connection: &Connection, scopes: &[Scope]) -> rusqlite::Result<Vec<String>> {
    let mut all: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    let mut inner = connection.prepare_cached(
        "WITH RECURSIVE down (id) AS (
             SELECT id FROM folder WHERE parent = ?1
             UNION
             SELECT folder.id FROM folder JOIN down ON folder.parent = down.id)
         SELECT id FROM down",
    )?;
    for scope in scopes {
        let Scope::Folder(id) = scope else { continue };
        for found in inner.query_map([id], |row| row.get(0))? {
            all.push(Scope::Folder(found?).to_string());
        }
    }
    Ok(all)
}

/// A condition for lists of what is about objects: whoever may not see everything sees what is in these scopes.
pub(crate) fn about(connection: &Connection, seen: &[Scope]) -> rusqlite::Result<(&'static str, Sql)> {
    let condition = "EXISTS (SELECT 1 FROM json_each(?) AS seen_in WHERE seen_in.value IN
                         (object, (SELECT 'folder/' || vm.folder FROM vm WHERE vm.id = substr(object, 4) AND object LIKE 'vm/%')))";
    Ok((condition, in_sql(connection, seen)?))
}

/// The same for machines themselves.
pub(crate) fn of_vms(connection: &Connection, seen: &[Scope]) -> rusqlite::Result<(&'static str, Sql)> {
    let condition = "EXISTS (SELECT 1 FROM json_each(?) AS seen_in WHERE seen_in.value IN
                         ('vm/' || vm.id, 'folder/' || vm.folder))";
    Ok((condition, in_sql(connection, seen)?))
}

fn in_sql(connection: &Connection, seen: &[Scope]) -> rusqlite::Result<Sql> {
    // Texts always have a form in JSON.
    Ok(Sql::Text(serde_json::to_string(&with_inner(connection, seen)?).unwrap_or_default()))
}

/// The folders that somebody may see something in.
pub(crate) fn list(connection: &Connection, roles: &[Held]) -> rusqlite::Result<Vec<Folder>> {
    let folders: Vec<Folder> = connection
        .prepare_cached(&format!("{SELECT} ORDER BY name COLLATE NOCASE, id"))?
        .query_map([], folder)?
        .collect::<rusqlite::Result<_>>()?;
    let mut seen = Vec::new();
    for folder in folders {
        let folder = with_rights(connection, folder, roles)?;
        if folder.rights.contains(&Right::See) {
            seen.push(folder);
        }
    }
    Ok(seen)
}

const SELECT: &str =
    "SELECT id, name, parent, version, (SELECT count(*) FROM vm WHERE folder = folder.id) FROM folder";

fn folder(row: &rusqlite::Row<'_>) -> rusqlite::Result<Folder> {
    Ok(Folder {
        id: row.get(0)?,
        name: row.get(1)?,
        parent: row.get(2)?,
        version: row.get(3)?,
        vms: row.get(4)?,
        rights: BTreeSet::new(),
    })
}

/// A folder as somebody sees it.
pub(crate) fn with_rights(
    connection: &Connection,
    folder: Folder,
    roles: &[Held],
) -> rusqlite::Result<Folder> {
    let place = place(connection, &Scope::Folder(folder.id))?;
    Ok(Folder { rights: rights_at(roles, &place), ..folder })
}

/// One folder.
pub(crate) fn one(connection: &Connection, id: i64) -> Result<Folder, Refused> {
    let found =
        connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], folder).optional()?;
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such folder.").into())
}

fn invalid(field: &str, sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field).into()
}

/// Only folders that are there.
pub(crate) fn must_be_there(connection: &Connection, field: &str, id: Option<i64>) -> Result<(), Refused> {
    match id {
        Some(id) => one(connection, id).map(drop).map_err(|_| invalid(field, "There is no such folder.")),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), Refused> {
    if name.trim().is_empty() || name.trim() != name || !is_line(name, LONGEST_NAME) || name.contains('/') {
        let sentence = format!(
            "A name is one line of at most {LONGEST_NAME} characters, without / and without spaces around it."
        );
        return Err(invalid("name", sentence));
    }
    Ok(())
}

fn must_be_free(connection: &Connection, name: &str, parent: Option<i64>, but: i64) -> Result<(), Refused> {
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM folder WHERE name = ?1 COLLATE NOCASE AND parent IS ?2 AND id <> ?3")?
        .exists(params![name, parent, but])?;
    if is_taken {
        return Err(invalid("name", format!("There is a folder named {name} here already.")));
    }
    Ok(())
}

fn must_not_be_too_deep(connection: &Connection, parent: Option<i64>, below: usize) -> Result<(), Refused> {
    let above = parent.map(|parent| upwards(connection, parent)).transpose()?.unwrap_or_default().len();
    if above + 1 + below > DEEPEST {
        return Err(invalid("parent", format!("Folders can be in each other {DEEPEST} deep.")));
    }
    Ok(())
}

/// Makes a folder.
pub(crate) fn make(connection: &Connection, new: &NewFolder) -> Result<Folder, Refused> {
    check_name(&new.name)?;
    must_be_there(connection, "parent", new.parent)?;
    must_not_be_too_deep(connection, new.parent, 0)?;
    must_be_free(connection, &new.name, new.parent, 0)?;
    let (count, newest): (i64, Option<i64>) =
        connection
            .query_row("SELECT count(*), max(id) FROM folder", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if count >= MOST {
        return Err(Problem::new(ProblemCode::Invalid, format!("There are {MOST} folders already.")).into());
    }
    // A number is not given twice while something may still name the folder that had it.
    let given: Option<i64> =
        connection.query_row("SELECT last FROM folder_number", [], |row| row.get(0)).optional()?;
    let id = newest.max(given).unwrap_or_default() + 1;
    connection.execute(
        "INSERT INTO folder_number (one, last) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET last = excluded.last",
        [id],
    )?;
    connection.execute(
        "INSERT INTO folder (id, name, parent) VALUES (?1, ?2, ?3)",
        params![id, new.name, new.parent],
    )?;
    one(connection, id)
}

/// How many folders deep it goes below one.
fn depth_below(connection: &Connection, id: i64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "WITH RECURSIVE down (id, depth) AS (
                 SELECT ?1, 0
                 UNION ALL
                 SELECT folder.id, depth + 1 FROM folder JOIN down ON folder.parent = down.id WHERE depth < ?2)
             SELECT max(depth) FROM down",
        )?
        .query_row(params![id, DEEPEST * 2], |row| row.get(0))
}

/// Gives a folder another name, or puts it elsewhere with all that is in it.
pub(crate) fn change(
    connection: &Connection,
    id: i64,
    change: &ChangeFolder,
    seen: Version,
) -> Result<Folder, Refused> {
    let before = one(connection, id)?;
    seen.must_be(before.version)?;
    let name = change.name.as_ref().unwrap_or(&before.name);
    let parent = change.parent.unwrap_or(before.parent);
    check_name(name)?;
    must_be_there(connection, "parent", parent)?;
    if let Some(parent) = parent
        && upwards(connection, parent)?.contains(&id)
    {
        return Err(invalid("parent", "A folder cannot be in itself."));
    }
    must_not_be_too_deep(connection, parent, depth_below(connection, id)?)?;
    must_be_free(connection, name, parent, id)?;
    connection.execute(
        "UPDATE folder SET name = ?2, parent = ?3, version = version + 1 WHERE id = ?1",
        params![id, name, parent],
    )?;
    one(connection, id)
}

/// Removes a folder in which nothing is, with the roles that counted in it.
pub(crate) fn remove(connection: &Connection, id: i64, seen: Version) -> Result<Folder, Refused> {
    let folder = one(connection, id)?;
    seen.must_be(folder.version)?;
    let inner: i64 =
        connection.query_row("SELECT count(*) FROM folder WHERE parent = ?1", [id], |row| row.get(0))?;
    if folder.vms > 0 || inner > 0 {
        let sentence = format!(
            "{} is not empty: {} virtual machines and {inner} folders are in it. Move or remove them first.",
            folder.name, folder.vms
        );
        return Err(Problem::new(ProblemCode::Conflict, sentence).into());
    }
    forget_access(connection, &Scope::Folder(id))?;
    connection.execute("DELETE FROM folder WHERE id = ?1", [id])?;
    Ok(folder)
}

/// Roles that counted on what is gone.
pub(crate) fn forget_access(connection: &Connection, scope: &Scope) -> rusqlite::Result<()> {
    let scope = scope.to_string();
    connection.execute("DELETE FROM access WHERE scope = ?1", [&scope])?;
    connection.execute("DELETE FROM api_token WHERE scope = ?1", [&scope]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tables;

    fn tree() -> (Connection, [i64; 3]) {
        let connection = tables();
        let mut parent = None;
        let ids = ["a", "b", "c"].map(|name| {
            let made = make(&connection, &NewFolder { name: name.into(), parent }).unwrap();
            parent = Some(made.id);
            made.id
        });
        (connection, ids)
    }

    fn held(scope: Scope) -> [Held; 1] {
        [Held { role: "some".into(), through: None, scope, rights: [Right::See].into() }]
    }

    #[test]
    fn who_sees_a_folder_sees_those_in_it() {
        let (connection, [a, b, c]) = tree();
        let seen = |scope| -> Vec<i64> {
            list(&connection, &held(scope)).unwrap().into_iter().map(|folder| folder.id).collect()
        };
        assert_eq!(seen(Scope::Datacenter), [a, b, c]);
        assert_eq!(seen(Scope::Folder(b)), [b, c]);
        assert_eq!(seen(Scope::Host("0".repeat(16))), [0_i64; 0]);
        let inner = with_inner(&connection, &[Scope::Folder(b)]).unwrap();
        assert_eq!(inner, [format!("folder/{b}"), format!("folder/{c}")]);
        let place = place(&connection, &Scope::Folder(c)).unwrap();
        assert_eq!(place.inside, [Scope::Folder(b), Scope::Folder(a)]);
    }

    #[test]
    fn a_folder_is_never_in_itself_and_never_too_deep() {
        let (connection, [a, b, c]) = tree();
        let into = |id, parent| {
            let change_of = ChangeFolder { name: None, parent: Some(parent) };
            change(&connection, id, &change_of, Version::ANY).map(|folder| folder.parent)
        };
        assert!(into(a, Some(c)).is_err() && into(a, Some(a)).is_err());
        assert_eq!(into(c, None).unwrap(), None);
        assert_eq!(into(a, Some(c)).unwrap(), Some(c));
        let mut parent = b;
        for level in 0..DEEPEST {
            let made = make(&connection, &NewFolder { name: format!("{level}"), parent: Some(parent) });
            match made {
                Ok(made) => parent = made.id,
                Err(_) => return assert_eq!(level, DEEPEST - 3),
            }
        }
        panic!("folders can be too deep");
    }

    #[test]
    fn a_name_is_taken_once_in_each_folder() {
        let (connection, [a, ..]) = tree();
        let made = |name: &str, parent| make(&connection, &NewFolder { name: name.into(), parent }).is_ok();
        assert!(!made("A", None) && made("A", Some(a)) && !made("a", Some(a)));
        for wrong in ["", " ", "a/b", "a\nb", &"x".repeat(64)] {
            assert!(!made(wrong, None), "{wrong:?}");
        }
    }

    #[test]
    fn only_an_empty_folder_goes_and_its_number_is_not_given_again() {
        let (connection, [a, b, c]) = tree();
        assert!(
            remove(&connection, a, Version::ANY).is_err() && remove(&connection, b, Version::ANY).is_err()
        );
        remove(&connection, c, Version::ANY).unwrap();
        let new = make(&connection, &NewFolder { name: "d".into(), parent: None }).unwrap();
        assert!(new.id > c);
    }
}
