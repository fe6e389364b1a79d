//! `/proc`, `/etc/os-release` and the like: lines of a key, a separator and a value.

use std::collections::BTreeSet;

use quantix_api::{Cpu, Memory};

/// `/proc/cpuinfo`: one block a thread.
pub(crate) fn cpu(cpuinfo: &str) -> Cpu {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    let mut threads = 0;
    let mut model = None;
    for block in cpuinfo.split("\n\n").filter(|block| value(block, "processor").is_some()) {
        threads += 1;
        let socket = value(block, "physical id").unwrap_or("0");
        sockets.insert(socket);
        cores.insert((
            socket,
            value(block, "core id").unwrap_or_else(|| value(block, "processor").unwrap_or("")),
        ));
        model = model.or_else(|| value(block, "model name"));
    }
    let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
    Cpu {
        model: model.unwrap_or("unknown").split_whitespace().collect::<Vec<_>>().join(" "),
        sockets: count(sockets.len()),
        cores: count(cores.len()),
        threads,
    }
}

/// `/proc/meminfo`, in bytes.
pub(crate) fn memory(meminfo: &str) -> Memory {
    let bytes = |key| {
        value(meminfo, key)
            .and_then(|text| text.trim_end_matches(" kB").trim().parse::<u64>().ok())
            .map_or(0, |kib| kib.saturating_mul(1024))
    };
    Memory { total_bytes: bytes("MemTotal"), available_bytes: bytes("MemAvailable") }
}

/// The second the kernel started, from `/proc/stat`.
pub(crate) fn boot_second(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// What `/proc/self/mountinfo` says is mounted, by its numbers: `8:1`.
pub(crate) fn mounted_devices(mountinfo: &str) -> BTreeSet<String> {
    mountinfo.lines().filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned)).collect()
}

/// A value of an os-release file, without its quotes.
pub(crate) fn os_release(text: &str, key: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim().trim_matches('"').to_owned())
}

/// A property from udev's record of a device: `E:KEY=value`.
pub(crate) fn udev_property<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))
}

/// Whether the last field of `chronyc -c tracking` says that the clock follows a server.
pub(crate) fn clock_follows_server(tracking: &str) -> bool {
    tracking.trim().rsplit(',').next().is_some_and(|leap| !leap.is_empty() && leap != "Not synchronised")
}

fn value<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO_SOCKETS: &str = "processor\t: 0\nmodel name\t: Epyc  9354\nphysical id\t: 0\ncore id\t: 0\n\n\
        processor\t: 1\nmodel name\t: Epyc  9354\nphysical id\t: 0\ncore id\t: 0\n\n\
        processor\t: 2\nmodel name\t: Epyc  9354\nphysical id\t: 1\ncore id\t: 0\n\n";

    #[test]
    fn threads_of_one_core_count_once_as_a_core() {
        let cpu = cpu(TWO_SOCKETS);
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (2, 2, 3));
        assert_eq!(cpu.model, "Epyc 9354");
    }

    #[test]
    fn a_processor_without_topology_counts_its_threads_as_cores() {
        let cpu = cpu("processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\nmodel name\t: x\n\n");
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (1, 2, 2));
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = memory("MemTotal:        2048 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n");
        assert_eq!((memory.total_bytes, memory.available_bytes), (2 << 20, 1 << 20));
    }

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "ID=debian\nIMAGE_VERSION=\"0.1.0~dev3.abc\"\n";
        assert_eq!(os_release(text, "IMAGE_VERSION").as_deref(), Some("0.1.0~dev3.abc"));
        assert_eq!(os_release(text, "IMAGE"), None);
    }

    #[test]
    fn the_clock_follows_a_server_only_when_chrony_says_so() {
        assert!(clock_follows_server(
            "A29FC87B,162.159.200.123,4,1700000000.1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,64.2,Normal\n"
        ));
        assert!(!clock_follows_server(
            "00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n"
        ));
        assert!(!clock_follows_server(""));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "(?s).{0,300}") {
            cpu(&text);
            memory(&text);
            boot_second(&text);
            os_release(&text, "ID");
            udev_property(&text, "ID");
            clock_follows_server(&text);
        }
    }
}
