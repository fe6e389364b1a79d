//! libvirt's daemon for one test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use quantix_api::{Cache, Firmware, Guest, VmCpu, VmDisk, VmMemory, VmNic, VmSpec, VmState};
use quantix_compute::{Accelerator, Drawn, Drive, Event, Format, Happened, Libvirt, VmId, draw};
use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;

/// What a slow machine may take.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    pub(crate) dir: TempDir,
    child: Child,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("quantix-libvirt-").tempdir().unwrap();
        let child = run(dir.path());
        let daemon = Self { dir, child };
        daemon.wait();
        daemon
    }

    fn socket(&self) -> PathBuf {
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

    pub(crate) fn libvirt(&self) -> Libvirt {
        let address = format!("qemu+unix:///system?socket={}", self.socket().display());
        Libvirt::open(&address, &self.dir.path().join("etc/qemu")).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After it was killed.
    pub(crate) fn start_again(&mut self) {
        self.child = run(self.dir.path());
        self.wait();
    }

    /// What somebody types on the host.
    pub(crate) fn virsh(&self, args: &[&str]) -> String {
        let inside = ["--target", &self.child.id().to_string(), "--mount", "--root", "virsh", "--quiet"]
            .map(str::to_owned);
        let output = Command::new("nsenter").args(inside).args(args).output().unwrap();
        assert!(output.status.success(), "virsh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The process that a machine runs in.
    pub(crate) fn guest(&self, domain: &str) -> i32 {
        let file = self.dir.path().join("run/libvirt/qemu").join(format!("{domain}.pid"));
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    /// A volume with nothing in it.
    pub(crate) fn drive(&self, name: &str) -> Drive {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        Drive { path, format: Format::Raw }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Guests outlive their daemon.
        for entry in
            std::fs::read_dir(self.dir.path().join("run/libvirt/qemu")).into_iter().flatten().flatten()
        {
            let path = entry.path();
            let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            if let (Some("pid"), Some(pid)) = (path.extension().and_then(|extension| extension.to_str()), pid)
            {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

/// A small machine of everything usual.
pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.into(),
        description: String::new(),
        guest: Guest::Linux,
        cpu: VmCpu { cores: 1, ..VmCpu::default() },
        memory: VmMemory { mib: 64, balloon: true },
        firmware: Firmware::Uefi,
        tpm: false,
        disks: Vec::new(),
        nics: Vec::new(),
        watchdog: false,
    }
}

/// A machine that has everything.
pub(crate) fn laden(name: &str, guest: Guest) -> VmSpec {
    let disk = |volume: &str| VmDisk { volume: volume.into(), bus: None, cache: Cache::None, discard: true };
    VmSpec {
        guest,
        firmware: match guest {
            Guest::Linux => Firmware::Uefi,
            Guest::Windows => Firmware::SecureBoot,
            Guest::Legacy => Firmware::Bios,
        },
        tpm: guest == Guest::Windows,
        disks: vec![disk("one"), disk("two")],
        nics: vec![VmNic { bridge: "br-int".into(), mac: "52:54:00:00:00:01".into() }],
        watchdog: true,
        ..spec(name)
    }
}

pub(crate) fn description(id: VmId, spec: &VmSpec, drives: &[Drive], accelerator: Accelerator) -> String {
    draw(&Drawn { id, spec, drives, accelerator }).to_xml()
}

/// Defines a small machine.
pub(crate) async fn defined(libvirt: &Libvirt, name: &str) -> VmId {
    let id = VmId::new();
    libvirt.define(description(id, &spec(name), &[], Accelerator::Tcg)).await.unwrap();
    id
}

pub(crate) async fn state(libvirt: &Libvirt, id: VmId) -> VmState {
    libvirt.look(id).await.unwrap().state
}

/// Waits until a machine is in a state.
pub(crate) async fn becomes(libvirt: &Libvirt, id: VmId, wanted: VmState) {
    let mut events = libvirt.events();
    let wait = async {
        while state(libvirt, id).await != wanted {
            let _ = events.recv().await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, wait).await;
    assert!(waited.is_ok(), "it did not become {wanted:?}: {:?}", libvirt.look(id).await);
}

/// The next event of a kind about a machine.
pub(crate) async fn hears(events: &mut Receiver<Event>, id: VmId, happened: Happened) {
    let wait = async {
        loop {
            if events.recv().await.unwrap() == (Event { id, happened }) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap();
}
