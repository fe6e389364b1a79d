//! Images: what disks begin as.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cache, Firmware, Guest, NewDisk, Right, VmCpu, VmMemory, VmNic, VmSpec};

/// An image comes in pieces of at most so many bytes.
pub const MAX_PIECE_BYTES: usize = 64 * 1024 * 1024;

/// A disk as somebody else has set it up, which disks begin as copies of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Its id, which it keeps.
    pub id: String,
    /// Its name: no other image has it.
    pub name: String,
    /// The name of the file that it came as.
    pub file: String,
    /// The distribution that its file's name speaks of: `debian`, `ubuntu`…; empty if it speaks of none.
    pub os: String,
    /// The version of that.
    pub os_version: String,
    /// Who signs in to it, as it comes; empty if nobody knows.
    pub user: String,
    /// The pool it is in.
    pub pool: String,
    /// The name of that.
    pub pool_name: String,
    /// The host it is on.
    pub host: String,
    /// The name of that.
    pub host_name: String,
    /// The names of other hosts that have a copy: those where it was needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_on: Vec<String>,
    /// How it is.
    pub state: ImageState,
    /// How long its file is, in bytes.
    pub length: u64,
    /// The SHA-256 of that: what it shall be, and once it is ready, what it is.
    pub sha256: Option<String>,
    /// How its disk was kept in its file: `qcow2`, `raw`, `vmdk`, `vhdx` or `vhd`; `iso` for a CD.
    pub format: Option<String>,
    /// How big its disk is, in bytes. What begins as a copy of it is at least as big.
    pub bytes: Option<u64>,
    /// What it takes of its pool, in bytes.
    pub used: Option<u64>,
    /// The machine that it came with, if it came as an OVA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<VmDraft>,
    /// The task that does something with it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<i64>,
    /// When it was begun.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
    /// Counts the changes.
    pub version: u64,
    /// What whoever asks may do with it.
    pub rights: BTreeSet<Right>,
}

impl Image {
    /// Whether it is a CD, and not a disk.
    pub fn is_cd(&self) -> bool {
        self.format.as_deref() == Some("iso")
    }
}

/// A machine that came as an OVA: what it was where it comes from, to be made here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmDraft {
    /// Its name there.
    pub name: String,
    /// How many processors it had.
    pub cpus: u16,
    /// How much memory, in MiB.
    pub memory_mib: u64,
    /// Its firmware.
    pub firmware: Firmware,
    /// What its guest is.
    pub guest: Guest,
    /// How many network cards it had.
    pub nics: u32,
    /// The images of its disks, in their order; the first is the one that says this.
    pub disks: Vec<String>,
}

impl VmDraft {
    /// The machine as it may be made here, with all its cards on one bridge. Its disks are made with it, from the images.
    pub fn spec(&self, bridge: &str) -> VmSpec {
        let nic = VmNic { bridge: bridge.to_owned(), mac: String::new(), model: None };
        let cpu = VmCpu { sockets: 1, cores: self.cpus, ..VmCpu::default() };
        let memory = VmMemory { mib: self.memory_mib, ..VmMemory::default() };
        let nics = (0..self.nics).map(|_| nic.clone()).collect();
        VmSpec { guest: self.guest, firmware: self.firmware, cpu, memory, nics, ..VmSpec::named(&self.name) }
    }

    /// Its disks behind the first, as copies of those images that are still there.
    pub fn further_disks(&self, images: &[Image], linked: bool) -> Vec<NewDisk> {
        let there = self.disks.iter().skip(1).filter_map(|id| images.iter().find(|image| image.id == *id));
        let disk = |image: &Image| NewDisk {
            pool: image.pool.clone(),
            bytes: in_whole_gib(image.bytes.unwrap_or_default()),
            image: Some(image.id.clone()),
            linked,
            bus: None,
            cache: Cache::default(),
        };
        there.map(disk).collect()
    }
}

/// So many bytes a disk has at least that begins as a copy of one: whole GiB.
pub fn in_whole_gib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30).max(1) << 30
}

