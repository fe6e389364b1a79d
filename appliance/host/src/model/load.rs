//! What a machine has used since it started, from the kernel's counters.

use std::collections::BTreeSet;

const SECTOR_BYTES: u64 = 512;
/// The kernel counts the time of processors in hundredths of a second, whatever it measures in.
const TICK: f64 = 0.01;

/// What something has used since it started, and how much memory it has in use now. A virtual machine is told of in the
/// same words as the machine it runs on.
///
/// What is not there is not known now: a virtual machine that is busy with something else tells less.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Its processors.
    pub processors: u32,
    /// For how many seconds they worked, all together.
    pub cpu_seconds: Option<f64>,
    /// For how many seconds they wanted to, and were not let.
    pub cpu_wait_seconds: Option<f64>,
    /// Memory in use, in bytes.
    pub memory: Option<u64>,
    /// Memory that it takes of its host, in bytes.
    pub memory_on_host: Option<u64>,
    /// What all its disks did.
    pub disks: Option<DiskLoad>,
    /// What went over all its network cards.
    pub network: Option<NetworkLoad>,
}

/// What disks did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskLoad {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// For how many seconds reads and writes were under way, added up.
    pub seconds: f64,
}

/// What went over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkLoad {
    /// Bytes that came.
    pub received_bytes: u64,
    /// Bytes that went.
    pub sent_bytes: u64,
}

impl Load {
    /// Adds the processors, from `/proc/stat`.
    pub(crate) fn add_processors(&mut self, stat: &str) {
        let mut lines = stat.lines().filter_map(|line| line.strip_prefix("cpu"));
        let all = lines.find_map(|line| line.strip_prefix(' ')).unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what guests used is in the first two.
        let ticks: Vec<f64> = all.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
        if let [user, nice, system, _, _, irq, soft, steal] = ticks[..] {
            self.cpu_seconds = Some((user + nice + system + irq + soft) * TICK);
            self.cpu_wait_seconds = Some(steal * TICK);
        }
        let each = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
        self.processors = u32::try_from(each.count()).unwrap_or(u32::MAX);
    }

    /// Adds disks of these names, from `/proc/diskstats`.
    pub(crate) fn add_disks(&mut self, diskstats: &str, names: &BTreeSet<String>) {
        let all = self.disks.get_or_insert_default();
        for line in diskstats.lines() {
            let fields: Vec<&str> = line.split_whitespace().skip(2).collect();
            let (Some(name), [_, reads, _, read, reading, writes, _, written, writing, ..]) =
                (fields.first(), &fields[..])
            else {
                continue;
            };
            if !names.contains(*name) {
                continue;
            }
            let count = |field: &str| field.parse::<u64>().unwrap_or(0);
            all.reads = all.reads.wrapping_add(count(reads));
            all.writes = all.writes.wrapping_add(count(writes));
            let bytes = |field| count(field).wrapping_mul(SECTOR_BYTES);
            all.read_bytes = all.read_bytes.wrapping_add(bytes(read));
            all.written_bytes = all.written_bytes.wrapping_add(bytes(written));
            let seconds = |field: &str| field.parse::<f64>().unwrap_or(0.0) / 1000.0;
            all.seconds += seconds(reading) + seconds(writing);
        }
    }

    /// Adds network interfaces of these names, from `/proc/net/dev`.
    pub(crate) fn add_network(&mut self, dev: &str, names: &BTreeSet<String>) {
        let all = self.network.get_or_insert_default();
        for (name, counters) in dev.lines().filter_map(|line| line.split_once(':')) {
            if !names.contains(name.trim()) {
                continue;
            }
            let counters: Vec<u64> =
                counters.split_whitespace().filter_map(|field| field.parse().ok()).collect();
            let count = |at| counters.get(at).copied().unwrap_or(0);
            all.received_bytes = all.received_bytes.wrapping_add(count(0));
            all.sent_bytes = all.sent_bytes.wrapping_add(count(8));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn processors_are_counted_and_guests_are_not_counted_twice() {
        let mut load = Load::default();
        load.add_processors("cpu  100 20 30 4000 50 6 7 80 90 10\ncpu0 1 2\ncpu1 1 2\nintr 5\n");
        assert_eq!((load.processors, load.cpu_wait_seconds), (2, Some(0.8)));
        assert!((load.cpu_seconds.unwrap() - 1.63).abs() < 1e-9);
    }

    #[test]
    fn only_disks_that_are_asked_for_count() {
        let mut load = Load::default();
        let text =
            " 254 0 vda 10 1 200 500 20 2 400 1500 0 1 2 3\n 254 1 vda1 9 9 9 9 9 9 9 9 9\n 7 0 loop0 5 5";
        load.add_disks(text, &names(&["vda", "loop0"]));
        let disks = load.disks.unwrap();
        assert_eq!((disks.reads, disks.writes), (10, 20));
        assert_eq!((disks.read_bytes, disks.written_bytes), (200 * 512, 400 * 512));
        assert!((disks.seconds - 2.0).abs() < 1e-9);
    }

    #[test]
    fn only_interfaces_that_are_asked_for_count() {
        let mut load = Load::default();
        let text =
            "Inter-| Receive\n face |bytes\n  eth0: 7 1 0 0 0 0 0 0 9 1 0 0\n    lo:5 5 0 0 0 0 0 0 5 5\n";
        load.add_network(text, &names(&["eth0"]));
        assert_eq!(load.network, Some(NetworkLoad { received_bytes: 7, sent_bytes: 9 }));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "(cpu|[0-9 :\n]|eth0|vda){0,120}") {
            let mut load = Load::default();
            load.add_processors(&text);
            load.add_disks(&text, &names(&["vda"]));
            load.add_network(&text, &names(&["eth0"]));
        }
    }
}
