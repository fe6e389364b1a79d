//! The file of the log, and the thread that writes it.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
    sync::mpsc,
};

use openraft::storage::LogFlushed;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{damage, tail::Tail};
use crate::{
    raft::{Entry, LogId, Types, Vote},
    trouble::Trouble,
};

/// What the thread writes in one transaction at most.
const JOBS_TOGETHER: usize = 256;

/// What was kept by name.
pub(crate) type Marks = HashMap<String, Vec<u8>>;

/// Why the log of this host cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Damaged(String),
}

pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) reader: Connection,
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: VecDeque<u32>,
    pub(super) marks: Marks,
}

pub(super) enum Write {
    Append(Vec<(u64, Vec<u8>)>),
    Truncate(u64),
    Purge(LogId),
    Vote(Vote),
    Mark { name: String, value: Vec<u8> },
}

pub(super) enum Done {
    Raft(LogFlushed<Types>),
    Waiter(oneshot::Sender<()>),
    Nobody,
}

pub(super) struct Job {
    pub(super) write: Write,
    pub(super) done: Done,
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let mut write_ahead = path.as_os_str().to_owned();
    write_ahead.push("-wal");
    if damage::is_damaged(Path::new(&write_ahead))? {
        return Err(OpenError::Damaged("writes that had been acknowledged are broken on this disk".into()));
    }
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    // Moving what was written into the file proper makes a writer wait; seldom is better, and 16 MB are soon read.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
         PRAGMA wal_checkpoint(TRUNCATE);",
    )?;
    let mut marks: Marks = connection
        .prepare("SELECT name, value FROM kept")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let vote = take(&mut marks, "vote")?;
    let purged: Option<LogId> = take(&mut marks, "purged")?;
    let (entries, bytes) = read_all(&connection, purged)?;
    let reader = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    reader.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(Opened { connection, reader, vote, purged, entries, bytes, marks })
}

/// Looks at every entry, and keeps the newest.
fn read_all(
    connection: &Connection,
    purged: Option<LogId>,
) -> Result<(Vec<Entry>, VecDeque<u32>), OpenError> {
    const NEWEST: usize = 1024;
    let mut statement = connection.prepare("SELECT number, body FROM entry ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut entries = VecDeque::new();
    let mut bytes = VecDeque::new();
    let mut expected = purged.map(|purged| purged.index + 1);
    while let Some(row) = rows.next()? {
        let (number, body) = (row.get::<_, u64>(0)?, row.get_ref(1)?.as_blob().unwrap_or_default());
        if number != expected.unwrap_or(number) {
            return Err(OpenError::Damaged(format!("entry {} is missing", expected.unwrap_or_default())));
        }
        let entry =
            decode(number, body).ok_or_else(|| OpenError::Damaged(format!("entry {number} is damaged")))?;
        bytes.push_back(u32::try_from(body.len()).unwrap_or(u32::MAX));
        entries.push_back(entry);
        if entries.len() > NEWEST {
            entries.pop_front();
        }
        expected = Some(number + 1);
    }
    Ok((entries.into(), bytes))
}

fn take<T: serde::de::DeserializeOwned>(marks: &mut Marks, name: &str) -> Result<Option<T>, OpenError> {
    let Some(value) = marks.remove(name) else {
        return Ok(None);
    };
    postcard::from_bytes(&value).map(Some).map_err(|_| OpenError::Damaged(format!("the {name} is damaged")))
}

/// An entry as it stands in the file: a checksum over its number and its bytes, and the bytes.
pub(super) fn encode(entry: &Entry) -> Result<(u64, Vec<u8>), postcard::Error> {
    let body = postcard::to_extend(entry, vec![0; 4])?;
    let number = entry.log_id.index;
    Ok((number, seal(number, body)))
}

fn seal(number: u64, mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum(number, &body[4..]);
    body[..4].copy_from_slice(&sum.to_be_bytes());
    body
}

fn decode(number: u64, body: &[u8]) -> Option<Entry> {
    let (sum, body) = body.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*sum) != checksum(number, body) {
        return None;
    }
    postcard::from_bytes(body).ok().filter(|entry: &Entry| entry.log_id.index == number)
}

fn checksum(number: u64, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&number.to_be_bytes());
    sum.update(body);
    sum.finalize()
}

pub(super) fn read(reader: &Connection, first: u64, end: u64, limit: usize) -> Result<Vec<Entry>, OpenError> {
    let mut statement = reader.prepare_cached(
        "SELECT number, body FROM entry WHERE number >= ?1 AND number < ?2 ORDER BY number",
    )?;
    let end = i64::try_from(end).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![first, end])?;
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let (number, body) = (row.get::<_, u64>(0)?, row.get_ref(1)?.as_blob().unwrap_or_default());
        bytes += body.len();
        if bytes > limit && !found.is_empty() {
            break;
        }
        found.push(
            decode(number, body).ok_or_else(|| OpenError::Damaged(format!("entry {number} is damaged")))?,
        );
    }
    Ok(found)
}

/// Writes what is asked until nobody can ask any more.
pub(super) fn write_jobs(
    mut connection: Connection,
    waiting: &mpsc::Receiver<Job>,
    tail: &Tail,
    trouble: &Trouble,
) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        while jobs.len() < JOBS_TOGETHER {
            let Ok(next) = waiting.try_recv() else { break };
            jobs.push(next);
        }
        if let Err(error) = trouble.until_done("log", || write_together(&mut connection, &jobs)) {
            let sentence = format!("the log cannot be written: {error}");
            trouble.set("log", sentence.clone());
            for job in jobs {
                if let Done::Raft(callback) = job.done {
                    callback.log_io_completed(Err(io::Error::other(sentence.clone())));
                }
            }
            return;
        }
        for job in jobs {
            if let Write::Append(rows) = &job.write
                && let Some((last, _)) = rows.last()
            {
                tail.written(*last);
            }
            match job.done {
                Done::Raft(callback) => callback.log_io_completed(Ok(())),
                // Whoever stopped waiting does not need the answer.
                Done::Waiter(waiter) => drop(waiter.send(())),
                Done::Nobody => {}
            }
        }
    }
}

fn write_together(connection: &mut Connection, jobs: &[Job]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for job in jobs {
        match &job.write {
            Write::Append(rows) => {
                let mut insert = transaction
                    .prepare_cached("INSERT OR REPLACE INTO entry (number, body) VALUES (?1, ?2)")?;
                for (number, body) in rows {
                    insert.execute(params![number, body])?;
                }
            }
            Write::Truncate(from) => {
                transaction.prepare_cached("DELETE FROM entry WHERE number >= ?1")?.execute([from])?;
            }
            Write::Purge(upto) => {
                transaction.prepare_cached("DELETE FROM entry WHERE number <= ?1")?.execute([upto.index])?;
                keep(&transaction, "purged", &encoded(upto)?)?;
            }
            Write::Vote(vote) => keep(&transaction, "vote", &encoded(vote)?)?,
            Write::Mark { name, value } => keep(&transaction, name, value)?,
        }
    }
    transaction.commit()
}

pub(super) fn keep(connection: &Connection, name: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO kept (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])
        .map(drop)
}

pub(super) fn encoded(value: &impl serde::Serialize) -> Result<Vec<u8>, rusqlite::Error> {
    postcard::to_stdvec(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
