//! Virtual machines, with the libvirt and the QEMU of the image.

use std::{
    fs,
    time::{Duration, Instant},
};

use quantix_api::{
    ChangeVm, CloudInit, ConsoleKind, EventQuery, Folder, Keep, NewAccess, NewFolder, NewSnapshot, NewVm,
    PowerVm, Problem, ProblemCode, RemoveHost, RemoveVm, Right, Scope, SettleDrift, TaskState, Vm, VmAction,
    VmMemory, VmPolicy, VmQuery, VmSpec, VmState, Who, calls,
};
use quantix_libvirt::{Daemon, count};

use crate::{
    consoles::{attend, reads, wanted},
    hosts::{Host, problem, until, until_it},
    place::{Place, disk, new, spec},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_and_lives_and_is_removed() {
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let vm = place.vm(&id).await;
    assert!(vm.is_wanted_on && vm.drift.is_empty() && !vm.waits_for_restart, "{vm:?}");
    assert_eq!((vm.host_name.as_str(), vm.made_by.as_str(), vm.trouble.as_str()), ("qx-1", "admin", ""));
    assert_eq!(place.daemon.virsh(&["domstate", &id]).trim(), "running");
    // Each state is there as soon as the task that leads to it has ended.
    for (action, state) in [
        (VmAction::Pause, VmState::Paused),
        (VmAction::Resume, VmState::Running),
        (VmAction::Reset, VmState::Running),
        (VmAction::Suspend, VmState::Suspended),
        (VmAction::Start, VmState::Running),
        (VmAction::ForceStop, VmState::Stopped),
    ] {
        place.does(&id, action).await;
        assert_eq!(place.vm(&id).await.state, state, "{action:?}");
    }
    let refused = |action| calls::power_vm(&id, &PowerVm::usual(action)).as_session(&place.session);
    let client = place.host.client();
    let off = problem(client.call(&refused(VmAction::Pause)).await);
    assert_eq!((off.code, off.detail.as_str()), (ProblemCode::Conflict, "It is off. Start it first."));
    assert_eq!(problem(client.call(&refused(VmAction::Delete)).await).code, ProblemCode::Invalid);
    let wrong = RemoveVm { name: "web-02".into(), keep_disks: false };
    let wrong = problem(client.call(&calls::remove_vm(&id, &wrong).as_session(&place.session)).await);
    assert_eq!(wrong.detail, "To remove this machine, type its name: web-01.");
    place.remove(&id).await;
    assert!(place.vms().await.is_empty() && place.domains().is_empty());
    let gone = problem(client.call(&calls::vm(&id).as_session(&place.session)).await);
    assert_eq!(gone.code, ProblemCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_does_with_virsh_is_seen_and_adopted_or_restored() {
    let place = Place::start().await;
    let id = place.make(&new("web-01")).await;
    let domain = place.domain(&id);
    let drifts = async |memory: &str, expected: &str| {
        let begin = Instant::now();
        place.daemon.virsh(&["setmaxmem", &domain, memory, "--config"]);
        place.daemon.virsh(&["setmem", &domain, memory, "--config"]);
        until("the difference is seen", async || place.vm(&id).await.drift == [expected]).await;
        eprintln!("seen after {:?}", begin.elapsed());
    };
    let settle = async |keep| {
        let call = calls::settle_drift(&id, &SettleDrift { keep }).as_session(&place.session);
        place.host.client().call(&call).await.unwrap();
        until("nothing differs", async || place.vm(&id).await.drift.is_empty()).await;
    };
    drifts("128M", "Memory is 128 MiB there, and 64 MiB here.").await;
    settle(Keep::Ours).await;
    assert!(place.daemon.virsh(&["dominfo", &id]).contains("Max memory:     65536 KiB"));
    assert_eq!(place.vm(&id).await.spec.memory.mib, 64);
    drifts("256M", "Memory is 256 MiB there, and 64 MiB here.").await;
    settle(Keep::Theirs).await;
    assert_eq!(place.vm(&id).await.spec.memory.mib, 256);
    // What is switched on and off there is seen as well.
    place.daemon.virsh(&["start", &domain]);
    place.becomes(&id, VmState::Running).await;
    assert_eq!(place.vm(&id).await.should_be(), Some("off"));
    place.daemon.virsh(&["destroy", &domain]);
    place.becomes(&id, VmState::Stopped).await;
    // A machine that is forgotten there is described again.
    place.daemon.virsh(&["undefine", &domain, "--nvram"]);
    until("it is described again", async || place.domains() == [id.clone()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_is_overwritten_by_nobody_who_was_not_asked() {
    let mut place = Place::start().await.with_pool().await;
    let id = place.make(&NewVm { disks: vec![disk(1 << 20)], ..new("web-01") }).await;
    let kept = place.daemon.virsh(&["dumpxml", "--inactive", "--security-info", &id]);
    let open = kept.replace("<listen type='socket'/>", "<listen type='address' address='127.0.0.1'/>");
    place.daemon.define(&open);
    let is_seen = |vm: &Vm| vm.drift == ["Its screen is set in another way there."];
    until_it("it is seen", async || place.vm(&id).await, is_seen).await;
    let vm = place.vm(&id).await;
    assert!(!vm.can_adopt);
    let refuses = |refused: Problem| {
        assert_eq!(refused.code, ProblemCode::Conflict);
        assert!(refused.detail.contains("was changed on its host"), "{}", refused.detail);
    };
    let client = place.host.client();
    let bigger = VmSpec { memory: VmMemory { mib: 96, ..VmMemory::default() }, ..vm.spec };
    let bigger = ChangeVm { spec: Some(bigger), ..ChangeVm::default() };
    let call = calls::change_vm(&id, &bigger).if_version(vm.version).as_session(&place.session);
    refuses(problem(client.call(&call).await));
    let hold = NewSnapshot { name: "now".into(), description: String::new(), memory: false, freeze: false };
    refuses(problem(client.call(&calls::make_snapshot(&id, &hold).as_session(&place.session)).await));
    refuses(problem(client.call(&calls::add_disk(&id, &disk(1 << 20)).as_session(&place.session)).await));
    let told = calls::set_cloud_init(&id, &CloudInit::default()).if_version(vm.version);
    refuses(problem(client.call(&told.as_session(&place.session)).await));
    // How it is looked after is told to no libvirt.
    let policy = VmPolicy { protected: true, ..vm.policy };
    let protects = ChangeVm { policy: Some(policy), ..ChangeVm::default() };
    let call = calls::change_vm(&id, &protects).if_version(vm.version).as_session(&place.session);
    client.call(&call).await.unwrap();
    // Whoever starts anew does not know with what it was described; it is started as it is there.
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    place.does(&id, VmAction::Start).await;
    assert!(place.daemon.virsh(&["dumpxml", "--inactive", &id]).contains("type='address'"));
    place.does(&id, VmAction::ForceStop).await;
    until_it("it is seen still", async || place.vm(&id).await, is_seen).await;
    let settle = calls::settle_drift(&id, &SettleDrift { keep: Keep::Ours }).as_session(&place.session);
    place.host.client().call(&settle).await.unwrap();
    until("nothing differs", async || place.vm(&id).await.drift.is_empty()).await;
    assert!(!place.daemon.virsh(&["dumpxml", "--inactive", &id]).contains("type='address'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_while_it_is_on_waits_for_its_next_start() {
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let vm = place.vm(&id).await;
    let bigger = ChangeVm {
        spec: Some(VmSpec { memory: VmMemory { mib: 96, ..VmMemory::default() }, ..vm.spec }),
        ..ChangeVm::default()
    };
    let call = calls::change_vm(&id, &bigger).if_version(vm.version).as_session(&place.session);
    place.host.client().call(&call).await.unwrap();
    until("it waits", async || place.vm(&id).await.waits_for_restart).await;
    assert_eq!(place.vm(&id).await.waiting, ["its memory"]);
    // Somebody else has changed it since.
    let late = problem(place.host.client().call(&call).await);
    assert_eq!(late.code, ProblemCode::ChangedMeanwhile);
    until("libvirt knows", async || place.daemon.virsh(&["dumpxml", &id, "--inactive"]).contains("98304"))
        .await;
    assert!(place.vm(&id).await.drift.is_empty());
    place.does(&id, VmAction::ForceStop).await;
    place.does(&id, VmAction::Start).await;
    assert!(!place.vm(&id).await.waits_for_restart);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_in_the_middle_leaves_a_machine_or_none() {
    let mut place = Place::start().await;
    for round in 0..6_u64 {
        let made = new(&format!("web-{round}"));
        let call = calls::make_vm(&made).as_session(&place.session);
        let task = place.host.client().call(&call).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * 25)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        let id = task.object.strip_prefix("vm/").unwrap();
        assert!(place.domains().contains(&id.to_owned()));
        let call = calls::remove_vm(id, &RemoveVm { name: made.spec.name, keep_disks: false })
            .as_session(&place.session);
        let task = place.host.client().call(&call).await.unwrap();
        tokio::time::sleep(Duration::from_millis(round * 15)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        assert_eq!(place.ended(task.id).await.state, TaskState::Done);
        assert!(place.domains().is_empty() && place.vms().await.is_empty(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_there_after_libvirt_was_killed_and_after_the_host_has_started_anew() {
    let mut place = Place::start().await;
    let policy = VmPolicy { start_at_boot: true, ..VmPolicy::default() };
    let id = place.make(&NewVm { policy, start: true, ..new("web-01") }).await;
    let other = place.make(&new("web-02")).await;
    place.becomes(&id, VmState::Running).await;
    place.daemon.kill();
    place.daemon.start_again();
    // It ran on, and what happens next is heard.
    assert_eq!(place.vm(&id).await.state, VmState::Running);
    place.does(&id, VmAction::Pause).await;
    place.does(&id, VmAction::Resume).await;
    // A host that starts has no guests, and its libvirt knows of nothing.
    place.host.kill();
    place.daemon.lose_everything();
    place.host.forget_start();
    place.host.start_again();
    place.host.ready().await;
    until("both are described again", async || place.domains().len() == 2).await;
    // What is kept of it is of before, until it has been looked at.
    until("it runs again", async || {
        place.daemon.virsh(&["domstate", &id]).trim() == "running"
            && place.vm(&id).await.state == VmState::Running
            && place.vm(&id).await.task.is_none()
    })
    .await;
    assert_eq!(place.vm(&other).await.state, VmState::Stopped);
    // It is not started once more when only the agent starts anew.
    place.does(&id, VmAction::ForceStop).await;
    place.host.kill();
    place.host.start_again();
    place.host.ready().await;
    place.does(&other, VmAction::Start).await;
    assert_eq!(place.vm(&id).await.state, VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_sleeps_on_while_its_host_starts_anew() {
    let mut place = Place::start().await.with_pool().await;
    let asleep = place.make(&NewVm { start: true, disks: vec![disk(64 << 20)], ..new("web-01") }).await;
    let given_up = place.make(&NewVm { start: true, ..new("web-02") }).await;
    for id in [&asleep, &given_up] {
        place.becomes(id, VmState::Running).await;
        place.does(id, VmAction::Suspend).await;
    }
    place.host.kill();
    place.daemon.lose_everything();
    place.host.forget_start();
    place.host.start_again();
    place.host.ready().await;
    until("both are described again", async || place.domains().len() == 2).await;
    for id in [&asleep, &given_up] {
        // libvirt says of it that it is off.
        assert_eq!(place.daemon.virsh(&["domstate", id]).trim(), "shut off");
        let is_seen = |vm: &Vm| vm.state == VmState::Suspended && vm.task.is_none() && vm.drift.is_empty();
        until_it("it is seen", async || place.vm(id).await, is_seen).await;
    }
    let snapshot =
        NewSnapshot { name: "now".into(), description: String::new(), memory: false, freeze: false };
    let call = calls::make_snapshot(&asleep, &snapshot).as_session(&place.session);
    assert!(problem(place.host.client().call(&call).await).detail.contains("suspended"));
    // Its memory is given up with it, and whoever starts it begins anew.
    place.does(&given_up, VmAction::ForceStop).await;
    assert_eq!(place.vm(&given_up).await.state, VmState::Stopped);
    assert_eq!(place.daemon.memories(), [format!("{}.save", place.domain(&asleep))]);
    // It goes on where it was, and not with a new one.
    place.does(&asleep, VmAction::Start).await;
    assert_eq!(place.vm(&asleep).await.state, VmState::Running);
    assert!(place.daemon.virsh(&["dominfo", &asleep]).contains("Managed save:   no"));
    assert!(place.daemon.memories().is_empty());
    // One that was off already when its memory was forgotten is off.
    place.does(&asleep, VmAction::ForceStop).await;
    assert_eq!(place.vm(&asleep).await.state, VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_just_before_the_power_failed_is_started_with_its_host() {
    let mut place = Place::start().await;
    place.host.kill();
    let before = place.host.database();
    place.host.start_again();
    place.host.ready().await;
    let policy = VmPolicy { start_at_boot: true, ..VmPolicy::default() };
    let id = place.make(&NewVm { policy, ..new("web-01") }).await;
    place.host.kill();
    place.daemon.lose_everything();
    // Of the database the disk has what was there a while ago; the log is whole.
    for (path, _) in place.host.database() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in &before {
        fs::write(path, bytes).unwrap();
    }
    place.host.forget_start();
    place.host.start_again();
    place.host.ready().await;
    place.becomes(&id, VmState::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_crashes_is_told_of_and_started_again_if_it_shall() {
    let place = Place::start().await;
    let id = place.make(&NewVm { start: true, ..new("web-01") }).await;
    let policy = VmPolicy { restart_after_crash: true, ..VmPolicy::default() };
    let other = place.make(&NewVm { policy, start: true, ..new("web-02") }).await;
    for vm in [&id, &other] {
        place.becomes(vm, VmState::Running).await;
        place.daemon.kill_guest(&place.domain(vm));
    }
    place.becomes(&id, VmState::Crashed).await;
    let query = EventQuery { open: Some(true), ..EventQuery::default() };
    let events = place.host.client().call(&calls::events(&query).as_session(&place.session)).await.unwrap();
    let sentence = "web-01 ended in a way it should not.";
    assert!(events.items.iter().any(|event| event.sentence == sentence), "{events:?}");
    place.becomes(&other, VmState::Running).await;
    assert_eq!(place.vm(&id).await.state, VmState::Crashed);
    place.does(&id, VmAction::Start).await;
    let events = place.host.client().call(&calls::events(&query).as_session(&place.session)).await.unwrap();
    assert!(!events.items.iter().any(|event| event.sentence == sentence), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_machines_at_once() {
    let (all, on) = (count(12, 50), count(4, 10));
    let place = Place::start().await;
    let client = place.host.client();
    let mut tasks = Vec::new();
    for number in 0..all {
        // Some are started: each is a process.
        let new = NewVm { start: number < on, ..new(&format!("web-{number:02}")) };
        let (client, session) = (client.clone(), place.session.clone());
        tasks
            .push(tokio::spawn(async move { client.call(&calls::make_vm(&new).as_session(&session)).await }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        let task = task.await.unwrap().unwrap();
        assert_eq!(place.ended(task.id).await.state, TaskState::Done);
        ids.push(task.object.strip_prefix("vm/").unwrap().to_owned());
    }
    until("some are on", async || {
        place.vms().await.iter().filter(|vm| vm.state == VmState::Running).count() == on
    })
    .await;
    assert_eq!(place.domains().len(), all);
    let mut tasks = Vec::new();
    for id in ids {
        let vm = place.vm(&id).await;
        if vm.state == VmState::Running {
            place.does(&id, VmAction::ForceStop).await;
        }
        let call = calls::remove_vm(&id, &RemoveVm { name: vm.spec.name, keep_disks: false })
            .as_session(&place.session);
        tasks.push(client.call(&call).await.unwrap());
    }
    for task in tasks {
        assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    }
    assert!(place.domains().is_empty() && place.vms().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_a_folder_counts_there_and_in_what_is_in_it() {
    let place = Place::start().await;
    let (client, session) = (place.host.client(), &place.session);
    let folder = async |name: &str, parent| -> Folder {
        let call = calls::make_folder(&NewFolder { name: name.into(), parent }).as_session(session);
        client.call(&call).await.unwrap()
    };
    let outer = folder("Production", None).await;
    let inner = folder("Web", Some(outer.id)).await;
    let other = folder("Lab", None).await;
    let in_inner = place.make(&NewVm { folder: Some(inner.id), ..new("web-01") }).await;
    let in_other = place.make(&NewVm { folder: Some(other.id), ..new("web-01") }).await;
    let ada = place.host.somebody(session, "ada", "viewer").await;
    let access = client.call(&calls::access(&Default::default()).as_session(session)).await.unwrap();
    let everywhere = access.items.iter().find(|access| access.who == Who::User("ada".into())).unwrap();
    client.call(&calls::take_access(everywhere.id).as_session(session)).await.unwrap();
    let give =
        NewAccess { who: Who::User("ada".into()), role: "operator".into(), scope: Scope::Folder(outer.id) };
    client.call(&calls::give_access(&give).as_session(session)).await.unwrap();
    let seen = client.call(&calls::vms(&VmQuery::default()).as_session(&ada)).await.unwrap().items;
    assert_eq!(seen.iter().map(|vm| vm.id.as_str()).collect::<Vec<_>>(), [in_inner.as_str()]);
    assert!(seen[0].rights.contains(&Right::OperateVms) && !seen[0].rights.contains(&Right::ManageVms));
    let folders = client.call(&calls::folders().as_session(&ada)).await.unwrap().items;
    assert_eq!(folders.iter().map(|folder| folder.name.as_str()).collect::<Vec<_>>(), ["Production", "Web"]);
    let start = |id: &str| calls::power_vm(id, &PowerVm::usual(VmAction::Start)).as_session(&ada);
    let task = client.call(&start(&in_inner)).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    // They see that task, and none that is about another folder.
    let tasks = client.call(&calls::tasks(&Default::default()).as_session(&ada)).await.unwrap().items;
    assert!(
        !tasks.is_empty() && tasks.iter().all(|task| task.object == format!("vm/{in_inner}")),
        "{tasks:?}"
    );
    assert_eq!(problem(client.call(&start(&in_other)).await).code, ProblemCode::Forbidden);
    assert_eq!(
        problem(client.call(&calls::vm(&in_other).as_session(&ada)).await).code,
        ProblemCode::Forbidden
    );
    let refused = problem(client.call(&calls::make_vm(&new("x")).as_session(&ada)).await);
    assert_eq!(refused.code, ProblemCode::Forbidden);
    // Where a machine goes decides who sees it.
    let moved = ChangeVm { folder: Some(Some(other.id)), ..ChangeVm::default() };
    let taken = problem(client.call(&calls::change_vm(&in_inner, &moved).as_session(session)).await);
    assert_eq!(taken.field.as_deref(), Some("spec.name"));
    let moved = ChangeVm { folder: Some(None), ..ChangeVm::default() };
    client.call(&calls::change_vm(&in_inner, &moved).as_session(session)).await.unwrap();
    let seen = client.call(&calls::vms(&VmQuery::default()).as_session(&ada)).await.unwrap().items;
    assert!(seen.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_on_another_host_is_asked_for_here_and_unknown_when_that_host_is_lost() {
    let place = Place::start().await;
    let mut daemon = Daemon::start();
    let mut other = Host::start_with_libvirt("qx-2", &daemon);
    let own = other.settled().await;
    let made = place.host.make_token(&place.session, 2).await;
    other.join(&own, &place.host, &made.token).await.unwrap();
    other.ready().await;
    until("the other is there", async || {
        place.host.cluster(&place.session).await.is_ok_and(|cluster| {
            cluster
                .hosts
                .iter()
                .any(|host| host.name == "qx-2" && host.last_contact_ms.is_some_and(|ms| ms < 500))
        })
    })
    .await;
    let cluster = place.host.cluster(&place.session).await.unwrap();
    let there = cluster.hosts.iter().find(|host| host.name == "qx-2").unwrap().id.clone();
    let id = place.make(&NewVm { host: Some(there), start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    assert!(place.domains().is_empty());
    assert_eq!(daemon.virsh(&["domstate", &id]).trim(), "running");
    // Its console is asked for at either host, and comes through either, whoever leads.
    let screen = calls::open_console(&id, &wanted(ConsoleKind::Screen, false)).as_session(&place.session);
    for asked in [&place.host, &other] {
        for through in [&place.host, &other] {
            let ticket = asked.client().call(&screen).await.unwrap();
            reads(&mut attend(through, &ticket).await, b"RFB 003.008\n").await;
        }
    }
    let picture = calls::vm_picture(&id).as_session(&place.session).request().unwrap();
    let picture = place.host.client().pass_on(picture).await.unwrap();
    assert!(picture.body().starts_with(b"\x89PNG"), "{picture:?}");
    place.does(&id, VmAction::Pause).await;
    other.kill();
    place.becomes(&id, VmState::Unknown).await;
    assert_eq!(problem(place.host.client().call(&screen).await).code, ProblemCode::HostUnreachable);
    let call = calls::power_vm(&id, &PowerVm::usual(VmAction::Resume)).as_session(&place.session);
    assert_eq!(problem(place.host.client().call(&call).await).code, ProblemCode::Conflict);
    other.start_again();
    place.becomes(&id, VmState::Paused).await;
    place.does(&id, VmAction::Resume).await;
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_machines_neither_joins_nor_leaves_and_what_is_lost_with_it_can_be_forgotten() {
    let (place, mut second) = tokio::join!(Place::start(), Place::start_as("qx-2"));
    let (client, session) = (place.host.client(), &place.session);
    let mine = second.make(&new("web-01")).await;
    let made = place.host.make_token(session, 5).await;
    let refused = problem(second.host.join(&second.session, &place.host, &made.token).await);
    assert_eq!(refused.code, ProblemCode::Forbidden);
    assert!(refused.detail.starts_with("This host has one virtual machine"), "{refused:?}");
    second.remove(&mine).await;
    second.host.join(&second.session, &place.host, &made.token).await.unwrap();
    second.host.ready().await;
    let mut there = String::new();
    until("both are members", async || {
        let Ok(cluster) = place.host.cluster(session).await else { return false };
        let other = cluster.hosts.iter().find(|host| host.id != cluster.this_host);
        let other = other.filter(|host| host.last_contact_ms.is_some_and(|ms| ms < 500));
        there = other.map(|host| host.id.clone()).unwrap_or_default();
        !there.is_empty()
    })
    .await;
    let id = place.make(&NewVm { host: Some(there.clone()), ..new("web-02") }).await;
    second.session = second.host.sign_in().await;
    let refused = problem(second.host.client().call(&calls::leave().as_session(&second.session)).await);
    assert_eq!(refused.code, ProblemCode::Forbidden, "{refused:?}");
    second.host.kill();
    place.becomes(&id, VmState::Unknown).await;
    let call =
        calls::remove_vm(&id, &RemoveVm { name: "web-02".into(), keep_disks: false }).as_session(session);
    assert_eq!(problem(client.call(&call).await).code, ProblemCode::Conflict);
    let gone = calls::remove_host(&there, &RemoveHost { name: "qx-2".into() }).as_session(session);
    let task = client.call(&gone).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    assert_eq!(place.vm(&id).await.state, VmState::Unknown);
    place.remove(&id).await;
    assert!(place.vms().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_libvirt_refuses_is_said_until_it_takes_it() {
    let mut place = Place::start().await;
    let id = place.make(&new("web-01")).await;
    // Somebody has given its name to another machine.
    let another = "0190c6f4-7a10-7cc0-b2aa-0123456789ab";
    let other = place.daemon.virsh(&["dumpxml", &id]).replace(&id, another);
    let domain = place.domain(&id);
    place.host.kill();
    place.daemon.virsh(&["undefine", &domain, "--nvram"]);
    place.daemon.define(&other);
    place.host.start_again();
    place.host.ready().await;
    let bigger = VmSpec { memory: VmMemory { mib: 96, ..VmMemory::default() }, ..spec("web-01") };
    let change = ChangeVm { spec: Some(bigger), ..ChangeVm::default() };
    place.host.client().call(&calls::change_vm(&id, &change).as_session(&place.session)).await.unwrap();
    until("what is wrong is said", async || {
        place.vm(&id).await.trouble.starts_with("It cannot be described to libvirt like this")
    })
    .await;
    place.daemon.virsh(&["undefine", another, "--nvram"]);
    until("nothing is wrong", async || place.vm(&id).await.trouble.is_empty()).await;
    assert!(place.daemon.virsh(&["dominfo", &id]).contains("98304 KiB"));
    place.does(&id, VmAction::Start).await;
}
