//! What the consensus library is told about us. Nothing of it leaves this crate.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A host, for as long as it keeps its log. A host whose log was lost comes back under a new id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostId(pub u64);

impl HostId {
    /// An id nobody else has. It fits SQLite's integers and is never zero.
    pub fn random() -> Self {
        Self(rand::random_range(1..=u64::MAX >> 1))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a host is reached, as host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address(pub String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is replicated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Change(Change),
    /// The next step of the schema: the number it has afterwards.
    Migrate {
        to: u32,
    },
}

/// What some writers changed. It holds only in the term it was recorded in, and only on the state it was recorded on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) term: u64,
    /// The last entry that had changed the state when this was recorded.
    pub(crate) base: u64,
    /// Tells this change from every other, so that its sender finds it again.
    pub(crate) mark: u64,
    /// What SQLite's session extension recorded, one for each writer.
    pub(crate) changesets: Vec<Bytes>,
}

impl Command {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Change(change) => change.changesets.iter().map(Bytes::len).sum(),
            Self::Migrate { .. } => 0,
        }
    }
}

/// What became of a command, the same on every host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Applied {
    Done,
    /// The state or the term had moved on; nothing was changed.
    Outdated,
}

/// The state of one host as it goes to another: made when it is sent, a file when it has arrived.
#[derive(Debug)]
pub(crate) enum Snapshot {
    Live,
    Arrived(std::path::PathBuf),
}

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Command,
        R = Applied,
        NodeId = HostId,
        Node = Address,
        Entry = openraft::Entry<Types>,
        SnapshotData = Snapshot,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<HostId>;
pub(crate) type Vote = openraft::Vote<HostId>;
pub(crate) type Membership = openraft::StoredMembership<HostId, Address>;
pub(crate) type StorageError = openraft::StorageError<HostId>;
pub(crate) type Metrics = openraft::RaftMetrics<HostId, Address>;

/// The bytes an entry takes in memory, more or less: those of its command, and those around it.
pub(crate) fn size(entry: &Entry) -> usize {
    const AROUND: usize = 256;
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.size() + AROUND,
        _ => AROUND,
    }
}
