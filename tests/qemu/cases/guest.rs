//! A Debian guest as people have it, on the host as it really is, in a browser from the upload of its image to its serial
//! line: it is made with a user, a key and an address, runs under KVM, lets in whom it should, takes a processor while it is
//! on, and goes back to a moment that was kept. `tools/guest` builds it.

use std::{fs, time::Duration};

use quantix_browser::{Browser, Key, NAME, Patience, Screen};
use quantix_qemu::{
    BOOT_BOUND, Machine, SavedMachine, fail, note, pages, poll_until, project, spawn::local, wait_until,
};

/// A guest on an emulated processor that is emulated itself takes its time.
const BOOT: Duration = Duration::from_secs(900);
const PASSWORD: &str = "a password of my own";

const SERIAL_IS_OPEN: &str = "return document.querySelector('[data-kind=serial]')?.dataset.state === 'open'";
/// The lines have no end where a word goes on in the next.
const SERIAL_SAYS: &str = r#"
    const rows = document.querySelector("[data-console]:not([hidden]) .xterm-rows");
    return rows?.textContent.includes(arguments[0]) ?? false;
"#;
const WRITES_THERE: &str =
    "document.querySelector('[data-console]:not([hidden]) .xterm-helper-textarea').focus(); return true";

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

/// Starts the host anew. Bridges that somebody made by hand are made by hand again.
fn starts_anew(machine: &mut Machine) {
    machine.reboot();
    pages::wait_first_page(machine, BOOT_BOUND);
    machine.wait_ready(BOOT_BOUND);
    wire(machine);
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

/// Uploads the guest's disk.
async fn upload(screen: &Screen) {
    let disk = project::out("guest").join("debian.qcow2").canonicalize();
    let disk = disk.unwrap_or_else(|_| fail("The guest is not there. Run: tools/guest"));
    let disk = disk.display().to_string();
    screen.open("/storage/images").await;
    screen.fill("Files", &disk).await;
    screen.fill("Name optional", "Debian 13").await;
    screen.press("Upload").await;
    screen.sees("Debian 13").await;
    screen.sees("Ready").await;
}

/// Goes through the steps of a new machine, and ends in its consoles.
async fn make(screen: &Screen, key: &str) {
    screen.open("/vms/new").await;
    screen.fill("Name", "web-01").await;
    screen.choose_what_begins_with("Its disk begins as a copy of optional", "Debian 13").await;
    goes_on(screen, "Size").await;
    screen.fill("Cores", "1").await;
    screen.fill("Memory in MiB", "512").await;
    screen.fill("Disk in GiB optional", "3").await;
    screen.tick("It shares what it has in common with the image, which cannot be removed then").await;
    screen.press("More about its hardware").await;
    screen.fill("Cores it can grow to optional", "2").await;
    // The emulation of AMD-V does not bear what UEFI does to its interrupts for long.
    screen.choose("Firmware", "BIOS, for old systems").await;
    goes_on(screen, "Network").await;
    screen.fill("Network cards optional", "br-lab\nbr-int").await;
    goes_on(screen, "First login").await;
    screen.fill("User optional", "ops").await;
    screen.fill("Password optional", "open sesame").await;
    screen.fill("The same again optional", "open sesame").await;
    screen.fill("SSH keys optional", key.trim()).await;
    screen.press("More that it is told").await;
    screen.fill("Addresses optional", "192.0.2.10/24").await;
    goes_on(screen, "Review").await;
    screen.choose("When it is made", "Start it, and open its console").await;
    screen.press("Make it").await;
    screen.is_at("/console").await;
}

async fn goes_on(screen: &Screen, step: &str) {
    screen.press("Next").await;
    screen.shows("heading", step).await;
}

/// Types a line on the serial line, and waits for what the guest says to it.
async fn types(screen: &Screen, typed: &str, expected: &str) {
    screen.ask(WRITES_THERE, &[]).await.unwrap();
    screen.types(typed).await;
    screen.key(Key::Enter).await;
    screen.until_true(&format!("the guest says {expected}"), SERIAL_SAYS, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debian_guest_is_made_lets_in_whom_it_should_and_goes_back() {
    let mut machine = SavedMachine::fresh().restore();
    drop(pages::sign_in_first_time(&mut machine, PASSWORD));
    wire(&mut machine);
    let key = machine.folder().join("id");
    let key = key.display().to_string();
    local("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "ada@desk", "-f", &key]).unwrap();
    let public = fs::read_to_string(format!("{key}.pub")).unwrap();
    let origin = format!("https://127.0.0.1:{}", machine.https_port());
    let screen = Screen::at(origin, Patience(BOOT), &Browser::start().await).await;
    screen.sign_in_as(NAME, PASSWORD).await;
    screen.is_at("/overview").await;
    upload(&screen).await;
    make(&screen, &public).await;
    let id = screen.address().await.rsplit('=').next().unwrap_or_default().to_owned();
    let page = format!("/vms/{id}");
    screen.press("web-01, serial").await;
    screen.until_true("the serial line is there", SERIAL_IS_OPEN, "").await;
    types(&screen, "", "login: ").await;
    screen.picture("guest.serial").await;
    screen.open(&page).await;
    for told in ["Running", "192.0.2.10/24", "Debian GNU/Linux 13", "ssh ops@192.0.2.10"] {
        screen.sees(told).await;
    }
    screen.picture("guest.page").await;
    let kind = machine.run(&format!("virsh dumpxml {id} | head -n 1")).ok();
    assert!(kind.contains("type='kvm'"), "{kind}");
    // Its second card is where networks find it.
    let known = machine.run("ovs-vsctl --columns=external_ids find interface external_ids:vm-id!=x").ok();
    note(&known);
    assert!(known.contains("iface-id") && known.contains(&id), "{known}");

    // Whoever has the key gets in over SSH, and whoever has the password over the serial line.
    wait_until("SSH to let in whoever has the key", BOOT, || over_ssh(&machine, &key, "true"));
    assert_eq!(over_ssh(&machine, &key, "hostname").as_deref(), Some("web-01"));
    screen.open(&format!("/console?vm={id}")).await;
    screen.press("web-01, serial").await;
    screen.until_true("the serial line is there", SERIAL_IS_OPEN, "").await;
    types(&screen, "", "login: ").await;
    types(&screen, "ops", "Password: ").await;
    types(&screen, "open sesame", "ops@web-01").await;
    screen.picture("guest.signed-in").await;

    // It takes a processor while it is on, and uses it.
    assert_eq!(over_ssh(&machine, &key, "nproc").as_deref(), Some("1"));
    screen.open(&format!("{page}/edit")).await;
    screen.fill("Cores", "2").await;
    screen.press("Save").await;
    screen.is_at(&page).await;
    let two = poll_until(BOOT, || over_ssh(&machine, &key, "nproc").filter(|count| count == "2"));
    assert!(
        two.is_some(),
        "{:?}",
        over_ssh(&machine, &key, "grep . /sys/devices/system/cpu/{present,online}")
    );

    // It goes on while it is held with its memory; what is done then is undone when it goes back, and nothing else.
    assert!(over_ssh(&machine, &key, "echo before > kept && sync").is_some());
    screen.open(&format!("{page}/snapshots")).await;
    screen.fill("Name", "before").await;
    screen.tick("Keep its memory, too: gone back to, it goes on from where it was").await;
    screen.press("Make it").await;
    screen.sees("with memory").await;
    screen.sees_no_longer("is being made").await;
    screen.sees_no_longer("see how far").await;
    assert!(over_ssh(&machine, &key, "echo after > lost && sync && uptime -s").is_some());
    screen.follow("Go back…").await;
    screen.press("Go back").await;
    let expected = "before\n1";
    let there = || over_ssh(&machine, &key, "cat kept; ls lost 2>&1 | grep -c 'No such file'");
    wait_until("it to be what it was", BOOT, || there().filter(|told| told == expected));
    screen.sees_no_longer("Something is being done with it").await;

    // It sleeps while its host starts anew, and goes on where it was.
    assert!(over_ssh(&machine, &key, "echo awake > /dev/shm/kept").is_some());
    screen.open(&page).await;
    screen.press("Suspend").await;
    screen.sees("Suspended").await;
    starts_anew(&mut machine);
    screen.open(&page).await;
    screen.sees("Suspended").await;
    screen.press("Start").await;
    screen.sees("Running").await;
    wait_until("it to go on", BOOT, || {
        over_ssh(&machine, &key, "cat /dev/shm/kept").filter(|told| told == "awake")
    });

    // One that is on is asked to end before its host does, and has written everything.
    starts_anew(&mut machine);
    screen.open(&page).await;
    screen.sees("Off").await;
    screen.press("Start").await;
    screen.sees("Running").await;
    let recovered = "sudo dmesg | grep -cE 'EXT4-fs.*(recovery|orphan)'; cat kept";
    let expected = "0\nbefore";
    wait_until("it to start without mending anything", BOOT, || {
        over_ssh(&machine, &key, recovered).filter(|told| told == expected)
    });
    let path = machine.run(&format!("virsh domblklist {id} | awk '/vda/ {{ print $2 }}'")).ok();
    screen.open(&page).await;
    screen.press("Force off").await;
    screen.sees("Off").await;
    machine.run(&format!("qemu-img check -q {path}")).ok();
}
