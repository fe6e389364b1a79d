//! Another machine on the segment, in raw Ethernet: it looks at every port of a machine under test.
//!
//! A port that is closed says nothing, as the firewall wills it; so a probe that was lost would look like a closed
//! port. Probes therefore go out in small batches, each followed by one to a port that is known to be open, and the
//! next batch waits for its answer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
        Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, NdiscNeighborFlags, NdiscRepr,
        TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};

use crate::{
    OrFail, fail,
    segment::{Mac, Segment, Wire},
};

const MAC: Mac = [0x52, 0x54, 0x00, 0x51, 0xff, 0x77];
const IPV4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
const OUR_PORT: u16 = 40_000;
const BATCH: usize = 64;
const KNOWN_OPEN: u16 = 443;

/// A machine on the segment that can only look.
#[derive(Debug)]
pub struct Station {
    wire: Wire,
    sums: ChecksumCapabilities,
}

/// Something that came back from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// A TCP port accepts; with our port.
    Accepts(u16, u16),
    /// A UDP port answered.
    Answered(u16),
}

/// What to send to each port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Syn,
    Datagram,
}

impl Station {
    /// Stands on a segment.
    pub fn on(segment: &Segment) -> Self {
        Self { wire: segment.wire(), sums: ChecksumCapabilities::default() }
    }

    /// All TCP ports that accept connections.
    #[track_caller]
    pub fn open_tcp_ports(&self, target: IpAddr, mac: Mac) -> BTreeSet<u16> {
        self.scan(Probe::Syn, target, mac)
    }

    /// All UDP ports that answer to what their protocols usually ask, or to anything.
    #[track_caller]
    pub fn answering_udp_ports(&self, target: IpAddr, mac: Mac) -> BTreeSet<u16> {
        self.scan(Probe::Datagram, target, mac)
    }

    #[track_caller]
    fn scan(&self, probe: Probe, target: IpAddr, mac: Mac) -> BTreeSet<u16> {
        let ports: Vec<u16> = (1..=u16::MAX).collect();
        let mut found = BTreeSet::new();
        for (number, batch) in ports.chunks(BATCH).enumerate() {
            for port in batch {
                match probe {
                    Probe::Syn => self.send_tcp(target, mac, OUR_PORT, *port, TcpControl::Syn),
                    Probe::Datagram => self.send_udp(target, mac, *port, question(*port)),
                }
            }
            let canary = 10_000 + u16::try_from(number).or_fail("Too many batches");
            self.wait_for_canary(target, mac, canary, &mut found);
        }
        // Whoever answers late has a second.
        self.listen(target, mac, Duration::from_secs(1), &mut found, |_| false);
        found
    }

    #[track_caller]
    fn wait_for_canary(&self, target: IpAddr, mac: Mac, canary: u16, found: &mut BTreeSet<u16>) {
        for _ in 0..10 {
            self.send_tcp(target, mac, canary, KNOWN_OPEN, TcpControl::Syn);
            let mine = |seen| seen == Seen::Accepts(KNOWN_OPEN, canary);
            if self.listen(target, mac, Duration::from_secs(2), found, mine) {
                return;
            }
        }
        fail(format!("{target} did not answer on port {KNOWN_OPEN} while its ports were looked at."));
    }

