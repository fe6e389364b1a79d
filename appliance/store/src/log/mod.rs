//! The log of this host, with its vote and what else must outlive a power cut: one SQLite file, written by one thread,
//! everything that waits in one transaction, which is on the disk before anyone is told.

mod closed;
mod damage;
mod file;
mod tail;

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    raft::{Entry, HostId, LogId, StorageError, Types, Vote},
    trouble::Trouble,
};
pub(crate) use closed::Closed;
use file::{Job, Write};
pub(crate) use file::{Marks, OpenError};
use tail::Tail;

/// Entries that go to another host in one message hold at most so many bytes together.
const TOGETHER: usize = 512 * 1024;
/// How often somebody who waits for the disk looks whether the log still works.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// A handle to the log; all handles are the same log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    jobs: mpsc::Sender<Job>,
    tail: Arc<Tail>,
    reader: Arc<std::sync::Mutex<Connection>>,
    /// This host, as soon as it is known.
    me: Arc<OnceLock<HostId>>,
    /// Nothing is written any more.
    ended: Arc<AtomicBool>,
}

impl Log {
    /// Opens the log in `folder`, or makes it, and looks at every entry in it.
    pub(crate) fn open(folder: &Path, trouble: Arc<Trouble>) -> Result<(Self, Marks), OpenError> {
        let opened = file::open(&folder.join("log.db"))?;
        let tail = Arc::new(Tail::new(opened.vote, opened.purged, opened.entries, opened.bytes));
        let (jobs, waiting) = mpsc::channel();
        let (written, ended) = (Arc::clone(&tail), Arc::new(AtomicBool::new(false)));
        let end = Arc::clone(&ended);
        std::thread::Builder::new()
            .name("store log".into())
            .spawn(move || {
                file::write_jobs(opened.connection, &waiting, &written, &trouble);
                end.store(true, Ordering::Relaxed);
            })
            .map_err(OpenError::Io)?;
        Ok((
            Self {
                jobs,
                tail,
                reader: Arc::new(std::sync::Mutex::new(opened.reader)),
                me: Arc::default(),
                ended,
            },
            opened.marks,
        ))
    }

    /// Says whose log it is.
    pub(crate) fn is_of(&self, me: HostId) {
        // Said once, when the store is opened.
        let _ = self.me.set(me);
    }

    /// Waits until everything up to an entry is on this host's disk.
    ///
    /// The library waits for the leader's own disk before it sends entries to the others; two disks one after the
    /// other, where both could write at once. So the leader's entries are reported as written when they are only on
    /// their way, and whatever follows from their being agreed on waits here: applying them, and telling the others
    /// that they may. A majority has them on its disks then.
    pub(crate) async fn on_disk(&self, upto: LogId) -> Result<(), StorageError> {
        let mut on_disk = self.tail.on_disk();
        let mut look = tokio::time::interval(LOOK);
        loop {
            if *on_disk.borrow_and_update() > upto.index {
                return Ok(());
            }
            if self.tail.purged() >= Some(upto) {
                return Ok(());
            }
            tokio::select! {
                _ = on_disk.changed() => {}
                _ = look.tick() => if self.ended.load(Ordering::Relaxed) { return Err(ended()) },
            }
        }
    }

    /// Keeps something by name; it is on the disk when this returns.
    pub(crate) async fn mark(&self, name: String, value: Vec<u8>) -> Result<(), StorageError> {
        self.write(Write::Mark { name, value }).await
    }

    /// The same, from a thread of our own.
    pub(crate) fn mark_blocking(&self, name: String, value: Vec<u8>) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        let job = Job { write: Write::Mark { name, value }, done: file::Done::Waiter(done) };
        self.jobs.send(job).map_err(|_| io::Error::other("the log has ended"))?;
        wait.blocking_recv().map_err(|_| io::Error::other("the log has ended"))
    }

    /// The bytes that the entries in the log take.
    pub(crate) fn bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// The oldest entry to keep if the log is to hold at most `bytes`.
    pub(crate) fn first_within(&self, bytes: u64) -> u64 {
        self.tail.first_within(bytes)
    }

    /// Entries up to this one are no longer in the log.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.tail.purged()
    }

    /// The vote and the last entry that a power cut would leave.
    pub(crate) fn reached(&self) -> (Option<Vote>, Option<LogId>) {
        (self.tail.vote(), self.tail.last_on_disk())
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        let (done, wait) = oneshot::channel();
        let job = Job { write, done: file::Done::Waiter(done) };
        self.jobs.send(job).map_err(|_| ended())?;
        wait.await.map_err(|_| ended())
    }

    fn read(&self, first: u64, end: u64, limit: usize) -> Result<Vec<Entry>, OpenError> {
        let (mut found, rest) = self.tail.read(first, end, limit);
        if let Some(missing) = rest {
            let reader = crate::lock(&self.reader);
            found = file::read(&reader, first, missing.min(end), limit)?;
            drop(reader);
            let read_bytes: usize = found.iter().map(crate::raft::size).sum();
            if missing < end
                && read_bytes < limit
                && found.last().is_some_and(|last| last.log_id.index + 1 == missing)
            {
                found.extend(self.tail.read(missing, end, limit - read_bytes).0);
            }
        }
        Ok(found)
    }
}

fn ended() -> StorageError {
    failed(&io::Error::other("the log has ended"))
}

fn failed(error: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::new(ErrorSubject::Logs, ErrorVerb::Read, AnyError::new(error)).into()
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(first, end, usize::MAX).map_err(|error| failed(&error))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, TOGETHER).map_err(|error| failed(&error))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        Ok(LogState { last_purged_log_id: self.tail.purged(), last_log_id: self.tail.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write(Write::Vote(*vote)).await?;
        self.tail.set_vote(*vote);
        Ok(())
    }

    /// Asked once, at the start. The library would let a host that led go on leading in the same term. But entries may
    /// have left before they were on this disk, and others of the same term and number must never follow; so it has to
    /// be elected anew.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let me = self.me.get().copied();
        let unconfirmed = |vote: Vote| Vote::new(vote.leader_id.term, vote.leader_id.node_id);
        let is_own = |vote: &Vote| Some(vote.leader_id.node_id) == me;
        Ok(self.tail.vote().map(|vote| if is_own(&vote) { unconfirmed(vote) } else { vote }))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let rows = entries
            .iter()
            .map(file::encode)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(&error))?;
        let me = self.me.get().copied().unwrap_or_default();
        let is_own = entries.first().is_some_and(|entry| self.tail.is_own(me, entry));
        self.tail.push(entries, &rows);
        let done = if is_own {
            callback.log_io_completed(Ok(()));
            file::Done::Nobody
        } else {
            file::Done::Raft(callback)
        };
        self.jobs.send(Job { write: Write::Append(rows), done }).map_err(|_| ended())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.tail.truncate(log_id.index);
        // What was on its way before is written first, and counted as written; so this is said afterwards.
        self.write(Write::Truncate(log_id.index)).await?;
        self.tail.truncated(log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.tail.purge(log_id);
        self.write(Write::Purge(log_id)).await
    }
}
