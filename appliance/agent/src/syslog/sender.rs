//! Sends what waits, as long as this host leads.

use std::{io, sync::Mutex, time::Duration};

use jiff::Timestamp;
use quantix_api::{AuditLine, Check, CheckState, Syslog};
use quantix_store::{Seen, Store, Watch};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{PORT, kept, line};
use crate::{
    api::Agent,
    lock,
    outside::{self, Place},
    sessions::now,
};

/// How long a receiver has to take what is sent.
const DELIVERY: Duration = Duration::from_secs(20);
/// The first wait for a receiver that is gone; each is twice as long as the one before, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Lines that have waited longer than this, in seconds, are worth a warning.
const LATE: u64 = 60;

/// Why the last attempt failed, if it did.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<String>>);

/// Sends what waits whenever this host leads.
pub(crate) async fn forward(agent: &Agent, store: &Store) {
    let mut leadership = store.leadership();
    loop {
        let leads = *leadership.borrow_and_update();
        let work = async {
            match leads {
                Some(term) => forward_in(agent, store, term).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = work => {}
        }
        *lock(&agent.syslog.0) = None;
    }
}

async fn forward_in(agent: &Agent, store: &Store, term: u64) {
    let mut watch = store.watch(store.applied());
    let mut failures = 0;
    loop {
        match send_next(agent, term).await {
            Ok(true) => {
                failures = 0;
                *lock(&agent.syslog.0) = None;
            }
            Ok(false) => change(&mut watch, &["audit", "syslog"]).await,
            Err(why) => {
                if failures == 0 {
                    log::warn!("The audit log could not be sent: {why}");
                }
                *lock(&agent.syslog.0) = Some(why);
                tokio::select! {
                    () = sleep(wait(failures)) => failures += 1,
                    () = change(&mut watch, &["syslog"]) => failures = 0,
                }
            }
        }
    }
}

fn wait(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT)
}

/// Waits until one of the tables changes.
async fn change(watch: &mut Watch, tables: &[&str]) {
    while let Seen::Changes(changes) = watch.next().await {
        if changes.rows.iter().any(|row| tables.contains(&&*row.table)) {
            return;
        }
    }
}

/// Sends the lines that are next; `false` if there are none.
async fn send_next(agent: &Agent, term: u64) -> Result<bool, String> {
    let next = agent.cluster.read(kept::next).await.map_err(|problem| problem.detail)?;
    let Some((set, lines)) = next else { return Ok(false) };
    let (Some(first), Some(last)) = (lines.first(), lines.last().map(|line| line.id)) else {
        return Ok(false);
    };
    if first.id > set.sent + 1 {
        let lost = first.id - set.sent - 1;
        log::warn!("{lost} lines of the audit log are older than those that are kept and were never sent");
    }
    deliver(&set, &agent.name, &lines).await?;
    agent
        .cluster
        .write_in(term, move |connection| kept::got_to(connection, last))
        .await
        .map_err(|problem| problem.detail)?;
    Ok(true)
}

/// Sends lines to the receiver, and comes back when it has read all of them.
pub(crate) async fn deliver(set: &Syslog, host: &str, lines: &[AuditLine]) -> Result<(), String> {
    let place = Place::read(&set.address, PORT).ok_or_else(|| format!("{} is no address.", set.address))?;
    let config = outside::trust(&set.certificate)?;
    let frames: String = lines.iter().map(|line| line::frame(line, host)).collect();
    let sent = async {
        let mut stream = outside::reach(&place, config).await?;
        stream.write_all(frames.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 256];
        loop {
            match stream.read(&mut rest).await {
                Ok(0) => return Ok(()),
                // Receivers need not say goodbye; one that had not read everything would have reset.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    };
    match timeout(DELIVERY, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{place} did not take it: {error}.")),
        Err(_) => Err(format!("{place} did not read everything within {} seconds.", DELIVERY.as_secs())),
    }
}

/// A line that is sent to see whether one arrives. It is in no log here.
pub(crate) fn test_line(actor: &str, address: String) -> AuditLine {
    AuditLine {
        id: 0,
        at: Timestamp::now(),
        actor: actor.into(),
        address,
        action: "test syslog".into(),
        object: "syslog".into(),
        outcome: "done".into(),
        before: None,
        after: None,
    }
}

impl Agent {
    /// Whether what is sent arrives, if anything is sent.
    pub(crate) async fn syslog_check(&self) -> Option<Check> {
        let read =
            |connection: &rusqlite::Connection| Ok((kept::show(connection)?, kept::waits_since(connection)?));
        let (set, since) = self.cluster.read(read).await.ok().filter(|(set, _)| set.on)?;
        let late = since.filter(|_| set.waiting > 0).is_some_and(|since| now().saturating_sub(since) >= LATE);
        let why = lock(&self.syslog.0).clone();
        let (state, detail) = match (why, late) {
            (Some(why), _) => {
                (CheckState::Warn, format!("{} of the audit log wait to be sent: {why}", lines(set.waiting)))
            }
            (None, true) => {
                let sentence =
                    format!("{} of the audit log wait to be sent to {}.", lines(set.waiting), set.address);
                (CheckState::Warn, sentence)
            }
            (None, false) => (CheckState::Ok, format!("The audit log is sent to {}.", set.address)),
        };
        Some(Check { name: "syslog".to_owned(), state, detail })
    }
}

fn lines(count: i64) -> String {
    if count == 1 { "One line".to_owned() } else { format!("{count} lines") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_is_gone_is_asked_less_and_less_often() {
        let waits: Vec<_> = (0..9).map(|failures| wait(failures).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    }
}
