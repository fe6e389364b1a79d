//! What is done with the layers of disks while a machine is on, and with its memory.

use std::{path::PathBuf, process::Command, time::Duration};

use quantix_api::{VmDisk, VmSpec, VmState};
use quantix_compute::{
    Accelerator, Chain, Drive, Element, Failed, Format, Libvirt, VmId, chains, draw_hold, with_files,
};
use quantix_libvirt::Daemon;

use crate::machines::{connect, description, spec, state};

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn qemu_img(args: &[&str]) {
    let done = Command::new("qemu-img").args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

pub(crate) struct Disk {
    pub(crate) daemon: Daemon,
    pub(crate) id: VmId,
}

impl Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.daemon.dir.path().join(format!("{name}.qcow2"))
    }

    fn lay(&self, name: &str, on: &str) {
        let on = format!("{on}.qcow2");
        let path = self.path(name).display().to_string();
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &on, &path]);
    }

    async fn domain(&self, libvirt: &Libvirt) -> Element {
        Element::from_xml(&libvirt.running(self.id).await.unwrap()).unwrap()
    }

    async fn chain(&self, libvirt: &Libvirt) -> Chain {
        chains(&self.domain(libvirt).await).into_iter().find(|chain| chain.target == "vda").unwrap()
    }

    async fn names(&self, libvirt: &Libvirt) -> Vec<String> {
        let chain = self.chain(libvirt).await;
        chain
            .layers
            .iter()
            .map(|layer| layer.path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    async fn hold(&self, libvirt: &Libvirt, now: &str, next: &str, memory: Option<&PathBuf>) {
        self.lay(next, now);
        let layers = [(self.path(now), self.path(next))];
        let drawn = draw_hold(&self.domain(libvirt).await, &layers, memory.map(PathBuf::as_path));
        libvirt.hold(self.id, &drawn, false).await.unwrap();
    }
}

/// A machine with one disk that is on.
pub(crate) async fn machine() -> (Disk, Libvirt) {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let disk = Disk { daemon, id: VmId::new() };
    let path = disk.path("a");
    qemu_img(&["create", "-q", "-f", "qcow2", &path.display().to_string(), "16M"]);
    let wanted = VmDisk::usual("a");
    let spec = VmSpec { disks: vec![wanted], ..spec("one") };
    let drives = [Drive { path, format: Format::Qcow2 }];
    // What it would be told is not asked for here.
    let described = description(disk.id, &spec, &drives, Accelerator::Tcg);
    let mut described = Element::from_xml(&described).unwrap();
    let devices = described.children.iter_mut().find(|child| child.name == "devices").unwrap();
    devices
        .children
        .retain(|child| child.child("target").and_then(|target| target.attribute("dev")) != Some("vdz"));
    libvirt.define(described.to_xml()).await.unwrap();
    libvirt.start(disk.id, false).await.unwrap();
    (disk, libvirt)
}

async fn ends(libvirt: &Libvirt, id: VmId, is_over: impl Fn(Option<quantix_compute::Job>) -> bool) {
    let wait = async {
        while !is_over(libvirt.job(id, "vda").await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_on_goes_on_with_other_layers_and_comes_back_to_one() {
    let (disk, libvirt) = machine().await;
    disk.hold(&libvirt, "a", "b", None).await;
    disk.hold(&libvirt, "b", "c", None).await;
    assert_eq!(state(&libvirt, disk.id).await, VmState::Running);
    assert_eq!(disk.names(&libvirt).await, ["c", "b", "a"]);
    // What libvirt keeps says the same.
    let kept = Element::from_xml(&libvirt.description(disk.id).await.unwrap()).unwrap();
    assert_eq!(chains(&kept)[0].layers[0].path, disk.path("c"));

    // The one in the middle goes into the lowest.
    let chain = disk.chain(&libvirt).await;
    let name = |at: usize| chain.name(&chain.layers[at]).unwrap();
    libvirt.merge(disk.id, "vda", Some(&name(1)), &name(2)).await.unwrap();
    ends(&libvirt, disk.id, |job| job.is_none()).await;
    assert_eq!(disk.names(&libvirt).await, ["c", "a"]);

    // So does the one that is written to.
    let chain = disk.chain(&libvirt).await;
    let lower = chain.name(&chain.layers[1]).unwrap();
    libvirt.merge(disk.id, "vda", None, &lower).await.unwrap();
    ends(&libvirt, disk.id, |job| job.is_some_and(|job| job.done == job.whole)).await;
    assert!(disk.chain(&libvirt).await.is_ready);
    libvirt.pause(disk.id).await.unwrap();
    libvirt.end_job(disk.id, "vda", true).await.unwrap();
    libvirt.resume(disk.id).await.unwrap();
    assert_eq!(disk.names(&libvirt).await, ["a"]);
    assert_eq!(libvirt.job(disk.id, "vda").await.unwrap(), None);
    libvirt.force_stop(disk.id).await.unwrap();
    qemu_img(&["check", "-q", &disk.path("a").display().to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_was_kept_wakes_with_other_layers() {
    let (disk, libvirt) = machine().await;
    let memory = disk.daemon.dir.path().join("one.part");
    disk.hold(&libvirt, "a", "b", Some(&memory)).await;
    assert_eq!(state(&libvirt, disk.id).await, VmState::Running);
    assert_eq!(disk.names(&libvirt).await, ["b", "a"]);
    libvirt.force_stop(disk.id).await.unwrap();

    disk.lay("c", "a");
    let kept = Element::from_xml(&libvirt.kept_description(&memory).await.unwrap()).unwrap();
    assert_eq!(chains(&kept)[0].layers[0].path, disk.path("a"));
    let described = with_files(kept, &[("vda".into(), disk.path("c"))]).to_xml();
    libvirt.wake(&memory, &described).await.unwrap();
    assert_eq!(state(&libvirt, disk.id).await, VmState::Paused);
    assert_eq!(disk.names(&libvirt).await, ["c", "a"]);
    libvirt.resume(disk.id).await.unwrap();
    assert_eq!(state(&libvirt, disk.id).await, VmState::Running);
    libvirt.force_stop(disk.id).await.unwrap();
    // A second time, as often as one wants.
    disk.lay("d", "a");
    let kept = Element::from_xml(&libvirt.kept_description(&memory).await.unwrap()).unwrap();
    let described = with_files(kept, &[("vda".into(), disk.path("d"))]).to_xml();
    libvirt.wake(&memory, &described).await.unwrap();
    // What is no memory is refused.
    std::fs::write(&memory, "torn").unwrap();
    assert!(matches!(libvirt.kept_description(&memory).await, Err(Failed::Refused(_))));
    libvirt.force_stop(disk.id).await.unwrap();
}
