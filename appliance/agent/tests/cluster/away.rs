//! What is under way while libvirt's daemon is killed and comes back, and while a pool goes away under a machine that is on.

use std::{
    collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command, time::Duration,
};

use quantix_api::{
    CloneVm, EventQuery, NewSnapshot, NewVm, NewVolume, PoolState, RemoveSnapshot, Snapshot, Task, TaskKind,
    TaskQuery, TaskState, Vm, VmAction, VmState, calls,
};
use quantix_libvirt::count;
use rusqlite::{Connection, OpenFlags};

use crate::{
    hosts::{problem, until, until_it},
    place::{Place, disk, new},
};

const MIB: u64 = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "a test asks the system's own programs")]
fn ran(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success() && !said.contains("failed"), "{program} {args:?}: {said}");
}

fn snapshot(name: &str, memory: bool) -> NewSnapshot {
    NewSnapshot { name: name.into(), description: String::new(), memory, freeze: false }
}

/// How often it is done, and after how many milliseconds each time, none of which is after the last.
fn delays(last: u64) -> impl Iterator<Item = (u64, Duration)> {
    let times = count(2, 12);
    (0..times).map(move |round| (round, Duration::from_millis(last * round / (times - 1))))
}

impl Place {
    /// Kills libvirt's daemon after a while. Every second time it stays away for as long as somebody needs to notice.
    async fn loses_libvirt(&mut self, (round, after): (u64, Duration)) {
        tokio::time::sleep(after).await;
        self.daemon.kill();
        if round % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        self.daemon.start_again();
    }

    /// A task that has ended while libvirt went away: done, or failed with a sentence.
    async fn came_to_an_end(&self, task: i64) -> Task {
        let task = self.ended(task).await;
        let why = [
            "libvirt",
            "It was interrupted while its memory",
            "Clone the machine once more",
            // One that was just beginning when libvirt ended is taken for one that ends.
            "Its guest is ending.",
        ];
        let is_told = why.iter().any(|why| task.outcome.contains(why)) && task.outcome.ends_with('.');
        assert!(task.state == TaskState::Done || (task.state == TaskState::Failed && is_told), "{task:?}");
        task
    }

    /// The same; what failed is tried again and done.
    async fn came_to_be_done(&self, task: i64) -> Task {
        let task = self.came_to_an_end(task).await;
        if task.state == TaskState::Done {
            return task;
        }
        let again = calls::retry_task(task.id).as_session(&self.session);
        let again = self.host.client().call(&again).await.unwrap();
        let again = self.ended(again.id).await;
        assert_eq!(again.state, TaskState::Done, "{again:?}");
        again
    }

    fn pool_folder(&self) -> PathBuf {
        self.host.dir().join("quantix-pools/local")
    }

