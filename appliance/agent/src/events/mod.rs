//! What happens by itself: written once, whoever notices it, and closed when it is over.

mod attacks;
mod plan;
mod watching;

use jiff::Timestamp;
use quantix_api::{Event, EventQuery, Page, Problem, ProblemCode, Scope, Severity};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value as Sql};

pub(crate) use attacks::Attacks;
pub(crate) use plan::{LOST_AFTER, News};

use crate::{
    cluster::Refused,
    list::{self, Asked, Table},
    vms::folders,
};

/// So many are kept.
const MOST: i64 = 20_000;
/// What was over and comes again within this time is the same once more.
const AGAIN_MS: i64 = 10 * 60 * 1000;
/// What a host may tell at once, and how much it may say.
const MOST_NEWS: usize = 64;
const LONGEST: usize = 500;

pub(crate) const TABLE: Table = Table {
    columns: "id, at, severity, component, object, host, sentence, lasting, times, cleared_at, acknowledged_by",
    from: "event",
    key: "id",
    searched: "concat_ws(char(10), component, object, host, sentence)",
    sorts: &[("id", "id")],
    newest_first: true,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    /// By this it is known again when it happens once more.
    pub(crate) key: String,
    pub(crate) severity: Severity,
    pub(crate) component: String,
    pub(crate) object: String,
    /// The name of the host.
    pub(crate) host: String,
    pub(crate) sentence: String,
    /// Whether it is over when whoever wrote it says so, and not when a person does.
    pub(crate) is_lasting: bool,
}

struct Latest {
    id: i64,
    at: i64,
    severity: String,
    sentence: String,
    cleared_at: Option<i64>,
}

fn latest(connection: &Connection, key: &str) -> rusqlite::Result<Option<Latest>> {
    connection
        .prepare_cached(
            "SELECT id, at, severity, sentence, cleared_at FROM event WHERE key = ?1 ORDER BY id DESC LIMIT 1",
        )?
        .query_row([key], |row| {
            Ok(Latest {
                id: row.get(0)?,
                at: row.get(1)?,
                severity: row.get(2)?,
                sentence: row.get(3)?,
                cleared_at: row.get(4)?,
            })
        })
        .optional()
}

/// Writes down that something happened. While it is open it is there once, however often it is told.
pub(crate) fn raise(connection: &Connection, happened: &Happened, now_ms: i64) -> Result<(), Refused> {
    let severity = happened.severity.name();
    let sentence: String = happened.sentence.chars().take(LONGEST).collect();
    if let Some(latest) = latest(connection, &happened.key)? {
        let is_info = happened.severity == Severity::Info;
        let is_open = latest.cleared_at.is_none() && !is_info;
        if is_open && latest.severity == severity && latest.sentence == sentence {
            return Ok(());
        }
        let was_shortly_before = (now_ms - latest.cleared_at.unwrap_or(latest.at)).abs() < AGAIN_MS;
        if is_open || was_shortly_before {
            connection.execute(
                "UPDATE event SET at = ?2, severity = ?3, sentence = ?4, cleared_at = NULL,
                     times = times + (?5 OR cleared_at IS NOT NULL),
                     acknowledged_by = CASE WHEN cleared_at IS NULL THEN acknowledged_by END
                 WHERE id = ?1",
                params![latest.id, now_ms, severity, sentence, is_info],
            )?;
            return Ok(());
        }
    }
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM event", [], |row| row.get(0))?;
    let id = newest.unwrap_or_default() + 1;
    connection.execute(
        "INSERT INTO event (id, key, at, severity, component, object, host, sentence, lasting)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            id,
            happened.key,
            now_ms,
            severity,
            happened.component,
            happened.object,
            happened.host,
            sentence,
            happened.is_lasting
        ],
    )?;
    connection.execute(
        "DELETE FROM event WHERE id <= ?1 AND (cleared_at IS NOT NULL OR severity = 'info')",
        [id - MOST],
    )?;
    Ok(())
}

/// It is over.
pub(crate) fn clear(connection: &Connection, key: &str, now_ms: i64) -> Result<(), Refused> {
    connection.execute(
        "UPDATE event SET cleared_at = ?2 WHERE key = ?1 AND cleared_at IS NULL AND severity <> 'info'",
        params![key, now_ms],
    )?;
    Ok(())
}

