//! A machine as a person has it: switched on, off, cut from power, unplugged, looked at.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Builder, Console, OrFail, Segment, artefacts,
    builder::free_port,
    disk::DiskFiles,
    fail, note,
    options::{Options, SPARE_SLOTS, Wires, command_line},
    poll_until,
    qmp::Qmp,
    shell::Shell,
    spawn::{Owned, tool},
    wait_until,
};

/// How long anything that takes a boot may take, on two emulated cores that others share.
pub const BOOT_BOUND: Duration = Duration::from_secs(300);

/// A machine under test. Dropped, it is gone; dropped by a case that failed, its artefacts stay.
#[derive(Debug)]
pub struct Machine {
    pub(crate) options: Options,
    pub(crate) files: DiskFiles,
    pub(crate) wires: Wires,
    pub(crate) segments: Vec<Segment>,
    pub(crate) folder: artefacts::Folder,
    pub(crate) running: Option<Running>,
}

/// What exists only while the machine is switched on.
#[derive(Debug)]
pub(crate) struct Running {
    qemu: Owned,
    qmp: Qmp,
    pub(crate) console: Console,
    pub(crate) shell: Shell,
    since: Instant,
}

impl Machine {
    /// Starts putting a machine together.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Switches the machine on.
    #[track_caller]
    pub fn power_on(&mut self) {
        let begun = Instant::now();
        let mut running = self.launch(None);
        running.qmp.tell("cont", json!({}));
        note(format!("The machine is on ({:.1} s to start QEMU).", begun.elapsed().as_secs_f64()));
        running.since = Instant::now();
        self.running = Some(running);
    }

    /// Goes on from a state in a file. Its console shows what the serial line had carried until then: a program draws
    /// only what changes.
    #[track_caller]
    pub(crate) fn resume(&mut self, state: &Path, serial: &[u8]) {
        let mut running = self.launch(Some(serial));
        running.qmp.tell("migrate-incoming", json!({ "uri": format!("file:{}", state.display()) }));
        running.qmp.migration_ended(Duration::from_secs(120)).or_fail("Going on from a saved state");
        running.qmp.tell("cont", json!({}));
        self.running = Some(running);
        if !self.on().shell.answers(Duration::from_secs(60)) {
            fail("The machine went on from its saved state, but its shell does not answer.");
        }
    }

    #[track_caller]
    fn launch(&mut self, incoming: Option<&[u8]>) -> Running {
        if self.running.is_some() {
            fail("The machine is on already.");
        }
        for name in ["qmp", "serial", "shell"] {
            let _ = fs::remove_file(self.wires.socket(name));
        }
        for (theirs, _) in self.wires.segments.iter().chain(&self.wires.uplink) {
            let _ = fs::remove_file(theirs);
        }
        let log = self.folder.path().join("qemu.log");
        let line =
            command_line(&self.options, &self.files, &self.wires, self.folder.path(), incoming.is_some());
        let mut qemu = Owned::start(&line, &log);
        let qmp = poll_until(Duration::from_secs(30), || match qemu.ended() {
            Some(status) => Some(Err(format!("QEMU ended ({status}): {}", last_lines(&log)))),
            None => Qmp::connect(&self.wires.socket("qmp")).ok().map(Ok),
        });
        let qmp = qmp.or_fail("QEMU did not answer within 30 s").or_fail("Starting the machine");
        let console = Console::connect(&self.wires.socket("serial"), incoming.unwrap_or_default());
        let shell = Shell::connect(&self.wires.socket("shell"));
        Running { qemu, qmp, console, shell, since: Instant::now() }
    }

    /// Sets the clock of a machine that is off, such as `2001-01-01T00:00:00`.
    pub fn set_clock(&mut self, time: &str) {
        self.options.clock = Some(time.to_owned());
    }

