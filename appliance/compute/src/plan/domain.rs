//! A machine as libvirt describes it. Everything that somebody wrote becomes an attribute or a text of an element, and
//! nothing is put together from strings.

use std::path::{Path, PathBuf};

use quantix_api::{Boot, Bus, Cache, CpuModel, DiskLimit, Firmware, Guest, NicModel, VmDisk, VmNic, VmSpec};

use super::plugged::next_name;
use crate::model::{check::pci_numbers, element::Element, id::VmId};

/// Ports for what every machine has: serial lines of virtio, USB, video, random numbers, balloon, SCSI.
const OWN_PORTS: usize = 6;
/// Ports that stay free for what is plugged in while the machine runs.
const SPARE_PORTS: usize = 8;
/// Of the six devices that the chipset's own SATA controller takes, the last two are CD drives.
pub(crate) const SATA_DISKS: usize = 4;
/// So often memory can be plugged in before a machine is switched off.
const SLOTS: usize = 32;
/// The bridge on which Open vSwitch has the networks.
const INTEGRATION: &str = "br-int";
/// Where what is our own stands in a description.
const NAMESPACE: &str = "https://quantix/domain/1";

/// What runs a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// A program that imitates one.
    Tcg,
}

/// A volume as the host finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The file or device.
    pub path: PathBuf,
    /// What is in it.
    pub format: Format,
}

/// What is in a volume. It is always said, and never guessed from what a guest may have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Blocks.
    Raw,
    /// qcow2.
    Qcow2,
}

/// All that a description is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// The machine.
    pub id: VmId,
    /// What libvirt calls it already: that stays, and with it what its firmware remembers.
    pub called: Option<&'a str>,
    /// What it shall be.
    pub spec: &'a VmSpec,
    /// Where its volumes are, in the order of its disks.
    pub drives: &'a [Drive],
    /// What is in its CD drives, in their order.
    pub cds: &'a [Option<PathBuf>],
    /// The volume on which its guest finds what it is told, if it is told something.
    pub seed: Option<&'a Path>,
    /// What runs it.
    pub accelerator: Accelerator,
}

/// What a machine is called by libvirt: its name as far as files can be called so, and what makes it the only one.
pub fn domain_name(id: VmId, name: &str) -> String {
    let plain = |letter: char| {
        let is_plain = letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        if is_plain { letter } else { '-' }
    };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { format!("vm-{}", id.short()) } else { format!("{name}-{}", id.short()) }
}

/// Draws the description of a machine.
pub fn draw(drawn: &Drawn<'_>) -> Element {
    let Drawn { id, spec, .. } = *drawn;
    let kind = match drawn.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    };
    let called = drawn.called.map_or_else(|| domain_name(id, &spec.name), str::to_owned);
    let mut domain = Element::new("domain")
        .with("type", kind)
        .holding(Element::new("name").saying(called))
        .holding(Element::new("uuid").saying(id))
        .holding(Element::new("title").saying(&spec.name));
    if !spec.description.is_empty() {
        domain = domain.holding(Element::new("description").saying(&spec.description));
    }
    let ours = Element::new("quantix:vm").with("xmlns:quantix", NAMESPACE).with("guest", spec.guest.name());
    // Where there is nothing to grow to, libvirt wants to be told of none.
    let grows = spec.memory.most_mib > spec.memory.mib;
    let most =
        Element::new("maxMemory").with("slots", SLOTS).with("unit", "MiB").saying(spec.memory.most_mib);
    let vcpu = match spec.cpu.most > spec.cpu.cores {
        true => Element::new("vcpu").with("current", spec.cpu.count()).saying(spec.cpu.most),
        false => Element::new("vcpu").saying(spec.cpu.count()),
    };
    domain
        .holding(Element::new("metadata").holding(ours))
        .holding_all(grows.then_some(most))
        .holding(Element::new("memory").with("unit", "MiB").saying(spec.memory.mib))
        .holding(vcpu)
        .holding(firmware(spec))
        .holding(features(spec))
        .holding(cpu(spec, drawn.accelerator))
        .holding(clock(spec.guest))
        .holding(Element::new("on_poweroff").saying("destroy"))
        .holding(Element::new("on_reboot").saying("restart"))
        .holding(Element::new("on_crash").saying("destroy"))
        .holding(devices(drawn))
}

