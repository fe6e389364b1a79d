//! What a machine has used, from what libvirt counts.

use std::collections::BTreeMap;

use quantix_host::{DiskLoad, Load, NetworkLoad};

use crate::model::told::Told;

/// More of a kind are not looked at.
const MOST: u64 = 512;

#[expect(clippy::cast_precision_loss, reason = "a microsecond in a hundred years is not missed")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-9
}

/// What a machine that is on has used since it was switched on.
pub(crate) fn read(told: &BTreeMap<String, Told>) -> Load {
    let number = |name: &str| match told.get(name) {
        Some(Told::Number(number)) => Some(*number),
        _ => None,
    };
    // Of all that there are of a kind, of which `counted` says how many.
    let sum = |counted: &str, kind: &str, what: &str| {
        let count = number(counted).unwrap_or(0).min(MOST);
        let each = (0..count).filter_map(|at| number(&format!("{kind}.{at}.{what}")));
        each.reduce(u64::saturating_add)
    };
    // Processors that are off have no values, and their numbers may lie between those of others.
    let of_processors = |what| sum("vcpu.maximum", "vcpu", what).map(seconds);
    let of_disks = |what| sum("block.count", "block", what);
    let of_cards = |what| sum("net.count", "net", what);
    let kib = |name: &str| number(name).map(|kib| kib.saturating_mul(1024));
    let memory = match (kib("balloon.available"), kib("balloon.usable")) {
        (Some(available), Some(usable)) => Some(available.saturating_sub(usable)),
        _ => None,
    };
    Load {
        processors: u32::try_from(number("vcpu.current").unwrap_or(0)).unwrap_or(u32::MAX),
        cpu_seconds: of_processors("time"),
        cpu_wait_seconds: of_processors("delay"),
        memory,
        memory_on_host: kib("balloon.rss"),
        // Without a disk that tells there is nothing to add up; one that does tells all of it.
        disks: of_disks("rd.reqs").map(|reads| DiskLoad {
            reads,
            writes: of_disks("wr.reqs").unwrap_or(0),
            read_bytes: of_disks("rd.bytes").unwrap_or(0),
            written_bytes: of_disks("wr.bytes").unwrap_or(0),
            seconds: ["rd.times", "wr.times"].into_iter().filter_map(of_disks).map(seconds).sum(),
        }),
        network: of_cards("rx.bytes").map(|received_bytes| NetworkLoad {
            received_bytes,
            sent_bytes: of_cards("tx.bytes").unwrap_or(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(numbers: &[(&str, u64)]) -> BTreeMap<String, Told> {
        numbers.iter().map(|(name, number)| ((*name).to_owned(), Told::Number(*number))).collect()
    }

    #[test]
    fn what_all_disks_cards_and_processors_did_is_added_up() {
        let load = read(&told(&[
            ("vcpu.current", 2),
            ("vcpu.maximum", 4),
            ("vcpu.0.time", 1_000_000_000),
            ("vcpu.3.time", 500_000_000),
            ("vcpu.0.delay", 250_000_000),
            ("block.count", 2),
            ("block.0.rd.reqs", 3),
            ("block.1.rd.reqs", 4),
            ("block.1.wr.times", 2_000_000_000),
            ("net.count", 1),
            ("net.0.rx.bytes", 9),
            ("balloon.available", 2048),
            ("balloon.usable", 1024),
            ("balloon.rss", 3000),
        ]));
        let (disks, network) = (load.disks.unwrap(), load.network.unwrap());
        assert_eq!((load.processors, disks.reads, network.received_bytes), (2, 7, 9));
        assert!((load.cpu_seconds.unwrap() - 1.5).abs() < 1e-9 && (disks.seconds - 2.0).abs() < 1e-9);
        assert_eq!((load.memory, load.memory_on_host), (Some(1 << 20), Some(3000 << 10)));
        assert_eq!(load.cpu_wait_seconds, Some(0.25));
    }

    #[test]
    fn what_is_not_told_is_not_made_up_and_what_is_told_wrong_does_no_harm() {
        let load = read(&told(&[
            ("balloon.available", 5),
            ("block.count", u64::MAX),
            ("block.0.rd.reqs", u64::MAX),
            ("block.1.rd.reqs", 9),
        ]));
        assert_eq!((load.memory, load.memory_on_host, load.cpu_wait_seconds), (None, None, None));
        assert_eq!((load.disks.unwrap().reads, load.network), (u64::MAX, None));
        let strange = BTreeMap::from([("block.count".to_owned(), Told::Text("x".into()))]);
        assert_eq!(read(&strange).disks, None);
    }
}
