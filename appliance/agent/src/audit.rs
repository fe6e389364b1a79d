//! The audit log: who did what, from where, and what came of it. Its lines are written with what they tell of.

use jiff::Timestamp;
use quantix_api::{AuditLine, AuditLines};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::{cluster::Refused, sessions::now};

/// So many lines are kept.
const MOST: u32 = 100_000;

/// A line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) at: u64,
    pub(crate) actor: String,
    pub(crate) address: String,
    pub(crate) action: String,
    pub(crate) object: String,
    pub(crate) outcome: String,
}

impl Line {
    /// That something was done just now.
    pub(crate) fn done(
        actor: impl Into<String>,
        address: &impl std::fmt::Display,
        action: &str,
        object: impl Into<String>,
    ) -> Self {
        Self {
            at: now(),
            actor: actor.into(),
            address: address.to_string(),
            action: action.into(),
            object: object.into(),
            outcome: "done".into(),
        }
    }

    /// That it was tried, and why it was not done.
    pub(crate) fn refused(self, why: impl Into<String>) -> Self {
        Self { outcome: why.into(), ..self }
    }
}

/// Writes a line into the audit log.
pub(crate) fn note(connection: &Connection, line: &Line) -> Result<(), Refused> {
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM audit", [], |row| row.get(0))?;
    let next = newest.unwrap_or_default() + 1;
    connection.execute(
        "INSERT INTO audit (id, at, actor, address, action, object, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![next, line.at, line.actor, line.address, line.action, line.object, line.outcome],
    )?;
    connection.execute("DELETE FROM audit WHERE id <= ?1", [next - i64::from(MOST)])?;
    Ok(())
}

/// Lines of the audit log below a number that have a text somewhere, the newest first.
pub(crate) fn lines(
    connection: &Connection,
    before: i64,
    limit: u32,
    text: &str,
) -> rusqlite::Result<AuditLines> {
    let mut items: Vec<AuditLine> = connection
        .prepare_cached(
            "SELECT id, at, actor, address, action, object, outcome FROM audit
             WHERE id < ?1 AND (?2 = '' OR instr(lower(concat_ws(char(10), actor, address, action, object, outcome)), lower(?2)))
             ORDER BY id DESC LIMIT ?3",
        )?
        .query_map(params![before, text, i64::from(limit) + 1], |row| {
            Ok(AuditLine {
                id: row.get(0)?,
                at: Timestamp::from_second(row.get(1)?).unwrap_or_default(),
                actor: row.get(2)?,
                address: row.get(3)?,
                action: row.get(4)?,
                object: row.get(5)?,
                outcome: row.get(6)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(|last| last.id).filter(|_| has_more);
    Ok(AuditLines { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[(&str, &str)]) -> Connection {
        let connection = crate::cluster::tables();
        for (at, (actor, outcome)) in (0..).zip(lines) {
            let line = Line {
                at,
                actor: (*actor).into(),
                address: "192.0.2.1".into(),
                action: "test".into(),
                object: String::new(),
                outcome: (*outcome).into(),
            };
            note(&connection, &line).unwrap();
        }
        connection
    }

    fn ids(lines: &AuditLines) -> Vec<i64> {
        lines.items.iter().map(|line| line.id).collect()
    }

    #[test]
    fn the_newest_lines_come_first_and_the_rest_when_asked_for() {
        let connection = written(&[("a", "done"); 5]);
        let first = lines(&connection, i64::MAX, 2, "").unwrap();
        assert_eq!((ids(&first), first.next), (vec![5, 4], Some(4)));
        let second = lines(&connection, 4, 2, "").unwrap();
        assert_eq!((ids(&second), second.next), (vec![3, 2], Some(2)));
        let last = lines(&connection, 2, 2, "").unwrap();
        assert_eq!((ids(&last), last.next), (vec![1], None));
    }

    #[test]
    fn a_text_is_found_in_any_column_and_is_only_a_text() {
        let connection = written(&[("Ada", "done"), ("Ben", "50% of it"), ("Cem", "done")]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "ADA").unwrap()), [1]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "%").unwrap()), [2]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "192.0.2").unwrap()), [3, 2, 1]);
        assert_eq!(ids(&lines(&connection, i64::MAX, 9, "' OR 1 --").unwrap()), [0_i64; 0]);
    }
}
