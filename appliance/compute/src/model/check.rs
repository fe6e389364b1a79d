//! What a virtual machine may be. The API, the pages and the command line are told the same sentences.

use quantix_api::{Bus, Firmware, Guest, VmSpec, text::is_line};

use crate::plan::domain::{SATA_DISKS, bus};

const LONGEST_NAME: usize = 63;
const LONGEST_DESCRIPTION: usize = 1000;
const MOST_CPUS: u32 = 512;
const LEAST_MIB: u64 = 64;
const MOST_MIB: u64 = 8 * 1024 * 1024;
/// As many as there are slots for hot-plug, and letters for disks.
const MOST_DISKS: usize = 24;
const MOST_CDS: usize = 2;
const LONGEST_MODEL: usize = 64;
const MOST_IOPS: u32 = 10_000_000;
const MOST_MIB_S: u32 = 1_000_000;
const MOST_NICS: usize = 16;
const MOST_PCI: usize = 8;
/// The longest name Linux gives a network device.
const LONGEST_BRIDGE: usize = 15;

/// Why a machine cannot be like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Flaw {
    /// Where, as the API writes it.
    pub field: String,
    /// What is wrong, and what would be right.
    pub sentence: String,
}

fn flaw(field: impl Into<String>, sentence: impl Into<String>) -> Result<(), Flaw> {
    Err(Flaw { field: field.into(), sentence: sentence.into() })
}

/// Whether a machine can be like this. What depends on others, whether a volume is there for instance, is not seen here.
pub fn check(spec: &VmSpec) -> Result<(), Flaw> {
    check_name(&spec.name)?;
    if spec.description.chars().count() > LONGEST_DESCRIPTION
        || !spec.description.split('\n').all(|line| is_line(line, LONGEST_DESCRIPTION))
    {
        return flaw(
            "description",
            format!("A description is plain text of at most {LONGEST_DESCRIPTION} characters."),
        );
    }
    let cpu = &spec.cpu;
    for (field, number) in
        [("cpu.sockets", cpu.sockets), ("cpu.cores", cpu.cores), ("cpu.threads", cpu.threads)]
    {
        if number == 0 {
            return flaw(field, "There is at least one.");
        }
    }
    if cpu.count() > MOST_CPUS {
        return flaw("cpu", format!("{} processors are too many; at most {MOST_CPUS} can be.", cpu.count()));
    }
    if cpu.named.len() > LONGEST_MODEL || !cpu.named.bytes().all(is_plain) {
        return flaw(
            "cpu.named",
            "A processor is called by its name in libvirt, such as EPYC-Rome or Skylake-Server.",
        );
    }
    if cpu.most > 0 {
        if cpu.sockets > 1 || cpu.threads > 1 {
            return flaw("cpu.most", "Only the cores of one socket can grow while the machine is on.");
        }
        if cpu.most < cpu.cores || u32::from(cpu.most) > MOST_CPUS {
            let sentence = format!("It can grow to no less than it has, and to {MOST_CPUS} at most.");
            return flaw("cpu.most", sentence);
        }
    }
    if spec.memory.most_mib > 0 && !(spec.memory.mib..=MOST_MIB).contains(&spec.memory.most_mib) {
        let sentence =
            format!("It can grow to no less than it has, and to {} TiB at most.", MOST_MIB / 1024 / 1024);
        return flaw("memory.most_mib", sentence);
    }
    if !(LEAST_MIB..=MOST_MIB).contains(&spec.memory.mib) {
        return flaw(
            "memory.mib",
            format!("Memory is between {LEAST_MIB} MiB and {} TiB.", MOST_MIB / 1024 / 1024),
        );
    }
    if spec.firmware == Firmware::SecureBoot && spec.guest == Guest::Legacy {
        return flaw("firmware", "A legacy guest knows no Secure Boot. Choose UEFI or BIOS.");
    }
    check_disks(spec)?;
    check_cds(spec)?;
    check_nics(spec)?;
    check_pci(spec)
}

/// What names of bridges and processors consist of.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn check_name(name: &str) -> Result<(), Flaw> {
    if name.trim().is_empty() {
        return flaw("name", "A machine needs a name.");
    }
    if name.trim() != name || !is_line(name, LONGEST_NAME) || name.contains('/') {
        return flaw(
            "name",
            format!(
                "A name is one line of at most {LONGEST_NAME} characters, without / and without spaces around it."
            ),
        );
    }
    Ok(())
}

