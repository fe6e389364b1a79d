//! A Debian guest as people have it, on the host as it really is: its image is uploaded, it is made with a user, a key and an
//! address, runs under KVM, lets in whom it should, and goes back to a moment that was kept. `tools/guest` builds it.

use std::{fs, time::Duration};

use quantix_qemu::{
    Browser, Machine, SavedMachine, fail, note, pages, poll_until, project, spawn::local, wait_until,
};

/// A guest on an emulated processor that is emulated itself takes its time.
const BOOT: Duration = Duration::from_secs(420);
const SOON: Duration = Duration::from_secs(120);
const PIECE: usize = 4 << 20;

/// What stands behind a word in an answer.
fn after<'a>(text: &'a str, word: &str, end: char) -> Option<&'a str> {
    text.split(word).nth(1)?.split(end).next()
}

/// Uploads the guest's disk, as the page does.
fn upload(browser: &mut Browser) -> String {
    let disk = project::out("guest").join("debian.qcow2");
    let content = fs::read(&disk).unwrap_or_else(|_| fail("The guest is not there. Run: tools/guest"));
    let length = content.len().to_string();
    let form = [
        ("name", "Debian 13"),
        ("file", "debian-13-generic-amd64.qcow2"),
        ("pool", "local"),
        ("length", &length),
        ("sha256", ""),
    ];
    let begun = browser.post("/storage/images", &form).text();
    let id = after(&begun, "\"id\":\"", '"').unwrap_or_else(|| fail(format!("No image was begun: {begun}")));
    let id = id.to_owned();
    for (number, piece) in content.chunks(PIECE).enumerate() {
        let path = format!("/storage/images/{id}/content?at={}", number * PIECE);
        let brought = browser.request("PUT", &path, &[], piece).unwrap();
        assert_eq!(brought.status, 200, "{}", brought.text());
    }
    browser.post(&format!("/storage/images/{id}/finish"), &[]);
    wait_until("the image to be ready", SOON, || {
        let text = browser.get("/storage/images").text();
        (text.contains("Debian 13") && text.contains("Ready")).then_some(())
    });
    id
}

/// A bridge on which the guest is heard, and the way from port 80 to its SSH server.
fn wire(machine: &mut Machine) {
    for command in [
        "ip link add br-lab type bridge && ip address add 192.0.2.1/24 dev br-lab && ip link set br-lab up",
        "sysctl -q net.ipv4.ip_forward=1",
        "nft add rule inet host forward accept",
        "nft add table ip lab",
        "nft 'add chain ip lab to { type nat hook prerouting priority -100; }'",
        "nft 'add rule ip lab to tcp dport 80 dnat to 192.0.2.10:22'",
        "nft 'add chain ip lab from { type nat hook postrouting priority 100; }'",
        "nft 'add rule ip lab from ip daddr 192.0.2.10 masquerade'",
    ] {
        machine.run(command).ok();
    }
}

/// Types something on the serial line, and gives what the guest says to it.
fn types(browser: &mut Browser, page: &str, typed: &str, expected: &str, bound: Duration) -> String {
    let ticket =
        browser.post(&format!("{page}/console"), &[("kind", "serial"), ("take_over", "true")]).text();
    let address = after(&ticket, "\"address\":\"", '"')
        .unwrap_or_else(|| fail(format!("There is no way to the serial line: {ticket}")));
    browser.talk(address, typed, expected, bound).unwrap_or_else(|why| fail(why))
}

/// What a command in the guest says over SSH.
fn over_ssh(machine: &Machine, key: &str, command: &str) -> Option<String> {
    let port = machine.http_port().to_string();
    let options = [
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-o",
        "ConnectTimeout=60",
        "-i",
        key,
        "-p",
        &port,
        "ops@127.0.0.1",
        command,
    ];
    local("ssh", &options)
}

