//! What stays and what does not.

use std::time::Duration;

use quantix_qemu::{
    BOOT_BOUND, Browser, Fingerprint, Machine, SavedMachine, disk, pages, project, wait_until,
};

#[test]
fn after_a_restart_from_its_page_state_is_kept_and_everything_else_is_the_images() {
    let saved = SavedMachine::fresh();
    let mut machine = saved.restore();
    let identity = "cat /etc/machine-id; cat /var/lib/quantix/tls/cert.pem | sha256sum; hostname";
    let before = machine.run(identity).ok();
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");

    machine.run("echo mine > /etc/quantix-test; echo 192.0.2.1 me >> /etc/hosts; rm /etc/nftables.conf").ok();
    machine.run("echo mine > /var/lib/quantix-test; mkdir /run/quantix-test; sync").ok();
    restart(&mut machine, &mut browser);

    assert_eq!(machine.run("cat /var/lib/quantix-test").ok(), "mine");
    assert!(!machine.run("ls /etc/quantix-test").succeeded(), "a file written to /etc is still there");
    assert!(
        !machine.run("grep 192.0.2.1 /etc/hosts").succeeded(),
        "a change of a file in /etc is still there"
    );
    assert!(machine.run("ls /etc/nftables.conf").succeeded(), "a file removed from /etc is still gone");
    assert_eq!(machine.run(identity).ok(), before, "the machine is not who it was");
    machine.wait_for_text("with the password you chose", Duration::from_secs(60));

    let mut browser = machine.https();
    assert_eq!(pages::sign_in(&mut browser, &saved.about.first_password).status, 401);
    pages::expect_redirect(&pages::sign_in(&mut browser, "a password of my own"), "/overview");
    assert_eq!(browser.get("/overview").status, 200);
    wait_until("the task to be done", Duration::from_secs(60), || {
        browser.get("/activity/tasks").text().contains("Done").then_some(())
    });
    assert_eq!(Fingerprint::find(&saved.about.fingerprint), browser.seen_certificate());

    // A boot that is not the first one is as clean as the first.
    machine.wait_ready(BOOT_BOUND);
    machine.wait_settled(Duration::from_secs(120));
    assert_eq!(machine.run("systemctl --failed --no-legend --plain").ok(), "");
}

/// As a person does it on the host's page, and waits until it has begun anew.
fn restart(machine: &mut Machine, browser: &mut Browser) {
    let boot = machine.run("cat /proc/sys/kernel/random/boot_id").ok();
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
    pages::wait_first_page(machine, BOOT_BOUND);
    assert_ne!(machine.run("cat /proc/sys/kernel/random/boot_id").ok(), boot);
}

#[test]
fn state_fills_a_disk_that_is_bigger_than_the_image() {
    let mut machine = SavedMachine::fresh().restore();
    let bytes = |text: String| text.trim().parse::<u64>().unwrap();
    let device = machine.run("readlink -f /dev/quantix/state").ok();
    let partition =
        bytes(machine.run(&format!("cat /sys/class/block/{}/size", device.trim_start_matches("/dev/"))).ok())
            * 512;
    let system = bytes(machine.run("findmnt -n -b -o SIZE /var").ok());
    let image: u64 = disk::partitions(&project::image()).iter().map(|partition| partition.length).sum();
    let slot_b = 1024 * 1024 * 1024;
    let whole = 24 * 1024 * 1024 * 1024;
    assert!(partition > whole - image - slot_b, "the state partition has only {partition} bytes");
    assert!(system > partition / 100 * 95, "the file system has {system} bytes of {partition}");
    let labels = machine.run("lsblk -n -o PARTLABEL /dev/vda").ok();
    assert_eq!(labels.lines().filter(|label| label.trim() == "_empty").count(), 2, "slot B:\n{labels}");
}
