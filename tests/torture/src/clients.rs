//! What the clients of a torture do, and the book of what they were answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    history::{Event, Op},
    wire::{Answer, Ask, Client},
};

/// What a client waits for an answer before it gives up and does not know.
const PATIENCE: Duration = Duration::from_secs(8);

/// What clients did.
#[derive(Debug, Default)]
pub struct Book {
    /// Each row that is set and read.
    pub rows: BTreeMap<String, Vec<Event>>,
    /// Elements that are in the set.
    pub inserted: BTreeSet<i64>,
    /// Elements that may be.
    pub maybe_inserted: BTreeSet<i64>,
    /// How often one was added.
    pub added: i64,
    /// How often more it may have been.
    pub maybe_added: i64,
    /// Answers that said it is done.
    pub acknowledged: usize,
    /// Answers that did not say.
    pub unknown: usize,
}

/// A client.
#[derive(Debug)]
pub struct Worker {
    /// Its choices.
    pub random: StdRng,
    /// Where it finds members.
    pub members: Vec<String>,
    /// What it was answered.
    pub book: Arc<Mutex<Book>>,
    /// The time of all clients.
    pub clock: Instant,
    /// No two clients write the same number.
    pub next: Arc<AtomicI64>,
    /// Rows are of a round.
    pub round: usize,
}

impl Worker {
    /// Works until it shall stop.
    pub async fn work(mut self, stop: Arc<AtomicBool>) {
        let mut client: Option<Client> = None;
        while !stop.load(Ordering::Relaxed) {
            if client.is_none() {
                let address = self.members.choose(&mut self.random).unwrap();
                client = tokio::time::timeout(Duration::from_secs(1), Client::connect(address))
                    .await
                    .ok()
                    .and_then(Result::ok);
            }
            let Some(connected) = &mut client else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let ask = self.choose();
            let begun = self.now();
            let answer = match tokio::time::timeout(PATIENCE, connected.ask(&ask)).await {
                Ok(Ok(answer)) => answer,
                // The connection is gone: another member may answer.
                _ => {
                    client = None;
                    Answer::Unknown("no answer".into())
                }
            };
            self.note(&ask, &answer, begun);
            if matches!(answer, Answer::Not(_)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if self.random.random_ratio(1, 5) {
                    client = None;
                }
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..20))).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap()
    }

    fn choose(&mut self) -> Ask {
        // Each history stays short enough to be searched.
        let row = format!(
            "r{}-{}-{}",
            self.round,
            self.clock.elapsed().as_secs() / 3,
            self.random.random_range(0..3)
        );
        let value = self.next.fetch_add(1, Ordering::Relaxed);
        match self.random.random_range(0..10) {
            0..=2 => Ask::Put(row, value),
            3..=4 => Ask::Get(row),
            5 => Ask::Swap(row, value - self.random.random_range(1..20), value),
            6 => Ask::Add1("count".into()),
            7..=8 => Ask::Insert(value),
            _ => Ask::Transfer(
                self.random.random_range(0..10),
                self.random.random_range(0..10),
                self.random.random_range(1..30),
            ),
        }
    }

    fn note(&self, ask: &Ask, answer: &Answer, begun: u64) {
        let mut book = self.book.lock().unwrap();
        let done = match answer {
            Answer::Done(value) => Some(*value),
            Answer::Unknown(_) => None,
            _ => return,
        };
        let ended = done.is_some().then(|| self.now());
        match (&done, ask) {
            // A read without an answer has seen nothing.
            (None, Ask::Get(_)) => {}
            (Some(_), _) => book.acknowledged += 1,
            (None, _) => book.unknown += 1,
        }
        let mut event =
            |name: &String, op| book.rows.entry(name.clone()).or_default().push(Event { op, begun, ended });
        match (ask, done) {
            (Ask::Put(name, value), _) => event(name, Op::Put(*value)),
            (Ask::Get(name), Some(seen)) => event(name, Op::Get(seen)),
            (Ask::Swap(name, from, to), done) => {
                event(name, Op::Swap(*from, *to, done.map(|done| done == Some(1))));
            }
            (Ask::Insert(value), Some(_)) => drop(book.inserted.insert(*value)),
            (Ask::Insert(value), None) => drop(book.maybe_inserted.insert(*value)),
            (Ask::Add1(_), Some(_)) => book.added += 1,
            (Ask::Add1(_), None) => book.maybe_added += 1,
            _ => {}
        }
    }
}
