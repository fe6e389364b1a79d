//! A pool of thin volumes on disks of its own (LVM): by what it is known, what the program that has the rights is asked and
//! tells, and what LVM's and the system's own tools print.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{
    id::VolumeId,
    pool::{Failed, Found, Room},
};

/// LVM keeps volumes in units of so many bytes.
pub const THIN_UNIT: u64 = 1 << 20;
/// What LVM calls the volume that all others share.
pub const SHARED: &str = "shared";
/// What comes before the id of a volume that is not whole yet.
pub const UNFINISHED: &str = "new-";
/// A pool on less than this is not worth its own records.
const SMALLEST_DISK: u64 = 1 << 30;

/// The id of a pool of thin volumes. What a pool is made of stands in its id, and its place follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThinPool(u32);

impl ThinPool {
    /// A new one.
    pub fn new() -> Self {
        // The last of an id of that kind is chance.
        let [.., a, b, c, d] = uuid::Uuid::now_v7().into_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// What LVM calls it.
    pub fn group(self) -> String {
        format!("quantix-{self}")
    }

    /// The device of a volume in it.
    pub fn device(self, volume: impl fmt::Display) -> PathBuf {
        PathBuf::from(format!("/dev/{}/{volume}", self.group()))
    }
}

impl Default for ThinPool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ThinPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "thin-{:08x}", self.0)
    }
}

impl FromStr for ThinPool {
    type Err = NoThinPool;

    /// Only as it is written here.
    fn from_str(text: &str) -> Result<Self, NoThinPool> {
        let digits = text.strip_prefix("thin-").ok_or(NoThinPool)?;
        let pool = Self(u32::from_str_radix(digits, 16).map_err(|_| NoThinPool)?);
        (pool.to_string() == text).then_some(pool).ok_or(NoThinPool)
    }
}

impl Serialize for ThinPool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ThinPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// It is not the id of a pool of thin volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a pool of thin volumes")]
pub struct NoThinPool;

/// What the program that may do such things is asked: one to a connection, as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Asked {
    /// Which disks the host has.
    Disks,
    /// To make a pool of whole disks. What was on them is lost, if so.
    MakePool {
        /// The pool.
        pool: ThinPool,
        /// The disks, by their ids.
        disks: Vec<String>,
        /// Whether there may be something on them.
        erase: bool,
    },
    /// To make a pool bigger by whole disks. What was on them is lost, if so.
    AddDisks {
        /// The pool.
        pool: ThinPool,
        /// The disks, by their ids.
        disks: Vec<String>,
        /// Whether there may be something on them.
        erase: bool,
    },
    /// To take disks out of a pool on which nothing of it is yet.
    GiveBack {
        /// The pool.
        pool: ThinPool,
        /// The disks, by their ids.
        disks: Vec<String>,
    },
    /// To remove a pool with all that is in it, and leave its disks empty.
    RemovePool {
        /// The pool.
        pool: ThinPool,
    },
    /// How a pool is.
    Look {
        /// The pool.
        pool: ThinPool,
    },
    /// To make an empty volume, or one that begins as a copy of something.
    Make {
        /// The pool.
        pool: ThinPool,
        /// The volume.
        volume: VolumeId,
        /// Its size.
        bytes: u64,
        /// What it is a copy of.
        of: Option<Of>,
    },
    /// To write out a volume that nobody has open as a file of the pool that every host has. It has its name there only when
    /// whoever asked gives it that.
    WriteOut {
        /// The pool.
        pool: ThinPool,
        /// The volume.
        volume: VolumeId,
        /// The volume that it becomes.
        file: VolumeId,
    },
    /// To make a volume that begins as another, and shares with it what both have in common.
    Lay {
        /// The pool.
        pool: ThinPool,
        /// The volume.
        volume: VolumeId,
        /// What it begins as.
        below: VolumeId,
        /// Its size; nothing for that of the other.
        bytes: Option<u64>,
    },
    /// To make a volume bigger.
    Grow {
        /// The pool.
        pool: ThinPool,
        /// The volume.
        volume: VolumeId,
        /// Its size.
        bytes: u64,
    },
    /// To remove a volume.
    Remove {
        /// The pool.
        pool: ThinPool,
        /// The volume.
        volume: VolumeId,
    },
}

/// What a volume begins as a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Of {
    /// An image in the pool that every host has.
    Image(VolumeId),
    /// A layer in that pool, with all that it lies on.
    File(VolumeId),
    /// A volume of this or another pool of thin volumes.
    Thin {
        /// The pool.
        pool: ThinPool,
        /// The volume.
        volume: VolumeId,
    },
}

