//! One flipped bit pattern in the image, and it is not served.

use std::time::Duration;

use quantix_qemu::{
    Machine, OrFail, SavedMachine,
    disk::{self, ROOT, ROOT_VERITY},
    note, poll_until, project,
};

const VICTIM: &str = "/usr/bin/qemu-system-x86_64";

#[test]
fn a_flipped_byte_in_a_file_is_an_error_and_never_served() {
    let image = project::image();
    let offset = disk::byte_of_file(&image, VICTIM);
    note(format!("Flipping the byte at {offset}, in {VICTIM}."));
    let saved = SavedMachine::fresh();
    let mut sound = saved.restore();
    sound.run("sync; echo 3 > /proc/sys/vm/drop_caches").ok();
    sound.run_within(&format!("sha256sum {VICTIM}"), Duration::from_secs(120)).ok();
    drop(sound);

    let mut machine = saved.restore_changed(|files| disk::flip_byte(&files.disk, &image, offset));
    machine.run("sync; echo 3 > /proc/sys/vm/drop_caches").ok();
    let read = machine.run_within(&format!("cat {VICTIM} > /dev/null"), Duration::from_secs(120));
    assert!(!read.succeeded(), "a file with a flipped byte was read without an error");
    assert!(read.text.contains("Input/output error"), "{}", read.text);
    let block = (offset - disk::partition(&image, ROOT).offset) / 4096;
    let read = machine
        .run(&format!("dd if=/dev/mapper/root of=/dev/null bs=4096 count=1 skip={block} iflag=direct"));
    assert!(!read.succeeded(), "a block with a flipped byte was read without an error");
    let told = machine.run("journalctl -k --no-pager | grep 'is corrupted'").ok();
    assert!(told.contains("data block"), "{told}");
    // Everything else goes on.
    assert_eq!(machine.https().get("/healthz").status, 200);
}

#[test]
fn a_flipped_byte_at_the_start_of_the_root_stops_the_boot() {
    // The superblock of erofs is at 1024: nothing can be mounted without reading it.
    let offset = disk::partition(&project::image(), ROOT).offset + 1024;
    assert_boot_stops(offset);
}

#[test]
fn a_flipped_byte_in_the_hash_tree_stops_the_boot() {
    // The block after the verity superblock is the top of the tree, which every read depends on.
    let offset = disk::partition(&project::image(), ROOT_VERITY).offset + 4096 + 16;
    assert_boot_stops(offset);
}

/// Boots and watches until the machine has said why it does not go on, or has started over.
#[track_caller]
fn assert_boot_stops(offset: u64) {
    let mut machine = Machine::builder().unplugged();
    disk::flip_byte(&machine.files().disk, &project::image(), offset);
    machine.power_on();
    let stopped = poll_until(Duration::from_secs(180), || {
        let log = machine.console().log();
        let answers = machine.trusting_browser().request("GET", "/healthz", &[], b"").is_ok();
        assert!(!answers, "the machine came up with a changed root");
        [
            "corrupted",
            "Can't open blockdev",
            "emergency",
            "Kernel panic",
            "Failed to mount",
            "Dependency failed",
        ]
        .into_iter()
        .find(|sign| log.contains(sign))
    });
    let sign = stopped.or_fail(format!("no reason on the console:\n{}", machine.console().log()));
    note(format!("The boot stopped: {sign:?} on the console."));
    // And it stays so: nothing is served afterwards either.
    let came_up = poll_until(Duration::from_secs(20), || {
        machine.trusting_browser().request("GET", "/healthz", &[], b"").ok()
    });
    assert!(came_up.is_none(), "the machine came up after all");
}
