//! What the agent in a guest tells and does: a Debian guest with cloud-init and qemu-guest-agent, as people have them.
//! `tools/guest` builds it.

use std::{fs, path::Path};

use quantix_api::{
    CloudInit, ImageState, Metric, MetricsQuery, NewDisk, NewSnapshot, NewVm, PowerVm, ProblemCode, RevertVm,
    Secret, SetGuestPassword, TaskState, VmAction, VmCpu, VmMemory, VmNic, VmSpec, VmState, calls,
};

use crate::{
    hosts::{problem, until, until_within},
    live::{on, with_bridges},
    place::{Place, disk, new},
};

/// A guest that is imitated may take so many seconds to start.
const BOOT: u64 = 900;

impl Place {
    /// The Debian guest as an image: its id.
    async fn with_debian(&self) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../out/guest/debian.qcow2");
        let content = fs::read(&path).unwrap_or_else(|_| panic!("The guest is not there. Run: tools/guest"));
        let client = self.host.client();
        let image = self.brought("Debian 13", "debian-13-generic.qcow2", &content).await;
        let task = client.call(&calls::finish_image(&image.id).as_session(&self.session)).await.unwrap();
        assert_eq!(self.ended(task.id).await.state, TaskState::Done);
        let image = client.call(&calls::image(&image.id).as_session(&self.session)).await.unwrap();
        assert_eq!((image.state, image.os.as_str()), (ImageState::Ready, "debian"));
        image.id
    }
}

