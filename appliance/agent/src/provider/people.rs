//! People as the provider shows them: who they are here, and in which groups.

use std::collections::BTreeSet;

use quantix_api::{Problem, ProblemCode};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use super::Shown;
use crate::{
    account::{Account, check_name, rights, users},
    audit::{self, Line},
    cluster::Refused,
    sessions::{self, TokenHash},
    version,
};

/// What became of somebody who came from the provider. A refusal is written down as well, with the groups they are not in
/// any more.
pub(crate) type Admitted = Result<String, Problem>;

/// Lets somebody in, or says why not: makes the account at the first time, sets the groups that the provider fills anew,
/// and opens a session.
pub(crate) fn admit(
    connection: &Connection,
    shown: &Shown,
    token: &TokenHash,
    line: Line,
) -> Result<Admitted, Refused> {
    let address = line.address.clone();
    let groups = groups(connection, shown)?;
    let account = match find(connection, shown)? {
        Some(account) => account,
        None => match add(connection, shown, &groups, &line)? {
            Ok(account) => account,
            Err(problem) => return refuse(connection, line, problem),
        },
    };
    let name = account.username.clone();
    let line = line.by(&name);
    set_groups(connection, &name, &groups, &line)?;
    let why = if account.locked {
        "This user is locked. An administrator can let you in again."
    } else if rights::of_user(connection, &name)?.is_empty() {
        NOTHING
    } else {
        sessions::open(connection, &account, token, &address, line.at)?;
        audit::note(connection, &line)?;
        return Ok(Ok(name));
    };
    users::end_sessions(connection, &name)?;
    refuse(connection, line, Problem::new(ProblemCode::Forbidden, why))
}

/// Who it is that makes accounts and fills groups.
const PROVIDER: &str = "the identity provider";

const NOTHING: &str = "The identity provider knows you, but you are in no group that may do something here. Ask an \
                       administrator for access.";

fn refuse(connection: &Connection, line: Line, problem: Problem) -> Result<Admitted, Refused> {
    audit::note(connection, &line.refused(problem.detail.as_str()))?;
    Ok(Err(problem))
}

fn find(connection: &Connection, shown: &Shown) -> rusqlite::Result<Option<Account>> {
    let name: Option<String> = connection
        .prepare_cached("SELECT username FROM account WHERE issuer = ?1 AND subject = ?2")?
        .query_row([&shown.issuer, &shown.subject], |row| row.get(0))
        .optional()?;
    name.map_or(Ok(None), |name| Account::find(connection, &name))
}

/// The groups here that the provider says somebody is in.
fn groups(connection: &Connection, shown: &Shown) -> rusqlite::Result<BTreeSet<String>> {
    let named: BTreeSet<&str> = shown.groups.iter().map(String::as_str).collect();
    let mut filled = connection
        .prepare_cached("SELECT name, provider_name FROM user_group WHERE provider_name IS NOT NULL")?;
    let filled = filled.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut groups = BTreeSet::new();
    for group in filled {
        let (name, provider_name) = group?;
        if named.contains(provider_name.as_str()) {
            groups.insert(name);
        }
    }
    Ok(groups)
}

fn add(
    connection: &Connection,
    shown: &Shown,
    groups: &BTreeSet<String>,
    line: &Line,
) -> Result<Result<Account, Problem>, Refused> {
    let forbidden = |sentence: String| Ok(Err(Problem::new(ProblemCode::Forbidden, sentence)));
    if check_name("username", &shown.name).is_err() {
        return forbidden("The identity provider's name for you cannot be a name here. A name begins with a letter from \
                          a to z and goes on with such letters, digits, dots, dashes and underscores, at most 32.".into());
    }
    // Whoever may do nothing gets no account either.
    let mut roles = Vec::new();
    for group in groups {
        roles.extend(rights::of_group(connection, group)?);
    }
    if roles.is_empty() {
        return forbidden(NOTHING.to_owned());
    }
    if Account::find(connection, &shown.name)?.is_some() {
        let name = &shown.name;
        return forbidden(format!(
            "There is another user named {name} here already. Ask an administrator for help."
        ));
    }
    users::must_have_room(connection)?;
    connection.execute(
        "INSERT INTO account (username, password_hash, made_at, issuer, subject) VALUES (?1, '', ?2, ?3, ?4)",
        params![shown.name, line.at, shown.issuer, shown.subject],
    )?;
    let mut made = line.about("make user", &shown.name).by(PROVIDER);
    made.is(&json!({"username": shown.name, "issuer": shown.issuer, "subject": shown.subject}));
    audit::note(connection, &made)?;
    let account = Account::find(connection, &shown.name)?;
    Ok(account.ok_or_else(|| Problem::new(ProblemCode::Internal, "The new user is not there.")))
}