#[test]
fn a_debian_guest_is_made_lets_in_whom_it_should_and_goes_back() {
    let mut machine = SavedMachine::fresh().restore();
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");
    let image = upload(&mut browser);
    wire(&mut machine);
    let key = machine.folder().join("id");
    let key = key.display().to_string();
    local("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "ada@desk", "-f", &key]).unwrap();
    let public = fs::read_to_string(format!("{key}.pub")).unwrap();
    let form = [
        ("spec.name", "web-01"),
        ("spec.guest", "linux"),
        ("spec.cpu.sockets", "1"),
        ("spec.cpu.cores", "2"),
        ("spec.memory.mib", "512"),
        // The emulation of AMD-V does not bear what UEFI does to its interrupts for long.
        ("spec.firmware", "bios"),
        ("spec.nics", "br-lab\nbr-int"),
        ("policy.boot_order", "0"),
        ("policy.boot_delay", "0"),
        ("folder", "0"),
        ("start", "true"),
        ("disks.0.bytes", "3"),
        ("disks.0.pool", "local"),
        ("disks.0.image", &image),
        ("disks.0.linked", "true"),
        ("cloud_init.user", "ops"),
        ("cloud_init.password", "open sesame"),
        ("cloud_init.ssh_keys", public.trim()),
        ("cloud_init.network", "192.0.2.10/24"),
    ];
    let made = browser.post("/vms/new", &form);
    let page = made.location().to_owned();
    let id = page.trim_start_matches("/vms/").to_owned();
    wait_until("it to be on", SOON, || browser.get(&page).text().contains("Running").then_some(()));
    types(&mut browser, &page, "\r", "login: ", BOOT);
    let told = poll_until(SOON, || {
        let text = browser.get(&page).text();
        (text.contains("192.0.2.10/24") && text.contains("web-01</dd>")).then_some(())
    });
    if told.is_none() {
        note(after(&browser.get(&page).text(), "<h2>Guest</h2>", '\0').unwrap_or_default());
        fail("The guest did not tell its address.");
    }
    let shown = browser.get(&page).text();
    assert!(shown.contains("Debian GNU/Linux 13") && shown.contains("ssh ops@192.0.2.10"));
    let kind = machine.run(&format!("virsh dumpxml {id} | head -n 1")).ok();
    assert!(kind.contains("type='kvm'"), "{kind}");
    // Its second card is where networks find it.
    let known = machine.run("ovs-vsctl --columns=external_ids find interface external_ids:vm-id!=x").ok();
    note(&known);
    assert!(known.contains("iface-id") && known.contains(&id), "{known}");

    // Whoever has the key gets in over SSH, and whoever has the password over the serial line.
    wait_until("SSH to let in whoever has the key", SOON, || over_ssh(&machine, &key, "true"));
    assert_eq!(over_ssh(&machine, &key, "hostname").as_deref(), Some("web-01"));
    types(&mut browser, &page, "ops\r", "Password: ", SOON);
    types(&mut browser, &page, "open sesame\r", "ops@web-01", SOON);

    // It goes on while it is held with its memory; what is done then is undone when it goes back, and nothing else.
    assert!(over_ssh(&machine, &key, "echo before > kept && sync").is_some());
    browser.post(&format!("{page}/snapshots"), &[("name", "before"), ("memory", "true")]);
    wait_until("the snapshot to be made", BOOT, || {
        let text = browser.get(&format!("{page}/snapshots")).text();
        (text.contains("with memory") && !text.contains("is being made") && !text.contains("see how far"))
            .then_some(())
    });
    assert!(over_ssh(&machine, &key, "echo after > lost && sync && uptime -s").is_some());
    let snapshots = browser.get(&format!("{page}/snapshots")).text();
    let revert = after(&snapshots, "/revert\"", '"').map(|_| {
        let before = snapshots.split("/revert\"").next().unwrap_or_default();
        before.rsplit('"').next().unwrap_or_default().to_owned()
    });
    let revert = revert.unwrap_or_else(|| fail("There is no way back on the page of its snapshots."));
    browser.post(&format!("{revert}/revert"), &[]);
    wait_until("it to be what it was", BOOT, || {
        let text = browser.get(&page).text();
        (text.contains("Running") && !text.contains("a task is under way")).then_some(())
    });
    wait_until("SSH to let in again", BOOT, || over_ssh(&machine, &key, "true"));
    let there = over_ssh(&machine, &key, "cat kept; ls lost 2>&1 | grep -c 'No such file'");
    assert_eq!(there.as_deref(), Some("before\n1"));
    let path = machine.run(&format!("virsh domblklist {id} | awk '/vda/ {{ print $2 }}'")).ok();
    browser.post(&format!("{page}/power/force-stop"), &[]);
    wait_until("it to be off", SOON, || browser.get(&page).text().contains("Off").then_some(()));
    machine.run(&format!("qemu-img check -q {path}")).ok();
}
