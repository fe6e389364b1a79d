//! What a guest is told of its network, in version 2 of cloud-init's format. Cards are found by their addresses, since what
//! a guest calls them is its own affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::{flaw, is_domain};
use crate::model::check::{Flaw, is_mac};

const MOST_CARDS: usize = 16;
/// Addresses of a card, its name servers, and the domains it searches: of each so many.
const MOST_OF_EACH: usize = 16;

/// A network card, and how it comes to its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardNetwork {
    /// The address by which it is found.
    pub mac: String,
    /// How it comes to its addresses on the network.
    pub addressing: Addressing,
}

/// How a network card comes to its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// The network says them. IPv6 follows what routers announce.
    Dhcp,
    /// They are these.
    Static(StaticAddresses),
}

/// What a network card is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticAddresses {
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The way to everywhere else over IPv4.
    pub gateway4: Option<Ipv4Addr>,
    /// The way to everywhere else over IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Who is asked for names.
    pub name_servers: Vec<IpAddr>,
    /// The domains in which names without one are looked for.
    pub search: Vec<String>,
}

/// An address in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// How many of its first bits are the network's.
    pub prefix: u8,
}

impl Address {
    /// Its bits as a number, and how many they are.
    fn bits(ip: IpAddr) -> (u128, u8) {
        match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        }
    }

    fn holds(&self, ip: IpAddr) -> bool {
        let ((own, length), (other, other_length)) = (Self::bits(self.ip), Self::bits(ip));
        let host = u32::from(length.saturating_sub(self.prefix));
        length == other_length && own.checked_shr(host).unwrap_or(0) == other.checked_shr(host).unwrap_or(0)
    }

    /// What is wrong with it, if anything is.
    fn wrong(&self) -> Option<String> {
        let Self { ip, prefix } = self;
        let (bits, length) = Self::bits(*ip);
        if !(1..=length).contains(prefix) {
            return Some(format!("The prefix of {ip} is between 1 and {length}."));
        }
        if !is_of_one(*ip) {
            return Some(format!("{ip} is not the address of one machine."));
        }
        let hosts = u128::MAX.checked_shr(128 - u32::from(length - prefix)).unwrap_or(0);
        let is_edge = bits & hosts == 0 || bits & hosts == hosts;
        (ip.is_ipv4() && length - prefix > 1 && is_edge).then(|| {
            format!("{ip}/{prefix} is the network itself or its broadcast. Give an address between.")
        })
    }
}

/// Whether it is the address of one machine on a network.
fn is_of_one(ip: IpAddr) -> bool {
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_broadcast)
}

/// Draws what a guest is told of its cards; of none, nothing.
pub(super) fn draw(cards: &[CardNetwork]) -> Result<Option<Value>, Flaw> {
    if cards.is_empty() {
        return Ok(None);
    }
    if cards.len() > MOST_CARDS {
        return flaw("network", format!("At most {MOST_CARDS} network cards can be."));
    }
    let mut drawn = Map::new();
    let mut macs = Vec::new();
    for (at, card) in cards.iter().enumerate() {
        let mac = mac(&card.mac).ok_or_else(|| Flaw {
            field: format!("network.{at}.mac"),
            sentence: "An address is six pairs like 52:54:00:12:34:56, and not one of a group.".into(),
        })?;
        if macs.contains(&mac) {
            return flaw(format!("network.{at}.mac"), "Another card of this machine has this address.");
        }
        let mut of_card = match &card.addressing {
            // Where nobody answers, waiting for addresses of IPv6 holds up a guest that asks for them.
            Addressing::Dhcp => json!({ "dhcp4": true }),
            Addressing::Static(told) => told.draw(at)?,
        };
        if let Some(of_card) = of_card.as_object_mut() {
            of_card.insert("match".into(), json!({ "macaddress": mac }));
        }
        drawn.insert(format!("nic{at}"), of_card);
        macs.push(mac);
    }
    Ok(Some(json!({ "version": 2, "ethernets": drawn })))
}

