//! Snapshots of machines, on and off, and machines that are cloned, with the libvirt and the QEMU of the image.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use quantix_api::{
    CallError, ChangeSnapshot, ChangeVm, CloneVm, GrowVolume, NewSchedule, NewSnapshot, NewVm, ProblemCode,
    RemoveSnapshot, RemoveVm, RevertVm, Snapshot, Task, TaskState, Vm, VmAction, VmPolicy, VmSpec, VmState,
    Weekday, When, calls,
};
use quantix_libvirt::count;

use crate::{
    hosts::{problem, until, until_it},
    place::{Place, disk, new},
};

const MIB: u64 = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "a test asks the system's own programs")]
fn ran(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("failed"), "{program} {args:?}: {output:?}");
    said
}

fn snapshot(name: &str) -> NewSnapshot {
    NewSnapshot { name: name.into(), description: String::new(), memory: false, freeze: false }
}

impl Place {
    /// A machine with one disk, of 64 MiB.
    async fn with_disk(&self, name: &str) -> String {
        self.make(&NewVm { disks: vec![disk(64 * MIB)], ..new(name) }).await
    }

    async fn begun(&self, id: &str, new: &NewSnapshot) -> Result<Task, CallError> {
        self.host.client().call(&calls::make_snapshot(id, new).as_session(&self.session)).await
    }

    async fn snapshots(&self, id: &str) -> Vec<Snapshot> {
        self.host.client().call(&calls::snapshots(id).as_session(&self.session)).await.unwrap().items
    }

    async fn snapshot(&self, id: &str, name: &str) -> Snapshot {
        self.snapshots(id).await.into_iter().find(|snapshot| snapshot.name == name).unwrap()
    }

    async fn is_done(&self, task: Task) {
        let task = self.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }

    async fn holds(&self, id: &str, new: &NewSnapshot) {
        let task = self.begun(id, new).await.unwrap();
        self.is_done(task).await;
    }

    async fn goes_back(&self, id: &str, name: &str) {
        let snapshot = self.snapshot(id, name).await.id;
        let call = calls::revert_vm(id, &snapshot, &RevertVm::default()).as_session(&self.session);
        let task = self.host.client().call(&call).await.unwrap();
        self.is_done(task).await;
    }

    async fn asks_to_drop(&self, id: &str, name: &str) -> Task {
        let snapshot = self.snapshot(id, name).await.id;
        let call = calls::remove_snapshot(id, &snapshot, &RemoveSnapshot::default());
        self.host.client().call(&call.as_session(&self.session)).await.unwrap()
    }

    async fn drops(&self, id: &str, name: &str) {
        let task = self.asks_to_drop(id, name).await;
        self.is_done(task).await;
    }

    async fn clones(&self, id: &str, clone: &CloneVm) -> String {
        self.is_left_alone(id).await;
        let task =
            self.host.client().call(&calls::clone_vm(id, clone).as_session(&self.session)).await.unwrap();
        let object = task.object.clone();
        self.is_done(task).await;
        object.strip_prefix("vm/").unwrap().to_owned()
    }

    /// The file that a machine writes to, as libvirt keeps it.
    fn head(&self, id: &str) -> PathBuf {
        let listed = self.daemon.virsh(&["domblklist", id, "--inactive"]);
        let line = listed.lines().find(|line| line.trim().starts_with("vda")).unwrap();
        PathBuf::from(line.split_whitespace().nth(1).unwrap())
    }

    /// The files that QEMU has open, the one that is written to first.
    fn open_files(&self, id: &str) -> Vec<String> {
        let running = self.daemon.virsh(&["dumpxml", id]);
        let disk = running.split("<disk ").nth(1).unwrap().split("</disk>").next().unwrap();
        let named = disk.split("<source file='").skip(1);
        named.map(|rest| rest.split('\'').next().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    }

    fn writes(&self, id: &str, mib: u64, letter: u8) {
        let path = self.head(id).display().to_string();
        ran("qemu-io", &["-f", "qcow2", "-c", &format!("write -P {letter} {mib}M 1M"), &path]);
    }

    /// What a machine that is off has on its disk, and that the disk is whole.
    fn reads(&self, id: &str, letters: &[u8]) {
        let path = self.head(id).display().to_string();
        for (mib, letter) in letters.iter().enumerate() {
            ran("qemu-io", &["-f", "qcow2", "-c", &format!("read -P {letter} {mib}M 1M"), &path]);
        }
        ran("qemu-img", &["check", "-q", &path]);
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.host.dir().join("quantix-pools/local/volumes")).unwrap().count()
    }