fn check_disks(spec: &VmSpec) -> Result<(), Flaw> {
    if spec.disks.len() > MOST_DISKS {
        return flaw("disks", format!("At most {MOST_DISKS} disks can be attached."));
    }
    for (at, disk) in spec.disks.iter().enumerate() {
        if spec.disks[..at].iter().any(|other| other.volume == disk.volume) {
            return flaw(format!("disks.{at}.volume"), "This volume is attached already; each can be once.");
        }
        if disk.limit.iops > MOST_IOPS || disk.limit.mib_s > MOST_MIB_S {
            let sentence =
                format!("A limit is at most {MOST_IOPS} times and {MOST_MIB_S} MiB a second; 0 is for none.");
            return flaw(format!("disks.{at}.limit"), sentence);
        }
    }
    Ok(())
}

fn check_cds(spec: &VmSpec) -> Result<(), Flaw> {
    if spec.cds.len() > MOST_CDS {
        return flaw("cds", format!("At most {MOST_CDS} CD drives can be."));
    }
    // Their letters count together, and decide on where those of SATA are.
    let letters = spec.disks.iter().filter(|disk| bus(disk, spec.guest) != Bus::Virtio).count();
    let has_sata = spec.disks.iter().any(|disk| bus(disk, spec.guest) == Bus::Sata);
    if !spec.cds.is_empty() && has_sata && letters > SATA_DISKS {
        let sentence = format!("A machine with CD drives has at most {SATA_DISKS} disks by SATA and SCSI.");
        return flaw("cds", sentence);
    }
    Ok(())
}

fn check_nics(spec: &VmSpec) -> Result<(), Flaw> {
    if spec.nics.len() > MOST_NICS {
        return flaw("nics", format!("At most {MOST_NICS} network cards can be."));
    }
    for (at, nic) in spec.nics.iter().enumerate() {
        if nic.bridge.is_empty()
            || nic.bridge.len() > LONGEST_BRIDGE
            || nic.bridge.starts_with('.')
            || !nic.bridge.bytes().all(is_plain)
        {
            return flaw(
                format!("nics.{at}.bridge"),
                format!("A bridge has a name of at most {LONGEST_BRIDGE} letters, digits, dots and dashes."),
            );
        }
        if !is_mac(&nic.mac) {
            return flaw(
                format!("nics.{at}.mac"),
                "An address is six pairs like 52:54:00:12:34:56, and not one of a group.",
            );
        }
        if spec.nics[..at].iter().any(|other| other.mac.eq_ignore_ascii_case(&nic.mac)) {
            return flaw(format!("nics.{at}.mac"), "Another card of this machine has this address.");
        }
    }
    Ok(())
}

fn check_pci(spec: &VmSpec) -> Result<(), Flaw> {
    if spec.pci.len() > MOST_PCI {
        return flaw("pci", format!("At most {MOST_PCI} devices of its host can be."));
    }
    for (at, address) in spec.pci.iter().enumerate() {
        if pci_numbers(address).is_none() {
            return flaw(
                format!("pci.{at}"),
                "A device has an address like 0000:65:00.0, as its host's page shows it.",
            );
        }
        if spec.pci[..at].contains(address) {
            return flaw(format!("pci.{at}"), "This machine has this device already; each can be once.");
        }
    }
    Ok(())
}

/// Domain, bus, slot and function of an address as the kernel writes it.
pub(crate) fn pci_numbers(address: &str) -> Option<[u16; 4]> {
    let (domain, rest) = address.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    let number = |text: &str, digits: usize, most: u16| {
        let is_one =
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u16::from_str_radix(text, 16).ok().filter(|number| is_one && *number <= most)
    };
    Some([
        number(domain, 4, u16::MAX)?,
        number(bus, 2, 0xff)?,
        number(slot, 2, 0x1f)?,
        number(function, 1, 7)?,
    ])
}

