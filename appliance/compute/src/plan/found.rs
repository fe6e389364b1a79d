//! A machine that libvirt has and nobody here keeps: what of it comes along when it is taken over, and what does not.

use quantix_api::{VmCd, VmNic, VmSpec};

use super::{
    domain::Drive,
    recognise::{Missing, Recognised, is_nic, recognise, source},
};
use crate::model::{element::Element, id::VmId};

/// Where cards go that were on networks of which nobody here knows.
const BRIDGE: &str = "br-int";
/// Sentences about what does not come along; more help nobody.
const MOST_SENTENCES: usize = 20;
/// What is the same without being named.
const TRIFLES: &[&str] = &["sound", "redirdev", "hub", "panic", "iommu"];

/// A machine of which nobody here knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: VmId,
    /// What it becomes. Its volumes are called by their paths, and its CD drives are empty.
    pub spec: VmSpec,
    /// Where its volumes are, in the order of its disks.
    pub drives: Vec<Drive>,
    /// What does not come along, in sentences.
    pub left_out: Vec<String>,
    /// Why it cannot be taken over.
    pub why_not: Option<String>,
}

/// Reads what libvirt has of a machine.
pub fn found(domain: &Element) -> Result<Found, Missing> {
    let Recognised { id, mut spec, drives, .. } = recognise(domain)?;
    let empty = Element::default();
    let (os, devices) = (domain.child("os").unwrap_or(&empty), domain.child("devices").unwrap_or(&empty));
    let mut left_out = Vec::new();
    let board = os.child("type").and_then(|kind| kind.attribute("machine")).unwrap_or_default();
    if !board.is_empty() && !board.contains("q35") {
        left_out.push(format!("It has the board {board}, and gets a q35: its guest finds its devices anew."));
    }
    if let Some(kernel) = os.child("kernel") {
        left_out.push(format!("It boots {}; it will boot from its disks.", kernel.text.trim()));
    }
    if let Some(variables) = os.child("nvram").map(|nvram| nvram.text.trim()).filter(|path| !path.is_empty())
        && !is_usual(variables, domain)
    {
        left_out.push(format!("What its firmware remembers is in {variables}, and stays there."));
    }
    let mut why_not = cannot_run(domain, os);
    spec.cds.clear();
    for device in &devices.children {
        match device.name.as_str() {
            "disk" => {
                let (sentence, is_in_the_way) = of_disk(device, &mut spec);
                if is_in_the_way {
                    why_not = why_not.or(sentence);
                } else {
                    left_out.extend(sentence);
                }
            }
            "interface" if !is_nic(device) => left_out.push(of_nic(device, &mut spec)),
            name if is_usual_device(name) => {}
            name => left_out.push(format!("It has this besides: {name}.")),
        }
    }
    left_out.dedup();
    left_out.truncate(MOST_SENTENCES);
    Ok(Found { id, spec, drives, left_out, why_not })
}

fn is_usual_device(name: &str) -> bool {
    super::recognise::USUAL.contains(&name) || TRIFLES.contains(&name) || name == "interface"
}

/// Whether libvirt finds its firmware's variables again by what it is called.
fn is_usual(variables: &str, domain: &Element) -> bool {
    let name = domain.child("name").map(|name| name.text.trim()).unwrap_or_default();
    let file = variables.rsplit('/').next().unwrap_or_default();
    file.strip_prefix(name).is_some_and(|rest| rest.starts_with("_VARS."))
}

fn cannot_run(domain: &Element, os: &Element) -> Option<String> {
    let kind = domain.attribute("type").unwrap_or_default();
    let what = os.child("type");
    let arch = what.and_then(|what| what.attribute("arch")).unwrap_or("x86_64");
    let runs = matches!(kind, "kvm" | "qemu")
        && arch == "x86_64"
        && what.is_none_or(|what| matches!(what.text.trim(), "hvm" | ""));
    (!runs).then(|| format!("It is a machine of another kind ({kind}, {arch}), which cannot run here."))
}

/// What is to be said of a disk, and whether the machine cannot be taken over with it.
fn of_disk(disk: &Element, spec: &mut VmSpec) -> (Option<String>, bool) {
    let target = disk.child("target").and_then(|target| target.attribute("dev")).unwrap_or("a disk");
    let path = source(disk);
    match disk.attribute("device").unwrap_or("disk") {
        "cdrom" => {
            spec.cds.push(VmCd { image: None });
            (path.map(|path| format!("{path} is not in its CD drive any more. Bring it as an image.")), false)
        }
        "floppy" => (Some("It has a floppy drive.".to_owned()), false),
        "disk" => {
            let is_encrypted = disk.child("encryption").is_some()
                || disk.child("source").is_some_and(|source| source.child("encryption").is_some());
            if disk.child("readonly").is_some() {
                (path.map(|path| format!("{path} is a disk that it only reads.")), false)
            } else if is_encrypted {
                (Some(format!("Its disk {target} is encrypted, and nobody here has the key.")), true)
            } else if disk.attribute("type") == Some("file") && path.is_some() {
                (None, false)
            } else {
                let path = path.unwrap_or("what lies elsewhere");
                let sentence = format!(
                    "Its disk {target} is {path}. Only disks that are files of the host can be taken over."
                );
                (Some(sentence), true)
            }
        }
        other => (Some(format!("Its disk {target} is a {other}, which nobody here can give it.")), true),
    }
}

