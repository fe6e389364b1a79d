//! Figures from counters that were read twice.

use std::time::Duration;

use quantix_api::Metric;
use quantix_host::{DiskLoad, Load};

/// A value for each of [`Metric::ALL`], in that order; what is not known is no number.
pub(crate) type Sample = [f32; Metric::ALL.len()];

pub(super) const NOTHING: Sample = [f32::NAN; Metric::ALL.len()];

/// What was used between two looks.
pub(super) fn between(before: &Load, after: &Load, time: Duration) -> Sample {
    let time = time.as_secs_f64();
    // Counters that began anew tell nothing about what was before.
    let grown = |before: u64, after: u64| after.checked_sub(before).map(float);
    let rate = |before: u64, after: u64| grown(before, after).map(|grown| grown / time);
    let share = |before: Option<f64>, now: Option<f64>| {
        let share = (now? - before?) / (time * f64::from(after.processors));
        // Time and counters are not read at the same moment, so that it may be a little too much.
        (share >= 0.0).then_some(share.min(1.0))
    };
    let disks = before.disks.zip(after.disks);
    let latency = |(before, now): (DiskLoad, DiskLoad)| {
        let done = grown(before.reads, now.reads)? + grown(before.writes, now.writes)?;
        let waited = now.seconds - before.seconds;
        (done > 0.0 && waited >= 0.0).then(|| waited / done)
    };
    let of_disks =
        |what: fn(&DiskLoad) -> u64| disks.and_then(|(before, now)| rate(what(&before), what(&now)));
    let network = before.network.zip(after.network);
    let value = |metric: Metric| match metric {
        Metric::Cpu => share(before.cpu_seconds, after.cpu_seconds),
        Metric::CpuWait => share(before.cpu_wait_seconds, after.cpu_wait_seconds),
        Metric::Memory => after.memory.map(float),
        Metric::MemoryOnHost => after.memory_on_host.map(float),
        Metric::DiskReads => of_disks(|disks| disks.reads),
        Metric::DiskWrites => of_disks(|disks| disks.writes),
        Metric::DiskRead => of_disks(|disks| disks.read_bytes),
        Metric::DiskWritten => of_disks(|disks| disks.written_bytes),
        Metric::DiskLatency => disks.and_then(latency),
        Metric::NetReceived => {
            network.and_then(|(before, now)| rate(before.received_bytes, now.received_bytes))
        }
        Metric::NetSent => network.and_then(|(before, now)| rate(before.sent_bytes, now.sent_bytes)),
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

    fn load(processors: u32, cpu_seconds: f64, reads: u64, seconds: f64) -> Load {
        let disks = Some(DiskLoad { reads, seconds, ..DiskLoad::default() });
        Load { processors, cpu_seconds: Some(cpu_seconds), disks, memory: Some(5), ..Load::default() }
    }

    #[test]
    fn figures_are_what_grew_in_the_time() {
        let sample = between(&load(4, 10.0, 100, 1.0), &load(4, 14.0, 120, 1.5), Duration::from_secs(2));
        assert_eq!((of(&sample, Metric::Cpu), of(&sample, Metric::DiskReads)), (0.5, 10.0));
        assert_eq!((of(&sample, Metric::Memory), of(&sample, Metric::DiskLatency)), (5.0, 0.025));
        assert!(of(&sample, Metric::CpuWait).is_nan() && of(&sample, Metric::MemoryOnHost).is_nan());
        assert!(of(&sample, Metric::DiskWrites) == 0.0 && of(&sample, Metric::NetSent).is_nan());
    }

    #[test]
    fn who_tells_less_for_a_while_has_a_gap_and_no_peak_behind_it() {
        let (full, less) = (load(1, 10.0, 1_000_000, 5.0), Load { processors: 1, ..Load::default() });
        for (before, after) in [(&full, &less), (&less, &full)] {
            let sample = between(before, after, Duration::from_secs(1));
            for metric in [Metric::Cpu, Metric::DiskReads, Metric::DiskLatency] {
                assert!(of(&sample, metric).is_nan(), "{metric:?}");
            }
        }
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
