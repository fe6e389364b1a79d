//! Pools, volumes and the disks of machines, with the libvirt and the QEMU of the image.

use std::{fs, path::PathBuf, process::Command};

use quantix_api::{
    ChangePool, ChangeVm, ChangeVolume, Event, EventQuery, GrowVolume, ImageState, MAX_PIECE_BYTES, NewDisk,
    NewImage, NewPool, NewVm, NewVolume, Pool, PoolState, ProblemCode, RemoveImage, RemovePool, RemoveVm,
    RemoveVolume, Task, TaskState, VmAction, VmDisk, VmSpec, VmState, Volume, VolumeQuery, VolumeState,
    calls,
};

use tokio::{io::AsyncWriteExt, net::UnixStream};

use crate::{
    hosts::{problem, until},
    place::{Place, disk, new},
};

const GIB: u64 = 1 << 30;

/// What a program of the system says.
#[expect(clippy::disallowed_methods, reason = "a test asks the system's own programs")]
fn ran(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output.stdout
}

/// Where nothing looks after the disks, people are told, and nothing is left of what could not be made.
#[tokio::test]
async fn a_pool_that_cannot_be_made_is_nowhere() {
    let place = Place::start().await.with_pool().await;
    let (client, session) = (place.host.client(), &place.session);
    let host = client.call(&calls::cluster().as_session(session)).await.unwrap().this_host;
    let unknown = problem(client.call(&calls::host_disks(&host).as_session(session)).await);
    assert_eq!(unknown.code, ProblemCode::Unavailable);
    assert!(unknown.detail.contains("quantix-disks"), "{}", unknown.detail);
    let pool = |name: &str, host: &str, disks: &[&str]| {
        let disks = disks.iter().map(|&disk| disk.to_owned()).collect();
        NewPool { name: name.to_owned(), host: host.to_owned(), disks, erase: true }
    };
    let wrong = [
        ("host", pool("fast", "00000000000000ff", &["sdb"])),
        ("host", pool("fast", "../..", &["sdb"])),
        ("disks", pool("fast", &host, &[])),
        ("disks", pool("fast", &host, &["sdb", "sdb"])),
        ("disks", pool("fast", &host, &["sdb\n--force"])),
        ("name", pool("local", &host, &["sdb"])),
        ("name", pool("a\u{7}b", &host, &["sdb"])),
    ];
    for (field, wrong) in wrong {
        let told = problem(client.call(&calls::make_pool(&wrong).as_session(session)).await);
        assert_eq!(told.field.as_deref(), Some(field), "{wrong:?}: {}", told.detail);
    }
    let making =
        client.call(&calls::make_pool(&pool("fast", &host, &["sdb"])).as_session(session)).await.unwrap();
    let ended = place.ended(making.id).await;
    assert_eq!(ended.state, TaskState::Failed);
    assert!(ended.outcome.contains("quantix-disks"), "{}", ended.outcome);
    let pools = client.call(&calls::pools().as_session(session)).await.unwrap().items;
    assert_eq!(pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["local"]);
    let body = RemovePool { name: "local".into() };
    let told = problem(client.call(&calls::remove_pool("local", &body).as_session(session)).await);
    assert_eq!(told.code, ProblemCode::Conflict);
    // A disk that is not there stands in nobody's way.
    let new_vm =
        NewVm { disks: vec![NewDisk { pool: "thin-00000001".into(), ..disk(GIB) }], ..new("web-01") };
    let told = problem(client.call(&calls::make_vm(&new_vm).as_session(session)).await);
    assert_eq!(told.field.as_deref(), Some("disks.0.pool"));
}