/// The address of a card as it is compared.
fn mac(text: &str) -> Option<String> {
    is_mac(text).then(|| text.to_ascii_lowercase())
}

impl StaticAddresses {
    fn draw(&self, at: usize) -> Result<Value, Flaw> {
        let field = |name: &str| format!("network.{at}.{name}");
        let counts = [
            ("addresses", self.addresses.len()),
            ("name_servers", self.name_servers.len()),
            ("search", self.search.len()),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count > MOST_OF_EACH) {
            return flaw(field(name), format!("At most {MOST_OF_EACH} can be."));
        }
        if self.addresses.is_empty() {
            return flaw(field("addresses"), "A card without DHCP needs an address.");
        }
        for (index, address) in self.addresses.iter().enumerate() {
            if let Some(wrong) = address.wrong() {
                return flaw(field("addresses"), wrong);
            }
            if self.addresses.iter().take(index).any(|other| other.ip == address.ip) {
                return flaw(field("addresses"), format!("{} is there twice.", address.ip));
            }
        }
        if let Some(server) = self.name_servers.iter().find(|server| !is_of_one(**server)) {
            return flaw(field("name_servers"), format!("{server} is not the address of one machine."));
        }
        if !self.search.iter().all(|domain| is_domain(domain)) {
            return flaw(
                field("search"),
                "A domain is names of letters, digits and dashes, with dots between.",
            );
        }
        let addresses: Vec<_> =
            self.addresses.iter().map(|Address { ip, prefix }| format!("{ip}/{prefix}")).collect();
        let mut drawn = json!({ "addresses": addresses });
        let routes = self.routes(at)?;
        if !routes.is_empty() {
            drawn["routes"] = routes.into();
        }
        if !(self.name_servers.is_empty() && self.search.is_empty()) {
            drawn["nameservers"] = json!({ "addresses": self.name_servers, "search": self.search });
        }
        Ok(drawn)
    }

