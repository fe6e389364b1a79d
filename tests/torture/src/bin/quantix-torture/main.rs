//! `quantix-torture SECONDS [SEED]`: members as processes, clients that write and read, and everything that can go
//! wrong, at random. After every round all that was acknowledged must be there, what was read must fit into one order,
//! and all members must have the same.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "it reports, and ends at what must not be"
)]

mod faults;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use quantix_torture::{
    clients::{Book, Worker},
    cluster::{FAKETIME, Process, found, until},
    history::is_linearizable,
    space::{SmallDisk, Switch, leave_the_machine},
    wire::{Answer, Ask},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const PORT: u16 = 7443;
const CLIENT_TASKS: usize = 8;
const ROUND: Duration = Duration::from_secs(10);
/// So much is in the database that the log no longer holds it all, and a new member gets the database.
const FILLING: (i64, usize) = (4500, 16 * 1024);
/// Every other member has its own disk, of so many MiB.
const DISK: u32 = 512;

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let seed: u64 = args.next().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    assert!(Path::new(FAKETIME).exists(), "the package libfaketime is missing");
    leave_the_machine().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let count: usize = *[3, 3, 5].choose(&mut random).unwrap();
    println!("{count} members");
    let dir = tempfile::tempdir_in(".").unwrap();
    let folders: Vec<_> = (0..count).map(|number| dir.path().join(format!("m{number}"))).collect();
    let disks = folders.iter().skip(1).step_by(2).map(|folder| SmallDisk::mount(folder, DISK).unwrap());
    let _disks: Vec<_> = disks.collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(torture(random, &folders, Duration::from_secs(seconds), seed));
}

async fn torture(random: StdRng, folders: &[PathBuf], bound: Duration, seed: u64) {
    let mut torture = Torture::start(random, folders).await;
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < bound {
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
    switch: Arc<Switch>,
    book: Arc<Mutex<Book>>,
    clock: Instant,
    next: Arc<AtomicI64>,
    acknowledged: usize,
    unknown: usize,
}

impl Torture {
    async fn start(random: StdRng, folders: &[PathBuf]) -> Self {
        let wired = Switch::new(folders.len() + 1);
        let (switch, spaces) =
            wired.unwrap_or_else(|error| panic!("no wire: {error}; is /dev/net/tun yours to open?"));
        let mut members = Vec::new();
        for (folder, space) in folders.iter().zip(spaces.into_iter().skip(1)) {
            let mut member = Process::new(folder, &space.ip, PORT);
            member.space = Some(space);
            members.push(member);
        }
        found(&mut members).await;
        let mut ids = Vec::new();
        for member in &members {
            ids.push(member.standing().await.unwrap().id);
        }
        let (rows, bytes) = FILLING;
        assert_eq!(members[0].ask(&Ask::Fill(rows, bytes)).await.unwrap(), Answer::Done(None));
        let book = Arc::default();
        let (clock, next) = (Instant::now(), Arc::default());
        Self { random, members, ids, switch, book, clock, next, acknowledged: 0, unknown: 0 }
    }

    async fn round(&mut self, round: usize) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CLIENT_TASKS {
            let client = Worker {
                random: StdRng::seed_from_u64(self.random.random()),
                members: self.members.iter().map(Process::client_address).collect(),
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
            let fault = self.fault().await;
            println!("  {fault}");
            faults.push(fault);
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

    /// When everything is well again, all that was acknowledged is there, everywhere the same.
    async fn check(&mut self, round: usize, faults: &[String]) {
        let mut dumps = self.dumps(faults).await;
        // What nobody knows the outcome of may still be agreed on, between one dump and the next.
        for _ in 0..5 {
            if dumps.iter().all(|dump| *dump == dumps[0]) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            dumps = self.dumps(faults).await;
        }
        let book = std::mem::take(&mut *self.book.lock().unwrap());
        for (number, dump) in dumps.iter().enumerate() {
            let lines = |dump: &str| dump.lines().map(str::to_owned).collect::<BTreeSet<_>>();
            let differs: Vec<_> = lines(dump).symmetric_difference(&lines(&dumps[0])).cloned().collect();
            assert!(differs.is_empty(), "member {number} and 0 differ in {differs:?}, after {faults:?}");
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
            "round {round}: {} acknowledged, {} unknown, {events} in {} histories",
            book.acknowledged,
            book.unknown,
            book.rows.len(),
        );
        self.acknowledged += book.acknowledged;
        self.unknown += book.unknown;
        let mut kept = self.book.lock().unwrap();
        kept.inserted = book.inserted;
        kept.maybe_inserted = book.maybe_inserted;
        kept.added = book.added;
        kept.maybe_added = book.maybe_added;
    }

    /// What each member has, everything acknowledged in it.
    async fn dumps(&self, faults: &[String]) -> Vec<String> {
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
        dumps
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
