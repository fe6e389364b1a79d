//! It boots, and everything works.

use std::time::Duration;

use quantix_api::CheckState;
use quantix_qemu::{SavedMachine, note};

#[test]
fn the_image_boots_until_everything_works() {
    let saved = SavedMachine::fresh();
    note(format!("First page {:.1} s after power-on.", saved.about.seconds_to_first_page));
    let mut machine = saved.restore();
    let readiness = machine.wait_ready(Duration::from_secs(60));
    for check in &readiness.checks {
        assert_eq!(check.state, CheckState::Ok, "{}: {}", check.name, check.detail);
    }
    let seconds = saved.about.seconds_to_ready.unwrap();
    note(format!("Ready {seconds:.1} s after power-on: {} checks.", readiness.checks.len()));
}

#[test]
fn the_console_says_where_to_go_and_how_to_get_in() {
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    let screen = machine.wait_for_text("https://10.0.2.15", Duration::from_secs(30));
    assert!(screen.contains("admin"), "{screen}");
    assert!(screen.contains(&saved.about.first_password), "{screen}");
    // The fingerprint on the screen is the one of the certificate that is served: the browser compares them.
    assert_eq!(machine.https().get("/healthz").status, 200);
    machine.wait_for_text("Everything works.", Duration::from_secs(60));
}

#[test]
fn there_is_nobody_to_log_in_as() {
    let mut machine = SavedMachine::fresh().restore();
    let prompts =
        machine.run("systemctl list-units --no-legend --plain --all '*getty@*' | grep -w running; true").ok();
    assert_eq!(prompts, "");
    let open = machine.run("cut -d: -f1,2 /etc/shadow | grep -v ':[!*]'; true").ok();
    assert_eq!(open, "", "accounts with a password, or with none");
}
