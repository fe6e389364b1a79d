//! Sign-in attempts, slowed down for each source by itself: a few are free, then each failure doubles the wait.
//! Somebody who guesses from one address does not keep an honest person at another address out.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

const FREE: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
const MOST_SOURCES: usize = 10_000;

/// Where attempts come from: an IPv4 address, a network of IPv6 as given to one household, or this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(Option<IpAddr>);

impl Source {
    /// The source that an address belongs to.
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        const NETWORK: u128 = !0 << 64;
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
            v4 @ IpAddr::V4(_) => v4,
        }))
    }
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// The failures so far, by source.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    sources: HashMap<Source, Failures>,
}

impl Throttle {
    /// How long this source has to wait before its next attempt; zero when it may try now.
    pub(crate) fn wait(&self, source: Source, now: Instant) -> Duration {
        let Some(failures) = self.sources.get(&source) else { return Duration::ZERO };
        if failures.count < FREE {
            return Duration::ZERO;
        }
        let doubled = 1_u64.checked_shl(failures.count - FREE).unwrap_or(u64::MAX);
        let wait = Duration::from_secs(doubled).min(LONGEST_WAIT);
        wait.saturating_sub(now.duration_since(failures.last))
    }

    /// Counts a failed attempt.
    pub(crate) fn failed(&mut self, source: Source, now: Instant) {
        self.sources.retain(|_, failures| now.duration_since(failures.last) < FORGOTTEN_AFTER);
        if self.sources.len() >= MOST_SOURCES
            && let Some(oldest) =
                self.sources.iter().min_by_key(|(_, failures)| failures.last).map(|(source, _)| *source)
        {
            self.sources.remove(&oldest);
        }
        let failures = self.sources.entry(source).or_insert(Failures { count: 0, last: now });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// Forgets the failures of a source that has proven itself.
    pub(crate) fn succeeded(&mut self, source: Source) {
        self.sources.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(Some(address.parse().unwrap()))
    }

    #[test]
    fn a_few_failures_are_free_then_each_doubles_the_wait() {
        let mut throttle = Throttle::default();
        let (guesser, now) = (source("192.0.2.1"), Instant::now());
        let waits: Vec<_> = (0..14)
            .map(|_| {
                throttle.failed(guesser, now);
                throttle.wait(guesser, now).as_secs()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(throttle.wait(guesser, now + LONGEST_WAIT), Duration::ZERO);
        assert_eq!(throttle.wait(source("192.0.2.2"), now), Duration::ZERO);
    }

    #[test]
    fn success_and_time_both_forget() {
        let mut throttle = Throttle::default();
        let (person, now) = (source("192.0.2.1"), Instant::now());
        for _ in 0..9 {
            throttle.failed(person, now);
        }
        throttle.succeeded(person);
        assert_eq!(throttle.wait(person, now), Duration::ZERO);
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for number in 0..MOST_SOURCES + 5 {
            throttle
                .failed(Source::of(Some(IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()))), now);
        }
        assert_eq!(throttle.sources.len(), MOST_SOURCES);
    }
}
