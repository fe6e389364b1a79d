//! Putting a machine together: memory, disk, clock, segments.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Machine, OrFail, Segment, artefacts,
    disk::{self, DiskFiles},
    options::{Accelerator, Options, Wires},
    project,
};

/// Puts a machine together.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    options: Options,
    segments: Vec<Segment>,
    folder: Option<PathBuf>,
    ports: Option<(u16, u16)>,
}

impl Builder {
    /// A builder that starts from given options.
    pub fn with(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Keeps the machine's files in a folder that outlives it.
    #[must_use]
    pub fn kept_in(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// The ports of 127.0.0.1 that lead to the machine's 443 and 80.
    #[must_use]
    pub fn ports(mut self, https: u16, http: u16) -> Self {
        self.ports = Some((https, http));
        self
    }

    /// Without the shell for tests: the appliance as it is.
    #[must_use]
    pub fn without_shell(mut self) -> Self {
        self.options.shell = false;
        self
    }

    /// A machine that is off, with the disk that is in its folder already.
    #[track_caller]
    pub fn with_its_disk(self) -> Machine {
        self.assemble()
    }

    /// Main memory in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.options.memory_mib = mib;
        self
    }

    /// Size of the disk in GiB.
    #[must_use]
    pub fn disk_gib(mut self, gib: u64) -> Self {
        self.options.disk_gib = gib;
        self
    }

    /// Plugs the machine into a segment: the first interface into the first, each further one into its own.
    #[must_use]
    pub fn nic(mut self, segment: &Segment) -> Self {
        self.segments.push(segment.clone());
        self
    }

    /// Sets the machine's clock, such as `2001-01-01T00:00:00`.
    #[must_use]
    pub fn clock(mut self, time: &str) -> Self {
        self.options.clock = Some(time.to_owned());
        self
    }

    /// How the processor is run.
    #[must_use]
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.options.accelerator = accelerator;
        self
    }

    /// Tells machines on one segment apart.
    #[must_use]
    pub fn number(mut self, number: u8) -> Self {
        self.options.number = number;
        self
    }

    /// Switches on a machine with a fresh disk that the image was written to.
    #[track_caller]
    pub fn start(self) -> Machine {
        let mut machine = self.unplugged();
        machine.power_on();
        machine
    }

    /// A machine with a fresh disk that is not switched on yet.
    #[track_caller]
    pub fn unplugged(self) -> Machine {
        self.unplugged_image(&project::image())
    }

    /// The same with an image of one's own.
    #[track_caller]
    pub fn unplugged_image(self, image: &Path) -> Machine {
        let gib = self.options.disk_gib;
        let machine = self.assemble();
        disk::overlay(&machine.files.disk, image, "raw", Some(gib));
        let variables = project::root().join("out/builder/usr/share/OVMF/OVMF_VARS_4M.fd");
        fs::copy(&variables, &machine.files.variables).or_fail("Copying the firmware's variables");
        machine
    }

    /// A machine without anything on its disk files yet.
    #[track_caller]
    pub(crate) fn assemble(self) -> Machine {
        let folder = match &self.folder {
            Some(path) => artefacts::Folder::lasting(path),
            None => artefacts::Folder::new(),
        };
        let sockets = folder.sockets();
        let mut uplink = None;
        let mut segments = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let (leg, number) = segment.plug(&sockets, &format!("segment{index}"));
            uplink = uplink.or_else(|| Some(segment.uplink(&sockets, "uplink", number)));
            segments.push(leg);
        }
        let (https, http) = self.ports.unwrap_or_else(|| (free_port(), free_port()));
        let wires = Wires { sockets, https, http, segments, uplink };
        let files = DiskFiles::in_folder(folder.path());
        Machine { options: self.options, files, wires, segments: self.segments, folder, running: None }
    }
}

/// A port of 127.0.0.1 that was free just now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).or_fail("Finding a free port");
    listener.local_addr().or_fail("Finding a free port").port()
}
