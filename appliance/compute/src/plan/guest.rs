//! What a guest tells of itself, as it is shown. Whoever has the guest says what it likes: it is bounded, and of one line.

use std::collections::BTreeMap;

use quantix_api::{GuestCard, VmGuest};

use crate::model::{element::Element, told::Told};

/// What is kept of it at most.
const MOST_CARDS: usize = 32;
const MOST_ADDRESSES: usize = 16;
const LONGEST: usize = 128;
/// What the agent's line is called.
const AGENT: &str = "org.qemu.guest_agent.0";

/// Whether an agent runs in the guest of a machine that is on.
pub(crate) fn agent_answers(domain: &Element) -> bool {
    let channels = domain.child("devices").into_iter().flat_map(|devices| devices.all("channel"));
    channels.filter_map(|channel| channel.child("target")).any(|target| {
        target.attribute("name") == Some(AGENT) && target.attribute("state") == Some("connected")
    })
}

/// What a guest tells of itself.
pub(crate) fn read(told: &BTreeMap<String, Told>) -> VmGuest {
    let text = |name: &str| match told.get(name) {
        Some(Told::Text(text)) => one_line(text),
        _ => String::new(),
    };
    let count = |name: &str, most: usize| match told.get(name) {
        Some(Told::Number(count)) => usize::try_from(*count).unwrap_or(most).min(most),
        _ => 0,
    };
    let card = |at: usize| {
        let name = text(&format!("if.{at}.name"));
        let addresses = (0..count(&format!("if.{at}.addr.count"), MOST_ADDRESSES)).map(|number| {
            let address = text(&format!("if.{at}.addr.{number}.addr"));
            match told.get(&format!("if.{at}.addr.{number}.prefix")) {
                Some(Told::Number(prefix)) => format!("{address}/{prefix}"),
                _ => address,
            }
        });
        // What reaches nothing but itself helps nobody.
        let addresses = addresses.filter(|address| !address.starts_with("fe80:")).collect();
        GuestCard { name, mac: text(&format!("if.{at}.hwaddr")).to_lowercase(), addresses }
    };
    let cards = (0..count("if.count", MOST_CARDS)).map(card).filter(|card| card.name != "lo").collect();
    VmGuest { hostname: text("hostname"), os: text("os.pretty-name"), cards }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, Told)]) -> BTreeMap<String, Told> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn said(text: &str) -> Told {
        Told::Text(text.into())
    }

    #[test]
    fn a_guest_is_read_as_it_tells() {
        let told = told(&[
            ("hostname", said("web-01")),
            ("os.pretty-name", said("Debian GNU/Linux 13 (trixie)")),
            ("if.count", Told::Number(2)),
            ("if.0.name", said("lo")),
            ("if.0.addr.count", Told::Number(1)),
            ("if.0.addr.0.addr", said("127.0.0.1")),
            ("if.1.name", said("ens3")),
            ("if.1.hwaddr", said("52:54:00:AB:00:01")),
            ("if.1.addr.count", Told::Number(2)),
            ("if.1.addr.0.addr", said("192.0.2.10")),
            ("if.1.addr.0.prefix", Told::Number(24)),
            ("if.1.addr.1.addr", said("fe80::1")),
            ("if.1.addr.1.prefix", Told::Number(64)),
        ]);
        let guest = read(&told);
        assert_eq!((guest.hostname.as_str(), guest.os.as_str()), ("web-01", "Debian GNU/Linux 13 (trixie)"));
        let card = GuestCard {
            name: "ens3".into(),
            mac: "52:54:00:ab:00:01".into(),
            addresses: vec!["192.0.2.10/24".into()],
        };
        assert_eq!(guest.cards, [card]);
    }

    #[test]
    fn a_guest_that_tells_too_much_is_cut_short() {
        let long = "x\n\u{1b}[31m".repeat(1000);
        let guest = read(&told(&[
            ("hostname", said(&long)),
            ("if.count", Told::Number(u64::MAX)),
            ("if.0.name", said("a")),
            ("if.0.addr.count", Told::Number(u64::MAX)),
        ]));
        assert!(guest.hostname.chars().count() <= LONGEST && !guest.hostname.contains('\n'));
        assert_eq!((guest.cards.len(), guest.cards[0].addresses.len()), (MOST_CARDS, MOST_ADDRESSES));
        assert_eq!(read(&BTreeMap::new()), VmGuest::default());
    }

    #[test]
    fn an_agent_answers_when_its_line_is_open_in_the_guest() {
        let domain = |state: &str| {
            let target = Element::new("target").with("name", AGENT).with("state", state);
            let channel = Element::new("channel").holding(target);
            Element::new("domain").holding(Element::new("devices").holding(channel))
        };
        assert!(agent_answers(&domain("connected")));
        assert!(!agent_answers(&domain("disconnected")));
        assert!(!agent_answers(&Element::new("domain")));
    }
}