    /// The ways to everywhere else. `gateway4` and `gateway6` would say the same, and newer guests warn of them.
    fn routes(&self, at: usize) -> Result<Vec<Value>, Flaw> {
        let four = self.gateway4.map(|ip| ("gateway4", "0.0.0.0/0", IpAddr::V4(ip)));
        let six = self.gateway6.map(|ip| ("gateway6", "::/0", IpAddr::V6(ip)));
        let mut routes = Vec::new();
        for (name, everywhere, gateway) in four.into_iter().chain(six) {
            let field = format!("network.{at}.{name}");
            let is_own = self.addresses.iter().any(|address| address.ip == gateway);
            if is_own || !is_of_one(gateway) {
                return flaw(field, format!("{gateway} is no gateway for this card."));
            }
            let is_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local())
                && self.addresses.iter().any(|address| address.ip.is_ipv6());
            if !is_local && !self.addresses.iter().any(|address| address.holds(gateway)) {
                return flaw(
                    field,
                    format!("{gateway} is in no network of this card, so it is not reached."),
                );
            }
            routes.push(json!({ "to": everywhere, "via": gateway }));
        }
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (ip, prefix) = text.split_once('/').unwrap();
        Address { ip: ip.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    fn told() -> StaticAddresses {
        StaticAddresses {
            addresses: vec![address("10.0.0.5/24"), address("2001:db8::5/64")],
            gateway4: Some("10.0.0.1".parse().unwrap()),
            gateway6: Some("fe80::1".parse().unwrap()),
            name_servers: vec!["10.0.0.2".parse().unwrap()],
            search: vec!["example.com".into()],
        }
    }

    fn card(addressing: Addressing) -> CardNetwork {
        CardNetwork { mac: "52:54:00:00:00:AB".into(), addressing }
    }

    fn field(change: impl FnOnce(&mut StaticAddresses)) -> Option<String> {
        let mut told = told();
        change(&mut told);
        draw(&[card(Addressing::Static(told))]).err().map(|flaw| flaw.field)
    }

    #[test]
    fn cards_are_found_by_their_addresses() {
        let mut other = card(Addressing::Dhcp);
        other.mac = "52:54:00:00:00:01".into();
        let drawn = draw(&[card(Addressing::Static(told())), other]).unwrap();
        let expected = json!({
            "version": 2,
            "ethernets": {
                "nic0": {
                    "match": { "macaddress": "52:54:00:00:00:ab" },
                    "addresses": ["10.0.0.5/24", "2001:db8::5/64"],
                    "routes": [{ "to": "0.0.0.0/0", "via": "10.0.0.1" }, { "to": "::/0", "via": "fe80::1" }],
                    "nameservers": { "addresses": ["10.0.0.2"], "search": ["example.com"] },
                },
                "nic1": { "match": { "macaddress": "52:54:00:00:00:01" }, "dhcp4": true },
            },
        });
        assert_eq!(drawn, Some(expected));
        assert_eq!(draw(&[]), Ok(None));
    }

    #[test]
    fn a_card_has_an_address_of_its_own() {
        let with = |mac: &str| {
            let cards =
                [card(Addressing::Dhcp), CardNetwork { mac: mac.into(), addressing: Addressing::Dhcp }];
            draw(&cards).err().map(|flaw| flaw.field)
        };
        assert_eq!(with("52:54:00:00:00:01"), None);
        for mac in ["", "53:54:00:00:00:01", "52:54:00:00:00:+1", "00:00:00:00:00:00", "52:54:00:00:00:ab"] {
            assert_eq!(with(mac).as_deref(), Some("network.1.mac"), "{mac}");
        }
        assert!(draw(&vec![card(Addressing::Dhcp); 17]).is_err());
    }

    #[test]
    fn addresses_are_such_that_a_machine_can_have() {
        assert_eq!(field(|_| {}), None);
        let addresses = |texts: &[&str]| {
            let mut found = texts.iter().map(|text| address(text)).collect();
            field(|told| {
                told.gateway4 = None;
                told.gateway6 = None;
                std::mem::swap(&mut told.addresses, &mut found);
            })
        };
        for texts in [&["10.0.0.0/31"][..], &["10.0.0.0/32"], &["2001:db8::/64"], &["10.0.0.255/16"]] {
            assert_eq!(addresses(texts), None, "{texts:?}");
        }
        for texts in [
            &[][..],
            &["10.0.0.1/0"],
            &["10.0.0.1/33"],
            &["::1:1/129"],
            &["10.0.0.0/24"],
            &["10.0.0.255/24"],
            &["127.0.0.1/8"],
            &["224.0.0.1/24"],
            &["0.0.0.0/8"],
            &["::/64"],
            &["255.255.255.255/32"],
            &["10.0.0.1/24", "10.0.0.1/25"],
            &["10.0.0.1/24"; 17],
        ] {
            assert_eq!(addresses(texts).as_deref(), Some("network.0.addresses"), "{texts:?}");
        }
    }

    #[test]
    fn a_gateway_is_reached_from_the_card() {
        let four = |ip: &str| field(|told| told.gateway4 = Some(ip.parse().unwrap()));
        for ip in ["10.0.1.1", "10.0.0.5", "0.0.0.0", "127.0.0.1"] {
            assert_eq!(four(ip).as_deref(), Some("network.0.gateway4"), "{ip}");
        }
        let six = |ip: &str| field(|told| told.gateway6 = Some(ip.parse().unwrap()));
        assert_eq!(six("2001:db8::1"), None);
        assert_eq!(six("2001:db9::1").as_deref(), Some("network.0.gateway6"));
        let without = field(|told| told.addresses = vec![address("10.0.0.5/24")]);
        assert_eq!(without.as_deref(), Some("network.0.gateway6"));
        let server = field(|told| told.name_servers = vec!["0.0.0.0".parse().unwrap()]);
        assert_eq!(server.as_deref(), Some("network.0.name_servers"));
        let search = field(|told| told.search = vec!["a b".into()]);
        assert_eq!(search.as_deref(), Some("network.0.search"));
    }
}
