//! The database that everybody reads, and the one thread that changes it.

pub(crate) mod apply;
mod machine;
mod readers;
mod record;
mod schema;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use openraft::EntryPayload;
use rusqlite::{Connection, config::DbConfig, params};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    feed::{Changes, Feed},
    log::Log,
    raft::{Applied, Change, Command, Entry, LogId, Membership},
    trouble::Trouble,
};
pub(crate) use apply::ApplyError;
pub(crate) use machine::{Machine, describe};
pub(crate) use readers::Readers;
pub use record::Failure;
use record::Recording;
pub(crate) use record::{Pending, Writer};
pub(crate) use schema::check as check_schema;
pub use schema::{Migration, SchemaError};

/// The table that says how far the database is.
const INTERNAL: &str = "_store";
pub(crate) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS _store (one INTEGER PRIMARY KEY CHECK (one = 1), position BLOB NOT NULL)";
/// Under this name the log keeps which file the database is in.
pub(crate) const FILE_MARK: &str = "database";

/// How far a database is. It is in the database itself, and changes with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: Membership,
    /// The last entry that changed anything.
    pub(crate) base: u64,
    pub(crate) schema: u32,
}

impl Position {
    pub(crate) fn index(&self) -> u64 {
        self.applied.map_or(0, |applied| applied.index)
    }
}

/// What writers changed, ready to be replicated.
pub(crate) struct Recorded {
    pub(crate) recording: Recording,
    pub(crate) change: Change,
    /// What becomes of it.
    pub(crate) outcome: oneshot::Receiver<Result<u64, Failure>>,
}

/// A change that is on its way.
struct Flight {
    mark: u64,
    term: u64,
    outcome: oneshot::Sender<Result<u64, Failure>>,
}

pub(crate) enum Ask {
    /// Lets writers work, for the leader of this term.
    Record(u64, Vec<Box<dyn Writer>>, oneshot::Sender<Recorded>),
    TryStep(u32, oneshot::Sender<Result<(), String>>),
    Apply(Vec<Entry>, oneshot::Sender<Result<Vec<Applied>, ApplyError>>),
    /// Puts everything applied on the disk, and tells how far that is.
    Keep(oneshot::Sender<Result<Position, ApplyError>>),
    /// Takes another host's database in place of this one.
    Install(PathBuf, oneshot::Sender<Result<(), ApplyError>>),
}

/// A handle to the database; all handles are the same database.
#[derive(Clone)]
pub(crate) struct State {
    asks: mpsc::Sender<Ask>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) feed: Arc<Feed>,
    /// The step of the schema, for whoever must not wait for the disk.
    schema: Arc<AtomicU32>,
    folder: PathBuf,
}

impl State {
    /// Opens the database that the log names.
    pub(crate) fn open(
        folder: &Path,
        number: u64,
        migrations: &'static [Migration],
        log: Log,
        trouble: Arc<Trouble>,
    ) -> Result<(Self, Position), rusqlite::Error> {
        remove_others(folder, number);
        let path = file(folder, number);
        let (recorder, applier) = connect(&path)?;
        let position = read_position(&applier)?;
        // After a restart without a power cut what was read need not be on the disk yet.
        keep(&applier, &position)?;
        let feed = Arc::new(Feed::new(position.index()));
        let readers = Arc::new(Readers::new(path));
        let schema = Arc::new(AtomicU32::new(position.schema));
        let thread = Thread {
            folder: folder.to_owned(),
            number,
            migrations,
            recorder,
            applier,
            tables: apply::Tables::default(),
            position: position.clone(),
            feed: Arc::clone(&feed),
            readers: Arc::clone(&readers),
            schema: Arc::clone(&schema),
            log,
            trouble,
            flight: None,
        };
        let (asks, asked) = mpsc::channel();
        std::thread::Builder::new()
            .name("store state".into())
            .spawn(move || thread.answer(&asked))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok((Self { asks, readers, feed, schema, folder: folder.to_owned() }, position))
    }

    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, wait) = oneshot::channel();
        self.asks.send(ask(answer)).ok()?;
        wait.await.ok()
    }

    /// The step of the schema.
    pub(crate) fn schema(&self) -> u32 {
        self.schema.load(Ordering::Relaxed)
    }

    /// The bytes of the database's file.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(self.readers.path()).map_or(0, |found| found.len())
    }

    /// Where a file may be put for a while; it is removed at the next start.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.folder.join(format!("passing-{name}-{:016x}.db", rand::random::<u64>()))
    }
}

