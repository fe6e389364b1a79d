//! What the host of a machine does with its snapshots, as it is kept with a task, and what it tells of that.

use serde::{Deserialize, Serialize};

use crate::storage::pools;

/// A disk whose state is held: by a layer that is not written to from then on, or, in a pool where disks lie on nothing, by a
/// copy that is made at the moment, while the volume is written to as before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldDisk {
    pub(crate) volume: String,
    pub(crate) pool: String,
    /// What is held.
    pub(crate) layer: String,
    /// In what the volume is written to from then on.
    pub(crate) next: String,
}

impl HeldDisk {
    pub(crate) fn is_copied(&self) -> bool {
        pools::is_thin(&self.pool)
    }
}

/// What the host of a machine does so that its state is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holding {
    pub(crate) snapshot: String,
    pub(crate) name: String,
    pub(crate) disks: Vec<HeldDisk>,
    pub(crate) memory: bool,
    pub(crate) freeze: bool,
    /// Whether its guest runs, and goes on after it stood still for that.
    #[serde(default)]
    pub(crate) runs: bool,
}

impl Holding {
    /// The disks whose state is held by layers.
    pub(crate) fn in_layers(&self) -> Vec<HeldDisk> {
        self.disks.iter().filter(|disk| !disk.is_copied()).cloned().collect()
    }

    /// The disks whose state is held by copies.
    pub(crate) fn copied(&self) -> Vec<HeldDisk> {
        self.disks.iter().filter(|disk| disk.is_copied()).cloned().collect()
    }

    /// Whether its guest is asked here to hold its file systems: with layers libvirt asks it itself.
    pub(crate) fn freezes_here(&self) -> bool {
        self.freeze && self.disks.iter().all(HeldDisk::is_copied)
    }
}

/// What the host of a machine does so that it is again what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reverting {
    pub(crate) snapshot: String,
    pub(crate) name: String,
    pub(crate) disks: Vec<HeldDisk>,
    pub(crate) memory: bool,
    pub(crate) start: bool,
}

/// Which snapshots of a machine go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dropping {
    pub(crate) name: String,
    pub(crate) snapshots: Vec<String>,
}

/// What a host tells of snapshots of its machines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Told {
    /// The layers are there in which its disks are written to from now on.
    LiesReady { holding: Holding },
    /// Its state is held.
    IsMade {
        snapshot: String,
        memory: Option<u64>,
        is_frozen: bool,
        /// The disks of which it has copies.
        #[serde(default)]
        copies: Vec<HeldDisk>,
    },
    /// It could not be held; these volumes are written to as before.
    TakenBack { holding: Holding, as_before: Vec<String> },
    /// Snapshots go; all, if none are named.
    Forgotten { snapshots: Option<Vec<String>> },
    /// It is again what it was.
    IsBack { reverting: Reverting },
}
