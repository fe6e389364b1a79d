//! Images that are needed on a host that is not theirs.

use std::{fs, path::PathBuf, time::Duration};

use quantix_api::{
    Cache, ChangeVm, Image, ImageState, NewDisk, NewImage, NewVm, PowerVm, RemoveImage, TaskState, VmAction,
    VmCd, VmSpec, VmState, calls,
};
use quantix_libvirt::Daemon;

use crate::{
    hosts::{Host, problem, until},
    place::{Place, new, spec, volumes_are_whole},
};

/// A place with another host in its cluster.
pub(crate) struct Two {
    pub(crate) place: Place,
    pub(crate) other: Host,
    pub(crate) daemon: Daemon,
    pub(crate) there: String,
}

impl Two {
    pub(crate) async fn start() -> Self {
        let place = Place::start().await.with_pool().await;
        let daemon = Daemon::start();
        let other = Host::start_with_libvirt("qx-2", &daemon);
        let own = other.settled().await;
        let made = place.host.make_token(&place.session, 2).await;
        other.join(&own, &place.host, &made.token).await.unwrap();
        other.ready().await;
        let there = other.cluster(&place.session).await.unwrap().this_host;
        let two = Self { place, other, daemon, there };
        two.is_there().await;
        two
    }

    /// Waits until machines can be on the other host.
    async fn is_there(&self) {
        until("the other host has its pool", async || {
            let pools = self.place.host.client().call(&calls::pools().as_session(&self.place.session)).await;
            let has_pool = pools.is_ok_and(|pools| {
                pools.items[0].hosts.iter().any(|host| host.host == self.there && host.capacity > 0)
            });
            let cluster = self.place.host.cluster(&self.place.session).await;
            has_pool
                && cluster.is_ok_and(|cluster| {
                    let is_heard = |ms: Option<u64>| ms.is_some_and(|ms| ms < 500);
                    cluster.hosts.iter().any(|host| host.id == self.there && is_heard(host.last_contact_ms))
                })
        })
        .await;
    }

    async fn has_image(&self, name: &str, content: &[u8]) -> Image {
        let client = self.place.host.client();
        let image = self.place.brought(name, name, content).await;
        let task =
            client.call(&calls::finish_image(&image.id).as_session(&self.place.session)).await.unwrap();
        assert_eq!(self.place.ended(task.id).await.state, TaskState::Done);
        self.image(&image.id).await
    }

    async fn image(&self, id: &str) -> Image {
        self.place.host.client().call(&calls::image(id).as_session(&self.place.session)).await.unwrap()
    }

    fn images_there(&self) -> PathBuf {
        self.other.dir().join("quantix-pools/local/images")
    }