/// What is told: any number of times how far it is, and then what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// So many bytes are written.
    At(u64),
    /// It is done.
    Done,
    /// The disks.
    Disks(Vec<Disk>),
    /// How the pool is.
    Pool(Thin),
    /// It cannot be done.
    Failed(Failed),
}

/// How a pool of thin volumes is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thin {
    /// Its room.
    pub room: Room,
    /// What is in it.
    pub volumes: Vec<Found>,
}

/// A whole disk of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
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
    /// What is on it.
    pub holds: Holds,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// Nothing that anybody knows.
    Nothing,
    /// Something that nobody uses just now, in words.
    Something(String),
    /// Something that is being used, or it cannot be written to.
    InUse(String),
}

#[derive(Deserialize)]
struct Devices {
    blockdevices: Vec<Device>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Device {
    name: String,
    path: String,
    size: u64,
    model: Option<String>,
    serial: Option<String>,
    rota: bool,
    ro: bool,
    #[serde(rename = "type")]
    kind: String,
    fstype: Option<String>,
    pttype: Option<String>,
    id_link: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Device>,
}

/// The columns that `lsblk` is asked for.
pub const DEVICE_COLUMNS: &str = "NAME,PATH,SIZE,MODEL,SERIAL,ROTA,RO,TYPE,FSTYPE,PTTYPE,ID-LINK,MOUNTPOINTS";

/// The disks that `lsblk` lists.
pub fn disks(listed: &str) -> Result<Vec<Disk>, serde_json::Error> {
    let devices: Devices = serde_json::from_str(listed)?;
    let whole = devices.blockdevices.into_iter().filter(|device| device.kind == "disk" && device.size > 0);
    // What is made of memory forgets.
    let lasting = whole.filter(|device| !device.name.starts_with("zram") && !device.name.starts_with("ram"));
    let one = |device: Device| Disk {
        holds: holds(&device),
        id: device.id_link.unwrap_or(device.name),
        path: device.path,
        bytes: device.size,
        model: device.model.unwrap_or_default().trim().to_owned(),
        serial: device.serial.unwrap_or_default().trim().to_owned(),
        is_rotating: device.rota,
    };
    Ok(lasting.map(one).collect())
}

fn holds(disk: &Device) -> Holds {
    if let Some(place) = mounted(disk) {
        return Holds::InUse(match place {
            "[SWAP]" => "Memory is swapped to it".to_owned(),
            place => format!("It is mounted at {place}"),
        });
    }
    if uses(disk) {
        return Holds::InUse("Something is made of it that is in use".to_owned());
    }
    if disk.ro {
        return Holds::InUse("It cannot be written to".to_owned());
    }
    if disk.size < SMALLEST_DISK {
        return Holds::InUse("It is smaller than 1 GiB".to_owned());
    }
    let parts = disk.children.len();
    match (&disk.fstype, &disk.pttype) {
        (Some(kind), _) if kind == "LVM2_member" => {
            Holds::Something("A part of a volume group of LVM".to_owned())
        }
        (Some(kind), _) => Holds::Something(format!("A file system or the like ({kind})")),
        (None, Some(_)) if parts > 0 => Holds::Something(match parts {
            1 => "One partition".to_owned(),
            _ => format!("{parts} partitions"),
        }),
        (None, Some(_)) => Holds::Something("A partition table without partitions".to_owned()),
        (None, None) => Holds::Nothing,
    }
}

/// Where a disk or a part of it is mounted.
fn mounted(device: &Device) -> Option<&str> {
    device
        .mountpoints
        .iter()
        .flatten()
        .next()
        .map(String::as_str)
        .or_else(|| device.children.iter().find_map(mounted))
}

/// Whether something is made of a disk or a part of it: what is in the kernel's hands is no partition.
fn uses(device: &Device) -> bool {
    device.children.iter().any(|child| child.kind != "part" || uses(child))
}

/// The columns that `lvs` is asked for.
pub const VOLUME_COLUMNS: &str =
    "lv_name,lv_size,lv_active,lv_suspended,data_percent,metadata_percent,vg_missing_pv_count";

#[derive(Deserialize)]
struct Reports {
    report: Vec<Report>,
}

#[derive(Deserialize)]
struct Report {
    lv: Vec<Listed>,
}

/// A volume as `lvs` lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    #[serde(rename = "lv_name")]
    /// Its name.
    pub name: String,
    lv_size: String,
    lv_active: String,
    lv_suspended: String,
    data_percent: String,
    metadata_percent: String,
    vg_missing_pv_count: String,
}

