//! What was counted, in the words of Prometheus.

use std::fmt::Write;

use quantix_host::Load;

/// Whose counters they are: the labels that tell them from others, each a name and a value.
pub(super) struct Counted<'a> {
    pub(super) labels: Vec<(&'static str, &'a str)>,
    pub(super) load: &'a Load,
}

/// A family of counters: how it is called behind `quantix_host_` or `quantix_vm_`, what it is, and its value.
type Family = (&'static str, &'static str, &'static str, fn(&Load) -> Option<f64>);

const FAMILIES: &[Family] = &[
    ("processors", "gauge", "Processors that are on.", |load| Some(f64::from(load.processors))),
    ("cpu_seconds_total", "counter", "Time its processors worked.", |load| load.cpu_seconds),
    ("cpu_wait_seconds_total", "counter", "Time its processors wanted to work and were not let.", |load| {
        load.cpu_wait_seconds
    }),
    ("memory_used_bytes", "gauge", "Memory in use; in a machine, as its guest tells.", |load| {
        load.memory.map(float)
    }),
    ("memory_on_host_bytes", "gauge", "Memory that it takes of its host.", |load| {
        load.memory_on_host.map(float)
    }),
    ("disk_reads_total", "counter", "Reads from its disks.", |load| Some(float(load.disks?.reads))),
    ("disk_writes_total", "counter", "Writes to its disks.", |load| Some(float(load.disks?.writes))),
    ("disk_read_bytes_total", "counter", "Bytes read from its disks.", |load| {
        Some(float(load.disks?.read_bytes))
    }),
    ("disk_written_bytes_total", "counter", "Bytes written to its disks.", |load| {
        Some(float(load.disks?.written_bytes))
    }),
    ("disk_seconds_total", "counter", "Time that reads and writes were under way, added up.", |load| {
        Some(load.disks?.seconds)
    }),
    ("net_received_bytes_total", "counter", "Bytes that came over the network.", |load| {
        Some(float(load.network?.received_bytes))
    }),
    ("net_sent_bytes_total", "counter", "Bytes that went over the network.", |load| {
        Some(float(load.network?.sent_bytes))
    }),
];

/// Adds all families of some things of a kind.
pub(super) fn add(text: &mut String, kind: &str, things: &[Counted<'_>]) {
    for (name, sort, help, value) in FAMILIES {
        let known: Vec<_> =
            things.iter().filter_map(|thing| Some((&thing.labels, value(thing.load)?))).collect();
        if known.is_empty() {
            continue;
        }
        let _ = writeln!(text, "# HELP quantix_{kind}_{name} {help}\n# TYPE quantix_{kind}_{name} {sort}");
        for (labels, value) in known {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let _ = writeln!(text, "quantix_{kind}_{name}{{{}}} {value}", labels.join(","));
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_with_whose_it_is() {
        let load = Load { processors: 2, cpu_seconds: Some(1.5), memory: Some(7), ..Load::default() };
        let mut text = String::new();
        let labels = vec![("host", "qx-1"), ("name", "a\"b\\c\nd")];
        add(&mut text, "vm", &[Counted { labels, load: &load }]);
        let line = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).collect::<Vec<_>>();
        assert_eq!(
            line("quantix_vm_cpu_seconds_total"),
            [r#"quantix_vm_cpu_seconds_total{host="qx-1",name="a\"b\\c\nd"} 1.5"#]
        );
        assert_eq!(
            line("# TYPE quantix_vm_memory_used_bytes"),
            ["# TYPE quantix_vm_memory_used_bytes gauge"]
        );
        assert!(line("quantix_vm_memory_on_host_bytes").is_empty());
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
    }
}
