//! The audit log: who did what, from where, and what came of it. Its lines are written with what they tell of.

use jiff::Timestamp;
use quantix_api::{AuditLine, AuditQuery, ListQuery, Page, Problem};
use rusqlite::{Connection, params, types::Value as Text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster::Refused,
    list::{self, Asked, Table, must_be_short},
    sessions::now,
};

/// So many lines are kept.
const MOST: u32 = 100_000;

/// The longest text of what something was like.
const LONGEST_STATE: usize = 4096;

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
    #[serde(default)]
    before: Option<Value>,
    #[serde(default)]
    after: Option<Value>,
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
            before: None,
            after: None,
        }
    }

    /// That it was tried, and why it was not done.
    pub(crate) fn refused(self, why: impl Into<String>) -> Self {
        Self { outcome: why.into(), ..self }
    }

    /// The same of somebody who turned out to be another.
    pub(crate) fn by(self, actor: &str) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// A line about something else that was done with it.
    pub(crate) fn about(&self, action: &str, object: &str) -> Self {
        let (action, object) = (action.into(), object.into());
        Self { action, object, before: None, after: None, ..self.clone() }
    }

    /// What the object was like: something that people may see, and no secret.
    pub(crate) fn was(&mut self, state: &impl Serialize) {
        self.before = serde_json::to_value(state).ok();
    }

    /// What the object is like now.
    pub(crate) fn is(&mut self, state: &impl Serialize) {
        self.after = serde_json::to_value(state).ok();
    }

    /// Before and after as texts: of something that was changed, only what is different.
    fn states(&self) -> (Option<String>, Option<String>) {
        let (mut before, mut after) = (self.before.clone(), self.after.clone());
        if let (Some(Value::Object(before)), Some(Value::Object(after))) = (&mut before, &mut after) {
            before.retain(|key, value| after.get(key) != Some(value) || after.get(key).is_none());
            after.retain(|key, value| self.before.as_ref().and_then(|before| before.get(key)) != Some(value));
        }
        let text = |state: Value| {
            let text = state.to_string();
            if text.len() > LONGEST_STATE { "\"more than is kept\"".to_owned() } else { text }
        };
        (before.map(text), after.map(text))
    }
}

/// Writes a line into the audit log.
pub(crate) fn note(connection: &Connection, line: &Line) -> Result<(), Refused> {
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM audit", [], |row| row.get(0))?;
    let next = newest.unwrap_or_default() + 1;
    let (before, after) = line.states();
    connection.execute(
        "INSERT INTO audit (id, at, actor, address, action, object, outcome, before, after)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            next,
            line.at,
            line.actor,
            line.address,
            line.action,
            line.object,
            line.outcome,
            before,
            after
        ],
    )?;
    connection.execute("DELETE FROM audit WHERE id <= ?1", [next - i64::from(MOST)])?;
    Ok(())
}

/// Where the list of lines comes from.
pub(crate) const TABLE: Table = Table {
    columns: "id, at, actor, address, action, object, outcome, before, after",
    from: "audit",
    key: "id",
    searched: "concat_ws(char(10), actor, address, action, object, outcome)",
    sorts: &[("id", "id")],
    newest_first: true,
};

/// Lines of the audit log, the newest first unless it is asked otherwise.
pub(crate) fn lines(connection: &Connection, asked: &AskedLines) -> rusqlite::Result<Page<AuditLine>> {
    list::read(connection, &TABLE, &asked.part, &asked.filters, |row| {
        let state = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(AuditLine {
            id: row.get(0)?,
            at: Timestamp::from_second(row.get(1)?).unwrap_or_default(),
            actor: row.get(2)?,
            address: row.get(3)?,
            action: row.get(4)?,
            object: row.get(5)?,
            outcome: row.get(6)?,
            before: state(row.get(7)?),
            after: state(row.get(8)?),
        })
    })
}

/// Which lines are asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct AskedLines {
    part: Asked,
    filters: Vec<(&'static str, Text)>,
}