impl Listed {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.lv_size.parse().unwrap_or(0)
    }

    /// Whether the kernel knows it.
    pub fn is_active(&self) -> bool {
        self.lv_active == "active"
    }

    /// Whether whoever writes to it waits. Nobody changes anything while volumes are listed: what was to be done with it was
    /// cut off in the middle.
    pub fn is_stuck(&self) -> bool {
        !self.lv_suspended.is_empty()
    }

    /// What of it is written to.
    pub fn used(&self) -> u64 {
        share(self.bytes(), &self.data_percent)
    }

    /// Whether the shared one's own records are filling up.
    pub fn is_short_of_records(&self) -> bool {
        share(100, &self.metadata_percent) >= 70
    }
}

/// A share of something, by hundredths of per cent as LVM prints them.
fn share(whole: u64, per_cent: &str) -> u64 {
    let (whole_part, rest) = per_cent.split_once('.').unwrap_or((per_cent, "0"));
    let hundredths = whole_part.parse::<u128>().unwrap_or(0) * 100
        + format!("{rest:0<2}").get(..2).and_then(|rest| rest.parse::<u128>().ok()).unwrap_or(0);
    u64::try_from(u128::from(whole) * hundredths.min(10_000) / 10_000).unwrap_or(whole)
}

/// The volumes that `lvs` lists.
pub fn listed(printed: &str) -> Result<Vec<Listed>, serde_json::Error> {
    let reports: Reports = serde_json::from_str(printed)?;
    Ok(reports.report.into_iter().flat_map(|report| report.lv).collect())
}

