//! There is no room left in /var.

use std::time::Duration;

use quantix_qemu::{BOOT_BOUND, SavedMachine, note, pages, poll_until};

#[test]
fn with_a_full_state_partition_the_machine_comes_up_or_says_why_and_recovers() {
    let mut machine = SavedMachine::fresh().restore();
    pages::sign_in_first_time(&mut machine, "a password of my own");
    machine.run("df /var; avail=$(df --output=avail -k /var | tail -n 1); fallocate -l $((avail - 64))K /var/full || true").ok();
    machine.run("dd if=/dev/zero of=/var/full2 bs=4096 2>/dev/null; sync; df /var").ok();
    machine.reboot();

    let reached = poll_until(BOOT_BOUND, || {
        let answer = machine.trusting_browser().request("GET", "/sign-in", &[], b"").ok();
        let reachable = answer.is_some_and(|answer| answer.status == 200);
        let screen = machine.console_screen();
        (reachable || screen.contains("full") || screen.contains("space")).then_some((reachable, screen))
    });
    let (reachable, screen) = reached.unwrap();
    note(format!("With a full /var: reachable {reachable}.\n{screen}"));
    if reachable {
        let readiness = poll_until(Duration::from_secs(60), || {
            machine
                .readiness()
                .filter(|readiness| readiness.checks.iter().any(|check| check.name.contains("state")))
        });
        let readiness = readiness.unwrap();
        let check = readiness.checks.iter().find(|check| check.name.contains("state")).unwrap();
        assert_ne!(check.state, quantix_api::CheckState::Ok, "{}", check.detail);
    }

    machine.run("rm -f /var/full /var/full2; sync").ok();
    machine.wait_ready(Duration::from_secs(180));
    let mut browser = machine.https();
    pages::expect_redirect(&pages::sign_in(&mut browser, "a password of my own"), "/overview");
}
