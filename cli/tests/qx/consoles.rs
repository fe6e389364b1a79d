//! Who gets into a machine, and its consoles.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::host::{Host, until};

#[test]
fn who_gets_into_a_machine_is_said_and_its_consoles_are_used() {
    let (host, _daemon) = Host::with_machines("qx-1");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB ada@desk\n";
    let key = host.file("id.pub", key.as_bytes());
    let make = ["vm", "make", "web-01", "--cpus", "1", "--memory", "64"];
    let refusal = host.refused(&[&make[..], &["--ssh-key", &key]].concat(), "");
    assert!(refusal.contains("Say as whom"), "{refusal}");
    host.done(&[&make[..], &["--ssh-key", &key, "--user", "ops"]].concat(), "");
    let told = host.done(&["vm", "cloud-init", "show", "web-01"], "");
    assert!(told.contains("ops") && told.contains("ada@desk") && told.contains("none"), "{told}");
    host.done(&["vm", "cloud-init", "set", "web-01", "--hostname", "shop", "--password"], "open sesame\n");
    let told = host.done(&["--output", "json", "vm", "cloud-init", "show", "web-01"], "");
    assert!(told.contains("\"keep_password\": true") && !told.contains("sesame"), "{told}");
    host.done(&["vm", "cloud-init", "remove", "web-01"], "");
    let refusal = host.refused(&["vm", "cloud-init", "show", "web-01"], "");
    assert!(refusal.contains("is told nothing"), "{refusal}");

    let refusal = host.refused(&["vm", "console", "web-01"], "");
    assert!(refusal.contains("web-01 is off."), "{refusal}");
    host.done(&["vm", "start", "web-01"], "");
    let viewer = host.dir.path().join("web-01.vv");
    let mut screen = host.begun(&["vm", "screen", "web-01", "--viewer", viewer.to_str().unwrap()]);
    let mut said = String::new();
    BufReader::new(screen.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let place = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap();
    let mut clients =
        [std::net::TcpStream::connect(place).unwrap(), std::net::TcpStream::connect(place).unwrap()];
    let port = place.rsplit(':').next().unwrap();
    let told = std::fs::read_to_string(&viewer).unwrap();
    assert!(told.starts_with("[virt-viewer]\ntype=vnc\nhost=127.0.0.1\n"), "{told}");
    assert!(told.contains(&format!("\nport={port}\n")) && told.contains("\ntitle=web-01\n"), "{told}");
    for client in &mut clients {
        let mut version = [0; 12];
        client.read_exact(&mut version).unwrap();
        assert_eq!(&version, b"RFB 003.008\n");
    }
    stock_clients_see_it(&host, port.parse().unwrap(), &viewer);
    let picture = host.dir.path().join("web-01.png");
    host.done(&["vm", "picture", "web-01", picture.to_str().unwrap()], "");
    // What it uses, and its host.
    until(|| host.done(&["vm", "metrics", "web-01", "--span", "minutes"], "").contains("memory of its host"));
    assert!(host.done(&["host", "metrics", "qx-1"], "").contains("processors in use"));
    let all = host.done(&["metrics"], "");
    assert!(
        all.contains("quantix_host_processors{host=\"qx-1\"}") && all.contains("name=\"web-01\""),
        "{all}"
    );
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    let mut serial = host.begun(&["vm", "console", "web-01"]);
    let mut out = serial.stdout.take().unwrap();
    host.done(&["vm", "reset", "web-01"], "");
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("BdsDxe") {
        let mut piece = [0; 4096];
        let count = out.read(&mut piece).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend(&piece[..count]);
    }
    let refusal = host.refused(&["vm", "console", "web-01"], "");
    assert!(refusal.contains("Somebody else has the serial line"), "{refusal}");
    host.done(&["vm", "force-stop", "web-01"], "");
    assert!(!serial.wait().unwrap().success());
    let mut why = String::new();
    serial.stderr.take().unwrap().read_to_string(&mut why).unwrap();
    assert!(why.contains("web-01 is off."), "{why}");
    screen.kill().unwrap();
    screen.wait().unwrap();
    // It is started by whoever sees what it says first.
    let mut serial = host.begun(&["vm", "start", "web-01", "--console"]);
    let mut out = BufReader::new(serial.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("BdsDxe") {
        assert_ne!(out.read_line(&mut said).unwrap(), 0, "{said}");
    }
    host.done(&["vm", "force-stop", "web-01"], "");
    assert!(!serial.wait().unwrap().success());
    host.done(&["vm", "remove", "web-01", "--confirm", "web-01"], "");
}

/// A display for programs with windows, in memory.
struct Display(Child, String);

impl Display {
    fn start() -> Self {
        let args = ["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "1024x768x24"];
        let mut server =
            Command::new("Xvfb").args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut number = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut number).unwrap();
        Self(server, format!(":{}", number.trim()))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A client of VNC takes a picture, and virt-viewer opens the file that is meant for it and shows the screen.
fn stock_clients_see_it(host: &Host, port: u16, viewer: &Path) {
    let taken = host.dir.path().join("taken.png");
    let place = format!("127.0.0.1:{}", port - 5900);
    let captured = Command::new("gvnccapture").arg("--quiet").arg(place).arg(&taken).output().unwrap();
    assert!(captured.status.success(), "{}", String::from_utf8_lossy(&captured.stderr));
    assert!(std::fs::read(&taken).unwrap().starts_with(b"\x89PNG"));

    let display = Display::start();
    let log = host.dir.path().join("viewer.log");
    let mut window = Command::new("remote-viewer")
        .arg("--debug")
        .arg(viewer)
        .env("DISPLAY", &display.1)
        .env("HOME", host.dir.path())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    loop {
        let told = std::fs::read_to_string(&log).unwrap();
        if told.contains("notebook show display") {
            break;
        }
        let is_there = window.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60);
        assert!(is_there, "{told}");
        std::thread::sleep(Duration::from_millis(20));
    }
    window.kill().unwrap();
    window.wait().unwrap();
}
