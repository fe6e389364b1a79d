//! What hosts and machines use.

use clap::Args;
use http_body_util::{BodyExt, Full};
use quantix_api::{Metric, Metrics, MetricsQuery, Span, calls};

use crate::{
    Failure, Session, backup,
    shown::{self, Output},
    storage::in_units,
};

#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Name or id.
    pub(crate) name: String,
    /// How far back: minutes, hour, day, week or year.
    #[arg(long, value_parser = span, default_value = "hour")]
    span: Span,
}

fn span(text: &str) -> Result<Span, String> {
    let known = Span::ALL.into_iter().find(|span| span.name() == text);
    known.ok_or_else(|| "it is one of minutes, hour, day, week and year".to_owned())
}

impl Of {
    pub(crate) fn query(&self) -> MetricsQuery {
        MetricsQuery { span: self.span }
    }
}

/// A metric, what it is called, and how a value of it is said.
type Row = (Metric, &'static str, fn(f64) -> String);

const ROWS: [Row; 11] = [
    (Metric::Cpu, "processors in use", percent),
    (Metric::CpuWait, "processors wait", percent),
    (Metric::Memory, "memory in use", bytes),
    (Metric::MemoryOnHost, "memory of its host", bytes),
    (Metric::DiskReads, "reads a second", number),
    (Metric::DiskWrites, "writes a second", number),
    (Metric::DiskRead, "read a second", bytes),
    (Metric::DiskWritten, "written a second", bytes),
    (Metric::DiskLatency, "each read or write", milliseconds),
    (Metric::NetReceived, "received a second", bytes),
    (Metric::NetSent, "sent a second", bytes),
];

/// Shows of each figure the last value, the mean and the most; as JSON all values.
pub(crate) fn show(metrics: &Metrics, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return Ok(shown::json(metrics)?);
    }
    let rows: Vec<_> = ROWS
        .iter()
        .filter_map(|(metric, name, words)| {
            let known: Vec<f64> = metrics.of(*metric).iter().flatten().copied().map(f64::from).collect();
            let mean = known.iter().sum::<f64>() / u32::try_from(known.len()).map_or(f64::NAN, f64::from);
            let most = known.iter().copied().fold(0.0, f64::max);
            Some(vec![(*name).to_owned(), words(*known.last()?), words(mean), words(most)])
        })
        .collect();
    if rows.is_empty() {
        return Ok(shown::line("Nothing is known for that time.")?);
    }
    Ok(shown::table(&["", "LAST", "MEAN", "MOST"], &rows)?)
}

/// Writes what the host that one is signed in at and its machines have used, for Prometheus.
pub(crate) async fn counters(session: &Session) -> Result<(), Failure> {
    let request = calls::counters().as_session(&session.token).request();
    let request = request.map_err(|error| Failure::Said(error.to_string()))?;
    let answer = session.host.begin(request.map(Full::new)).await?;
    let text = backup::checked(answer).await?.collect().await;
    let text = text.map_err(|error| Failure::Said(format!("It broke off: {error}.")))?.to_bytes();
    Ok(shown::line(String::from_utf8_lossy(&text).trim_end())?)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few bytes more or less")]
fn bytes(value: f64) -> String {
    in_units(value.max(0.0) as u64)
}
