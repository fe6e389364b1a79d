//! Disks of a machine, as somebody sees them who gives it one and takes one away.

use quantix_api::{NewVm, VmSpec, calls};
use quantix_browser::{Desk, Host, LOOKS, until};

use crate::machines::{goes_on, has_pool};

#[tokio::test]
async fn a_disk_is_taken_from_a_machine_that_is_on_when_its_guest_gives_it_back() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let (client, session) = (host.agent(), host.session().await);
    let mut spec = VmSpec::named("web-01");
    spec.memory.mib = 64;
    let call = calls::make_vm(&NewVm { start: true, ..NewVm::usual(spec) }).as_session(&session);
    let id = client.call(&call).await.unwrap().object.strip_prefix("vm/").unwrap().to_owned();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open(&format!("/vms/{id}")).await;
    desk.sees("Running").await;
    desk.press("Add a disk").await;
    desk.fill("Size in GiB", "1").await;
    desk.press("Add it").await;
    desk.sees("web-01-disk-1").await;
    until("it is plugged in", async || {
        let vm = client.call(&calls::vm(&id).as_session(&session)).await.unwrap();
        !vm.waits_for_restart && vm.task.is_none()
    })
    .await;
    // Whoever thinks better of it has it.
    desk.follow("Take away…").await;
    desk.sees("Unmount the disk in its guest first").await;
    desk.follow("Cancel").await;
    desk.sees_no_longer("Unmount the disk in its guest first").await;
    desk.follow("Take away…").await;
    desk.press("Take it away").await;
    desk.sees("Its guest is asked for the disk.").await;
    // There is no guest; so nobody gives it back.
    desk.sees("its guest has not given it back yet").await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.picture(&format!("vms--vm.disk-taken.{}", look.name)).await;
        assert_eq!(desk.findings().await, Vec::<String>::new());
    }
    desk.press("Force off").await;
    desk.sees("It has none.").await;
    desk.sees_no_longer("its guest has not given it back yet").await;

    // It has the same disk again, and gives it up for good.
    desk.open(&format!("/vms/{id}")).await;
    desk.press("Add a disk").await;
    desk.choose_what_begins_with("Which optional", "web-01-disk-1").await;
    desk.picture("vms--vm.disk-there.light").await;
    desk.press("Add it").await;
    desk.sees("It has the disk now, or from its next start.").await;
    desk.follow("Take away…").await;
    desk.press("Take it away").await;
    desk.sees("The volume is taken from it. What is on it stays.").await;

    // A machine with another system begins with it, and has the hardware that suits that.
    desk.open("/vms/new").await;
    desk.fill("Name", "desktop").await;
    desk.choose_what_begins_with("Or it is a disk that is there already optional", "web-01-disk-1").await;
    assert!(!desk.has("field", "CD with drivers optional").await);
    desk.choose("What runs in it", "Windows").await;
    desk.shows("field", "CD with drivers optional").await;
    desk.picture("vms-new-windows.light").await;
    goes_on(&desk, "Size").await;
    desk.until_true(
        "there is enough memory",
        "return document.getElementsByName(arguments[0])[0].value === '4096'",
        "spec.memory.mib",
    )
    .await;
    for step in ["Network", "Review"] {
        goes_on(&desk, step).await;
    }
    desk.sees("UEFI with Secure Boot").await;
    desk.sees("web-01-disk-1, 1 GiB in local").await;
    desk.choose("When it is made", "Leave it off").await;
    desk.press("Make it").await;
    desk.sees("desktop is being made.").await;
    desk.sees("UEFI with Secure Boot, TPM 2.0").await;
    desk.sees("web-01-disk-1").await;
}
