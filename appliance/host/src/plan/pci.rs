//! Which devices of the PCI bus a machine can have for itself.

use quantix_api::PciDevice;

/// A kind of device by its class, in a word; nothing for what only leads further, and for what the board itself consists of.
pub(crate) fn kind(class: u32) -> Option<&'static str> {
    Some(match class >> 16 {
        0x05 | 0x06 | 0x08 => return None,
        0x01 => "Storage",
        0x02 => "Network",
        0x03 => "Graphics",
        0x04 => "Multimedia",
        0x07 => "Communication",
        0x0c => "Serial bus",
        0x0d => "Radio",
        0x10 => "Encryption",
        0x12 => "Accelerator",
        _ => "Other",
    })
}

/// Nobody can have a device while the host needs another in its group: both see the same memory.
pub(crate) fn keep_groups_together(devices: &mut [PciDevice]) {
    let kept: Vec<_> = devices
        .iter()
        .filter(|device| device.kept_because.is_some())
        .filter_map(|device| Some((device.group?, device.address.clone())))
        .collect();
    for device in devices.iter_mut().filter(|device| device.kept_because.is_none()) {
        device.kept_because = match device.group {
            None => Some("The machine has no IOMMU, or it is off in its firmware.".into()),
            Some(group) => kept
                .iter()
                .find(|(other, _)| *other == group)
                .map(|(_, address)| format!("It is in one group with {address}, which the host needs.")),
        };
    }
}

/// Why a machine cannot have these devices together, if it cannot.
pub fn refused(devices: &[PciDevice], wanted: &[String]) -> Option<String> {
    for address in wanted {
        let Some(device) = devices.iter().find(|device| device.address == *address) else {
            return Some(format!("Its host has no device {address}."));
        };
        if let Some(because) = &device.kept_because {
            return Some(format!("It cannot have the device {address}. {because}"));
        }
        let is_left = |other: &&PciDevice| {
            let is_driven = other.driver.is_some() && !other.is_given();
            other.group == device.group && is_driven && !wanted.contains(&other.address)
        };
        if let Some(other) = devices.iter().find(is_left) {
            let other = &other.address;
            return Some(format!(
                "{address} is in one group with {other}: a machine has both or none of them."
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(address: &str, group: Option<u32>, driver: &str, kept: bool) -> PciDevice {
        PciDevice {
            address: address.into(),
            group,
            driver: Some(driver.to_owned()).filter(|driver| !driver.is_empty()),
            kept_because: kept.then(|| "The host uses it.".to_owned()),
            ..PciDevice::default()
        }
    }

    #[test]
    fn a_machine_has_what_is_free_and_all_of_a_group() {
        let mut all = vec![
            device("a", Some(1), "ixgbe", true),
            device("b", Some(1), "ixgbe", false),
            device("c", Some(2), "nouveau", false),
            device("d", Some(2), "snd_hda_intel", false),
            device("e", Some(3), "vfio-pci", false),
            device("f", Some(3), "", false),
            device("g", None, "ixgbe", false),
        ];
        keep_groups_together(&mut all);
        let told = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
            refused(&all, &wanted).unwrap_or_default()
        };
        assert!(told(&["a"]).contains("The host uses it."));
        assert!(told(&["b"]).contains("with a, which the host needs"));
        assert!(told(&["c"]).contains("with d: a machine has both"));
        assert_eq!(told(&["c", "d"]), "");
        assert_eq!(told(&["e"]), "");
        assert_eq!(told(&[]), "");
        assert!(told(&["e", "c"]).contains("with d"));
        assert!(told(&["g"]).contains("IOMMU"));
        assert!(told(&["h"]).contains("no device h"));
    }
}
