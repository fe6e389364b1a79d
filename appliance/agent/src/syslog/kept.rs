//! Where the audit log is sent and how far it has got, as SQL.

use quantix_api::{AuditLine, AuditQuery, Problem, ProblemCode, SetSyslog, Syslog};
use rusqlite::{Connection, OptionalExtension, params};

use super::PORT;
use crate::{
    audit::{self, AskedLines},
    cluster::Refused,
    outside::{self, Place},
    version::Version,
};

/// So many lines travel at once.
const PART: u32 = 500;

/// What is set, and how far it has got.
pub(crate) fn show(connection: &Connection) -> rusqlite::Result<Syslog> {
    let set = connection
        .prepare_cached(
            "SELECT is_on, address, certificate, version, sent, (SELECT coalesce(max(id), 0) FROM audit)
             FROM syslog JOIN syslog_sent USING (one)",
        )?
        .query_row([], |row| {
            let (on, sent, newest): (bool, i64, i64) = (row.get(0)?, row.get(4)?, row.get(5)?);
            let waiting = if on { newest.saturating_sub(sent).max(0) } else { 0 };
            let (address, certificate, version) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(Syslog { on, address, certificate, sent, waiting, version })
        })
        .optional()?;
    Ok(set.unwrap_or_default())
}

/// Sets it. What is turned on begins with what is done from now on.
pub(crate) fn set(connection: &Connection, set: &SetSyslog, seen: Version) -> Result<Syslog, Refused> {
    let before = show(connection)?;
    seen.must_be(before.version)?;
    let Some(place) = Place::read(&set.address, PORT).filter(|_| set.address.len() <= 300) else {
        let sentence = "The receiver is a name or an address, and its port if that is not 6514, as in logs.example:6514.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("address").into());
    };
    let certificate = if set.certificate.trim().is_empty() { &before.certificate } else { &set.certificate };
    outside::trust(certificate)
        .map_err(|sentence| Problem::new(ProblemCode::Invalid, sentence).in_field("certificate"))?;
    connection.execute(
        "INSERT INTO syslog (one, is_on, address, certificate) VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE
         SET is_on = excluded.is_on, address = excluded.address, certificate = excluded.certificate,
             version = version + 1",
        params![set.on, place.to_string(), certificate.trim()],
    )?;
    if set.on && !before.on {
        connection.execute(
            "INSERT INTO syslog_sent (one, sent) SELECT 1, coalesce(max(id), 0) FROM audit WHERE true
             ON CONFLICT DO UPDATE SET sent = excluded.sent",
            [],
        )?;
    }
    connection.execute("INSERT INTO syslog_sent (one, sent) VALUES (1, 0) ON CONFLICT DO NOTHING", [])?;
    Ok(show(connection)?)
}

/// Forgets it.
pub(crate) fn remove(connection: &Connection, seen: Version) -> Result<(), Refused> {
    seen.must_be(show(connection)?.version)?;
    connection.execute("DELETE FROM syslog", [])?;
    connection.execute("DELETE FROM syslog_sent", [])?;
    Ok(())
}

/// The lines that are sent next, the oldest first, if they are sent.
pub(super) fn next(connection: &Connection) -> rusqlite::Result<Option<(Syslog, Vec<AuditLine>)>> {
    let set = show(connection)?;
    if !set.on || set.waiting == 0 {
        return Ok(None);
    }
    let query = AuditQuery { limit: Some(PART), oldest_first: true, ..AuditQuery::default() };
    let Ok(asked) = AskedLines::of(&query) else { return Ok(None) };
    let lines = audit::lines(connection, &asked.later_than(set.sent))?.items;
    Ok(Some((set, lines)))
}

/// Writes down that lines up to this one have arrived.
pub(super) fn got_to(connection: &Connection, number: i64) -> Result<(), Refused> {
    connection.execute("UPDATE syslog_sent SET sent = ?1 WHERE sent < ?1", [number])?;
    Ok(())
}

/// When the oldest line that waits was written.
pub(crate) fn waits_since(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    connection
        .query_row(
            "SELECT at FROM audit WHERE id > (SELECT sent FROM syslog_sent) ORDER BY id LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Line, cluster::tables};

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec!["x".into()]).unwrap().self_signed(&key).unwrap().pem()
    }

    fn note(connection: &Connection, count: usize) {
        for _ in 0..count {
            audit::note(connection, &Line::done("ada", &"192.0.2.1", "test", "")).unwrap();
        }
    }

    #[test]
    fn what_is_turned_on_begins_with_what_is_done_from_then_on() {
        let connection = tables();
        note(&connection, 3);
        let wanted = SetSyslog { on: true, address: "logs.example".into(), certificate: authority() };
        assert_eq!(show(&connection).unwrap(), Syslog::default());
        let is = set(&connection, &wanted, Version::ANY).unwrap();
        assert_eq!((is.address.as_str(), is.sent, is.waiting, is.version), ("logs.example:6514", 3, 0, 1));
        assert!(next(&connection).unwrap().is_none());
        note(&connection, 2);
        let (_, lines) = next(&connection).unwrap().unwrap();
        assert_eq!(lines.iter().map(|line| line.id).collect::<Vec<_>>(), [4, 5]);
        got_to(&connection, 4).unwrap();
        got_to(&connection, 2).unwrap();
        assert_eq!(show(&connection).unwrap().sent, 4);
        // Another address goes on where the one before has ended; the certificate is kept if none is given.
        let moved = SetSyslog { address: "[::1]:1".into(), certificate: String::new(), ..wanted.clone() };
        let is = set(&connection, &moved, Version::ANY).unwrap();
        assert_eq!((is.sent, is.waiting), (4, 1));
        assert_eq!(is.certificate, wanted.certificate.trim());
        set(&connection, &SetSyslog { on: false, ..moved.clone() }, Version::ANY).unwrap();
        assert!(next(&connection).unwrap().is_none());
        assert_eq!(set(&connection, &moved, Version::ANY).unwrap().sent, 5);
        remove(&connection, Version::ANY).unwrap();
        assert_eq!(show(&connection).unwrap(), Syslog::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let connection = tables();
        let wanted = SetSyslog { on: true, address: "logs.example".into(), certificate: authority() };
        let field = |wrong: &SetSyslog| match set(&connection, wrong, Version::ANY).unwrap_err() {
            Refused::Problem(problem) => problem.field,
            Refused::Sqlite(error) => panic!("{error}"),
        };
        assert_eq!(field(&SetSyslog { address: "a b".into(), ..wanted.clone() }).as_deref(), Some("address"));
        let none = SetSyslog { certificate: String::new(), ..wanted };
        assert_eq!(field(&none).as_deref(), Some("certificate"));
    }
}
