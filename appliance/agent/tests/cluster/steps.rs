//! What is done with machines takes many steps, and the agent can end at each of them. It ends here at one write to the disk
//! after the other, so that none of the moments is missed in which something has become lasting: of its own writes by the
//! number, and of those of the programs that it has make disks.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    process::{Child, Command, Stdio},
};

use quantix_api::{
    CallError, CloneVm, CloudInit, NewDisk, NewSnapshot, NewVm, RemoveSnapshot, RemoveVm, Task, TaskQuery,
    TaskState, Vm, VmAction, VmState, VolumeQuery, VolumeState, calls,
};
use quantix_libvirt::count;

use crate::{
    cloud_init::KEY,
    hosts::{PATIENCE, until, until_it, until_within},
    place::{Place, disk, new},
};

const MIB: u64 = 1 << 20;
/// More writes than anything here takes.
const MOST_WRITES: u32 = 60;

/// Ends a program at one of its writes to the disk, whichever of its threads makes it.
struct Fuse(Child);

impl Fuse {
    #[expect(clippy::disallowed_methods, reason = "another program ends the one under test")]
    async fn light(pid: u32, write: u32) -> Self {
        let ends = format!("inject=fdatasync,fsync:signal=KILL:when={write}");
        let (pid, mut strace) = (pid.to_string(), Command::new("strace"));
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", &ends, "-p", &pid]);
        let fuse = Self(strace.stdin(Stdio::null()).spawn().unwrap());
        until("it is watched", async || {
            let threads = fs::read_dir(format!("/proc/{pid}/task"));
            threads.into_iter().flatten().flatten().all(|thread| {
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        })
        .await;
        fuse
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        drop(self.0.kill());
        self.0.wait().unwrap();
    }
}

impl Place {
    /// Does something that begins a task, while the agent ends at one of its writes. Whether it did.
    async fn ends_at(&self, write: u32, begin: impl AsyncFnOnce() -> Result<Task, CallError>) -> bool {
        let pid = self.host.pid().unwrap();
        let fuse = Fuse::light(pid, write).await;
        // Whoever asked may never hear that it was begun.
        let begun = begin().await.ok();
        let has_ended = async || self.host.pid() != Some(pid);
        if begun.is_some() {
            until("the task or the agent has ended", async || {
                has_ended().await || self.open_tasks().await == 0
            })
            .await;
        } else {
            until("the agent has ended", has_ended).await;
        }
        drop(fuse);
        let is_spoiled = has_ended().await;
        self.host.ready().await;
        until_within(2 * PATIENCE, "nothing is being done", async || self.open_tasks().await == 0).await;
        if let Some(begun) = begun {
            let ended = self.ended(begun.id).await;
            assert!(ended.state.is_end(), "{ended:?}");
        }
        is_spoiled
    }

    /// How many tasks have not ended; many, if nobody says so.
    async fn open_tasks(&self) -> usize {
        let query = TaskQuery { state: Some("open".into()), ..TaskQuery::default() };
        let open = self.host.client().call(&calls::tasks(&query).as_session(&self.session)).await;
        open.map_or(usize::MAX, |open| open.items.len())
    }

    /// What lies in a folder of the pool.
    fn lies_in(&self, folder: &str) -> Vec<String> {
        let files = fs::read_dir(self.host.dir().join("quantix-pools/local").join(folder));
        let names = files.into_iter().flatten().map(|file| file.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    /// Nothing is there but what is known, nothing that is known is missing, and nothing is damaged.
    async fn is_settled(&self, when: &str) -> Vec<Vm> {
        let is_sound = |vm: &Vm| vm.drift.is_empty() && vm.trouble.is_empty() && vm.task.is_none();
        until_it("nothing differs", async || self.vms().await, |vms: &Vec<Vm>| vms.iter().all(is_sound))
            .await;
        let vms = self.vms().await;
        let (mut domains, mut ids) = (self.domains(), vms.iter().map(|vm| vm.id.clone()).collect::<Vec<_>>());
        domains.sort();
        ids.sort();
        assert_eq!(domains, ids, "{when}");
        let volumes = calls::volumes(&VolumeQuery::default()).as_session(&self.session);
        let volumes = self.host.client().call(&volumes).await.unwrap().items;
        for volume in &volumes {
            assert_eq!(volume.state, VolumeState::Ready, "{when}: {volume:?}");
            assert!(volume.vm.as_ref().is_some_and(|vm| ids.contains(vm)), "{when}: {volume:?}");
        }
        let held: usize = vms.iter().map(|vm| vm.snapshots as usize * vm.spec.disks.len()).sum();
        // A layer has the names by which a machine that is on knows it until that is off.
        let files = fs::read_dir(self.host.dir().join("quantix-pools/local/volumes")).unwrap();
        let files: HashSet<_> = files.map(|file| file.unwrap().metadata().unwrap().ino()).collect();
        assert_eq!(files.len(), volumes.len() + held, "{when}: {volumes:?}");
        let told = vms.iter().filter(|vm| vm.has_cloud_init).count();
        assert_eq!((self.lies_in("seeds").len(), self.lies_in("memory").len()), (told, 0), "{when}");
        self.all_is_whole();
        vms
    }

    async fn asks_to_remove(&self, id: &str) -> Result<Task, CallError> {
        let name = self.vm(id).await.spec.name;
        let body = RemoveVm { name, keep_disks: false };
        self.host.client().call(&calls::remove_vm(id, &body).as_session(&self.session)).await
    }
}

/// The writes at which it ends: each once where there is time, and some of them where there is not. What takes fewer ends it.
fn writes() -> impl Iterator<Item = u32> {
    (1..MOST_WRITES).step_by(count(6, 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_and_removed_whole_or_not_at_all_wherever_the_agent_ends() {
    let place = Place::start().await.with_pool().await;
    let mut content = vec![0; 2 << 20];
    content[510..512].copy_from_slice(b"\x55\xaa");
    let image = place.brought("Base", "base.raw", &content).await;
    let finish = calls::finish_image(&image.id).as_session(&place.session);
    place.ended(place.host.client().call(&finish).await.unwrap().id).await;
    let told = CloudInit { user: "ops".into(), ssh_keys: vec![KEY.into()], ..CloudInit::default() };
    for write in writes() {
        let copy = NewDisk { image: Some(image.id.clone()), ..disk(4 * MIB) };
        let name = format!("web-{write}");
        let wanted = NewVm { disks: vec![copy, disk(MIB)], cloud_init: Some(told.clone()), ..new(&name) };
        let call = calls::make_vm(&wanted).as_session(&place.session);
        let ended = place.ends_at(write, async || place.host.client().call(&call).await).await;
        let vms = place.is_settled(&format!("made, write {write}")).await;
        let id = match vms.first() {
            Some(vm) => vm.id.clone(),
            None => place.make(&wanted).await,
        };
        let ended_again = place.ends_at(write, async || place.asks_to_remove(&id).await).await;
        let vms = place.is_settled(&format!("removed, write {write}")).await;
        if let Some(vm) = vms.first() {
            place.remove(&vm.id).await;
        }
        if !ended && !ended_again {
            return;
        }
    }
    panic!("It makes more than {MOST_WRITES} writes.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_there_whole_or_not_at_all_wherever_the_agent_ends() {
    let place = Place::start().await.with_pool().await;
    let source = place.make(&NewVm { disks: vec![disk(4 * MIB)], start: true, ..new("golden") }).await;
    place.becomes(&source, VmState::Running).await;
    place.is_left_alone(&source).await;
    let hold = NewSnapshot { name: "base".into(), description: String::new(), memory: false, freeze: false };
    let call = calls::make_snapshot(&source, &hold).as_session(&place.session);
    place.ended(place.host.client().call(&call).await.unwrap().id).await;
    let base = place.snapshots_of(&source).await.remove(0).id;
    for (kind, linked) in [("whole", false), ("linked", true)] {
        for write in writes() {
            // One of a machine that is on is held for it, and let go afterwards.
            let snapshot = linked.then(|| base.clone());
            let clone =
                CloneVm { name: format!("{kind}-{write}"), folder: None, snapshot, linked, start: false };
            let call = calls::clone_vm(&source, &clone).as_session(&place.session);
            let ended = place.ends_at(write, async || place.host.client().call(&call).await).await;
            let vms = place.is_settled(&format!("{kind}, write {write}")).await;
            assert_eq!(place.vm(&source).await.state, VmState::Running, "{kind}, write {write}");
            for vm in vms.iter().filter(|vm| vm.id != source) {
                place.remove(&vm.id).await;
            }
            place.is_settled(&format!("{kind} is gone, write {write}")).await;
            if !ended {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_made_and_let_go_whole_or_not_at_all_wherever_the_agent_ends() {
    let place = Place::start().await.with_pool().await;
    let id =
        place.make(&NewVm { disks: vec![disk(4 * MIB), disk(4 * MIB)], start: true, ..new("web") }).await;
    place.becomes(&id, VmState::Running).await;
    place.is_left_alone(&id).await;
    for write in writes() {
        let hold = NewSnapshot {
            name: format!("at-{write}"),
            description: String::new(),
            memory: false,
            freeze: false,
        };
        let call = calls::make_snapshot(&id, &hold).as_session(&place.session);
        let ended = place.ends_at(write, async || place.host.client().call(&call).await).await;
        place.is_settled(&format!("held, write {write}")).await;
        assert_eq!(place.vm(&id).await.state, VmState::Running, "held, write {write}");
        if place.snapshots_of(&id).await.is_empty() {
            place.ended(place.host.client().call(&call).await.unwrap().id).await;
        }
        let kept = place.snapshots_of(&id).await.remove(0).id;
        let call = calls::remove_snapshot(&id, &kept, &RemoveSnapshot::default()).as_session(&place.session);
        let ended_again = place.ends_at(write, async || place.host.client().call(&call).await).await;
        place.is_settled(&format!("let go, write {write}")).await;
        assert_eq!(place.vm(&id).await.state, VmState::Running, "let go, write {write}");
        if !place.snapshots_of(&id).await.is_empty() {
            let task = place.host.client().call(&call).await.unwrap();
            assert_eq!(place.ended(task.id).await.state, TaskState::Done);
        }
        if !ended && !ended_again {
            place.does(&id, VmAction::ForceStop).await;
            place.is_settled("in the end").await;
            return;
        }
    }
    panic!("It makes more than {MOST_WRITES} writes.");
}
