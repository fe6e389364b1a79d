//! A machine as other systems write it down when they give it away: OVF, of which an OVA is the description and its disks in
//! one file. What it was there becomes what it may be here; whatever else is in it is left out.

use quantix_api::{Firmware, Guest, VmDraft};

use crate::model::element::Element;

/// A description is no longer than this.
const LONGEST: usize = 1 << 20;
/// A machine that comes has at most so many disks.
pub const MOST_DISKS: usize = 15;
const LONGEST_NAME: usize = 63;

/// A machine that came, and the files of its disks, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// What it may be here. Its disks are not named yet.
    pub draft: VmDraft,
    /// The names of the files, as they stand beside the description.
    pub files: Vec<String>,
}

/// Why it cannot be taken; a sentence for whoever brought it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

/// Reads a description.
pub fn read_ovf(text: &str) -> Result<Came, Unfit> {
    let unfit = |sentence: &str| Unfit(sentence.to_owned());
    if text.len() > LONGEST {
        return Err(unfit("The description in this OVA is longer than anybody needs"));
    }
    let root = Element::from_xml(text).map_err(|_| unfit("The description in this OVA cannot be read"))?;
    if named(&root, "VirtualSystemCollection").next().is_some() {
        return Err(unfit("This OVA holds several machines. Export them one by one"));
    }
    let system = named(&root, "VirtualSystem").next();
    let system = system.ok_or_else(|| unfit("The description in this OVA is of no machine"))?;
    let name = named(system, "Name").next().map(|name| name.text.as_str());
    let name = name.filter(|name| !name.trim().is_empty()).or_else(|| attribute(system, "id"));
    let mut came = Came {
        draft: VmDraft {
            name: one_line(name.unwrap_or_default()),
            cpus: 1,
            memory_mib: 1024,
            firmware: firmware(system),
            guest: guest(system),
            nics: 0,
            disks: Vec::new(),
        },
        files: Vec::new(),
    };
    for item in named(system, "VirtualHardwareSection").flat_map(|hardware| &hardware.children) {
        let value = |name: &'static str| named(item, name).next().map(|value| value.text.trim());
        let number = |name: &'static str| value(name).and_then(|text| text.parse::<u64>().ok());
        match number("ResourceType") {
            Some(3) => {
                let count = number("VirtualQuantity").and_then(|count| u16::try_from(count).ok());
                came.draft.cpus = count.unwrap_or(1).clamp(1, 255);
            }
            Some(4) => {
                let unit = unit(value("AllocationUnits").unwrap_or("byte * 2^20"));
                let bytes = number("VirtualQuantity").unwrap_or(1024).saturating_mul(unit);
                came.draft.memory_mib = (bytes >> 20).clamp(16, 16 << 20);
            }
            Some(10) => came.draft.nics = (came.draft.nics + 1).min(8),
            Some(17) => {
                let from = value("HostResource").unwrap_or_default();
                let file = file_of(&root, from).ok_or_else(|| {
                    unfit("A disk of this machine has no file in the OVA: it may have been left out of the export")
                })?;
                if came.files.len() == MOST_DISKS {
                    return Err(Unfit(format!("This machine has more than {MOST_DISKS} disks")));
                }
                came.files.push(file);
            }
            _ => {}
        }
    }
    if came.files.is_empty() {
        return Err(unfit("This OVA holds a machine without disks"));
    }
    Ok(came)
}

/// All elements of a name in one, whatever is before its colon.
fn named<'a>(element: &'a Element, name: &'static str) -> impl Iterator<Item = &'a Element> {
    element.children.iter().filter(move |child| local(&child.name) == name)
}

fn attribute<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    let found = element.attributes.iter().find(|(known, _)| local(known) == name);
    found.map(|(_, value)| value.as_str())
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// All elements at any depth.
fn every(element: &Element) -> Box<dyn Iterator<Item = &Element> + '_> {
    Box::new(std::iter::once(element).chain(element.children.iter().flat_map(every)))
}

/// The name of the file that is meant with `ovf:/disk/…` or `ovf:/file/…`.
fn file_of(root: &Element, resource: &str) -> Option<String> {
    let (kind, id) = resource.strip_prefix("ovf:").unwrap_or(resource).strip_prefix('/')?.split_once('/')?;
    let file = match kind {
        "file" => id,
        "disk" => {
            let disks = named(root, "DiskSection").flat_map(|section| named(section, "Disk"));
            let disk = disks.into_iter().find(|disk| attribute(disk, "diskId") == Some(id))?;
            attribute(disk, "fileRef")?
        }
        _ => return None,
    };
    let files = named(root, "References").flat_map(|references| named(references, "File"));
    let found = files.into_iter().find(|one| attribute(one, "id") == Some(file))?;
    attribute(found, "href").filter(|name| !name.is_empty()).map(str::to_owned)
}

/// How many bytes a unit has.
fn unit(text: &str) -> u64 {
    let power = text.rsplit_once("2^").and_then(|(_, power)| power.trim().parse::<u32>().ok());
    let named = || match text.trim().to_ascii_lowercase().as_str() {
        "kilobytes" | "kb" => 10,
        "gigabytes" | "gb" => 30,
        _ => 20,
    };
    1_u64.checked_shl(power.unwrap_or_else(named)).unwrap_or(u64::MAX)
}

