//! What is done to a store while nothing has it open: going on alone with what a survivor has, and starting again from
//! a backup.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::Path,
};

use openraft::{CommittedLeaderId, Membership};
use rusqlite::Connection;

use crate::{
    log,
    raft::{Address, Entry, HostId, LogId, Membership as Stored, Vote},
    state,
};

/// Why a store cannot be recovered or restored.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file of it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A database of it.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It cannot be what it should.
    #[error("{0}")]
    Unfit(String),
}

impl From<log::OpenError> for RecoverError {
    fn from(error: log::OpenError) -> Self {
        match error {
            log::OpenError::Io(error) => Self::Io(error),
            log::OpenError::Sqlite(error) => Self::Sqlite(error),
            log::OpenError::Damaged(why) => Self::Unfit(why),
        }
    }
}

/// Makes this host the only member of its cluster, with everything its log holds. What only the lost hosts had is lost,
/// and a host that comes back is refused. Nothing may have the store open.
pub fn recover(folder: &Path, address: Address) -> Result<HostId, RecoverError> {
    let _lock = crate::store::lock_folder(folder).map_err(|error| RecoverError::Unfit(error.to_string()))?;
    let mut log = log::Closed::open(folder)?;
    let (Some(me), Some(last)) = (log.id(), log.last()) else {
        return Err(RecoverError::Unfit("this host does not belong to a cluster".into()));
    };
    let term = log.term().max(last.leader_id.term) + 1;
    let log_id = LogId::new(CommittedLeaderId::new(term, me), last.index + 1);
    let payload = openraft::EntryPayload::Membership(alone(me, address));
    log.append(&Entry { log_id, payload }, Vote::new(term, me))?;
    Ok(me)
}

/// Makes a folder that holds no store one that holds a backup, as a cluster of this host alone.
pub fn restore(folder: &Path, backup: &Path, address: Address) -> Result<HostId, RecoverError> {
    let _lock = crate::store::lock_folder(folder).map_err(|error| RecoverError::Unfit(error.to_string()))?;
    if state::exists(folder) {
        return Err(RecoverError::Unfit("there is a store already".into()));
    }
    let mut log = log::Closed::open(folder)?;
    if log.id().is_some() {
        return Err(RecoverError::Unfit("there is a store already".into()));
    }
    let path = state::file(folder, 0);
    std::fs::copy(backup, &path)?;
    let me = HostId::random();
    let position = {
        let connection = Connection::open(&path)?;
        let mut position = state::read_position(&connection)?;
        let old =
            position.applied.ok_or_else(|| RecoverError::Unfit("the backup is of no cluster".into()))?;
        let log_id = LogId::new(CommittedLeaderId::new(old.leader_id.term + 1, me), old.index + 1);
        position.applied = Some(log_id);
        position.membership = Stored::new(Some(log_id), alone(me, address));
        position.base = log_id.index;
        state::write_position(&connection, &position)?;
        position
    };
    File::open(&path)?.sync_all()?;
    File::open(folder)?.sync_all()?;
    if let Some(applied) = position.applied {
        log.begin(me, applied, Vote::new(applied.leader_id.term, me))?;
    }
    Ok(me)
}

fn alone(me: HostId, address: Address) -> Membership<HostId, Address> {
    Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, address)]))
}
