//! The root is read-only and checked while it is read.

use quantix_qemu::SavedMachine;

#[test]
fn the_root_is_read_only_and_verified() {
    let mut machine = SavedMachine::fresh().restore();
    let mount = machine.run("findmnt -n -o FSTYPE,OPTIONS,SOURCE /").ok();
    assert!(mount.starts_with("erofs"), "{mount}");
    assert!(mount.contains("ro,"), "{mount}");
    assert!(mount.contains("/dev/mapper/root"), "{mount}");
    let verity = machine.run("cat /sys/block/$(basename $(readlink -f /dev/mapper/root))/dm/uuid").ok();
    assert!(verity.starts_with("CRYPT-VERITY-"), "{verity}");
    let hash = machine.run("cat /proc/cmdline").ok();
    assert!(hash.contains("roothash="), "{hash}");
}

#[test]
fn nothing_can_be_written_to_the_image() {
    let mut machine = SavedMachine::fresh().restore();
    for place in ["/file", "/usr/file", "/usr/bin/quantixd", "/usr/lib/systemd/system/file.service"] {
        let write = machine.run(&format!("echo changed >> {place}"));
        assert!(!write.succeeded(), "{place} could be written to");
    }
    assert!(!machine.run("mount -o remount,rw /").succeeded());
    assert!(!machine.run("dd if=/dev/zero of=/dev/mapper/root bs=4096 count=1 conv=fsync").succeeded());
}

#[test]
fn nothing_to_change_the_system_with_is_on_board() {
    let mut machine = SavedMachine::fresh().restore();
    for program in ["apt", "apt-get", "dpkg", "gcc", "cc", "python3", "perl", "ssh", "sshd", "curl", "wget"] {
        let found = machine.run(&format!("command -v {program}"));
        assert!(!found.succeeded(), "{program} is at {}", found.text);
    }
}
