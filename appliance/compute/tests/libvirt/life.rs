//! What machines live through.

use quantix_api::{Guest, VmAction, VmState};
use quantix_compute::{
    Accelerator, Element, Failed, Libvirt, VmId, allowed, domain_name, recognise, strayed,
};

use quantix_libvirt::{Daemon, count};

use crate::machines::{becomes, connect, defined, description, drive, laden, state};

#[tokio::test]
async fn the_whole_life_of_a_machine() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "one").await;
    assert_eq!(state(&libvirt, id).await, VmState::Stopped);
    libvirt.start(id, false).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Running);
    libvirt.pause(id).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Paused);
    libvirt.resume(id).await.unwrap();
    libvirt.reset(id).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Running);
    libvirt.suspend(id).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Suspended);
    libvirt.start(id, false).await.unwrap();
    becomes(&libvirt, id, VmState::Running).await;
    libvirt.force_stop(id).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Stopped);
    libvirt.start(id, true).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Paused);
    libvirt.force_stop(id).await.unwrap();
    libvirt.forget(id).await.unwrap();
    assert_eq!(libvirt.look(id).await, Err(Failed::Unknown));
    // Whoever was killed after it was forgotten forgets it again.
    libvirt.forget(id).await.unwrap();
    assert!(libvirt.all().await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(daemon.dir.path().join("lib/qemu/nvram")).unwrap().count(), 0);
}

async fn act(libvirt: &Libvirt, id: VmId, action: VmAction) -> Result<(), Failed> {
    match action {
        VmAction::Start => libvirt.start(id, false).await,
        VmAction::ShutDown => libvirt.shut_down(id).await,
        VmAction::Reboot => libvirt.reboot(id).await,
        VmAction::ForceStop => libvirt.force_stop(id).await,
        VmAction::Reset => libvirt.reset(id).await,
        VmAction::Pause => libvirt.pause(id).await,
        VmAction::Resume => libvirt.resume(id).await,
        VmAction::Suspend => libvirt.suspend(id).await,
        VmAction::Delete => libvirt.forget(id).await,
    }
}

/// Brings a new machine into a state.
async fn in_state(libvirt: &Libvirt, wanted: VmState) -> VmId {
    let id = defined(libvirt, "one").await;
    match wanted {
        VmState::Running => libvirt.start(id, false).await.unwrap(),
        VmState::Paused => libvirt.start(id, true).await.unwrap(),
        VmState::Suspended => {
            libvirt.start(id, false).await.unwrap();
            libvirt.suspend(id).await.unwrap();
        }
        _ => {}
    }
    assert_eq!(state(libvirt, id).await, wanted);
    id
}

/// What is allowed is what libvirt does.
#[tokio::test]
async fn what_the_table_allows_libvirt_does() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    for from in [VmState::Stopped, VmState::Running, VmState::Paused, VmState::Suspended] {
        for action in VmAction::ALL.into_iter().filter(|action| allowed(*action, from).is_ok()) {
            let id = in_state(&libvirt, from).await;
            assert_eq!(act(&libvirt, id, action).await, Ok(()), "{action:?} from {from:?}");
            if action != VmAction::Delete {
                libvirt.force_stop(id).await.unwrap();
                assert_eq!(state(&libvirt, id).await, VmState::Stopped, "{action:?} from {from:?}");
                libvirt.forget(id).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn many_machines_at_once() {
    let daemon = Daemon::start();
    let libvirt = std::sync::Arc::new(connect(&daemon));
    let lives = (0..count(10, 50)).map(|number| {
        let libvirt = std::sync::Arc::clone(&libvirt);
        tokio::spawn(async move {
            let id = defined(&libvirt, &format!("many-{number}")).await;
            // As many as run on two processors at once; the others are described and forgotten beside them.
            if number % 5 == 0 {
                libvirt.start(id, true).await.unwrap();
                libvirt.force_stop(id).await.unwrap();
            }
            libvirt.forget(id).await.unwrap();
        })
    });
    for life in lives.collect::<Vec<_>>() {
        life.await.unwrap();
    }
    assert!(libvirt.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn libvirt_takes_every_description_by_its_schema() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    for guest in Guest::ALL {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let (id, spec) = (VmId::new(), laden("laden", guest));
            let drives = [drive(&daemon, "one"), drive(&daemon, "two")];
            let told = description(id, &spec, &drives, accelerator);
            libvirt.define(told.clone()).await.unwrap();
            assert_eq!(libvirt.look(id).await.unwrap().name, domain_name(id, "laden"));
            // What libvirt makes of it is still the same machine to us.
            let kept = Element::from_xml(&libvirt.description(id).await.unwrap()).unwrap();
            assert_eq!(strayed(&Element::from_xml(&told).unwrap(), &kept), Vec::<String>::new(), "{kept:?}");
            let mut seen = recognise(&kept).unwrap();
            // What is imitated is no certain processor.
            if accelerator == Accelerator::Tcg {
                seen.spec.cpu.named.clone_from(&spec.cpu.named);
            }
            for (disk, wanted) in seen.spec.disks.iter_mut().zip(&spec.disks) {
                disk.volume.clone_from(&wanted.volume);
            }
            assert_eq!((seen.spec, seen.accelerator), (spec, accelerator));
            assert_eq!(seen.others, ["a disk that is only read, /pool/seeds/a.img"]);
            libvirt.forget(id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn virsh_shows_what_we_show() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "Rack 4: web").await;
    libvirt.start(id, true).await.unwrap();
    let shown = daemon.virsh(&["list", "--all", "--title"]);
    let name = domain_name(id, "Rack 4: web");
    for word in [name.as_str(), "paused", "Rack 4: web"] {
        assert!(shown.contains(word), "{shown}");
    }
    assert_eq!(daemon.virsh(&["domuuid", &name]).trim(), id.to_string());
}
