//! What can be said of a virtual machine on the command line.

use std::collections::BTreeMap;

use clap::Args;
use quantix_api::{Boot, Firmware, Guest, NicModel, VmNic, VmPolicy, VmSpec};

/// What can be said of a machine; what is not said is as its guest needs it, or stays.
#[derive(Debug, Args)]
pub(crate) struct Hardware {
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// What runs in it: linux, windows or legacy.
    #[arg(long, value_parser = guest)]
    guest: Option<Guest>,
    /// Cores of its one processor.
    #[arg(long)]
    cpus: Option<u16>,
    /// To how many cores it can grow while it is on; 0 for none.
    #[arg(long)]
    cpus_most: Option<u16>,
    /// Memory in MiB.
    #[arg(long)]
    memory: Option<u64>,
    /// To how much memory it can grow while it is on, in MiB; 0 for none.
    #[arg(long)]
    memory_most: Option<u64>,
    /// What starts it: uefi, secure-boot or bios.
    #[arg(long, value_parser = firmware)]
    firmware: Option<Firmware>,
    /// From what it is tried to start first: disk, cd or network.
    #[arg(long, value_parser = boot)]
    boot: Option<Boot>,
    /// A certain model of processor, as libvirt calls it: EPYC-Rome. An empty one is the nearest to the host's.
    #[arg(long)]
    cpu_model: Option<String>,
    /// Whether it has a TPM 2.0.
    #[arg(long)]
    tpm: Option<bool>,
    /// Whether its host may ask for memory back that its guest does not use.
    #[arg(long)]
    balloon: Option<bool>,
    /// Whether it is reset when its guest hangs.
    #[arg(long)]
    watchdog: Option<bool>,
    /// An image that is in a CD drive, `empty` for a drive with nothing in it, or `none` for no drive; once for each drive. They
    /// take the place of those it has.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) cd: Vec<String>,
    /// A network card on a bridge, as in br-int, or br-int,e1000e for a certain kind, with an address of your own after
    /// another comma; once for each. They take the place of those it has.
    #[arg(long, value_parser = card)]
    nic: Vec<VmNic>,
    /// A device of its host, by its address there as in 0000:65:00.0, or `none`; once for each. They take the place of those it has.
    #[arg(long, value_name = "ADDRESS")]
    device: Vec<String>,
    /// Whether it is started when its host starts.
    #[arg(long)]
    start_at_boot: Option<bool>,
    /// When it is started then: lower numbers first.
    #[arg(long)]
    boot_order: Option<u16>,
    /// How many seconds are waited after it before the next number.
    #[arg(long)]
    boot_delay: Option<u16>,
    /// Whether it is started again when it crashes.
    #[arg(long)]
    restart_after_crash: Option<bool>,
    /// Whether it cannot be removed.
    #[arg(long)]
    protected: Option<bool>,
    /// Whether it is a template: it is not started, and others are cloned from it.
    #[arg(long)]
    template: Option<bool>,
    /// Whose it is, by the name of their account; '' for nobody's. It gives no right.
    #[arg(long)]
    owner: Option<String>,
    /// A label, as in team=web or urgent; once for each. They take the place of those it has; an empty one of all.
    #[arg(long, value_parser = label)]
    label: Vec<(String, String)>,
}

impl Hardware {
    /// Makes a new machine what its guest wants, which is said or known of its image.
    pub(crate) fn suit(&self, spec: &mut VmSpec, image: Option<Guest>) {
        if let Some(guest) = self.guest.or(image) {
            spec.suit(guest);
        }
    }

    pub(crate) fn change(&self, spec: &mut VmSpec, policy: &mut VmPolicy) {
        fn set<T: Clone>(slot: &mut T, said: Option<&T>) {
            if let Some(said) = said {
                *slot = said.clone();
            }
        }
        set(&mut spec.description, self.description.as_ref());
        set(&mut spec.guest, self.guest.as_ref());
        set(&mut spec.cpu.cores, self.cpus.as_ref());
        set(&mut spec.cpu.most, self.cpus_most.as_ref());
        set(&mut spec.memory.mib, self.memory.as_ref());
        set(&mut spec.memory.most_mib, self.memory_most.as_ref());
        set(&mut spec.firmware, self.firmware.as_ref());
        set(&mut spec.boot, self.boot.as_ref());
        set(&mut spec.cpu.named, self.cpu_model.as_ref());
        set(&mut spec.tpm, self.tpm.as_ref());
        set(&mut spec.memory.balloon, self.balloon.as_ref());
        set(&mut spec.watchdog, self.watchdog.as_ref());
        if !self.nic.is_empty() {
            spec.nics.clone_from(&self.nic);
        }
        if !self.device.is_empty() {
            spec.pci = self.device.iter().filter(|device| *device != "none").cloned().collect();
        }
        set(&mut policy.owner, self.owner.as_ref());
        set(&mut policy.start_at_boot, self.start_at_boot.as_ref());
        set(&mut policy.boot_order, self.boot_order.as_ref());
        set(&mut policy.boot_delay, self.boot_delay.as_ref());
        set(&mut policy.restart_after_crash, self.restart_after_crash.as_ref());
        set(&mut policy.protected, self.protected.as_ref());
        set(&mut policy.template, self.template.as_ref());
        if !self.label.is_empty() {
            let labels = self.label.iter().filter(|(key, _)| !key.is_empty());
            policy.labels = labels.cloned().collect::<BTreeMap<_, _>>();
        }
    }
}

fn guest(text: &str) -> Result<Guest, String> {
    let known = || Guest::ALL.map(Guest::name).join(", ");
    Guest::ALL.into_iter().find(|guest| guest.name() == text).ok_or_else(|| format!("known are {}", known()))
}

fn firmware(text: &str) -> Result<Firmware, String> {
    let known = || Firmware::ALL.map(Firmware::name).join(", ");
    Firmware::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("known are {}", known()))
}

fn boot(text: &str) -> Result<Boot, String> {
    let known = || Boot::ALL.map(Boot::name).join(", ");
    Boot::ALL.into_iter().find(|boot| boot.name() == text).ok_or_else(|| format!("known are {}", known()))
}

fn card(text: &str) -> Result<VmNic, String> {
    let mut words = text.split(',');
    let bridge = words.next().unwrap_or_default().to_owned();
    let (macs, models): (Vec<_>, Vec<_>) = words.partition(|word| word.contains(':'));
    let known = || format!("known are {}", NicModel::ALL.map(NicModel::name).join(", "));
    if models.len() > 1 || macs.len() > 1 {
        return Err("a card has one kind and one address".to_owned());
    }
    let model = models.first().map(|model| NicModel::of(model).ok_or_else(known)).transpose()?;
    Ok(VmNic { bridge, mac: macs.concat(), model })
}

#[expect(clippy::unnecessary_wraps, reason = "it reads an argument")]
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.to_owned(), value.to_owned()))
}
