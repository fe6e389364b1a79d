//! Storage: pools, and the volumes in them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Bus, Cache, Right};

/// A place for volumes and images, on one host or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its id, which it keeps.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How it keeps what is in it.
    pub kind: PoolKind,
    /// The host it is on; nothing for one that every host has.
    pub host: Option<String>,
    /// The disks of that host that it is made of.
    pub disks: Vec<String>,
    /// From this share of its room on, in per cent, nothing new is put into it.
    pub limit: u8,
    /// How it is on each host that has it. What is in a local pool on one host is on that host alone.
    pub hosts: Vec<PoolOnHost>,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
}

/// How a pool keeps what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// Files in a directory of the host.
    Directory,
    /// Thin volumes of LVM, on disks of their own.
    Thin,
}

impl PoolKind {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Thin => "thin",
        }
    }

    /// The kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Directory, Self::Thin].into_iter().find(|kind| kind.name() == name)
    }
}

/// How a pool is on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolOnHost {
    /// The host.
    pub host: String,
    /// Its name.
    pub host_name: String,
    /// How it is there.
    pub state: PoolState,
    /// Since when.
    pub since: Timestamp,
    /// What is wrong with it; empty if nothing is.
    pub trouble: String,
    /// Its room, in bytes.
    pub capacity: u64,
    /// What of that is taken.
    pub used: u64,
    /// What its volumes may become at most, in bytes.
    pub promised: u64,
    /// How many volumes are in it.
    pub volumes: u64,
}

/// How a pool is on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// What is in it can be used.
    Ready,
    /// It is not there, or cannot be used.
    Missing,
    /// The host does not answer.
    Unknown,
}

impl PoolState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Missing, Self::Unknown];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// All pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pools {
    /// In the order of their names.
    pub items: Vec<Pool>,
}

/// `POST /api/v1/pools`: a pool of thin volumes on whole disks of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// Its name.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// The host whose disks it is made of.
    pub host: String,
    /// The disks, by their ids.
    #[schema(min_items = 1, max_items = 32)]
    pub disks: Vec<String>,
    /// Whether what is on them is lost. If not, disks on which there is something are refused.
    #[serde(default)]
    pub erase: bool,
}

/// `POST /api/v1/pools/{pool}/disks`: makes a pool of thin volumes bigger by whole disks of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDisks {
    /// The disks, by their ids.
    #[schema(min_items = 1, max_items = 32)]
    pub disks: Vec<String>,
    /// Whether what is on them is lost. If not, disks on which there is something are refused.
    #[serde(default)]
    pub erase: bool,
}

/// `DELETE /api/v1/pools/{pool}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemovePool {
    /// Its name, so that it is not another one.
    #[schema(max_length = 63)]
    pub name: String,
}

/// A whole disk of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostDisk {
    /// By what it is known, also when it is found at another place.
    pub id: String,
    /// Where it is just now.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What its maker calls it.
    pub model: String,
    /// Its number.
    pub serial: String,
    /// Whether it turns.
    pub is_rotating: bool,
    /// Whether a pool can be made of it.
    pub usage: DiskUse,
    /// What is on it, or why it cannot be used; empty for one that is free.
    pub holds: String,
}

/// Whether a pool can be made of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskUse {
    /// It is empty.
    Free,
    /// Only if what is on it may be lost.
    NotEmpty,
    /// No: it is in use.
    InUse,
}

impl DiskUse {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::NotEmpty => "not-empty",
            Self::InUse => "in-use",
        }
    }
}

/// The disks of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostDisks {
    /// As the host lists them.
    pub items: Vec<HostDisk>,
}

/// `PATCH /api/v1/pools/{pool}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePool {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub name: Option<String>,
    /// From this share of its room on, in per cent, nothing new is put into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub limit: Option<u8>,
}

