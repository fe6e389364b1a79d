//! Screens and serial lines.

use std::time::Duration;

use quantix_api::VmState;
use quantix_compute::{Console, Failed};
use quantix_libvirt::Daemon;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::machines::{becomes, connect, defined};

const SOON: Duration = Duration::from_secs(30);

async fn reads(console: &mut Box<dyn Console>, wanted: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let read = async {
        while !all.windows(wanted.len()).any(|window| window == wanted) {
            let mut piece = [0; 4096];
            let count = console.read(&mut piece).await.unwrap();
            assert_ne!(count, 0, "it ended after {:?}", String::from_utf8_lossy(&all));
            all.extend(&piece[..count]);
        }
    };
    timeout(SOON, read).await.unwrap();
    all
}

/// Waits until it ends.
async fn ends(console: &mut Box<dyn Console>) {
    let mut piece = [0; 4096];
    let read = async { while console.read(&mut piece).await.is_ok_and(|count| count > 0) {} };
    timeout(SOON, read).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_is_a_vnc_server_for_several_at_once() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "one").await;
    assert!(matches!(libvirt.screen(id).await, Err(Failed::Refused(_))));
    libvirt.start(id, true).await.unwrap();
    let mut screens = [libvirt.screen(id).await.unwrap(), libvirt.screen(id).await.unwrap()];
    for screen in &mut screens {
        reads(screen, b"RFB 003.008\n").await;
        screen.write_all(b"RFB 003.008\n").await.unwrap();
        // One way to come in, and that is with no password.
        reads(screen, &[1, 1]).await;
        screen.write_all(&[1]).await.unwrap();
        reads(screen, &[0, 0, 0, 0]).await;
    }
    let picture = libvirt.picture(id).await.unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n") && picture.len() > 100);
    libvirt.force_stop(id).await.unwrap();
    assert!(matches!(libvirt.picture(id).await, Err(Failed::Refused(_))));
    for screen in &mut screens {
        ends(screen).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_line_is_somebody_s_until_it_is_let_go_or_taken() {
    let daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "one").await;
    libvirt.start(id, true).await.unwrap();
    let mut first = libvirt.serial_line(id, false).await.unwrap();
    assert!(matches!(libvirt.serial_line(id, false).await, Err(Failed::Busy)));
    libvirt.resume(id).await.unwrap();
    // The firmware speaks there.
    reads(&mut first, b"BdsDxe").await;
    first.write_all(b"\r").await.unwrap();
    // A line on which nothing happens for a while is still one.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let mut second = libvirt.serial_line(id, true).await.unwrap();
    ends(&mut first).await;
    libvirt.reset(id).await.unwrap();
    reads(&mut second, b"BdsDxe").await;
    drop(second);
    let open = async {
        while libvirt.serial_line(id, false).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, open).await.unwrap();
    let mut last = loop {
        if let Ok(line) = libvirt.serial_line(id, false).await {
            break line;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    libvirt.force_stop(id).await.unwrap();
    ends(&mut last).await;
    becomes(&libvirt, id, VmState::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_ends_with_the_daemon_and_typing_at_a_guest_that_does_not_read_holds_up_nothing_else() {
    let mut daemon = Daemon::start();
    let libvirt = connect(&daemon);
    let id = defined(&libvirt, "one").await;
    libvirt.start(id, true).await.unwrap();
    // It stands still, and reads nothing of all this.
    let mut line = libvirt.serial_line(id, false).await.unwrap();
    let typed = vec![b'x'; 1 << 20];
    let _ = timeout(Duration::from_secs(2), line.write_all(&typed)).await;
    for _ in 0..3 {
        timeout(Duration::from_secs(5), libvirt.look(id)).await.unwrap().unwrap();
    }
    drop(line);
    let mut line = libvirt.serial_line(id, true).await.unwrap();
    daemon.kill();
    ends(&mut line).await;
    daemon.start_again();
    let open = async {
        while libvirt.serial_line(id, true).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, open).await.unwrap();
}
