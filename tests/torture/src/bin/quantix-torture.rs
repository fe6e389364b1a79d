//! `quantix-torture SECONDS [SEED]`: members as processes, clients that write and read, and everything that can go
//! wrong, at random. After every round all that was acknowledged must be there, what was read must fit into one order,
//! and all members must have the same.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "it reports, and ends at what must not be")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek, SeekFrom, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quantix_torture::{
    cluster::{Process, found, until},
    history::{Event, Op, is_linearizable},
    member::CLIENTS,
    relay::{Relays, Weather},
    wire::{Answer, Ask, Client},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const PORT: u16 = 25_100;
/// Relays listen so far above the members they lead to.
const RELAYS: u16 = 500;
const CLIENT_TASKS: usize = 8;
const ROUND: Duration = Duration::from_secs(10);
/// What a client waits for an answer before it gives up and does not know.
const PATIENCE: Duration = Duration::from_secs(8);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let seed: u64 = args.next().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut torture = Torture::start(StdRng::seed_from_u64(seed)).await;
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        round += 1;
        torture.round(round).await;
    }
    println!(
        "{round} rounds, {} acknowledged, {} of unknown outcome, seed {seed}",
        torture.acknowledged, torture.unknown
    );
}

struct Torture {
    random: StdRng,
    members: Vec<Process>,
    ids: Vec<u64>,
    relays: Relays,
    book: Arc<Mutex<Book>>,
    clock: Instant,
    next: Arc<AtomicI64>,
    acknowledged: usize,
    unknown: usize,
    _dir: tempfile::TempDir,
}

/// What clients did.
#[derive(Default)]
struct Book {
    rows: BTreeMap<String, Vec<Event>>,
    inserted: BTreeSet<i64>,
    maybe_inserted: BTreeSet<i64>,
    added: i64,
    maybe_added: i64,
    acknowledged: usize,
    unknown: usize,
}

