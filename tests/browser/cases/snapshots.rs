//! Snapshots of virtual machines, and machines that are cloned, as people work with them.

use quantix_api::{NewDisk, NewSnapshot, NewVm, RevertVm, Secret, Task, TaskState, VmSpec, calls};
use quantix_browser::{Desk, Host, LOOKS, until};

async fn is_done(host: &Host, session: &Secret, task: Task) {
    until(&task.title, async || {
        let task = host.agent().call(&calls::task(task.id).as_session(session)).await.unwrap();
        assert!(!task.state.is_end() || task.state == TaskState::Done, "{task:?}");
        task.state.is_end()
    })
    .await;
}

/// Gives a machine snapshots, one of them with another way to go on from it; gives the id of that one.
pub(crate) async fn has_snapshots(host: &Host, session: &Secret, vm: &str) -> String {
    let make = async |name: &str, description: &str, memory| {
        let new = NewSnapshot { name: name.into(), description: description.into(), memory, freeze: false };
        let task = host.agent().call(&calls::make_snapshot(vm, &new).as_session(session)).await.unwrap();
        is_done(host, session, task).await;
    };
    make("Installed", "As it came from the image", false).await;
    make("Before the update of the shop to 4.2", "Basket, checkout and search work", true).await;
    make("After it", "", false).await;
    let all = host.agent().call(&calls::snapshots(vm).as_session(session)).await.unwrap().items;
    let second = all[1].id.clone();
    let back = calls::revert_vm(vm, &second, &RevertVm::default()).as_session(session);
    let task = host.agent().call(&back).await.unwrap();
    is_done(host, session, task).await;
    make("Another try", "", false).await;
    second
}

#[tokio::test]
async fn a_machine_is_held_and_taken_back_and_cloned() {
    let host = Host::with_machines("qx-01").await;
    crate::machines::has_pool(&host).await;
    let session = host.session().await;
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 64;
    let disk = NewDisk {
        pool: "local".into(),
        bytes: 1 << 30,
        image: None,
        linked: false,
        bus: None,
        cache: quantix_api::Cache::default(),
    };
    let new = NewVm { disks: vec![disk], start: true, ..NewVm::usual(spec) };
    let task = host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap();
    let vm = task.object.trim_start_matches("vm/").to_owned();
    is_done(&host, &session, task).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open(&format!("/vms/{vm}")).await;
    desk.shows("button", "Pause").await;
    desk.follow("Snapshots").await;
    desk.heading("Snapshots").await;
    desk.sees("No snapshots yet").await;
    desk.fill("Name", " ").await;
    desk.press("Make it").await;
    desk.sees("A name is one line").await;
    desk.fill("Name", "Before <the> update").await;
    desk.tick("Keep its memory, too: gone back to, it goes on from where it was").await;
    desk.press("Make it").await;
    desk.sees("Before <the> update").await;
    // It comes by itself.
    desk.sees("with memory").await;
    desk.sees("it goes on from here").await;
    desk.sees_no_longer("is being made").await;
    desk.follow("Before <the> update").await;
    desk.heading("Before <the> update").await;
    desk.fill("Name", "Before").await;
    desk.press("Save").await;
    desk.sees("Saved.").await;

    desk.follow("Go back…").await;
    desk.sees("What it is now is lost").await;
    desk.press("Go back").await;
    desk.heading("web-01").await;
    desk.sees("is being taken back").await;
    desk.sees_no_longer("a task is under way").await;
    desk.sees("Running").await;

    desk.follow("Clone").await;
    desk.heading("Clone web-01").await;
    desk.fill("Name", "web-01").await;
    desk.press("Clone it").await;
    desk.sees("There is a machine named web-01").await;
    desk.fill("Name", "web-02").await;
    desk.choose("Its disks are", "Linked: it shares what they have in common, and is there at once").await;
    desk.press("Clone it").await;
    desk.heading("web-02").await;
    desk.sees("web-02-disk-1").await;
    desk.sees_no_longer("is being made").await;

    // A template is not started, and others are cloned from it.
    desk.follow("Edit").await;
    desk.tick("It is a template: it is not started, and others are cloned from it").await;
    desk.press("Save").await;
    desk.sees("It is a template.").await;
    assert!(!desk.has("button", "Start").await);

    desk.open(&format!("/vms/{vm}/snapshots")).await;
    desk.sees("For web-02").await;
    desk.follow("Before").await;
    desk.heading("Before").await;
    desk.open(&format!("/vms/{vm}/snapshots")).await;
    desk.follow("Remove…").await;
    desk.tick("Those go with it that came after it, and whatever came after those").await;
    desk.press("Remove").await;
    desk.sees("No snapshots yet").await;
}

#[tokio::test]
async fn snapshots_are_made_by_themselves_as_somebody_said() {
    let host = Host::with_machines("qx-01").await;
    crate::machines::has_pool(&host).await;
    let session = host.session().await;
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 64;
    let task = host.agent().call(&calls::make_vm(&NewVm::usual(spec)).as_session(&session)).await.unwrap();
    let vm = task.object.trim_start_matches("vm/").to_owned();
    is_done(&host, &session, task).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open(&format!("/vms/{vm}/snapshots")).await;
    desk.fill("At, in UTC", "25:00").await;
    desk.press("Make the schedule").await;
    desk.sees("A time is one from 00:00 to 23:59.").await;
    // The browser tells of an answer that refuses.
    assert_eq!(desk.complaints().await.len(), 1);
    desk.fill("At, in UTC", "02:30").await;
    desk.fill("How many are kept", "2").await;
    desk.tick("Make the first at once").await;
    desk.press("Make the schedule").await;
    desk.sees("Snapshots are made daily at 02:30 UTC.").await;
    // The first comes by itself.
    desk.sees("by schedule").await;
    desk.sees("1 of 2").await;
    desk.sees_no_longer("is being made").await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.open(&format!("/vms/{vm}/snapshots")).await;
        desk.picture(&format!("vms--vm--snapshots-by-themselves.{}", look.name)).await;
        assert_eq!(desk.findings().await, Vec::<String>::new());
    }
    desk.press("Remove").await;
    desk.sees("No more snapshots are made like this.").await;
    desk.sees("by schedule").await;
    assert!(!desk.has("heading", "Made by themselves").await);
}
