//! What is changed of a machine while it is on.

use std::process::Command;

use quantix_api::{
    Boot, ChangeVm, DiskLimit, Metric, MetricsQuery, NewSnapshot, NewVm, PowerVm, ProblemCode, Span,
    VmAction, VmCd, VmCpu, VmMemory, VmNic, VmSpec, VmState, calls,
};

use crate::{
    hosts::{problem, until},
    place::{Place, disk, new},
};

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn ip(args: &str) -> String {
    let done = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {args}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Goes on in a network of its own, with two bridges. What is started from here on is in it too: this is one thread.
pub(crate) fn with_bridges() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    for bridge in ["br-one", "br-two"] {
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("link set {bridge} up"));
    }
}

pub(crate) fn on(bridge: &str) -> usize {
    ip(&format!("-o link show master {bridge}")).lines().count()
}

impl Place {
    async fn gets(&self, id: &str, nics: &[&VmNic]) {
        let spec = VmSpec { nics: nics.iter().map(|nic| (*nic).clone()).collect(), ..self.vm(id).await.spec };
        self.becomes_like(id, spec).await;
    }

    pub(crate) async fn becomes_like(&self, id: &str, spec: VmSpec) {
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
    let card = |bridge: &str, last: u8| VmNic {
        bridge: bridge.into(),
        mac: format!("52:54:00:00:00:{last:02x}"),
        model: None,
    };
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

#[tokio::test(flavor = "multi_thread")]
async fn processors_and_memory_are_given_while_a_machine_is_on() {
    let place = Place::start().await;
    let (cpu, memory) =
        (VmCpu { cores: 1, most: 4, ..VmCpu::default() }, VmMemory { mib: 128, ..VmMemory::default() });
    let grows = VmSpec {
        cpu: cpu.clone(),
        memory: VmMemory { most_mib: 1024, ..memory.clone() },
        ..new("web-01").spec
    };
    let id = place.make(&NewVm { spec: grows.clone(), start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let bigger = VmSpec {
        cpu: VmCpu { cores: 3, ..cpu.clone() },
        memory: VmMemory { mib: 512, most_mib: 1024, ..memory.clone() },
        ..grows.clone()
    };
    place.becomes_like(&id, bigger.clone()).await;
    until("it has them at once", async || {
        let running = place.daemon.virsh(&["dumpxml", &id]);
        running.contains("current='3'")
            && running.contains("<memory model='dimm'")
            && !place.vm(&id).await.waits_for_restart
    })
    .await;
    // What it uses is of what it has now.
    let of_it = calls::vm_metrics(&id, &MetricsQuery { span: Span::Minutes }).as_session(&place.session);
    until("that is seen", async || {
        let used = place.host.client().call(&of_it).await.unwrap();
        used.last(Metric::Cpu).is_some_and(|share| share <= 1.0)
    })
    .await;
    let vm = place.vm(&id).await;
    assert!(vm.drift.is_empty() && vm.trouble.is_empty(), "{vm:?}");
    // Memory is not taken away, and what it was not started for waits.
    for spec in [
        VmSpec { memory: VmMemory { mib: 256, most_mib: 1024, ..memory.clone() }, ..bigger.clone() },
        VmSpec { memory: VmMemory { mib: 600, most_mib: 1024, ..memory.clone() }, ..bigger.clone() },
        VmSpec { cpu: VmCpu { most: 8, ..bigger.cpu.clone() }, ..bigger.clone() },
    ] {
        place.becomes_like(&id, spec).await;
        until("it waits", async || place.vm(&id).await.waits_for_restart).await;
    }
    place.becomes_like(&id, bigger.clone()).await;
    until("it does not wait any more", async || !place.vm(&id).await.waits_for_restart).await;
    // Started anew it has all of it from the beginning.
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    let running = place.daemon.virsh(&["dumpxml", &id]);
    assert!(running.contains("current='3'") && !running.contains("model='dimm'"), "{running}");
    let vm = place.vm(&id).await;
    assert!(!vm.waits_for_restart && vm.drift.is_empty(), "{vm:?}");
    // As far as it can grow it grows.
    let all = VmSpec {
        cpu: VmCpu { cores: 4, ..cpu },
        memory: VmMemory { mib: 1024, most_mib: 1024, ..memory },
        ..grows
    };
    place.becomes_like(&id, all).await;
    until("it has all", async || {
        let running = place.daemon.virsh(&["dumpxml", &id]);
        running.contains("<memory model='dimm'") && !place.vm(&id).await.waits_for_restart
    })
    .await;
    assert!(place.vm(&id).await.drift.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_limited_while_its_machine_is_on_and_what_it_starts_from_waits() {
    let place = Place::start().await.with_pool().await;
    let disk = disk(64 << 20);
    let id = place.make(&NewVm { disks: vec![disk.clone()], start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let limited = async |iops, mib_s| {
        let mut spec = place.vm(&id).await.spec;
        spec.disks[0].limit = DiskLimit { iops, mib_s };
        place.becomes_like(&id, spec).await;
        let (times, bytes) =
            (format!("total_iops_sec : {iops}"), format!("total_bytes_sec: {}", mib_s << 20));
        until("it counts now", async || {
            let told = place.daemon.virsh(&["blkdeviotune", &id, "vda"]);
            told.contains(&times) && told.contains(&bytes) && !place.vm(&id).await.waits_for_restart
        })
        .await;
    };
    limited(500, 20).await;
    limited(0, 30).await;
    // Another disk is plugged in all the same, and the limit counts after a start, too.
    let client = place.host.client();
    let task = client.call(&calls::add_disk(&id, &disk).as_session(&place.session)).await.unwrap();
    place.ended(task.id).await;
    until("it is plugged in", async || place.daemon.virsh(&["domblklist", &id]).contains("vdb")).await;
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    assert!(place.daemon.virsh(&["blkdeviotune", &id, "vda"]).contains("total_bytes_sec: 31457280"));
    limited(0, 0).await;
    // What the guest sees of its hardware counts from the next start.
    let spec = VmSpec { boot: Boot::Cd, cds: vec![VmCd::default()], ..place.vm(&id).await.spec };
    place.becomes_like(&id, spec).await;
    until("it waits", async || place.vm(&id).await.waits_for_restart).await;
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    let vm = place.vm(&id).await;
    assert!(!vm.waits_for_restart && vm.drift.is_empty(), "{vm:?}");
    let first = place.daemon.virsh(&["dumpxml", &id]);
    let first = first.split("<boot order='1'/>").next().unwrap();
    assert_eq!(first.rsplit("device='").next().unwrap().split('\'').next(), Some("cdrom"));
    place.does(&id, VmAction::ForceStop).await;
    place.all_is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_taken_away_is_the_machines_until_its_guest_has_given_it_back() {
    let mut place = Place::start().await.with_pool().await;
    let disk = disk(64 << 20);
    let id = place.make(&NewVm { disks: vec![disk.clone(), disk], start: true, ..new("web-01") }).await;
    let other = place.make(&new("web-02")).await;
    place.becomes(&id, VmState::Running).await;
    place.is_left_alone(&id).await;
    let spec = place.vm(&id).await.spec;
    let taken = spec.disks[1].clone();
    let whose = async |place: &Place| {
        let call = calls::volume(&taken.volume).as_session(&place.session);
        place.host.client().call(&call).await.unwrap().vm
    };
    place.becomes_like(&id, VmSpec { disks: vec![spec.disks[0].clone()], ..spec }).await;
    until("libvirt knows", async || {
        !place.daemon.virsh(&["domblklist", &id, "--inactive"]).contains("vdb")
            && place.vm(&id).await.waits_for_restart
    })
    .await;
    // Its firmware gives nothing back. Nobody else gets it, whoever ends meanwhile.
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    assert_eq!(whose(&place).await.as_deref(), Some(id.as_str()));
    assert!(place.daemon.virsh(&["domblklist", &id]).contains("vdb"));
    let client = place.host.client();
    let greedy = VmSpec { disks: vec![taken.clone()], ..place.vm(&other).await.spec };
    let greedy = ChangeVm { spec: Some(greedy), ..ChangeVm::default() };
    let takes = calls::change_vm(&other, &greedy).as_session(&place.session);
    assert!(problem(client.call(&takes).await).detail.contains("web-01"));
    let held = NewSnapshot { name: "now".into(), description: String::new(), memory: false, freeze: false };
    let refused = problem(client.call(&calls::make_snapshot(&id, &held).as_session(&place.session)).await);
    assert!(refused.detail.contains("not given back"), "{refused:?}");
    let suspends = calls::power_vm(&id, &PowerVm::usual(VmAction::Suspend)).as_session(&place.session);
    assert!(problem(client.call(&suspends).await).detail.contains("not given back"));
    place.does(&id, VmAction::ForceStop).await;
    assert_eq!(whose(&place).await, None);
    client.call(&takes).await.unwrap();
    place.does(&id, VmAction::Start).await;
    assert!(!place.vm(&id).await.waits_for_restart);
    // A machine whose memory is on disk goes on with what it has.
    place.does(&id, VmAction::Suspend).await;
    let none = VmSpec { disks: Vec::new(), ..place.vm(&id).await.spec };
    let none = ChangeVm { spec: Some(none), ..ChangeVm::default() };
    let refused = problem(client.call(&calls::change_vm(&id, &none).as_session(&place.session)).await);
    assert_eq!(refused.code, ProblemCode::Conflict);
    place.all_is_whole();
}