    /// Pulls the plug.
    pub fn power_cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.qemu.kill();
        }
    }

    /// Whether the machine is switched on.
    pub fn is_on(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.qemu.ended().is_none())
    }

    /// Time since the machine was switched on.
    #[track_caller]
    pub fn uptime(&mut self) -> Duration {
        self.on().since.elapsed()
    }

    /// Reboots as an administrator does and waits until the machine is back.
    #[track_caller]
    pub fn reboot(&mut self) {
        let before = self.boot_id();
        note("Rebooting.");
        // The shell may be gone before it can answer.
        let _ = self.on().shell.run("systemctl --no-block reboot", Duration::from_secs(10));
        wait_until("the machine to boot again", BOOT_BOUND, || {
            let now = self.try_run("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(5))?;
            (now.succeeded() && now.text != before).then_some(())
        });
    }

    /// Presses the power button, waits, and reports whether the machine switched itself off.
    pub fn press_power_button(&mut self, bound: Duration) -> bool {
        let Some(running) = &mut self.running else { return true };
        let pressed = running.qmp.ask("system_powerdown", json!({})).is_ok();
        let off = pressed && running.qemu.wait(bound).is_some();
        if off {
            self.running = None;
        }
        off
    }

    /// Shuts the machine down by its power button.
    #[track_caller]
    pub fn shutdown(&mut self) {
        if !self.press_power_button(Duration::from_secs(120)) {
            fail("The machine did not switch itself off within 120 s of its power button.");
        }
    }

    /// Plugs the network cable in or out.
    #[track_caller]
    pub fn set_link(&mut self, up: bool) {
        self.on().qmp.tell("set_link", json!({ "name": "nic0", "up": up }));
    }

    /// Adds a network card to the running machine and returns the port of 127.0.0.1 that leads to its 443 through it.
    /// Whoever comes that way has another address than those who use the first card.
    #[track_caller]
    pub fn add_card(&mut self) -> u16 {
        let (net, port) = (self.options.user_network(true), free_port());
        let [a, b, c, d, e, f] = self.options.interface_mac(0x10);
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let forward = json!([{ "str": format!("tcp:127.0.0.1:{port}-:443") }]);
        let network =
            json!({ "type": "user", "id": "added", "net": format!("10.0.{net}.0/24"), "hostfwd": forward });
        let card = json!({ "driver": "virtio-net-pci", "id": "added", "netdev": "added", "mac": mac, "bus": SPARE_SLOTS[0] });
        self.on().qmp.tell("netdev_add", network);
        self.on().qmp.tell("device_add", card);
        port
    }

    /// Adds a disk to the running machine, into one of two slots, of which the first is that of a second network card: an
    /// empty one, or the one that was there before under this number. It stays until the machine is off.
    #[track_caller]
    pub fn add_disk(&mut self, slot: usize, serial: &str, gib: u64) {
        let file = self.folder().join(format!("{serial}.qcow2"));
        if !file.exists() {
            tool(&[
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                &file.display().to_string(),
                &format!("{gib}G"),
            ]);
        }
        let node = json!({
            "driver": "qcow2", "node-name": serial, "discard": "unmap",
            "file": { "driver": "file", "filename": file, "discard": "unmap" },
        });
        let disk = json!({ "driver": "virtio-blk-pci", "id": serial, "drive": serial, "serial": serial, "bus": SPARE_SLOTS[slot] });
        self.on().qmp.tell("blockdev-add", node);
        self.on().qmp.tell("device_add", disk);
    }

    /// Takes out a disk that was added.
    #[track_caller]
    pub fn remove_disk(&mut self, serial: &str) {
        self.on().qmp.tell("device_del", json!({ "id": serial }));
        // The kernel is asked for it, and lets go when it likes.
        wait_until("the disk to be out", Duration::from_secs(60), || {
            self.on().qmp.ask("blockdev-del", json!({ "node-name": serial })).ok()
        });
    }

    /// Stops the machine in its tracks and writes its state to a file; then it is off. Gives what its serial line has carried.
    #[track_caller]
    pub(crate) fn freeze(&mut self, state: &Path) -> Vec<u8> {
        let running = self.on();
        running.qmp.tell("stop", json!({}));
        running.qmp.tell("migrate", json!({ "uri": format!("file:{}", state.display()) }));
        running.qmp.migration_ended(Duration::from_secs(180)).or_fail("Saving the machine's state");
        running.qmp.tell("quit", json!({}));
        if running.qemu.wait(Duration::from_secs(30)).is_none() {
            fail("QEMU did not end after saving the machine's state.");
        }
        let carried = running.console.carried();
        self.running = None;
        carried
    }

    /// Takes a picture of the machine's screen.
    pub fn screenshot(&mut self, file: &Path) -> Result<(), String> {
        let running = self.running.as_mut().ok_or("The machine is off.")?;
        let arguments = json!({ "filename": file.display().to_string(), "format": "png" });
        running.qmp.ask("screendump", arguments).map(drop)
    }

    /// The folder of this machine's artefacts.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The segments it is plugged into.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The hardware address of its first interface.
    pub fn mac(&self) -> [u8; 6] {
        self.options.interface_mac(0)
    }

    /// The files of its disk; change them only while it is off.
    pub fn files(&self) -> &DiskFiles {
        &self.files
    }

    #[track_caller]
    pub(crate) fn on(&mut self) -> &mut Running {
        self.running.as_mut().or_fail("The machine is off.")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.keep();
            artefacts::collect(self);
        }
        self.power_cut();
        self.folder.close(&self.files);
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
