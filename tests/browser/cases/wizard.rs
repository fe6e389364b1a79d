//! A new machine, a step at a time.

use quantix_api::{NewVm, VmPolicy, VmQuery, VmSpec, VmState, calls};
use quantix_browser::{Desk, Host, Key, LOOKS, until};

use crate::machines::{goes_on, has_image, has_pool};

/// A key that a guest can be told.
pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB ada@desk";

#[tokio::test]
async fn each_step_is_in_order_in_every_look() {
    let host = Host::with_machines("qx-01").await;
    let session = host.session().await;
    has_pool(&host).await;
    has_image(&host, &session).await;
    let policy = VmPolicy { template: true, ..VmPolicy::default() };
    let golden = NewVm { policy, ..NewVm::usual(VmSpec::named("golden")) };
    host.agent().call(&calls::make_vm(&golden).as_session(&session)).await.unwrap();
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    let mut wrong = Vec::new();
    for look in LOOKS {
        desk.look_as(look).await;
        desk.open("/vms/new").await;
        desk.shows("link", "golden").await;
        desk.picture(&format!("vms-new-what.{}", look.name)).await;
        desk.fill("Name", "web-01").await;
        desk.choose("Its disk begins as a copy of optional", "Debian 13 (1 MiB)").await;
        for step in ["Size", "Network", "First login", "Review"] {
            goes_on(&desk, step).await;
            if step == "Size" {
                desk.press("Medium: 2 cores, 4 GiB").await;
            }
            if step == "First login" {
                desk.fill("SSH keys optional", "ssh-rsa AAAA nonsense").await;
                desk.press("Next").await;
                desk.sees("is damaged or not whole").await;
                desk.picture(&format!("vms-new-refused.{}", look.name)).await;
                desk.fill("SSH keys optional", KEY).await;
            }
            if step == "Review" {
                desk.sees("2 cores, 4 GiB of memory").await;
                desk.sees("with 1 SSH key").await;
                desk.sees("Ed25519, 256 bits, ada@desk").await;
            }
            desk.picture(&format!("vms-new-{}.{}", step.replace(' ', "-").to_lowercase(), look.name)).await;
            let findings = desk.findings().await;
            wrong.extend(findings.into_iter().map(|line| format!("{step}, {}: {line}", look.name)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_machine_is_made_with_the_keyboard_alone_and_going_back_loses_nothing() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let session = host.session().await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/vms/new").await;
    desk.until_focused("Name").await;
    // Nothing is filled in, so nothing is lost.
    assert!(!warns_whoever_leaves(&desk).await);
    desk.key(Key::Enter).await;
    desk.sees("This must be filled in.").await;
    desk.until_focused("Name").await;
    desk.types("web-01").await;
    assert!(warns_whoever_leaves(&desk).await);
    // Enter goes on, and makes nothing.
    desk.key(Key::Enter).await;
    desk.until_focused("Size").await;
    assert_eq!(step(&desk).await, "Size");
    desk.tab_to("field", "Memory in MiB").await;
    desk.fill("Memory in MiB", "64").await;
    desk.fill("Disk in GiB optional", "1").await;
    desk.key(Key::Enter).await;
    desk.until_focused("Network").await;
    desk.fill("Network cards optional", "").await;
    // The browser's own way back leads a step back, and everything is there.
    desk.back().await;
    desk.until_focused("Size").await;
    desk.back().await;
    desk.until_focused("What").await;
    assert_eq!(value(&desk, "spec.name").await, "web-01");
    desk.tab_to("link", "Review").await;
    desk.key(Key::Enter).await;
    desk.until_focused("Review").await;
    desk.sees("1 GiB in local, empty").await;
    desk.sees("It has no network card").await;
    // Back goes past what is not needed.
    desk.tab_to("button", "Back").await;
    desk.key(Key::Space).await;
    desk.until_focused("Network").await;
    desk.tab_to("button", "Next").await;
    desk.key(Key::Enter).await;
    desk.until_focused("Review").await;
    desk.choose("When it is made", "Start it, and open its console").await;
    desk.tab_to("button", "Make it").await;
    desk.key(Key::Enter).await;
    desk.is_at("/console").await;
    until("it runs", async || {
        let found = host.agent().call(&calls::vms(&VmQuery::default()).as_session(&session)).await.unwrap();
        found.items.len() == 1 && found.items[0].state == VmState::Running
    })
    .await;
}

#[tokio::test]
async fn what_the_host_refuses_is_said_in_its_step() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.open("/vms/new").await;
    desk.fill("Name", "web-01").await;
    // Whoever leaps ahead is led to where something is wrong.
    desk.follow("Network").await;
    desk.shows("heading", "Network").await;
    desk.fill("Network cards optional", "br-int nonsense").await;
    desk.follow("What").await;
    desk.shows("heading", "What").await;
    desk.follow("Review").await;
    desk.until_focused("Network cards optional").await;
    desk.sees("An address is six pairs").await;
    desk.fill("Network cards optional", "").await;
    // Also where it is folded away.
    desk.follow("Size").await;
    desk.shows("heading", "Size").await;
    desk.press("More about its hardware").await;
    desk.fill("Cores it can grow to optional", "4").await;
    desk.fill("Sockets", "2").await;
    desk.press("More about its hardware").await;
    desk.press("Next").await;
    desk.until_focused("Cores it can grow to optional").await;
    desk.fill("Sockets", "1").await;
    desk.fill("Memory in MiB", "64").await;
    goes_on(&desk, "Network").await;
    goes_on(&desk, "Review").await;
    // A name that somebody else takes meanwhile.
    let session = host.session().await;
    let new = NewVm::usual(VmSpec::named("web-01"));
    host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap();
    desk.press("Make it").await;
    desk.until_focused("Name").await;
    desk.sees("There is a machine named web-01 in this folder already.").await;
    desk.fill("Name", "web-02").await;
    desk.follow("Review").await;
    desk.shows("heading", "Review").await;
    desk.choose("When it is made", "Leave it off").await;
    desk.press("Make it").await;
    desk.heading("web-02").await;
    desk.sees("web-02 is being made.").await;
    assert_eq!(desk.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn without_script_it_is_one_form() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.without_scripts().await;
    desk.look_as(LOOKS[0]).await;
    desk.open("/vms/new").await;
    for step in ["What", "Size", "Network", "First login", "Review"] {
        desk.shows("heading", step).await;
    }
    assert!(!desk.has("button", "Next").await);
    desk.picture("vms-new-without-script").await;
    desk.fill("Name", "a/b").await;
    desk.fill("Memory in MiB", "64").await;
    desk.fill("Network cards optional", "").await;
    desk.press("Make it").await;
    desk.sees("A name is one line").await;
    desk.fill("Name", "web-01").await;
    desk.choose("When it is made", "Leave it off").await;
    desk.press("Make it").await;
    desk.heading("web-01").await;
}

/// Whether the browser asks before the page is left.
async fn warns_whoever_leaves(desk: &Desk) -> bool {
    let script = "const event = new Event('beforeunload', { cancelable: true }); dispatchEvent(event); return event.defaultPrevented";
    desk.ask(script, &[]).await.unwrap() == true
}

/// The step that the list says is shown.
async fn step(desk: &Desk) -> String {
    let script = "return document.querySelector('.steps [aria-current=step]').textContent";
    desk.ask(script, &[]).await.unwrap().as_str().unwrap().to_owned()
}

async fn value(desk: &Desk, name: &str) -> String {
    let script = "return document.querySelector(`[name='${arguments[0]}']`).value";
    desk.ask(script, &[name]).await.unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_overview_counts_machines_and_leads_to_them() {
    let host = Host::with_machines("qx-01").await;
    let session = host.session().await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.sees("No virtual machines yet").await;
    let make = async |name: &str, start: bool| {
        let mut spec = VmSpec::named(name);
        spec.memory.mib = 64;
        let new = NewVm { start, ..NewVm::usual(spec) };
        host.agent().call(&calls::make_vm(&new).as_session(&session)).await.unwrap().object
    };
    make("web-01", true).await;
    make("web-02", false).await;
    let third = make("web-03", false).await;
    // The page changes by itself.
    desk.shows("link", "1 on").await;
    desk.shows("link", "2 off").await;
    assert!(!desk.has("link", "1 of them needs attention").await);
    let third = third.trim_start_matches("vm/");
    until("it is made", async || {
        let vm = host.agent().call(&calls::vm(third).as_session(&session)).await.unwrap();
        vm.task.is_none()
    })
    .await;
    let daemon = host.machines.as_ref().unwrap();
    for change in ["setmaxmem", "setmem"] {
        daemon.virsh(&[change, third, "128M", "--config"]);
    }
    desk.shows("link", "1 of them needs attention").await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.picture(&format!("overview-machines.{}", look.name)).await;
        assert_eq!(desk.findings().await, Vec::<String>::new());
    }
    desk.follow("1 of them needs attention").await;
    desk.heading("Virtual machines").await;
    desk.shows("link", "web-03").await;
    assert!(!desk.has("link", "web-01").await);
    desk.follow("On").await;
    desk.shows("link", "web-01").await;
    assert!(!desk.has("link", "web-03").await);
}
