//! The places there are for connections, and for requests under way on them. They are bounded, so that memory is; and
//! nobody can hold them against others: when all are taken, a newcomer gets one of whoever holds the most.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::sync::Notify;

use crate::idle::{Busy, Idle};

/// Connections in all, and from one source: an office behind one address is as good as many people.
const CONNECTIONS: Bound = Bound { all: 2048, one_source: 1024 };
/// Requests under way, open event streams among them. Each asks the agent over a connection of its own.
const REQUESTS: Bound = Bound { all: 2048, one_source: 1024 };

/// How many there may be.
#[derive(Clone, Copy, Debug)]
struct Bound {
    all: usize,
    one_source: usize,
}

/// Where connections come from: an IPv4 address, or a network of IPv6 as given to one household, in which anybody
/// can have as many addresses as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// All places.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    connections: Bound,
    requests: Bound,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    requests: usize,
    held: HashMap<u64, Held>,
    by_source: HashMap<Source, Share>,
}

/// What one source holds.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    connections: usize,
    requests: usize,
}

#[derive(Debug)]
struct Held {
    source: Source,
    requests: usize,
    idle: Idle,
    given_away: Arc<Notify>,
}

/// A place that one connection holds, until it is dropped or given away.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    number: u64,
    idle: Idle,
    given_away: Arc<Notify>,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    places: Places,
    number: u64,
    _busy: Busy,
}

impl Default for Places {
    fn default() -> Self {
        Self { taken: Arc::default(), connections: CONNECTIONS, requests: REQUESTS }
    }
}

impl Places {
    /// A place for a connection from there, if need be at the cost of another.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let source = Source::of(address);
        let mut taken = self.taken();
        if taken.share(source).connections >= self.connections.one_source {
            let victim = taken.longest_idle_of(source)?;
            taken.give_away(victim);
        }
        if taken.held.len() >= self.connections.all {
            let victim = taken.most_expendable(source)?;
            taken.give_away(victim);
        }
        taken.last += 1;
        let (number, idle, given_away) = (taken.last, Idle::new(), Arc::new(Notify::new()));
        let held = Held { source, requests: 0, idle: idle.clone(), given_away: Arc::clone(&given_away) };
        taken.held.insert(number, held);
        taken.by_source.entry(source).or_default().connections += 1;
        Some(Place { places: self.clone(), number, idle, given_away })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn share(&self, source: Source) -> Share {
        self.by_source.get(&source).copied().unwrap_or_default()
    }

    /// The connection of this source that has waited longest for its client.
    fn longest_idle_of(&self, source: Source) -> Option<u64> {
        let own = self.held.iter().filter(|(_, held)| held.source == source);
        let idle = own.filter_map(|(number, held)| Some((held.idle.since()?, *number)));
        idle.min().map(|(_, number)| number)
    }

    /// Whose place a newcomer gets: of the source that holds the most, if it holds more than the newcomer's would;
    /// among its connections, and where all hold as few, the one that has been idle for longest. A request under way
    /// ends for a newcomer only if it is that of a source with more than its share, and whoever holds less than the
    /// newcomer loses nothing.
    fn most_expendable(&self, newcomer: Source) -> Option<u64> {
        let own = self.share(newcomer).connections;
        let ranked = self.held.iter().filter_map(|(number, held)| {
            let (of_source, idle_since) = (self.share(held.source).connections, held.idle.since());
            let beyond = if of_source > own + 1 { of_source } else { 0 };
            let is_idle = idle_since.is_some();
            (beyond > 0 || (is_idle && of_source >= own)).then_some((
                beyond,
                is_idle,
                Reverse(idle_since),
                Reverse(*number),
            ))
        });
        ranked.max().map(|(.., Reverse(number))| number)
    }

    /// The connection with the most requests of the source with the most, if that has more than this one would.
    fn busiest_beyond(&self, newcomer: Source) -> Option<u64> {
        let share = self.share(newcomer).requests + 1;
        let ranked =
            self.held.iter().map(|(number, held)| (self.share(held.source).requests, held.requests, *number));
        ranked.max().filter(|(of_source, ..)| *of_source > share).map(|(.., number)| number)
    }

    fn give_away(&mut self, number: u64) {
        if let Some(held) = self.release(number) {
            held.given_away.notify_one();
        }
    }

    fn release(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.requests -= held.requests;
        if let Some(share) = self.by_source.get_mut(&held.source) {
            share.connections -= 1;
            share.requests -= held.requests;
            if share.connections == 0 {
                self.by_source.remove(&held.source);
            }
        }
        Some(held)
    }

    /// Counts a request that begins or ends, if its connection still has its place.
    fn count(&mut self, number: u64, change: fn(&mut usize)) -> Option<()> {
        let held = self.held.get_mut(&number)?;
        change(&mut held.requests);
        change(&mut self.requests);
        change(&mut self.by_source.get_mut(&held.source)?.requests);
        Some(())
    }
}