fn firmware(spec: &VmSpec) -> Element {
    let mut os = Element::new("os");
    if spec.firmware != Firmware::Bios {
        os = os.with("firmware", "efi");
    }
    os = os.holding(Element::new("type").with("arch", "x86_64").with("machine", "q35").saying("hvm"));
    let feature = |name: &str, is_on: bool| {
        Element::new("feature").with("enabled", if is_on { "yes" } else { "no" }).with("name", name)
    };
    let is_secure = spec.firmware == Firmware::SecureBoot;
    if spec.firmware != Firmware::Bios {
        let firmware = Element::new("firmware")
            .holding(feature("enrolled-keys", is_secure))
            .holding(feature("secure-boot", is_secure));
        os = os.holding(firmware);
    }
    os
}

fn features(spec: &VmSpec) -> Element {
    let mut features = Element::new("features").holding(Element::new("acpi")).holding(Element::new("apic"));
    if spec.firmware == Firmware::SecureBoot {
        features = features.holding(Element::new("smm").with("state", "on"));
    }
    if spec.guest == Guest::Windows {
        let on = |name: &str| Element::new(name).with("state", "on");
        let lights = ["relaxed", "vapic", "vpindex", "runtime", "synic", "stimer", "reset", "frequencies"];
        let hyperv = Element::new("hyperv")
            .with("mode", "custom")
            .holding_all(lights.map(on))
            .holding(on("spinlocks").with("retries", 8191));
        features = features.holding(hyperv);
    }
    features
}

fn cpu(spec: &VmSpec, accelerator: Accelerator) -> Element {
    let cpu = match (accelerator, spec.cpu.model) {
        // Without the processor's help there is only what QEMU can imitate.
        (Accelerator::Tcg, _) => Element::new("cpu").with("mode", "maximum"),
        (Accelerator::Kvm, _) if !spec.cpu.named.is_empty() => Element::new("cpu")
            .with("mode", "custom")
            .with("match", "exact")
            .with("check", "partial")
            .holding(Element::new("model").with("fallback", "forbid").saying(&spec.cpu.named)),
        (Accelerator::Kvm, CpuModel::HostPassthrough) => {
            Element::new("cpu").with("mode", "host-passthrough").with("migratable", "on")
        }
        (Accelerator::Kvm, CpuModel::HostModel) => {
            Element::new("cpu").with("mode", "host-model").with("check", "partial")
        }
    };
    let cores = spec.cpu.cores.max(spec.cpu.most);
    let topology = Element::new("topology")
        .with("sockets", spec.cpu.sockets)
        .with("cores", cores)
        .with("threads", spec.cpu.threads);
    // Memory that comes later belongs to a node.
    let grows = spec.memory.most_mib > spec.memory.mib;
    let node = grows.then(|| {
        let all = u32::from(spec.cpu.sockets) * u32::from(cores) * u32::from(spec.cpu.threads);
        let cell = Element::new("cell")
            .with("id", 0)
            .with("cpus", format!("0-{}", all.saturating_sub(1)))
            .with("memory", spec.memory.mib)
            .with("unit", "MiB");
        Element::new("numa").holding(cell)
    });
    cpu.holding(topology).holding_all(node)
}

/// Draws memory that is plugged into a machine that is on.
pub fn draw_memory(mib: u64) -> Element {
    let size = Element::new("size").with("unit", "MiB").saying(mib);
    let target = Element::new("target").holding(size).holding(Element::new("node").saying(0));
    Element::new("memory").with("model", "dimm").holding(target)
}

