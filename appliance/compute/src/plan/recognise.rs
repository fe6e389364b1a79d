//! A machine as people describe it, from what libvirt keeps: one that somebody changed behind our back, or made without
//! us. It is the way back from `domain::draw`; what nobody here has a word for is named.

use std::path::PathBuf;

use quantix_api::{
    Boot, Bus, Cache, CpuModel, DiskLimit, Firmware, Guest, NicModel, VmCd, VmCpu, VmDisk, VmMemory, VmNic,
    VmSpec,
};

use super::domain::{Accelerator, Drive, Format, as_needed, card_as_needed};
use crate::model::{check::pci_numbers, element::Element, id::VmId};

/// A machine that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Which.
    pub id: VmId,
    /// What it is. Its volumes are called by their paths.
    pub spec: VmSpec,
    /// Where its volumes are, in the order of its disks.
    pub drives: Vec<Drive>,
    /// What runs it.
    pub accelerator: Accelerator,
    /// Devices that have no place in a description of ours: their kinds, as libvirt calls them.
    pub others: Vec<String>,
}

/// Why a machine is not recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libvirt's description of the machine has no {0} that can be read")]
pub struct Missing(&'static str);

/// Devices that every machine has, or whose kind does not matter.
pub(super) const USUAL: &[&str] = &[
    "emulator",
    "controller",
    "serial",
    "console",
    "channel",
    "input",
    "graphics",
    "video",
    "rng",
    "memballoon",
    "watchdog",
    "tpm",
    "audio",
];

/// Recognises a machine.
pub fn recognise(domain: &Element) -> Result<Recognised, Missing> {
    let text = |name: &'static str| {
        domain.child(name).map(|child| child.text.trim()).filter(|text| !text.is_empty())
    };
    let id = text("uuid").and_then(|text| text.parse().ok()).ok_or(Missing("uuid"))?;
    let name = text("title").or(text("name")).ok_or(Missing("name"))?.to_owned();
    let empty = Element::default();
    let devices = domain.child("devices").unwrap_or(&empty);
    let guest = guest(domain, devices);
    let mut others: Vec<String> = devices
        .children
        .iter()
        .filter(|device| !is_known(device))
        .map(|device| device.name.clone())
        .collect();
    others.dedup();
    let memory = mib(domain.child("memory").unwrap_or(&empty)).ok_or(Missing("memory"))?;
    let processors = cpu(domain).ok_or(Missing("number of processors"))?;
    if processors.most == 0 && domain.child("vcpu").is_some_and(|vcpu| vcpu.attribute("current").is_some()) {
        others.push("fewer processors than it can have".to_owned());
    }
    if domain.child("currentMemory").and_then(mib).is_some_and(|current| current != memory) {
        others.push("less memory than it can have".to_owned());
    }
    let (mut disks, mut drives, mut cds) = (Vec::new(), Vec::new(), Vec::new());
    for device in devices.all("disk").filter(|device| is_known(device)) {
        if is_cd(device) {
            cds.push(VmCd { image: source(device).map(str::to_owned) });
            continue;
        }
        if device.child("readonly").is_some() {
            others.push(format!("a disk that is only read, {}", source(device).unwrap_or_default()));
            continue;
        }
        let (disk, drive) = disk(device, guest).ok_or(Missing("disk"))?;
        disks.push(disk);
        drives.push(drive);
    }
    let balloon = devices.child("memballoon").and_then(|balloon| balloon.attribute("model"));
    let spec = VmSpec {
        name,
        description: domain.child("description").map(|child| child.text.clone()).unwrap_or_default(),
        guest,
        cpu: processors,
        memory: VmMemory {
            mib: memory,
            balloon: balloon != Some("none"),
            most_mib: domain.child("maxMemory").and_then(mib).unwrap_or(0),
        },
        firmware: firmware(domain.child("os").unwrap_or(&empty)),
        boot: boot(domain.child("os").unwrap_or(&empty), devices),
        tpm: devices.child("tpm").is_some(),
        disks,
        cds,
        nics: devices.all("interface").filter_map(|card| nic(card, guest)).collect(),
        pci: devices.all("hostdev").filter_map(pci_address).collect(),
        watchdog: devices
            .child("watchdog")
            .is_some_and(|watchdog| watchdog.attribute("action") == Some("reset")),
    };
    let accelerator = match domain.attribute("type") {
        Some("kvm") => Accelerator::Kvm,
        _ => Accelerator::Tcg,
    };
    Ok(Recognised { id, spec, drives, accelerator, others })
}