impl Place {
    /// A request begins on this connection; nothing, if its source has too many under way.
    pub(crate) fn begin(&self) -> Option<UnderWay> {
        let mut taken = self.places.taken();
        let source = taken.held.get(&self.number)?.source;
        if taken.share(source).requests >= self.places.requests.one_source {
            return None;
        }
        if taken.requests >= self.places.requests.all {
            let victim = taken.busiest_beyond(source)?;
            taken.give_away(victim);
        }
        taken.count(self.number, |count| *count += 1)?;
        Some(UnderWay { places: self.places.clone(), number: self.number, _busy: self.idle.busy() })
    }

    /// How long it has had nothing to do.
    pub(crate) fn idle(&self) -> &Idle {
        &self.idle
    }

    /// Returns when somebody else got this place.
    pub(crate) async fn is_given_away(&self) {
        self.given_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().release(self.number);
    }
}

impl UnderWay {
    /// The same body; the request is under way until the end of it.
    pub(crate) fn until_end_of(self, body: Body) -> Body {
        Body::new(body.map_frame(move |frame| {
            let _held = &self;
            frame
        }))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.places.taken().count(self.number, |count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    fn places(all: usize, one_source: usize) -> Places {
        let bound = Bound { all, one_source };
        Places { taken: Arc::default(), connections: bound, requests: bound }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn is_given_away(place: &Place) -> bool {
        timeout(Duration::from_millis(20), place.is_given_away()).await.is_ok()
    }

    #[tokio::test]
    async fn when_all_is_taken_whoever_holds_most_loses_the_one_that_is_idle_for_longest() {
        let places = places(4, 4);
        let busy = places.take(address(1)).unwrap();
        let _request = busy.begin().unwrap();
        let older = places.take(address(1)).unwrap();
        let newer = places.take(address(1)).unwrap();
        let other = places.take(address(2)).unwrap();
        let _newcomer = places.take(address(3)).unwrap();
        assert!(is_given_away(&older).await);
        for stays in [&busy, &newer, &other] {
            assert!(!is_given_away(stays).await);
        }
    }

    #[tokio::test]
    async fn a_request_under_way_ends_only_for_a_newcomer_who_holds_less() {
        let places = places(3, 3);
        let held = [(); 3].map(|()| places.take(address(1)).unwrap());
        let _requests = held.each_ref().map(|place| place.begin().unwrap());
        assert!(places.take(address(1)).is_none(), "it holds everything already");
        let _newcomer = places.take(address(2)).unwrap();
        assert!(is_given_away(&held[0]).await);
    }

    #[tokio::test]
    async fn where_everybody_holds_one_and_works_nobody_is_sent_away() {
        let places = places(2, 2);
        let held = [1, 2].map(|last| places.take(address(last)).unwrap());
        let requests = held.each_ref().map(|place| place.begin().unwrap());
        assert!(places.take(address(3)).is_none());
        drop(requests);
        assert!(places.take(address(3)).is_some());
    }

    #[tokio::test]
    async fn whoever_holds_much_takes_nothing_from_whoever_holds_little() {
        let places = places(3, 3);
        let greedy = [(); 2].map(|()| places.take(address(1)).unwrap());
        let _requests = greedy.each_ref().map(|place| place.begin().unwrap());
        let honest = places.take(address(2)).unwrap();
        assert!(places.take(address(1)).is_none());
        assert!(!is_given_away(&honest).await);
    }

    #[tokio::test]
    async fn one_source_at_its_limit_replaces_its_own() {
        let places = places(10, 2);
        let other = places.take(address(9)).unwrap();
        let held = [(); 2].map(|()| places.take(address(1)).unwrap());
        let third = places.take(address(1)).unwrap();
        assert!(is_given_away(&held[0]).await);
        assert!(!is_given_away(&held[1]).await && !is_given_away(&other).await);
        let _requests = [held[1].begin(), third.begin()];
        assert!(places.take(address(1)).is_none());
    }

    #[tokio::test]
    async fn many_requests_on_few_connections_give_way_to_somebody_who_has_none() {
        let places = places(4, 4);
        let greedy = places.take(address(1)).unwrap();
        let requests = [(); 4].map(|()| greedy.begin().unwrap());
        assert!(greedy.begin().is_none(), "it has its share");
        let honest = places.take(address(2)).unwrap();
        let _request = honest.begin().unwrap();
        assert!(is_given_away(&greedy).await);
        drop(requests);
        drop(greedy);
        assert_eq!(places.taken().requests, 1);
    }

    #[test]
    fn addresses_of_one_household_are_one_source() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn places_come_back() {
        let places = places(2, 2);
        for _ in 0..10 {
            let held = [places.take(address(1)).unwrap(), places.take(address(1)).unwrap()];
            let _requests = held.each_ref().map(|place| place.begin().unwrap());
        }
        let taken = places.taken();
        assert!(taken.held.is_empty() && taken.by_source.is_empty() && taken.requests == 0);
    }
}