    fn files_there(&self) -> Vec<String> {
        let all = fs::read_dir(self.images_there()).into_iter().flatten();
        all.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Nothing is damaged in the pools of both.
    fn is_whole(&self) {
        self.place.all_is_whole();
        volumes_are_whole(&self.other, &self.daemon);
    }

    fn wanted(&self, name: &str, image: &Image, linked: bool) -> NewVm {
        let disk = NewDisk {
            pool: "local".into(),
            bytes: image.bytes.unwrap(),
            image: Some(image.id.clone()),
            linked,
            bus: None,
            cache: Cache::default(),
        };
        NewVm { disks: vec![disk], has_way_in: true, host: Some(self.there.clone()), ..new(name) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_brought_to_the_host_that_is_asked_whoever_leads() {
    let two = Two::start().await;
    let (client, session) = (two.other.client(), &two.place.session);
    let content = disk(8);
    let takes_place = async |name: &str| {
        let new = NewImage {
            name: name.into(),
            file: "debian.raw".into(),
            pool: "local".into(),
            length: content.len() as u64,
            sha256: None,
        };
        let image = client.call(&calls::make_image(&new).as_session(session)).await.unwrap();
        assert_eq!(image.host_name, "qx-2");
        image.id
    };
    let bring = |id: &str, at: usize, piece: &[u8]| {
        calls::bring_image(id, at as u64, piece.to_vec()).as_session(session)
    };
    let finish = async |id: &str| {
        let task = client.call(&calls::finish_image(id).as_session(session)).await.unwrap();
        two.place.ended(task.id).await
    };
    let (first, rest) = content.split_at(3 << 20);
    let id = takes_place("debian").await;
    assert_eq!(client.call(&bring(&id, 0, first)).await.unwrap().bytes, first.len() as u64);
    let elsewhere = problem(two.place.host.client().call(&bring(&id, first.len(), rest)).await);
    assert_eq!(elsewhere.detail, "The file of this image comes to qx-2. Bring it there.");
    client.call(&bring(&id, first.len(), rest)).await.unwrap();
    assert_eq!(finish(&id).await.state, TaskState::Done);
    assert_eq!(two.image(&id).await.state, ImageState::Ready);
    assert_eq!(two.files_there(), [format!("{id}.qcow2")]);
    // Whoever leads does not see what is missing; the host that has it does.
    let id = takes_place("half").await;
    client.call(&bring(&id, 0, first)).await.unwrap();
    let early = finish(&id).await;
    assert_eq!(early.state, TaskState::Failed);
    assert!(early.outcome.contains("Only 3145728 of 8388608 bytes have come."), "{early:?}");
}

/// A disk with something on all of it, that looks like one.
fn disk(mib: usize) -> Vec<u8> {
    let words = (0..mib << 17).flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let mut bytes: Vec<u8> = words.collect();
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_where_it_is_first_needed_and_goes_everywhere() {
    let two = Two::start().await;
    let image = two.has_image("debian.raw", &disk(8)).await;
    assert!(image.also_on.is_empty() && two.files_there().is_empty());
    let copy = two.place.make(&two.wanted("web-01", &image, false)).await;
    assert_eq!(two.image(&image.id).await.also_on, ["qx-2"]);
    let file = format!("{}.qcow2", image.id);
    assert_eq!(two.files_there(), std::slice::from_ref(&file));
    let here = two.place.host.dir().join("quantix-pools/local/images").join(&file);
    assert!(fs::read(here).unwrap() == fs::read(two.images_there().join(&file)).unwrap());
    // It is there now: two at once lie on it.
    let (one, other) =
        tokio::join!(async { two.place.make(&two.wanted("web-02", &image, true)).await }, async {
            two.place.make(&two.wanted("web-03", &image, true)).await
        },);
    let path = two.daemon.virsh(&["domblklist", &one]);
    assert!(path.contains(&two.other.dir().display().to_string()), "{path}");
    for vm in [&copy, &one] {
        two.place.does(vm, VmAction::Start).await;
        two.place.does(vm, VmAction::ForceStop).await;
    }
    two.is_whole();
    for vm in [&copy, &one, &other] {
        two.place.remove(vm).await;
    }
    let client = two.place.host.client();
    let remove = calls::remove_image(&image.id, &RemoveImage { name: image.name.clone() });
    let task = client.call(&remove.as_session(&two.place.session)).await.unwrap();
    assert_eq!(two.place.ended(task.id).await.state, TaskState::Done);
    until("its copy is gone", async || two.files_there().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_while_an_image_is_brought_goes_on_where_it_was() {
    let mut two = Two::start().await;
    let image = two.has_image("big.raw", &disk(256)).await;
    let client = two.place.host.client();
    let make = calls::make_vm(&two.wanted("web-01", &image, true)).as_session(&two.place.session);
    let task = client.call(&make).await.unwrap();
    let part = two.images_there().join(format!("{}.part", image.id));
    until("some of it has come", async || fs::metadata(&part).is_ok_and(|part| part.len() > 8 << 20)).await;
    two.other.kill();
    let come = fs::metadata(&part).unwrap().len();
    assert!(come < 256 << 20, "it came all at once");
    two.other.start_again();
    two.other.ready().await;
    until("it goes on", async || {
        fs::metadata(&part).map_or(true, |part| part.len() > come) || !two.files_there().is_empty()
    })
    .await;
    // And then the one that has it.
    two.place.host.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    two.place.host.start_again();
    two.place.host.ready().await;
    let task = two.place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let file = format!("{}.qcow2", image.id);
    assert_eq!(two.files_there(), std::slice::from_ref(&file));
    let here = two.place.host.dir().join("quantix-pools/local/images").join(&file);
    assert!(fs::read(here).unwrap() == fs::read(two.images_there().join(&file)).unwrap());
    // Cancelled in the middle, nothing of another is left.
    let image = two.has_image("other.raw", &disk(256)).await;
    two.is_there().await;
    let make = calls::make_vm(&two.wanted("web-02", &image, false)).as_session(&two.place.session);
    let task = two.place.host.client().call(&make).await.unwrap();
    let part = two.images_there().join(format!("{}.part", image.id));
    until("some of it has come", async || part.exists()).await;
    let client = two.place.host.client();
    client.call(&calls::cancel_task(task.id).as_session(&two.place.session)).await.unwrap();
    let task = two.place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Cancelled, "{task:?}");
    assert_eq!(two.files_there(), [file]);
    two.is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cd_comes_before_its_machine_starts_and_while_it_is_on() {
    let two = Two::start().await;
    let mut content = vec![0; 1 << 20];
    content[0x8000..0x8006].copy_from_slice(b"\x01CD001");
    let first = two.has_image("first.iso", &content).await;
    content[0x9000] = 1;
    let second = two.has_image("second.iso", &content).await;
    let inside = |image: &Image| vec![VmCd { image: Some(image.id.clone()) }];
    let wanted = VmSpec { cds: inside(&first), ..spec("web-01") };
    let new = NewVm { spec: wanted.clone(), host: Some(two.there.clone()), ..new("web-01") };
    let id = two.place.make(&new).await;
    assert!(two.files_there().is_empty());
    let start = calls::power_vm(&id, &PowerVm::usual(VmAction::Start)).as_session(&two.place.session);
    let task = two.place.host.client().call(&start).await.unwrap();
    let task = two.place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    two.place.becomes(&id, VmState::Running).await;
    assert_eq!(two.files_there(), [format!("{}.iso", first.id)]);
    let change = ChangeVm {
        spec: Some(VmSpec { cds: inside(&second), ..two.place.vm(&id).await.spec }),
        ..ChangeVm::default()
    };
    let call = calls::change_vm(&id, &change).as_session(&two.place.session);
    two.place.host.client().call(&call).await.unwrap();
    until("the other is in the drive", async || {
        two.daemon.virsh(&["dumpxml", &id]).contains(&format!("{}.iso", second.id))
            && !two.place.vm(&id).await.waits_for_restart
    })
    .await;
    assert_eq!(two.image(&second.id).await.also_on, ["qx-2"]);
}