fn clock(guest: Guest) -> Element {
    let timer =
        |name: &str, key: &str, value: &str| Element::new("timer").with("name", name).with(key, value);
    let clock = Element::new("clock")
        .with("offset", if guest == Guest::Windows { "localtime" } else { "utc" })
        .holding(timer("rtc", "tickpolicy", "catchup"))
        .holding(timer("pit", "tickpolicy", "delay"))
        .holding(timer("hpet", "present", "no"));
    if guest == Guest::Windows { clock.holding(timer("hypervclock", "present", "yes")) } else { clock }
}

fn devices(drawn: &Drawn<'_>) -> Element {
    let spec = drawn.spec;
    let root = Element::new("controller").with("type", "pci").with("index", 0).with("model", "pcie-root");
    let ports = OWN_PORTS
        + SPARE_PORTS
        + spec.disks.len()
        + spec.nics.len()
        + spec.pci.len()
        + usize::from(drawn.seed.is_some());
    let ports =
        (0..ports).map(|_| Element::new("controller").with("type", "pci").with("model", "pcie-root-port"));
    let mut devices = Element::new("devices").holding(root).holding_all(ports);
    if spec.disks.iter().any(|disk| bus(disk, spec.guest) == Bus::Scsi) {
        devices =
            devices.holding(Element::new("controller").with("type", "scsi").with("model", "virtio-scsi"));
    }
    devices = devices.holding_all(disks(drawn)).holding_all(drawn.seed.map(|path| seed(path, spec.guest)));
    let cds = drawn.cds.iter().enumerate();
    devices = devices.holding_all(cds.map(|(at, inside)| cd(at, inside.as_deref(), spec)));
    devices =
        devices.holding_all(spec.nics.iter().enumerate().map(|(at, wanted)| nic(drawn.id, wanted, spec, at)));
    devices = devices.holding_all(spec.pci.iter().filter_map(|address| host_device(address)));
    let channel = Element::new("channel")
        .with("type", "unix")
        .holding(Element::new("target").with("type", "virtio").with("name", "org.qemu.guest_agent.0"));
    let random = Element::new("rng")
        .with("model", "virtio")
        .holding(Element::new("backend").with("model", "random").saying("/dev/urandom"));
    let graphics =
        Element::new("graphics").with("type", "vnc").holding(Element::new("listen").with("type", "socket"));
    let video = if spec.guest == Guest::Legacy { "vga" } else { "virtio" };
    devices = devices
        .holding(Element::new("serial").with("type", "pty"))
        .holding(Element::new("console").with("type", "pty"))
        .holding(channel)
        .holding(Element::new("input").with("type", "tablet").with("bus", "usb"))
        .holding(graphics)
        .holding(Element::new("video").holding(Element::new("model").with("type", video)))
        .holding(random);
    // The chipset has one in any case; libvirt would let it reset the machine.
    let bites = if spec.watchdog { "reset" } else { "none" };
    let watchdog = Element::new("watchdog").with("model", "itco").with("action", bites);
    let mut devices = devices.holding(watchdog);
    if spec.tpm {
        let backend = Element::new("backend").with("type", "emulator").with("version", "2.0");
        devices = devices.holding(Element::new("tpm").with("model", "tpm-crb").holding(backend));
    }
    let model = if spec.memory.balloon { "virtio" } else { "none" };
    let mut balloon = Element::new("memballoon").with("model", model);
    if spec.memory.balloon {
        balloon = balloon.with("freePageReporting", "on");
        // How often a guest that has a driver for it tells what it does with its memory, in seconds.
        balloon = balloon.holding(Element::new("stats").with("period", "5"));
    }
    devices.holding(balloon)
}

fn disks(drawn: &Drawn<'_>) -> Vec<Element> {
    let mut letters = Letters::default();
    let disks = drawn.spec.disks.iter().zip(drawn.drives).enumerate();
    disks.map(|(at, (wanted, drive))| disk(wanted, drive, drawn.spec, at, &mut letters)).collect()
}

