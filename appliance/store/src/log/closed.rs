//! The log while nothing runs on it.

use std::path::Path;

use rusqlite::{Connection, params};

use super::file::{self, OpenError};
use crate::raft::{Entry, HostId, LogId, Vote};

/// A log that nothing has open.
pub(crate) struct Closed {
    connection: Connection,
    marks: file::Marks,
    vote: Option<Vote>,
    last: Option<LogId>,
}

impl Closed {
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let opened = file::open(&folder.join("log.db"))?;
        let last = opened.entries.last().map(|entry| entry.log_id).or(opened.purged);
        Ok(Self { connection: opened.connection, marks: opened.marks, vote: opened.vote, last })
    }

    pub(crate) fn id(&self) -> Option<HostId> {
        let bytes = self.marks.get("id")?.as_slice().try_into().ok()?;
        Some(HostId(u64::from_be_bytes(bytes)))
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.last
    }

    /// The last term this host has voted in.
    pub(crate) fn term(&self) -> u64 {
        self.vote.map_or(0, |vote| vote.leader_id.term)
    }

    /// Adds an entry, and the vote that goes with it.
    pub(crate) fn append(&mut self, entry: &Entry, vote: Vote) -> Result<(), OpenError> {
        let (number, body) = file::encode(entry).map_err(std::io::Error::other)?;
        let transaction = self.connection.transaction()?;
        transaction.execute("INSERT INTO entry (number, body) VALUES (?1, ?2)", params![number, body])?;
        file::keep(&transaction, "vote", &file::encoded(&vote)?)?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes it the log of a host whose database already holds everything up to an entry.
    pub(crate) fn begin(&mut self, me: HostId, after: LogId, vote: Vote) -> Result<(), OpenError> {
        let transaction = self.connection.transaction()?;
        file::keep(&transaction, "id", &me.0.to_be_bytes())?;
        file::keep(&transaction, "purged", &file::encoded(&after)?)?;
        file::keep(&transaction, "vote", &file::encoded(&vote)?)?;
        transaction.commit()?;
        Ok(())
    }
}
