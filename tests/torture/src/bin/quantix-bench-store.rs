//! `quantix-bench-store SECONDS`: three members on loopback, fsync on, beside Debian's etcd doing the same.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends at what it did not expect"
)]

use std::time::{Duration, Instant};

use quantix_torture::{
    cluster::{Process, found, until},
    etcd::{Etcd, EtcdClient},
    member::micros,
    wire::{Answer, Ask},
};

const PORT: u16 = 24_100;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    let bound = Duration::from_secs(seconds);
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut members: Vec<_> = (0..3)
        .map(|number| Process::new(&dir.path().join(format!("m{number}")), "127.0.0.1", PORT + number))
        .collect();
    found(&mut members).await;

    println!("| who | clients | at | writes/s | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- | --- |");
    let mut ours = Vec::new();
    for (at, name) in [(0, "leader"), (1, "follower")] {
        for clients in [1, 32] {
            let figures = writes(clients, bound, async |number| {
                let mut client = members[at].client().await.unwrap();
                async move |turn: i64| {
                    let answer = client.ask(&Ask::Put(format!("bench-{number}"), turn)).await.unwrap();
                    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
                }
            })
            .await;
            figures.print("Quantix", clients, name);
            ours.push(figures);
        }
    }
    etcd(dir.path(), bound, &ours).await;
    more(&mut members, bound).await;
    failover(&mut members).await;
    drop(members);
    large(dir.path()).await;
}

struct Figures {
    per_second: f64,
    p50: f64,
    p99: f64,
}

impl Figures {
    fn of(mut took: Vec<Duration>, over: Duration) -> Self {
        took.sort_unstable();
        let at =
            |part: usize| took.get(took.len() * part / 100).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
        Self { per_second: took.len() as f64 / over.as_secs_f64(), p50: at(50), p99: at(99) }
    }

    fn print(&self, who: &str, clients: usize, at: &str) {
        println!("| {who} | {clients} | {at} | {:.0} | {:.2} | {:.2} |", self.per_second, self.p50, self.p99);
    }
}

/// Lets clients write one after the other, each for itself.
async fn writes<W: AsyncFnMut(i64)>(
    clients: usize,
    bound: Duration,
    connect: impl AsyncFn(usize) -> W,
) -> Figures {
    let mut workers = Vec::new();
    for number in 0..clients {
        workers.push(connect(number).await);
    }
    let start = Instant::now();
    let all = workers.iter_mut().map(async |write| {
        let mut took = Vec::new();
        let mut turn = 0;
        while start.elapsed() < bound {
            let begun = Instant::now();
            write(turn).await;
            took.push(begun.elapsed());
            turn += 1;
        }
        took
    });
    let took = join_all(all.collect()).await.concat();
    Figures::of(took, start.elapsed())
}

/// Waits for all; the clients take turns in this task.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn etcd(folder: &std::path::Path, bound: Duration, ours: &[Figures]) {
    let Some(_etcd) = Etcd::start(folder) else {
        println!("\netcd is not installed: nothing to compare with.");
        return;
    };
    let mut leader = None;
    until("etcd has a leader", async || {
        for number in 0..3 {
            if let Ok(mut client) = EtcdClient::connect(&Etcd::address(number)).await
                && client.leads().await.unwrap_or_default()
            {
                leader = Some(number);
            }
        }
        leader.is_some()
    })
    .await;
    let leader = leader.unwrap();
    let mut theirs = Vec::new();
    for (at, name) in [(leader, "leader"), ((leader + 1) % 3, "follower")] {
        for clients in [1, 32] {
            let figures = writes(clients, bound, async |number| {
                let mut client = EtcdClient::connect(&Etcd::address(at)).await.unwrap();
                async move |turn: i64| {
                    client.put(&format!("bench-{number}"), &turn.to_be_bytes()).await.unwrap();
                }
            })
            .await;
            figures.print("etcd", clients, name);
            theirs.push(figures);
        }
    }
    println!("\n| beside etcd | writes/s | p99 |\n| --- | --- | --- |");
    let names = ["1 client, leader", "32 clients, leader", "1 client, follower", "32 clients, follower"];
    for ((ours, theirs), name) in ours.iter().zip(&theirs).zip(names) {
        println!("| {name} | {:.2} | {:.2} |", ours.per_second / theirs.per_second, ours.p99 / theirs.p99);
    }
}