/// Draws one disk for a machine that is on, if disks of its kind can be plugged in then: what they are plugged into must be
/// there already. `domain` is what it is just now.
pub fn draw_plugged(drawn: &Drawn<'_>, at: usize, domain: &Element) -> Option<Element> {
    let guest = drawn.spec.guest;
    let wanted = bus(drawn.spec.disks.get(at)?, guest);
    let can_be = match wanted {
        Bus::Virtio => true,
        Bus::Scsi => drawn.spec.disks.iter().take(at).any(|disk| bus(disk, guest) == Bus::Scsi),
        Bus::Sata => false,
    };
    let mut device = can_be.then(|| disks(drawn).into_iter().nth(at))??;
    // In what order it is started from counts when it is started.
    device.children.retain(|child| child.name != "boot");
    let name = next_name(domain, wanted)?;
    for target in device.children.iter_mut().filter(|child| child.name == "target") {
        *target = Element::new("target").with("dev", &name).with("bus", bus_name(wanted));
    }
    Some(device)
}

/// Draws a CD drive, with what shall be in it.
pub fn draw_cd(drawn: &Drawn<'_>, at: usize) -> Element {
    let inside = drawn.cds.get(at).and_then(Option::as_deref);
    cd(at, inside, drawn.spec)
}

/// Draws a network card.
pub fn draw_nic(drawn: &Drawn<'_>, wanted: &VmNic) -> Element {
    // Those there are keep their places; one that is new has the next.
    let at = drawn.spec.nics.iter().position(|other| other.mac.eq_ignore_ascii_case(&wanted.mac));
    nic(drawn.id, wanted, drawn.spec, at.unwrap_or(drawn.spec.nics.len()))
}

pub(crate) fn bus(disk: &VmDisk, guest: Guest) -> Bus {
    disk.bus.unwrap_or(as_needed(guest))
}

/// How a guest needs its disks to be attached.
pub(super) fn as_needed(guest: Guest) -> Bus {
    match guest {
        Guest::Linux => Bus::Virtio,
        Guest::Windows | Guest::Legacy => Bus::Sata,
    }
}

/// How a guest needs its network cards to be.
pub(super) fn card_as_needed(guest: Guest) -> NicModel {
    match guest {
        Guest::Linux | Guest::Windows => NicModel::Virtio,
        Guest::Legacy => NicModel::E1000e,
    }
}

/// Names of disks: those of one bus count together.
#[derive(Debug, Default)]
struct Letters {
    virtio: u8,
    others: u8,
}

impl Letters {
    fn next(&mut self, bus: Bus) -> String {
        let count = match bus {
            Bus::Virtio => &mut self.virtio,
            Bus::Scsi | Bus::Sata => &mut self.others,
        };
        let letter = char::from(b'a' + *count % 26);
        *count += 1;
        format!("{}{letter}", prefix(bus))
    }
}

pub(super) fn prefix(bus: Bus) -> &'static str {
    match bus {
        Bus::Virtio => "vd",
        Bus::Scsi | Bus::Sata => "sd",
    }
}

fn bus_name(bus: Bus) -> &'static str {
    match bus {
        Bus::Virtio => "virtio",
        Bus::Scsi => "scsi",
        Bus::Sata => "sata",
    }
}

/// The places of a machine's disks, CDs and cards when it is started: those of the first of each, if they have any.
struct Order {
    disks: usize,
    cds: usize,
    nics: Option<usize>,
}

fn order(spec: &VmSpec) -> Order {
    let (disks, cds, nics) = (spec.disks.len(), spec.cds.len(), spec.nics.len());
    match spec.boot {
        Boot::Disk => Order { disks: 1, cds: disks + 1, nics: None },
        Boot::Cd => Order { disks: cds + 1, cds: 1, nics: None },
        Boot::Network => Order { disks: nics + 1, cds: nics + disks + 1, nics: Some(1) },
    }
}

/// How much a disk may be used, if that is limited.
fn limits(limit: DiskLimit) -> Option<Element> {
    let bytes = u64::from(limit.mib_s) << 20;
    let of = |name: &str, most: u64| (most > 0).then(|| Element::new(name).saying(most));
    (limit != DiskLimit::default()).then(|| {
        Element::new("iotune")
            .holding_all(of("total_bytes_sec", bytes))
            .holding_all(of("total_iops_sec", limit.iops.into()))
    })
}

