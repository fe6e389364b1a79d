//! Machines for tests.

use std::{path::Path, time::Duration};

use quantix_api::{
    Boot, Cache, DiskLimit, Firmware, Guest, NicModel, VmCd, VmCpu, VmDisk, VmMemory, VmNic, VmSpec, VmState,
};
use quantix_compute::{Accelerator, Drawn, Drive, Event, Format, Happened, Libvirt, VmId, draw};
use quantix_libvirt::Daemon;
use tokio::sync::broadcast::Receiver;

/// What a slow machine may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The way to a daemon.
pub(crate) fn connect(daemon: &Daemon) -> Libvirt {
    Libvirt::open(&daemon.socket(), &daemon.kept()).unwrap()
}

/// A volume with nothing in it.
pub(crate) fn drive(daemon: &Daemon, name: &str) -> Drive {
    let path = daemon.dir.path().join(name);
    std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
    Drive { path, format: Format::Raw }
}

/// A small machine of everything usual.
pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.into(),
        description: String::new(),
        guest: Guest::Linux,
        cpu: VmCpu { cores: 1, ..VmCpu::default() },
        memory: VmMemory { mib: 64, ..VmMemory::default() },
        firmware: Firmware::Uefi,
        boot: Boot::Disk,
        tpm: false,
        disks: Vec::new(),
        cds: Vec::new(),
        nics: Vec::new(),
        pci: Vec::new(),
        watchdog: false,
    }
}

/// A machine that has everything.
pub(crate) fn laden(name: &str, guest: Guest) -> VmSpec {
    let limit = DiskLimit { iops: 500, mib_s: 100 };
    let disk =
        |volume: &str| VmDisk { volume: volume.into(), bus: None, cache: Cache::None, discard: true, limit };
    VmSpec {
        guest,
        firmware: match guest {
            Guest::Linux => Firmware::Uefi,
            Guest::Windows => Firmware::SecureBoot,
            Guest::Legacy => Firmware::Bios,
        },
        boot: if guest == Guest::Linux { Boot::Network } else { Boot::Cd },
        cpu: VmCpu { named: "qemu64".into(), ..VmCpu::default() },
        tpm: guest == Guest::Windows,
        disks: vec![disk("one"), disk("two")],
        cds: vec![VmCd::default()],
        nics: vec![VmNic {
            bridge: "br-int".into(),
            mac: "52:54:00:00:00:01".into(),
            // What every such guest has anyway is not said.
            model: (guest != Guest::Legacy).then_some(NicModel::E1000e),
        }],
        watchdog: true,
        ..spec(name)
    }
}

pub(crate) fn description(id: VmId, spec: &VmSpec, drives: &[Drive], accelerator: Accelerator) -> String {
    // Nobody starts these: what they are told need not be there.
    let seed = (!drives.is_empty()).then(|| Path::new("/pool/seeds/a.img"));
    let cds = vec![None; spec.cds.len()];
    draw(&Drawn { id, called: None, spec, drives, cds: &cds, seed, accelerator }).to_xml()
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
