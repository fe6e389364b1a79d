//! Joins the sources into facts and readiness. What was read serves every caller for a moment, so that a flood of
//! questions is one reading.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quantix_api::{Check, Clock, HostFacts, Nic};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    blocking::blocking,
    hardware, kvm, pci,
    run::run,
    services::{Asked, services},
};
use crate::{
    model::{kvm::KvmState, proc},
    plan::checks::{self, is_reachable},
};

const FRESH: Duration = Duration::from_secs(2);
const CHRONYC_LIMIT: Duration = Duration::from_secs(3);

/// How long a disk or a kernel file may keep us waiting.
const MACHINE_LIMIT: Duration = Duration::from_secs(4);
/// Callers that wait to be told; more of them wait to be let in.
const QUEUE: usize = 16;

/// This machine.
#[derive(Debug)]
pub struct Host {
    kvm: watch::Receiver<KvmState>,
    kvm_is_asked: Arc<Notify>,
    questions: mpsc::Sender<oneshot::Sender<Arc<HostFacts>>>,
}

impl Host {
    /// Begins to look at the machine, whose state is kept in `state_dir`; a first guest is tried in the background.
    /// `libvirt` asks that daemon which version it is.
    pub fn open(state_dir: &Path, libvirt: Asked) -> Self {
        let (questions, asked) = mpsc::channel(QUEUE);
        let sources =
            Sources { root: PathBuf::from("/"), state_dir: state_dir.to_owned(), libvirt, machine: None };
        // Ends with the last sender, which is in the value returned here.
        tokio::spawn(answer(asked, sources));
        let kvm_is_asked = Arc::<Notify>::default();
        Self { kvm: kvm::try_in_background(Arc::clone(&kvm_is_asked)), kvm_is_asked, questions }
    }

    /// The facts, at most two seconds old.
    pub async fn facts(&self) -> Arc<HostFacts> {
        let (sender, answered) = oneshot::channel();
        if self.questions.send(sender).await.is_ok()
            && let Ok(facts) = answered.await
        {
            return facts;
        }
        Arc::new(machine_unread())
    }

    /// Whether guests run on the processor itself. If it is not known yet, it is tried at once.
    pub async fn runs_guests_itself(&self) -> bool {
        let mut kvm = self.kvm.clone();
        if *kvm.borrow() == KvmState::Trying {
            self.kvm_is_asked.notify_one();
        }
        // The sender is in this value too, and tries to its end.
        kvm.wait_for(|state| *state != KvmState::Trying).await.is_ok_and(|state| *state == KvmState::Works)
    }

    /// What works on this machine and what does not.
    pub async fn checks(&self) -> Vec<Check> {
        let facts = self.facts().await;
        let mut checks = vec![checks::state_storage(&facts.state_storage), checks::network(&facts.nics)];
        checks.push(checks::kvm(&self.kvm.borrow()));
        checks.extend(facts.services.iter().map(checks::service));
        checks
    }
}

/// Reads for whoever asks, one reading at a time. A reading belongs to this task and not to a caller: one that gives
/// up while a daemon hangs must not make the next begin from the start, or nobody would ever be answered.
async fn answer(mut asked: mpsc::Receiver<oneshot::Sender<Arc<HostFacts>>>, mut sources: Sources) {
    let mut read: Option<(Instant, Arc<HostFacts>)> = None;
    while let Some(question) = asked.recv().await {
        let fresh =
            read.as_ref().filter(|(when, _)| when.elapsed() < FRESH).map(|(_, facts)| Arc::clone(facts));
        let facts = match fresh {
            Some(facts) => facts,
            None => {
                let facts = Arc::new(sources.gather().await);
                read = Some((Instant::now(), Arc::clone(&facts)));
                facts
            }
        };
        // Who gave up does not need to be told.
        let _ = question.send(facts);
    }
}

/// What facts are read from.
struct Sources {
    root: PathBuf,
    state_dir: PathBuf,
    libvirt: Asked,
    /// A reading that has not ended. Another one would only hang beside it.
    machine: Option<JoinHandle<Option<HostFacts>>>,
}

