//! Recording what writers change, without changing anything yet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use rusqlite::{
    Connection, TransactionBehavior,
    hooks::{AuthAction, AuthContext, Authorization},
    session::Session,
};
use tokio::sync::oneshot;

use super::INTERNAL;

/// What one writer may change, as bytes of its changeset. It has to reach the other hosts between two heartbeats.
pub(crate) const LARGEST: usize = 1024 * 1024;
/// When there is so much, it goes.
const TOGETHER: usize = 256 * 1024;

/// One writer. Its changes are kept or undone, and it is told what became of them later.
pub(crate) trait Writer: Send {
    /// The only term in which it may run, if there is one.
    fn term(&self) -> Option<u64>;
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool;
    /// Lets it change what it wants; `false` undoes that.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells it at which entry its changes were applied, or why they were not.
    fn finish(self: Box<Self>, index: Result<u64, Failure>);
}

/// Why a writer's changes are not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Only the leader writes.
    #[error("this host is not the leader")]
    NotLeader,
    /// Too few hosts answer.
    #[error("too few hosts answer to change anything")]
    NoQuorum,
    /// Nothing was written; trying again may help.
    #[error("nothing was written: {0}")]
    NotWritten(String),
    /// It changes too much at once.
    #[error("it changes {0} bytes at once; the most is {LARGEST}")]
    TooLarge(usize),
    /// It may have been written or not; a read will tell.
    #[error("whether it was written is not known: {0}")]
    Unknown(String),
}

/// What some writers changed.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) changesets: Vec<Bytes>,
    pub(crate) done: Vec<Box<dyn Writer>>,
    pub(crate) not_yet: Vec<Box<dyn Writer>>,
}

/// A writer, and where its answer goes.
pub(crate) struct Pending<F, R, E> {
    term: Option<u64>,
    work: Option<F>,
    result: Option<Result<R, E>>,
    answer: oneshot::Sender<Written<R, E>>,
}

/// A writer's own result, and the entry it was applied with. There is no result if it was never run.
pub(crate) type Written<R, E> = (Option<Result<R, E>>, Result<u64, Failure>);

impl<F, R, E> Pending<F, R, E> {
    pub(crate) fn new(term: Option<u64>, work: F) -> (Self, oneshot::Receiver<Written<R, E>>) {
        let (answer, wait) = oneshot::channel();
        (Self { term, work: Some(work), result: None, answer }, wait)
    }
}

impl<F, R, E> Writer for Pending<F, R, E>
where
    F: FnOnce(&Connection) -> Result<R, E> + Send,
    R: Send,
    E: Send,
{
    fn term(&self) -> Option<u64> {
        self.term
    }

    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.work.take().map(|work| work(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn finish(self: Box<Self>, index: Result<u64, Failure>) {
        // Whoever stopped waiting does not need the answer.
        drop(self.answer.send((self.result, index)));
    }
}

/// A connection on which writers work. What they may not do is refused while they work.
pub(super) struct Recorder {
    connection: Connection,
    guarded: Arc<AtomicBool>,
}

impl Recorder {
    pub(super) fn new(connection: Connection) -> Result<Self, rusqlite::Error> {
        let guarded = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&guarded);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if asked.load(Ordering::Relaxed) { may(&context.action) } else { Authorization::Allow }
        }))?;
        Ok(Self { connection, guarded })
    }

    /// Runs the writers one after the other, each on what those before it left, until there is enough to send. Gives
    /// what each of them changed, and those that did not have their turn.
    pub(super) fn record(
        &mut self,
        writers: Vec<Box<dyn Writer>>,
    ) -> Result<Recording, (rusqlite::Error, Vec<Box<dyn Writer>>)> {
        let transaction = match self.connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(error) => return Err((error, writers)),
        };
        let mut recording = Recording::default();
        let mut waiting = writers.into_iter();
        let mut bytes = 0;
        for mut writer in waiting.by_ref().filter(|writer| writer.is_wanted()) {
            match record_one(&transaction, &self.guarded, &mut *writer) {
                Ok(changeset) if changeset.len() > LARGEST => {
                    writer.finish(Err(Failure::TooLarge(changeset.len())));
                    // What it did is still in the transaction, and the others must not build on it.
                    break;
                }
                Ok(changeset) => {
                    bytes += changeset.len();
                    if !changeset.is_empty() {
                        recording.changesets.push(changeset);
                    }
                    recording.done.push(writer);
                }
                Err(error) => {
                    writer.finish(Err(Failure::NotWritten(error.to_string())));
                    break;
                }
            }
            if bytes > TOGETHER {
                break;
            }
        }
        recording.not_yet.extend(waiting);
        match transaction.rollback() {
            Ok(()) => Ok(recording),
            Err(error) => Err((error, recording.done)),
        }
    }

    /// Whether a step of the schema would run.
    pub(super) fn try_step(&mut self, sql: &str) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.rollback()
    }
}

fn record_one(
    connection: &Connection,
    guarded: &AtomicBool,
    writer: &mut dyn Writer,
) -> Result<Bytes, rusqlite::Error> {
    let mut changeset = Vec::new();
    let mut session = Session::new(connection)?;
    session.table_filter(Some(|table: &str| table != INTERNAL));
    session.attach(None::<&str>)?;
    connection.execute_batch("SAVEPOINT writer")?;
    guarded.store(true, Ordering::Relaxed);
    let keep = writer.run(connection);
    guarded.store(false, Ordering::Relaxed);
    if keep {
        session.changeset_strm(&mut changeset)?;
    } else {
        connection.execute_batch("ROLLBACK TO writer")?;
    }
    connection.execute_batch("RELEASE writer")?;
    Ok(changeset.into())
}

/// Writers change rows. Everything else about the database is not theirs.
fn may(action: &AuthAction<'_>) -> Authorization {
    match action {
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
            if *table_name != INTERNAL && !table_name.starts_with("sqlite_") =>
        {
            Authorization::Allow
        }
        // With it the recording looks at the tables.
        AuthAction::Pragma { pragma_name: "table_info" | "table_xinfo" | "table_list", .. } => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}
