//! What breaks.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quantix_api::VmState;
use quantix_compute::{Failed, Happened, domain_name};

use quantix_libvirt::Daemon;

use crate::machines::{becomes, connect, defined, hears, state};

#[tokio::test]
async fn a_guest_that_is_killed_has_crashed() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "one").await;
    libvirt.start(id, false).await.unwrap();
    kill(Pid::from_raw(daemon.guest(&domain_name(id, "one"))), Signal::SIGKILL).unwrap();
    becomes(&libvirt, id, VmState::Crashed).await;
    libvirt.start(id, false).await.unwrap();
    assert_eq!(state(&libvirt, id).await, VmState::Running);
}

#[tokio::test]
async fn a_daemon_that_is_killed_takes_no_machine_with_it_and_is_found_again() {
    let mut daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let (runs, stands) = (defined(&libvirt, "runs").await, defined(&libvirt, "stands").await);
    libvirt.start(runs, false).await.unwrap();
    let guest = daemon.guest(&domain_name(runs, "runs"));
    daemon.kill();
    assert!(matches!(libvirt.look(runs).await, Err(Failed::Away(_))));
    daemon.start_again();
    assert_eq!(state(&libvirt, runs).await, VmState::Running);
    assert_eq!(state(&libvirt, stands).await, VmState::Stopped);
    assert_eq!(daemon.guest(&domain_name(runs, "runs")), guest);
    // And it is heard again.
    let mut events = libvirt.events();
    libvirt.start(stands, true).await.unwrap();
    hears(&mut events, stands, Happened::State).await;
    // While the daemon finds its machines again it may say that this one does not run, and tell of no event.
    libvirt.force_stop(runs).await.unwrap();
    assert_eq!(state(&libvirt, runs).await, VmState::Stopped);
}

#[tokio::test]
async fn a_daemon_that_hangs_is_said_to_be_away() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "one").await;
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let looked = libvirt.look(id).await;
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(matches!(looked, Err(Failed::Hangs(_) | Failed::Away(_))), "{looked:?}");
    becomes(&libvirt, id, VmState::Stopped).await;
}
