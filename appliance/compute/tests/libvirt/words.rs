//! What somebody writes into a name or a description is only that.

use quantix_compute::{Accelerator, Element, VmId, check};

use quantix_libvirt::Daemon;

use crate::machines::{connect, description, spec};

#[tokio::test]
async fn no_word_becomes_a_device() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    for hostile in [
        "</title><devices><hostdev mode='subsystem'/></devices>",
        "a' b='c",
        "]]>&lt;&#10;&amp;",
        "--><!--",
        "$(reboot)`reboot`;reboot",
        "%s%n%x",
        "-drive file=\u{200f}shadow,if=virtio",
        ",accel=kvm,,format=raw",
    ] {
        let mut spec = spec(&hostile.replace('/', ":"));
        spec.description = format!("{hostile}\n{hostile}");
        check(&spec).unwrap();
        let id = VmId::new();
        libvirt.define(description(id, &spec, &[], Accelerator::Tcg)).await.unwrap();
        libvirt.start(id, true).await.unwrap();
        let kept = Element::from_xml(&libvirt.description(id).await.unwrap()).unwrap();
        assert_eq!(kept.child("title").unwrap().text, spec.name);
        assert_eq!(kept.child("description").unwrap().text, spec.description);
        assert_eq!(kept.child("devices").unwrap().all("hostdev").count(), 0);
        libvirt.force_stop(id).await.unwrap();
        libvirt.forget(id).await.unwrap();
    }
}
