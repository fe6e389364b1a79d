//! A machine that somebody made on the host, and that people import.

use quantix_api::{TaskState, VmState, calls};
use quantix_browser::{Desk, Host, until};

use crate::machines::has_pool;

/// Makes a machine there as somebody does who knows nothing of the product, and gives its id.
pub(crate) fn has_found(host: &Host) -> String {
    let daemon = host.machines.as_ref().unwrap();
    let disk = daemon.dir.path().join("mail server.raw");
    std::fs::write(&disk, vec![7; 3 << 20]).unwrap();
    daemon.define(&format!(
        "<domain type='qemu'><name>old-mail</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
         <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>
         <target dev='hda' bus='ide'/></disk>
         <interface type='user'><mac address='52:54:00:11:22:33'/></interface></devices></domain>",
        disk.display()
    ));
    daemon.virsh(&["domuuid", "old-mail"]).trim().to_owned()
}

#[tokio::test]
async fn a_machine_that_somebody_made_there_is_imported() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let session = host.session().await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.follow("VMs").await;
    desk.follow("Import").await;
    desk.sees("There is nothing to import").await;
    let daemon = host.machines.as_ref().unwrap();
    let id = has_found(&host);
    // It is on: that is said, with what to do.
    daemon.virsh(&["start", "old-mail"]);
    desk.open("/vms/found").await;
    desk.sees("Shut it down first").await;
    desk.follow("old-mail").await;
    desk.sees("It cannot be imported as it is.").await;
    daemon.virsh(&["destroy", "old-mail"]);
    desk.open("/vms/found").await;
    desk.follow("Import…").await;
    desk.heading("Import old-mail").await;
    desk.sees("3 MiB are copied").await;
    desk.sees("goes to br-int").await;
    desk.fill("Name", "a/b").await;
    desk.press("Import it").await;
    desk.sees("A name is one line").await;
    desk.fill("Name", "mail").await;
    desk.press("Import it").await;
    desk.sees("mail is being imported.").await;
    until("it is imported", async || {
        let vm = host.agent().call(&calls::vm(&id).as_session(&session)).await.unwrap();
        vm.task.is_none() && vm.state == VmState::Stopped
    })
    .await;
    let tasks = host.agent().call(&calls::tasks(&Default::default()).as_session(&session)).await.unwrap();
    assert!(tasks.items.iter().all(|task| task.state == TaskState::Done));
    desk.open(&format!("/vms/{id}")).await;
    desk.heading("mail").await;
    desk.sees("mail-disk-1").await;
    desk.open("/vms/found").await;
    desk.sees("There is nothing to import").await;
}
