//! Does this machine's KVM work? That it is there says little: on some machines it runs the first instructions of the
//! firmware and no further. So the firmware is started on it without a disk, and has to come to where it says that it
//! found none.

use std::{fs, time::Duration};

use crate::{OrFail, options::Accelerator, poll_until, spawn::Owned};

const BOUND: Duration = Duration::from_secs(10);

/// KVM if it has just been seen to work, else emulation.
pub fn find() -> Accelerator {
    let openable = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if openable && firmware_runs() { Accelerator::Kvm } else { Accelerator::Tcg }
}

fn firmware_runs() -> bool {
    let folder = tempfile::Builder::new().prefix("quantix-").tempdir_in("/tmp").or_fail("Making a folder");
    let (log, serial) = (folder.path().join("log"), folder.path().join("serial"));
    let serial_option = format!("file:{}", serial.display());
    let line = [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-machine",
        "q35",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "512",
        "-display",
        "none",
        "-no-reboot",
        "-drive",
        "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
        "-serial",
        &serial_option,
    ]
    .map(Into::into);
    let mut qemu = Owned::start(&line, &log);
    let came = poll_until(BOUND, || {
        let said = fs::read(&serial).unwrap_or_default();
        let stuck = fs::read_to_string(&log).unwrap_or_default().contains("KVM internal error");
        let there = String::from_utf8_lossy(&said).contains("BdsDxe");
        (there || stuck || qemu.ended().is_some()).then_some(there)
    });
    came.unwrap_or(false)
}
