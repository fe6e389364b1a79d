//! What another machine on the segment finds when it tries every door.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use quantix_qemu::{Machine, SavedMachine, Station, note};

/// docs/ARCHITECTURE.md lists the ports.
const TCP: [u16; 3] = [80, 443, 7443];

#[test]
fn only_the_listed_tcp_ports_are_open_on_the_segment() {
    let mut machine = SavedMachine::fresh().restore();
    let station = Station::on(&machine.segments()[0]);
    for target in [address_4(&mut machine), address_6(&mut machine)] {
        let open = station.open_tcp_ports(target, machine.mac());
        note(format!("{target}: {open:?}"));
        assert_eq!(open, BTreeSet::from(TCP), "{target}");
    }
}

#[test]
fn no_udp_port_answers_on_the_segment() {
    let mut machine = SavedMachine::fresh().restore();
    let station = Station::on(&machine.segments()[0]);
    for target in [address_4(&mut machine), address_6(&mut machine)] {
        let answering = station.answering_udp_ports(target, machine.mac());
        assert_eq!(answering, BTreeSet::new(), "{target}");
    }
}

#[test]
fn nothing_listens_beyond_this_machine_that_is_not_in_the_list() {
    let mut machine = SavedMachine::fresh().restore();
    // State 0A is a listening TCP socket; any bound UDP socket can be sent to.
    let tcp = machine.run("awk '$4 == \"0A\" { print $2 }' /proc/net/tcp /proc/net/tcp6").ok();
    let udp = machine.run("awk 'FNR > 1 { print $2 }' /proc/net/udp /proc/net/udp6").ok();
    let listening: BTreeSet<u16> = beyond_loopback(&tcp);
    assert_eq!(listening, BTreeSet::from(TCP), "TCP sockets:\n{tcp}");
    // The clients of DHCP, for both families, are the only ones that wait for datagrams.
    let datagrams: BTreeSet<u16> = beyond_loopback(&udp);
    assert!(datagrams.is_subset(&BTreeSet::from([68, 546])), "UDP sockets: {datagrams:?}\n{udp}");
}

/// Ports of `ADDRESS:PORT` lines as the kernel writes them, without those of loopback addresses.
fn beyond_loopback(sockets: &str) -> BTreeSet<u16> {
    sockets
        .lines()
        .filter_map(|socket| socket.split_once(':'))
        .filter(|(address, _)| !is_loopback(address))
        .map(|(_, port)| u16::from_str_radix(port, 16).unwrap())
        .collect()
}

/// The kernel writes addresses in words from the lowest byte, so the first byte of an IPv4 address comes last.
fn is_loopback(address: &str) -> bool {
    let ipv4 = address.strip_prefix("0000000000000000FFFF0000").unwrap_or(address);
    address == "00000000000000000000000001000000" || (ipv4.len() == 8 && ipv4.ends_with("7F"))
}

fn address_4(machine: &mut Machine) -> IpAddr {
    let text =
        machine.run("ip -4 -brief address show scope global | awk '{ print $3 }' | grep '^10.0.2.'").ok();
    text.split('/').next().unwrap().parse::<Ipv4Addr>().unwrap().into()
}

fn address_6(machine: &mut Machine) -> IpAddr {
    let text = machine.run("ip -6 -brief address show scope link | awk '/^e/ { print $3; exit }'").ok();
    text.split('/').next().unwrap().parse::<Ipv6Addr>().unwrap().into()
}