async fn more(members: &mut [Process], bound: Duration) {
    let mut leader = members[0].client().await.unwrap();
    let Ok(Answer::Figures(read)) = leader.ask(&Ask::ReadOften(20_000)).await else { unreachable!() };
    println!(
        "\n| what | figure |\n| --- | --- |\n| local read of a row | {:.1} µs |",
        read[0] as f64 / 1000.0
    );

    let mut took = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        leader.ask(&Ask::Get("bench-0".into())).await.unwrap();
        took.push(start.elapsed());
    }
    println!("| linearizable read on the leader, p50 | {:.2} ms |", Figures::of(took, bound).p50);

    for _ in 0..1000 {
        let now = i64::try_from(micros()).unwrap_or_default();
        leader.ask(&Ask::Put("time".into(), now)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let Ok(Answer::Figures(seen)) = members[1].ask(&Ask::Seen).await else { unreachable!() };
    let p99 = seen[seen.len() * 99 / 100] as f64 / 1000.0;
    println!("| from the begin of a write to its watcher on another host, p99 | {p99:.1} ms |");

    assert_eq!(leader.ask(&Ask::Fill(100_000, 100)).await.unwrap(), Answer::Done(None));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let resident: Vec<_> = members.iter().map(|member| member.resident_kib() / 1024).collect();
    println!("| resident with 100,000 rows, leader and followers | {resident:?} MiB |");
}

async fn failover(members: &mut [Process]) {
    let mut took = Vec::new();
    for turn in 0..7 {
        let mut leader = None;
        until("somebody leads", async || {
            for (number, member) in members.iter().enumerate() {
                if member.standing().await.is_some_and(|standing| standing.leads && standing.voters == 3) {
                    leader = Some(number);
                }
            }
            leader.is_some()
        })
        .await;
        let leader = leader.unwrap();
        let other = (leader + 1) % 3;
        members[leader].kill();
        let start = Instant::now();
        until("a write is acknowledged", async || {
            let written = members[other].ask(&Ask::Put("failover".into(), turn)).await;
            matches!(written, Ok(Answer::Done(_)))
        })
        .await;
        took.push(start.elapsed());
        members[leader].start();
        until("it is back", async || members[leader].standing().await.is_some_and(|now| now.voters == 3))
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    took.sort_unstable();
    let seconds: Vec<_> = took.iter().map(|took| format!("{:.2}", took.as_secs_f64())).collect();
    println!(
        "| from kill -9 of the leader to the first acknowledged write, {} times | {} s |",
        took.len(),
        seconds.join(", ")
    );
}

/// A host joins a cluster with a gigabyte of data.
async fn large(folder: &std::path::Path) {
    let member = |name: &str, port| Process::new(&folder.join(name), "127.0.0.1", port);
    let mut first = [member("large", PORT + 10)];
    found(&mut first).await;
    let mut client = first[0].client().await.unwrap();
    assert_eq!(client.ask(&Ask::Fill(16_384, 64 * 1024)).await.unwrap(), Answer::Done(None));
    let mut second = member("joins", PORT + 11);
    second.start();
    until("it answers", async || second.client().await.is_ok()).await;
    // The log is cut a little later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let Ok(Answer::Figures(id)) = second.ask(&Ask::Id).await else { unreachable!() };
    let start = Instant::now();
    assert_eq!(client.ask(&Ask::Add(id[0], second.address())).await.unwrap(), Answer::Done(None));
    let wanted = first[0].standing().await.unwrap().applied;
    until("it has everything", async || second.standing().await.is_some_and(|now| now.applied >= wanted))
        .await;
    let joined = start.elapsed();

    let database = std::fs::read_dir(folder.join("large")).unwrap().map(|entry| entry.unwrap().path());
    let database = database
        .filter(|path| path.extension().is_some_and(|end| end == "db"))
        .max_by_key(|path| path.metadata().unwrap().len());
    let database = database.unwrap();
    let start = Instant::now();
    copy_over_loopback(&database, &folder.join("copy")).await;
    let copied = start.elapsed();
    println!(
        "| an empty host gets {:.2} GB | {:.1} s, {:.1} times a copy over loopback with fsync ({:.1} s) |",
        database.metadata().unwrap().len() as f64 / 1e9,
        joined.as_secs_f64(),
        joined.as_secs_f64() / copied.as_secs_f64(),
        copied.as_secs_f64()
    );
}

async fn copy_over_loopback(from: &std::path::Path, to: &std::path::Path) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let from = from.to_owned();
    let sent = tokio::spawn(async move {
        let mut file = tokio::fs::File::open(from).await.unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::io::copy(&mut file, &mut stream).await.unwrap();
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut file = tokio::fs::File::create(to).await.unwrap();
    tokio::io::copy(&mut stream, &mut file).await.unwrap();
    file.sync_all().await.unwrap();
    sent.await.unwrap();
}