/// The file that holds the database after its `number`th replacement.
pub(crate) fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("state-{number}.db"))
}

/// Whether there is a database in the folder.
pub(crate) fn exists(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"state-"))
    })
}

/// Removes what an interrupted replacement left.
fn remove_others(folder: &Path, number: u64) {
    let current = format!("state-{number}.db");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("passing-") || name.starts_with("state-") && !name.starts_with(&current) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn connect(path: &Path) -> Result<(record::Recorder, Connection), rusqlite::Error> {
    let applier = Connection::open(path)?;
    applier.pragma_update(None, "journal_mode", "wal")?;
    applier.pragma_update(None, "synchronous", "normal")?;
    applier.pragma_update(None, "wal_autocheckpoint", 4000)?;
    applier.set_prepared_statement_cache_capacity(128);
    applier.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    applier.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    applier.execute_batch(TABLE)?;
    let recorder = Connection::open(path)?;
    recorder.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    recorder.set_prepared_statement_cache_capacity(128);
    Ok((record::Recorder::new(recorder)?, applier))
}

/// How far the database behind a connection is.
pub(crate) fn read_position(connection: &Connection) -> Result<Position, rusqlite::Error> {
    let found = connection.query_row("SELECT position FROM _store", [], |row| row.get::<_, Vec<u8>>(0));
    match found {
        Ok(bytes) => postcard::from_bytes(&bytes).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
        }),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Position::default()),
        Err(error) => Err(error),
    }
}

pub(crate) fn write_position(connection: &Connection, position: &Position) -> Result<(), rusqlite::Error> {
    let bytes = postcard::to_stdvec(position)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO _store (one, position) VALUES (1, ?1)")?
        .execute(params![bytes])
        .map(drop)
}

/// Puts everything that the database holds on the disk.
fn keep(connection: &Connection, position: &Position) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "synchronous", "full")?;
    let kept = write_position(connection, position);
    connection.pragma_update(None, "synchronous", "normal")?;
    kept
}

struct Thread {
    folder: PathBuf,
    number: u64,
    migrations: &'static [Migration],
    recorder: record::Recorder,
    applier: Connection,
    tables: apply::Tables,
    position: Position,
    feed: Arc<Feed>,
    readers: Arc<Readers>,
    schema: Arc<AtomicU32>,
    log: Log,
    trouble: Arc<Trouble>,
    flight: Option<Flight>,
}

impl Thread {
    fn answer(mut self, asked: &mpsc::Receiver<Ask>) {
        // Who no longer waits for an answer does not need it.
        while let Ok(ask) = asked.recv() {
            match ask {
                Ask::Record(term, writers, answer) => drop(answer.send(self.record(term, writers))),
                Ask::TryStep(to, answer) => drop(answer.send(self.try_step(to))),
                Ask::Apply(entries, answer) => drop(answer.send(self.apply_or_say(&entries))),
                Ask::Keep(answer) => drop(answer.send(self.keep())),
                Ask::Install(path, answer) => drop(answer.send(self.install(&path))),
            }
        }
    }

    fn record(&mut self, term: u64, writers: Vec<Box<dyn Writer>>) -> Recorded {
        let mut recording = self.recorder.record(writers).unwrap_or_else(|(error, writers)| {
            let failure = Failure::NotWritten(error.to_string());
            writers.into_iter().for_each(|writer| writer.finish(Err(failure.clone())));
            Recording::default()
        });
        let changesets = std::mem::take(&mut recording.changesets);
        let change = Change { term, base: self.position.base, mark: rand::random(), changesets };
        let (answer, outcome) = oneshot::channel();
        // Only one change is under way at a time: whoever waited for an earlier one has given up.
        self.flight = Some(Flight { mark: change.mark, term, outcome: answer });
        Recorded { recording, change, outcome }
    }

    /// Tells what became of the change under way. No entry of an earlier term comes after one of a later.
    fn tell_outcome(&mut self, entries: &[Entry], done: &[Applied]) {
        let Some(flight) = &self.flight else { return };
        let arrived = entries.iter().zip(done).find_map(|(entry, applied)| match &entry.payload {
            EntryPayload::Normal(Command::Change(change)) if change.mark == flight.mark => {
                Some((entry.log_id.index, *applied))
            }
            _ => None,
        });
        let outcome = match arrived {
            Some((index, Applied::Done)) => Ok(index),
            Some((_, Applied::Outdated)) => Err(Failure::NotWritten("the data had changed meanwhile".into())),
            None if entries.last().is_some_and(|last| last.log_id.leader_id.term > flight.term) => {
                Err(Failure::NotWritten("another host has become the leader".into()))
            }
            None => return,
        };
        if let Some(flight) = self.flight.take() {
            drop(flight.outcome.send(outcome));
        }
    }

