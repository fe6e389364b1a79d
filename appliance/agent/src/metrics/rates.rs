//! Figures from counters that were read twice.

use std::time::Duration;

use quantix_api::Metric;
use quantix_host::Load;

/// A value for each of [`Metric::ALL`], in that order; what is not known is no number.
pub(crate) type Sample = [f32; Metric::ALL.len()];

pub(super) const NOTHING: Sample = [f32::NAN; Metric::ALL.len()];

/// What was used between two looks.
pub(super) fn between(before: &Load, after: &Load, time: Duration) -> Sample {
    let time = time.as_secs_f64();
    // Counters that began anew tell nothing about what was before.
    let grown = |before: u64, after: u64| after.checked_sub(before).map(float);
    let rate = |before: u64, after: u64| grown(before, after).map(|grown| grown / time);
    let share = |before: Option<f64>, after_it: Option<f64>| {
        let share = (after_it? - before?) / (time * f64::from(after.processors));
        // Time and counters are not read at the same moment, so that it may be a little too much.
        (share >= 0.0).then_some(share.min(1.0))
    };
    let done = grown(before.disk_reads, after.disk_reads)
        .zip(grown(before.disk_writes, after.disk_writes))
        .map(|(reads, writes)| reads + writes);
    let waited = after.disk_seconds - before.disk_seconds;
    let latency = done.filter(|done| *done > 0.0 && waited >= 0.0).map(|done| waited / done);
    let value = |metric: Metric| match metric {
        Metric::Cpu => share(Some(before.cpu_seconds), Some(after.cpu_seconds)),
        Metric::CpuWait => share(before.cpu_wait_seconds, after.cpu_wait_seconds),
        Metric::Memory => after.memory.map(float),
        Metric::MemoryOnHost => after.memory_on_host.map(float),
        Metric::DiskReads => rate(before.disk_reads, after.disk_reads),
        Metric::DiskWrites => rate(before.disk_writes, after.disk_writes),
        Metric::DiskRead => rate(before.disk_read_bytes, after.disk_read_bytes),
        Metric::DiskWritten => rate(before.disk_written_bytes, after.disk_written_bytes),
        Metric::DiskLatency => latency,
        Metric::NetReceived => rate(before.net_received_bytes, after.net_received_bytes),
        Metric::NetSent => rate(before.net_sent_bytes, after.net_sent_bytes),
    };
    Metric::ALL.map(|metric| value(metric).map_or(f32::NAN, narrow))
}

/// The mean of what is known.
pub(super) fn mean(samples: impl IntoIterator<Item = Sample>) -> Option<Sample> {
    let (mut sums, mut counts) = ([0.0_f64; Metric::ALL.len()], [0.0_f64; Metric::ALL.len()]);
    for sample in samples {
        for ((value, sum), count) in sample.into_iter().zip(&mut sums).zip(&mut counts) {
            if value.is_finite() {
                *sum += f64::from(value);
                *count += 1.0;
            }
        }
    }
    counts.iter().any(|count| *count > 0.0).then(|| {
        let means = sums.into_iter().zip(counts).map(|(sum, count)| sum / count);
        let mut sample = NOTHING;
        for (value, mean) in sample.iter_mut().zip(means) {
            *value = narrow(mean);
        }
        sample
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure is looked at, and not reckoned with")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, reason = "as above")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sample: &Sample, metric: Metric) -> f32 {
        sample[Metric::ALL.iter().position(|one| *one == metric).unwrap()]
    }

    fn load(processors: u32, cpu_seconds: f64, disk_reads: u64, disk_seconds: f64) -> Load {
        Load { processors, cpu_seconds, disk_reads, disk_seconds, memory: Some(5), ..Load::default() }
    }

    #[test]
    fn figures_are_what_grew_in_the_time() {
        let sample = between(&load(4, 10.0, 100, 1.0), &load(4, 14.0, 120, 1.5), Duration::from_secs(2));
        assert_eq!((of(&sample, Metric::Cpu), of(&sample, Metric::DiskReads)), (0.5, 10.0));
        assert_eq!((of(&sample, Metric::Memory), of(&sample, Metric::DiskLatency)), (5.0, 0.025));
        assert!(of(&sample, Metric::CpuWait).is_nan() && of(&sample, Metric::MemoryOnHost).is_nan());
        assert_eq!(of(&sample, Metric::NetSent), 0.0);
    }

    #[test]
    fn counters_that_began_anew_tell_nothing() {
        let sample = between(&load(1, 10.0, 100, 5.0), &load(1, 0.5, 3, 0.1), Duration::from_secs(1));
        for metric in [Metric::Cpu, Metric::DiskReads, Metric::DiskLatency] {
            assert!(of(&sample, metric).is_nan(), "{metric:?}");
        }
        // Nor does a machine without processors, or no time.
        let none = between(&load(0, 1.0, 1, 0.0), &load(0, 2.0, 1, 0.0), Duration::ZERO);
        assert!(!of(&none, Metric::Cpu).is_infinite());
    }

    #[test]
    fn a_mean_is_of_what_is_known() {
        let (mut one, mut other) = (NOTHING, NOTHING);
        (one[0], other[0], other[1]) = (1.0, 3.0, 7.0);
        let mean = mean([one, other, NOTHING]).unwrap();
        assert_eq!((mean[0], mean[1]), (2.0, 7.0));
        assert!(mean[2].is_nan());
        assert!(super::mean([NOTHING]).is_none());
    }
}
