//! Who may do what: the roles that were given to users and to the groups they are in.

use std::collections::BTreeSet;

use quantix_api::{Held, Problem, ProblemCode, Right, Scope, built_in};
use rusqlite::{Connection, OptionalExtension};

use crate::{cluster::Refused, vms::folders::place};

/// What a role lets somebody do; nothing for one that is not known.
pub(crate) fn of_role(connection: &Connection, role: &str) -> rusqlite::Result<BTreeSet<Right>> {
    if let Some(rights) = built_in::rights(role) {
        return Ok(rights.iter().copied().collect());
    }
    let kept: Option<String> = connection
        .prepare_cached("SELECT rights FROM role WHERE name = ?1")?
        .query_row([role], |row| row.get(0))
        .optional()?;
    Ok(kept.map(|kept| read(&kept)).unwrap_or_default())
}

/// Rights as they are kept. One that a later version gave and this one does not know gives nothing.
pub(super) fn read(kept: &str) -> BTreeSet<Right> {
    let names: Vec<String> = serde_json::from_str(kept).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// What a user may do, and where.
pub(crate) fn of_user(connection: &Connection, username: &str) -> rusqlite::Result<Vec<Held>> {
    let given: Vec<(String, Option<String>, String)> = connection
        .prepare_cached(
            "SELECT role, user_group, scope FROM access
             WHERE username = ?1 OR user_group IN (SELECT user_group FROM membership WHERE username = ?1)
             ORDER BY user_group IS NOT NULL, id",
        )?
        .query_map([username], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    held(connection, given)
}

/// What everybody in a group may do, and where.
pub(crate) fn of_group(connection: &Connection, group: &str) -> rusqlite::Result<Vec<Held>> {
    let given: Vec<(String, Option<String>, String)> = connection
        .prepare_cached("SELECT role, scope FROM access WHERE user_group = ?1 ORDER BY id")?
        .query_map([group], |row| Ok((row.get(0)?, None, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    held(connection, given)
}

fn held(
    connection: &Connection,
    given: Vec<(String, Option<String>, String)>,
) -> rusqlite::Result<Vec<Held>> {
    let mut all = Vec::with_capacity(given.len());
    for (role, through, scope) in given {
        // A place that this version does not know is nowhere.
        let Ok(scope) = scope.parse() else { continue };
        let rights = of_role(connection, &role)?;
        all.push(Held { role, through, scope, rights });
    }
    Ok(all)
}

/// What of the rights of an owner a token has, that was made for a role somewhere.
pub(crate) fn within(
    connection: &Connection,
    owner: &[Held],
    role: &str,
    rights: &BTreeSet<Right>,
    scope: &Scope,
) -> rusqlite::Result<Vec<Held>> {
    let token = place(connection, scope)?;
    let mut narrowed = Vec::new();
    for held in owner {
        let scope = if token.is_in(&held.scope) {
            scope.clone()
        } else if place(connection, &held.scope)?.is_in(scope) {
            held.scope.clone()
        } else {
            continue;
        };
        let rights: BTreeSet<_> = held.rights.intersection(rights).copied().collect();
        if !rights.is_empty() {
            let through = held.through.clone();
            narrowed.push(Held { role: role.to_owned(), through, scope, rights });
        }
    }
    Ok(narrowed)
}

/// Nobody gives, takes or resets what is more than they have themselves: they would have it with the next step.
pub(crate) fn must_cover(connection: &Connection, giver: &[Held], others: &[Held]) -> Result<(), Refused> {
    for other in others {
        let place = place(connection, &other.scope)?;
        if !other.rights.iter().all(|right| Held::give(giver, *right, &place)) {
            let sentence = "This is about more rights than you have yourself. Ask somebody who has them.";
            return Err(Problem::new(ProblemCode::Forbidden, sentence).into());
        }
    }
    Ok(())
}

/// Whatever was changed in this write is undone if it left nobody who could undo it: somebody with a password here,
/// who is not locked and has everything everywhere.
pub(super) fn somebody_is_left(connection: &Connection) -> Result<(), Refused> {
    let is_left = connection
        .prepare_cached(
            "SELECT 1 FROM account WHERE NOT locked AND password_hash <> '' AND EXISTS (
                 SELECT 1 FROM access WHERE role = ?1 AND scope = ?2 AND (access.username = account.username
                     OR user_group IN (SELECT user_group FROM membership WHERE membership.username = account.username)))",
        )?
        .exists([built_in::ADMINISTRATOR, &Scope::Datacenter.to_string()])?;
    if is_left {
        return Ok(());
    }
    let sentence =
        "This is the last administrator who can sign in. Make another user an administrator first.";
    Err(Problem::new(ProblemCode::Forbidden, sentence).into())
}

#[cfg(test)]
mod tests {
    use quantix_api::NewFolder;

    use super::*;
    use crate::{cluster::tables, vms::folders};

    fn held(scope: &str, rights: &[Right]) -> Held {
        let rights = rights.iter().copied().collect();
        Held { role: "some".into(), through: None, scope: scope.parse().unwrap(), rights }
    }

    #[test]
    fn a_token_has_what_its_owner_and_its_role_have_in_common() {
        let connection = tables();
        let folder = |name: &str, parent| {
            let new = NewFolder { name: name.into(), parent };
            Scope::Folder(folders::make(&connection, &new).unwrap().id)
        };
        let outer = folder("outer", None);
        let Scope::Folder(id) = outer else { unreachable!() };
        let inner = folder("inner", Some(id));
        let (here, there) = ("host/0000000000000001", "host/0000000000000002");
        let owner = [
            held("datacenter", &[Right::See]),
            held(here, &[Right::See, Right::OperateHosts]),
            held(&outer.to_string(), &[Right::OperateVms]),
        ];
        let all: BTreeSet<_> = Right::ALL.into();
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let token =
            |rights: &BTreeSet<Right>, on: &Scope| within(&connection, &owner, "some", rights, on).unwrap();
        let may = |token: &[Held], right, on: &str| {
            Held::give(token, right, &place(&connection, &scope(on)).unwrap())
        };
        let everywhere = token(&all, &Scope::Datacenter);
        assert!(may(&everywhere, Right::See, there) && may(&everywhere, Right::OperateHosts, here));
        assert!(
            !may(&everywhere, Right::OperateHosts, there) && !may(&everywhere, Right::ManagePeople, here)
        );
        let on_there = token(&all, &scope(there));
        assert!(may(&on_there, Right::See, there) && !may(&on_there, Right::See, here));
        assert!(!may(&on_there, Right::See, "datacenter"));
        let viewer = token(&[Right::See].into(), &scope(here));
        assert!(may(&viewer, Right::See, here) && !may(&viewer, Right::OperateHosts, here));
        let on_inner = token(&all, &inner);
        assert!(may(&on_inner, Right::OperateVms, &inner.to_string()));
        assert!(!may(&on_inner, Right::OperateVms, &outer.to_string()));
    }

    #[test]
    fn whoever_has_a_folder_gives_rights_in_it_and_nowhere_else() {
        let connection = tables();
        let new = |name: &str, parent| NewFolder { name: name.into(), parent };
        let outer = folders::make(&connection, &new("outer", None)).unwrap().id;
        let inner = folders::make(&connection, &new("inner", Some(outer))).unwrap().id;
        let on = |folder: i64| [held(&format!("folder/{folder}"), &[Right::OperateVms])];
        assert!(must_cover(&connection, &on(outer), &on(inner)).is_ok());
        assert!(must_cover(&connection, &on(inner), &on(outer)).is_err());
        assert!(must_cover(&connection, &on(outer), &[held("datacenter", &[Right::OperateVms])]).is_err());
        assert!(must_cover(&connection, &[], &on(inner)).is_err());
        assert!(must_cover(&connection, &[], &[]).is_ok());
    }
}
