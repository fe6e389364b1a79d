//! What was refused at the port for hosts, in the audit log. Whoever is refused can try again at once and for ever, so
//! an address gets a line for each reason, and the next no sooner than after a while.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::http::StatusCode;

use super::{Cluster, transport::Shown};
use crate::{audit::Line, lock, throttle::Source};

const AGAIN: Duration = Duration::from_secs(10 * 60);
/// More at once are not remembered, and not noted.
const REMEMBERED: usize = 256;

/// What was noted of late.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<(Source, String), Instant>>);

impl Refusals {
    fn is_news(&self, source: Source, why: &str, now: Instant) -> bool {
        let mut noted = lock(&self.0);
        noted.retain(|_, at| now.duration_since(*at) < AGAIN);
        let key = (source, why.to_owned());
        if noted.len() >= REMEMBERED || noted.contains_key(&key) {
            return false;
        }
        noted.insert(key, now);
        true
    }
}

impl Cluster {
    /// Writes down that somebody was refused, whoever leads.
    pub(crate) fn note_refusal(self: &Arc<Self>, from: Option<IpAddr>, line: Line) {
        if !self.refusals.is_news(Source::of(from), &line.outcome, Instant::now()) {
            return;
        }
        log::warn!("{} at {} was refused: {}", line.actor, line.address, line.outcome);
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(problem) = cluster.note(line).await {
                log::warn!("A refusal is not in the audit log: {problem}");
            }
        });
    }

    /// The same, at the port for hosts.
    pub(super) fn note_refused_host(self: &Arc<Self>, from: IpAddr, shown: Option<Shown>, why: String) {
        let actor = shown.map_or_else(|| "a stranger".to_owned(), |shown| format!("host {}", shown.host));
        let line = Line::done(actor, &from, "reach a host", "").refused(why);
        self.note_refusal(Some(from), line);
    }
}

/// What to say of a connection that ended so, if it was refused and did not merely break.
pub(super) fn reason(error: &io::Error) -> Option<String> {
    use rustls::Error::{DecryptError, InvalidCertificate, PeerMisbehaved};
    match tls_error(error) {
        Some(InvalidCertificate(_)) => Some("Its certificate is not of this cluster.".into()),
        Some(DecryptError | PeerMisbehaved(_)) => {
            Some("What it sent was altered on the way, or had been sent before.".into())
        }
        Some(_) => None,
        None if error.kind() == io::ErrorKind::PermissionDenied => Some(format!("{error}.")),
        None => None,
    }
}

/// What TLS said, however it is wrapped.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = inner {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An error of I/O passes over what it holds.
        inner = match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|held| held as _),
            None => error.source(),
        };
    }
    None
}

/// What to say of a request that was answered so, unless whoever refused it has noted that.
pub(super) fn reason_of(status: StatusCode, is_noted: bool) -> Option<String> {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some("Its request was too large.".into()),
        StatusCode::FORBIDDEN if !is_noted => {
            Some("It asked for what only hosts of this cluster may ask.".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_one_line_for_each_reason_and_later_another() {
        let refusals = Refusals::default();
        let (one, other) = (Source::of("192.0.2.1".parse().ok()), Source::of("192.0.2.2".parse().ok()));
        let start = Instant::now();
        assert!(refusals.is_news(one, "a", start));
        assert!(!refusals.is_news(one, "a", start));
        assert!(refusals.is_news(one, "b", start));
        assert!(refusals.is_news(other, "a", start));
        assert!(refusals.is_news(one, "a", start + AGAIN));
        for number in 0..2 * REMEMBERED {
            refusals.is_news(one, &number.to_string(), start + AGAIN);
        }
        assert!(!refusals.is_news(one, "yet another", start + AGAIN));
        assert!(refusals.is_news(one, "yet another", start + AGAIN * 2));
    }
}