#[tokio::test]
async fn a_debian_guest_tells_of_itself_and_does_what_it_is_asked() {
    with_bridges();
    let place = Place::start().await.with_pool().await;
    let client = place.host.client();
    let image = place.with_debian().await;
    let first = NewDisk { image: Some(image), linked: true, ..disk(3 << 30) };
    let cpu = VmCpu { cores: 2, most: 4, ..VmCpu::default() };
    let memory = VmMemory { mib: 384, most_mib: 1024, ..VmMemory::default() };
    let nics = vec![VmNic { bridge: "br-one".into(), mac: "52:54:00:00:00:01".into(), model: None }];
    let spec = VmSpec { cpu: cpu.clone(), memory: memory.clone(), nics, ..new("web-01").spec };
    let told = CloudInit { password: Some(Secret::new("open sesame")), ..CloudInit::default() };
    let wanted = NewVm { spec, disks: vec![first], cloud_init: Some(told), start: true, ..new("web-01") };
    let id = place.make(&wanted).await;
    // Whom an image is made for is who gets in, unless somebody says otherwise.
    assert_eq!(place.vm(&id).await.user, "debian");
    until_within(BOOT, "its guest tells of itself", async || place.vm(&id).await.guest.is_some()).await;
    let guest = place.vm(&id).await.guest.unwrap();
    assert!(guest.os.starts_with("Debian GNU/Linux 13"), "{guest:?}");
    until_within(BOOT, "it is called as it was told", async || {
        place.vm(&id).await.guest.is_some_and(|guest| guest.hostname == "web-01")
    })
    .await;
    // What it does with its memory only it knows.
    let used = calls::vm_metrics(&id, &MetricsQuery::default()).as_session(&place.session);
    until("its guest tells of its memory", async || {
        let used = client.call(&used).await.unwrap().last(Metric::Memory);
        used.is_some_and(|used| used > 16e6 && used < 384e6 * 1.05)
    })
    .await;
    // It is found by what it calls itself.
    let query = quantix_api::VmQuery { text: Some("WEB-01".into()), ..Default::default() };
    assert_eq!(client.call(&calls::vms(&query).as_session(&place.session)).await.unwrap().items.len(), 1);

    // It is given a processor and memory, and gives back a card, while it is on. Of the processor its kernel knows nothing:
    // Linux believes in those that come later into a socket that is there only where it knows its hypervisor, as KVM.
    let bigger = VmSpec {
        cpu: VmCpu { cores: 3, ..cpu },
        memory: VmMemory { mib: 512, ..memory },
        nics: Vec::new(),
        ..place.vm(&id).await.spec
    };
    place.becomes_like(&id, bigger).await;
    until_within(BOOT, "it has given back its card", async || {
        on("br-one") == 0 && !place.vm(&id).await.waits_for_restart
    })
    .await;
    until_within(BOOT, "its guest has the memory", async || {
        let told = place.daemon.virsh(&["dommemstat", &id]);
        let kib = told.lines().find_map(|line| line.strip_prefix("available ")?.trim().parse::<u64>().ok());
        kib.is_some_and(|kib| kib > 370 << 10)
    })
    .await;

    // It is given disks, and gives back one in the middle, which is anybody's then. The others keep their names.
    let has = async |expected: &[&str]| {
        let is_so = async || {
            let told = place.daemon.virsh(&["domblklist", &id]);
            let names = told.lines().filter_map(|line| line.split_whitespace().next());
            names.filter(|name| name.starts_with("vd") && *name != "vdz").eq(expected.iter().copied())
                && !place.vm(&id).await.waits_for_restart
        };
        until_within(BOOT, &format!("it has {expected:?}"), is_so).await;
    };
    let gets_a_disk = async || {
        let call = calls::add_disk(&id, &disk(64 << 20)).as_session(&place.session);
        let task = place.ended(client.call(&call).await.unwrap().id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    };
    gets_a_disk().await;
    gets_a_disk().await;
    has(&["vda", "vdb", "vdc"]).await;
    let mut fewer = place.vm(&id).await.spec;
    let taken = fewer.disks.remove(1).volume;
    place.becomes_like(&id, fewer).await;
    has(&["vda", "vdc"]).await;
    let free = client.call(&calls::volume(&taken).as_session(&place.session)).await.unwrap();
    assert_eq!(free.vm, None);
    gets_a_disk().await;
    has(&["vda", "vdc", "vdd"]).await;

    // Another password, and what it refuses.
    let set = async |user: &str, password: &str| {
        let body = SetGuestPassword { user: user.into(), password: Secret::new(password) };
        client.call(&calls::set_guest_password(&id, &body).as_session(&place.session)).await
    };
    until_within(BOOT, "cloud-init has made the user", async || set("debian", "close sesame").await.is_ok())
        .await;
    let refused = problem(set("nobody-of-this-name", "x").await);
    assert_eq!((refused.code, refused.field.as_deref()), (ProblemCode::Conflict, Some("user")));
    for (user, password, field) in
        [("", "x", "user"), ("a:b", "x", "user"), ("debian", "", "password"), ("debian", "a\nb", "password")]
    {
        assert_eq!(problem(set(user, password).await).field.as_deref(), Some(field));
    }
    let log = client.call(&calls::audit(&Default::default()).as_session(&place.session)).await.unwrap();
    assert!(log.items.iter().any(|line| line.action == "set-guest-password"));
    assert!(!serde_json::to_string(&log).unwrap().contains("sesame"));

    // Held by its guest, and with its memory.
    for (name, memory, freeze) in [("held", false, true), ("running", true, true)] {
        let held = NewSnapshot { name: name.into(), description: String::new(), memory, freeze };
        let task = client.call(&calls::make_snapshot(&id, &held).as_session(&place.session)).await.unwrap();
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }
    let all = client.call(&calls::snapshots(&id).as_session(&place.session)).await.unwrap().items;
    let facts: Vec<_> = all.iter().map(|one| (one.is_frozen, one.has_memory)).collect();
    assert_eq!(facts, [(true, false), (false, true)]);

    // It ends by itself when it is asked, and tells nothing then.
    let within = u32::try_from(BOOT).unwrap();
    let end = PowerVm { within, ..PowerVm::usual(VmAction::ShutDown) };
    let task = client.call(&calls::power_vm(&id, &end).as_session(&place.session)).await.unwrap();
    let task = place.ended_within(BOOT, task.id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    assert!(place.vm(&id).await.guest.is_none());
    assert_eq!(problem(set("debian", "x").await).code, ProblemCode::VmNotRunning);
    // It wakes where it was: with nobody to start it, and its agent answers at once.
    let revert = calls::revert_vm(&id, &all[1].id, &RevertVm::default()).as_session(&place.session);
    let task = client.call(&revert).await.unwrap();
    let task = place.ended(task.id).await;
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    until("its guest tells of itself again", async || place.vm(&id).await.guest.is_some()).await;
    until("it does what it is asked", async || set("debian", "open again").await.is_ok()).await;
    place.does(&id, VmAction::ForceStop).await;
    place.all_is_whole();
    place.remove(&id).await;
}
