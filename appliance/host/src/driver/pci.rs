//! What is plugged into the PCI bus, and what of it the host uses itself: read from `/sys`, `/proc` and `/run/udev`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use quantix_api::{Nic, PciDevice};

use super::hardware::{link, names, text};
use crate::{
    model::proc::{mounted_devices, udev_property},
    plan::{checks::is_reachable, pci},
};

/// The devices, in the order of their addresses.
pub(crate) fn devices(root: &Path, nics: &[Nic]) -> Vec<PciDevice> {
    let bus = root.join("sys/bus/pci/devices");
    let used = Used::read(root, nics);
    let mut all: Vec<PciDevice> = names(&bus)
        .into_iter()
        .filter_map(|address| {
            let dir = bus.join(&address);
            let class = number(&dir.join("class"))?;
            let kind = pci::kind(class)?;
            let record = text(&root.join(format!("run/udev/data/+pci:{address}"))).unwrap_or_default();
            let known = |key| udev_property(&record, key).map(str::to_owned);
            let named = |key, file| {
                known(key).unwrap_or_else(|| format!("{:04x}", number(&dir.join(file)).unwrap_or_default()))
            };
            let (maker, model) =
                (named("ID_VENDOR_FROM_DATABASE", "vendor"), named("ID_MODEL_FROM_DATABASE", "device"));
            Some(PciDevice {
                name: format!("{maker} {model}"),
                kind: known("ID_PCI_SUBCLASS_FROM_DATABASE").unwrap_or_else(|| kind.to_owned()),
                driver: link(&dir.join("driver")),
                group: link(&dir.join("iommu_group")).and_then(|group| group.parse().ok()),
                kept_because: fs::canonicalize(&dir).ok().and_then(|real| used.on(&real)),
                address,
            })
        })
        .collect();
    pci::keep_groups_together(&mut all);
    all
}

/// A number as `/sys` writes it: `0x020000`.
fn number(path: &Path) -> Option<u32> {
    u32::from_str_radix(text(path)?.strip_prefix("0x")?, 16).ok()
}

/// What the host uses, by where it is plugged in.
struct Used(Vec<(PathBuf, String)>);

impl Used {
    fn read(root: &Path, nics: &[Nic]) -> Self {
        let net = root.join("sys/class/net");
        let has_address = |name: &str| {
            let nic = nics.iter().find(|nic| nic.name == name);
            nic.is_some_and(|nic| nic.addresses.iter().any(|address| is_reachable(address.ip)))
        };
        let interfaces = names(&net).into_iter().filter_map(|name| {
            let dir = net.join(&name);
            let is_used = has_address(&name) || dir.join("master").exists();
            Some((fs::canonicalize(dir.join("device")).ok().filter(|_| is_used)?, name))
        });
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
        let swaps = fs::read_to_string(root.join("proc/swaps")).unwrap_or_default();
        let mounted = mounted_devices(&mounts);
        let block = root.join("sys/block");
        let disks = names(&block).into_iter().filter_map(|name| {
            let dir = fs::canonicalize(block.join(&name)).ok()?;
            let parts = names(&dir).into_iter().filter(|part| dir.join(part).join("partition").exists());
            let all: Vec<String> = parts.map(|part| format!("{name}/{part}")).chain([name.clone()]).collect();
            let is_used = all.iter().any(|part| is_part_used(&block.join(part), &mounted, &swaps));
            is_used.then_some((dir, name))
        });
        Self(interfaces.chain(disks).collect())
    }

    /// Why the device at this place stays with the host.
    fn on(&self, device: &Path) -> Option<String> {
        let on: Vec<_> =
            self.0.iter().filter(|(at, _)| at.starts_with(device)).map(|(_, name)| name.as_str()).collect();
        (!on.is_empty()).then(|| format!("The host uses {} on it.", on.join(", ")))
    }
}