/// What is open of those whose key begins so: the rest of the key, and the sentence.
pub(crate) fn open_below(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<(String, String)>> {
    connection
        .prepare_cached(
            "SELECT substr(key, length(?1) + 1), sentence FROM event
             WHERE cleared_at IS NULL AND severity <> 'info' AND lasting AND substr(key, 1, length(?1)) = ?1",
        )?
        .query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// What a host tells about itself.
pub(crate) fn take(
    connection: &Connection,
    host: quantix_store::HostId,
    name: &str,
    news: &News,
    now_ms: i64,
) -> Result<(), Refused> {
    let object = format!("host/{host}");
    if news.wrong.len() + news.over.len() > MOST_NEWS {
        let sentence = format!("A host tells at most {MOST_NEWS} things at once.");
        return Err(Problem::new(ProblemCode::TooLarge, sentence).into());
    }
    for condition in &news.wrong {
        let what: String = condition.what.chars().take(100).collect();
        let happened = Happened {
            key: format!("{object}/own/{what}"),
            severity: condition.severity,
            component: condition.component.chars().take(40).collect(),
            object: object.clone(),
            host: name.to_owned(),
            sentence: condition.sentence.clone(),
            is_lasting: true,
        };
        raise(connection, &happened, now_ms)?;
    }
    for what in &news.over {
        clear(connection, &format!("{object}/own/{what}"), now_ms)?;
    }
    Ok(())
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Event> {
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
    let severity: String = row.get("severity")?;
    let severity = Severity::of(&severity).unwrap_or(Severity::Info);
    let cleared_at: Option<i64> = row.get("cleared_at")?;
    let is_lasting: bool = row.get("lasting")?;
    Ok(Event {
        id: row.get("id")?,
        at: at(row.get("at")?),
        severity,
        component: row.get("component")?,
        object: row.get("object")?,
        host: row.get("host")?,
        sentence: row.get("sentence")?,
        times: row.get("times")?,
        cleared_at: cleared_at.map(at),
        acknowledged_by: row.get("acknowledged_by")?,
        can_clear: !is_lasting && cleared_at.is_none() && severity != Severity::Info,
    })
}

/// One event.
pub(crate) fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Event>> {
    connection
        .prepare_cached(&format!("SELECT {} FROM event WHERE id = ?1", TABLE.columns))?
        .query_row([id], of_row)
        .optional()
}

fn one(connection: &Connection, id: i64) -> Result<Event, Refused> {
    find(connection, id)?.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such event.").into())
}

/// A part of the list. Whoever may not see everything sees what is about `seen`.
pub(crate) fn list(
    connection: &Connection,
    asked: &Asked,
    query: &EventQuery,
    seen: Option<&[Scope]>,
) -> rusqlite::Result<Page<Event>> {
    let mut filters: Vec<(&str, Sql)> = Vec::new();
    if let Some(severity) = &query.severity {
        filters.push(("severity = ?", Sql::Text(severity.clone())));
    }
    if let Some(component) = &query.component {
        filters.push(("component = ?", Sql::Text(component.clone())));
    }
    match query.open {
        Some(true) => filters.push(("cleared_at IS NULL AND severity <> 'info' AND ?", Sql::Integer(1))),
        Some(false) => filters.push(("(cleared_at IS NOT NULL OR severity = 'info') AND ?", Sql::Integer(1))),
        None => {}
    }
    if let Some(seen) = seen {
        filters.push(folders::about(connection, seen)?);
    }
    list::read(connection, &TABLE, asked, &filters, of_row)
}

fn conflict(sentence: &str) -> Refused {
    Problem::new(ProblemCode::Conflict, sentence).into()
}

/// Somebody looks after it. The first who says so is shown.
pub(crate) fn acknowledge(connection: &Connection, id: i64, by: &str) -> Result<Event, Refused> {
    let event = one(connection, id)?;
    if !event.is_open() {
        return Err(conflict("It is over already."));
    }
    connection.execute(
        "UPDATE event SET acknowledged_by = ?2 WHERE id = ?1 AND acknowledged_by IS NULL",
        params![id, by],
    )?;
    one(connection, id)
}

/// Somebody says that it is over. What lasts is over by itself.
pub(crate) fn clear_by_hand(connection: &Connection, id: i64, now_ms: i64) -> Result<Event, Refused> {
    let event = one(connection, id)?;
    if !event.is_open() {
        return Ok(event);
    }
    if !event.can_clear {
        return Err(conflict("It lasts; it closes by itself when it is over."));
    }
    connection.execute("UPDATE event SET cleared_at = ?2 WHERE id = ?1", params![id, now_ms])?;
    one(connection, id)
}

#[cfg(test)]
mod tests {
    use quantix_store::HostId;

    use super::*;

    fn happened(key: &str, severity: Severity) -> Happened {
        Happened {
            key: key.into(),
            severity,
            component: "host".into(),
            object: "host/00000000000000a1".into(),
            host: "qx-1".into(),
            sentence: format!("{key} happened."),
            is_lasting: true,
        }
    }

    fn all(connection: &Connection) -> Vec<Event> {
        let query = quantix_api::ListQuery::default();
        let asked = Asked::of(&query, &TABLE).unwrap();
        list(connection, &asked, &EventQuery::default(), None).unwrap().items
    }

    #[test]
    fn what_is_open_is_there_once() {
        let connection = crate::cluster::tables();
        for now in 0..5 {
            raise(&connection, &happened("a", Severity::Error), now).unwrap();
        }
        assert_eq!(all(&connection).len(), 1);
        clear(&connection, "a", 10).unwrap();
        clear(&connection, "a", 11).unwrap();
        assert_eq!(all(&connection)[0].cleared_at, Some(Timestamp::from_millisecond(10).unwrap()));
        // Soon again: the same once more. Later: another.
        raise(&connection, &happened("a", Severity::Error), 20).unwrap();
        assert_eq!(all(&connection).iter().map(|event| event.times).collect::<Vec<_>>(), [2]);
        assert!(all(&connection)[0].is_open());
        clear(&connection, "a", 30).unwrap();
        raise(&connection, &happened("a", Severity::Error), 30 + AGAIN_MS).unwrap();
        assert_eq!(all(&connection).len(), 2);
    }

    #[test]
    fn what_is_good_to_know_is_no_alarm() {
        let connection = crate::cluster::tables();
        raise(&connection, &happened("a", Severity::Info), 1).unwrap();
        raise(&connection, &happened("b", Severity::Info), 2).unwrap();
        let events = all(&connection);
        assert_eq!((events.len(), events.iter().filter(|event| event.is_open()).count()), (2, 0));
        assert!(acknowledge(&connection, events[0].id, "ada").is_err());
    }

    #[test]
    fn people_close_what_does_not_close_by_itself() {
        let connection = crate::cluster::tables();
        raise(&connection, &happened("a", Severity::Error), 1).unwrap();
        let single = Happened { is_lasting: false, ..happened("b", Severity::Warning) };
        raise(&connection, &single, 2).unwrap();
        assert!(clear_by_hand(&connection, 1, 5).is_err());
        assert!(!clear_by_hand(&connection, 2, 5).unwrap().is_open());
        // Somebody else closes it at the same time.
        assert!(clear_by_hand(&connection, 2, 6).is_ok());
        acknowledge(&connection, 1, "ada").unwrap();
        assert_eq!(acknowledge(&connection, 1, "ben").unwrap().acknowledged_by.as_deref(), Some("ada"));
        assert!(
            matches!(clear_by_hand(&connection, 77, 6), Err(Refused::Problem(problem)) if problem.code == ProblemCode::NotFound)
        );
    }

    #[test]
    fn a_host_tells_about_itself_only_and_not_without_end() {
        let connection = crate::cluster::tables();
        let condition = |number: usize| plan::Condition {
            what: format!("check/{number}"),
            severity: Severity::Error,
            component: "host".into(),
            sentence: "x".repeat(10_000),
            after: None,
        };
        let news = News { wrong: vec![condition(0)], over: vec![] };
        take(&connection, HostId(0xa1), "qx-1", &news, 1).unwrap();
        let event = &all(&connection)[0];
        assert_eq!((event.object.as_str(), event.sentence.len()), ("host/00000000000000a1", LONGEST));
        // Another host cannot close it.
        let over = News { wrong: vec![], over: vec!["check/0".into()] };
        take(&connection, HostId(0xb2), "qx-2", &over, 2).unwrap();
        assert!(all(&connection)[0].is_open());
        assert_eq!(open_below(&connection, "host/00000000000000a1/own/").unwrap()[0].0, "check/0");
        take(&connection, HostId(0xa1), "qx-1", &over, 2).unwrap();
        assert!(!all(&connection)[0].is_open());
        let many = News { wrong: (0..65).map(condition).collect(), over: vec![] };
        assert!(take(&connection, HostId(0xa1), "qx-1", &many, 3).is_err());
    }
}
