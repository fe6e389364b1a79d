//! Virtual machines that libvirt has and nobody keeps, which become machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use quantix_api::{
    Cache, CallError, ChangeVm, EventQuery, FoundVm, ImportVm, NewDisk, NewRole, ProblemCode, Right, Task,
    TaskState, VmAction, VmSpec, VmState, VolumeQuery, calls,
};
use quantix_libvirt::count;

use crate::{
    hosts::{problem, until},
    place::{Place, new},
};

const MIB: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
pub(crate) fn qemu_img(args: &[&str]) {
    let done = Command::new("qemu-img").args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What is on a disk, sector by sector.
pub(crate) fn content(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("content");
    qemu_img(&["check", "-q", &path.display().to_string()]);
    qemu_img(&["convert", "-O", "raw", &path.display().to_string(), &raw.display().to_string()]);
    let content = fs::read(&raw).unwrap();
    fs::remove_file(raw).unwrap();
    content
}

fn disk(path: &Path, format: &str, target: &str) -> String {
    let bus = if target.starts_with("vd") { "virtio" } else { "ide" };
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{}'/>
         <target dev='{target}' bus='{bus}'/></disk>",
        path.display()
    )
}

impl Place {
    fn own(&self, file: &str) -> PathBuf {
        let dir = self.host.dir().join("of others");
        fs::create_dir_all(&dir).unwrap();
        dir.join(file)
    }

    /// A raw disk with something on all of it.
    fn raw(&self, file: &str, mib: usize) -> PathBuf {
        let path = self.own(file);
        let bytes: Vec<u8> =
            (0..mib * MIB / 8).flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// As somebody makes a machine who knows nothing of us.
    fn defines(&self, name: &str, devices: &str) -> String {
        self.daemon.define(&format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>"
        ));
        self.daemon.virsh(&["domuuid", name]).trim().to_owned()
    }

    async fn found(&self) -> Vec<FoundVm> {
        let here = self.here().await;
        self.host.client().call(&calls::found_vms(&here).as_session(&self.session)).await.unwrap().items
    }

    pub(crate) async fn here(&self) -> String {
        self.host.client().call(&calls::cluster().as_session(&self.session)).await.unwrap().this_host
    }

    async fn asks_for(&self, vm: &str) -> Result<Task, CallError> {
        let body = ImportVm { host: self.here().await, vm: vm.into(), name: None, folder: None };
        self.host.client().call(&calls::import_vm(&body).as_session(&self.session)).await
    }

    async fn imports(&self, vm: &str) {
        let task = self.asks_for(vm).await.unwrap();
        let task = self.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }

    fn described(&self, vm: &str) -> String {
        self.daemon.virsh(&["dumpxml", vm, "--inactive"])
    }

