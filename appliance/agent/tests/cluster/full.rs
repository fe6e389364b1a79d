//! Pools without room: what is on, and what is begun in them.

use std::{fs, process::Command};

use quantix_api::{
    CloneVm, EventQuery, Firmware, NewSnapshot, NewVm, RemoveSnapshot, Task, TaskState, VmAction, VmSpec,
    VmState, calls,
};

use crate::{
    hosts::{until, until_it},
    place::{Place, disk, spec},
};

const MIB: u64 = 1 << 20;

/// What a machine starts from that writes its disk from 1 MiB on, 32 KiB at a time, to the end and beyond.
const WRITES: &[u8] = &[
    0xfa, // no interrupts, while there is no stack
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, // segments at 0, the stack below
    0xbe, 0x1b, 0x7c, 0xb8, 0x00, 0x43, 0xcd, 0x13, // write what stands at 7c1b
    0x66, 0x83, 0x06, 0x23, 0x7c, 0x40, // 64 sectors on
    0xeb, 0xf0, // again
    0x10, 0x00, 0x40, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn ran(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&said));
}

impl Place {
    async fn makes_one(&self, spec: VmSpec) -> String {
        self.make(&NewVm { disks: vec![disk(64 * MIB)], ..NewVm::usual(spec) }).await
    }

    /// What is written to a machine's disk while it is off.
    fn puts(&self, id: &str, commands: &[&str]) {
        let listed = self.daemon.virsh(&["domblklist", id, "--inactive"]);
        let path = listed.lines().find(|line| line.trim().starts_with("vda")).unwrap();
        let path = path.split_whitespace().nth(1).unwrap();
        for command in commands {
            ran("qemu-io", &["-f", "qcow2", "-c", command, path]);
        }
        ran("qemu-img", &["check", "-q", path]);
    }

    async fn told_of(&self, part: &str) -> bool {
        let query = EventQuery { open: Some(true), ..EventQuery::default() };
        let events = self.host.client().call(&calls::events(&query).as_session(&self.session)).await.unwrap();
        events.items.iter().any(|event| event.sentence.contains(part))
    }

    async fn holds_at_once(&self, id: &str, name: &str, memory: bool) -> Task {
        let new = NewSnapshot { name: name.into(), description: String::new(), memory, freeze: false };
        let task = self.host.client().call(&calls::make_snapshot(id, &new).as_session(&self.session)).await;
        self.ended(task.unwrap().id).await
    }

    async fn snapshot_names(&self, id: &str) -> Vec<String> {
        let all = self.host.client().call(&calls::snapshots(id).as_session(&self.session)).await.unwrap();
        all.items.into_iter().map(|snapshot| snapshot.name).collect()
    }
}

fn has_no_room(task: &Task) {
    assert_eq!(task.state, TaskState::Failed, "{task:?}");
    assert!(task.outcome.contains("no room left"), "{}", task.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_pool_is_full_stands_still_and_goes_on_where_it_was() {
    let (place, pool) = Place::with_small_pool("volumes", 12).await;
    let id = place.makes_one(VmSpec { firmware: Firmware::Bios, ..spec("web-01") }).await;
    let boot = place.host.dir().join("boot");
    let mut sector = WRITES.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    fs::write(&boot, sector).unwrap();
    place.puts(&id, &[&format!("write -s {} 0 512", boot.display())]);
    place.does(&id, VmAction::Start).await;
    place.becomes(&id, VmState::Paused).await;
    until("it is told why", async || place.told_of("web-01 stands still").await).await;
    assert!(place.vm(&id).await.trouble.contains("no room left in the pool"));
    // Nothing more is begun in it, and what could not be leaves nothing behind.
    let files = pool.files();
    for memory in [false, true] {
        has_no_room(&place.holds_at_once(&id, "now", memory).await);
        assert_eq!((pool.files(), place.snapshot_names(&id).await), (files, Vec::new()));
    }
    assert_eq!(place.vm(&id).await.state, VmState::Paused);
    // As long as there is no room it does not get far.
    place.does(&id, VmAction::Resume).await;
    until("it stands still again", async || {
        let vm = place.vm(&id).await;
        vm.state == VmState::Paused && !vm.trouble.is_empty() && vm.task.is_none()
    })
    .await;
    pool.grows(96);
    place.does(&id, VmAction::Resume).await;
    until("it goes on", async || {
        let vm = place.vm(&id).await;
        vm.state == VmState::Running && vm.trouble.is_empty() && !place.told_of("web-01 stands still").await
    })
    .await;
    until("it writes to the end of its disk", async || {
        let size: u64 =
            fs::read_dir(&pool.0).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        size >= 63 * MIB
    })
    .await;
    place.does(&id, VmAction::ForceStop).await;
    place.puts(&id, &["read 0 64M"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_in_a_pool_is_taken_back_and_can_be_tried_again() {
    let (place, pool) = Place::with_small_pool("volumes", 40).await;
    let id = place.makes_one(spec("web-01")).await;
    assert_eq!(place.holds_at_once(&id, "empty", false).await.state, TaskState::Done);
    place.puts(&id, &["write -P 1 0 24M"]);
    let files = pool.files();

    // A clone that stands by itself would need as much again.
    let whole = CloneVm { name: "web-02".into(), folder: None, snapshot: None, linked: false, start: false };
    let task = place.host.client().call(&calls::clone_vm(&id, &whole).as_session(&place.session)).await;
    has_no_room(&place.ended(task.unwrap().id).await);
    until("nothing of it is left", async || pool.files() == files && place.vms().await.len() == 1).await;
    // The snapshot it was made of is removed by a task of its own.
    until_it(
        "only its own snapshot is left",
        async || place.snapshot_names(&id).await,
        |names| *names == ["empty"],
    )
    .await;
    place.is_left_alone(&id).await;

    // So does putting together what lies in two layers.
    let snapshots = place.host.client().call(&calls::snapshots(&id).as_session(&place.session)).await;
    let snapshot = snapshots.unwrap().items.remove(0).id;
    let remove =
        calls::remove_snapshot(&id, &snapshot, &RemoveSnapshot::default()).as_session(&place.session);
    let task = place.ended(place.host.client().call(&remove).await.unwrap().id).await;
    has_no_room(&task);
    place.puts(&id, &["read -P 1 0 24M", "read -P 0 24M 40M"]);
    pool.grows(80);
    let again = calls::retry_task(task.id).as_session(&place.session);
    let task = place.ended(place.host.client().call(&again).await.unwrap().id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    until("one layer is left", async || pool.files() == 1).await;
    place.puts(&id, &["read -P 1 0 24M", "read -P 0 24M 40M"]);
    place.does(&id, VmAction::Start).await;
    place.does(&id, VmAction::ForceStop).await;
    let whole = place.host.client().call(&calls::clone_vm(&id, &whole).as_session(&place.session)).await;
    assert_eq!(place.ended(whole.unwrap().id).await.state, TaskState::Done);
}
