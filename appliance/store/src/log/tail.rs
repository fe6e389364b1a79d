//! What is known of the log without reading its file: its ends, the sizes of its entries, and the newest entries.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::watch;

use crate::raft::{Entry, HostId, LogId, Vote, size};

/// The newest entries are held in memory up to so many bytes.
const HELD: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Tail {
    known: Mutex<Known>,
    /// Entries below this one are on the disk.
    on_disk: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries, without a gap up to the last.
    held: VecDeque<Entry>,
    held_bytes: usize,
    /// What each entry takes in the file, from the first to the last.
    sizes: VecDeque<u32>,
    bytes: u64,
    /// Entries up to this one are on the disk.
    written: Option<u64>,
    /// The last of them, while it is the newest.
    last_on_disk: Option<LogId>,
}

impl Tail {
    pub(super) fn new(
        vote: Option<Vote>,
        purged: Option<LogId>,
        held: Vec<Entry>,
        sizes: VecDeque<u32>,
    ) -> Self {
        let last = held.last().map(|entry| entry.log_id).or(purged);
        let mut known = Known {
            vote,
            purged,
            last,
            held_bytes: held.iter().map(size).sum(),
            held: held.into(),
            bytes: sizes.iter().copied().map(u64::from).sum(),
            sizes,
            written: last.map(|last| last.index),
            last_on_disk: last,
        };
        known.let_go();
        let on_disk = watch::Sender::new(last.map_or(0, |last| last.index + 1));
        Self { known: Mutex::new(known), on_disk }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        crate::lock(&self.known)
    }

    pub(super) fn vote(&self) -> Option<Vote> {
        self.known().vote
    }

    /// Whether `host` leads in the term that is voted for, and the entry is of that term.
    pub(super) fn is_own(&self, host: HostId, entry: &Entry) -> bool {
        let vote = self.known().vote;
        vote.is_some_and(|vote| {
            vote.committed && vote.leader_id.node_id == host && vote.leader_id == entry.log_id.leader_id
        })
    }

    pub(super) fn on_disk(&self) -> watch::Receiver<u64> {
        self.on_disk.subscribe()
    }

    pub(super) fn set_vote(&self, vote: Vote) {
        self.known().vote = Some(vote);
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.known().purged
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.known().last
    }

    pub(super) fn bytes(&self) -> u64 {
        self.known().bytes
    }

    pub(super) fn first_within(&self, bytes: u64) -> u64 {
        let known = self.known();
        let end = known.last.map_or(0, |last| last.index + 1);
        let mut sum = 0;
        let kept = known.sizes.iter().rev().take_while(|size| {
            sum += u64::from(**size);
            sum <= bytes
        });
        end - kept.count() as u64
    }

    pub(super) fn push(&self, entries: Vec<Entry>, rows: &[(u64, Vec<u8>)]) {
        let mut known = self.known();
        for (entry, (_, row)) in entries.into_iter().zip(rows) {
            known.last = Some(entry.log_id);
            known.held_bytes += size(&entry);
            known.held.push_back(entry);
            known.sizes.push_back(u32::try_from(row.len()).unwrap_or(u32::MAX));
            known.bytes += row.len() as u64;
        }
    }

    pub(super) fn written(&self, index: u64) {
        let mut known = self.known();
        known.written = known.written.max(Some(index));
        let held = known.held.iter().rev().find(|entry| entry.log_id.index == index);
        known.last_on_disk = held.map(|entry| entry.log_id).or(known.last_on_disk);
        known.let_go();
        drop(known);
        self.on_disk.send_if_modified(|below| {
            let is_more = *below <= index;
            *below = (*below).max(index + 1);
            is_more
        });
    }

    /// The last entry that is on the disk.
    pub(super) fn last_on_disk(&self) -> Option<LogId> {
        self.known().last_on_disk
    }

    /// Takes away the entries from `index` on.
    pub(super) fn truncate(&self, index: u64) {
        let mut known = self.known();
        while known.held.back().is_some_and(|entry| entry.log_id.index >= index) {
            known.held_bytes -= known.held.pop_back().map_or(0, |entry| size(&entry));
        }
        while known.last.is_some_and(|last| last.index >= index) && !known.sizes.is_empty() {
            known.bytes -= known.sizes.pop_back().map_or(0, u64::from);
            known.last = match known.held.back() {
                Some(entry) => Some(entry.log_id),
                None => known.last.map(|last| LogId::new(last.leader_id, last.index - 1)),
            };
        }
    }

    /// The entries from `index` on are gone from the disk as well; those before it are there.
    pub(super) fn truncated(&self, index: u64) {
        let mut known = self.known();
        known.written = index.checked_sub(1);
        known.last_on_disk = known.last;
        drop(known);
        self.on_disk.send_replace(index);
    }

    /// Takes away the entries up to and with `upto`.
    pub(super) fn purge(&self, upto: LogId) {
        let mut known = self.known();
        let first = known.purged.map_or(0, |purged| purged.index + 1);
        let gone = (upto.index + 1).saturating_sub(first).min(known.sizes.len() as u64);
        for _ in 0..gone {
            known.bytes -= known.sizes.pop_front().map_or(0, u64::from);
        }
        while known.held.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            known.held_bytes -= known.held.pop_front().map_or(0, |entry| size(&entry));
        }
        known.purged = known.purged.max(Some(upto));
        if known.last < Some(upto) {
            known.last = Some(upto);
        }
        known.last_on_disk = known.last_on_disk.max(Some(upto));
    }

    /// The entries from `first` that are held, up to `limit` bytes and at least one. If `first` is not held: none, and
    /// the first that is.
    pub(super) fn read(&self, first: u64, end: u64, limit: usize) -> (Vec<Entry>, Option<u64>) {
        let known = self.known();
        let Some(held_from) = known.held.front().map(|entry| entry.log_id.index) else {
            let after_last = known.last.map_or(0, |last| last.index + 1);
            return (Vec::new(), (first < after_last).then_some(after_last));
        };
        if first < held_from {
            return (Vec::new(), Some(held_from));
        }
        let skip = usize::try_from(first - held_from).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let found = known.held.iter().skip(skip).take_while(|entry| {
            let fits = bytes == 0 || bytes + size(entry) <= limit;
            bytes += size(entry).max(1);
            fits && entry.log_id.index < end
        });
        (found.cloned().collect(), None)
    }
}

impl Known {
    fn let_go(&mut self) {
        while self.held_bytes > HELD
            && self.held.len() > 1
            && self.held.front().is_some_and(|entry| Some(entry.log_id.index) <= self.written)
        {
            self.held_bytes -= self.held.pop_front().map_or(0, |entry| size(&entry));
        }
    }
}