/// What a virtual machine sees as a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Its id, which it keeps.
    pub id: String,
    /// Its name: no other in its pool on its host has it.
    pub name: String,
    /// The pool it is in.
    pub pool: String,
    /// The name of that.
    pub pool_name: String,
    /// The host it is on.
    pub host: String,
    /// The name of that.
    pub host_name: String,
    /// How big it is for whoever uses it, in bytes.
    pub bytes: u64,
    /// What it takes of its pool, in bytes, as far as is known.
    pub used: Option<u64>,
    /// Whether it is made and there.
    pub state: VolumeState,
    /// The virtual machine that has it, if one has.
    pub vm: Option<String>,
    /// The name of that.
    pub vm_name: Option<String>,
    /// The task that does something with it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<i64>,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
    /// Counts the changes; for `If-Match`.
    pub version: u64,
    /// What whoever asks may do with it.
    pub rights: BTreeSet<Right>,
}

/// Whether a volume is made and there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// It is just being made.
    Making,
    /// It is there.
    Ready,
    /// It is not where it should be.
    Missing,
    /// Its host does not answer.
    Unknown,
}

impl VolumeState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Making, Self::Ready, Self::Missing, Self::Unknown];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// `POST /api/v1/volumes`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    /// Its name.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// The pool it goes into.
    pub pool: String,
    /// The host it goes to; nothing for the one where the pool has most room.
    #[serde(default)]
    pub host: Option<String>,
    /// How big it is for whoever uses it, in bytes.
    #[schema(minimum = 1048576)]
    pub bytes: u64,
}

/// A disk that is made with its virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDisk {
    /// The pool it goes into.
    pub pool: String,
    /// How big it is, in bytes.
    #[schema(minimum = 1048576)]
    pub bytes: u64,
    /// The image it begins as a copy of; nothing for an empty disk. It is in the same pool.
    #[serde(default)]
    pub image: Option<String>,
    /// Whether it shares what it has in common with the image, which cannot be removed then, instead of being copied whole.
    #[serde(default)]
    pub linked: bool,
    /// How it is attached; nothing: as the guest needs it.
    #[serde(default)]
    pub bus: Option<Bus>,
    /// How the host keeps what is written.
    #[serde(default)]
    pub cache: Cache,
}

/// `PATCH /api/v1/volumes/{volume}`: what is not named stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeVolume {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub name: Option<String>,
}

/// `POST /api/v1/volumes/{volume}/grow`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowVolume {
    /// How big it shall be, in bytes; never less than it is.
    #[schema(minimum = 1048576)]
    pub bytes: u64,
}

/// `POST /api/v1/volumes/{volume}/move`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveVolume {
    /// The pool that it goes into, on the same host.
    pub pool: String,
}

/// The files of a pool on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolFiles {
    /// The files.
    pub items: Vec<PoolFile>,
    /// Whether there are more than are listed.
    pub is_cut: bool,
}

/// A file in a pool that is a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolFile {
    /// Its way from the pool on.
    pub path: String,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// What it takes of its pool.
    pub used: u64,
    /// When it was last written to.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
    /// Whether it is a file, and not a link, a pipe or a device.
    pub is_file: bool,
    /// To what it belongs, in words; nothing, if nobody knows it.
    pub belongs_to: Option<String>,
    /// The same, as rights name it: `volume/` and an id, for one.
    pub object: Option<String>,
    /// The volume that it becomes where it lies. Any other file is copied.
    pub volume: Option<String>,
    /// How big the disk is that it holds; nothing, if it holds none.
    pub disk_bytes: Option<u64>,
    /// Why it cannot become a volume.
    pub why_not: String,
}

/// `POST /api/v1/cluster/hosts/{host}/pools/{pool}/files`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptFile {
    /// Its way from the pool on.
    pub path: String,
    /// The name of what it becomes.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// What it becomes.
    pub becomes: FileBecomes,
}

/// What a file of a pool becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileBecomes {
    /// A volume: a disk that a machine can have.
    Volume,
    /// An image: something that disks begin as, or a CD.
    Image,
}

/// `DELETE /api/v1/cluster/hosts/{host}/pools/{pool}/files`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveFile {
    /// Its way from the pool on.
    pub path: String,
}

/// `DELETE /api/v1/volumes/{volume}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveVolume {
    /// Its name, to make sure.
    pub name: String,
}

/// What volumes are asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VolumeQuery {
    /// Where the part before this one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most: 50, if nothing is said, and 1000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// By what to sort; with a `-` in front, the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Only those in which this occurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 100)]
    pub text: Option<String>,
    /// Only those in this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Only those on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only those of this virtual machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Only those that no virtual machine has, or only those that one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<bool>,
}
