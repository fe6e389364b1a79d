//! What a machine is made of, and the QEMU command line that says so.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{disk::DiskFiles, shell};

/// Where the device is on the bus that nothing in the machine needs.
const SPARE_DEVICE: &str = "0x1e";
/// The slots of what is added later.
pub(crate) const SPARE_SLOTS: [&str; 2] = ["spare", "spare-2"];

/// How the processor is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulated; works everywhere, with real KVM inside.
    Tcg,
    /// By the machine's own KVM.
    Kvm,
}

/// A machine as it is bought.
#[derive(Clone, Debug)]
pub struct Options {
    /// Main memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// Size of the disk in GiB.
    pub disk_gib: u64,
    /// How the processor is run.
    pub accelerator: Accelerator,
    /// What the machine's clock says when it is switched on, such as `2001-01-01T00:00:00`; the right time if not set.
    pub clock: Option<String>,
    /// Whether the shell for tests is handed in.
    pub shell: bool,
    /// Tells machines on one segment apart: part of hardware address and serial number.
    pub number: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_mib: 3072,
            processors: 2,
            disk_gib: 24,
            accelerator: Accelerator::Tcg,
            clock: None,
            shell: true,
            number: 1,
        }
    }
}

impl Options {
    /// The hardware address of a network interface.
    pub fn interface_mac(&self, index: usize) -> [u8; 6] {
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        [0x52, 0x54, 0x00, 0x51, index, self.number]
    }

    /// The third byte of the user network's addresses; of the one behind an added card when `added` is set.
    pub(crate) fn user_network(&self, added: bool) -> u8 {
        self.number + if added { 101 } else { 1 }
    }

    /// The machine's identity in its firmware, from which the machine-id follows.
    pub fn uuid(&self) -> String {
        format!("51a7c0de-0000-4000-8000-0000000000{:02x}", self.number)
    }
}

/// The ends of a machine's wires on this side.
#[derive(Clone, Debug)]
pub struct Wires {
    /// A folder with a short path, for sockets.
    pub sockets: PathBuf,
    /// The port of 127.0.0.1 that leads to the machine's 443.
    pub https: u16,
    /// The port of 127.0.0.1 that leads to the machine's 80.
    pub http: u16,
    /// The legs of network segments, one an interface: the machine's end and ours.
    pub segments: Vec<(PathBuf, PathBuf)>,
    /// The way to the user network through the first segment.
    pub uplink: Option<(PathBuf, PathBuf)>,
}

impl Wires {
    /// The socket of a name.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }
}

/// The whole command, starting with the program.
///
/// The disk's cache mode is `writeback`: what the guest flushes is on our disk, what it does not flush is in our page
/// cache. A power cut is the end of QEMU by SIGKILL, after which the page cache is still there; requests that were in
/// flight are lost, requests that had been answered are not. That is a disk with a protected write cache.
pub fn command_line(
    options: &Options,
    files: &DiskFiles,
    wires: &Wires,
    folder: &Path,
    incoming: bool,
) -> Vec<OsString> {
    let mut line = Line(vec!["qemu-system-x86_64".into()]);
    let (accelerator, processor) = match options.accelerator {
        Accelerator::Tcg => ("tcg,thread=multi", "max"),
        Accelerator::Kvm => ("kvm", "host"),
    };
    line.option("-name", "quantix-under-test");
    line.option("-machine", "q35");
    line.option("-accel", accelerator);
    line.option("-cpu", processor);
    line.option("-smp", options.processors);
    line.option("-m", options.memory_mib);
    line.option("-uuid", options.uuid());
    line.option(
        "-smbios",
        format!("type=1,manufacturer=Quantix,product=Test machine,serial=QX{:02}", options.number),
    );
    line.flag("-nodefaults").flag("-no-user-config").flag("-S");
    line.option("-display", "none");
    line.option("-vga", "std");
    line.option("-rtc", format!("base={}", options.clock.as_deref().unwrap_or("utc")));
    // Devices can be kept apart from the host's memory, and there is one that a machine on it can have.
    line.option("-device", "intel-iommu,intremap=on");
    line.option("-device", format!("qemu-xhci,bus=pcie.0,addr={SPARE_DEVICE}"));
    line.option("-device", "virtio-rng-pci");

    line.option("-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd");
    line.option("-drive", format!("if=pflash,format=raw,file={}", files.variables.display()));
    line.option(
        "-drive",
        format!("if=none,id=disk,format=qcow2,cache=writeback,discard=unmap,file={}", files.disk.display()),
    );
    line.option("-device", "virtio-blk-pci,drive=disk,bootindex=0,serial=quantix-disk");

    let socket = |name: &str| wires.socket(name).display().to_string();
    line.option("-qmp", format!("unix:{},server=on,wait=off", socket("qmp")));
    line.option(
        "-chardev",
        format!(
            "socket,id=serial,path={},server=on,wait=off,logfile={},logappend=on",
            socket("serial"),
            folder.join("serial.log").display()
        ),
    );
    line.option("-serial", "chardev:serial");
    line.option("-chardev", format!("socket,id=shell,path={},server=on,wait=off", socket("shell")));
    line.option("-device", "virtio-serial-pci");
    line.option("-device", format!("virtserialport,chardev=shell,name={}", shell::PORT));
    if options.shell {
        for credential in shell::smbios_credentials() {
            line.option("-smbios", credential);
        }
    }
    network(&mut line, options, wires);
    // Free, so that something can be added while the machine runs.
    for (chassis, slot) in (1..).zip(SPARE_SLOTS) {
        line.option("-device", format!("pcie-root-port,id={slot},chassis={chassis}"));
    }
    if incoming {
        line.option("-incoming", "defer");
    }
    line.0
}

/// Without a segment the interface is on the user network (DHCP, forwarded ports). With segments each has an
/// interface, and the user network is reached through the first.
fn network(line: &mut Line, options: &Options, wires: &Wires) {
    let (net, https, http) = (options.user_network(false), wires.https, wires.http);
    let user = format!(
        "user,id=user,net=10.0.{net}.0/24,hostfwd=tcp:127.0.0.1:{https}-:443,hostfwd=tcp:127.0.0.1:{http}-:80"
    );
    line.option("-netdev", user);
    let dgram = |id: &str, (theirs, ours): &(PathBuf, PathBuf)| {
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            theirs.display(),
            ours.display()
        )
    };
    if let Some(uplink) = &wires.uplink {
        line.option("-netdev", dgram("uplink", uplink));
        line.option("-netdev", "hubport,id=hub-user,hubid=0,netdev=user");
        line.option("-netdev", "hubport,id=hub-uplink,hubid=0,netdev=uplink");
    }
    let mut nic = |index: usize, netdev: &str| {
        let [a, b, c, d, e, f] = options.interface_mac(index);
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        line.option("-device", format!("virtio-net-pci,id=nic{index},netdev={netdev},mac={mac}"));
    };
    if wires.segments.is_empty() {
        nic(0, "user");
    }
    for index in 0..wires.segments.len() {
        nic(index, &format!("segment{index}"));
    }
    for (index, leg) in wires.segments.iter().enumerate() {
        line.option("-netdev", dgram(&format!("segment{index}"), leg));
    }
}

struct Line(Vec<OsString>);

impl Line {
    fn option(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.to_string().into());
        self
    }

    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }
}
