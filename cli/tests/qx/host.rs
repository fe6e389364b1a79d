//! A host, and qx signed in to it.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PASSWORD: &str = "correct horse battery";

fn beside(program: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_qx")).with_file_name(program)
}

pub(super) fn start_agent(dir: &Path, name: &str) -> Child {
    Command::new(beside("quantixd"))
        .args(["--name", name, "--hosts", "127.0.0.1:0"])
        .arg("--state-dir")
        .arg(dir.join("state"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .spawn()
        .unwrap()
}

pub(super) struct Host {
    pub(super) agent: Child,
    pub(super) pages: Child,
    pub(super) address: String,
    pub(super) dir: tempfile::TempDir,
}

impl Host {
    pub(super) fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        assert!(beside("quantix-hostui").exists(), "build first: cargo build -p quantixd -p quantix-hostui");
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        std::fs::create_dir(&state).unwrap();
        let agent = start_agent(dir.path(), name);
        until(|| run.join("api.sock").exists());
        let mut pages = Command::new(beside("quantix-hostui"))
            .args(["--https", "127.0.0.1:0", "--agent"])
            .arg(run.join("api.sock"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(pages.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port: u16 = said.filter_map(|line| line.rsplit_once("on port ")?.1.parse().ok()).next().unwrap();
        Self { agent, pages, address: format!("127.0.0.1:{port}"), dir }
    }

    pub(super) fn qx(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// One that goes on by itself.
    pub(super) fn begun(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::null()).spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qx"));
        command.args(arguments).env("XDG_STATE_HOME", self.dir.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub(super) fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.qx(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub(super) fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.qx(arguments, input);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// A file with something in it, by its path.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// The first password, as the console's program asks for it.
    pub(super) fn first_password(&self) -> String {
        let socket = self.dir.path().join("run/api.sock");
        let mut found = None;
        until(|| {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            stream
                .write_all(b"GET /api/v1/console HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .unwrap();
            let answer = std::io::read_to_string(stream).unwrap();
            found = answer
                .split("\"first_password\":\"")
                .nth(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    /// Signed in with a password of one's own.
    pub(super) fn settled(name: &str) -> Self {
        let host = Self::start(name);
        let first = host.first_password();
        let refusal = host.refused(&["sign-in", &host.address], &format!("{first}\n"));
        let fingerprint = refusal.trim().rsplit(' ').next().unwrap().to_owned();
        let sign_in = ["sign-in", &host.address, "--fingerprint", &fingerprint, "--new-password"];
        host.done(&sign_in, &format!("{first}\n{PASSWORD}\n"));
        host
    }

    /// The same with a libvirt of its own, where the agent looks for it.
    pub(super) fn with_machines(name: &str) -> (Self, quantix_libvirt::Daemon) {
        let host = Self::settled(name);
        let daemon = quantix_libvirt::Daemon::start();
        std::os::unix::fs::symlink(daemon.dir.path().join("run/libvirt"), host.dir.path().join("libvirt"))
            .unwrap();
        until(|| host.done(&["pool", "list"], "").contains("ready"));
        (host, daemon)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.pages] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(super) fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}