pub(super) fn is_known(device: &Element) -> bool {
    match device.name.as_str() {
        "disk" if is_cd(device) => true,
        "disk" => matches!(device.attribute("device"), None | Some("disk")) && source(device).is_some(),
        "interface" => is_nic(device),
        "hostdev" => pci_address(device).is_some(),
        name => USUAL.contains(&name),
    }
}

/// The address of a device of the host that libvirt takes from its driver by itself.
fn pci_address(device: &Element) -> Option<String> {
    if device.attribute("type") != Some("pci") || device.attribute("managed") != Some("yes") {
        return None;
    }
    let place = device.child("source")?.child("address")?;
    let number = |name: &str| {
        let text = place.attribute(name)?;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    let (domain, bus, slot, function) =
        (number("domain")?, number("bus")?, number("slot")?, number("function")?);
    let address = format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}");
    pci_numbers(&address).is_some().then_some(address)
}

fn is_cd(disk: &Element) -> bool {
    let bus = disk.child("target").and_then(|target| target.attribute("bus"));
    disk.attribute("device") == Some("cdrom") && bus == Some("sata")
}

fn guest(domain: &Element, devices: &Element) -> Guest {
    let said = domain
        .child("metadata")
        .and_then(|metadata| metadata.children.iter().find_map(|child| child.attribute("guest")));
    if let Some(guest) = Guest::ALL.into_iter().find(|guest| said == Some(guest.name())) {
        return guest;
    }
    if domain.child("features").is_some_and(|features| features.child("hyperv").is_some()) {
        return Guest::Windows;
    }
    let is_virtio = |device: &Element| {
        let target = device.child("target").and_then(|target| target.attribute("bus"));
        let model = device.child("model").and_then(|model| model.attribute("type"));
        target == Some("virtio") || model == Some("virtio")
    };
    let mut cards =
        devices.children.iter().filter(|device| matches!(&*device.name, "disk" | "interface")).peekable();
    if cards.peek().is_some() && !cards.any(is_virtio) { Guest::Legacy } else { Guest::Linux }
}

fn cpu(domain: &Element) -> Option<VmCpu> {
    let cpu = domain.child("cpu");
    let custom = cpu.filter(|cpu| cpu.attribute("mode") == Some("custom"));
    let named = custom.and_then(|cpu| cpu.child("model")).map(|model| model.text.trim().to_owned());
    let named = named.unwrap_or_default();
    let model = match cpu.and_then(|cpu| cpu.attribute("mode")) {
        Some("host-passthrough") => CpuModel::HostPassthrough,
        _ => CpuModel::HostModel,
    };
    let vcpu = domain.child("vcpu")?;
    let count = vcpu.text.trim().parse().ok()?;
    let Some(topology) = cpu.and_then(|cpu| cpu.child("topology")) else {
        return Some(VmCpu { sockets: count, cores: 1, threads: 1, model, named, most: 0 });
    };
    let number = |name| topology.attribute(name)?.parse().ok();
    let (sockets, cores, threads) = (number("sockets")?, number("cores")?, number("threads")?);
    let current = vcpu.attribute("current").and_then(|current| current.parse().ok());
    match current {
        Some(current) if (sockets, threads) == (1, 1) && cores == count => {
            Some(VmCpu { sockets, cores: current, threads, model, named, most: cores })
        }
        _ => Some(VmCpu { sockets, cores, threads, model, named, most: 0 }),
    }
}