/// How a pool is whose volumes are listed.
pub fn pool(volumes: &[Listed]) -> Result<Thin, Failed> {
    let shared = volumes.iter().find(|volume| volume.name == SHARED);
    let shared = shared.ok_or_else(|| Failed::Missing("what its volumes share is not there".to_owned()))?;
    if shared.vg_missing_pv_count.parse::<u64>().unwrap_or(0) > 0 {
        return Err(Failed::Missing("a disk of it is not there".to_owned()));
    }
    let capacity = shared.bytes();
    // It is full when the records of what lies where are, too; while there is room for them, they are nobody's concern.
    let records = share(capacity, &shared.metadata_percent);
    let used = if shared.is_short_of_records() { shared.used().max(records) } else { shared.used() };
    let found = |volume: &Listed| {
        let id = volume.name.parse().ok()?;
        Some(Found { id, used: volume.used() })
    };
    Ok(Thin { room: Room { capacity, used }, volumes: volumes.iter().filter_map(found).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_known_by_one_name_only() {
        let pool = ThinPool::new();
        assert_eq!(pool.to_string().parse(), Ok(pool));
        assert_eq!("thin-00ab12ef".parse::<ThinPool>().unwrap().group(), "quantix-thin-00ab12ef");
        for wrong in
            ["local", "thin-", "thin-1", "thin-00AB12EF", "thin-+0ab12ef", "thin-00ab12ef0", "thin-../../x"]
        {
            assert_eq!(wrong.parse::<ThinPool>(), Err(NoThinPool), "{wrong}");
        }
    }

    /// As `lsblk` of util-linux 2.41 prints them, shortened.
    const LISTED: &str = r#"{"blockdevices": [
        {"name":"loop0","path":"/dev/loop0","size":0,"model":null,"serial":null,"rota":false,"ro":false,"type":"loop","fstype":null,"pttype":null,"id-link":null,"mountpoints":[null]},
        {"name":"zram0","path":"/dev/zram0","size":4294967296,"model":null,"serial":null,"rota":false,"ro":false,"type":"disk","fstype":null,"pttype":null,"id-link":null,"mountpoints":[null]},
        {"name":"sr0","path":"/dev/sr0","size":1073741312,"model":"DVD","serial":"1","rota":false,"ro":false,"type":"rom","fstype":null,"pttype":null,"id-link":null,"mountpoints":[null]},
        {"name":"vda","path":"/dev/vda","size":17179869184,"model":null,"serial":null,"rota":true,"ro":false,"type":"disk","fstype":null,"pttype":"gpt","id-link":null,"mountpoints":[null],
         "children":[
            {"name":"vda1","path":"/dev/vda1","size":1073741824,"model":null,"serial":null,"rota":true,"ro":false,"type":"part","fstype":"vfat","pttype":"gpt","id-link":null,"mountpoints":[null]},
            {"name":"vda6","path":"/dev/vda6","size":9073741824,"model":null,"serial":null,"rota":true,"ro":false,"type":"part","fstype":"xfs","pttype":"gpt","id-link":null,"mountpoints":["/var"]}]},
        {"name":"nvme0n1","path":"/dev/nvme0n1","size":960197124096,"model":"A Disk 960 ","serial":"S1","rota":false,"ro":false,"type":"disk","fstype":null,"pttype":null,"id-link":"nvme-A_Disk_960_S1","mountpoints":[null]},
        {"name":"sda","path":"/dev/sda","size":960197124096,"model":"B","serial":"2","rota":true,"ro":false,"type":"disk","fstype":null,"pttype":"dos","id-link":"wwn-0x5000","mountpoints":[null],
         "children":[{"name":"sda1","path":"/dev/sda1","size":1073741824,"model":null,"serial":null,"rota":true,"ro":false,"type":"part","fstype":"ntfs","pttype":"dos","id-link":null,"mountpoints":[null]}]},
        {"name":"sdb","path":"/dev/sdb","size":960197124096,"model":"B","serial":"3","rota":true,"ro":false,"type":"disk","fstype":"LVM2_member","pttype":null,"id-link":"wwn-0x5001","mountpoints":[null],
         "children":[{"name":"vg-lv","path":"/dev/mapper/vg-lv","size":1073741824,"model":null,"serial":null,"rota":true,"ro":false,"type":"lvm","fstype":"ext4","pttype":null,"id-link":null,"mountpoints":[null]}]},
        {"name":"sdc","path":"/dev/sdc","size":960197124096,"model":"B","serial":"4","rota":true,"ro":false,"type":"disk","fstype":"LVM2_member","pttype":null,"id-link":"wwn-0x5002","mountpoints":[null]},
        {"name":"sdd","path":"/dev/sdd","size":960197124096,"model":"B","serial":"5","rota":true,"ro":true,"type":"disk","fstype":null,"pttype":null,"id-link":null,"mountpoints":[null]},
        {"name":"sde","path":"/dev/sde","size":104857600,"model":"B","serial":"6","rota":true,"ro":false,"type":"disk","fstype":null,"pttype":null,"id-link":null,"mountpoints":[null]}
    ]}"#;

    #[test]
    fn disks_that_are_in_use_are_told_from_those_that_are_free() {
        let disks = disks(LISTED).unwrap();
        let told: Vec<_> = disks.iter().map(|disk| (disk.id.as_str(), disk.holds.clone())).collect();
        let (used, something) =
            (|why: &str| Holds::InUse(why.to_owned()), |what: &str| Holds::Something(what.to_owned()));
        assert_eq!(
            told,
            [
                ("vda", used("It is mounted at /var")),
                ("nvme-A_Disk_960_S1", Holds::Nothing),
                ("wwn-0x5000", something("One partition")),
                ("wwn-0x5001", used("Something is made of it that is in use")),
                ("wwn-0x5002", something("A part of a volume group of LVM")),
                ("sdd", used("It cannot be written to")),
                ("sde", used("It is smaller than 1 GiB")),
            ]
        );
        assert_eq!((disks[1].model.as_str(), disks[1].bytes), ("A Disk 960", 960_197_124_096));
    }

    fn volume(name: &str, size: u64, data: &str, metadata: &str) -> String {
        format!(
            r#"{{"lv_name":"{name}","lv_size":"{size}","lv_active":"active","lv_suspended":"","data_percent":"{data}","metadata_percent":"{metadata}","vg_missing_pv_count":"0"}}"#
        )
    }

    #[test]
    fn a_pool_is_as_full_as_its_data_or_its_records() {
        let id = VolumeId::new();
        let check = |data: &str, metadata: &str| {
            let volumes = [
                volume(SHARED, 1000 << 20, data, metadata),
                volume(&id.to_string(), 100 << 20, "12.34", ""),
                volume(&format!("{UNFINISHED}{id}"), 100 << 20, "1.00", ""),
            ];
            let printed = format!(r#"{{"report":[{{"lv":[{}]}}],"log":[]}}"#, volumes.join(","));
            pool(&listed(&printed).unwrap()).unwrap()
        };
        let told = check("25.00", "10.55");
        assert_eq!(told.room, Room { capacity: 1000 << 20, used: 250 << 20 });
        assert_eq!(check("25.00", "60.00").room.used, 250 << 20);
        assert_eq!(told.volumes, [Found { id, used: (100 << 20) * 1234 / 10_000 }]);
        assert_eq!(check("25.00", "90.00").room.used, 900 << 20);
        let gone = volume(SHARED, 1, "0.00", "0.00").replace(r#"count":"0""#, r#"count":"1""#);
        let gone = listed(&format!(r#"{{"report":[{{"lv":[{gone}]}}]}}"#)).unwrap();
        assert!(matches!(pool(&gone), Err(Failed::Missing(_))));
        assert!(matches!(pool(&[]), Err(Failed::Missing(_))));
    }
}
