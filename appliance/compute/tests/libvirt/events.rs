//! What is heard of machines.

use std::time::Duration;

use quantix_compute::{Event, Happened, VmId, domain_name};
use tokio::sync::broadcast::Receiver;

use crate::daemon::{Daemon, defined};

/// The next event of a kind about a machine.
async fn hears(events: &mut Receiver<Event>, id: VmId, happened: Happened) {
    let wait = async {
        loop {
            if events.recv().await.unwrap() == (Event { id, happened }) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn what_somebody_does_with_virsh_is_heard() {
    let daemon = Daemon::start();
    let libvirt = daemon.libvirt();
    let mut events = libvirt.events();
    let id = defined(&libvirt, "one").await;
    let name = domain_name(id, "one");
    hears(&mut events, id, Happened::Defined).await;
    daemon.virsh(&["start", "--paused", &name]);
    hears(&mut events, id, Happened::State).await;
    let file = daemon.dir.path().join("edited.xml");
    std::fs::write(&file, daemon.virsh(&["dumpxml", "--inactive", &name]).replace(">64<", ">65<")).unwrap();
    daemon.virsh(&["define", &file.display().to_string()]);
    hears(&mut events, id, Happened::Defined).await;
    daemon.virsh(&["destroy", &name]);
    hears(&mut events, id, Happened::State).await;
    daemon.virsh(&["undefine", "--nvram", &name]);
    hears(&mut events, id, Happened::Undefined).await;
}
