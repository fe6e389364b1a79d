//! What Quantix stands on runs, answers, and has nothing to complain about.

use std::{collections::BTreeMap, time::Duration};

use quantix_qemu::{Machine, SavedMachine};

/// Lines of error priority that have been looked at: what they contain, and why they are no error here.
const REVIEWED: &str = include_str!("journal-reviewed.txt");

#[test]
fn libvirt_answers() {
    let mut machine = SavedMachine::fresh().restore();
    let version = machine.run("virsh -c qemu:///system version").ok();
    assert!(version.contains("Running hypervisor: QEMU"), "{version}");
    machine.run("virsh -c qemu:///system domcapabilities --virttype kvm").ok();
}

#[test]
fn open_vswitch_answers_and_switches_in_the_kernel() {
    let mut machine = SavedMachine::fresh().restore();
    machine.run("ovs-vsctl --timeout=20 show").ok();
    machine.run("ovs-vsctl --timeout=20 add-br br-test").ok();
    let ports = machine.run("ovs-dpctl show").ok();
    assert!(ports.contains("system@ovs-system") && ports.contains("br-test"), "{ports}");
    machine.run("ovs-vsctl --timeout=20 del-br br-test").ok();
}

#[test]
fn a_switch_made_in_ovn_reaches_the_host() {
    let mut machine = SavedMachine::fresh().restore();
    machine.run("ovn-nbctl --timeout=20 ls-add test -- lsp-add test port").ok();
    // hv waits until the host's controller has taken it over.
    machine.run("ovn-nbctl --timeout=40 --wait=hv sync").ok();
    let bindings = machine.run("ovn-sbctl --timeout=20 --bare --columns=logical_port list Port_Binding").ok();
    assert!(bindings.contains("port"), "{bindings}");
    let chassis = machine.run("ovn-sbctl --timeout=20 --bare --columns=name list Chassis").ok();
    let machine_id = machine.run("cat /etc/machine-id").ok();
    assert!(chassis.replace('-', "").contains(&machine_id), "{chassis} is not {machine_id}");
}

#[test]
fn no_unit_has_failed_or_started_again_and_nobody_complains() {
    let mut machine = SavedMachine::fresh().restore();
    let state = machine.wait_settled(Duration::from_secs(120));
    assert_eq!(machine.run("systemctl --failed --no-legend --plain").ok(), "", "{state}");
    assert_eq!(state, "running");
    let errors = machine.run("journalctl -b -p err --no-pager -o cat --output-fields=MESSAGE").ok();
    let reviewed: Vec<&str> = reviewed().collect();
    let new: Vec<&str> = errors
        .lines()
        .filter(|line| !line.is_empty() && !reviewed.iter().any(|known| line.contains(known)))
        .collect();
    assert!(new.is_empty(), "lines of error priority that nobody has looked at:\n{}", new.join("\n"));
    assert_eq!(restarts(&mut machine), BTreeMap::new());
}

/// Units that were started again, and how often.
pub(crate) fn restarts(machine: &mut Machine) -> BTreeMap<String, u32> {
    let text = machine.run("systemctl show --property=Id,NRestarts '*.service'").ok();
    text.split("\n\n")
        .filter_map(|unit| {
            let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let (id, count) = (value("Id")?, value("NRestarts")?.parse().ok()?);
            // The journal is ended once when the initrd hands over, and that counts.
            let expected = u32::from(id == "systemd-journald.service");
            (count > expected && id != "quantix-test-shell.service").then(|| (id.to_owned(), count))
        })
        .collect()
}

fn reviewed() -> impl Iterator<Item = &'static str> {
    let lines = REVIEWED.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(" :: ").next().unwrap().trim())
}

#[test]
fn every_reviewed_line_has_a_reason() {
    for line in REVIEWED.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        assert!(line.split_once(" :: ").is_some_and(|(_, reason)| reason.len() > 10), "{line}");
    }
}
