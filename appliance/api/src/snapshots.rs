//! Snapshots of virtual machines: moments to which one can go back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A moment that was kept of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// What people call it; no other snapshot of the machine is called so.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The snapshot that the machine went on from then; nothing for none.
    pub parent: Option<String>,
    /// Whether the machine goes on from it now.
    pub is_current: bool,
    /// Whether it is there, and not just being made.
    pub is_ready: bool,
    /// Whether the machine was on, and its memory is kept: it goes on from where it was.
    pub has_memory: bool,
    /// Whether the guest held its file systems at that moment, so that they are whole.
    pub is_frozen: bool,
    /// How many disks it has.
    pub disks: usize,
    /// What it takes in its pool, in bytes, as far as is known: this much at most comes free with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
}

/// `GET /api/v1/vms/{vm}/snapshots`: the oldest first, so that each comes after the one it goes back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshots {
    /// The snapshots.
    pub items: Vec<Snapshot>,
}

/// `POST /api/v1/vms/{vm}/snapshots`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSnapshot {
    /// What it is called.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub description: String,
    /// Whether the memory of a machine that is on is kept, too.
    #[serde(default)]
    pub memory: bool,
    /// Whether the guest is asked to hold its file systems meanwhile. Its agent must answer. With its memory kept that is not
    /// needed, and not done.
    #[serde(default)]
    pub freeze: bool,
}

/// `PATCH /api/v1/vms/{vm}/snapshots/{snapshot}`: what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSnapshot {
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub description: Option<String>,
}

/// `POST /api/v1/vms/{vm}/snapshots/{snapshot}/revert`: what the machine was since is lost, unless that was kept, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertVm {
    /// Whether it is started then; one whose memory was kept goes on in any case.
    #[serde(default)]
    pub start: bool,
}

/// `DELETE /api/v1/vms/{vm}/snapshots/{snapshot}`: the machine stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveSnapshot {
    /// Whether those go with it that were made after it, and from it.
    #[serde(default)]
    pub children: bool,
}

/// `POST /api/v1/vms/{vm}/clone`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneVm {
    /// What the new machine is called.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// The folder it goes into.
    #[serde(default)]
    pub folder: Option<i64>,
    /// The snapshot it begins as; nothing for the machine as it is now, of which a snapshot is made.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Whether its disks share what they have in common with those of the first machine, instead of being copied whole.
    #[serde(default)]
    pub linked: bool,
    /// Whether it is started at once.
    #[serde(default)]
    pub start: bool,
}
