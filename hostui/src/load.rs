//! What a host or a machine uses, as charts.

use std::fmt::Display;

use askama::{Template, filters::HtmlSafe};
use jiff::Timestamp;
use quantix_api::{Metric, Metrics, MetricsQuery, Span};

use crate::{
    address::Address,
    component::{Chart, Chips},
    frame::{Frame, Timed},
    words,
};

/// The parameter that says how far back charts go.
const PARAMETER: &str = "load";
/// Points of a chart; there are fewer pixels than values.
const MOST_POINTS: usize = 180;

/// A chart of bytes a second goes at least so far, so that next to nothing looks like that.
const LEAST_RATE: f64 = 1e6;
/// What is said of now is no more than so many seconds old.
const NOW_IS_WITHIN: u32 = 30;

const SPANS: [(&str, &str); 5] =
    [("minutes", "5 min"), ("", "1 hour"), ("day", "1 day"), ("week", "1 week"), ("year", "1 year")];

/// The block that is drawn anew.
pub(crate) const BLOCK: &str = "load";

/// The charts of a page, as a block of their own.
#[derive(Debug, Template)]
#[template(path = "components/load.html")]
pub(crate) struct Load {
    timed: Timed,
    spans: Chips,
    /// Or why there are none.
    charts: Result<Vec<Course>, String>,
}

impl HtmlSafe for Load {}

/// One chart with its title, and what is said of now.
#[derive(Debug)]
struct Course {
    title: &'static str,
    now: String,
    more: String,
    chart: Chart,
}

/// What is asked for at an address.
pub(crate) fn asked(address: &Address) -> MetricsQuery {
    let span = Span::ALL.into_iter().find(|span| span.name() == address.get(PARAMETER));
    MetricsQuery { span: span.unwrap_or_default() }
}

/// After how many seconds there is something new to see.
fn seconds(span: Span) -> u32 {
    match span {
        Span::Minutes => 2,
        Span::Hour => 10,
        Span::Day => 60,
        Span::Week | Span::Year => 300,
    }
}

impl Load {
    /// Draws what was told. `memory` is how much there is.
    pub(crate) fn of(frame: &Frame, told: Result<Metrics, impl Display>, memory: u64) -> Self {
        let timed = frame.timed(BLOCK, seconds(asked(&frame.address).span));
        let spans = Chips::of(&frame.address, "How far back", PARAMETER, SPANS);
        Self { timed, spans, charts: told.map(|told| charts(&told, memory)).map_err(|why| why.to_string()) }
    }
}

fn charts(told: &Metrics, memory: u64) -> Vec<Course> {
    // What was long ago is not now: it may be off.
    let recent = usize::try_from(NOW_IS_WITHIN.div_ceil(told.step_seconds.max(1))).unwrap_or_default().max(2);
    let last = |metric| {
        let known = told.of(metric).iter().rev().take(recent).copied().flatten().next();
        known.map(f64::from)
    };
    let cpu = Course {
        title: "Processors",
        now: last(Metric::Cpu).map(percent).unwrap_or_default(),
        more: last(Metric::CpuWait)
            .filter(|waits| *waits >= 0.005)
            .map(|waits| format!("waits {} of the time", percent(waits)))
            .unwrap_or_default(),
        chart: chart(told, "Processors in use", &[Metric::Cpu], 1.0, percent),
    };
    let total = float(memory);
    // A guest that does not tell what it does with its memory has it all.
    let inside = told.last(Metric::Memory).is_some();
    let of = |used| match inside {
        true => format!("{} of {}", bytes(used), bytes(total)),
        // With what it takes beside that of its guest.
        false => bytes(used),
    };
    let metric = if inside { Metric::Memory } else { Metric::MemoryOnHost };
    let taken = last(Metric::MemoryOnHost).filter(|_| inside);
    let memory = Course {
        title: if inside { "Memory" } else { "Memory on its host" },
        now: last(metric).map(of).unwrap_or_default(),
        more: taken.map(|taken| format!("takes {} of its host", bytes(taken))).unwrap_or_default(),
        chart: chart(told, "Memory in use", &[metric], top(told, &[metric], total), bytes),
    };
    let both = |one: Option<f64>, other: Option<f64>| one.zip(other);
    let (read, written) = (Metric::DiskRead, Metric::DiskWritten);
    let operations = both(last(Metric::DiskReads), last(Metric::DiskWrites))
        .map(|(reads, writes)| format!("reads {reads:.0} and writes {writes:.0} times a second"));
    let latency = last(Metric::DiskLatency).map(|seconds| format!("{} each", moment(seconds)));
    let disk = Course {
        title: "Disks",
        now: both(last(read), last(written))
            .map(|(read, written)| format!("{} read, {} written", rate(read), rate(written)))
            .unwrap_or_default(),
        more: operations.into_iter().chain(latency).collect::<Vec<_>>().join(", "),
        chart: chart(
            told,
            "Read and written",
            &[read, written],
            top(told, &[read, written], LEAST_RATE),
            rate,
        ),
    };
    let (received, sent) = (Metric::NetReceived, Metric::NetSent);
    let network = Course {
        title: "Network",
        now: both(last(received), last(sent))
            .map(|(received, sent)| format!("{} in, {} out", rate(received), rate(sent)))
            .unwrap_or_default(),
        more: String::new(),
        chart: chart(
            told,
            "Received and sent",
            &[received, sent],
            top(told, &[received, sent], LEAST_RATE),
            rate,
        ),
    };
    vec![cpu, memory, disk, network]
}

