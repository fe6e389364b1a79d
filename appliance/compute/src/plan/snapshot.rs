//! What libvirt is told, and tells, when the state of a machine is held, or a disk of it is moved: which layers its disks lie
//! on, where it goes on writing, and how a memory that was kept is woken with other disks.

use std::path::{Path, PathBuf};

use super::{
    domain::{Drive, Format},
    plugged::{disks, source, target},
};
use crate::model::element::Element;

/// A disk of a machine that is on, with the layers that QEMU has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What the disk is called: `vda`.
    pub target: String,
    /// The files it consists of, the one that is written to first.
    pub layers: Vec<Layer>,
    /// Whether what is written goes into the one below it, too, so that it can go on there.
    pub is_ready: bool,
    /// Whether libvirt knows that what is written to it goes somewhere else, too, or will.
    pub is_mirrored: bool,
    /// Whether QEMU was told to go on there, and has not told libvirt yet that it does.
    pub goes_over: bool,
    /// Where all of it is being copied to, if so.
    pub copy: Option<PathBuf>,
}

/// A file of a disk, as QEMU has it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// By what libvirt knows it within the disk.
    pub index: Option<u32>,
    /// The file.
    pub path: PathBuf,
}

impl Chain {
    /// What libvirt calls a layer of this disk.
    pub fn name(&self, layer: &Layer) -> Option<String> {
        layer.index.map(|index| format!("{}[{index}]", self.target))
    }
}

/// The disks of a machine that is on, as libvirt describes them. Drives with nothing in them are none.
pub fn chains(domain: &Element) -> Vec<Chain> {
    let chain = |disk: &Element| {
        let index = |element: Option<&Element>| element?.attribute("index")?.parse().ok();
        let first = Layer { index: index(disk.child("source")), path: source(disk)? };
        let mut layers = vec![first];
        let mut below = disk.child("backingStore");
        while let Some(layer) = below
            && let Some(path) = source(layer)
        {
            layers.push(Layer { index: index(Some(layer)), path });
            below = layer.child("backingStore");
        }
        let mirror = disk.child("mirror");
        let is_ready = mirror.and_then(|mirror| mirror.attribute("ready")) == Some("yes");
        let is_copied = |mirror: &&Element| mirror.attribute("job") == Some("copy");
        let copy = mirror.filter(is_copied).and_then(source);
        let goes_over = mirror.and_then(|mirror| mirror.attribute("ready")) == Some("pivot");
        let is_mirrored = mirror.is_some();
        Some(Chain { target: target(disk)?.to_owned(), layers, is_ready, is_mirrored, goes_over, copy })
    };
    disks(domain).filter_map(chain).collect()
}

/// Draws to what a disk of a machine that is on is copied.
pub fn draw_copy(to: &Drive) -> Element {
    let (kind, place, driver) = match to.format {
        Format::Raw => ("block", "dev", "raw"),
        Format::Qcow2 => ("file", "file", "qcow2"),
    };
    Element::new("disk")
        .with("type", kind)
        .with("device", "disk")
        .holding(Element::new("driver").with("name", "qemu").with("type", driver))
        .holding(Element::new("source").with(place, to.path.to_string_lossy()))
}

/// Draws what libvirt is asked for so that a machine that is on goes on writing to new layers, and, if a place is named, its
/// memory is kept there. `layers` are the files that are written to now and the ones that are written to then.
pub fn draw_hold(domain: &Element, layers: &[(PathBuf, PathBuf)], memory: Option<&Path>) -> Element {
    let kept = match memory {
        Some(path) => {
            Element::new("memory").with("snapshot", "external").with("file", path.to_string_lossy())
        }
        None => Element::new("memory").with("snapshot", "no"),
    };
    let disk = |disk: &Element| {
        let described = Element::new("disk").with("name", target(disk)?);
        let Some(next) = source(disk).and_then(|now| layers.iter().find(|(from, _)| *from == now)) else {
            return Some(described.with("snapshot", "no"));
        };
        Some(
            described
                .with("snapshot", "external")
                .with("type", "file")
                .holding(Element::new("driver").with("type", "qcow2"))
                .holding(Element::new("source").with("file", next.1.to_string_lossy())),
        )
    };
    Element::new("domainsnapshot")
        .holding(kept)
        .holding(Element::new("disks").holding_all(disks(domain).filter_map(disk)))
}