impl Torture {
    async fn start(mut random: StdRng) -> Self {
        let dir = tempfile::tempdir_in(".").unwrap();
        let count = *[3, 3, 5].choose(&mut random).unwrap();
        let relays = Relays::default();
        let mut members = Vec::new();
        for number in 0..count {
            let port = PORT + u16::try_from(number).unwrap();
            let mut member = Process::new(&dir.path().join(format!("m{number}")), "127.0.0.1", port);
            member.advertised = Some(format!("127.0.0.1:{}", port + RELAYS));
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port + RELAYS)).await.unwrap();
            let (relays, to) = (relays.clone(), format!("127.0.0.1:{port}"));
            tokio::spawn(async move { relays.lead(listener, number, to).await });
            members.push(member);
        }
        found(&mut members).await;
        let mut ids = Vec::new();
        for member in &members {
            ids.push(member.standing().await.unwrap().id);
        }
        println!("{count} members");
        let book = Arc::default();
        let (clock, next) = (Instant::now(), Arc::default());
        Self { random, members, ids, relays, book, clock, next, acknowledged: 0, unknown: 0, _dir: dir }
    }

    async fn round(&mut self, round: usize) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CLIENT_TASKS {
            let client = Worker {
                random: StdRng::seed_from_u64(self.random.random()),
                members: self
                    .members
                    .iter()
                    .map(|member| format!("{}:{}", member.ip, member.port + CLIENTS))
                    .collect(),
                book: Arc::clone(&self.book),
                clock: self.clock,
                next: Arc::clone(&self.next),
                round,
            };
            clients.spawn(client.work(Arc::clone(&stop)));
        }
        let start = Instant::now();
        let mut faults = Vec::new();
        while start.elapsed() < ROUND {
            let pause = Duration::from_millis(self.random.random_range(300..2500));
            tokio::time::sleep(pause).await;
            faults.push(self.fault().await);
        }
        self.heal();
        // What is done in good weather counts as well.
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        self.check(round, &faults).await;
    }

    /// Does one thing that must not matter.
    async fn fault(&mut self) -> String {
        let one = self.random.random_range(0..self.members.len());
        let leader = self.leader().await;
        match self.random.random_range(0..13) {
            0 => {
                let at = leader.unwrap_or(one);
                self.kill_and_start(&[at]);
                format!("killed {at}, which led")
            }
            1 => {
                self.kill_and_start(&[one]);
                format!("killed {one}")
            }
            2 => {
                self.kill_and_start(&(0..self.members.len()).collect::<Vec<_>>());
                "killed all".into()
            }
            3 => {
                let at = leader.unwrap_or(one);
                self.cut(&[at], true, true);
                format!("cut off {at}, which led")
            }
            4 => {
                let half: Vec<_> = (0..self.members.len()).filter(|_| self.random.random()).collect();
                self.cut(&half, true, true);
                format!("cut {half:?} from the others")
            }
            5 => {
                self.cut(&[one], true, false);
                format!("{one} is not heard")
            }
            6 => {
                self.cut(&[one], false, true);
                format!("{one} hears nothing")
            }
            7 => {
                let delay = Duration::from_millis(self.random.random_range(5..200));
                self.weather(&[one], Weather { delay, ..Weather::default() });
                format!("{one} is {} ms away", delay.as_millis())
            }
            8 => {
                let piece = Some(self.random.random_range(1..50));
                self.weather(&[one], Weather { piece, ..Weather::default() });
                format!("{one} is heard in pieces")
            }
            9 => {
                let at = leader.unwrap_or(one);
                self.pause(at).await;
                format!("paused {at}")
            }
            10 => {
                self.tear(one);
                format!("tore the tail of {one}'s log")
            }
            _ => {
                self.heal();
                "healed".into()
            }
        }
    }

    async fn leader(&self) -> Option<usize> {
        for (number, member) in self.members.iter().enumerate() {
            let asked = tokio::time::timeout(Duration::from_millis(200), member.standing()).await;
            if asked.ok().flatten().is_some_and(|standing| standing.leads) {
                return Some(number);
            }
        }
        None
    }

    fn kill_and_start(&mut self, which: &[usize]) {
        for at in which {
            self.members[*at].kill();
        }
        for at in which {
            self.members[*at].start();
        }
    }

    fn cut(&self, these: &[usize], out: bool, into: bool) {
        let cut = Weather { cut: true, ..Weather::default() };
        for one in these {
            for other in (0..self.members.len()).filter(|other| !these.contains(other)) {
                let (one, other) = ((self.ids[*one], *one), (self.ids[other], other));
                if out {
                    self.relays.set(one, other, cut);
                }
                if into {
                    self.relays.set(other, one, cut);
                }
            }
        }
    }

    fn weather(&self, these: &[usize], weather: Weather) {
        for one in these {
            for other in (0..self.members.len()).filter(|other| other != one) {
                let (one, other) = ((self.ids[*one], *one), (self.ids[other], other));
                self.relays.set(one, other, weather);
                self.relays.set(other, one, weather);
            }
        }
    }

    fn heal(&mut self) {
        self.relays.clear();
        for member in &mut self.members {
            assert!(!member.has_ended(), "{} ended by itself: {}", member.address(), member.errors());
        }
    }

    async fn pause(&mut self, at: usize) {
        let Some(pid) = self.members[at].pid().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
        else {
            return;
        };
        kill(pid, Signal::SIGSTOP).unwrap();
        tokio::time::sleep(Duration::from_millis(self.random.random_range(200..4000))).await;
        kill(pid, Signal::SIGCONT).unwrap();
    }

    /// What a power cut in the middle of a write leaves: the last write's end is something else.
    fn tear(&mut self, at: usize) {
        self.members[at].kill();
        let path = self.members[at].folder.join("log.db-wal");
        // Not what was acknowledged: a write that was on its way and never came to its end.
        if let Ok(mut file) = std::fs::File::options().read(true).append(true).open(path) {
            let mut header = [0; 32];
            file.seek(SeekFrom::Start(0)).unwrap();
            if file.read_exact(&mut header).is_ok() {
                let mut frame = vec![0; self.random.random_range(1..4120)];
                self.random.fill(&mut frame[..]);
                let salt = frame.len().min(16);
                if salt == 16 {
                    frame[8..16].copy_from_slice(&header[16..24]);
                }
                file.write_all(&frame).unwrap();
            }
        }
        self.members[at].start();
    }

    /// When everything is well again, all that was acknowledged is there, everywhere the same.
    async fn check(&mut self, round: usize, faults: &[String]) {
        let mut dumps = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            let mut dump = None;
            until(&format!("member {number} has everything, after {faults:?}"), async || {
                let asked = tokio::time::timeout(Duration::from_secs(12), member.ask(&Ask::Dump)).await;
                if let Ok(Ok(Answer::Text(text))) = asked {
                    dump = Some(text);
                }
                dump.is_some()
            })
            .await;
            dumps.push(dump.unwrap());
        }
        let book = std::mem::take(&mut *self.book.lock().unwrap());
        for (number, dump) in dumps.iter().enumerate() {
            assert!(*dump == dumps[0], "member {number} has something else than member 0, after {faults:?}");
        }
        self.check_sums(&dumps[0], &book, faults);
        for (name, events) in &book.rows {
            assert!(
                is_linearizable(events),
                "{name} did not happen in any order, after {faults:?}: {events:?}"
            );
        }
        let events: usize = book.rows.values().map(Vec::len).sum();
        println!(
            "round {round}: {} acknowledged, {} unknown, {events} in {} histories; {}",
            book.acknowledged,
            book.unknown,
            book.rows.len(),
            faults.join(", ")
        );
        self.acknowledged += book.acknowledged;
        self.unknown += book.unknown;
        let mut kept = self.book.lock().unwrap();
        kept.inserted = book.inserted;
        kept.maybe_inserted = book.maybe_inserted;
        kept.added = book.added;
        kept.maybe_added = book.maybe_added;
    }

    fn check_sums(&self, dump: &str, book: &Book, faults: &[String]) {
        let lines: Vec<Vec<&str>> = dump.lines().map(|line| line.split(' ').collect()).collect();
        let number = |word: &str| word.parse::<i64>().unwrap();
        let set: BTreeSet<i64> =
            lines.iter().filter(|line| line[0] == "element").map(|line| number(line[1])).collect();
        let lost: Vec<_> = book.inserted.difference(&set).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}, after {faults:?}");
        let odd: Vec<_> = set
            .iter()
            .filter(|value| !book.inserted.contains(value) && !book.maybe_inserted.contains(value))
            .collect();
        assert!(odd.is_empty(), "refused and there: {odd:?}, after {faults:?}");
        let count =
            lines.iter().find(|line| line[..2] == ["kept", "count"]).map_or(0, |line| number(line[2]));
        let most = book.added + book.maybe_added;
        assert!(
            (book.added..=most).contains(&count),
            "counted {count}, not {} to {most}, after {faults:?}",
            book.added
        );
        let balances: Vec<_> =
            lines.iter().filter(|line| line[0] == "account").map(|line| number(line[2])).collect();
        assert_eq!(balances.iter().sum::<i64>(), 1000, "money was made or lost, after {faults:?}");
        assert!(balances.iter().all(|balance| *balance >= 0));
    }
}

struct Worker {
    random: StdRng,
    members: Vec<String>,
    book: Arc<Mutex<Book>>,
    clock: Instant,
    next: Arc<AtomicI64>,
    round: usize,
}

impl Worker {
    async fn work(mut self, stop: Arc<AtomicBool>) {
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