/// Keeps the address of a card, by which its guest knows it.
fn of_nic(interface: &Element, spec: &mut VmSpec) -> String {
    let on = interface
        .child("source")
        .and_then(|source| ["network", "bridge", "dev"].into_iter().find_map(|name| source.attribute(name)));
    let on = on.unwrap_or("a network of its own");
    let Some(mac) = interface.child("mac").and_then(|mac| mac.attribute("address")) else {
        return format!("It has a network card without an address, on {on}.");
    };
    spec.nics.push(VmNic { bridge: BRIDGE.to_owned(), mac: mac.to_ascii_lowercase(), model: None });
    format!("Its network card {mac} is on {on}, and goes to {BRIDGE}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Found {
        let text = format!(
            "<domain type='kvm'><name>old-mail</name><uuid>0190c6f4-7a10-7cc0-b2aa-0123456789ab</uuid>
             <memory unit='MiB'>4096</memory><vcpu>4</vcpu>{more}</domain>"
        );
        found(&Element::from_xml(&text).unwrap()).unwrap()
    }

    #[test]
    fn what_comes_along_and_what_does_not_is_told() {
        let seen = read(
            "<os><type arch='x86_64' machine='pc-i440fx-9.2'>hvm</type><kernel>/boot/vmlinuz</kernel></os>
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><sound model='ich9'/>
             <disk type='file' device='disk'><driver type='qcow2'/><source file='/srv/mail.qcow2'/>
             <target dev='hda' bus='ide'/></disk>
             <disk type='file' device='cdrom'><source file='/srv/a.iso'/><target dev='hdb' bus='ide'/></disk>
             <disk type='file' device='disk'><source file='/srv/seed.img'/><target dev='vdz' bus='virtio'/><readonly/></disk>
             <interface type='network'><mac address='52:54:00:AA:22:33'/><source network='default'/></interface>
             <interface type='bridge'><mac address='52:54:00:11:22:34'/><source bridge='br0'/></interface>
             <hostdev mode='subsystem' type='pci'/></devices>",
        );
        assert_eq!(seen.why_not, None);
        assert_eq!(seen.drives.len(), 1);
        assert_eq!(seen.spec.disks[0].volume, "/srv/mail.qcow2");
        assert_eq!(seen.spec.cds, [VmCd { image: None }]);
        let mut cards: Vec<_> =
            seen.spec.nics.iter().map(|nic| (nic.bridge.as_str(), nic.mac.as_str())).collect();
        cards.sort_unstable();
        assert_eq!(cards, [("br-int", "52:54:00:aa:22:33"), ("br0", "52:54:00:11:22:34")]);
        assert_eq!(
            seen.left_out,
            [
                "It has the board pc-i440fx-9.2, and gets a q35: its guest finds its devices anew.",
                "It boots /boot/vmlinuz; it will boot from its disks.",
                "/srv/a.iso is not in its CD drive any more. Bring it as an image.",
                "/srv/seed.img is a disk that it only reads.",
                "Its network card 52:54:00:AA:22:33 is on default, and goes to br-int.",
                "It has this besides: hostdev.",
            ]
        );
    }

    #[test]
    fn what_cannot_be_taken_over_says_why() {
        let why = |more: &str| read(more).why_not.unwrap_or_default();
        let disk = |disk: &str| why(&format!("<devices>{disk}</devices>"));
        assert_eq!(disk("<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>"), "");
        let device = "<disk type='block'><source dev='/dev/vg/a'/><target dev='vda' bus='virtio'/></disk>";
        assert!(disk(device).contains("vda is /dev/vg/a. Only disks that are files"));
        let far =
            "<disk type='network'><source protocol='rbd' name='a'/><target dev='vdb' bus='virtio'/></disk>";
        assert!(disk(far).contains("vdb is what lies elsewhere"));
        let secret = "<disk type='file'><source file='/a'><encryption format='luks'/></source><target dev='vda' bus='virtio'/></disk>";
        assert!(disk(secret).contains("encrypted"));
        let lun = "<disk type='file' device='lun'><source file='/a'/><target dev='sda' bus='scsi'/></disk>";
        assert!(disk(lun).contains("is a lun"));
        assert!(why("<os><type arch='aarch64'>hvm</type></os>").contains("another kind (kvm, aarch64)"));
    }

    #[test]
    fn variables_that_libvirt_finds_by_the_name_come_along() {
        let left = |path: &str| read(&format!("<os><nvram>{path}</nvram></os>")).left_out;
        assert!(left("/var/lib/libvirt/qemu/nvram/old-mail_VARS.fd").is_empty());
        assert_eq!(
            left("/srv/vars.fd"),
            ["What its firmware remembers is in /srv/vars.fd, and stays there."]
        );
    }
}