/// The description of a machine with other files as its disks, which are called so.
pub fn with_files(mut domain: Element, files: &[(String, PathBuf)]) -> Element {
    let Some(devices) = domain.children.iter_mut().find(|child| child.name == "devices") else {
        return domain;
    };
    for disk in devices.children.iter_mut().filter(|child| child.name == "disk") {
        // What lies below is found in the files themselves.
        disk.children.retain(|child| child.name != "backingStore");
        let name = target(disk).map(str::to_owned);
        let Some((_, path)) = files.iter().find(|(target, _)| Some(target) == name.as_ref()) else {
            continue;
        };
        for source in disk.children.iter_mut().filter(|child| child.name == "source") {
            let kind = if path.starts_with("/dev") { "dev" } else { "file" };
            *source = Element::new("source").with(kind, path.to_string_lossy());
        }
    }
    domain
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<domain><devices>
        <disk type='file' device='disk'>
          <source file='/p/c.qcow2' index='3'/>
          <backingStore type='file' index='2'>
            <format type='qcow2'/>
            <source file='/p/b.qcow2'/>
            <backingStore type='file' index='1'>
              <format type='qcow2'/>
              <source file='/p/a.qcow2'/>
              <backingStore/>
            </backingStore>
          </backingStore>
          <target dev='vda' bus='virtio'/>
        </disk>
        <disk type='file' device='disk'><source file='/p/seed.img'/><target dev='vdz'/><readonly/></disk>
        <disk type='file' device='cdrom'><target dev='sdx'/></disk>
      </devices></domain>";

    #[test]
    fn a_disk_that_is_copied_says_where_to() {
        let with = |mirror: &str| {
            let domain = DOMAIN.replacen("<target dev='vda'", &format!("{mirror}<target dev='vda'"), 1);
            let chain = chains(&Element::from_xml(&domain).unwrap()).remove(0);
            (chain.copy, chain.is_ready)
        };
        assert_eq!(with(""), (None, false));
        let device = "<mirror type='block' job='copy'><format type='raw'/><source dev='/dev/g/x'/></mirror>";
        assert_eq!(with(device), (Some("/dev/g/x".into()), false));
        let file = "<mirror type='file' job='copy' ready='yes' file='/p/x.qcow2'><source file='/p/x.qcow2'/></mirror>";
        assert_eq!(with(file), (Some("/p/x.qcow2".into()), true));
        let merge =
            "<mirror type='file' job='active-commit' ready='yes'><source file='/p/b.qcow2'/></mirror>";
        assert_eq!(with(merge), (None, true));
        let drawn = draw_copy(&Drive { path: "/dev/g/x".into(), format: Format::Raw }).to_xml();
        assert!(drawn.contains("type=\"block\"") && drawn.contains("dev=\"/dev/g/x\""), "{drawn}");
    }

    #[test]
    fn a_disk_is_a_chain_of_files() {
        let domain = Element::from_xml(DOMAIN).unwrap();
        let chains = chains(&domain);
        let targets: Vec<_> = chains.iter().map(|chain| chain.target.as_str()).collect();
        assert_eq!(targets, ["vda", "vdz"]);
        let names: Vec<_> = chains[0].layers.iter().map(|layer| chains[0].name(layer).unwrap()).collect();
        assert_eq!(names, ["vda[3]", "vda[2]", "vda[1]"]);
        assert_eq!(chains[0].layers[2].path, Path::new("/p/a.qcow2"));
    }

    #[test]
    fn only_what_is_named_is_held() {
        let domain = Element::from_xml(DOMAIN).unwrap();
        let layers = [("/p/c.qcow2".into(), "/p/d & e.qcow2".into())];
        insta::assert_snapshot!(draw_hold(&domain, &layers, Some(Path::new("/p/m.part"))).to_xml());
        insta::assert_snapshot!(draw_hold(&domain, &layers, None).to_xml());
    }

    #[test]
    fn a_memory_is_woken_with_other_files() {
        let domain = with_files(Element::from_xml(DOMAIN).unwrap(), &[("vda".into(), "/p/x.qcow2".into())]);
        let chains = chains(&domain);
        let paths: Vec<_> = chains.iter().map(|chain| chain.layers[0].path.as_path()).collect();
        assert_eq!(paths, [Path::new("/p/x.qcow2"), Path::new("/p/seed.img")]);
        assert_eq!(chains[0].layers.len(), 1);
    }
}
