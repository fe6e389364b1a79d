//! Guests run with hardware virtualisation: one really did.

use std::time::Duration;

use quantix_api::CheckState;
use quantix_qemu::{SavedMachine, note, wait_until};

/// The image's own kernel as a guest: it says on its console under what it runs, then has no root and ends.
const GUEST: &str = "
<domain type='kvm'>
  <name>probe</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>/var/lib/libvirt/images/vmlinuz</kernel>
    <cmdline>console=ttyS0 loglevel=7 panic=-1</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <serial type='file'><source path='/var/lib/libvirt/images/probe.log'/></serial>
  </devices>
</domain>";

#[test]
fn a_guest_runs_with_hardware_virtualisation() {
    let mut machine = SavedMachine::fresh().restore();
    let readiness = machine.readiness().unwrap();
    let check = readiness.checks.iter().find(|check| check.name == "kvm").unwrap();
    assert_eq!(check.state, CheckState::Ok, "{}", check.detail);

    machine.run("mkdir -p /var/lib/libvirt/images && cp /usr/lib/modules/*/vmlinuz /var/lib/libvirt/images/vmlinuz").ok();
    machine.run(&format!("cat > /run/probe.xml <<'END'\n{GUEST}\nEND\n")).ok();
    machine.run("virsh create /run/probe.xml").ok();
    let said = wait_until("the guest to say under what it runs", Duration::from_secs(180), || {
        let log = machine.run("cat /var/lib/libvirt/images/probe.log").text;
        log.contains("Hypervisor detected").then_some(log)
    });
    let line = said.lines().find(|line| line.contains("Hypervisor detected")).unwrap();
    note(line);
    assert!(line.contains("KVM"), "{line}");
    machine.run("virsh destroy probe; true").ok();
}