fn disk(wanted: &VmDisk, drive: &Drive, spec: &VmSpec, at: usize, letters: &mut Letters) -> Element {
    let bus = bus(wanted, spec.guest);
    let format = match drive.format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
    };
    let cache = match wanted.cache {
        Cache::None => "none",
        Cache::WriteBack => "writeback",
        Cache::WriteThrough => "writethrough",
    };
    let driver = Element::new("driver")
        .with("name", "qemu")
        .with("type", format)
        .with("cache", cache)
        .with("discard", if wanted.discard { "unmap" } else { "ignore" });
    let path = drive.path.to_string_lossy();
    let is_device = drive.path.starts_with("/dev");
    let source = Element::new("source").with(if is_device { "dev" } else { "file" }, &path);
    Element::new("disk")
        .with("type", if is_device { "block" } else { "file" })
        .with("device", "disk")
        .holding(driver)
        .holding(source)
        .holding(Element::new("target").with("dev", letters.next(bus)).with("bus", bus_name(bus)))
        .holding_all(limits(wanted.limit))
        .holding(Element::new("boot").with("order", order(spec).disks + at))
}

/// A CD drive, at the last places of the chipset's own SATA controller.
fn cd(at: usize, inside: Option<&Path>, spec: &VmSpec) -> Element {
    let mut drive = Element::new("disk")
        .with("type", "file")
        .with("device", "cdrom")
        .holding(Element::new("driver").with("name", "qemu").with("type", "raw"));
    if let Some(path) = inside {
        drive = drive.holding(Element::new("source").with("file", path.to_string_lossy()));
    }
    let place = Element::new("address")
        .with("type", "drive")
        .with("controller", 0)
        .with("bus", 0)
        .with("target", 0)
        .with("unit", SATA_DISKS + at);
    drive
        .holding(Element::new("target").with("dev", ["sdx", "sdy"][at.min(1)]).with("bus", "sata"))
        .holding(Element::new("readonly"))
        .holding(Element::new("boot").with("order", order(spec).cds + at))
        .holding(place)
}

/// The volume on which a guest finds what it is told, behind all names that disks can have. It has sectors of 512 bytes, and
/// is a disk since CDs have others.
fn seed(path: &Path, guest: Guest) -> Element {
    let (name, bus) = match guest {
        Guest::Linux => ("vdz", "virtio"),
        Guest::Windows | Guest::Legacy => ("sdz", "usb"),
    };
    Element::new("disk")
        .with("type", "file")
        .with("device", "disk")
        .holding(Element::new("driver").with("name", "qemu").with("type", "raw"))
        .holding(Element::new("source").with("file", path.to_string_lossy()))
        .holding(Element::new("target").with("dev", name).with("bus", bus))
        .holding(Element::new("readonly"))
}

/// A card on the integration bridge is known to the networks by an id of its own; any other bridge is one of the kernel's.
fn nic(id: VmId, wanted: &VmNic, spec: &VmSpec, at: usize) -> Element {
    let model = wanted.model.unwrap_or(card_as_needed(spec.guest)).name();
    let place = order(spec).nics.map(|first| Element::new("boot").with("order", first + at));
    let mac = wanted.mac.to_ascii_lowercase();
    let known = (wanted.bridge == INTEGRATION).then(|| {
        let parameters = Element::new("parameters").with("interfaceid", id.interface(&mac));
        Element::new("virtualport").with("type", "openvswitch").holding(parameters)
    });
    Element::new("interface")
        .with("type", "bridge")
        .holding(Element::new("mac").with("address", mac))
        .holding(Element::new("source").with("bridge", &wanted.bridge))
        .holding_all(known)
        .holding(Element::new("model").with("type", model))
        .holding_all(place)
}

