//! The clock is years off, as with an empty battery, and the machine is reachable all the same.

use quantix_qemu::{BOOT_BOUND, Machine, pages};

#[test]
fn a_machine_whose_clock_is_in_the_past_is_reachable() {
    boots_with_the_clock_at("2001-01-01T00:00:00");
}

#[test]
fn a_machine_whose_clock_is_in_the_future_is_reachable() {
    boots_with_the_clock_at("2045-06-01T00:00:00");
}

#[track_caller]
fn boots_with_the_clock_at(time: &str) {
    let mut machine = Machine::builder().clock(time).start();
    pages::wait_first_page(&mut machine, BOOT_BOUND);
    machine.wait_ready(BOOT_BOUND);
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");
    assert_eq!(browser.get("/overview").status, 200);
}