/// Whether a disk or a partition is mounted, swapped to, or held by what is: a pool, a mirror, the verified root.
fn is_part_used(dir: &Path, mounted: &BTreeSet<String>, swaps: &str) -> bool {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    !names(&dir.join("holders")).is_empty()
        || text(&dir.join("dev")).is_some_and(|device| mounted.contains(&device))
        || swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{name}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use quantix_api::Address;

    use super::*;

    /// A machine's `/sys` with these devices: address, class, group.
    fn machine(devices: &[(&str, &str, u32)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (address, class, group) in devices {
            let dir = root.path().join("sys/devices").join(address);
            let groups = root.path().join(format!("sys/kernel/iommu_groups/{group}"));
            fs::create_dir_all(&dir).unwrap();
            fs::create_dir_all(&groups).unwrap();
            fs::create_dir_all(root.path().join("sys/bus/pci/devices")).unwrap();
            symlink(&dir, root.path().join("sys/bus/pci/devices").join(address)).unwrap();
            symlink(groups, dir.join("iommu_group")).unwrap();
            for (file, text) in [("class", *class), ("vendor", "0x8086"), ("device", "0x10d3")] {
                fs::write(dir.join(file), format!("{text}\n")).unwrap();
            }
        }
        root
    }

    fn plug(root: &Path, class: &str, name: &str, device: &str, below: &str) -> PathBuf {
        let real = root.join("sys/devices").join(device).join(below).join(name);
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(root.join(class)).unwrap();
        symlink(&real, root.join(class).join(name)).unwrap();
        real
    }

    #[test]
    fn what_the_host_needs_stays_with_it_and_so_does_its_group() {
        let machine = machine(&[
            ("0000:00:01.0", "0x060400", 1),
            ("0000:00:02.0", "0x020000", 2),
            ("0000:00:03.0", "0x020000", 3),
            ("0000:00:04.0", "0x010802", 4),
            ("0000:00:04.1", "0x030000", 4),
            ("0000:00:05.0", "0x010400", 5),
            ("0000:00:06.0", "0x0c0330", 6),
        ]);
        let root = machine.path();
        for (name, device) in [("eno1", "0000:00:02.0"), ("eno2", "0000:00:03.0")] {
            let real = plug(root, "sys/class/net", name, device, "net");
            symlink(root.join("sys/devices").join(device), real.join("device")).unwrap();
        }
        let nvme = plug(root, "sys/block", "nvme0n1", "0000:00:04.0", "nvme/nvme0");
        fs::create_dir_all(nvme.join("nvme0n1p1/holders/dm-0")).unwrap();
        fs::write(nvme.join("nvme0n1p1/partition"), "1").unwrap();
        let disk = plug(root, "sys/block", "sda", "0000:00:05.0", "host0/block");
        fs::write(disk.join("dev"), "8:0\n").unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        let mount = |device: &str| {
            let line = format!("36 35 {device} / /var rw,noatime master:1 - xfs /dev/sda rw\n");
            fs::write(root.join("proc/self/mountinfo"), line).unwrap();
        };
        mount("8:0");
        let eno1 = Nic {
            name: "eno1".into(),
            mac: String::new(),
            link: true,
            speed_mbit: None,
            driver: None,
            addresses: vec![Address { ip: "192.0.2.7".parse().unwrap(), prefix: 24 }],
        };
        let reasons = || -> Vec<(String, Option<String>)> {
            let devices = devices(root, std::slice::from_ref(&eno1));
            devices.into_iter().map(|device| (device.address, device.kept_because)).collect()
        };
        let seen = reasons();
        let because = |address: &str| {
            let found = seen.iter().find(|(other, _)| other == address).map(|(_, because)| because.clone());
            found.unwrap_or_else(|| panic!("{address} is missing"))
        };
        assert_eq!(seen.len(), 6, "a bridge is no device: {seen:?}");
        assert_eq!(because("0000:00:02.0").as_deref(), Some("The host uses eno1 on it."));
        assert_eq!(because("0000:00:03.0"), None, "a card without an address is free");
        assert_eq!(because("0000:00:04.0").as_deref(), Some("The host uses nvme0n1 on it."));
        assert!(because("0000:00:04.1").unwrap().contains("0000:00:04.0"));
        assert_eq!(because("0000:00:05.0").as_deref(), Some("The host uses sda on it."));
        assert_eq!(because("0000:00:06.0"), None);
        // What is not mounted any more is free, and a card in a bridge is not.
        mount("8:16");
        fs::create_dir_all(root.join("sys/devices/br0")).unwrap();
        symlink(root.join("sys/devices/br0"), root.join("sys/class/net/eno2/master")).unwrap();
        let seen = reasons();
        assert_eq!(seen.iter().filter(|(_, because)| because.is_none()).count(), 2, "{seen:?}");
        assert!(seen.contains(&("0000:00:05.0".into(), None)));
    }

    #[test]
    fn a_device_is_called_as_udev_knows_it() {
        let machine = machine(&[("0000:00:02.0", "0x020000", 2)]);
        let named = || devices(machine.path(), &[]).remove(0);
        assert_eq!((named().name.as_str(), named().kind.as_str()), ("8086 10d3", "Network"));
        let data = machine.path().join("run/udev/data");
        fs::create_dir_all(&data).unwrap();
        let record = "E:ID_VENDOR_FROM_DATABASE=Intel Corporation\nE:ID_MODEL_FROM_DATABASE=82574L\n\
                      E:ID_PCI_SUBCLASS_FROM_DATABASE=Ethernet controller\n";
        fs::write(data.join("+pci:0000:00:02.0"), record).unwrap();
        assert_eq!(
            (named().name.as_str(), named().kind.as_str(), named().group),
            ("Intel Corporation 82574L", "Ethernet controller", Some(2))
        );
    }

    #[test]
    fn the_devices_of_the_machine_the_tests_run_on_have_addresses() {
        for device in devices(Path::new("/"), &[]) {
            assert_eq!(device.address.len(), 12, "{device:?}");
        }
    }
}