/// A device of the host. libvirt takes it from its driver when the machine starts, and gives it back.
fn host_device(address: &str) -> Option<Element> {
    let [domain, bus, slot, function] = pci_numbers(address)?;
    let place = Element::new("address")
        .with("domain", format!("{domain:#06x}"))
        .with("bus", format!("{bus:#04x}"))
        .with("slot", format!("{slot:#04x}"))
        .with("function", format!("{function:#x}"));
    let device = Element::new("hostdev").with("mode", "subsystem").with("type", "pci").with("managed", "yes");
    Some(device.holding(Element::new("source").holding(place)))
}

#[cfg(test)]
pub(crate) mod tests {
    use quantix_api::VmCd;

    use super::*;

    /// A machine of which everything but the name is left out.
    pub(crate) fn spec(name: &str) -> VmSpec {
        VmSpec {
            name: name.into(),
            description: String::new(),
            guest: Guest::default(),
            cpu: Default::default(),
            memory: Default::default(),
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

    fn id() -> VmId {
        "0190c6f4-7a10-7cc0-b2aa-0123456789ab".parse().unwrap()
    }

    fn drawn(spec: &VmSpec, accelerator: Accelerator) -> String {
        let drive = |at: usize| Drive {
            path: format!("/var/lib/quantix/pools/local/{at}").into(),
            format: Format::Qcow2,
        };
        let drives: Vec<_> = (0..spec.disks.len()).map(drive).collect();
        let seed = (!spec.nics.is_empty()).then(|| Path::new("/var/lib/quantix/pools/local/seeds/1.img"));
        let cd = |cd: &VmCd| {
            cd.image.as_ref().map(|image| format!("/var/lib/quantix/pools/local/{image}.iso").into())
        };
        let cds: Vec<Option<PathBuf>> = spec.cds.iter().map(cd).collect();
        draw(&Drawn { id: id(), called: None, spec, drives: &drives, cds: &cds, seed, accelerator }).to_xml()
    }

    fn volume(name: &str) -> VmDisk {
        VmDisk::usual(name)
    }

    #[test]
    fn a_linux_machine() {
        let mut spec = spec("web-01");
        spec.description = "The shop\nand its <basket>".into();
        spec.disks = vec![volume("root"), volume("data")];
        spec.nics = vec![VmNic { bridge: "br-int".into(), mac: "52:54:00:AB:00:01".into(), model: None }];
        spec.pci = vec!["0000:65:00.1".into()];
        spec.watchdog = true;
        insta::assert_snapshot!(drawn(&spec, Accelerator::Kvm));
    }

    #[test]
    fn a_windows_machine() {
        let mut spec = spec("dc");
        spec.guest = Guest::Windows;
        spec.firmware = Firmware::SecureBoot;
        spec.tpm = true;
        spec.disks = vec![volume("root")];
        spec.cds = vec![VmCd { image: Some("installer".into()) }, VmCd { image: None }];
        insta::assert_snapshot!(drawn(&spec, Accelerator::Kvm));
    }

    #[test]
    fn a_legacy_machine_that_is_imitated() {
        let mut spec = spec("old");
        spec.guest = Guest::Legacy;
        spec.firmware = Firmware::Bios;
        spec.memory.balloon = false;
        spec.disks = vec![volume("root"), VmDisk { bus: Some(Bus::Scsi), ..volume("more") }];
        spec.nics = vec![VmNic { bridge: "br0".into(), mac: "52:54:00:00:00:01".into(), model: None }];
        insta::assert_snapshot!(drawn(&spec, Accelerator::Tcg));
    }

    #[test]
    fn libvirt_calls_a_machine_as_people_do_as_far_as_files_can_be_called_so() {
        let named = |name: &str| domain_name(id(), name);
        assert_eq!(named("web-01"), "web-01-456789ab");
        assert_eq!(named("../../etc/passwd"), "etc-passwd-456789ab");
        assert_eq!(named("Rack 4: web"), "Rack-4--web-456789ab");
        assert_eq!(named("日本語"), "vm-456789ab");
    }
}
