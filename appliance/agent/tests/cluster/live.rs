//! What is changed of a machine while it is on.

use std::process::Command;

use quantix_api::{ChangeVm, NewVm, VmAction, VmNic, VmSpec, VmState, calls};

use crate::{
    hosts::until,
    place::{Place, new},
};

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn ip(args: &str) -> String {
    let done = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {args}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Goes on in a network of its own, with two bridges. What is started from here on is in it too: this is one thread.
fn with_bridges() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    for bridge in ["br-one", "br-two"] {
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("link set {bridge} up"));
    }
}

fn on(bridge: &str) -> usize {
    ip(&format!("-o link show master {bridge}")).lines().count()
}

impl Place {
    async fn gets(&self, id: &str, nics: &[&VmNic]) {
        let spec = VmSpec { nics: nics.iter().map(|nic| (*nic).clone()).collect(), ..self.vm(id).await.spec };
        let change = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
        self.host.client().call(&calls::change_vm(id, &change).as_session(&self.session)).await.unwrap();
    }
}

#[tokio::test]
async fn cards_are_plugged_in_and_moved_while_a_machine_is_on() {
    with_bridges();
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let card =
        |bridge: &str, last: u8| VmNic { bridge: bridge.into(), mac: format!("52:54:00:00:00:{last:02x}") };
    let (first, second) = (card("br-one", 1), card("br-one", 2));
    place.gets(&id, &[&first, &second]).await;
    until("both are there", async || on("br-one") == 2 && !place.vm(&id).await.waits_for_restart).await;
    // Another bridge, and what stands in front is another one now.
    let moved = card("br-two", 1);
    place.gets(&id, &[&second, &moved]).await;
    until("one has moved", async || {
        (on("br-one"), on("br-two")) == (1, 1) && !place.vm(&id).await.waits_for_restart
    })
    .await;
    // A bridge that is not there: the card waits, and what is there stays.
    let nowhere = card("br-six", 3);
    place.gets(&id, &[&second, &moved, &nowhere]).await;
    until("it waits", async || place.vm(&id).await.waits_for_restart).await;
    assert_eq!((on("br-one"), on("br-two")), (1, 1));
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    // Its firmware gives nothing back; it has it until it is switched off.
    place.gets(&id, &[&second]).await;
    until("libvirt knows", async || {
        let kept = place.daemon.virsh(&["dumpxml", &id, "--inactive"]);
        kept.matches("<interface ").count() == 1 && place.vm(&id).await.task.is_none()
    })
    .await;
    assert!(place.vm(&id).await.waits_for_restart);
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    assert_eq!((on("br-one"), on("br-two")), (1, 0));
    let vm = place.vm(&id).await;
    assert!(!vm.waits_for_restart && vm.drift.is_empty(), "{vm:?}");
}
