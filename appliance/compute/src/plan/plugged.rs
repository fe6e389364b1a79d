//! What a machine that is on has plugged in, as libvirt describes it.

use std::path::{Path, PathBuf};

use quantix_api::{Bus, VmDisk, VmSpec};

use super::domain::{bus, prefix};
use crate::model::element::Element;

/// Behind it are the CDs, and what a guest is told.
const LAST_LETTER: u8 = b'w';

pub(super) fn disks(domain: &Element) -> impl Iterator<Item = &Element> {
    domain.child("devices").into_iter().flat_map(|devices| devices.all("disk"))
}

/// The file or device of a disk, or of what it lies on.
pub(super) fn source(holder: &Element) -> Option<PathBuf> {
    let source = holder.child("source")?;
    source.attribute("file").or_else(|| source.attribute("dev")).map(PathBuf::from)
}

pub(super) fn target(disk: &Element) -> Option<&str> {
    disk.child("target")?.attribute("dev")
}

/// The disk of a description that is this file or device.
pub fn plugged_as<'a>(domain: &'a Element, path: &Path) -> Option<&'a Element> {
    disks(domain).find(|disk| source(disk).as_deref() == Some(path))
}

/// The addresses of the network cards in a description.
pub fn cards(domain: &Element) -> Vec<String> {
    let cards = domain.child("devices").into_iter().flat_map(|devices| devices.all("interface"));
    cards.filter_map(|card| Some(card.child("mac")?.attribute("address")?.to_ascii_lowercase())).collect()
}

/// What the disks on a bus are called, in their order.
fn names(domain: &Element, bus: Bus) -> Vec<&str> {
    // CDs are no disks, and neither is what a guest is told.
    let is_disk =
        |disk: &&Element| disk.attribute("device") != Some("cdrom") && disk.child("readonly").is_none();
    let names = disks(domain).filter(is_disk).filter_map(target);
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix(bus))).collect();
    names.sort_unstable();
    names
}

/// What a disk is called that is plugged in now. One that was taken away leaves a gap, so that those after it stay in their
/// order.
pub(super) fn next_name(domain: &Element, bus: Bus) -> Option<String> {
    let last = names(domain, bus).pop().and_then(|name| name.bytes().last());
    let next = last.map_or(b'a', |last| last.saturating_add(1));
    (next <= LAST_LETTER).then(|| format!("{}{}", prefix(bus), char::from(next)))
}

/// What the disks of a machine are called in a description of it: `vda`, `vdc`.
pub fn targets(spec: &VmSpec, domain: &Element) -> Vec<Option<String>> {
    let [mut virtio, mut others] = [Bus::Virtio, Bus::Sata].map(|bus| names(domain, bus).into_iter());
    let name = |disk: &VmDisk| {
        let next = if bus(disk, spec.guest) == Bus::Virtio { &mut virtio } else { &mut others };
        next.next().map(str::to_owned)
    };
    spec.disks.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was given disks in this order, of which the second was taken away.
    const DOMAIN: &str = "<domain><devices>
        <disk device='disk'><source file='/p/a'/><target dev='vda' bus='virtio'/></disk>
        <disk device='disk'><source dev='/dev/b'/><target dev='vdc' bus='virtio'/></disk>
        <disk device='disk'><source file='/p/c'/><target dev='sdb' bus='scsi'/></disk>
        <disk device='disk'><source file='/p/d'/><target dev='sda' bus='sata'/></disk>
        <disk device='disk'><source file='/p/seed'/><target dev='vdz' bus='virtio'/><readonly/></disk>
        <disk device='cdrom'><target dev='sdx' bus='sata'/><readonly/></disk>
      </devices></domain>";

    #[test]
    fn disks_are_called_what_they_are_called_there() {
        let domain = Element::from_xml(DOMAIN).unwrap();
        let on = |bus| VmDisk { bus: Some(bus), ..VmDisk::usual(String::new()) };
        let disks = [Bus::Virtio, Bus::Sata, Bus::Virtio, Bus::Scsi, Bus::Virtio].map(on);
        let spec = VmSpec { disks: disks.into(), ..VmSpec::named("web-01") };
        let names = targets(&spec, &domain);
        let names: Vec<_> = names.iter().map(Option::as_deref).collect();
        assert_eq!(names, [Some("vda"), Some("sda"), Some("vdc"), Some("sdb"), None]);
        assert_eq!(next_name(&domain, Bus::Virtio).as_deref(), Some("vdd"));
        assert_eq!(next_name(&domain, Bus::Scsi).as_deref(), Some("sdc"));
        let full = Element::from_xml(&DOMAIN.replace("vdc", "vdw")).unwrap();
        assert_eq!(next_name(&full, Bus::Virtio), None);
        assert_eq!(next_name(&Element::new("domain"), Bus::Virtio).as_deref(), Some("vda"));
        let found = plugged_as(&domain, Path::new("/dev/b")).and_then(target);
        assert_eq!(found, Some("vdc"));
        assert!(plugged_as(&domain, Path::new("/p/b")).is_none());
    }
}
