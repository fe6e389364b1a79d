//! A person restarts a host from its page.

use std::time::Duration;

use quantix_qemu::{BOOT_BOUND, SavedMachine, pages, wait_until};

#[test]
fn a_host_is_restarted_from_its_page_and_says_so() {
    let mut machine = SavedMachine::fresh().restore();
    let before = machine.run("cat /proc/sys/kernel/random/boot_id").ok();
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");
    let overview = browser.get("/overview").text();
    let id = overview.split("href=\"/hosts/").nth(1).unwrap().chars().take(16).collect::<String>();
    let restart = format!("/cluster/hosts/{id}/power/restart");
    let asks = browser.get(&restart).text();
    let name = asks.split("<b class=\"mono\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(browser.post(&restart, &[("name", "another")]).status, 422);
    let answer = browser.post(&restart, &[("name", name.as_str())]);
    assert_eq!(answer.status, 303, "{}", answer.text());
    wait_until("the machine to begin anew", Duration::from_secs(120), || {
        let answered = machine.trusting_browser().request("GET", "/healthz", &[], b"");
        answered.is_err().then_some(())
    });
    pages::wait_first_page(&mut machine, BOOT_BOUND);
    assert_ne!(machine.run("cat /proc/sys/kernel/random/boot_id").ok(), before);
    let mut browser = machine.https();
    pages::sign_in(&mut browser, "a password of my own");
    wait_until("the task to be done", Duration::from_secs(60), || {
        browser.get("/activity/tasks").text().contains("Done").then_some(())
    });
}
