//! What a pool is, whatever it is made of: its room, what is in it, and why something cannot be done with it.

use std::io::{self, ErrorKind};

use serde::{Deserialize, Serialize};

use super::id::VolumeId;

/// Why something cannot be done with a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Failed {
    /// The pool is not there.
    #[error("The pool is not there: {0}.")]
    Missing(String),
    /// It is full.
    #[error("There is no room left in the pool. Remove something, or choose another pool.")]
    Full,
    /// Anything else.
    #[error("{0}.")]
    Other(String),
}

impl Failed {
    pub(crate) fn of(doing: &str, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Other(format!("{doing}: {error}")),
        }
    }
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// In all, in bytes.
    pub capacity: u64,
    /// What of that is taken.
    pub used: u64,
}

/// A volume that lies in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Which it is.
    pub id: VolumeId,
    /// What it takes, in bytes.
    pub used: u64,
}