    fn memories(&self) -> usize {
        fs::read_dir(self.host.dir().join("quantix-pools/local/memory")).map_or(0, Iterator::count)
    }

    async fn is_sound(&self, id: &str) {
        let is_sound = |vm: &Vm| vm.drift.is_empty() && vm.trouble.is_empty() && vm.task.is_none();
        until_it("nothing differs", async || self.vm(id).await, is_sound).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_goes_back_and_forth_between_moments_of_a_machine_that_is_off() {
    let place = Place::start().await.with_pool().await;
    let id = place.with_disk("web-01").await;
    place.writes(&id, 0, 1);
    place.holds(&id, &snapshot("one")).await;
    place.is_sound(&id).await;
    place.writes(&id, 0, 2);
    place.holds(&id, &snapshot("two")).await;
    place.writes(&id, 1, 3);
    place.reads(&id, &[2, 3]);
    let all = place.snapshots(&id).await;
    assert_eq!(all[1].parent.as_ref(), Some(&all[0].id));
    assert!(all[1].is_current && !all[0].is_current && all.iter().all(|one| one.is_ready && one.disks == 1));
    assert_eq!(place.vm(&id).await.snapshots, 2);

    // Back to the first, and another way from there.
    place.goes_back(&id, "one").await;
    place.reads(&id, &[1, 0]);
    place.is_sound(&id).await;
    place.writes(&id, 1, 4);
    place.holds(&id, &snapshot("three")).await;
    assert_eq!(place.snapshot(&id, "three").await.parent, Some(all[0].id.clone()));
    // The first, the second, the third, and what is written to.
    assert_eq!(place.layers(), 4);
    place.goes_back(&id, "two").await;
    place.reads(&id, &[2, 0]);

    // What both came from goes, and both stay what they were.
    place.drops(&id, "one").await;
    place.reads(&id, &[2, 0]);
    place.goes_back(&id, "three").await;
    place.reads(&id, &[1, 4]);
    place.drops(&id, "two").await;
    place.reads(&id, &[1, 4]);
    place.drops(&id, "three").await;
    place.reads(&id, &[1, 4]);
    assert_eq!((place.layers(), place.snapshots(&id).await.len()), (1, 0));
    place.is_sound(&id).await;
    place.remove(&id).await;
    assert_eq!(place.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_on_goes_on_while_it_is_held_and_wakes_where_it_was() {
    let place = Place::start().await.with_pool().await;
    let id = place.with_disk("web-01").await;
    place.writes(&id, 0, 1);
    place.does(&id, VmAction::Start).await;
    place.holds(&id, &snapshot("disks")).await;
    place.holds(&id, &NewSnapshot { memory: true, ..snapshot("all of it") }).await;
    place.holds(&id, &snapshot("later")).await;
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    place.is_sound(&id).await;
    assert_eq!((place.open_files(&id).len(), place.layers(), place.memories()), (4, 4, 1));
    let kept = place.snapshot(&id, "all of it").await;
    assert!(kept.has_memory && kept.bytes.unwrap() > MIB, "{kept:?}");
    // The clock of a machine that wakes is that of then; its process is another.
    let before = place.daemon.guest(&place.domain(&id));

    // Those in the middle go while it is on.
    place.drops(&id, "disks").await;
    assert_eq!(place.open_files(&id).len(), 3);
    place.is_sound(&id).await;

    place.goes_back(&id, "all of it").await;
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    assert_ne!(place.daemon.guest(&place.domain(&id)), before);
    place.is_sound(&id).await;
    // And once more, after it was off.
    place.does(&id, VmAction::ForceStop).await;
    place.reads(&id, &[1]);
    place.goes_back(&id, "all of it").await;
    assert_eq!(place.vm(&id).await.state, VmState::Running);

    // All go: what it writes to goes into what it lay on, while it is on.
    place.drops(&id, "later").await;
    place.drops(&id, "all of it").await;
    assert_eq!((place.open_files(&id).len(), place.memories()), (1, 0));
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    place.is_sound(&id).await;
    // It can be held again at once, and grow.
    place.holds(&id, &snapshot("again")).await;
    let volume = place.vm(&id).await.spec.disks[0].volume.clone();
    let grow = calls::grow_volume(&volume, &GrowVolume { bytes: 128 * MIB }).as_session(&place.session);
    let task = place.host.client().call(&grow).await.unwrap();
    place.is_done(task).await;
    place.drops(&id, "again").await;
    place.is_sound(&id).await;
    // Suspended it is known by the names it had, and starts by them.
    place.does(&id, VmAction::Suspend).await;
    place.does(&id, VmAction::Start).await;
    place.does(&id, VmAction::ForceStop).await;
    place.reads(&id, &[1]);
    place.does(&id, VmAction::Start).await;
    assert_eq!(place.layers(), 1);
    place.does(&id, VmAction::ForceStop).await;
    place.reads(&id, &[1]);
    place.is_sound(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_a_machine_of_its_own_whole_or_linked() {
    let place = Place::start().await.with_pool().await;
    let id = place.with_disk("web-01").await;
    place.writes(&id, 0, 1);
    place.does(&id, VmAction::Start).await;
    let asked = |name: &str, linked| CloneVm {
        name: name.into(),
        folder: None,
        snapshot: None,
        linked,
        start: false,
    };
    // Whole: nothing is left of how it was made.
    let whole = place.clones(&id, &asked("web-02", false)).await;
    until("the snapshot is gone that was made for it", async || place.snapshots(&id).await.is_empty()).await;
    until("its layers are together", async || place.open_files(&id).len() == 1).await;
    place.reads(&whole, &[1]);
    assert!(!ran("qemu-img", &["info", &place.head(&whole).display().to_string()]).contains("backing file"));
    assert_eq!(place.vm(&id).await.state, VmState::Running);

    let linked = place.clones(&id, &asked("web-03", true)).await;
    place.reads(&linked, &[1]);
    assert_eq!(place.snapshots(&id).await[0].name, "For web-03");
    place.writes(&linked, 0, 3);
    // Both run beside each other, and neither is what the other is.
    place.does(&linked, VmAction::Start).await;
    place.does(&linked, VmAction::ForceStop).await;
    place.does(&id, VmAction::ForceStop).await;
    place.reads(&id, &[1]);
    place.reads(&linked, &[3]);
    let other = place
        .clones(
            &id,
            &CloneVm { snapshot: Some(place.snapshots(&id).await[0].id.clone()), ..asked("web-04", true) },
        )
        .await;
    place.reads(&other, &[1]);

    // The snapshot goes, and then the machine; what the others lie on stays as long as one of them does.
    place.drops(&id, "For web-03").await;
    place.writes(&id, 1, 9);
    place.reads(&other, &[1, 0]);
    place.remove(&id).await;
    place.reads(&linked, &[3, 0]);
    place.reads(&other, &[1, 0]);
    place.remove(&linked).await;
    place.reads(&other, &[1, 0]);
    place.remove(&other).await;
    assert_eq!(place.layers(), 1);
    place.remove(&whole).await;
    assert_eq!(place.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_stays_as_it_is_for_those_that_are_cloned_from_it() {
    let place = Place::start().await.with_pool().await;
    let client = place.host.client();
    let id = place.with_disk("golden").await;
    place.writes(&id, 0, 1);
    let becomes = async |template| {
        let policy = Some(VmPolicy { template, owner: "somebody else".to_owned(), ..VmPolicy::default() });
        let change = ChangeVm { policy, ..ChangeVm::default() };
        client.call(&calls::change_vm(&id, &change).as_session(&place.session)).await
    };
    place.does(&id, VmAction::Start).await;
    assert_eq!(problem(becomes(true).await).field.as_deref(), Some("policy.template"));
    place.does(&id, VmAction::ForceStop).await;
    becomes(true).await.unwrap();
    let start =
        calls::power_vm(&id, &quantix_api::PowerVm::usual(VmAction::Start)).as_session(&place.session);
    assert!(problem(client.call(&start).await).detail.contains("is a template"));
    assert_eq!(problem(place.begun(&id, &snapshot("no")).await).code, ProblemCode::Conflict);

    let asked =
        |name: &str| CloneVm { name: name.into(), folder: None, snapshot: None, linked: true, start: true };
    let (first, second) = (place.clones(&id, &asked("a")).await, place.clones(&id, &asked("b")).await);
    for clone in [&first, &second] {
        place.becomes(clone, VmState::Running).await;
        place.does(clone, VmAction::ForceStop).await;
        place.reads(clone, &[1]);
    }
    // Of a clone it counts who cloned it.
    let of = async |id: &str| place.vm(id).await.policy.owner;
    assert_eq!(
        (of(&id).await, of(&first).await),
        ("somebody else".to_owned(), place.vm(&first).await.made_by)
    );
    // A layer for each, and no snapshots.
    assert_eq!((place.layers(), place.snapshots(&id).await.len()), (3, 0));
    assert!(problem(becomes(false).await).detail.contains("cloned from this template"));
    place.remove(&first).await;
    place.remove(&id).await;
    place.reads(&second, &[1]);
    place.remove(&second).await;
    assert_eq!(place.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clones_at_once() {
    let (all, on) = (count(12, 50), count(4, 10));
    let place = Place::start().await.with_pool().await;
    let client = place.host.client();
    let id = place.with_disk("golden").await;
    place.writes(&id, 0, 1);
    place.holds(&id, &snapshot("all begin here")).await;
    let from = Some(place.snapshot(&id, "all begin here").await.id);
    let mut tasks = Vec::new();
    for number in 0..all {
        // Some are whole, and some are started: each is a process.
        let (name, linked, start) = (format!("web-{number:02}"), number % 10 != 0, number < on);
        let body = CloneVm { name, folder: None, snapshot: from.clone(), linked, start };
        let call = calls::clone_vm(&id, &body).as_session(&place.session);
        let client = client.clone();
        tasks.push(tokio::spawn(async move { client.call(&call).await.unwrap() }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        let task = task.await.unwrap();
        ids.push(task.object.strip_prefix("vm/").unwrap().to_owned());
        place.is_done(task).await;
    }
    until("some are on", async || {
        place.vms().await.iter().filter(|vm| vm.state == VmState::Running).count() == on
    })
    .await;
    let mut tasks = Vec::new();
    for clone in &ids {
        let vm = place.vm(clone).await;
        if vm.state == VmState::Running {
            place.does(clone, VmAction::ForceStop).await;
        }
        place.reads(clone, &[1]);
        let body = RemoveVm { name: vm.spec.name, keep_disks: false };
        tasks.push(client.call(&calls::remove_vm(clone, &body).as_session(&place.session)).await.unwrap());
    }
    for task in tasks {
        place.is_done(task).await;
    }
    place.reads(&id, &[1]);
    assert_eq!((place.vms().await.len(), place.domains().len(), place.layers()), (1, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_held_or_gone_back_to_is_refused() {
    let place = Place::start().await.with_pool().await;
    let client = place.host.client();
    let id = place.with_disk("web-01").await;
    for name in ["", " a", "a\nb", &"x".repeat(64)] {
        assert_eq!(
            problem(place.begun(&id, &snapshot(name)).await).field.as_deref(),
            Some("name"),
            "{name:?}"
        );
    }
    let long = NewSnapshot { description: "x".repeat(1001), ..snapshot("a") };
    assert_eq!(problem(place.begun(&id, &long).await).field.as_deref(), Some("description"));
    let with_memory = NewSnapshot { memory: true, ..snapshot("a") };
    assert!(problem(place.begun(&id, &with_memory).await).detail.contains("has no memory"));
    let frozen = NewSnapshot { freeze: true, ..snapshot("a") };
    assert_eq!(problem(place.begun(&id, &frozen).await).field.as_deref(), Some("freeze"));
    place.holds(&id, &snapshot("a <b> & \"c\" ../../d")).await;
    let refused = problem(place.begun(&id, &snapshot("A <B> & \"C\" ../../D")).await);
    assert_eq!(refused.field.as_deref(), Some("name"));

    // A disk that a snapshot has stays with its machine.
    let spec = VmSpec { disks: Vec::new(), ..place.vm(&id).await.spec };
    let change = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
    let refused = problem(client.call(&calls::change_vm(&id, &change).as_session(&place.session)).await);
    assert!(refused.detail.contains("has this disk"), "{}", refused.detail);

    // A guest without an agent holds nothing, and nothing is left of the attempt.
    place.does(&id, VmAction::Start).await;
    let task = place.begun(&id, &frozen).await.unwrap();
    // Two at once.
    assert_eq!(problem(place.begun(&id, &snapshot("b")).await).code, ProblemCode::Conflict);
    let task = place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.outcome.contains("agent"), "{}", task.outcome);
    assert_eq!((place.snapshots(&id).await.len(), place.layers()), (1, 2));
    place.is_sound(&id).await;
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    place.does(&id, VmAction::Suspend).await;
    assert!(problem(place.begun(&id, &snapshot("b")).await).detail.contains("suspended"));
    let nothing = calls::revert_vm(&id, "nothing", &RevertVm::default()).as_session(&place.session);
    assert_eq!(problem(client.call(&nothing).await).code, ProblemCode::NotFound);

    // What it is called changes.
    let there = place.snapshots(&id).await.remove(0);
    let change = ChangeSnapshot { name: Some("before".into()), description: Some("The\nupdate".into()) };
    let call = calls::change_snapshot(&id, &there.id, &change).as_session(&place.session);
    let changed = client.call(&call.if_version(there.version)).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.version), ("before", there.version + 1));
    let call = calls::change_snapshot(&id, &there.id, &change).as_session(&place.session);
    assert_eq!(
        problem(client.call(&call.if_version(there.version)).await).code,
        ProblemCode::ChangedMeanwhile
    );

    // Going back gives up its memory; what it grew to is what it was.
    let volume = place.vm(&id).await.spec.disks[0].volume.clone();
    place.goes_back(&id, "before").await;
    assert_eq!(place.vm(&id).await.state, VmState::Stopped);
    let grow = calls::grow_volume(&volume, &GrowVolume { bytes: 128 * MIB }).as_session(&place.session);
    place.is_done(client.call(&grow).await.unwrap()).await;
    place.goes_back(&id, "before").await;
    let size = client.call(&calls::volume(&volume).as_session(&place.session)).await.unwrap().bytes;
    assert_eq!(size, 64 * MIB);

    // Without its disks, it goes with its snapshots, and the disks stay, each of one layer.
    place.holds(&id, &snapshot("last")).await;
    let keep = RemoveVm { name: "web-01".into(), keep_disks: true };
    let task = client.call(&calls::remove_vm(&id, &keep).as_session(&place.session)).await.unwrap();
    place.is_done(task).await;
    assert_eq!(place.layers(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_while_a_machine_is_held_or_put_together_loses_nothing() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.with_disk("web-01").await;
    place.writes(&id, 0, 1);
    place.does(&id, VmAction::Start).await;
    for round in (1..9_u64).step_by(count(5, 1)) {
        let memory = round % 2 == 1;
        let name = format!("round {round}");
        let task = place.begun(&id, &NewSnapshot { memory, ..snapshot(&name) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * 40)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        let there = place.snapshots(&id).await;
        // Its memory cannot be kept any more if it went on meanwhile; then it is not there at all.
        assert_eq!(there.iter().any(|one| one.name == name), task.state == TaskState::Done, "{task:?}");
        assert!(task.state == TaskState::Done || memory, "{task:?}");
        assert_eq!(place.vm(&id).await.state, VmState::Running, "round {round}");
        place.is_sound(&id).await;
        assert_eq!(place.open_files(&id).len(), there.len() + 1, "round {round}");
        assert_eq!(place.memories(), there.iter().filter(|one| one.has_memory).count());
    }
    let mut round = 0;
    while let Some(snapshot) = place.snapshots(&id).await.first() {
        let task = place.asks_to_drop(&id, &snapshot.name.clone()).await;
        tokio::time::sleep(Duration::from_millis(round * 40)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        place.is_done(task).await;
        assert_eq!(place.vm(&id).await.state, VmState::Running, "round {round}");
        place.is_sound(&id).await;
        assert_eq!(place.open_files(&id).len(), place.snapshots(&id).await.len() + 1, "round {round}");
        round += 1;
    }
    place.does(&id, VmAction::ForceStop).await;
    place.reads(&id, &[1, 0]);
    place.holds(&id, &snapshot("one")).await;
    for round in (0..5_u64).step_by(count(2, 1)) {
        place.writes(&id, 0, 7);
        let one = place.snapshot(&id, "one").await.id;
        let call = calls::revert_vm(&id, &one, &RevertVm { start: true }).as_session(&place.session);
        let task = place.host.client().call(&call).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * 40)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        place.is_done(task).await;
        place.becomes(&id, VmState::Running).await;
        place.does(&id, VmAction::ForceStop).await;
        place.reads(&id, &[1, 0]);
        assert_eq!(place.layers(), 2, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_loses_power_while_a_machine_is_held_has_all_that_was_written() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.with_disk("web-01").await;
    place.writes(&id, 0, 1);
    for (round, memory) in [false, true, true].into_iter().enumerate() {
        place.does(&id, VmAction::Start).await;
        let task = place.begun(&id, &NewSnapshot { memory, ..snapshot(&format!("{round}")) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round as u64 * 150)).await;
        place.host.kill();
        place.daemon.lose_everything();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        let is_there = place.snapshots(&id).await.iter().any(|one| one.name == format!("{round}"));
        assert_eq!(is_there, task.state == TaskState::Done, "{task:?}");
        until("it is known to libvirt", async || place.domains().contains(&id)).await;
        let off = |state| matches!(state, VmState::Stopped | VmState::Crashed);
        until("it is off", async || off(place.vm(&id).await.state)).await;
        place.is_sound(&id).await;
        place.reads(&id, &[1, 0]);
        let there = place.snapshots(&id).await;
        assert_eq!(place.memories(), there.iter().filter(|one| one.has_memory).count());
        assert_eq!(place.layers(), there.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_by_themselves() {
    let place = Place::start().await;
    let id = place.with_disk("web-01").await;
    let client = place.host.client();
    let weekly = When::Week { weekday: Weekday::Sunday, hour: 2, minute: 30 };
    let new = NewSchedule { when: weekly, keep: 2, at_once: true };
    let made = client.call(&calls::make_schedule(&id, &new).as_session(&place.session)).await.unwrap();
    let schedule = async || {
        let all = client.call(&calls::schedules(&id).as_session(&place.session)).await.unwrap().items;
        all.into_iter().next().unwrap()
    };
    until("the first is made", async || {
        place.snapshots(&id).await.iter().any(|one| one.is_ready && one.made_by == "schedule")
    })
    .await;
    until("its task has ended", async || place.vm(&id).await.task.is_none()).await;
    let shown = schedule().await;
    assert_eq!((shown.snapshots, shown.trouble.as_str(), &shown.id), (1, "", &made.id));
    assert!(shown.next_at > made.next_at && shown.next_at.to_string().ends_with("T02:30:00Z"), "{shown:?}");
    // With the schedule nothing goes that it made.
    client.call(&calls::remove_schedule(&id, &made.id).as_session(&place.session)).await.unwrap();
    let gone = problem(client.call(&calls::remove_schedule(&id, &made.id).as_session(&place.session)).await);
    assert_eq!(gone.code, ProblemCode::NotFound);
    assert_eq!(place.snapshots(&id).await.len(), 1);
    place.remove(&id).await;
}
