//! Virtual machines on the host as it really is: made in the browser, run by KVM, and there again after a power cut.

use std::time::{Duration, Instant};

use quantix_qemu::{BOOT_BOUND, Browser, SavedMachine, fail, note, pages, wait_until};

/// An emulated processor is in no hurry: after a start libvirt finds out what QEMU can do by running it several times.
const SOON: Duration = Duration::from_secs(300);

/// A device of the host that nobody needs.
const DEVICE: &str = "0000:00:1e.0";

/// What comes first of a console.
fn console(browser: &mut Browser, page: &str, kind: &str) -> String {
    let ticket = browser.post(&format!("{page}/console"), &[("kind", kind)]).text();
    let address = ticket.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let address = address.unwrap_or_else(|| fail(format!("There is no way to the {kind}: {ticket}")));
    let asked = format!(
        "GET {address} HTTP/1.1\r\nHost: quantix\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // It ends when nothing has come for a while.
    let answer = browser.send_raw(asked.as_bytes()).unwrap();
    assert_eq!(answer.status, 101, "{}", answer.text());
    answer.text()
}

#[test]
fn a_machine_that_was_made_runs_under_kvm_and_starts_with_its_host() {
    let mut machine = SavedMachine::fresh().restore();
    let mut browser = pages::sign_in_first_time(&mut machine, "a password of my own");
    let form = [
        ("spec.name", "web-01"),
        ("spec.guest", "linux"),
        ("spec.cpu.sockets", "1"),
        ("spec.cpu.cores", "1"),
        ("spec.memory.mib", "128"),
        // UEFI restores a register that QEMU's emulation of AMD-V takes without its lock, and ends with that now and then.
        ("spec.firmware", "bios"),
        ("policy.boot_order", "0"),
        ("policy.boot_delay", "0"),
        ("policy.start_at_boot", "true"),
        ("folder", "0"),
        ("start", "true"),
        ("disks.0.bytes", "1"),
        ("disks.0.pool", "local"),
    ];
    let made = browser.post("/vms/new", &form);
    // The disk is where guests find it, and the user who runs them gets there.
    let page = made.location().to_owned();
    let id = page.trim_start_matches("/vms/").to_owned();
    wait_until("the machine to run", SOON, || browser.get(&page).text().contains("Running").then_some(()));
    // An emulated processor runs guests slowly and not for ever: it stands still while anything else is asked.
    browser.post(&format!("{page}/power/pause"), &[]);
    wait_until("the machine to stand still", SOON, || {
        browser.get(&page).text().contains("Stands still").then_some(())
    });
    assert_eq!(machine.run(&format!("virsh domstate {id}")).ok().trim(), "paused");
    let file = machine.run(&format!("virsh domblklist {id} --details | awk '/vda/ {{ print $4 }}'")).ok();
    assert!(file.starts_with("/var/lib/quantix-pools/local/volumes/"), "{file}");
    assert_eq!(machine.run(&format!("stat -c %U {file}")).ok().trim(), "libvirt-qemu");
    let kind = machine.run(&format!("virsh dumpxml {id} | head -n 1")).ok();
    note(&kind);
    assert!(kind.contains("type='kvm'"), "{kind}");
    assert!(!browser.get(&page).text().contains("is imitated"));

    // Another has UEFI: libvirt finds it on the image.
    let uefi = form.map(|(name, value)| match name {
        "spec.name" => (name, "uefi-01"),
        "spec.firmware" => (name, "uefi"),
        "start" | "policy.start_at_boot" => ("", ""),
        _ => (name, value),
    });
    let made = browser.post("/vms/new", &uefi);
    let other = made.location().trim_start_matches("/vms/").to_owned();
    wait_until("libvirt to know the other machine", SOON, || {
        machine.run(&format!("virsh dumpxml {other} || true")).ok().contains("/OVMF/").then_some(())
    });
    assert!(machine.run(&format!("virsh domstate {other}")).ok().contains("shut off"));

    // From its next start on it has a device of the host for itself.
    let mut given: Vec<_> =
        form.into_iter().filter(|(name, _)| !name.starts_with("disks") && *name != "start").collect();
    let version = browser.get(&format!("{page}/edit")).text();
    let version = version.split("name=\"version\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    given.extend([
        ("version", version.unwrap_or_else(|| fail("The form has no version."))),
        ("spec.pci", DEVICE),
    ]);
    assert_eq!(browser.post(&format!("{page}/edit"), &given).location(), page);
    wait_until("libvirt to know the device", SOON, || {
        machine.run(&format!("virsh dumpxml {id} --inactive")).ok().contains("<hostdev").then_some(())
    });

    // Its screen and its serial line, over the same port as the pages.
    let screen = console(&mut browser, &page, "screen");
    assert!(screen.contains("RFB 003.008"), "{screen}");
    // That stands still, too, and nothing comes; but no reason why nothing would.
    let serial = console(&mut browser, &page, "serial");
    assert!(!serial.contains("libvirt"), "{serial}");

    // Somebody changes it on the host.
    machine.run(&format!("virsh setmaxmem {id} 256M --config && virsh setmem {id} 256M --config")).ok();
    wait_until("the difference to be shown", SOON, || {
        browser.get(&page).text().contains("Memory is 256 MiB there, and 128 MiB here.").then_some(())
    });

    // As when the power fails. What libvirt knows of QEMU is kept, as it would be after a minute or two: to find it out again
    // takes longer here than all the rest.
    machine.run("sync /var/cache/libvirt/qemu/capabilities/*").ok();
    machine.power_cut();
    machine.power_on();
    pages::wait_first_page(&mut machine, BOOT_BOUND);
    machine.wait_ready(BOOT_BOUND);
    let mut browser = machine.https();
    pages::expect_redirect(&pages::sign_in(&mut browser, "a password of my own"), "/overview");
    let begin = Instant::now();
    wait_until("the machine to run again", SOON, || {
        let text = browser.get(&page).text();
        (text.contains("Running") && !text.contains("a task is under way")).then_some(())
    });
    note(format!("The machine runs again {} s after the pages are there.", begin.elapsed().as_secs()));
    browser.post(&format!("{page}/power/pause"), &[]);
    wait_until("the machine to stand still again", SOON, || {
        browser.get(&page).text().contains("Stands still").then_some(())
    });
    assert_eq!(machine.run(&format!("virsh domstate {id}")).ok().trim(), "paused");
    // It has the device, and the host shows that.
    let driver = machine.run(&format!("basename $(readlink -f /sys/bus/pci/devices/{DEVICE}/driver)")).ok();
    assert_eq!(driver.trim(), "vfio-pci");
    assert!(machine.run(&format!("virsh dumpxml {id}")).ok().contains("<hostdev"));
    let host = browser.get("/hosts").text();
    let host = host.split("href=\"/hosts/").nth(1).and_then(|rest| rest.split('"').next());
    let hardware =
        browser.get(&format!("/hosts/{}/hardware", host.unwrap_or_else(|| fail("There is no host.")))).text();
    assert!(hardware.contains("A machine has it"), "{hardware}");
    assert!(hardware.contains("on it."), "what the host uses is not said: {hardware}");
    // What libvirt was told by somebody else went with the host's start; what it shall be did not.
    assert!(machine.run(&format!("virsh dominfo {id}")).ok().contains("131072 KiB"));
}
