//! How what libvirt has of a machine differs from what it shall be, in sentences.

use quantix_api::{Boot, CpuModel, Firmware, VmCd, VmDisk, VmNic, VmSpec};

/// The differences; none if both are the same machine. What is only ours, as the bus that nobody has chosen, is compared
/// as it was drawn: both come from descriptions.
pub fn differences(ours: &VmSpec, theirs: &VmSpec) -> Vec<String> {
    let mut all = Vec::new();
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            all.push(format!("{what} is {theirs} there, and {ours} here."));
        }
    };
    let quoted = |text: &str| format!("“{text}”");
    differ("The name", quoted(&ours.name), quoted(&theirs.name));
    differ("The description", quoted(&ours.description), quoted(&theirs.description));
    differ("The guest", ours.guest.name().into(), theirs.guest.name().into());
    let cpus = |spec: &VmSpec| {
        let cpu = &spec.cpu;
        format!("{} × {} × {}", cpu.sockets, cpu.cores, cpu.threads)
    };
    differ("The number of sockets, cores and threads", cpus(ours), cpus(theirs));
    let model = |spec: &VmSpec| match spec.cpu.model {
        _ if !spec.cpu.named.is_empty() => spec.cpu.named.clone(),
        CpuModel::HostModel => "the host's model".to_owned(),
        CpuModel::HostPassthrough => "the host's own".to_owned(),
    };
    let most = |most: u64| if most == 0 { "nothing".to_owned() } else { most.to_string() };
    let cores = |spec: &VmSpec| most(if spec.cpu.most > spec.cpu.cores { spec.cpu.most.into() } else { 0 });
    differ("To how many cores it can grow", cores(ours), cores(theirs));
    let mib =
        |spec: &VmSpec| most(if spec.memory.most_mib > spec.memory.mib { spec.memory.most_mib } else { 0 });
    differ("To how much memory it can grow, in MiB,", mib(ours), mib(theirs));
    differ("The processor", model(ours), model(theirs));
    let memory = |spec: &VmSpec| format!("{} MiB", spec.memory.mib);
    differ("Memory", memory(ours), memory(theirs));
    let has = |has: bool| if has { "there" } else { "missing" }.to_owned();
    differ("The balloon", has(ours.memory.balloon), has(theirs.memory.balloon));
    let firmware = |spec: &VmSpec| match spec.firmware {
        Firmware::Uefi => "UEFI".to_owned(),
        Firmware::SecureBoot => "UEFI with Secure Boot".to_owned(),
        Firmware::Bios => "BIOS".to_owned(),
    };
    differ("The firmware", firmware(ours), firmware(theirs));
    let boot = |spec: &VmSpec| match spec.boot {
        Boot::Disk => "its disks".to_owned(),
        Boot::Cd => "its CD drives".to_owned(),
        Boot::Network => "the network".to_owned(),
    };
    differ("What it starts from first", boot(ours), boot(theirs));
    differ("The TPM", has(ours.tpm), has(theirs.tpm));
    differ("The watchdog", has(ours.watchdog), has(theirs.watchdog));
    each(&mut all, "Disk", &ours.disks, &theirs.disks, |disk: &VmDisk| disk.volume.clone());
    each(&mut all, "CD drive", &ours.cds, &theirs.cds, |cd: &VmCd| {
        cd.image.clone().unwrap_or_else(|| "empty".to_owned())
    });
    each(&mut all, "Network card", &ours.nics, &theirs.nics, |nic: &VmNic| {
        format!("{} on {}", nic.mac.to_lowercase(), nic.bridge)
    });
    each(&mut all, "Device", &ours.pci, &theirs.pci, Clone::clone);
    all
}

/// What is one by one: what is only here, only there, or another.
fn each<T: PartialEq>(
    all: &mut Vec<String>,
    what: &str,
    ours: &[T],
    theirs: &[T],
    name: impl Fn(&T) -> String,
) {
    for at in 0..ours.len().max(theirs.len()) {
        let number = at + 1;
        match (ours.get(at), theirs.get(at)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let (ours, theirs) = (name(ours), name(theirs));
                all.push(if ours == theirs {
                    format!("{what} {number}, {ours}, is attached in another way there.")
                } else {
                    format!("{what} {number} is {theirs} there, and {ours} here.")
                });
            }
            (Some(ours), None) => all.push(format!("{what} {number}, {}, is missing there.", name(ours))),
            (None, Some(theirs)) => all.push(format!("{what} {number}, {}, is only there.", name(theirs))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::{Bus, Cache, DiskLimit};

    use super::*;
    use crate::plan::domain::tests::spec;

    #[test]
    fn each_difference_is_a_sentence() {
        let ours = spec("web-01");
        assert_eq!(differences(&ours, &ours), Vec::<String>::new());
        let mut theirs = ours.clone();
        theirs.memory.mib = 4096;
        theirs.cpu.sockets = 4;
        theirs.tpm = !ours.tpm;
        theirs.disks.push(VmDisk {
            volume: "/x".into(),
            bus: Some(Bus::Sata),
            cache: Cache::None,
            discard: true,
            limit: DiskLimit::default(),
        });
        theirs.nics.clear();
        insta::assert_debug_snapshot!(differences(&ours, &theirs));
    }
}
