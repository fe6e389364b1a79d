//! What a virtual machine shall be.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a virtual machine shall be. What is left out is as its guest needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Its name: no other in its folder has it, in capitals or not.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub description: String,
    /// What runs in it, which decides on its hardware.
    #[serde(default)]
    pub guest: Guest,
    /// Its processors.
    #[serde(default)]
    pub cpu: VmCpu,
    /// Its memory.
    #[serde(default)]
    pub memory: VmMemory,
    /// What starts it.
    #[serde(default)]
    pub firmware: Firmware,
    /// From what it is tried to start first.
    #[serde(default, skip_serializing_if = "is_none")]
    pub boot: Boot,
    /// Whether it has a TPM 2.0.
    #[serde(default)]
    pub tpm: bool,
    /// Its disks, in the order in which it is tried to start from them.
    #[serde(default)]
    pub disks: Vec<VmDisk>,
    /// Its CD drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 2)]
    pub cds: Vec<VmCd>,
    /// Its network cards.
    #[serde(default)]
    pub nics: Vec<VmNic>,
    /// Devices of its host that it has for itself while it is on, by their addresses there: `0000:65:00.0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 8)]
    pub pci: Vec<String>,
    /// Whether it is reset when its guest does not say for half a minute that it is alive.
    #[serde(default)]
    pub watchdog: bool,
}

impl VmSpec {
    /// As usual, with a name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            guest: Guest::default(),
            cpu: VmCpu::default(),
            memory: VmMemory::default(),
            firmware: Firmware::default(),
            boot: Boot::default(),
            tpm: false,
            disks: Vec::new(),
            cds: Vec::new(),
            nics: Vec::new(),
            pci: Vec::new(),
            watchdog: false,
        }
    }

    /// In what another differs, as its guest sees it: what it is called is told to no guest.
    pub fn differs_in(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("its guest", self.guest != other.guest),
            ("its processors", self.cpu != other.cpu),
            ("its memory", self.memory != other.memory),
            ("its firmware", self.firmware != other.firmware),
            ("what it starts from", self.boot != other.boot),
            ("its TPM", self.tpm != other.tpm),
            ("its disks", self.disks != other.disks),
            ("its CD drives", self.cds != other.cds),
            ("its network cards", self.nics != other.nics),
            ("devices of its host", self.pci != other.pci),
            ("its watchdog", self.watchdog != other.watchdog),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }

    /// Gives it the hardware that a guest wants, and leaves what is more than that as it is. A Windows for desktops is not
    /// installed without Secure Boot, a TPM and 4 GiB; a server likes them too.
    pub fn suit(&mut self, guest: Guest) {
        self.guest = guest;
        (self.firmware, self.tpm) = match guest {
            Guest::Linux => (Firmware::Uefi, false),
            Guest::Windows => (Firmware::SecureBoot, true),
            Guest::Legacy => (Firmware::Bios, false),
        };
        if guest == Guest::Windows {
            self.memory.mib = self.memory.mib.max(4096);
        }
    }
}

/// What runs in a virtual machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guest {
    /// Linux of the last ten years, or a BSD: everything is virtio.
    #[default]
    Linux,
    /// Windows: Hyper-V's enlightenments, a clock in local time.
    Windows,
    /// What knows no virtio: SATA and an Intel network card.
    Legacy,
}

impl Guest {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Windows, Self::Legacy];

    /// What a system runs as, by what images call it; nothing if that says nothing.
    pub fn of_os(os: &str) -> Option<Self> {
        match os {
            "" => None,
            "windows" => Some(Self::Windows),
            _ => Some(Self::Linux),
        }
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Legacy => "legacy",
        }
    }
}

/// Processors of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCpu {
    /// Sockets.
    pub sockets: u16,
    /// Cores in each socket.
    pub cores: u16,
    /// Threads of each core.
    #[serde(default = "one")]
    pub threads: u16,
    /// What the guest sees.
    #[serde(default)]
    pub model: CpuModel,
    /// A certain one instead, as libvirt calls it: `EPYC-Rome`. Hosts on which it shall run must be able to be one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._-]*$")]
    pub named: String,
    /// To how many cores it can grow while it is on, in its one socket; 0 for none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub most: u16,
}

fn is_none<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

fn one() -> u16 {
    1
}

impl Default for VmCpu {
    fn default() -> Self {
        Self { sockets: 1, cores: 2, threads: 1, model: CpuModel::default(), named: String::new(), most: 0 }
    }
}