impl Sources {
    async fn gather(&mut self) -> HostFacts {
        let (root, state_dir) = (self.root.clone(), self.state_dir.clone());
        let reading =
            self.machine.get_or_insert_with(|| tokio::spawn(blocking(move || machine(&root, &state_dir))));
        let (machine, services, synchronised) = tokio::join!(
            timeout(MACHINE_LIMIT, reading),
            services(&self.root, (self.libvirt)()),
            clock_follows_server()
        );
        if machine.is_ok() {
            self.machine = None;
        }
        let mut facts = machine.ok().and_then(Result::ok).flatten().unwrap_or_else(machine_unread);
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

/// The host's name. Every image says `quantix`: then the end of the machine-id tells hosts apart.
pub fn hostname() -> String {
    let set = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let machine_id = hardware::text(Path::new("/etc/machine-id")).unwrap_or_default();
    name_of(&set.unwrap_or_default(), &machine_id)
}

fn name_of(set: &str, machine_id: &str) -> String {
    match set {
        "" | "quantix" | "localhost" => {
            let end =
                machine_id.len().checked_sub(6).and_then(|start| machine_id.get(start..)).unwrap_or("host");
            format!("quantix-{end}")
        }
        set => set.to_owned(),
    }
}

async fn clock_follows_server() -> bool {
    let tracking = run("chronyc", &["-c", "tracking"], CHRONYC_LIMIT).await;
    tracking.is_ok_and(|finished| finished.code == Some(0) && proc::clock_follows_server(&finished.stdout))
}

fn machine(root: &Path, state_dir: &Path) -> HostFacts {
    let read = |path: &str| hardware::text(&root.join(path)).unwrap_or_default();
    let hardware = [read("sys/class/dmi/id/sys_vendor"), read("sys/class/dmi/id/product_name")].join(" ");
    let booted_at =
        proc::boot_second(&read("proc/stat")).and_then(|second| Timestamp::from_second(second).ok());
    let nics = nics();
    HostFacts {
        hardware: if hardware.trim().is_empty() { "unknown".to_owned() } else { hardware.trim().to_owned() },
        machine_id: read("etc/machine-id"),
        image_version: proc::os_release(&read("etc/os-release"), "IMAGE_VERSION")
            .unwrap_or_else(|| HostFacts::NO_IMAGE.to_owned()),
        slot: hardware::running_slot(root),
        kernel: read("proc/sys/kernel/osrelease"),
        booted_at: booted_at.unwrap_or_default(),
        cpu: proc::cpu(&read("proc/cpuinfo")),
        memory: proc::memory(&read("proc/meminfo")),
        pci: pci::devices(root, &nics),
        nics,
        disks: hardware::disks(root),
        state_storage: hardware::filesystem(root, state_dir),
        ..machine_unread()
    }
}

/// What is left when even reading `/proc` failed, or has not ended.
fn machine_unread() -> HostFacts {
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
        pci: Vec::new(),
        state_storage: hardware::unanswered_filesystem(),
        services: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_were_given_no_name_are_told_apart() {
        assert_eq!(name_of("quantix", "51a7c0de000040008000000000000001"), "quantix-000001");
        assert_eq!(name_of("", ""), "quantix-host");
        assert_eq!(name_of("qx-01", "51a7c0de000040008000000000000001"), "qx-01");
    }

    fn host() -> Host {
        Host::open(Path::new("/var"), Box::new(|| Box::pin(async { Err("nobody is asked".to_owned()) })))
    }

    #[tokio::test]
    async fn facts_of_the_machine_the_tests_run_on_are_plausible() {
        let facts = host().facts().await;
        assert!(facts.cpu.threads >= 1);
        assert!(facts.memory.total_bytes > 256 << 20);
        assert!(facts.memory.available_bytes <= facts.memory.total_bytes);
        assert!(!facts.kernel.is_empty());
        assert_eq!(facts.services.len(), 6);
    }

    #[tokio::test]
    async fn many_callers_at_once_are_served_by_one_reading() {
        let host = host();
        let (first, second) = tokio::join!(host.facts(), host.facts());
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_does_not_undo_the_reading() {
        let host = host();
        let _ = timeout(Duration::ZERO, host.facts()).await;
        let first = host.facts().await;
        assert!(Arc::ptr_eq(&first, &host.facts().await));
    }
}
