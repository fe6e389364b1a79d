//! Network interfaces, disks and the slot, read from `/sys`, `/run/udev` and the kernel's list of addresses.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::statvfs};
use quantix_api::{Address, Disk, Filesystem, Nic, Slot};

use crate::model::{
    proc::udev_property,
    slot::{ROOT_TYPE, slot},
};

const SECTOR_BYTES: u64 = 512;

/// A file's text without the line's end; `None` when it is not there or cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What a link leads to is called.
pub(super) fn link(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Interfaces that are hardware, or that a hypervisor gave us as such: those with a device behind them.
pub(crate) fn interface_names(root: &Path) -> impl Iterator<Item = String> {
    let class = root.join("sys/class/net");
    names(&class).into_iter().filter(move |name| class.join(name).join("device").exists())
}

/// Them, with their addresses.
pub(crate) fn nics(root: &Path) -> Vec<Nic> {
    let mut addresses: BTreeMap<String, Vec<Address>> = BTreeMap::new();
    for interface in getifaddrs().into_iter().flatten() {
        if !interface.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let prefix = |bits: Option<u32>| u8::try_from(bits.unwrap_or(0)).unwrap_or(0);
        let Some(address) = interface.address else { continue };
        let found = if let Some(v4) = address.as_sockaddr_in() {
            let mask =
                interface.netmask.and_then(|mask| Some(mask.as_sockaddr_in()?.ip().to_bits().count_ones()));
            Address { ip: IpAddr::V4(v4.ip()), prefix: prefix(mask) }
        } else if let Some(v6) = address.as_sockaddr_in6() {
            let mask =
                interface.netmask.and_then(|mask| Some(mask.as_sockaddr_in6()?.ip().to_bits().count_ones()));
            Address { ip: IpAddr::V6(v6.ip()), prefix: prefix(mask) }
        } else {
            continue;
        };
        addresses.entry(interface.interface_name).or_default().push(found);
    }
    interface_names(root)
        .map(|name| {
            let dir = root.join("sys/class/net").join(&name);
            Nic {
                mac: text(&dir.join("address")).unwrap_or_default(),
                link: text(&dir.join("carrier")).as_deref() == Some("1"),
                speed_mbit: text(&dir.join("speed")).and_then(|speed| speed.parse().ok()),
                driver: link(&dir.join("device/driver")),
                addresses: addresses.remove(&name).unwrap_or_default(),
                name,
            }
        })
        .collect()
}

/// Whole disks, without what only stands for a part of one or for memory.
pub(crate) fn disk_names(root: &Path) -> impl Iterator<Item = String> {
    const NO_DISKS: &[&str] = &["loop", "dm-", "ram", "zram", "sr", "md", "nbd", "rbd", "fd"];
    let is_disk = |name: &String| !NO_DISKS.iter().any(|kind| name.starts_with(kind));
    names(&root.join("sys/block")).into_iter().filter(is_disk)
}

/// Them, with what they are.
pub(crate) fn disks(root: &Path) -> Vec<Disk> {
    let system = root_partition(root).and_then(|partition| disk_of(root, &partition));
    disk_names(root)
        .map(|name| {
            let dir = root.join("sys/block").join(&name);
            let some = |path: &str| text(&dir.join(path)).filter(|text| !text.is_empty());
            Disk {
                model: some("device/model"),
                serial: some("device/serial").or_else(|| some("serial")),
                size_bytes: some("size").and_then(|sectors| sectors.parse::<u64>().ok()).unwrap_or(0)
                    * SECTOR_BYTES,
                rotational: some("queue/rotational").as_deref() == Some("1"),
                system: system.as_deref() == Some(name.as_str()),
                name,
            }
        })
        .collect()
}

/// The slot the verified root is in.
pub(crate) fn running_slot(root: &Path) -> Option<Slot> {
    let running = root_partition(root)?;
    let disk = disk_of(root, &running)?;
    let dir = root.join("sys/block").join(&disk);
    let number = |partition: &str| text(&dir.join(partition).join("partition"))?.parse::<u32>().ok();
    let roots: Vec<u32> = names(&dir)
        .into_iter()
        .filter(|partition| partition_type(root, &dir.join(partition)).as_deref() == Some(ROOT_TYPE))
        .filter_map(|partition| number(&partition))
        .collect();
    Some(Slot { name: slot(number(&running)?, &roots)?, verified: verity_device(root).is_some() })
}

/// The device-mapper device the root is read through, when it is dm-verity.
fn verity_device(root: &Path) -> Option<PathBuf> {
    let block = root.join("sys/block");
    names(&block).into_iter().map(|name| block.join(name)).find(|dir| {
        text(&dir.join("dm/name")).as_deref() == Some("root")
            && text(&dir.join("dm/uuid")).is_some_and(|uuid| uuid.starts_with("CRYPT-VERITY-"))
    })
}

/// The partition with the root's data: of the two under dm-verity, the one of type "root".
fn root_partition(root: &Path) -> Option<String> {
    let slaves = verity_device(root)?.join("slaves");
    names(&slaves)
        .into_iter()
        .find(|partition| partition_type(root, &slaves.join(partition)).as_deref() == Some(ROOT_TYPE))
}

fn disk_of(root: &Path, partition: &str) -> Option<String> {
    let block = root.join("sys/block");
    names(&block).into_iter().find(|disk| block.join(disk).join(partition).join("partition").exists())
}

fn partition_type(root: &Path, partition: &Path) -> Option<String> {
    let numbers = text(&partition.join("dev"))?;
    let record = text(&root.join("run/udev/data").join(format!("b{numbers}")))?;
    udev_property(&record, "ID_PART_ENTRY_TYPE").map(str::to_owned)
}

/// Space and condition of the file system that holds `folder`. It must be a folder the caller may write: in the
/// agent's sandbox every other path looks read-only, whatever the disk is like.
pub(crate) fn filesystem(root: &Path, folder: &Path) -> Filesystem {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let mounted = device(folder).is_some_and(|device_of_folder| device(root) != Some(device_of_folder));
    match statvfs::statvfs(folder) {
        Ok(found) => Filesystem {
            size_bytes: found.blocks() * found.fragment_size(),
            available_bytes: found.blocks_available() * found.fragment_size(),
            mounted,
            read_only: found.flags().contains(statvfs::FsFlags::ST_RDONLY),
        },
        Err(_) => Filesystem { mounted, ..unanswered_filesystem() },
    }
}

/// A disk that does not answer takes no writes either.
pub(crate) fn unanswered_filesystem() -> Filesystem {
    Filesystem { size_bytes: 0, available_bytes: 0, mounted: true, read_only: true }
}

#[cfg(test)]
mod tests {
    use quantix_api::SlotName;

    use super::*;

    /// A machine's `/sys` and `/run/udev` with the root in the partition `running` of a disk with two slots.
    fn machine(running: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/block/vda/size", "50331648\n");
        for (name, number, kind) in
            [("vda1", 1, "esp"), ("vda2", 2, "verity"), ("vda3", 3, ROOT_TYPE), ("vda5", 5, ROOT_TYPE)]
        {
            write(&format!("sys/block/vda/{name}/partition"), &number.to_string());
            write(&format!("sys/block/vda/{name}/dev"), &format!("254:{number}"));
            write(
                &format!("run/udev/data/b254:{number}"),
                &format!("N:{name}\nE:ID_PART_ENTRY_TYPE={kind}\n"),
            );
        }
        write("sys/block/loop0/size", "0");
        write("sys/block/dm-0/dm/name", "root\n");
        write("sys/block/dm-0/dm/uuid", "CRYPT-VERITY-0123-root\n");
        for name in ["vda2", running] {
            fs::create_dir_all(root.path().join("sys/block/dm-0/slaves")).unwrap();
            std::os::unix::fs::symlink(
                root.path().join("sys/block/vda").join(name),
                root.path().join("sys/block/dm-0/slaves").join(name),
            )
            .unwrap();
        }
        root
    }

    #[test]
    fn the_slot_is_the_partition_under_dm_verity() {
        let slot = running_slot(machine("vda3").path()).unwrap();
        assert_eq!((slot.name, slot.verified), (SlotName::A, true));
        assert_eq!(running_slot(machine("vda5").path()).unwrap().name, SlotName::B);
    }

    #[test]
    fn a_machine_that_runs_from_elsewhere_is_in_no_slot() {
        assert_eq!(running_slot(tempfile::tempdir().unwrap().path()), None);
    }

    #[test]
    fn the_disk_with_the_root_is_the_systems_and_loops_are_no_disks() {
        let machine = machine("vda3");
        let disks = disks(machine.path());
        assert_eq!(disks.len(), 1);
        assert_eq!((disks[0].name.as_str(), disks[0].size_bytes, disks[0].system), ("vda", 24 << 30, true));
    }

    #[test]
    fn a_folder_on_the_roots_file_system_is_not_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("var");
        fs::create_dir(&inner).unwrap();
        assert!(!filesystem(dir.path(), &inner).mounted);
        assert!(filesystem(dir.path(), &inner).size_bytes > 0);
        // Anywhere below the mount counts, not only the mount point: state lives in a folder of its partition.
        assert!(filesystem(Path::new("/proc"), &inner).mounted);
    }
}