impl VmCpu {
    /// Processors in all.
    pub fn count(&self) -> u32 {
        u32::from(self.sockets).saturating_mul(self.cores.into()).saturating_mul(self.threads.into())
    }
}

/// The processor that a guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuModel {
    /// The nearest model that libvirt knows to the host's, with what it can besides.
    #[default]
    HostModel,
    /// The host's own: fastest, and at home on no other kind of host.
    HostPassthrough,
}

/// Memory of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmMemory {
    /// In MiB.
    pub mib: u64,
    /// Whether the host may ask for some of it back.
    #[serde(default = "yes")]
    pub balloon: bool,
    /// To how much it can grow while the machine is on, in MiB; 0 for none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub most_mib: u64,
}

fn yes() -> bool {
    true
}

impl Default for VmMemory {
    fn default() -> Self {
        Self { mib: 2048, balloon: true, most_mib: 0 }
    }
}

/// What starts a virtual machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// UEFI that starts anything.
    #[default]
    Uefi,
    /// UEFI that starts only what is signed.
    SecureBoot,
    /// A PC's BIOS.
    Bios,
}

impl Firmware {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Uefi, Self::SecureBoot, Self::Bios];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uefi => "uefi",
            Self::SecureBoot => "secure-boot",
            Self::Bios => "bios",
        }
    }
}

/// From what it is tried to start a virtual machine first. What it does not start from is followed by what is left: disks, CDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// Its disks.
    #[default]
    Disk,
    /// Its CD drives.
    Cd,
    /// Its network cards.
    Network,
}

impl Boot {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disk, Self::Cd, Self::Network];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Cd => "cd",
            Self::Network => "network",
        }
    }
}

/// A disk of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmDisk {
    /// The volume.
    pub volume: String,
    /// How it is attached; nothing: as the guest needs it.
    #[serde(default)]
    pub bus: Option<Bus>,
    /// How the host keeps what is written.
    #[serde(default)]
    pub cache: Cache,
    /// Whether what the guest frees is freed in the pool.
    #[serde(default = "yes")]
    pub discard: bool,
    /// How much it may be used at most.
    #[serde(default, skip_serializing_if = "is_none")]
    pub limit: DiskLimit,
}

impl VmDisk {
    /// As usual: attached as its guest needs it, past the host's memory, and without a limit.
    pub fn usual(volume: impl Into<String>) -> Self {
        Self {
            volume: volume.into(),
            bus: None,
            cache: Cache::default(),
            discard: true,
            limit: DiskLimit::default(),
        }
    }
}

/// How much a disk may be used at most, reading and writing together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskLimit {
    /// How many times a second; 0 for no limit.
    #[serde(default)]
    #[schema(maximum = 10_000_000)]
    pub iops: u32,
    /// How many MiB a second; 0 for no limit.
    #[serde(default)]
    #[schema(maximum = 1_000_000)]
    pub mib_s: u32,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// SATA.
    Sata,
}

/// How a host keeps what is written to a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Past the host's memory.
    #[default]
    None,
    /// In the host's memory, on the disk when the guest asks for it.
    WriteBack,
    /// In the host's memory and on the disk at once.
    WriteThrough,
}

/// A CD drive of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCd {
    /// The image that is in it; nothing for none.
    #[serde(default)]
    pub image: Option<String>,
}

/// A network card of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmNic {
    /// The bridge it is plugged into.
    pub bridge: String,
    /// Its address: `52:54:00:…`. Left out, it is given one.
    #[serde(default)]
    pub mac: String,
    /// What the guest sees; nothing: as it needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<NicModel>,
}

impl DiskLimit {
    /// For people; nothing without a limit.
    pub fn words(self) -> Option<String> {
        match (self.mib_s, self.iops) {
            (0, 0) => None,
            (mib, 0) => Some(format!("at most {mib} MiB/s")),
            (0, times) => Some(format!("at most {times} times a second")),
            (mib, times) => Some(format!("at most {mib} MiB/s, {times} times a second")),
        }
    }
}

/// What kind of network card a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NicModel {
    /// virtio-net, the fastest.
    Virtio,
    /// An Intel 82574L, which every system knows.
    E1000e,
}

impl NicModel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Virtio, Self::E1000e];

    /// Its name in the API, and for libvirt.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::E1000e => "e1000e",
        }
    }

    /// The kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }
}
