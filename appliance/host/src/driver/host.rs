//! Joins the sources into facts and readiness. What was read serves every caller for a moment, so that a flood of
//! questions is one reading.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quantix_api::{Check, Clock, HostFacts, Nic};
use tokio::sync::{Mutex, watch};

use super::{
    blocking::blocking,
    hardware,
    kvm::{self, KvmState},
    libvirt::Libvirt,
    run::run,
    services::services,
};
use crate::{
    model::proc,
    plan::checks::{self, is_reachable},
};

const FRESH: Duration = Duration::from_secs(2);
const CHRONYC_LIMIT: Duration = Duration::from_secs(3);

/// This machine.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    libvirt: Option<Libvirt>,
    kvm: watch::Receiver<KvmState>,
    read: Mutex<Option<(Instant, Arc<HostFacts>)>>,
}

impl Host {
    /// Begins to look at the machine; a first guest is tried in the background.
    pub fn open() -> Self {
        let libvirt =
            Libvirt::start().inspect_err(|error| log::error!("libvirt cannot be asked: {error}")).ok();
        Self { root: PathBuf::from("/"), libvirt, kvm: kvm::try_in_background(), read: Mutex::new(None) }
    }

    /// The facts, at most two seconds old.
    pub async fn facts(&self) -> Arc<HostFacts> {
        let mut read = self.read.lock().await;
        if let Some((when, facts)) = read.as_ref()
            && when.elapsed() < FRESH
        {
            return Arc::clone(facts);
        }
        let facts = Arc::new(self.gather().await);
        *read = Some((Instant::now(), Arc::clone(&facts)));
        facts
    }

    /// What works on this machine and what does not.
    pub async fn checks(&self) -> Vec<Check> {
        let facts = self.facts().await;
        let mut checks = vec![checks::state_storage(&facts.state_storage), checks::network(&facts.nics)];
        checks.push(checks::kvm(&self.kvm.borrow()));
        checks.extend(facts.services.iter().map(checks::service));
        checks
    }

    async fn gather(&self) -> HostFacts {
        let root = self.root.clone();
        let (machine, services, synchronised) = tokio::join!(
            blocking(move || machine(&root)),
            services(&self.root, self.libvirt.as_ref()),
            clock_follows_server()
        );
        let mut facts = machine.unwrap_or_else(|| machine_unread(&self.root));
        facts.services = services;
        facts.clock.synchronised = synchronised;
        facts
    }
}

/// Interfaces with their addresses, for a caller that wants no more.
pub fn nics() -> Vec<Nic> {
    let mut nics = hardware::nics(Path::new("/"));
    for nic in &mut nics {
        nic.addresses.sort_by_key(|address| (!is_reachable(address.ip), address.ip));
    }
    nics
}

/// The host's name.
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

async fn clock_follows_server() -> bool {
    let tracking = run("chronyc", &["-c", "tracking"], CHRONYC_LIMIT).await;
    tracking.is_ok_and(|finished| finished.code == Some(0) && proc::clock_follows_server(&finished.stdout))
}

fn machine(root: &Path) -> HostFacts {
    let read = |path: &str| hardware::text(&root.join(path)).unwrap_or_default();
    let hardware = [read("sys/class/dmi/id/sys_vendor"), read("sys/class/dmi/id/product_name")].join(" ");
    let booted_at =
        proc::boot_second(&read("proc/stat")).and_then(|second| Timestamp::from_second(second).ok());
    HostFacts {
        hardware: if hardware.trim().is_empty() { "unknown".to_owned() } else { hardware.trim().to_owned() },
        machine_id: read("etc/machine-id"),
        image_version: proc::os_release(&read("etc/os-release"), "IMAGE_VERSION")
            .unwrap_or_else(|| "not an image".to_owned()),
        slot: hardware::running_slot(root),
        kernel: read("proc/sys/kernel/osrelease"),
        booted_at: booted_at.unwrap_or_default(),
        cpu: proc::cpu(&read("proc/cpuinfo")),
        memory: proc::memory(&read("proc/meminfo")),
        nics: nics(),
        disks: hardware::disks(root),
        state_storage: hardware::filesystem(&root.join("var")),
        ..machine_unread(root)
    }
}

/// What is left when even reading `/proc` failed.
fn machine_unread(root: &Path) -> HostFacts {
    HostFacts {
        hostname: hostname(),
        machine_id: String::new(),
        hardware: "unknown".to_owned(),
        image_version: "unknown".to_owned(),
        slot: None,
        kernel: String::new(),
        booted_at: Timestamp::default(),
        clock: Clock { now: Timestamp::now(), synchronised: false },
        cpu: proc::cpu(""),
        memory: proc::memory(""),
        nics: Vec::new(),
        disks: Vec::new(),
        state_storage: hardware::filesystem(&root.join("var")),
        services: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn facts_of_the_machine_the_tests_run_on_are_plausible() {
        let facts = Host::open().facts().await;
        assert!(facts.cpu.threads >= 1);
        assert!(facts.memory.total_bytes > 256 << 20);
        assert!(facts.memory.available_bytes <= facts.memory.total_bytes);
        assert!(!facts.kernel.is_empty());
        assert_eq!(facts.services.len(), 6);
    }

    #[tokio::test]
    async fn many_callers_at_once_are_served_by_one_reading() {
        let host = Host::open();
        let (first, second) = tokio::join!(host.facts(), host.facts());
        assert!(Arc::ptr_eq(&first, &second));
    }
}