/// Whether it is the address of one card: a group's has the lowest bit of its first byte set.
pub(crate) fn is_mac(text: &str) -> bool {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|pair| {
            let is_pair = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_pair.then(|| u8::from_str_radix(pair, 16).ok())?
        })
        .collect();
    bytes.is_some_and(|bytes| bytes.len() == 6 && bytes[0] & 1 == 0 && bytes.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use quantix_api::{DiskLimit, VmDisk, VmNic};

    use super::*;
    use crate::plan::domain::tests::spec;

    fn field(change: impl FnOnce(&mut VmSpec)) -> Option<String> {
        let mut spec = spec("web-01");
        change(&mut spec);
        check(&spec).err().map(|flaw| flaw.field)
    }

    #[test]
    fn a_machine_is_told_what_it_cannot_be() {
        assert_eq!(field(|_| {}), None);
        for name in ["", " ", " a", "a/b", "a\nb", "\u{202e}exe", &"a".repeat(64)] {
            assert_eq!(field(|spec| spec.name = name.into()).as_deref(), Some("name"), "{name:?}");
        }
        for name in ["Rack 4: web", "שלום", "<img src=x onerror=alert(1)>", &"ä".repeat(63)] {
            assert_eq!(field(|spec| spec.name = name.into()), None, "{name:?}");
        }
        assert_eq!(field(|spec| spec.description = "one\ntwo".into()), None);
        assert_eq!(field(|spec| spec.description = "a\u{1b}[2J".into()).as_deref(), Some("description"));
        assert_eq!(field(|spec| spec.cpu.cores = 0).as_deref(), Some("cpu.cores"));
        assert_eq!(field(|spec| spec.cpu.cores = u16::MAX).as_deref(), Some("cpu"));
        assert_eq!(field(|spec| (spec.cpu.sockets, spec.cpu.most) = (2, 8)).as_deref(), Some("cpu.most"));
        assert_eq!(field(|spec| (spec.cpu.cores, spec.cpu.most) = (4, 2)).as_deref(), Some("cpu.most"));
        for named in ["EPYC Rome", "<model/>", &"x".repeat(65)] {
            assert_eq!(field(|spec| spec.cpu.named = named.into()).as_deref(), Some("cpu.named"), "{named}");
        }
        assert_eq!(field(|spec| spec.cpu.named = "Skylake-Server-v4".into()), None);
        for address in
            ["65:00.0", "0000:65:00.8", "0000:65:20.0", "0000:65:00.0\n", "0000:6A:00.0", "+000:65:00.0"]
        {
            assert_eq!(field(|spec| spec.pci = vec![address.into()]).as_deref(), Some("pci.0"), "{address}");
        }
        let device = || "0000:65:1f.7".to_owned();
        assert_eq!(field(|spec| spec.pci = vec![device()]), None);
        assert_eq!(field(|spec| spec.pci = vec![device(), device()]).as_deref(), Some("pci.1"));
        let many = |count: usize| (0..count).map(|bus| format!("0000:{bus:02x}:00.0")).collect();
        assert_eq!(field(|spec| spec.pci = many(MOST_PCI)), None);
        assert_eq!(field(|spec| spec.pci = many(MOST_PCI + 1)).as_deref(), Some("pci"));
        let limited = |iops, mib_s| {
            field(move |spec| {
                let limit = DiskLimit { iops, mib_s };
                spec.disks = vec![VmDisk {
                    volume: "a".into(),
                    bus: None,
                    cache: Default::default(),
                    discard: true,
                    limit,
                }];
            })
        };
        assert_eq!(limited(10_000_000, 1_000_000), None);
        assert_eq!(limited(10_000_001, 0).as_deref(), Some("disks.0.limit"));
        assert_eq!(limited(0, u32::MAX).as_deref(), Some("disks.0.limit"));
        assert_eq!(field(|spec| spec.memory.most_mib = 100).as_deref(), Some("memory.most_mib"));
        assert_eq!(field(|spec| spec.memory.mib = 63).as_deref(), Some("memory.mib"));
        assert_eq!(field(|spec| spec.memory.mib = u64::MAX).as_deref(), Some("memory.mib"));
        let twice = |spec: &mut VmSpec| {
            let disk = VmDisk::usual("a");
            spec.disks = vec![disk.clone(), disk];
        };
        assert_eq!(field(twice).as_deref(), Some("disks.1.volume"));
    }

    #[test]
    fn a_network_card_has_an_address_of_its_own_and_a_bridge() {
        let nic = |bridge: &str, mac: &str| VmNic { bridge: bridge.into(), mac: mac.into(), model: None };
        let with = |nics: Vec<VmNic>| field(|spec| spec.nics = nics);
        assert_eq!(with(vec![nic("br-int", "52:54:00:00:00:01")]), None);
        for bridge in ["", "..", "a/b", "a b", "sixteen-letters-"] {
            let found = with(vec![nic(bridge, "52:54:00:00:00:01")]);
            assert_eq!(found.as_deref(), Some("nics.0.bridge"), "{bridge}");
        }
        for mac in [
            "",
            "52:54:00:00:00",
            "53:54:00:00:00:01",
            "00:00:00:00:00:00",
            "52:54:00:00:00:+1",
            "5254.0000.0001",
        ] {
            assert_eq!(with(vec![nic("br-int", mac)]).as_deref(), Some("nics.0.mac"), "{mac}");
        }
        let twice = vec![nic("br-int", "52:54:00:00:00:aa"), nic("br-int", "52:54:00:00:00:AA")];
        assert_eq!(with(twice).as_deref(), Some("nics.1.mac"));
    }
}
