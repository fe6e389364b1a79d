//! Facts about one machine, as read from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Readiness, Secret};

/// `GET /api/v1/host`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HostFacts {
    /// The host's name.
    pub hostname: String,
    /// Stays the same across reboots.
    pub machine_id: String,
    /// Maker and model of the machine, as the firmware names them.
    pub hardware: String,
    /// The running image's version.
    pub image_version: String,
    /// The slot the image runs from; `None` when the root is not one of Quantix's slots.
    pub slot: Option<Slot>,
    /// The running kernel's release.
    pub kernel: String,
    /// When the kernel started.
    pub booted_at: Timestamp,
    /// The clock, and whether it follows a time server.
    pub clock: Clock,
    /// Processors.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// Network interfaces that are hardware or stand for it.
    pub nics: Vec<Nic>,
    /// Block devices that are whole disks.
    pub disks: Vec<Disk>,
    /// What is plugged into its PCI bus, without what only leads further.
    #[serde(default)]
    pub pci: Vec<PciDevice>,
    /// Where state is kept.
    pub state_storage: Filesystem,
    /// The services Quantix stands on, and whether each answers.
    pub services: Vec<Service>,
}

impl HostFacts {
    /// Whether the machine runs Quantix-OS.
    pub fn is_image(&self) -> bool {
        self.image_version != Self::NO_IMAGE
    }

    /// What stands for the version where another system runs.
    pub const NO_IMAGE: &str = "not an image";
}

/// Which of the two slots, and whether its content is verified while it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Slot {
    /// A or B.
    pub name: SlotName,
    /// True when dm-verity checks every block.
    pub verified: bool,
}

/// The two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum SlotName {
    /// The first root partition on the disk.
    A,
    /// The second.
    B,
}

/// The clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Clock {
    /// The time as the host has it.
    pub now: Timestamp,
    /// True when the kernel's clock follows a time server.
    pub synchronised: bool,
}

/// Processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cpu {
    /// The name the processor gives itself.
    pub model: String,
    /// Sockets that hold a processor.
    pub sockets: u32,
    /// Cores over all sockets.
    pub cores: u32,
    /// Threads over all cores: what the scheduler sees.
    pub threads: u32,
}

/// Main memory, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Memory {
    /// What the kernel manages.
    pub total_bytes: u64,
    /// What could be given to a new program without swapping.
    pub available_bytes: u64,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Nic {
    /// The kernel's name.
    pub name: String,
    /// The hardware address.
    pub mac: String,
    /// True when a cable is plugged in and the other end answers.
    pub link: bool,
    /// The link's speed, where the driver knows it.
    pub speed_mbit: Option<u32>,
    /// The driver's name.
    pub driver: Option<String>,
    /// Its addresses, each with prefix length.
    pub addresses: Vec<Address>,
}

/// An address with its prefix length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Address {
    /// IPv4 or IPv6.
    #[schema(value_type = String)]
    pub ip: std::net::IpAddr,
    /// The prefix length.
    pub prefix: u8,
}

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Disk {
    /// The kernel's name, without `/dev/`.
    pub name: String,
    /// The model as the disk reports it.
    pub model: Option<String>,
    /// The serial number as the disk reports it.
    pub serial: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// True when it has spinning platters.
    pub rotational: bool,
    /// True when Quantix-OS runs from it.
    pub system: bool,
}

/// A device on the PCI bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PciDevice {
    /// Its address: `0000:65:00.0`.
    pub address: String,
    /// What it is, and whose: as far as that is known, else its numbers.
    pub name: String,
    /// What kind of device it is.
    pub kind: String,
    /// Who drives it. What a machine has is driven by `vfio-pci`.
    pub driver: Option<String>,
    /// Those of one group can only be given away together.
    pub group: Option<u32>,
    /// Why no machine can have it; nothing if one can.
    pub kept_because: Option<String>,
}

impl PciDevice {
    /// What drives a device that was taken from its host.
    pub const GIVEN: &str = "vfio-pci";

    /// Whether a machine has it now.
    pub fn is_given(&self) -> bool {
        self.driver.as_deref() == Some(Self::GIVEN)
    }
}

/// Space of a file system, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Filesystem {
    /// Its size.
    pub size_bytes: u64,
    /// What a writer can still use.
    pub available_bytes: u64,
    /// False when nothing of its own is mounted there, so that what is written would be lost or refused.
    pub mounted: bool,
    /// True when nothing can be written, as after an error of the disk.
    pub read_only: bool,
}

/// A service Quantix stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Service {
    /// A stable name: the check of that name in the readiness tells how it is.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Its version, if it answered.
    pub version: Option<String>,
    /// The reason it did not answer.
    pub error: Option<String>,
}

/// `GET /api/v1/console`: what the screen at the machine shows. Answered to root on the machine only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConsoleView {
    /// SHA-256 of the certificate the pages use, as colon-separated hexadecimal pairs.
    pub certificate_fingerprint: String,
    /// The first password, until it has been changed.
    pub first_password: Option<Secret>,
    /// What works and what does not.
    pub readiness: Readiness,
    /// The host itself.
    pub host: HostFacts,
    /// Its cluster, once the data is open.
    pub cluster: Option<ConsoleCluster>,
}

/// What the screen at the machine must know of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConsoleCluster {
    /// How many hosts belong to it.
    pub hosts: u32,
    /// Whether anything can be changed.
    pub writable: bool,
}
