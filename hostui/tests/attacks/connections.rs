//! Connections that are opened to be in the way: idle ones by the thousand, ones that say a byte at a time, floods.
//! An honest person at another address is served throughout, and memory stays bounded.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};

use crate::framework::Pages;

/// What the page server may hold in memory, whatever is done to it.
const MOST_MEMORY_MIB: u64 = 192;
/// What an honest person bears on a machine that is attacked, and runs the attack as well.
const MOST_PATIENCE: Duration = Duration::from_secs(5);
const HONEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));

/// Somebody who asks for a page over and over, each time over a connection of its own.
struct Honest {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Vec<Duration>>,
}

impl Honest {
    fn person(pages: &Arc<Pages>) -> Self {
        let (pages, stop) = (Arc::clone(pages), Arc::new(AtomicBool::new(false)));
        let is_stopped = Arc::clone(&stop);
        let asking = tokio::spawn(async move {
            let mut times = Vec::new();
            while !is_stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                let status = pages.honest(HONEST).await.expect("an honest person is not turned away");
                assert!(status.contains("200"), "an honest person was answered {status}");
                times.push(start.elapsed());
            }
            times
        });
        Self { stop, asking }
    }

    /// Asks whether they were served all the time.
    async fn was_served(self, during: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.asking.await.unwrap();
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{during}: {} honest requests, median {median:?}, longest {longest:?}", times.len());
        assert!(longest < MOST_PATIENCE, "{during}, an honest person waited {longest:?}");
    }
}

fn memory_is_bounded(pages: &Pages, during: &str) {
    let (now, most) = pages.memory_mib();
    println!("{during}: {now} MiB, at most {most} MiB, {} files open", pages.open_files());
    assert!(most < MOST_MEMORY_MIB, "{during}, the page server held {most} MiB");
}

/// A connection that somebody holds, with or without TLS.
type Held = Box<dyn AsyncRead + Send>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_idle_connections_keep_nobody_out() {
    let pages = Arc::new(Pages::start().await);
    let honest = Honest::person(&pages);
    let trust = pages.trust("http/1.1");
    let at_once = Arc::new(Semaphore::new(64));
    let mut opening = Vec::new();
    for number in 0..5_000_u32 {
        let turn = Arc::clone(&at_once).acquire_owned().await.unwrap();
        let (pages, trust) = (Arc::clone(&pages), trust.clone());
        opening.push(tokio::spawn(async move {
            let _turn = turn;
            let from = IpAddr::from([127, 0, 1, u8::try_from(1 + number % 20).unwrap()]);
            let stream = pages.dial(from).await.ok()?;
            if number % 2 == 0 {
                return Some((false, Box::new(stream) as Held));
            }
            let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
            let secure = timeout(Duration::from_secs(10), trust.connect(name, stream)).await;
            Some((true, Box::new(secure.ok()?.ok()?) as Held))
        }));
    }
    let mut held = Vec::new();
    for one in opening {
        held.extend(one.await.unwrap());
    }
    let secure = held.iter().filter(|(is_secure, _)| *is_secure).count();
    println!("{} connections were opened, {secure} of them with TLS", held.len());
    assert!(held.len() > 4_500, "the attack did not come about");
    // With everything taken, an honest person comes, and comes again.
    for _ in 0..20 {
        assert!(pages.honest(HONEST).await.unwrap().contains("200"));
    }
    memory_is_bounded(&pages, "5,000 idle connections");
    assert!(pages.open_files() < 2_200, "places are not bounded");
    honest.was_served("5,000 idle connections").await;
}

/// The same with requests that are under way and do not end: a form of which the last byte never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_end_keep_nobody_out() {
    let pages = Arc::new(Pages::start().await);
    let honest = Honest::person(&pages);
    let mut held = Vec::new();
    for number in 0..2_500_u32 {
        let from = IpAddr::from([127, 0, 5, u8::try_from(1 + number % 3).unwrap()]);
        let Ok(mut stream) = pages.secure(from, "http/1.1").await else { continue };
        let head = "POST /sign-in HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&[b'a'; 8_000]).await;
        held.push(stream);
    }
    for _ in 0..20 {
        assert!(pages.honest(HONEST).await.unwrap().contains("200"));
    }
    memory_is_bounded(&pages, "2,500 requests without an end");
    honest.was_served("2,500 requests without an end").await;
}

/// How long the host bears somebody who sends a byte at a time.
async fn is_cut_off(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, begin: &[u8]) -> Duration {
    let start = Instant::now();
    let mut answer = [0; 4096];
    if stream.write_all(begin).await.is_err() {
        return start.elapsed();
    }
    while start.elapsed() < Duration::from_secs(90) {
        match timeout(Duration::from_millis(500), stream.read(&mut answer)).await {
            // Answered or closed: either way it no longer waits.
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => {}
            Err(_) if stream.write_all(b"a").await.is_err() => break,
            Err(_) => {}
        }
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_a_byte_at_a_time_is_cut_off() {
    let pages = Arc::new(Pages::start().await);
    let honest = Honest::person(&pages);
    let handshake = is_cut_off(pages.dial(HONEST).await.unwrap(), b"\x16\x03\x01\x02\x00\x01");
    let head = is_cut_off(
        pages.secure(HONEST, "http/1.1").await.unwrap(),
        b"GET /sign-in HTTP/1.1\r\nHost: h\r\nX-Slow: ",
    );
    let body = is_cut_off(
        pages.secure(HONEST, "http/1.1").await.unwrap(),
        b"POST /sign-in HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n",
    );
    let (handshake, head, body) = tokio::join!(handshake, head, body);
    println!("cut off: a handshake after {handshake:?}, a head after {head:?}, a body after {body:?}");
    assert!(handshake < Duration::from_secs(15) && head < Duration::from_secs(25));
    assert!(body < Duration::from_secs(45));
    honest.was_served("slow clients").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_slows_an_honest_person_down_and_no_more() {
    let pages = Arc::new(Pages::start().await);
    let flood: Vec<_> = (0..16_u8)
        .map(|number| {
            let pages = Arc::clone(&pages);
            tokio::spawn(async move {
                let mut stream = pages.secure([127, 0, 6, 1 + number % 4].into(), "http/1.1").await.unwrap();
                let request = b"GET /sign-in HTTP/1.1\r\nHost: h\r\n\r\n".repeat(10);
                let mut answer = vec![0; 64 * 1024];
                for _ in 0..100 {
                    if stream.write_all(&request).await.is_err() {
                        return;
                    }
                    // Reads as fast as it can, so that the host is what is slow.
                    while let Ok(Ok(1..)) = timeout(Duration::from_millis(5), stream.read(&mut answer)).await
                    {
                    }
                }
            })
        })
        .collect();
    let honest = Honest::person(&pages);
    for one in flood {
        one.await.unwrap();
    }
    memory_is_bounded(&pages, "a flood of 16,000 requests");
    honest.was_served("a flood of 16,000 requests").await;
}
