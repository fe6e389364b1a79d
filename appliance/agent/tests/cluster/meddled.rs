//! What somebody on the host does with virsh to a machine that is on: it is seen at once, nothing is overwritten before somebody
//! says so, and then what was said holds.

use std::{fs, time::Duration};

use quantix_api::{
    Keep, NewSnapshot, NewVm, SettleDrift, Vm, VmAction, VmCd, VmCpu, VmNic, VmSpec, VmState, calls,
};

use crate::{
    hosts::{problem, until, until_it},
    live::with_bridges,
    place::{Place, disk, new},
};

impl Place {
    async fn settles(&self, id: &str, keep: Keep) {
        let call = calls::settle_drift(id, &SettleDrift { keep }).as_session(&self.session);
        self.host.client().call(&call).await.unwrap();
    }

    async fn strays(&self, id: &str, sentences: &[&str]) -> Vm {
        let is_told = |vm: &Vm| vm.drift == sentences;
        until_it(&format!("it is told: {sentences:?}"), async || self.vm(id).await, is_told).await;
        self.vm(id).await
    }

    /// Writes an image that nobody here knows, and where.
    fn lays(&self, name: &str) -> String {
        let path = self.daemon.dir.path().join(name);
        fs::write(&path, vec![0; 1 << 20]).unwrap();
        path.display().to_string()
    }
}

#[tokio::test]
async fn what_somebody_gives_a_machine_that_is_on_is_seen_and_kept_or_taken_back() {
    with_bridges();
    let mut place = Place::start().await.with_pool().await;
    let spec = VmSpec {
        cds: vec![VmCd { image: None }],
        cpu: VmCpu { cores: 1, most: 4, ..VmCpu::default() },
        nics: vec![VmNic { bridge: "br-one".into(), mac: "52:54:00:00:00:01".into(), model: None }],
        ..new("web-01").spec
    };
    let made = NewVm { spec, disks: vec![disk(64 << 20)], start: true, ..new("web-01") };
    let id = place.make(&made).await;
    place.becomes(&id, VmState::Running).await;
    place.is_left_alone(&id).await;
    assert_eq!(place.vm(&id).await.drift, Vec::<String>::new());

    // A card, and nothing is done to the machine before somebody has said what holds.
    let card = ["bridge", "br-two", "--model", "virtio", "--mac", "52:54:00:00:00:02", "--live"];
    place.daemon.virsh(&[&["attach-interface", id.as_str()], &card[..]].concat());
    let told = "While it is on it has the network card 52:54:00:00:00:02, and here it has not.";
    let vm = place.strays(&id, &[told]).await;
    assert!(vm.can_adopt);
    let held = NewSnapshot { name: "now".into(), description: String::new(), memory: false, freeze: false };
    let held = calls::make_snapshot(&id, &held).as_session(&place.session);
    let refused = problem(place.host.client().call(&held).await);
    assert!(refused.detail.contains("was changed on its host"), "{}", refused.detail);
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    place.strays(&id, &[told]).await;
    place.settles(&id, Keep::Theirs).await;
    place.strays(&id, &[]).await;
    until("libvirt keeps it", async || {
        place.daemon.virsh(&["dumpxml", "--inactive", &id]).contains("52:54:00:00:00:02")
    })
    .await;
    let vm = place.vm(&id).await;
    assert!(vm.spec.nics.len() == 2 && vm.spec.nics[1].bridge == "br-two", "{vm:?}");
    assert!(!vm.waits_for_restart, "{vm:?}");

    // Another bridge for a card that it has: put back where it was.
    let moved = place.daemon.dir.path().join("run/moved.xml");
    let live = place.daemon.virsh(&["dumpxml", &id]);
    let from = live.find("<interface").unwrap();
    let whole = &live[from..from + live[from..].find("</interface>").unwrap() + "</interface>".len()];
    assert!(whole.contains("52:54:00:00:00:01"), "{whole}");
    fs::write(&moved, whole.replace("br-one", "br-two")).unwrap();
    place.daemon.virsh(&["update-device", &id, "/run/moved.xml", "--live"]);
    place
        .strays(&id, &["While it is on its network card 52:54:00:00:00:01 is on br-two, and not on br-one."])
        .await;
    place.settles(&id, Keep::Ours).await;
    place.strays(&id, &[]).await;
    until("it is where it was", async || {
        let cards = place.daemon.virsh(&["domiflist", &id]);
        cards.lines().any(|line| line.contains("br-one") && line.contains("52:54:00:00:00:01"))
    })
    .await;
    assert!(!place.vm(&id).await.waits_for_restart);

    // A file of the host as a disk: there is no place for it here, so that it can only be taken back.
    let file = place.lays("secret.img");
    place.daemon.virsh(&["attach-disk", &id, &file, "sdc", "--targetbus", "usb", "--live"]);
    let told = format!("While it is on it has the disk {file}, and here it has not.");
    let vm = place.strays(&id, &[&told]).await;
    assert!(!vm.can_adopt);
    let adopts = calls::settle_drift(&id, &SettleDrift { keep: Keep::Theirs }).as_session(&place.session);
    assert!(problem(place.host.client().call(&adopts).await).detail.contains("cannot be kept here"));
    place.settles(&id, Keep::Ours).await;
    place.strays(&id, &[]).await;
    until("it is gone", async || !place.daemon.virsh(&["domblklist", &id]).contains("secret.img")).await;

    // A CD of which nobody here knows.
    let file = place.lays("foreign.iso");
    place.daemon.virsh(&["change-media", &id, "sdx", &file, "--insert", "--live"]);
    let told = format!("While it is on {file} is in its CD drive 1.");
    assert!(!place.strays(&id, &[&told]).await.can_adopt);
    place.settles(&id, Keep::Ours).await;
    place.strays(&id, &[]).await;
    until("it is out", async || !place.daemon.virsh(&["domblklist", &id]).contains("foreign.iso")).await;

    // More processors: they are kept.
    place.daemon.virsh(&["setvcpus", &id, "3", "--live"]);
    let vm = place.strays(&id, &["While it is on it has 3 processors, and not 1."]).await;
    assert!(vm.can_adopt);
    place.settles(&id, Keep::Theirs).await;
    place.strays(&id, &[]).await;
    let vm = place.vm(&id).await;
    assert!(vm.spec.cpu.cores == 3 && !vm.waits_for_restart, "{vm:?}");

    // None of it comes back.
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(place.vm(&id).await.drift, Vec::<String>::new());
    let now = place.daemon.virsh(&["dumpxml", &id]);
    assert!(now.contains("current='3'") && now.matches("<interface ").count() == 2, "{now}");
    assert!(!now.contains("secret.img") && !now.contains("foreign.iso"), "{now}");
}
