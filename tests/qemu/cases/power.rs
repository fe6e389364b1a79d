//! The plug is pulled at any moment, and the machine comes up as it was.

use std::time::Duration;

use quantix_qemu::{BOOT_BOUND, Machine, SavedMachine, note, pages, poll_until};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::count;

#[test]
fn power_cuts_during_the_boot_leave_state_as_it_was() {
    let seed =
        std::env::var("QUANTIX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    note(format!("QUANTIX_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    pages::sign_in_first_time(&mut machine, "kept through every cut");
    machine.run("echo kept > /var/lib/quantix-test && sync /var/lib/quantix-test").ok();
    let identity = "cat /etc/machine-id; sha256sum < /var/lib/quantix/tls/cert.pem";
    let before = machine.run(identity).ok();
    machine.power_cut();

    let whole_boot = saved.about.seconds_to_first_page;
    for cut in 1..=count(1, 10) {
        let moment = Duration::from_secs_f64(random.random_range(1.0..whole_boot * 1.1));
        note(format!("Cut {cut}: {:.1} s after power-on.", moment.as_secs_f64()));
        machine.power_on();
        // Nothing is waited for but the moment.
        let _: Option<()> = poll_until(moment, || None);
        machine.power_cut();
    }

    machine.power_on();
    pages::wait_first_page(&mut machine, BOOT_BOUND);
    machine.wait_ready(BOOT_BOUND);
    assert_eq!(machine.run("cat /var/lib/quantix-test").ok(), "kept");
    assert_eq!(machine.run(identity).ok(), before);
    let mut browser = machine.https();
    pages::expect_redirect(&pages::sign_in(&mut browser, "kept through every cut"), "/overview");
    machine.wait_settled(Duration::from_secs(120));
    assert_eq!(machine.run("systemctl --failed --no-legend --plain").ok(), "");
    assert!(!machine.run("journalctl -k -b --no-pager | grep -E 'XFS.*(orrupt|shutdown)'").succeeded());
}

/// With an empty battery besides: each time its clock is where it was made.
#[test]
fn the_very_first_boot_survives_a_power_cut_with_the_clock_in_the_past() {
    let saved = SavedMachine::fresh();
    let mut random = StdRng::seed_from_u64(rand::random());
    let mut machine = Machine::builder().clock("2001-01-01T00:00:00").start();
    // Late enough that partitions, file system, certificate and account are being made.
    let part = random.random_range(0.4..0.95);
    note(format!("Cut at {part:.2} of the first boot."));
    let _: Option<()> =
        poll_until(Duration::from_secs_f64(saved.about.seconds_to_first_page * part), || None);
    machine.power_cut();
    machine.power_on();
    pages::wait_first_page(&mut machine, BOOT_BOUND);
    machine.wait_ready(BOOT_BOUND);
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");
    assert_eq!(browser.get("/overview").status, 200);
}

#[test]
fn the_power_button_shuts_the_machine_down() {
    let mut machine = SavedMachine::fresh().restore();
    machine.shutdown();
}