/// libvirt says KiB unless it says something else.
fn mib(memory: &Element) -> Option<u64> {
    let number: u64 = memory.text.trim().parse().ok()?;
    let bytes = match memory.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => Some(number),
        "KB" => number.checked_mul(1000),
        "k" | "KiB" => number.checked_mul(1 << 10),
        "MB" => number.checked_mul(1_000_000),
        "M" | "MiB" => number.checked_mul(1 << 20),
        "GB" => number.checked_mul(1_000_000_000),
        "G" | "GiB" => number.checked_mul(1 << 30),
        "TB" => number.checked_mul(1_000_000_000_000),
        "T" | "TiB" => number.checked_mul(1 << 40),
        _ => None,
    }?;
    Some(bytes >> 20)
}

fn firmware(os: &Element) -> Firmware {
    let loader = os.child("loader");
    let is_uefi = os.attribute("firmware") == Some("efi")
        || loader.is_some_and(|loader| loader.attribute("type") == Some("pflash"));
    let says_secure = os.child("firmware").is_some_and(|firmware| {
        firmware.all("feature").any(|feature| {
            feature.attribute("name") == Some("secure-boot") && feature.attribute("enabled") == Some("yes")
        })
    });
    let is_secure = says_secure || loader.is_some_and(|loader| loader.attribute("secure") == Some("yes"));
    match (is_uefi, is_secure) {
        (true, true) => Firmware::SecureBoot,
        (true, false) => Firmware::Uefi,
        (false, _) => Firmware::Bios,
    }
}

/// The file or the device that is in a disk.
pub(super) fn source(disk: &Element) -> Option<&str> {
    let source = disk.child("source")?;
    source.attribute("file").or_else(|| source.attribute("dev"))
}

fn disk(disk: &Element, guest: Guest) -> Option<(VmDisk, Drive)> {
    let path = source(disk)?;
    let driver = disk.child("driver");
    let said = |name| driver.and_then(|driver| driver.attribute(name));
    let bus = match disk.child("target")?.attribute("bus") {
        Some("virtio") => Bus::Virtio,
        Some("scsi") => Bus::Scsi,
        _ => Bus::Sata,
    };
    let cache = match said("cache") {
        Some("writeback" | "unsafe") => Cache::WriteBack,
        Some("writethrough" | "directsync") => Cache::WriteThrough,
        _ => Cache::None,
    };
    let format = if said("type") == Some("qcow2") { Format::Qcow2 } else { Format::Raw };
    let volume = VmDisk {
        volume: path.to_owned(),
        bus: (bus != as_needed(guest)).then_some(bus),
        cache,
        discard: said("discard") == Some("unmap"),
        limit: limit(disk),
    };
    Some((volume, Drive { path: PathBuf::from(path), format }))
}

/// How much a disk may be used, as far as there are words for it.
fn limit(disk: &Element) -> DiskLimit {
    let most = |name: &str| {
        let text = disk.child("iotune")?.child(name)?.text.trim();
        text.parse::<u64>().ok()
    };
    let number = |most: u64| u32::try_from(most).unwrap_or(u32::MAX);
    DiskLimit {
        iops: most("total_iops_sec").map(number).unwrap_or_default(),
        mib_s: most("total_bytes_sec").map(|bytes| number(bytes >> 20)).unwrap_or_default(),
    }
}

/// From what it is started first.
fn boot(os: &Element, devices: &Element) -> Boot {
    let first = os.child("boot").and_then(|boot| boot.attribute("dev"));
    let order = |device: &Element| device.child("boot")?.attribute("order")?.parse::<u32>().ok();
    let is_first = |device: &&Element| order(device) == Some(1);
    let one = devices.children.iter().find(is_first);
    match (first, one.map(|one| one.name.as_str())) {
        (Some("cdrom"), _) => Boot::Cd,
        (Some("network"), _) | (_, Some("interface")) => Boot::Network,
        (_, Some("disk")) if one.is_some_and(|one| one.attribute("device") == Some("cdrom")) => Boot::Cd,
        _ => Boot::Disk,
    }
}

/// Whether there are words for a card.
pub(super) fn is_nic(interface: &Element) -> bool {
    nic(interface, Guest::default()).is_some()
}

