//! The cable is out, and in again.

use std::time::Duration;

use quantix_qemu::{BOOT_BOUND, SavedMachine, pages, wait_until};

#[test]
fn without_a_cable_the_console_says_so_and_with_it_everything_is_back() {
    let mut machine = SavedMachine::fresh().restore();
    machine.wait_for_text("https://10.0.2.15", Duration::from_secs(60));
    machine.set_link(false);
    machine.wait_for_text("cable", Duration::from_secs(90));
    machine.set_link(true);
    machine.wait_for_text("https://10.0.2.15", Duration::from_secs(90));
    wait_until("the pages to answer again", Duration::from_secs(90), || {
        machine
            .trusting_browser()
            .request("GET", "/sign-in", &[], b"")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    let screen = machine.console_screen();
    assert!(!screen.contains("cable"), "{screen}");
}

/// Its clock is years ahead besides.
#[test]
fn a_machine_that_boots_without_a_cable_says_so_and_is_reachable_once_it_has_one() {
    let mut machine = SavedMachine::fresh().unplugged();
    machine.set_clock("2045-06-01T00:00:00");
    machine.power_on();
    machine.set_link(false);
    machine.wait_for_text("cable", BOOT_BOUND);
    let screen = machine.console_screen();
    assert!(screen.contains("no address"), "{screen}");
    machine.set_link(true);
    machine.wait_ready(Duration::from_secs(120));
    machine.wait_for_text("https://10.0.2.15", Duration::from_secs(60));
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");
    assert_eq!(browser.get("/overview").status, 200);
}
