//! What a machine that is on consists of, as far as that can change while it is on. Somebody on the host may have given it
//! something, or taken something from it.

use std::path::{Path, PathBuf};

use quantix_api::{VmNic, VmSpec};

use super::{
    plugged,
    recognise::{Recognised, is_known, recognise},
};
use crate::model::element::Element;

/// Devices that are counted otherwise, or do not matter.
const NO_OTHERS: &[&str] = &["memory", "interface", "sound", "redirdev", "hub", "panic", "iommu"];

/// What can change of a machine while it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    processors: u16,
    mib: u64,
    /// Where its disks are.
    disks: Vec<PathBuf>,
    /// What is in its CD drives.
    cds: Vec<Option<PathBuf>>,
    nics: Vec<VmNic>,
    /// Cards that are on no bridge, as those of a machine that was taken over may be until it is off.
    foreign_nics: Vec<String>,
    pci: Vec<String>,
    /// What there are no words for here: kinds of devices, as libvirt calls them.
    others: Vec<String>,
}

/// What a device is, so that it is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Device<'a> {
    Disk(&'a Path),
    Nic(&'a str),
    Pci(&'a str),
    Other(&'a str),
}

impl Runs {
    /// What a description says of it: of one that is on, or of one that shall be.
    pub fn of(domain: &Element) -> Option<Self> {
        let Recognised { spec, drives, others, .. } = recognise(domain).ok()?;
        // Memory that was plugged in counts as memory, and a card as a card, whatever it is plugged into.
        let is_other = |other: &String| !other.contains(' ') && !NO_OTHERS.contains(&other.as_str());
        let others = others.into_iter().filter(is_other).collect();
        let mut foreign_nics = plugged::cards(domain);
        foreign_nics.retain(|mac| spec.nics.iter().all(|nic| nic.mac != *mac));
        let vcpu = domain.child("vcpu")?;
        let processors = vcpu.attribute("current").unwrap_or(vcpu.text.trim()).parse().ok()?;
        Some(Self {
            processors,
            mib: spec.memory.mib,
            disks: drives.into_iter().map(|drive| drive.path).collect(),
            cds: spec.cds.into_iter().map(|cd| cd.image.map(PathBuf::from)).collect(),
            nics: spec.nics,
            foreign_nics,
            pci: spec.pci,
            others,
        })
    }

    /// Where its disks are.
    pub fn disks(&self) -> &[PathBuf] {
        &self.disks
    }

    /// The same with a disk called by another name of its file.
    #[must_use]
    pub fn with_disks(self, disks: Vec<PathBuf>) -> Self {
        Self { disks, ..self }
    }

    fn devices(&self) -> Vec<Device<'_>> {
        let disks = self.disks.iter().map(|path| Device::Disk(path));
        let nics = self.nics.iter().map(|nic| &nic.mac).chain(&self.foreign_nics).map(|mac| Device::Nic(mac));
        let pci = self.pci.iter().map(|address| Device::Pci(address));
        let others = self.others.iter().map(|kind| Device::Other(kind));
        disks.chain(nics).chain(pci).chain(others).collect()
    }

    fn nic(&self, mac: &str) -> Option<&VmNic> {
        self.nics.iter().find(|nic| nic.mac == mac)
    }

    /// Whether it has more processors, or fewer, than it is known to have and shall have.
    pub fn has_other_processors(&self, known: &Self, shall: &Self) -> bool {
        ![known.processors, shall.processors].contains(&self.processors)
    }

    /// What it has that it is neither known to have nor shall have, and the other way round, in sentences. What is on its way
    /// from the one to the other is neither.
    pub fn strays(&self, known: &Self, shall: &Self) -> Vec<String> {
        let mut all = Vec::new();
        if self.has_other_processors(known, shall) {
            let (has, known) = (self.processors, known.processors);
            let processors = if has == 1 { "processor" } else { "processors" };
            all.push(format!("While it is on it has {has} {processors}, and not {known}."));
        }
        if self.has_other_memory(known, shall) {
            let (has, known) = (self.mib, known.mib);
            all.push(format!("While it is on it has {has} MiB of memory, and not {known}."));
        }
        let (known_devices, wanted) = (known.devices(), shall.devices());
        let called = |device: &Device<'_>| match device {
            Device::Disk(path) => format!("the disk {}", path.display()),
            Device::Nic(mac) => format!("the network card {mac}"),
            Device::Pci(address) => format!("the device {address}"),
            Device::Other(kind) => format!("a device of the kind {kind}"),
        };
        for device in self.extra(known, shall) {
            all.push(format!("While it is on it has {}, and here it has not.", called(&device)));
        }
        let there = self.devices();
        for device in known_devices {
            if wanted.contains(&device) && !there.contains(&device) {
                all.push(format!("While it is on it has lost {}.", called(&device)));
            }
        }
        for (nic, was) in self.moved(known, shall) {
            let (mac, is) = (&nic.mac, &nic.bridge);
            all.push(format!("While it is on its network card {mac} is on {is}, and not on {was}."));
        }
        for at in self.other_cds(known, shall) {
            let inside = self.cds[at].as_deref().unwrap_or(Path::new("")).display();
            all.push(format!("While it is on {inside} is in its CD drive {}.", at + 1));
        }
        all
    }

    fn extra(&self, known: &Self, shall: &Self) -> Vec<Device<'_>> {
        let (known, shall) = (known.devices(), shall.devices());
        let has = self.devices().into_iter();
        has.filter(|device| !known.contains(device) && !shall.contains(device)).collect()
    }

    /// The CD drives in which there is something else. A guest may take out what is in them.
    pub fn other_cds(&self, known: &Self, shall: &Self) -> Vec<usize> {
        let inside = |runs: &Self, at: usize| runs.cds.get(at).cloned().flatten();
        let is_other = |at: &usize| {
            let is = inside(self, *at);
            is.is_some() && is != inside(known, *at) && is != inside(shall, *at)
        };
        (0..self.cds.len()).filter(is_other).collect()
    }

    /// The devices in its description for which there is no place here. A network card on a bridge has one.
    pub fn spare<'a>(&self, domain: &'a Element, known: &Self, shall: &Self) -> Vec<&'a Element> {
        let extra = self.extra(known, shall);
        let is_spare = |device: &&Element| match plugged::source(device) {
            Some(path) if device.name == "disk" => extra.contains(&Device::Disk(&path)),
            _ if device.name == "interface" => {
                let mac = device.child("mac").and_then(|mac| mac.attribute("address")).unwrap_or_default();
                self.foreign_nics.iter().any(|nic| nic.eq_ignore_ascii_case(mac))
                    && extra.contains(&Device::Nic(&mac.to_ascii_lowercase()))
            }
            _ => !is_known(device) && extra.contains(&Device::Other(&device.name)),
        };
        domain.child("devices").into_iter().flat_map(|devices| &devices.children).filter(is_spare).collect()
    }

    /// A machine as somebody made it while it is on: `spec`, with what strays from both that is known and that shall be. What else
    /// is another thing in `spec`, as what waits for its next start, stays so. `drawn` is what `spec` says.
    pub fn as_it_runs(&self, spec: &VmSpec, drawn: &Self, [known, shall]: [&Self; 2]) -> VmSpec {
        let mut spec = spec.clone();
        if self.has_other_processors(known, shall) && (spec.cpu.sockets, spec.cpu.threads) == (1, 1) {
            spec.cpu.cores = self.processors;
        }
        if self.has_other_memory(known, shall) {
            spec.memory.mib = self.mib;
        }
        let (had, there) = (known.devices(), self.devices());
        let is_lost = |device: &Device<'_>| had.contains(device) && !there.contains(device);
        let mut paths = drawn.disks.iter();
        spec.disks.retain(|_| paths.next().is_none_or(|path| !is_lost(&Device::Disk(path))));
        spec.pci.retain(|address| !is_lost(&Device::Pci(address)));
        spec.nics.retain(|nic| !is_lost(&Device::Nic(&nic.mac.to_ascii_lowercase())));
        for (nic, _) in self.moved(known, shall) {
            let same = spec.nics.iter_mut().find(|same| same.mac.eq_ignore_ascii_case(&nic.mac));
            same.into_iter().for_each(|same| same.bridge.clone_from(&nic.bridge));
        }
        for device in self.extra(known, shall) {
            if let Device::Nic(mac) = device {
                spec.nics.extend(self.nic(mac).cloned());
            }
        }
        spec
    }

    fn has_other_memory(&self, known: &Self, shall: &Self) -> bool {
        ![known.mib, shall.mib].contains(&self.mib)
    }

    /// The cards that are on another bridge than they are known to be and shall be, and on which they are known to be.
    fn moved<'a>(&'a self, known: &'a Self, shall: &'a Self) -> Vec<(&'a VmNic, &'a str)> {
        let bridge_in = |runs: &'a Self, nic: &VmNic| runs.nic(&nic.mac).map(|nic| nic.bridge.as_str());
        let is_moved = |nic: &'a VmNic| {
            let was = bridge_in(known, nic)?;
            (was != nic.bridge && bridge_in(shall, nic) != Some(&nic.bridge)).then_some((nic, was))
        };
        self.nics.iter().filter_map(is_moved).collect()
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::{VmCd, VmDisk};

    use super::*;
    use crate::plan::domain::{Accelerator, Drawn, Drive, Format, draw, tests::spec};

    fn drawn(spec: &VmSpec) -> Element {
        let drives = ["/p/a", "/p/b"].map(|path| Drive { path: path.into(), format: Format::Qcow2 });
        let id = crate::model::id::VmId::new();
        draw(&Drawn {
            id,
            called: None,
            spec,
            drives: &drives[..spec.disks.len()],
            cds: &[],
            seed: Some(Path::new("/p/seed")),
            accelerator: Accelerator::Tcg,
        })
    }

    fn with(domain: &Element, more: &str) -> Element {
        let text = domain.to_xml().replace("</devices>", &format!("{more}</devices>"));
        Element::from_xml(&text).unwrap()
    }

    const CARD: &str = "<interface type='bridge'><mac address='52:54:00:00:00:07'/><source bridge='br-one'/>
        <model type='virtio'/></interface>";
    const DISK: &str = "<disk type='file' device='disk'><source file='/etc/shadow'/>
        <target dev='vdc' bus='virtio'/></disk>";
    const STICK: &str = "<hostdev mode='subsystem' type='usb'><source/></hostdev>";

    #[test]
    fn what_somebody_gave_it_is_named_and_what_is_on_its_way_is_not() {
        let ours = VmSpec { cds: vec![VmCd { image: None }], ..spec("web-01") };
        let is = drawn(&ours);
        let known = Runs::of(&is).unwrap();
        assert_eq!(known.strays(&known, &known), Vec::<String>::new());
        let meddled = with(&is, &format!("{CARD}{DISK}{STICK}"));
        let now = Runs::of(&meddled).unwrap();
        assert_eq!(
            now.strays(&known, &known),
            [
                "While it is on it has the disk /etc/shadow, and here it has not.",
                "While it is on it has the network card 52:54:00:00:00:07, and here it has not.",
                "While it is on it has a device of the kind hostdev, and here it has not.",
            ]
        );
        // They are taken back; the card has a place here, and is taken like any other.
        let names: Vec<_> = now.spare(&meddled, &known, &known).iter().map(|device| &device.name).collect();
        assert_eq!(names, ["disk", "hostdev"]);
        // One that was taken over has its card where it was, until it is off.
        let foreign =
            CARD.replace("type='bridge'", "type='network'").replace("bridge='br-one'", "network='default'");
        let foreign = with(&is, &foreign);
        let runs = Runs::of(&foreign).unwrap();
        let shall = Runs::of(&with(&is, CARD)).unwrap();
        assert_eq!(runs.strays(&shall, &shall), Vec::<String>::new());
        assert_eq!(runs.strays(&known, &known).len(), 1);
        assert_eq!(runs.spare(&foreign, &known, &known).len(), 1);
        assert_eq!(runs.as_it_runs(&ours, &known, [&known, &known]), ours);
        // Somebody is just giving it the card here.
        let shall = Runs::of(&with(&is, CARD)).unwrap();
        let plugged = Runs::of(&with(&is, CARD)).unwrap();
        assert!(plugged.strays(&known, &shall).is_empty() && known.strays(&known, &shall).is_empty());
        assert!(plugged.strays(&shall, &known).is_empty() && known.strays(&shall, &known).is_empty());
        let adopted = plugged.as_it_runs(&ours, &known, [&known, &known]);
        assert_eq!(adopted.nics.len(), ours.nics.len() + 1);
        assert_eq!(adopted.nics.last().unwrap().bridge, "br-one");
        // What waits for its next start goes on waiting.
        let mut waits = VmSpec { pci: vec!["0000:01:00.0".into()], ..ours.clone() };
        (waits.memory.mib, waits.cpu.sockets) = (4096, 4);
        let shall = Runs::of(&drawn(&waits)).unwrap();
        assert!(known.strays(&known, &shall).is_empty());
        let adopted = plugged.as_it_runs(&waits, &shall, [&known, &shall]);
        assert_eq!((adopted.nics.len(), adopted.pci.len()), (ours.nics.len() + 1, 1));
        assert_eq!((adopted.memory.mib, adopted.cpu.sockets), (4096, 4));
    }

    #[test]
    fn what_somebody_took_from_it_is_named() {
        let disks = ["a", "b"].map(|volume| VmDisk::usual(volume.to_owned())).to_vec();
        let nics = vec![VmNic { bridge: "br-int".into(), mac: "52:54:00:00:00:01".into(), model: None }];
        let ours = VmSpec { disks, nics, ..spec("web-01") };
        let is = drawn(&ours);
        let known = Runs::of(&is).unwrap();
        let mut taken = is.clone();
        let devices = taken.children.iter_mut().find(|child| child.name == "devices").unwrap();
        devices.children.retain(|device| device.name != "interface" && !device.to_xml().contains("/p/a"));
        let vcpu = taken.children.iter_mut().find(|child| child.name == "vcpu").unwrap();
        vcpu.attributes.retain(|(name, _)| name != "current");
        vcpu.attributes.push(("current".into(), "1".into()));
        let now = Runs::of(&taken).unwrap();
        let strays = now.strays(&known, &known);
        assert!(strays[0].contains("has 1 processor, and not 2"), "{strays:?}");
        assert!(
            strays.iter().any(|stray| stray == "While it is on it has lost the disk /p/a."),
            "{strays:?}"
        );
        let adopted = now.as_it_runs(&ours, &known, [&known, &known]);
        assert_eq!((adopted.nics.len(), adopted.disks.len()), (0, ours.disks.len() - 1));
        let mut moved = ours.clone();
        moved.nics[0].bridge = "br-one".into();
        let strays = Runs::of(&drawn(&moved)).unwrap().strays(&known, &known);
        assert!(strays.len() == 1 && strays[0].contains("is on br-one, and not on "), "{strays:?}");
    }
}