/// A line that breaks costs what was on it, and no more: what has come of a piece has come.
#[tokio::test]
async fn an_upload_that_is_cut_at_every_tenth_goes_on_where_it_was() {
    let place = Place::start().await.with_pool().await;
    let mut content: Vec<u8> = (0..10_000_000_u32).map(|at| (at / 512 * 7 % 251) as u8).collect();
    content.truncate(10_000_000 / 512 * 512);
    content[510..512].copy_from_slice(b"\x55\xaa");
    let length = content.len();
    let new = NewImage {
        name: "cut".into(),
        file: "cut.raw".into(),
        pool: "local".into(),
        length: length as u64,
        sha256: None,
    };
    let image = place.host.client().call(&calls::make_image(&new).as_session(&place.session)).await.unwrap();
    let arrived = calls::image_arrived(&image.id).as_session(&place.session);
    let mut at = 0;
    for tenth in 1..10 {
        // Everything that is left is begun, and cut where nothing begins or ends.
        let cut = length * tenth / 10 + tenth;
        let head = format!(
            "PUT /api/v1/images/{}/content?at={at} HTTP/1.1\r\nhost: agent\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            image.id,
            place.session.expose(),
            length - at
        );
        let mut line = UnixStream::connect(place.host.dir().join("run/api.sock")).await.unwrap();
        line.write_all(head.as_bytes()).await.unwrap();
        line.write_all(&content[at..cut]).await.unwrap();
        drop(line);
        until("what was sent to have come", async || {
            place.host.client().call(&arrived).await.unwrap().bytes == cut as u64
        })
        .await;
        at = cut;
    }
    let rest = calls::bring_image(&image.id, at as u64, content[at..].to_vec()).as_session(&place.session);
    assert_eq!(place.host.client().call(&rest).await.unwrap().bytes, length as u64);
    let finish = calls::finish_image(&image.id).as_session(&place.session);
    let task = place.ended(place.host.client().call(&finish).await.unwrap().id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let (disk, raw) = (place.folder().join(format!("images/{}.qcow2", image.id)), place.folder().join("raw"));
    ran("qemu-img", &["convert", "-O", "raw", &disk.display().to_string(), &raw.display().to_string()]);
    assert!(fs::read(&raw).unwrap() == content, "another disk than was brought");
    assert_eq!(place.image_files(), [format!("{}.qcow2", image.id)]);
}

impl Place {
    async fn pool(&self) -> Pool {
        self.host.client().call(&calls::pool("local").as_session(&self.session)).await.unwrap()
    }

    /// Waits until the host has told of its pool.
    pub(crate) async fn with_pool(self) -> Self {
        until("the pool is there", async || {
            self.pool().await.hosts.iter().any(|there| there.state == PoolState::Ready)
        })
        .await;
        self
    }

    fn folder(&self) -> PathBuf {
        self.host.dir().join("quantix-pools/local")
    }

    /// What lies in the pool.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder().join("volumes")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What lies among the images.
    fn image_files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder().join("images")).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn volumes(&self) -> Vec<Volume> {
        let query = VolumeQuery { limit: Some(1000), ..VolumeQuery::default() };
        self.host.client().call(&calls::volumes(&query).as_session(&self.session)).await.unwrap().items
    }

    async fn volume(&self, id: &str) -> Volume {
        self.host.client().call(&calls::volume(id).as_session(&self.session)).await.unwrap()
    }

    async fn make_volume(&self, name: &str, bytes: u64) -> Task {
        let new = NewVolume { name: name.into(), pool: "local".into(), host: None, bytes };
        let task =
            self.host.client().call(&calls::make_volume(&new).as_session(&self.session)).await.unwrap();
        self.ended(task.id).await
    }

    async fn grow(&self, id: &str, bytes: u64) {
        let call = calls::grow_volume(id, &GrowVolume { bytes }).as_session(&self.session);
        let task = self.host.client().call(&call).await.unwrap();
        let task = self.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }

    /// How big a volume is for whoever opens it, and that it is whole.
    fn size(&self, id: &str) -> u64 {
        let path = self.folder().join("volumes").join(format!("{id}.qcow2"));
        let ask = |verb: &str| {
            let told = ran("qemu-img", &[verb, "-U", "--output=json", &path.display().to_string()]);
            serde_json::from_slice::<serde_json::Value>(&told).unwrap()
        };
        assert_eq!(ask("check")["check-errors"], 0);
        ask("info")["virtual-size"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_made_with_a_machine_and_go_with_it_or_stay() {
    let place = Place::start().await.with_pool().await;
    let wanted = NewVm { disks: vec![disk(GIB), disk(2 * GIB)], start: true, ..new("web-01") };
    let id = place.make(&wanted).await;
    place.becomes(&id, VmState::Running).await;
    let vm = place.vm(&id).await;
    assert!(vm.drift.is_empty() && vm.trouble.is_empty(), "{vm:?}");
    let disks: Vec<_> = vm.spec.disks.iter().map(|disk| disk.volume.clone()).collect();
    assert_eq!(disks.len(), 2);
    for (volume, name, bytes) in [(&disks[0], "web-01-disk-1", GIB), (&disks[1], "web-01-disk-2", 2 * GIB)] {
        let volume = place.volume(volume).await;
        assert_eq!((volume.name.as_str(), volume.bytes, volume.state), (name, bytes, VolumeState::Ready));
        assert_eq!((volume.vm.as_deref(), volume.vm_name.as_deref()), (Some(id.as_str()), Some("web-01")));
        assert_eq!(place.size(&volume.id), bytes);
    }
    // What libvirt has are these files.
    let listed = place.daemon.virsh(&["domblklist", &id]);
    assert!(disks.iter().all(|volume| listed.contains(&format!("{volume}.qcow2"))), "{listed}");
    // A volume that a machine has is not removed, whoever types its name.
    let call = calls::remove_volume(&disks[0], &RemoveVolume { name: "web-01-disk-1".into() });
    let refused = problem(place.host.client().call(&call.as_session(&place.session)).await);
    assert_eq!(refused.code, ProblemCode::Conflict);
    assert!(refused.detail.contains("web-01 has this volume"), "{}", refused.detail);

    place.does(&id, VmAction::ForceStop).await;
    let keep = RemoveVm { name: "web-01".into(), keep_disks: true };
    let task =
        place.host.client().call(&calls::remove_vm(&id, &keep).as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    assert_eq!(place.files().len(), 2);
    assert!(place.volumes().await.iter().all(|volume| volume.vm.is_none()));

    // Another takes over what stayed, and it goes with that one.
    let kept = VmDisk::usual(disks[0].clone());
    let spec = VmSpec { disks: vec![kept.clone()], ..new("web-02").spec };
    let id = place.make(&NewVm { spec, ..new("web-02") }).await;
    let again = VmSpec { disks: vec![kept], ..new("web-03").spec };
    let call = calls::make_vm(&NewVm { spec: again, ..new("web-03") }).as_session(&place.session);
    let refused = problem(place.host.client().call(&call).await);
    assert_eq!(refused.field.as_deref(), Some("spec.disks.0.volume"));
    assert!(refused.detail.contains("web-02 has the volume"), "{}", refused.detail);
    place.remove(&id).await;
    assert_eq!(place.files(), [format!("{}.qcow2", disks[1])]);
    let call = calls::remove_volume(&disks[1], &RemoveVolume { name: "web-01-disk-2".into() });
    let task = place.host.client().call(&call.as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    assert_eq!((place.files().len(), place.volumes().await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_grows_whether_its_machine_is_on_or_not_and_never_shrinks() {
    let place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(GIB)], ..new("web-01") }).await;
    let volume = place.volumes().await.remove(0).id;
    place.grow(&volume, 2 * GIB).await;
    assert_eq!((place.size(&volume), place.volume(&volume).await.bytes), (2 * GIB, 2 * GIB));
    place.does(&id, VmAction::Start).await;
    place.grow(&volume, 3 * GIB).await;
    // The guest sees it at once.
    let told = place.daemon.virsh(&["domblkinfo", &id, "vda"]);
    assert!(told.contains(&(3 * GIB).to_string()), "{told}");
    assert_eq!((place.size(&volume), place.volume(&volume).await.bytes), (3 * GIB, 3 * GIB));
    for wrong in [3 * GIB, GIB, 0, (4 * GIB) + 1, u64::MAX] {
        let call = calls::grow_volume(&volume, &GrowVolume { bytes: wrong }).as_session(&place.session);
        let refused = problem(place.host.client().call(&call).await);
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            (ProblemCode::Invalid, Some("bytes")),
            "{wrong}"
        );
    }
    let rename = |name: &str| {
        calls::change_volume(&volume, &ChangeVolume { name: Some(name.into()) }).as_session(&place.session)
    };
    assert_eq!(place.host.client().call(&rename("root")).await.unwrap().name, "root");
    for wrong in ["", " a", "a/b", "a\nb", &*"a".repeat(64)] {
        assert_eq!(problem(place.host.client().call(&rename(wrong)).await).field.as_deref(), Some("name"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_added_and_taken_away() {
    let place = Place::start().await.with_pool().await;
    let id = place.make(&new("web-01")).await;
    let add = calls::add_disk(&id, &disk(GIB)).as_session(&place.session);
    let task = place.host.client().call(&add).await.unwrap();
    assert_eq!(task.title, "Create the volume web-01-disk-1");
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    place.does(&id, VmAction::Start).await;
    let vm = place.vm(&id).await;
    assert!(!vm.waits_for_restart && vm.drift.is_empty(), "{vm:?}");
    // Another is plugged in while it is on, and a volume that was there already.
    let task = place.host.client().call(&add).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    assert_eq!(place.make_volume("spare", GIB).await.state, TaskState::Done);
    let spare = place.volumes().await.into_iter().find(|volume| volume.name == "spare").unwrap().id;
    let mut spec = place.vm(&id).await.spec;
    spec.disks.push(VmDisk::usual(spare.clone()));
    let take = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
    place.host.client().call(&calls::change_vm(&id, &take).as_session(&place.session)).await.unwrap();
    let has =
        || place.daemon.virsh(&["domblklist", &id]).lines().filter(|line| line.contains("qcow2")).count();
    until("it has three", async || has() == 3).await;
    until("nothing waits", async || !place.vm(&id).await.waits_for_restart).await;
    let vm = place.vm(&id).await;
    assert!(vm.drift.is_empty() && vm.trouble.is_empty(), "{vm:?}");
    // They are the machine's until its guest has given them back, or is off.
    let without =
        ChangeVm { spec: Some(VmSpec { disks: Vec::new(), ..vm.spec.clone() }), ..ChangeVm::default() };
    let take = calls::change_vm(&id, &without).as_session(&place.session);
    assert!(place.host.client().call(&take).await.unwrap().spec.disks.is_empty());
    assert!(place.volumes().await.iter().all(|volume| volume.vm.as_deref() == Some(id.as_str())));
    place.does(&id, VmAction::ForceStop).await;
    until("libvirt is told", async || place.daemon.virsh(&["domblklist", &id]).trim().is_empty()).await;
    assert!(place.volumes().await.iter().all(|volume| volume.vm.is_none()));
    assert_eq!(place.files().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_orphaned_when_the_agent_is_killed() {
    let mut place = Place::start().await.with_pool().await;
    for round in 0..8_u64 {
        let wanted = NewVm { disks: vec![disk(GIB), disk(GIB)], ..new(&format!("web-{round}")) };
        let task =
            place.host.client().call(&calls::make_vm(&wanted).as_session(&place.session)).await.unwrap();
        // At another point of its work each time.
        tokio::time::sleep(std::time::Duration::from_millis(25 * round)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        let id = task.object.strip_prefix("vm/").unwrap().to_owned();
        assert_eq!(place.files().len(), 2, "{:?}", place.files());
        let remove = RemoveVm { name: format!("web-{round}"), keep_disks: false };
        let task = place
            .host
            .client()
            .call(&calls::remove_vm(&id, &remove).as_session(&place.session))
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10 * round)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        assert_eq!((place.files(), place.domains()), (vec![], vec![]));
        assert!(place.volumes().await.is_empty() && place.vms().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_through_whenever_the_agent_is_killed() {
    let mut place = Place::start().await.with_pool().await;
    let mut content = vec![0; 8 << 20];
    content[510..512].copy_from_slice(b"\x55\xaa");
    for (number, byte) in content[1 << 20..].iter_mut().enumerate() {
        *byte = (number / 4096 * 7) as u8;
    }
    let length = content.len() as u64;
    for round in 0..6_u64 {
        let name = format!("image-{round}");
        let new =
            NewImage { name: name.clone(), file: String::new(), pool: "local".into(), length, sha256: None };
        let make = calls::make_image(&new).as_session(&place.session);
        let id = place.host.client().call(&make).await.unwrap().id;
        // Cut in its middle, it goes on with what is there.
        let half = content[..3 << 20].to_vec();
        let bring = calls::bring_image(&id, 0, half).as_session(&place.session);
        place.host.client().call(&bring).await.unwrap();
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let arrived = calls::image_arrived(&id).as_session(&place.session);
        let mut at = place.host.client().call(&arrived).await.unwrap().bytes;
        assert_eq!(at, 3 << 20);
        while at < length {
            let begin = usize::try_from(at).unwrap();
            let piece = content[begin..].chunks(MAX_PIECE_BYTES).next().unwrap().to_vec();
            let bring = calls::bring_image(&id, at, piece).as_session(&place.session);
            at = place.host.client().call(&bring).await.unwrap().bytes;
        }
        let finish = calls::finish_image(&id).as_session(&place.session);
        let task = place.host.client().call(&finish).await.unwrap();
        // At another point of the work each time.
        tokio::time::sleep(std::time::Duration::from_millis(30 * round)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        assert_eq!(place.image_files(), [format!("{id}.qcow2")]);
        let image = place.folder().join(format!("images/{id}.qcow2")).display().to_string();
        let raw = place.folder().join("raw").display().to_string();
        ran("qemu-img", &["check", &image]);
        ran("qemu-img", &["convert", "-O", "raw", &image, &raw]);
        assert!(fs::read(&raw).unwrap() == content, "another disk than was brought");
        let remove = calls::remove_image(&id, &RemoveImage { name }).as_session(&place.session);
        let task = place.host.client().call(&remove).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5 * round)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        assert_eq!(place.ended(task.id).await.state, TaskState::Done);
        assert_eq!(place.image_files(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_machines_with_disks_at_once() {
    let place = Place::start().await.with_pool().await;
    let mut tasks = Vec::new();
    for number in 0..20 {
        let wanted = NewVm { disks: vec![disk(GIB), disk(GIB)], ..new(&format!("web-{number}")) };
        let call = calls::make_vm(&wanted).as_session(&place.session);
        tasks.push(place.host.client().call(&call).await.unwrap());
    }
    for task in &tasks {
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }
    assert_eq!((place.files().len(), place.domains().len()), (40, 20));
    let mut removed = Vec::new();
    for task in tasks {
        let remove = RemoveVm { name: task.object_name, keep_disks: false };
        let call =
            calls::remove_vm(task.object.trim_start_matches("vm/"), &remove).as_session(&place.session);
        removed.push(place.host.client().call(&call).await.unwrap());
    }
    for task in removed {
        assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    }
    assert_eq!((place.files(), place.domains()), (vec![], vec![]));
    assert!(place.volumes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_vanishes_is_missed_and_comes_back_by_itself() {
    let place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(GIB)], ..new("web-01") }).await;
    let elsewhere = place.folder().with_file_name("elsewhere");
    fs::rename(place.folder(), &elsewhere).unwrap();
    // As a file system is that is not mounted.
    fs::create_dir_all(place.folder().join("volumes")).unwrap();
    let task = place.make_volume("data", GIB).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.outcome.contains("The pool is not there"), "{}", task.outcome);
    assert_eq!(place.files(), Vec::<String>::new());
    until("it is missed", async || place.pool().await.hosts[0].state == PoolState::Missing).await;
    let events = calls::events(&EventQuery::default()).as_session(&place.session);
    let events = place.host.client().call(&events).await.unwrap().items;
    let told = |event: &Event| event.is_open() && event.sentence.contains("web-01 has disks in it");
    assert!(events.iter().any(told), "{events:?}");
    assert!(place.vm(&id).await.trouble.starts_with("The pool local with its disks is missing since 20"));
    // Nothing more is begun there, and what is there is not forgotten.
    let new = NewVolume { name: "data".into(), pool: "local".into(), host: None, bytes: GIB };
    let refused =
        problem(place.host.client().call(&calls::make_volume(&new).as_session(&place.session)).await);
    assert_eq!((refused.code, refused.field.as_deref()), (ProblemCode::Conflict, Some("pool")));
    assert_eq!(place.volumes().await.len(), 1);

    fs::remove_dir_all(place.folder()).unwrap();
    fs::rename(&elsewhere, place.folder()).unwrap();
    until("it is back", async || place.pool().await.hosts[0].state == PoolState::Ready).await;
    assert_eq!(place.vm(&id).await.trouble, "");
    place.does(&id, VmAction::Start).await;
    // A file that is gone is told of as well.
    let volume = place.volumes().await.remove(0).id;
    fs::remove_file(place.folder().join("volumes").join(format!("{volume}.qcow2"))).unwrap();
    until("the volume is missed", async || place.volume(&volume).await.state == VolumeState::Missing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_takes_nothing_new_and_says_so() {
    let place = Place::start().await.with_pool().await;
    let limit = ChangePool { limit: Some(1), ..ChangePool::default() };
    let pool =
        place.host.client().call(&calls::change_pool("local", &limit).as_session(&place.session)).await;
    assert_eq!(pool.unwrap().limit, 1);
    let call = calls::make_vm(&NewVm { disks: vec![disk(GIB)], ..new("web-01") }).as_session(&place.session);
    let refused = problem(place.host.client().call(&call).await);
    assert_eq!((refused.code, refused.field.as_deref()), (ProblemCode::Conflict, Some("disks.0.pool")));
    assert!(refused.detail.contains("takes nothing new from 1 on"), "{}", refused.detail);
    assert!(place.vms().await.is_empty());
    let limit = ChangePool { limit: Some(100), ..ChangePool::default() };
    place.host.client().call(&calls::change_pool("local", &limit).as_session(&place.session)).await.unwrap();

    // Full for good, with nobody having looked: what was begun is taken back.
    let volumes = place.folder().join("volumes");
    let (folder, size) = (volumes.display().to_string(), "size=64k");
    ran("mount", &["-t", "tmpfs", "-o", size, "tmpfs", &folder]);
    let task = place.make_volume("data", GIB).await;
    let left = place.files();
    ran("umount", &[&folder]);
    assert_eq!(task.state, TaskState::Failed, "{task:?}");
    assert!(task.outcome.contains("no room left"), "{}", task.outcome);
    assert_eq!(left, Vec::<String>::new());
    assert!(place.volumes().await.is_empty());

    // A disk for a machine is the machine's too when it is tried again.
    let vm = place.make(&new("web-01")).await;
    ran("mount", &["-t", "tmpfs", "-o", size, "tmpfs", &folder]);
    let call = calls::add_disk(&vm, &disk(GIB)).as_session(&place.session);
    let task = place.ended(place.host.client().call(&call).await.unwrap().id).await;
    ran("umount", &[&folder]);
    assert_eq!(task.state, TaskState::Failed, "{task:?}");
    assert!(place.vm(&vm).await.spec.disks.is_empty());
    let again = calls::retry_task(task.id).as_session(&place.session);
    let task = place.ended(place.host.client().call(&again).await.unwrap().id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let (disks, volumes) = (place.vm(&vm).await.spec.disks, place.volumes().await);
    assert_eq!((disks.len(), volumes.len()), (1, 1));
    assert_eq!(disks[0].volume, volumes[0].id);
    assert_eq!(volumes[0].vm.as_deref(), Some(vm.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_in_pieces_and_disks_begin_as_copies_of_it() {
    let place = Place::start().await.with_pool().await;
    let client = place.host.client();
    let mut content = vec![0; 8 << 20];
    content[510..512].copy_from_slice(b"\x55\xaa");
    content[5 << 20..][..5].copy_from_slice(b"hello");
    let new_image = |name: &str| {
        let (file, pool) = ("debian-12-genericcloud-amd64.raw".into(), "local".into());
        NewImage { name: name.into(), file, pool, length: content.len() as u64, sha256: None }
    };
    let make = calls::make_image(&new_image("Debian 12")).as_session(&place.session);
    let image = client.call(&make).await.unwrap();
    assert_eq!(
        (image.os.as_str(), image.os_version.as_str(), image.user.as_str()),
        ("debian", "12", "debian")
    );
    // Whoever begins again with the same file goes on; another file is another image.
    assert_eq!(client.call(&make).await.unwrap().id, image.id);
    for (length, field) in [(9, "name"), (0, "length"), ((1 << 40) + 1, "length"), (u64::MAX, "length")] {
        let other = NewImage { length, ..new_image("Debian 12") };
        let refused = client.call(&calls::make_image(&other).as_session(&place.session)).await;
        assert_eq!(problem(refused).field.as_deref(), Some(field), "{length}");
    }
    let bring = |at: usize, piece: &[u8]| {
        calls::bring_image(&image.id, at as u64, piece.to_vec()).as_session(&place.session)
    };
    let finish = calls::finish_image(&image.id).as_session(&place.session);
    // Not over a hole, not more than was said, and not before everything is there.
    assert_eq!(problem(client.call(&bring(1, b"x")).await).code, ProblemCode::Conflict);
    assert_eq!(client.call(&bring(0, &content[..3 << 20])).await.unwrap().bytes, 3 << 20);
    assert!(problem(client.call(&finish).await).detail.contains("Bring the rest"));
    assert!(client.call(&bring(3 << 20, &vec![0; MAX_PIECE_BYTES + 1])).await.is_err());
    // What comes again is written again, and the rest behind it.
    assert_eq!(client.call(&bring(3 << 20, &content[3 << 20..][..4 << 20])).await.unwrap().bytes, 7 << 20);
    assert_eq!(problem(client.call(&bring(7 << 20, &vec![0; 2 << 20])).await).code, ProblemCode::Invalid);
    assert_eq!(client.call(&bring(7 << 20, &content[7 << 20..])).await.unwrap().bytes, 8 << 20);
    let task = place.ended(client.call(&finish).await.unwrap().id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let image = client.call(&calls::image(&image.id).as_session(&place.session)).await.unwrap();
    assert_eq!((image.state, image.bytes), (ImageState::Ready, Some(8 << 20)));
    assert_eq!(image.sha256.as_ref().unwrap().len(), 64);

    // A disk has the size that was asked for, and what is on the image.
    let copy = |bytes| NewDisk { image: Some(image.id.clone()), ..disk(bytes) };
    let too_small = calls::make_vm(&NewVm { disks: vec![copy(4 << 20)], has_way_in: true, ..new("small") });
    let refused = problem(client.call(&too_small.as_session(&place.session)).await);
    assert!(refused.detail.contains("1 GiB or more"), "{}", refused.detail);
    let vm = place.make(&NewVm { disks: vec![copy(GIB)], has_way_in: true, ..new("web-01") }).await;
    let volume = place.vm(&vm).await.spec.disks[0].volume.clone();
    assert_eq!(place.size(&volume), GIB);
    let file = place.folder().join(format!("volumes/{volume}.qcow2")).display().to_string();
    ran("qemu-img", &["check", &file]);
    let raw = place.folder().join("raw").display().to_string();
    ran("qemu-img", &["convert", "-O", "raw", &file, &raw]);
    assert_eq!(&fs::read(&raw).unwrap()[5 << 20..][..5], b"hello");

    // It goes, and the disk stays.
    let wrong = calls::remove_image(&image.id, &RemoveImage { name: "Debian".into() });
    assert_eq!(problem(client.call(&wrong.as_session(&place.session)).await).field.as_deref(), Some("name"));
    let remove = calls::remove_image(&image.id, &RemoveImage { name: "Debian 12".into() });
    let task = client.call(&remove.as_session(&place.session)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    ran("qemu-img", &["check", &file]);
    assert!(client.call(&calls::images().as_session(&place.session)).await.unwrap().items.is_empty());
    assert_eq!(place.image_files(), Vec::<String>::new());

    // What is not what was meant, and what could read the host's files, is gone with its place.
    let sum = Some("0".repeat(64));
    let overlay = fs::read({
        let path = place.folder().join("overlay").display().to_string();
        let args = ["create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", &path, "8M"];
        ran("qemu-img", &args);
        path
    });
    for (content, sha256, why) in [
        (content.clone(), sum, "not the one that was meant"),
        (overlay.unwrap(), None, "differs from another file"),
        (b"#!/bin/sh\n".to_vec(), None, "neither a disk"),
    ] {
        let new = NewImage { length: content.len() as u64, sha256, ..new_image("Hostile") };
        let image = client.call(&calls::make_image(&new).as_session(&place.session)).await.unwrap();
        for (number, piece) in content.chunks(MAX_PIECE_BYTES).enumerate() {
            let at = (number * MAX_PIECE_BYTES) as u64;
            let call = calls::bring_image(&image.id, at, piece.to_vec()).as_session(&place.session);
            client.call(&call).await.unwrap();
        }
        let finish = calls::finish_image(&image.id).as_session(&place.session);
        let task = place.ended(client.call(&finish).await.unwrap().id).await;
        assert_eq!(task.state, TaskState::Failed, "{task:?}");
        assert!(task.outcome.contains(why), "{}", task.outcome);
        assert!(client.call(&calls::images().as_session(&place.session)).await.unwrap().items.is_empty());
        assert_eq!(place.image_files(), Vec::<String>::new());
    }
}
