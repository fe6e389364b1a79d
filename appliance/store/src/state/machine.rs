//! The database as the consensus library sees it.

use std::sync::{Arc, Mutex};

use openraft::{
    AnyError, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageIOError,
    storage::RaftStateMachine,
};

use super::{ApplyError, Ask, Position, State};
use crate::{
    log::Log,
    raft::{Address, Applied, Entry, HostId, LogId, Membership, Snapshot, StorageError, Types},
};

type Meta = SnapshotMeta<HostId, Address>;

#[derive(Clone)]
pub(crate) struct Machine {
    state: State,
    log: Log,
    opened_at: Position,
    /// What was last put on the disk; the library asks one handle and builds with another.
    kept: Arc<Mutex<Option<Meta>>>,
}

impl Machine {
    pub(crate) fn new(state: State, log: Log, opened_at: Position) -> Self {
        let kept = opened_at.applied.map(|_| describe(&opened_at));
        Self { state, log, opened_at, kept: Arc::new(Mutex::new(kept)) }
    }

    async fn keep(&mut self) -> Result<Meta, StorageError> {
        let position = self.state.ask(Ask::Keep).await.ok_or_else(ended)?.map_err(|error| failed(&error))?;
        let meta = describe(&position);
        *crate::lock(&self.kept) = Some(meta.clone());
        Ok(meta)
    }
}

/// What a database of this position is called among hosts.
pub(crate) fn describe(position: &Position) -> Meta {
    SnapshotMeta {
        last_log_id: position.applied,
        last_membership: position.membership.clone(),
        snapshot_id: position.applied.map(|applied| applied.to_string()).unwrap_or_default(),
    }
}

fn ended() -> StorageError {
    failed(&ApplyError::Diverged("the thread of the database has ended".into()))
}

fn failed(error: &ApplyError) -> StorageError {
    StorageIOError::new(ErrorSubject::StateMachine, ErrorVerb::Write, AnyError::new(error)).into()
}

impl RaftSnapshotBuilder<Types> for Machine {
    /// The database is its own snapshot once it is on the disk. It is copied only when it is sent.
    async fn build_snapshot(&mut self) -> Result<openraft::Snapshot<Types>, StorageError> {
        let meta = self.keep().await?;
        Ok(openraft::Snapshot { meta, snapshot: Box::new(Snapshot::Live) })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.opened_at.applied, self.opened_at.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        if let Some(last) = entries.last() {
            self.log.on_disk(last.log_id).await?;
        }
        let done = self.state.ask(|answer| Ask::Apply(entries, answer)).await.ok_or_else(ended)?;
        done.map_err(|error| failed(&error))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Snapshot>, StorageError> {
        Ok(Box::new(Snapshot::Live))
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Snapshot>) -> Result<(), StorageError> {
        if let Snapshot::Arrived(path) = *snapshot {
            let done = self.state.ask(|answer| Ask::Install(path, answer)).await.ok_or_else(ended)?;
            done.map_err(|error| failed(&error))?;
        }
        *crate::lock(&self.kept) = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<openraft::Snapshot<Types>>, StorageError> {
        let kept = crate::lock(&self.kept).clone();
        Ok(kept.map(|meta| openraft::Snapshot { meta, snapshot: Box::new(Snapshot::Live) }))
    }
}
