//! What changed, in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use rusqlite::types::Value;
use tokio::sync::watch;

/// The newest changes that are kept for whoever is behind: so many rows.
const KEPT_ROWS: usize = 20_000;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Insert,
    /// Some of its columns have other values.
    Update,
    /// It is gone.
    Delete,
}

/// A row that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Its table.
    pub table: Arc<str>,
    /// What happened.
    pub operation: Operation,
    /// Its primary key, in the order of the columns.
    pub key: Vec<Value>,
    /// Which columns changed, if it was an update.
    pub columns: Vec<Arc<str>>,
}

/// What one entry of the log changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// The entry.
    pub index: u64,
    /// The rows.
    pub rows: Vec<RowChange>,
}

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum Seen {
    /// These rows changed.
    Changes(Arc<Changes>),
    /// Changes were missed, or the schema changed: read everything again, as of this entry or later.
    Resync(u64),
}

#[derive(Debug)]
pub(crate) struct Feed {
    kept: Mutex<Kept>,
    applied: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    newest: VecDeque<Arc<Changes>>,
    rows: usize,
    /// Everything after this entry is kept.
    after: u64,
}

impl Feed {
    pub(crate) fn new(applied: u64) -> Self {
        let kept = Kept { newest: VecDeque::new(), rows: 0, after: applied };
        Self { kept: Mutex::new(kept), applied: watch::Sender::new(applied) }
    }

    /// Everything up to `applied` is in the database now; `changes` are what it changed.
    pub(crate) fn publish(&self, changes: Vec<Changes>, applied: u64) {
        let mut kept = crate::lock(&self.kept);
        for change in changes {
            kept.rows += change.rows.len();
            kept.newest.push_back(Arc::new(change));
        }
        while kept.rows > KEPT_ROWS
            && let Some(oldest) = kept.newest.pop_front()
        {
            kept.rows -= oldest.rows.len();
            kept.after = oldest.index;
        }
        drop(kept);
        self.applied.send_replace(applied);
    }

    /// The database is another one now.
    pub(crate) fn resync(&self, applied: u64) {
        *crate::lock(&self.kept) = Kept { newest: VecDeque::new(), rows: 0, after: applied };
        self.applied.send_replace(applied);
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn after(&self, index: u64) -> Option<Seen> {
        let kept = crate::lock(&self.kept);
        if index < kept.after {
            return Some(Seen::Resync(kept.after));
        }
        let at = kept.newest.partition_point(|changes| changes.index <= index);
        kept.newest.get(at).map(|changes| Seen::Changes(Arc::clone(changes)))
    }
}

/// An ordered stream of changes.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    applied: watch::Receiver<u64>,
    seen: u64,
}

impl Watch {
    pub(crate) fn new(feed: Arc<Feed>, from: u64) -> Self {
        Self { applied: feed.applied(), feed, seen: from }
    }

    /// The next change. Nothing is left out: who falls too far behind is told so.
    pub async fn next(&mut self) -> Seen {
        loop {
            self.applied.borrow_and_update();
            if let Some(seen) = self.feed.after(self.seen) {
                self.seen = match &seen {
                    Seen::Changes(changes) => changes.index,
                    Seen::Resync(index) => *index,
                };
                return seen;
            }
            if self.applied.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