/// A chart of the sum of some figures.
fn chart(
    told: &Metrics,
    label: &'static str,
    metrics: &[Metric],
    top: f64,
    words: impl Fn(f64) -> String,
) -> Chart {
    let values = sums(told, metrics);
    let each = values.len().div_ceil(MOST_POINTS).max(1);
    let step = i64::from(told.step_seconds);
    let points: Vec<_> = values
        .chunks(each)
        .zip((0_i64..).step_by(each))
        .map(|(values, first)| {
            let begin = Timestamp::from_second(told.begin.as_second() + first * step);
            (when(told.span, begin.unwrap_or_default()), mean(values))
        })
        .collect();
    Chart::of(label, &points, top, words)
}

/// The sum of some figures at each time; no number where one of them is not known.
fn sums(told: &Metrics, metrics: &[Metric]) -> Vec<f64> {
    let values: Vec<_> = metrics.iter().map(|metric| told.of(*metric)).collect();
    let count = values.iter().map(|values| values.len()).min().unwrap_or(0);
    let value =
        |values: &&[Option<f32>], at: usize| values.get(at).copied().flatten().map_or(f64::NAN, f64::from);
    (0..count).map(|at| values.iter().map(|values| value(values, at)).sum()).collect()
}

fn mean(values: &[f64]) -> f64 {
    let known: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
    // Of none it is no number.
    known.iter().sum::<f64>() / u32::try_from(known.len()).map_or(f64::NAN, f64::from)
}

/// The top of a chart of which nobody knows how far it goes.
fn top(told: &Metrics, metrics: &[Metric], least: f64) -> f64 {
    sums(told, metrics).into_iter().filter(|value| value.is_finite()).fold(least, f64::max)
}

fn when(span: Span, time: Timestamp) -> String {
    let format = match span {
        Span::Minutes | Span::Hour => "%H:%M:%S",
        Span::Day => "%H:%M",
        Span::Week => "%a %H:%M",
        Span::Year => "%Y-%m-%d",
    };
    time.strftime(format).to_string()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn bytes(bytes: f64) -> String {
    words::bytes(whole(bytes))
}

/// Disks and networks are told of in powers of ten.
fn rate(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.1} GB/s", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB/s", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{:.0} kB/s", bytes / 1e3),
        bytes => format!("{bytes:.0} B/s"),
    }
}

fn moment(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 0.001 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is said in three digits")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn told(values: &[(Metric, &[Option<f32>])]) -> Metrics {
        let values: BTreeMap<_, _> =
            values.iter().map(|(metric, values)| (*metric, values.to_vec())).collect();
        Metrics { span: Span::Hour, begin: Timestamp::UNIX_EPOCH, step_seconds: 10, values }
    }

    #[test]
    fn sums_have_gaps_where_one_part_is_not_known() {
        let told = told(&[
            (Metric::DiskRead, &[Some(1.0), None, Some(3.0)]),
            (Metric::DiskWritten, &[Some(1.0), Some(1.0), Some(4.0)]),
        ]);
        let sums = sums(&told, &[Metric::DiskRead, Metric::DiskWritten]);
        assert!(sums[0] == 2.0 && sums[1].is_nan() && sums[2] == 7.0);
        assert!(mean(&sums) == 4.5 && mean(&[]).is_nan() && mean(&[f64::NAN]).is_nan());
        assert_eq!(top(&told, &[Metric::DiskRead, Metric::DiskWritten], 1e6), 1e6);
    }

    #[test]
    fn what_a_guest_does_not_tell_is_said_as_what_its_host_sees() {
        let memory = |told: &Metrics| {
            let courses = charts(told, 4 << 30);
            (courses[1].title, courses[1].now.clone(), courses[1].more.clone())
        };
        let outside = told(&[(Metric::MemoryOnHost, &[Some((1_u64 << 30) as f32)])]);
        assert_eq!(memory(&outside), ("Memory on its host", "1 GiB".into(), String::new()));
        let both = told(&[
            (Metric::Memory, &[Some((1_u64 << 29) as f32)]),
            (Metric::MemoryOnHost, &[Some((1_u64 << 30) as f32)]),
        ]);
        assert_eq!(memory(&both), ("Memory", "512 MiB of 4 GiB".into(), "takes 1 GiB of its host".into()));
        assert_eq!(memory(&told(&[])).1, "");
    }

    #[test]
    fn rates_and_moments_are_said_shortly() {
        assert_eq!(
            [rate(12.0), rate(4_200.0), rate(38e6), rate(1.25e9)],
            ["12 B/s", "4 kB/s", "38.0 MB/s", "1.2 GB/s"]
        );
        assert_eq!([moment(2.0), moment(0.0042), moment(0.00009)], ["2.0 s", "4.2 ms", "90 µs"]);
    }
}