    /// Takes in frames until one is what is waited for; answers questions about our own addresses meanwhile.
    fn listen(
        &self,
        target: IpAddr,
        mac: Mac,
        bound: Duration,
        found: &mut BTreeSet<u16>,
        wanted: impl Fn(Seen) -> bool,
    ) -> bool {
        let end = Instant::now() + bound;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let Some(bytes) = self.wire.receive(left) else { continue };
            let Some(seen) = self.take(&bytes, target) else { continue };
            match seen {
                Seen::Accepts(port, ours) => {
                    // Ended at once, or half-open connections would pile up there.
                    self.send_tcp(target, mac, ours, port, TcpControl::Rst);
                    if ours == OUR_PORT {
                        found.insert(port);
                    }
                }
                Seen::Answered(port) => drop(found.insert(port)),
            }
            if wanted(seen) {
                return true;
            }
        }
        false
    }

    fn take(&self, bytes: &[u8], target: IpAddr) -> Option<Seen> {
        let frame = EthernetFrame::new_checked(bytes).ok()?;
        match frame.ethertype() {
            EthernetProtocol::Arp => {
                self.answer_arp(frame.payload());
                None
            }
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
                let ours = IpAddr::V4(packet.src_addr()) == target && packet.dst_addr() == IPV4;
                ours.then(|| seen(packet.next_header(), packet.payload())).flatten()
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
                if packet.next_header() == IpProtocol::Icmpv6 {
                    self.answer_neighbour(&packet, frame.src_addr());
                }
                let ours = IpAddr::V6(packet.src_addr()) == target && packet.dst_addr() == IPV6;
                ours.then(|| seen(packet.next_header(), packet.payload())).flatten()
            }
            EthernetProtocol::Unknown(_) => None,
        }
    }

    fn answer_arp(&self, bytes: &[u8]) {
        let Ok(packet) = ArpPacket::new_checked(bytes) else { return };
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return;
        };
        if operation != ArpOperation::Request || target_protocol_addr != IPV4 {
            return;
        }
        let answer = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(MAC),
            source_protocol_addr: IPV4,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        self.send(source_hardware_addr, EthernetProtocol::Arp, answer.buffer_len(), |buffer| {
            answer.emit(&mut ArpPacket::new_unchecked(buffer));
        });
    }

    fn answer_neighbour(&self, packet: &Ipv6Packet<&[u8]>, asker: EthernetAddress) {
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let Ok(message) = Icmpv6Packet::new_checked(packet.payload()) else { return };
        let Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: IPV6, .. })) =
            Icmpv6Repr::parse(&from, &to, &message, &self.sums)
        else {
            return;
        };
        let answer = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
            target_addr: IPV6,
            lladdr: Some(EthernetAddress(MAC).into()),
        });
        let ip = IpRepr::new(IPV6.into(), from.into(), IpProtocol::Icmpv6, answer.buffer_len(), 255);
        self.send(asker, EthernetProtocol::Ipv6, ip.buffer_len(), |buffer| {
            ip.emit(&mut *buffer, &self.sums);
            let mut message = Icmpv6Packet::new_unchecked(&mut buffer[ip.header_len()..]);
            answer.emit(&IPV6, &from, &mut message, &self.sums);
        });
    }

    fn send_tcp(&self, target: IpAddr, mac: Mac, ours: u16, theirs: u16, control: TcpControl) {
        let segment = TcpRepr {
            src_port: ours,
            dst_port: theirs,
            control,
            seq_number: TcpSeqNumber(if control == TcpControl::Rst { 1001 } else { 1000 }),
            ack_number: None,
            window_len: 1024,
            window_scale: None,
            max_seg_size: (control == TcpControl::Syn).then_some(1400),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = ip(target, IpProtocol::Tcp, segment.buffer_len());
        self.send(EthernetAddress(mac), protocol(target), ip.buffer_len(), |buffer| {
            ip.emit(&mut *buffer, &self.sums);
            let mut packet = TcpPacket::new_unchecked(&mut buffer[ip.header_len()..]);
            segment.emit(&mut packet, &ip.src_addr(), &ip.dst_addr(), &self.sums);
        });
    }

    fn send_udp(&self, target: IpAddr, mac: Mac, port: u16, payload: &[u8]) {
        let datagram = UdpRepr { src_port: OUR_PORT, dst_port: port };
        let ip = ip(target, IpProtocol::Udp, datagram.header_len() + payload.len());
        self.send(EthernetAddress(mac), protocol(target), ip.buffer_len(), |buffer| {
            ip.emit(&mut *buffer, &self.sums);
            let mut packet = UdpPacket::new_unchecked(&mut buffer[ip.header_len()..]);
            let fill = |room: &mut [u8]| room.copy_from_slice(payload);
            datagram.emit(&mut packet, &ip.src_addr(), &ip.dst_addr(), payload.len(), fill, &self.sums);
        });
    }

    fn send(
        &self,
        to: EthernetAddress,
        ethertype: EthernetProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let head = EthernetRepr { src_addr: EthernetAddress(MAC), dst_addr: to, ethertype };
        let mut bytes = vec![0; head.buffer_len() + length];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        head.emit(&mut frame);
        fill(frame.payload_mut());
        self.wire.send(&bytes);
    }
}

fn ip(target: IpAddr, protocol: IpProtocol, length: usize) -> IpRepr {
    let ours: IpAddr = if target.is_ipv4() { IPV4.into() } else { IPV6.into() };
    IpRepr::new(ours.into(), target.into(), protocol, length, 64)
}

fn protocol(target: IpAddr) -> EthernetProtocol {
    if target.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 }
}

fn seen(protocol: IpProtocol, bytes: &[u8]) -> Option<Seen> {
    match protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(bytes).ok()?;
            (packet.syn() && packet.ack()).then(|| Seen::Accepts(packet.src_port(), packet.dst_port()))
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(bytes).ok()?;
            (packet.dst_port() == OUR_PORT).then(|| Seen::Answered(packet.src_port()))
        }
        _ => None,
    }
}

/// What a port's protocol usually is asked first; a line feed for the rest.
fn question(port: u16) -> &'static [u8] {
    match port {
        // DNS, mDNS, LLMNR: the address of `a`.
        53 | 5353 | 5355 => b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01",
        69 => b"\x00\x01a\x00octet\x00",
        // Port mapper and NFS: the null procedure of program 100000.
        111 | 2049 => {
            b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01\x86\xa0\x00\x00\x00\x02\x00\x00\x00\x00\
              \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        }
        // NTP: a client's question, version 4.
        123 => &NTP,
        // SNMP: system description, community `public`.
        161 => b"\x30\x26\x02\x01\x00\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x0e\x30\x0c\x06\x08\
                 \x2b\x06\x01\x02\x01\x01\x01\x00\x05\x00",
        1900 => b"M-SEARCH * HTTP/1.1\r\nHOST:239.255.255.250:1900\r\nMAN:\"ssdp:discover\"\r\nMX:1\r\nST:ssdp:all\r\n\r\n",
        _ => b"\n",
    }
}

const NTP: [u8; 48] = {
    let mut packet = [0; 48];
    packet[0] = 0x23;
    packet
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_asks_who_we_are_is_answered() {
        let segment = Segment::new();
        let (station, machine) = (Station::on(&segment), segment.wire());
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress([2; 6]),
            source_protocol_addr: Ipv4Addr::new(10, 0, 2, 15),
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: IPV4,
        };
        let mut bytes = vec![0xff; 14 + question.buffer_len()];
        bytes[6..12].copy_from_slice(&[2; 6]);
        bytes[12..14].copy_from_slice(&[8, 6]);
        question.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
        machine.send(&bytes);
        let mut found = BTreeSet::new();
        let target = IpAddr::from([10, 0, 2, 15]);
        station.listen(target, [2; 6], Duration::from_millis(200), &mut found, |_| false);
        let answer = machine.receive(Duration::from_secs(1)).unwrap();
        assert_eq!((&answer[..6], &answer[6..12]), (&[2; 6][..], &MAC[..]));
    }
}
