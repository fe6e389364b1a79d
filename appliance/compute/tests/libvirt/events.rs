//! What is heard of machines.

use quantix_compute::{Happened, domain_name};

use quantix_libvirt::Daemon;

use crate::machines::{connect, defined, hears};

#[tokio::test]
async fn what_somebody_does_with_virsh_is_heard() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let mut events = libvirt.events();
    let id = defined(&libvirt, "one").await;
    let name = domain_name(id, "one");
    hears(&mut events, id, Happened::Defined).await;
    daemon.virsh(&["start", "--paused", &name]);
    hears(&mut events, id, Happened::State).await;
    daemon.virsh(&["desc", "--title", "--config", &name, "--new-desc", "another"]);
    hears(&mut events, id, Happened::Defined).await;
    // libvirt has no event for these. What was heard before does not count.
    for edit in [["setvcpus", "--config", &name, "1"], ["setmem", "--config", &name, "60M"]] {
        events = libvirt.events();
        daemon.virsh(&edit);
        hears(&mut events, id, Happened::Defined).await;
    }
    daemon.virsh(&["destroy", &name]);
    hears(&mut events, id, Happened::State).await;
    daemon.virsh(&["undefine", "--nvram", &name]);
    hears(&mut events, id, Happened::Undefined).await;
}