    fn lying_in(&self, folder: &str) -> BTreeSet<String> {
        let files = fs::read_dir(self.pool_folder().join(folder)).into_iter().flatten();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// How many layers lie there: as long as a machine is on, one may have two names.
    fn count_layers(&self) -> usize {
        let files = fs::read_dir(self.pool_folder().join("volumes")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().ino()).collect::<BTreeSet<_>>().len()
    }

    /// The layers that are known, by their files.
    fn known_layers(&self) -> BTreeSet<String> {
        let mut paths = self.host.database().into_iter().map(|(path, _)| path);
        let path = paths.find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut all = connection.prepare("SELECT id || '.qcow2' FROM layer").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    pub(crate) async fn snapshots_of(&self, id: &str) -> Vec<Snapshot> {
        self.host.client().call(&calls::snapshots(id).as_session(&self.session)).await.unwrap().items
    }

    /// How many processes run a machine.
    fn processes_of(&self, id: &str) -> usize {
        let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
        let command = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        all.filter(|path| command(path.clone()).contains(&format!("-uuid\0{id}\0"))).count()
    }

    /// Nothing is left of what went wrong: each machine is what it shall be, runs once or not at all, and in the pool lies what
    /// is known.
    async fn is_all_well(&self) {
        for vm in self.vms().await {
            let is_well = |vm: &Vm| vm.drift.is_empty() && vm.trouble.is_empty() && vm.task.is_none();
            until_it("nothing differs", async || self.vm(&vm.id).await, is_well).await;
            let vm = self.vm(&vm.id).await;
            assert_eq!(self.processes_of(&vm.id), usize::from(vm.state.is_on()), "{vm:?}");
            let told = self.daemon.virsh(&["domstate", &vm.id]);
            assert_eq!(told.trim() == "running", vm.state == VmState::Running, "{told} {vm:?}");
        }
        until_it(
            "what lies there is what is known",
            async || (self.lying_in("volumes"), self.known_layers()),
            |(lying, known)| lying == known,
        )
        .await;
        let mut with_memory = 0;
        for vm in self.vms().await {
            with_memory += self.snapshots_of(&vm.id).await.iter().filter(|one| one.has_memory).count();
        }
        assert_eq!(self.lying_in("memory").len(), with_memory);
    }

    /// Does something to the disk of a machine that is off.
    fn on_disk(&self, id: &str, command: &str) {
        let listed = self.daemon.virsh(&["domblklist", id, "--inactive"]);
        let line = listed.lines().find(|line| line.trim().starts_with("vda")).unwrap();
        ran("qemu-io", &["-f", "qcow2", "-c", command, line.split_whitespace().nth(1).unwrap()]);
    }

    /// Switches a machine off, and looks at what it leaves.
    async fn is_whole_when_off(&self, id: &str) {
        self.does(id, VmAction::ForceStop).await;
        self.is_all_well().await;
        self.all_is_whole();
    }

    async fn holds_it(&self, id: &str, name: &str, memory: bool) -> Task {
        let new = snapshot(name, memory);
        self.host.client().call(&calls::make_snapshot(id, &new).as_session(&self.session)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_and_started_whenever_libvirt_goes_away() {
    let mut place = Place::start().await.with_pool().await;
    for moment in delays(900) {
        let name = format!("web-{}", moment.0);
        let wanted = NewVm { disks: vec![disk(64 * MIB), disk(64 * MIB)], start: true, ..new(&name) };
        let call = calls::make_vm(&wanted).as_session(&place.session);
        let task = place.host.client().call(&call).await.unwrap();
        place.loses_libvirt(moment).await;
        let task = place.came_to_be_done(task.id).await;
        let id = task.object.strip_prefix("vm/").unwrap();
        let query = TaskQuery { object: Some(task.object.clone()), ..TaskQuery::default() };
        let mut starts = None;
        until("it is started", async || {
            let call = calls::tasks(&query).as_session(&place.session);
            let tasks = place.host.client().call(&call).await.unwrap().items;
            starts = tasks.iter().filter(|task| task.kind == TaskKind::StartVm).map(|task| task.id).max();
            starts.is_some()
        })
        .await;
        place.came_to_be_done(starts.unwrap()).await;
        place.becomes(id, VmState::Running).await;
        place.is_all_well().await;
        assert_eq!(place.count_layers(), 2, "{moment:?}");
        place.is_whole_when_off(id).await;
        place.remove(id).await;
        place.is_all_well().await;
        assert_eq!((place.count_layers(), place.processes_of(id)), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_held_or_sleeps_whenever_libvirt_goes_away_and_runs_on() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(64 * MIB)], ..new("web-01") }).await;
    place.on_disk(&id, "write -P 1 0 4M");
    place.does(&id, VmAction::Start).await;
    for moment in delays(900) {
        let name = format!("round {}", moment.0);
        let task = place.holds_it(&id, &name, true).await;
        place.loses_libvirt(moment).await;
        let task = place.came_to_an_end(task.id).await;
        place.becomes(&id, VmState::Running).await;
        place.is_all_well().await;
        let is_there = place.snapshots_of(&id).await.iter().any(|one| one.name == name);
        assert_eq!(is_there, task.state == TaskState::Done, "{moment:?} {task:?}");
        if !is_there {
            let task = place.holds_it(&id, &name, true).await;
            let task = place.ended(task.id).await;
            assert_eq!(task.state, TaskState::Done, "{task:?}");
            place.is_all_well().await;
        }
    }
    for moment in delays(600) {
        let process = place.daemon.guest(&place.domain(&id));
        let task = place.asked(&id, VmAction::Suspend).await;
        place.loses_libvirt(moment).await;
        let task = place.came_to_an_end(task.id).await;
        if task.state == TaskState::Failed {
            // It runs on as if nothing had been, or sleeps.
            let is_settled = |vm: &Vm| matches!(vm.state, VmState::Running | VmState::Suspended);
            until_it("it runs or sleeps", async || place.vm(&id).await, is_settled).await;
            place.is_all_well().await;
            if place.vm(&id).await.state == VmState::Running {
                assert_eq!(place.daemon.guest(&place.domain(&id)), process);
            }
            place.does(&id, VmAction::Suspend).await;
        }
        assert_eq!(place.vm(&id).await.state, VmState::Suspended, "{moment:?}");
        place.is_all_well().await;
        place.does(&id, VmAction::Start).await;
        place.becomes(&id, VmState::Running).await;
        place.is_all_well().await;
        assert!(place.daemon.memories().is_empty());
    }
    place.is_whole_when_off(&id).await;
    place.on_disk(&id, "read -P 1 0 4M");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_put_together_whenever_libvirt_goes_away_and_their_machine_runs_on() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(64 * MIB)], ..new("web-01") }).await;
    place.on_disk(&id, "write -P 99 0 1M");
    for moment in delays(900) {
        let letter = moment.0 + 1;
        // What is written to goes into what it lies on; or what lies below it does.
        let mut names = vec!["one"];
        if letter % 2 == 0 {
            names.push("two");
        }
        for name in &names {
            let task = place.holds_it(&id, name, false).await;
            assert_eq!(place.ended(task.id).await.state, TaskState::Done);
            place.is_left_alone(&id).await;
            place.on_disk(&id, &format!("write -P {letter} 1M 48M"));
        }
        place.does(&id, VmAction::Start).await;
        let one = place.snapshots_of(&id).await.into_iter().find(|one| one.name == "one").unwrap().id;
        let drop_it = calls::remove_snapshot(&id, &one, &RemoveSnapshot::default());
        let task = place.host.client().call(&drop_it.as_session(&place.session)).await.unwrap();
        place.loses_libvirt(moment).await;
        let task = place.came_to_an_end(task.id).await;
        // Also before anybody tries again.
        place.becomes(&id, VmState::Running).await;
        if task.outcome.contains("Switch the machine off, and try again") {
            place.does(&id, VmAction::ForceStop).await;
            place.came_to_be_done(task.id).await;
            place.does(&id, VmAction::Start).await;
        } else {
            place.came_to_be_done(task.id).await;
        }
        place.becomes(&id, VmState::Running).await;
        place.is_all_well().await;
        assert_eq!(place.count_layers(), names.len(), "{moment:?}");
        place.is_whole_when_off(&id).await;
        place.on_disk(&id, "read -P 99 0 1M");
        place.on_disk(&id, &format!("read -P {letter} 1M 48M"));
        for snapshot in place.snapshots_of(&id).await {
            let drop_it = calls::remove_snapshot(&id, &snapshot.id, &RemoveSnapshot::default());
            let task = place.host.client().call(&drop_it.as_session(&place.session)).await.unwrap();
            assert_eq!(place.ended(task.id).await.state, TaskState::Done);
        }
        place.is_all_well().await;
        assert_eq!(place.count_layers(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_cloned_whenever_libvirt_goes_away_and_runs_on() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(64 * MIB)], ..new("web-01") }).await;
    place.on_disk(&id, "write -P 5 0 48M");
    place.does(&id, VmAction::Start).await;
    let clone = CloneVm { name: "web-02".into(), folder: None, snapshot: None, linked: false, start: false };
    for moment in delays(1200) {
        let clones = async |place: &Place| {
            let call = calls::clone_vm(&id, &clone).as_session(&place.session);
            place.host.client().call(&call).await.unwrap()
        };
        let mut task = clones(&place).await;
        place.loses_libvirt(moment).await;
        task = place.came_to_an_end(task.id).await;
        place.becomes(&id, VmState::Running).await;
        until("nothing is left of how it was made", async || place.snapshots_of(&id).await.is_empty()).await;
        place.is_all_well().await;
        if task.state == TaskState::Failed {
            assert_eq!((place.vms().await.len(), place.count_layers()), (1, 1), "{moment:?}");
            let again = clones(&place).await;
            task = place.ended(again.id).await;
            assert_eq!(task.state, TaskState::Done, "{task:?}");
            until("nothing is left of how it was made", async || place.snapshots_of(&id).await.is_empty())
                .await;
            place.is_all_well().await;
        }
        assert_eq!(place.count_layers(), 2, "{moment:?}");
        let other = task.object.strip_prefix("vm/").unwrap();
        place.on_disk(other, "read -P 5 0 48M");
        place.does(other, VmAction::Start).await;
        place.does(other, VmAction::ForceStop).await;
        place.remove(other).await;
        place.is_all_well().await;
    }
    place.is_whole_when_off(&id).await;
    place.on_disk(&id, "read -P 5 0 48M");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_goes_away_under_a_machine_that_is_on_is_told_of_and_comes_back() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(64 * MIB)], ..new("web-01") }).await;
    place.on_disk(&id, "write -P 1 0 4M");
    place.does(&id, VmAction::Start).await;
    let (folder, elsewhere) = (place.pool_folder(), place.pool_folder().with_file_name("elsewhere"));
    fs::rename(&folder, &elsewhere).unwrap();
    // As a file system is that is not mounted.
    fs::create_dir_all(folder.join("volumes")).unwrap();
    let alarms = async |place: &Place| {
        let query = EventQuery { open: Some(true), ..EventQuery::default() };
        let events = calls::events(&query).as_session(&place.session);
        let events = place.host.client().call(&events).await.unwrap().items;
        let told = events.into_iter().map(|event| event.sentence);
        told.filter(|sentence| sentence.contains("The pool local is missing")).collect::<Vec<_>>()
    };
    // Whoever wants something of it has it looked at.
    let volume = NewVolume { name: "data".into(), pool: "local".into(), host: None, bytes: MIB };
    let task = place.host.client().call(&calls::make_volume(&volume).as_session(&place.session)).await;
    assert!(place.ended(task.unwrap().id).await.outcome.contains("The pool is not there"));
    let told = |told: &Vec<String>| told.iter().any(|told| told.contains("web-01 has disks in it"));
    until_it("people are told", async || alarms(&place).await, told).await;
    let is_told = |vm: &Vm| vm.trouble.contains("The pool local with its disks is missing");
    until_it("the machine says so", async || place.vm(&id).await, is_told).await;
    assert_eq!(place.vm(&id).await.state, VmState::Running);

    // What would need it fails, and nothing is made in its place.
    let fails = async |place: &Place, task: Task| {
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Failed, "{task:?}");
        assert!(task.outcome.contains("The pool"), "{}", task.outcome);
        assert!(place.lying_in("volumes").is_empty() && place.lying_in("memory").is_empty());
    };
    let held = calls::make_snapshot(&id, &snapshot("now", true)).as_session(&place.session);
    let refused = problem(place.host.client().call(&held).await);
    assert!(refused.detail.contains("The pool local is missing"), "{}", refused.detail);
    // Neither libvirt nor the agent makes anything of it when they come back.
    place.daemon.kill();
    place.daemon.start_again();
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    place.does(&id, VmAction::Pause).await;
    place.does(&id, VmAction::Resume).await;
    assert!(is_told(&place.vm(&id).await) && !alarms(&place).await.is_empty());
    assert!(place.snapshots_of(&id).await.is_empty());
    // Once off, it does not come up without its disks.
    place.does(&id, VmAction::ForceStop).await;
    let task = place.asked(&id, VmAction::Start).await;
    fails(&place, task).await;

    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&elsewhere, &folder).unwrap();
    until("it is back", async || {
        let call = calls::pool("local").as_session(&place.session);
        place.host.client().call(&call).await.unwrap().hosts[0].state == PoolState::Ready
    })
    .await;
    until("nobody is told any more", async || alarms(&place).await.is_empty()).await;
    place.is_all_well().await;
    place.does(&id, VmAction::Start).await;
    let task = place.holds_it(&id, "now", true).await;
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    place.is_whole_when_off(&id).await;
    place.on_disk(&id, "read -P 1 0 4M");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_writes_to_is_found_when_libvirt_ends_just_as_that_changes() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(64 * MIB)], ..new("web-01") }).await;
    place.does(&id, VmAction::Start).await;
    let times = count(3, 24);
    for round in 0..times {
        let task = place.holds_it(&id, "one", false).await;
        assert_eq!(place.ended(task.id).await.state, TaskState::Done);
        place.is_left_alone(&id).await;
        let one = place.snapshots_of(&id).await.remove(0).id;
        let drop_it = calls::remove_snapshot(&id, &one, &RemoveSnapshot::default());
        let task = place.host.client().call(&drop_it.as_session(&place.session)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50 + 40 * round / times)).await;
        place.daemon.kill();
        place.daemon.start_again();
        let task = place.ended(task.id).await;
        let is_lost = task.outcome.contains("Switch the machine off, and try again");
        if is_lost || place.daemon.virsh(&["dumpxml", &id]).contains("<mirror") {
            // libvirt believes until then that something is being done with the disk.
            place.is_left_alone(&id).await;
            place.does(&id, VmAction::ForceStop).await;
            place.all_is_whole();
            if is_lost {
                place.came_to_be_done(task.id).await;
            }
            place.does(&id, VmAction::Start).await;
        } else {
            assert_eq!(task.state, TaskState::Done, "{task:?}");
        }
        place.becomes(&id, VmState::Running).await;
        place.is_all_well().await;
        assert_eq!(place.count_layers(), 1, "round {round}");
    }
}