/// Puts somebody into the groups that the provider names, and out of those that it fills and does not name.
fn set_groups(
    connection: &Connection,
    name: &str,
    groups: &BTreeSet<String>,
    line: &Line,
) -> Result<(), Refused> {
    let before: BTreeSet<String> = connection
        .prepare_cached(
            "SELECT user_group FROM membership JOIN user_group ON user_group.name = user_group
             WHERE username = ?1 AND provider_name IS NOT NULL",
        )?
        .query_map([name], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if before == *groups {
        return Ok(());
    }
    for group in before.difference(groups) {
        connection
            .execute("DELETE FROM membership WHERE user_group = ?1 AND username = ?2", [group, name])?;
    }
    for group in groups.difference(&before) {
        connection.execute("INSERT INTO membership (user_group, username) VALUES (?1, ?2)", [group, name])?;
    }
    for group in before.symmetric_difference(groups) {
        version::count(connection, "user_group", "name", group)?;
    }
    let mut changed = line.about("set groups", name).by(PROVIDER);
    changed.was(&json!({"groups": before}));
    changed.is(&json!({"groups": groups}));
    audit::note(connection, &changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::users::tests::person, cluster::tables};

    fn cluster() -> Connection {
        let connection = tables();
        person(&connection, "admin", "administrator");
        connection
            .execute_batch(
                "INSERT INTO user_group (name, purpose, provider_name) VALUES
                     ('lookers', '', 'qx viewers'), ('doers', '', 'qx-operators'), ('idle', '', 'qx-idle'), ('own', '', NULL);
                 INSERT INTO access (user_group, role, scope) VALUES
                     ('lookers', 'viewer', 'datacenter'), ('doers', 'operator', 'datacenter'), ('own', 'viewer', 'datacenter');",
            )
            .unwrap();
        connection
    }

    fn shown(subject: &str, name: &str, groups: &[&str]) -> Shown {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Shown { issuer: "https://id.example".into(), subject: subject.into(), name: name.into(), groups }
    }

    fn come(connection: &Connection, shown: &Shown) -> Admitted {
        let token = sessions::hash(&format!("{:?}", std::time::Instant::now()));
        admit(connection, shown, &token, Line::done("a stranger", &"192.0.2.1", "sign in", "")).unwrap()
    }

    fn groups_of(connection: &Connection, name: &str) -> Vec<String> {
        users::one(connection, name).unwrap().groups
    }

    #[test]
    fn the_provider_says_who_is_in_the_groups_it_fills() {
        let connection = cluster();
        assert_eq!(
            come(&connection, &shown("1", "ada", &["qx viewers", "qx-operators", "x"])).unwrap(),
            "ada"
        );
        assert_eq!(groups_of(&connection, "ada"), ["doers", "lookers"]);
        connection
            .execute("INSERT INTO membership (user_group, username) VALUES ('own', 'ada')", [])
            .unwrap();
        // The name may change there; the account is the same, and groups of one's own stay.
        come(&connection, &shown("1", "ada.l", &["qx viewers"])).unwrap();
        assert_eq!(groups_of(&connection, "ada"), ["lookers", "own"]);
        assert!(users::one(&connection, "ada.l").is_err());
        connection.execute("DELETE FROM membership WHERE user_group = 'own'", []).unwrap();
        assert!(come(&connection, &shown("1", "ada", &[])).is_err());
        let ada = users::one(&connection, "ada").unwrap();
        assert!(ada.groups.is_empty() && ada.sessions == 0, "who may do nothing any more is out at once");
        let outcomes: Vec<String> = connection
            .prepare("SELECT action || ': ' || outcome FROM audit ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(outcomes[..3], ["make user: done", "set groups: done", "sign in: done"]);
        assert!(outcomes.last().unwrap().starts_with("sign in: The identity provider knows you"));
    }

    #[test]
    fn nobody_takes_over_anothers_account_and_nobody_gets_one_for_nothing() {
        let connection = cluster();
        let refused = |subject: &str, name: &str, groups: &[&str]| {
            let problem = come(&connection, &shown(subject, name, groups)).unwrap_err();
            assert_eq!(problem.code, ProblemCode::Forbidden);
            problem.detail
        };
        assert!(refused("1", "admin", &["qx-operators"]).contains("another user named admin"));
        assert!(refused("1", "Ada L", &["qx-operators"]).contains("cannot be a name here"));
        assert_eq!(refused("1", "ada", &[]), NOTHING);
        assert_eq!(refused("1", "ada", &["qx-idle"]), NOTHING);
        assert!(users::one(&connection, "ada").is_err());
        come(&connection, &shown("1", "ada", &["qx viewers"])).unwrap();
        assert!(refused("2", "ada", &["qx viewers"]).contains("another user named ada"));
        connection.execute("UPDATE account SET locked = 1 WHERE username = 'ada'", []).unwrap();
        assert!(refused("1", "ada", &["qx viewers"]).contains("locked"));
        assert_eq!(users::one(&connection, "ada").unwrap().sessions, 0);
    }
}
