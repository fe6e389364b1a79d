//! libvirt's daemon for tests: the one of the image, run from the builder root, with a place of its own for everything it
//! keeps. Each test has its own.

#![expect(clippy::disallowed_methods, reason = "programs are run, and nothing waits beside them")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

/// What a slow machine may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A count in the short form, or in full when `QUANTIX_SOAK` is set.
pub fn count<T>(short: T, full: T) -> T {
    if std::env::var_os("QUANTIX_SOAK").is_some() { full } else { short }
}

/// A daemon, until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    /// Everything it keeps.
    pub dir: TempDir,
    child: Child,
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("quantix-libvirt-").tempdir().unwrap();
        let child = run(dir.path());
        let daemon = Self { dir, child };
        daemon.wait();
        daemon
    }

    /// Where it is asked.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/libvirt/libvirt-sock")
    }

    fn wait(&self) {
        let until = Instant::now() + LIMIT;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            let log = std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default();
            assert!(Instant::now() < until, "libvirt did not come up: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it keeps what it was told of machines.
    pub fn kept(&self) -> PathBuf {
        self.dir.path().join("etc/qemu")
    }

    /// The memories of machines that sleep.
    pub fn memories(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.dir.path().join("lib/qemu/save"));
        let names = folder.into_iter().flatten().map(|file| file.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stands still, as one does that hangs.
    pub fn hangs(&self) {
        signal(self.child.id().cast_signed(), Signal::SIGSTOP);
    }

    /// After it hung.
    pub fn goes_on(&self) {
        signal(self.child.id().cast_signed(), Signal::SIGCONT);
    }

    /// After it was killed.
    pub fn start_again(&mut self) {
        self.child = run(self.dir.path());
        self.wait();
    }

    /// What somebody types on the host.
    pub fn virsh(&self, args: &[&str]) -> String {
        self.tries_virsh(args).unwrap_or_else(|why| panic!("virsh {args:?}: {why}"))
    }

    /// The same of what may be refused, and why it is.
    pub fn tries_virsh(&self, args: &[&str]) -> Result<String, String> {
        let inside = ["--target", &self.child.id().to_string(), "--mount", "--root", "virsh", "--quiet"]
            .map(str::to_owned);
        let output = Command::new("nsenter").args(inside).args(args).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8(output.stdout).unwrap())
    }

    /// Defines a machine as somebody on the host would.
    pub fn define(&self, description: &str) {
        std::fs::write(self.dir.path().join("run/defined.xml"), description).unwrap();
        self.virsh(&["define", "/run/defined.xml"]);
    }

    /// Ends the process that a machine runs in, as `kill -9` does.
    pub fn kill_guest(&self, domain: &str) {
        kill(self.guest(domain));
    }

    /// As a host loses it that is switched off and on: no guest runs, and nothing is known of any.
    pub fn lose_everything(&mut self) {
        self.kill();
        self.kill_guests();
        std::fs::remove_dir_all(self.dir.path().join("run")).unwrap();
        for file in std::fs::read_dir(self.kept()).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::remove_file(file.path()).unwrap();
            }
        }
        self.start_again();
    }

    /// The process that a machine runs in.
    pub fn guest(&self, domain: &str) -> i32 {
        let file = self.dir.path().join("run/libvirt/qemu").join(format!("{domain}.pid"));
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    fn kill_guests(&self) {
        for entry in
            std::fs::read_dir(self.dir.path().join("run/libvirt/qemu")).into_iter().flatten().flatten()
        {
            let path = entry.path();
            let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            if let (Some("pid"), Some(pid)) = (path.extension().and_then(|extension| extension.to_str()), pid)
            {
                kill(pid);
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Guests outlive their daemon.
        self.kill_guests();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(pid: i32) {
    signal(pid, Signal::SIGKILL);
}

fn signal(pid: i32, signal: Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

fn run(dir: &Path) -> Child {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/libvirtd");
    let log = std::fs::File::create(dir.join("daemon.log")).unwrap();
    Command::new(tool)
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