fn firmware(system: &Element) -> Firmware {
    let is_efi = |element: &Element| match local(&element.name) {
        "Config" => {
            attribute(element, "key") == Some("firmware") && attribute(element, "value") == Some("efi")
        }
        "Firmware" => attribute(element, "type").is_some_and(|kind| kind.starts_with("EFI")),
        _ => false,
    };
    let is_secure = |element: &Element| {
        local(&element.name) == "Config"
            && attribute(element, "key").is_some_and(|key| key.ends_with("efiSecureBootEnabled"))
            && attribute(element, "value") == Some("true")
    };
    match (every(system).any(is_efi), every(system).any(is_secure)) {
        (true, true) => Firmware::SecureBoot,
        (true, false) => Firmware::Uefi,
        (false, _) => Firmware::Bios,
    }
}

fn guest(system: &Element) -> Guest {
    let sections = named(system, "OperatingSystemSection");
    let said = |section: &Element| {
        let texts = section.children.iter().map(|child| child.text.as_str());
        texts.chain(attribute(section, "osType")).any(|text| text.to_ascii_lowercase().contains("windows"))
    };
    if sections.into_iter().any(said) { Guest::Windows } else { Guest::Linux }
}

fn one_line(name: &str) -> String {
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_changed_in_a_description_the_reader_goes_on(
            at in 0..VMWARE.len(), count in 0_usize..200, with in "[a-z<>/&\"=0-9:^ ]{0,20}"
        ) {
            let mut bytes = VMWARE.as_bytes().to_vec();
            bytes.splice(at..(at + count).min(VMWARE.len()), with.bytes());
            drop(read_ovf(&String::from_utf8_lossy(&bytes)));
        }
    }

    const VMWARE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-1" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:href="shop-1.vmdk" ovf:id="file1" ovf:size="700"/><File ovf:href="shop-2.vmdk" ovf:id="file2"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="vmdisk1" ovf:fileRef="file1"/>
    <Disk ovf:capacity="8" ovf:diskId="vmdisk2" ovf:fileRef="file2"/></DiskSection>
  <VirtualSystem ovf:id="shop"><Name>shop-01</Name>
    <OperatingSystemSection ovf:id="94" vmw:osType="ubuntu64Guest"><Description>Ubuntu &amp; more</Description></OperatingSystemSection>
    <VirtualHardwareSection>
      <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>4096</rasd:VirtualQuantity></Item>
      <Item><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:HostResource>ovf:/disk/vmdisk2</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:Connection>VM Network</rasd:Connection><rasd:ResourceType>10</rasd:ResourceType></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection></VirtualSystem></Envelope>"#;

    #[test]
    fn a_machine_of_vmware_s_is_read() {
        let came = read_ovf(VMWARE).unwrap();
        assert_eq!(came.files, ["shop-1.vmdk", "shop-2.vmdk"]);
        let draft = came.draft;
        assert_eq!((draft.name.as_str(), draft.cpus, draft.memory_mib, draft.nics), ("shop-01", 4, 4096, 1));
        assert_eq!((draft.firmware, draft.guest), (Firmware::Uefi, Guest::Linux));
    }

    #[test]
    fn what_others_write_is_read_too() {
        let virtualbox = VMWARE
            .replace("<Name>shop-01</Name>", "")
            .replace("byte * 2^20", "MegaBytes")
            .replace("ovf:/disk/vmdisk1", "/disk/vmdisk1")
            .replace("ubuntu64Guest", "windows2019srv_64Guest")
            .replace(r#"<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>"#, "");
        let draft = read_ovf(&virtualbox).unwrap().draft;
        assert_eq!((draft.name.as_str(), draft.memory_mib), ("shop", 4096));
        assert_eq!((draft.firmware, draft.guest), (Firmware::Bios, Guest::Windows));
        assert_eq!(
            [unit("byte * 2^30"), unit("GigaBytes"), unit("x"), unit("byte * 2^99")],
            [1 << 30, 1 << 30, 1 << 20, u64::MAX]
        );
    }

    #[test]
    fn what_cannot_be_taken_is_refused_with_the_reason() {
        let said = |text: &str| read_ovf(text).unwrap_err().to_string();
        assert!(said("<a/>").contains("of no machine"));
        assert!(said("no xml").contains("cannot be read"));
        assert!(said(&VMWARE.replace("ovf:fileRef=\"file2\"", "")).contains("has no file"));
        assert!(
            said(&VMWARE.replace("VirtualSystem", "VirtualSystemCollection")).contains("several machines")
        );
        let bare = VMWARE.replace("ResourceType>17", "ResourceType>99");
        assert!(said(&bare).contains("without disks"));
        assert!(said(&"x".repeat(LONGEST + 1)).contains("longer"));
        let much = VMWARE.replace("<rasd:VirtualQuantity>4<", "<rasd:VirtualQuantity>99999999999<");
        assert_eq!(read_ovf(&much).unwrap().draft.cpus, 1);
    }
}