fn nic(interface: &Element, guest: Guest) -> Option<VmNic> {
    let is_bridged = interface.attribute("type") == Some("bridge");
    let bridge = interface.child("source")?.attribute("bridge").filter(|_| is_bridged)?;
    let mac = interface.child("mac")?.attribute("address")?;
    // One that is like none of ours is like the one that every system knows.
    let said = interface.child("model").and_then(|model| model.attribute("type"));
    let model = said.map(|said| NicModel::of(said).unwrap_or(NicModel::E1000e));
    let model = model.filter(|model| *model != card_as_needed(guest));
    Some(VmNic { bridge: bridge.to_owned(), mac: mac.to_ascii_lowercase(), model })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::check::check,
        plan::domain::{Drawn, draw},
    };

    fn any_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
        prop::sample::select(values.to_vec())
    }

    fn disk() -> impl Strategy<Value = VmDisk> {
        let limit = (any_of(&[0, 1, 500]), any_of(&[0, 1, 4000]));
        let bus = any_of(&[None, Some(Bus::Virtio), Some(Bus::Scsi), Some(Bus::Sata)]);
        let cache = any_of(&[Cache::None, Cache::WriteBack, Cache::WriteThrough]);
        (bus, cache, any::<bool>(), limit).prop_map(|(bus, cache, discard, (iops, mib_s))| VmDisk {
            volume: String::new(),
            bus,
            cache,
            discard,
            limit: DiskLimit { iops, mib_s },
        })
    }

    fn spec() -> impl Strategy<Value = VmSpec> {
        let text = ("[\\PC&&[^/]]{1,20}", "[\\PC<>&'\"]{0,20}");
        let guest = any_of(&Guest::ALL);
        let firmware = any_of(&[Firmware::Uefi, Firmware::SecureBoot, Firmware::Bios]);
        let model = any_of(&[CpuModel::HostModel, CpuModel::HostPassthrough]);
        let growing = || 0..5_u16;
        let model = prop_oneof![
            model.prop_map(|model| (model, String::new())),
            any_of(&["EPYC-Rome", "qemu64"]).prop_map(|named| (CpuModel::HostModel, named.to_owned())),
        ];
        let cpu = (1..4_u16, 1..9_u16, 1..3_u16, model, growing()).prop_map(
            |(sockets, cores, threads, (model, named), more)| VmCpu {
                sockets,
                cores,
                threads,
                model,
                named,
                most: if more > 0 && (sockets, threads) == (1, 1) { cores + more } else { 0 },
            },
        );
        let memory = (64..100_000_u64, any::<bool>(), growing()).prop_map(|(mib, balloon, more)| VmMemory {
            mib,
            balloon,
            most_mib: if more > 0 { mib + u64::from(more) * 128 } else { 0 },
        });
        let disks = prop::collection::vec(disk(), 0..5);
        let cds = prop::collection::vec(prop::option::of("/pool/[a-z]{1,5}\\.iso"), 0..3);
        let card = any_of(&[None, Some(NicModel::Virtio), Some(NicModel::E1000e)]);
        let nics = prop::collection::vec((any::<[u8; 3]>(), card), 0..4);
        let flags = (any::<[bool; 2]>(), any_of(&Boot::ALL), prop::collection::btree_set(0..0x100_u16, 0..4));
        (text, guest, firmware, cpu, memory, disks, (cds, nics), flags).prop_map(
            |(
                (name, description),
                guest,
                firmware,
                cpu,
                memory,
                disks,
                (cds, nics),
                ([tpm, watchdog], boot, pci),
            )| {
                VmSpec {
                    name: name.trim().to_owned(),
                    description,
                    guest,
                    cpu,
                    memory,
                    firmware,
                    boot,
                    tpm,
                    disks: disks
                        .into_iter()
                        .enumerate()
                        .map(|(at, disk)| VmDisk { volume: format!("/pool/{at}"), ..disk })
                        .collect(),
                    cds: cds.into_iter().map(|image| VmCd { image }).collect(),
                    nics: nics
                        .into_iter()
                        .map(|([a, b, c], model)| VmNic {
                            bridge: "br-int".into(),
                            mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
                            model,
                        })
                        .collect(),
                    pci: pci.into_iter().map(|bus| format!("0000:{bus:02x}:1f.7")).collect(),
                    watchdog,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_recognised(mut spec in spec(), is_kvm: bool, has_seed: bool) {
            prop_assume!(check(&spec).is_ok());
            // Whoever asks for what is usual anyway has asked for nothing.
            for disk in &mut spec.disks {
                disk.bus = disk.bus.filter(|bus| *bus != as_needed(spec.guest));
            }
            for nic in &mut spec.nics {
                nic.model = nic.model.filter(|model| *model != card_as_needed(spec.guest));
            }
            // What there is nothing of is not what it starts from.
            let has_first = match spec.boot {
                Boot::Disk => !spec.disks.is_empty() || spec.cds.is_empty(),
                Boot::Cd => !spec.cds.is_empty(),
                Boot::Network => !spec.nics.is_empty(),
            };
            prop_assume!(has_first);
            // What is imitated is so whatever was asked for.
            let accelerator = if is_kvm { Accelerator::Kvm } else { Accelerator::Tcg };
            if !is_kvm {
                spec.cpu.model = CpuModel::HostModel;
                spec.cpu.named = String::new();
            }
            let drives: Vec<_> =
                spec.disks.iter().map(|disk| Drive { path: PathBuf::from(&disk.volume), format: Format::Qcow2 }).collect();
            let id = VmId::new();
            let inside: Vec<_> = spec.cds.iter().map(|cd| cd.image.as_ref().map(PathBuf::from)).collect();
            let seed = has_seed.then(|| Path::new("/pool/seeds/a.img"));
            let drawn = draw(&Drawn { id, called: None, spec: &spec, drives: &drives, cds: &inside, seed, accelerator }).to_xml();
            let seen = recognise(&Element::from_xml(&drawn).unwrap());
            let others = seed.map(|_| "a disk that is only read, /pool/seeds/a.img".to_owned()).into_iter().collect();
            prop_assert_eq!(seen, Ok(Recognised { id, spec, drives, accelerator, others }));
        }
    }

    #[test]
    fn a_machine_of_others_is_recognised_as_far_as_there_are_words_for_it() {
        let foreign = "<domain type='kvm' id='4'><name>old-mail</name>
            <uuid>0190c6f4-7a10-7cc0-b2aa-0123456789ab</uuid>
            <memory unit='KiB'>4194304</memory><vcpu placement='static'>4</vcpu>
            <os><type arch='x86_64' machine='pc-i440fx-9.2'>hvm</type></os>
            <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
            <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/mail.qcow2'/>
            <target dev='hda' bus='ide'/></disk>
            <disk type='file' device='cdrom'><target dev='hdb' bus='ide'/></disk>
            <interface type='network'><mac address='52:54:00:11:22:33'/><source network='default'/></interface>
            <hostdev mode='subsystem' type='pci'/></devices></domain>";
        let seen = recognise(&Element::from_xml(foreign).unwrap()).unwrap();
        assert_eq!(seen.others, ["disk", "interface", "hostdev"]);
        assert_eq!((seen.spec.name.as_str(), seen.spec.guest), ("old-mail", Guest::Legacy));
        assert_eq!((seen.spec.memory.mib, seen.spec.cpu.count()), (4096, 4));
        assert_eq!(seen.spec.firmware, Firmware::Bios);
        assert_eq!(seen.drives, [Drive { path: "/srv/mail.qcow2".into(), format: Format::Qcow2 }]);
    }

    #[test]
    fn what_lacks_the_most_necessary_is_not() {
        for (text, missing) in [
            ("<domain/>", "uuid"),
            ("<domain><uuid>0190c6f4-7a10-7cc0-b2aa-0123456789ab</uuid></domain>", "name"),
            (
                "<domain><uuid>0190c6f4-7a10-7cc0-b2aa-0123456789ab</uuid><name>a</name><vcpu>1</vcpu>
                 <memory unit='TiB'>99999999999999</memory></domain>",
                "memory",
            ),
        ] {
            assert_eq!(recognise(&Element::from_xml(text).unwrap()), Err(Missing(missing)), "{text}");
        }
    }
}