    fn try_step(&mut self, to: u32) -> Result<(), String> {
        let step = self.step(to).ok_or("this version does not know the step")?;
        self.recorder.try_step(step.sql).map_err(|error| error.to_string())
    }

    fn step(&self, to: u32) -> Option<Migration> {
        self.migrations.get(usize::try_from(to).ok()?.checked_sub(1)?).copied()
    }

    fn apply_or_say(&mut self, entries: &[Entry]) -> Result<Vec<Applied>, ApplyError> {
        let trouble = Arc::clone(&self.trouble);
        let mut other = None;
        let done = trouble.until_done("database", || match self.apply(entries) {
            Ok(done) => Ok(Some(done)),
            Err(ApplyError::Sqlite(error)) => Err(error),
            Err(error) => {
                other = Some(error);
                Ok(None)
            }
        });
        let result = match (done, other) {
            (Ok(Some(done)), _) => Ok(done),
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(error.into()),
            (Ok(None), None) => Ok(Vec::new()),
        };
        if let Err(error) = &result {
            trouble.set("database", format!("The database stands still: {error}."));
        }
        result
    }

    /// Applies entries in one transaction. Only when it is there do position and watchers learn of it.
    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Applied>, ApplyError> {
        let transaction = self.applier.unchecked_transaction()?;
        let mut position = self.position.clone();
        let mut changes = Vec::new();
        let mut schema_changed = false;
        let mut done = Vec::with_capacity(entries.len());
        for entry in entries {
            let index = entry.log_id.index;
            let mut applied = Applied::Done;
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    position.membership = Membership::new(Some(entry.log_id), membership.clone());
                }
                EntryPayload::Normal(Command::Change(change))
                    if change.base != position.base || change.term != entry.log_id.leader_id.term =>
                {
                    applied = Applied::Outdated;
                }
                EntryPayload::Normal(Command::Change(change)) => {
                    let mut rows = Vec::new();
                    for changeset in &change.changesets {
                        rows.extend(apply::apply(&transaction, &mut self.tables, changeset)?);
                    }
                    position.base = index;
                    changes.push(Changes { index, rows });
                }
                EntryPayload::Normal(Command::Migrate { to }) if *to != position.schema + 1 => {
                    applied = Applied::Outdated;
                }
                EntryPayload::Normal(Command::Migrate { to }) => {
                    let Some(step) = self.migrations.get(*to as usize - 1) else {
                        return Err(ApplyError::TooOld(*to));
                    };
                    transaction.execute_batch(step.sql)?;
                    self.tables = apply::Tables::default();
                    position.schema = *to;
                    position.base = index;
                    schema_changed = true;
                }
            }
            position.applied = Some(entry.log_id);
            done.push(applied);
        }
        write_position(&transaction, &position)?;
        transaction.commit()?;
        self.go_to(position);
        if schema_changed {
            self.feed.resync(self.position.index());
        } else {
            self.feed.publish(changes, self.position.index());
        }
        self.tell_outcome(entries, &done);
        Ok(done)
    }

    fn go_to(&mut self, position: Position) {
        self.schema.store(position.schema, Ordering::Relaxed);
        self.position = position;
    }

    fn keep(&mut self) -> Result<Position, ApplyError> {
        let Self { applier, position, trouble, .. } = self;
        trouble.until_done("database", || keep(applier, position))?;
        Ok(self.position.clone())
    }

    /// The file has the next number from now on; the log says so, and that is the moment of the change.
    fn install(&mut self, arrived: &Path) -> Result<(), ApplyError> {
        let number = self.number + 1;
        let path = file(&self.folder, number);
        fs::rename(arrived, &path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        let (recorder, applier) = connect(&path)?;
        let position = read_position(&applier)?;
        self.log.mark_blocking(FILE_MARK.into(), number.to_be_bytes().to_vec())?;
        self.recorder = recorder;
        self.applier = applier;
        self.tables = apply::Tables::default();
        self.go_to(position);
        self.number = number;
        self.flight = None;
        self.readers.replace(path);
        remove_others(&self.folder, number);
        self.feed.resync(self.position.index());
        Ok(())
    }
}