/// How an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// Its file is coming.
    Arriving,
    /// It is looked at, and written as it is kept.
    Making,
    /// Disks can begin as copies of it.
    Ready,
    /// Its host does not answer.
    Unknown,
}

impl ImageState {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Arriving, Self::Making, Self::Ready, Self::Unknown]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// All images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Images {
    /// In the order of their names.
    pub items: Vec<Image>,
}

/// `PATCH /api/v1/images/{image}`: what is not there stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeImage {
    /// What it is called.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 63)]
    pub name: Option<String>,
    /// The distribution that is on it; empty for one that is not known.
    #[serde(default)]
    #[schema(max_length = 32)]
    pub os: Option<String>,
    /// The version of that.
    #[serde(default)]
    #[schema(max_length = 16)]
    pub os_version: Option<String>,
}

/// `POST /api/v1/images`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImage {
    /// Its name.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// The name of its file.
    #[serde(default)]
    #[schema(max_length = 255)]
    pub file: String,
    /// The pool it goes into, on the host that is asked.
    pub pool: String,
    /// How long its file is, in bytes.
    #[schema(minimum = 1, maximum = 1_099_511_627_776_i64)]
    pub length: u64,
    /// The SHA-256 that its file shall have, in hexadecimal digits.
    #[serde(default)]
    #[schema(min_length = 64, max_length = 64)]
    pub sha256: Option<String>,
}

/// `POST /api/v1/images/fetch`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchImage {
    /// The address of its file: https, or http if its checksum is given.
    #[schema(max_length = 2000)]
    pub url: String,
    /// Its name; nothing for that of the file.
    #[serde(default)]
    #[schema(max_length = 63)]
    pub name: String,
    /// The pool it goes into.
    pub pool: String,
    /// The host that fetches it; nothing for the one that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The SHA-256 or SHA-512 that its file shall have, in hexadecimal digits.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub checksum: String,
    /// The address of a list of checksums in which that of the file is, as distributions have it.
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub checksums: String,
    /// Whether it may be fetched from a private network.
    #[serde(default)]
    pub allow_private: bool,
    /// The certificate, as PEM, of an authority that vouches for whoever has it; nothing for those that everybody trusts.
    #[serde(default)]
    #[schema(max_length = 32768)]
    pub authority: String,
}

/// An image that is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    /// For programs, as in `debian-13`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The address of its file.
    pub url: String,
    /// The address of the list of checksums in which its file is.
    pub checksums: String,
    /// Who signs in to it.
    #[serde(default)]
    pub user: String,
}

/// What is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Catalogue {
    /// In the order of their names.
    pub items: Vec<Offer>,
    /// Where it was fetched from; nothing for what distributions offer, which is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<CatalogueSource>,
}

/// Where a catalogue was fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogueSource {
    /// Its address.
    pub url: String,
    /// Whether it, and what it offers, may be fetched from a private network.
    pub allow_private: bool,
    /// The certificate, as PEM, of an authority that vouches for whoever has it.
    pub authority: String,
    /// When it was fetched.
    #[schema(value_type = String, format = DateTime)]
    pub fetched_at: Timestamp,
}

/// `PUT /api/v1/images/catalogue`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCatalogue {
    /// The https address at which it is, in the form in which catalogues are told.
    #[schema(max_length = 2000)]
    pub url: String,
    /// Whether it, and what it offers, may be fetched from a private network.
    #[serde(default)]
    pub allow_private: bool,
    /// The certificate, as PEM, of an authority that vouches for whoever has it; nothing for those that everybody trusts.
    #[serde(default)]
    #[schema(max_length = 32768)]
    pub authority: String,
}

/// Where a piece of an image belongs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PieceQuery {
    /// Behind so many bytes, which have come.
    pub at: u64,
}

/// How much of an image's file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Arrived {
    /// So many bytes.
    pub bytes: u64,
    /// Of so many.
    pub length: u64,
}

/// `DELETE /api/v1/images/{image}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveImage {
    /// Its name, to make sure.
    pub name: String,
}
