//! A host with a libvirt of its own, and somebody who works with its machines.

use std::{fs, process::Command};

use quantix_api::{
    Cache, Image, MAX_PIECE_BYTES, NewDisk, NewImage, NewVm, PowerVm, RemoveVm, Secret, Task, TaskState, Vm,
    VmAction, VmCpu, VmMemory, VmQuery, VmSpec, VmState, calls,
};
use quantix_libvirt::Daemon;

use crate::hosts::{Host, PATIENCE, until, until_within};

pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec {
        cpu: VmCpu { cores: 1, ..VmCpu::default() },
        memory: VmMemory { mib: 64, ..VmMemory::default() },
        ..VmSpec::named(name)
    }
}

pub(crate) fn new(name: &str) -> NewVm {
    NewVm::usual(spec(name))
}

/// An empty disk in the pool that every host has.
pub(crate) fn disk(bytes: u64) -> NewDisk {
    NewDisk { pool: "local".into(), bytes, image: None, linked: false, bus: None, cache: Cache::default() }
}

/// A host, its libvirt, and somebody who is signed in there.
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) session: Secret,
    pub(crate) daemon: Daemon,
}

impl Place {
    pub(crate) async fn start() -> Self {
        Self::start_as("qx-1").await
    }

    pub(crate) async fn start_as(name: &str) -> Self {
        let daemon = Daemon::start();
        let host = Host::start_with_libvirt(name, &daemon);
        let session = host.settled().await;
        Self { host, session, daemon }
    }

    pub(crate) async fn ended(&self, id: i64) -> Task {
        self.ended_within(PATIENCE, id).await
    }

    pub(crate) async fn ended_within(&self, limit: u64, id: i64) -> Task {
        let mut last = None;
        until_within(limit, &format!("task {id} has ended"), async || {
            last = self.host.client().call(&calls::task(id).as_session(&self.session)).await.ok();
            last.as_ref().is_some_and(|task| task.state.is_end())
        })
        .await;
        last.unwrap()
    }

    /// Makes a machine, and gives its id.
    pub(crate) async fn make(&self, new: &NewVm) -> String {
        let task = self.host.client().call(&calls::make_vm(new).as_session(&self.session)).await.unwrap();
        let task = self.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        task.object.strip_prefix("vm/").unwrap().to_owned()
    }

    pub(crate) async fn vm(&self, id: &str) -> Vm {
        self.host.client().call(&calls::vm(id).as_session(&self.session)).await.unwrap()
    }

    pub(crate) async fn vms(&self) -> Vec<Vm> {
        let query = VmQuery { limit: Some(1000), ..VmQuery::default() };
        self.host.client().call(&calls::vms(&query).as_session(&self.session)).await.unwrap().items
    }

    pub(crate) async fn asked(&self, id: &str, action: VmAction) -> Task {
        let call = calls::power_vm(id, &PowerVm::usual(action)).as_session(&self.session);
        self.host.client().call(&call).await.unwrap()
    }

    /// Waits until nothing is being done with a machine: how it is shows a moment before the task ends that has made it so.
    pub(crate) async fn is_left_alone(&self, id: &str) {
        until("nothing is being done with it", async || self.vm(id).await.task.is_none()).await;
    }

    pub(crate) async fn does(&self, id: &str, action: VmAction) {
        self.is_left_alone(id).await;
        let task = self.asked(id, action).await;
        let task = self.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{action:?} {task:?}");
    }

    pub(crate) async fn remove(&self, id: &str) {
        let name = self.vm(id).await.spec.name;
        let call = calls::remove_vm(id, &RemoveVm { name, keep_disks: false }).as_session(&self.session);
        let task = self.host.client().call(&call).await.unwrap();
        assert_eq!(self.ended(task.id).await.state, TaskState::Done);
    }

    /// Brings the file of an image, up to where an image is made of it.
    pub(crate) async fn brought(&self, name: &str, file: &str, content: &[u8]) -> Image {
        let (client, length) = (self.host.client(), content.len() as u64);
        let (name, file, pool) = (name.into(), file.into(), "local".into());
        let new = NewImage { name, file, pool, length, sha256: None };
        let image = client.call(&calls::make_image(&new).as_session(&self.session)).await.unwrap();
        let mut at = 0;
        for piece in content.chunks(MAX_PIECE_BYTES) {
            let call = calls::bring_image(&image.id, at, piece.to_vec()).as_session(&self.session);
            client.call(&call).await.unwrap();
            at += piece.len() as u64;
        }
        image
    }

    pub(crate) async fn becomes(&self, id: &str, state: VmState) {
        until(&format!("it is {state:?}"), async || self.vm(id).await.state == state).await;
    }

    /// What libvirt calls a machine.
    pub(crate) fn domain(&self, id: &str) -> String {
        self.daemon.virsh(&["domname", id]).trim().to_owned()
    }

    pub(crate) fn domains(&self) -> Vec<String> {
        self.daemon.virsh(&["list", "--all", "--uuid"]).split_whitespace().map(str::to_owned).collect()
    }

    /// Nothing is damaged of what lies in its pool.
    pub(crate) fn all_is_whole(&self) {
        volumes_are_whole(&self.host, &self.daemon);
    }
}

/// Nothing is damaged of what lies in the pool of a host, as far as no machine that is on has it open.
#[expect(clippy::disallowed_methods, reason = "another program says whether a disk is whole")]
pub(crate) fn volumes_are_whole(host: &Host, daemon: &Daemon) {
    let any_is_on = !daemon.virsh(&["list", "--uuid"]).trim().is_empty();
    let folders = ["volumes", "images"].map(|name| host.dir().join("quantix-pools/local").join(name));
    let files = folders.into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    for path in files.map(|file| file.unwrap().path()) {
        if path.extension().is_none_or(|end| end != "qcow2") {
            continue;
        }
        let checked =
            Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(&path).output().unwrap();
        // Whoever writes to it has locked it.
        let is_open = String::from_utf8_lossy(&checked.stderr).contains("Is another process using the image");
        assert!(checked.status.success() || (any_is_on && is_open), "{}: {checked:?}", path.display());
    }
}
