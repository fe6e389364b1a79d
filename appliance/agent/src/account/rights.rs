//! Who may do what: the roles that were given to users and to the groups they are in.

use std::collections::BTreeSet;

use quantix_api::{Held, Problem, ProblemCode, Right, Scope, built_in};
use rusqlite::{Connection, OptionalExtension};

use crate::cluster::Refused;

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
pub(crate) fn within(owner: &[Held], role: &str, rights: &BTreeSet<Right>, scope: &Scope) -> Vec<Held> {
    let narrowed = owner.iter().filter_map(|held| {
        let scope = match (held.scope.covers(scope), scope.covers(&held.scope)) {
            (true, _) => scope.clone(),
            (false, true) => held.scope.clone(),
            (false, false) => return None,
        };
        let rights: BTreeSet<_> = held.rights.intersection(rights).copied().collect();
        let through = held.through.clone();
        (!rights.is_empty()).then(|| Held { role: role.to_owned(), through, scope, rights })
    });
    narrowed.collect()
}

/// Nobody gives, takes or resets what is more than they have themselves: they would have it with the next step.
pub(crate) fn must_cover(giver: &[Held], others: &[Held]) -> Result<(), Refused> {
    if Held::cover(giver, others) {
        return Ok(());
    }
    let sentence = "This is about more rights than you have yourself. Ask somebody who has them.";
    Err(Problem::new(ProblemCode::Forbidden, sentence).into())
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
    use super::*;

    fn held(scope: &str, rights: &[Right]) -> Held {
        let rights = rights.iter().copied().collect();
        Held { role: "some".into(), through: None, scope: scope.parse().unwrap(), rights }
    }

    #[test]
    fn a_token_has_what_its_owner_and_its_role_have_in_common() {
        let (here, there) = ("host/0000000000000001", "host/0000000000000002");
        let owner = [held("datacenter", &[Right::See]), held(here, &[Right::See, Right::OperateHosts])];
        let all: BTreeSet<_> = Right::ALL.into();
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let may = |token: &[Held], right, on: &str| Held::give(token, right, &scope(on));
        let everywhere = within(&owner, "administrator", &all, &Scope::Datacenter);
        assert!(may(&everywhere, Right::See, there) && may(&everywhere, Right::OperateHosts, here));
        assert!(
            !may(&everywhere, Right::OperateHosts, there) && !may(&everywhere, Right::ManagePeople, here)
        );
        let on_there = within(&owner, "administrator", &all, &scope(there));
        assert!(may(&on_there, Right::See, there) && !may(&on_there, Right::See, here));
        assert!(!may(&on_there, Right::See, "datacenter"));
        let viewer = within(&owner, "viewer", &[Right::See].into(), &scope(here));
        assert!(may(&viewer, Right::See, here) && !may(&viewer, Right::OperateHosts, here));
    }
}