impl AskedLines {
    /// Checks what is asked.
    pub(crate) fn of(query: &AuditQuery) -> Result<Self, Problem> {
        let AuditQuery { after, limit, text, actor, object, oldest_first } = query.clone();
        let sort = oldest_first.then(|| "id".to_owned());
        let part = Asked::of(&ListQuery { after, limit, sort, text }, &TABLE)?;
        let mut filters = Vec::new();
        for (field, condition, wanted, longest) in
            [("actor", "actor = ?", actor, 100), ("object", "object = ?", object, 200)]
        {
            must_be_short(field, wanted.as_deref().unwrap_or_default(), longest)?;
            filters.extend(wanted.map(|wanted| (condition, Text::Text(wanted))));
        }
        Ok(Self { part, filters })
    }
}

impl AskedLines {
    /// Only those that were written after this one.
    pub(crate) fn later_than(mut self, number: i64) -> Self {
        self.filters.push(("id > ?", Text::Integer(number)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[(&str, &str)]) -> Connection {
        let connection = crate::cluster::tables();
        for (at, (actor, outcome)) in (0..).zip(lines) {
            let line = Line::done(*actor, &"192.0.2.1", "test", "");
            note(&connection, &Line { at, ..line.refused(*outcome) }).unwrap();
        }
        connection
    }

    fn found(connection: &Connection, query: &AuditQuery) -> (Vec<i64>, Option<String>) {
        let page = lines(connection, &AskedLines::of(query).unwrap()).unwrap();
        (page.items.iter().map(|line| line.id).collect(), page.next)
    }

    #[test]
    fn the_newest_lines_come_first_and_the_rest_when_asked_for() {
        let connection = written(&[("a", "done"); 5]);
        let query = AuditQuery { limit: Some(2), ..AuditQuery::default() };
        let (first, next) = found(&connection, &query);
        let (second, further) = found(&connection, &AuditQuery { after: next, ..query.clone() });
        let (third, none) = found(&connection, &AuditQuery { after: further, ..query });
        assert_eq!((first, second, third, none), (vec![5, 4], vec![3, 2], vec![1], None));
        let oldest = AuditQuery { oldest_first: true, ..AuditQuery::default() };
        assert_eq!(found(&connection, &oldest).0, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_text_is_found_in_any_column_and_who_did_it_exactly() {
        let connection = written(&[("Ada", "done"), ("Ben", "50% of it"), ("Cem", "done")]);
        let text = |text: &str| AuditQuery { text: Some(text.into()), ..AuditQuery::default() };
        assert_eq!(found(&connection, &text("ADA")).0, [1]);
        assert_eq!(found(&connection, &text("%")).0, [2]);
        assert_eq!(found(&connection, &text("192.0.2")).0, [3, 2, 1]);
        assert_eq!(found(&connection, &text("' OR 1 --")).0, [0_i64; 0]);
        let by = AuditQuery { actor: Some("Ben".into()), ..AuditQuery::default() };
        assert_eq!(found(&connection, &by).0, [2]);
    }

    #[test]
    fn of_a_change_only_what_is_different_is_kept() {
        let connection = crate::cluster::tables();
        let mut line = Line::done("ada", &"192.0.2.1", "change user", "ben");
        line.was(&serde_json::json!({"name": "ben", "locked": false, "groups": []}));
        line.is(&serde_json::json!({"name": "ben", "locked": true, "groups": []}));
        note(&connection, &line).unwrap();
        let mut line = Line::done("ada", &"192.0.2.1", "make", "x");
        line.is(&"a".repeat(LONGEST_STATE));
        note(&connection, &line).unwrap();
        let page = lines(&connection, &AskedLines::of(&AuditQuery::default()).unwrap()).unwrap();
        assert_eq!(page.items[1].before, Some(serde_json::json!({"locked": false})));
        assert_eq!(page.items[1].after, Some(serde_json::json!({"locked": true})));
        assert_eq!(page.items[0].after, Some("more than is kept".into()));
    }
}