    fn volume_files(&self) -> Vec<PathBuf> {
        let dir = self.host.dir().join("quantix-pools/local/volumes");
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Where the disks of a machine are, as libvirt says.
    fn disks_of(&self, vm: &str) -> Vec<PathBuf> {
        let listed = self.daemon.virsh(&["domblklist", vm, "--inactive"]);
        let path = |line: &str| line.split_whitespace().nth(1).filter(|path| *path != "-").map(PathBuf::from);
        listed.lines().filter_map(path).collect()
    }

    async fn alarms(&self) -> Vec<String> {
        let query = EventQuery { open: Some(true), ..EventQuery::default() };
        let events = self.host.client().call(&calls::events(&query).as_session(&self.session)).await.unwrap();
        let sentences = events.items.into_iter().map(|event| event.sentence);
        sentences.filter(|sentence| sentence.contains("not among the machines")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_somebody_made_there_is_told_of_and_imported() {
    let place = Place::start().await.with_pool().await;
    let raw = place.raw("first, disk.raw", 8);
    let qcow2 = place.own("second.qcow2");
    qemu_img(&["convert", "-O", "qcow2", &raw.display().to_string(), &qcow2.display().to_string()]);
    let before = (fs::read(&raw).unwrap(), fs::read(&qcow2).unwrap());
    let devices = disk(&raw, "raw", "hda")
        + &disk(&qcow2, "qcow2", "vdb")
        + "<interface type='bridge'><mac address='52:54:00:11:22:33'/><source bridge='br0'/></interface>
           <interface type='user'><mac address='52:54:00:11:22:34'/></interface>";
    let id = place.defines("old-mail", &devices);
    until("people are told", async || place.alarms().await.iter().any(|told| told.contains("old-mail")))
        .await;
    let [found] = <[FoundVm; 1]>::try_from(place.found().await).unwrap();
    assert_eq!(
        (found.id.as_str(), found.called.as_str(), found.state),
        (id.as_str(), "old-mail", VmState::Stopped)
    );
    assert_eq!(found.why_not, "");
    let sizes: Vec<_> =
        found.disks.iter().map(|disk| (disk.bytes, disk.is_raw, disk.volume.is_none())).collect();
    assert_eq!(sizes, [(8 << 20, true, true), (8 << 20, false, true)]);
    assert!(found.left_out.iter().any(|told| told.contains("goes to br-int")), "{:?}", found.left_out);
    place.imports(&id).await;
    let vm = place.vm(&id).await;
    assert_eq!((vm.spec.name.as_str(), vm.spec.memory.mib, vm.state), ("old-mail", 64, VmState::Stopped));
    assert!(vm.drift.is_empty() && vm.trouble.is_empty(), "{vm:?}");
    let cards: Vec<_> = vm.spec.nics.iter().map(|nic| (nic.mac.as_str(), nic.bridge.as_str())).collect();
    assert_eq!(cards, [("52:54:00:11:22:33", "br0"), ("52:54:00:11:22:34", "br-int")]);
    // It is the same to libvirt, and what others have is as it was.
    assert_eq!(place.domain(&id), "old-mail");
    assert_eq!((fs::read(&raw).unwrap(), fs::read(&qcow2).unwrap()), before);
    let disks = place.disks_of(&id);
    assert!(disks.iter().all(|path| path.starts_with(place.host.dir().join("quantix-pools"))), "{disks:?}");
    assert!(disks.len() == 2 && disks.iter().all(|path| content(path) == before.0));
    let volumes = calls::volumes(&VolumeQuery::default()).as_session(&place.session);
    let volumes = place.host.client().call(&volumes).await.unwrap().items;
    let mut names: Vec<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["old-mail-disk-1", "old-mail-disk-2"]);
    assert!(place.found().await.is_empty());
    let again = problem(place.asks_for(&id).await);
    assert_eq!(again.code, ProblemCode::NotFound);
    // It lives, and has another name: libvirt goes on calling it what it called it.
    let bios_only = VmSpec { nics: Vec::new(), name: "mail".into(), ..vm.spec };
    let change = ChangeVm { spec: Some(bios_only), ..ChangeVm::default() };
    let call = calls::change_vm(&id, &change).if_version(vm.version).as_session(&place.session);
    place.host.client().call(&call).await.unwrap();
    place.does(&id, VmAction::Start).await;
    let vm = place.vm(&id).await;
    assert_eq!((vm.state, vm.trouble.as_str(), vm.spec.name.as_str()), (VmState::Running, "", "mail"));
    assert_eq!(place.domain(&id), "old-mail");
    place.does(&id, VmAction::ForceStop).await;
    place.remove(&id).await;
    assert!(place.domains().is_empty() && place.volume_files().is_empty());
    assert!(raw.exists() && qcow2.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_has_another_name_keeps_what_libvirt_calls_it_when_its_host_starts_anew() {
    let mut place = Place::start().await;
    let id = place.make(&new("web-01")).await;
    let called = place.domain(&id);
    let vm = place.vm(&id).await;
    let renamed = ChangeVm { spec: Some(VmSpec { name: "web-02".into(), ..vm.spec }), ..ChangeVm::default() };
    let call = calls::change_vm(&id, &renamed).if_version(vm.version).as_session(&place.session);
    place.host.client().call(&call).await.unwrap();
    until("libvirt knows", async || place.described(&id).contains("<title>web-02</title>")).await;
    assert_eq!((place.domain(&id), place.vm(&id).await.trouble.as_str()), (called.clone(), ""));
    place.host.kill();
    place.daemon.lose_everything();
    place.host.forget_start();
    place.host.start_again();
    place.host.ready().await;
    until("it is described again", async || place.domains() == [id.clone()]).await;
    assert_eq!(place.domain(&id), called);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_nobody_keeps_is_taken_over_where_it_lies_also_while_its_machine_is_on() {
    let place = Place::start().await.with_pool().await;
    let raw = place.raw("a.raw", 4);
    let file = "0190c6f4-7a10-7cc0-b2aa-0123456789ab.qcow2";
    let path = place.host.dir().join("quantix-pools/local/volumes").join(file);
    qemu_img(&["convert", "-O", "qcow2", &raw.display().to_string(), &path.display().to_string()]);
    let id = place.defines("lost", &disk(&path, "qcow2", "vda"));
    place.daemon.virsh(&["start", "lost"]);
    until("it is found", async || place.found().await.iter().any(|found| found.state == VmState::Running))
        .await;
    let found = place.found().await;
    assert_eq!(found[0].disks[0].volume.as_deref(), Some(&file[..36]));
    assert_eq!(found[0].why_not, "");
    place.imports(&id).await;
    let vm = place.vm(&id).await;
    assert_eq!((vm.state, vm.trouble.as_str()), (VmState::Running, ""));
    assert_eq!(vm.spec.disks[0].volume, file[..36]);
    assert_eq!(place.volume_files(), std::slice::from_ref(&path));
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    place.does(&id, VmAction::ForceStop).await;
    assert!(content(&path) == fs::read(&raw).unwrap());
    place.remove(&id).await;
    assert!(place.volume_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_and_stays() {
    let place = Place::start().await.with_pool().await;
    let raw = place.raw("a.raw", 4);
    let evil = place.own("evil.qcow2");
    qemu_img(&[
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-b",
        "/etc/shadow",
        "-F",
        "raw",
        &evil.display().to_string(),
        "8M",
    ]);
    // What somebody has already.
    let made = place.make(&new("web-01")).await;
    let one = NewDisk {
        pool: "local".into(),
        bytes: 4 << 20,
        image: None,
        linked: false,
        bus: None,
        cache: Cache::default(),
    };
    let task =
        place.host.client().call(&calls::add_disk(&made, &one).as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    until("libvirt has it", async || !place.disks_of(&made).is_empty()).await;
    let taken = place.disks_of(&made).remove(0);
    let pipe = place.own("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let gone = place.own("gone.raw");
    for (name, devices, why) in [
        ("names-another", disk(&evil, "qcow2", "vda"), "differs from another file"),
        ("taken", disk(&taken, "qcow2", "vda"), "is the volume web-01-disk-1"),
        ("pipe", disk(&pipe, "raw", "vda"), "is no file"),
        ("gone", disk(&gone, "raw", "vda"), "No such file"),
        (
            "device",
            "<disk type='block'><source dev='/dev/null'/><target dev='vda' bus='virtio'/></disk>".to_owned(),
            "Only disks that are files",
        ),
    ] {
        let id = place.defines(name, &devices);
        let before = place.described(&id);
        until(name, async || place.found().await.iter().any(|found| found.called == name)).await;
        let found = place.found().await.into_iter().find(|found| found.called == name).unwrap();
        assert!(found.why_not.contains(why), "{name}: {}", found.why_not);
        let refused = problem(place.asks_for(&id).await);
        assert_eq!((refused.code, refused.detail), (ProblemCode::Conflict, found.why_not), "{name}");
        assert_eq!(place.described(&id), before);
        place.daemon.virsh(&["undefine", name]);
    }
    // One that is on, whose disk would have to be copied.
    let id = place.defines("busy", &disk(&raw, "raw", "vda"));
    place.daemon.virsh(&["start", "busy"]);
    assert!(problem(place.asks_for(&id).await).detail.contains("It is on"));
    place.daemon.virsh(&["destroy", "busy"]);
    // Two people at once, and a name that is taken.
    let (one, other) = tokio::join!(place.asks_for(&id), place.asks_for(&id));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let task = one.or(other).unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    let second = place.defines("web-01", &disk(&raw, "raw", "vda"));
    let taken = problem(place.asks_for(&second).await);
    assert!(taken.detail.contains("machine named web-01"), "{taken:?}");
    let body =
        ImportVm { host: place.here().await, vm: second.clone(), name: Some("web-02".into()), folder: None };
    // Who may manage machines and not operate the host may not.
    let client = place.host.client();
    let role = NewRole {
        name: "machines".into(),
        purpose: String::new(),
        rights: [Right::See, Right::ManageVms, Right::OperateVms].into(),
    };
    client.call(&calls::make_role(&role).as_session(&place.session)).await.unwrap();
    let ada = place.host.somebody(&place.session, "ada", "machines").await;
    let refused = problem(client.call(&calls::import_vm(&body).as_session(&ada)).await);
    assert_eq!(refused.code, ProblemCode::Forbidden);
    client.call(&calls::import_vm(&body).as_session(&place.session)).await.unwrap();
    until("it is there", async || {
        place.vms().await.iter().any(|vm| vm.spec.name == "web-02" && vm.task.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_or_stopped_in_the_middle_leaves_it_imported_or_as_it_was() {
    let mut place = Place::start().await.with_pool().await;
    let raw = place.raw("big.raw", 200);
    for round in (0..5_u64).step_by(count(2, 1)) {
        let id = place.defines(&format!("old-{round}"), &disk(&raw, "raw", "vda"));
        let task = place.asks_for(&id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * 150)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "round {round}: {task:?}");
        let disks = place.disks_of(&id);
        assert!(content(&disks[0]) == fs::read(&raw).unwrap(), "round {round}");
        assert_eq!(place.volume_files(), disks);
        place.remove(&id).await;
        assert!(place.volume_files().is_empty(), "round {round}");
    }
    let id = place.defines("stopped", &disk(&raw, "raw", "vda"));
    let before = place.described(&id);
    let task = place.asks_for(&id).await.unwrap();
    until("it is copied", async || !place.volume_files().is_empty()).await;
    place.host.client().call(&calls::cancel_task(task.id).as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Cancelled);
    assert_eq!(place.described(&id), before);
    assert!(place.volume_files().is_empty() && place.vms().await.is_empty());
    assert_eq!(place.found().await.len(), 1);
    // Somebody starts it while it is copied. QEMU refuses as long as the file is read.
    let task = place.asks_for(&id).await.unwrap();
    until("it is copied", async || !place.volume_files().is_empty()).await;
    let started = place.daemon.tries_virsh(&["start", "stopped"]);
    let task = place.ended(task.id).await;
    if let Err(refused) = started {
        assert!(refused.contains("lock"), "{refused}");
        assert_eq!(task.state, TaskState::Done);
    } else {
        assert_eq!(task.state, TaskState::Failed, "{task:?}");
        assert!(task.outcome.contains("It is on"), "{task:?}");
        assert!(place.volume_files().is_empty() && place.vms().await.is_empty());
        assert_eq!(place.described(&id), before);
    }
}
