//! Attacks on signing in.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::framework::{PASSWORD, Pages};

/// Tries to sign in from an address; how long the answer took, and its first line.
async fn attempt(pages: &Pages, from: IpAddr, username: &str, password: &str) -> (Duration, String) {
    let mut stream = pages.secure(from, "http/1.1").await.unwrap();
    let form = format!("username={username}&password={}", password.replace(' ', "+"));
    let request = format!(
        "POST /sign-in HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let start = Instant::now();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    (start.elapsed(), answer.lines().next().unwrap_or_default().to_owned())
}

/// Every address has a few attempts before it has to wait, so each is used for two of each kind, in turn.
#[tokio::test]
async fn how_long_a_refusal_takes_does_not_tell_who_exists() {
    let pages = Pages::start().await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for last in 1..=12 {
        let from = IpAddr::from([127, 0, 3, last]);
        for number in 0..2 {
            let nobody = format!("nobody-{last}-{number}");
            for (name, times) in [("admin", &mut known), (nobody.as_str(), &mut unknown)] {
                let (took, status) = attempt(&pages, from, name, "not the password").await;
                assert!(status.contains("401"), "{name}: {status}");
                times.push(took);
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (known, unknown) = (median(&mut known), median(&mut unknown));
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    println!("a wrong password takes {known:?}, a wrong name {unknown:?}: {ratio:.2}");
    assert!((0.6..1.67).contains(&ratio), "known {known:?}, unknown {unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_keeps_nobody_else_from_signing_in() {
    let pages = std::sync::Arc::new(Pages::start().await);
    let _ = pages.settled().await;
    let guessers: Vec<_> = (0..32)
        .map(|number| {
            let pages = std::sync::Arc::clone(&pages);
            tokio::spawn(async move {
                let from = IpAddr::from([127, 0, 4, 1 + number % 4]);
                for guess in 0..8 {
                    attempt(&pages, from, "admin", &format!("guess {number} {guess}")).await;
                }
            })
        })
        .collect();
    let honest = async {
        loop {
            let (_, status) = attempt(&pages, [127, 0, 0, 9].into(), "admin", PASSWORD).await;
            // A full line says so at once, and asks to try again.
            if status.contains("303") {
                break;
            }
            assert!(status.contains("503") || status.contains("429"), "{status}");
        }
    };
    timeout(Duration::from_secs(20), honest).await.expect("the honest person signs in");
    for guesser in guessers {
        guesser.await.unwrap();
    }
}

#[tokio::test]
async fn the_cookie_is_new_for_every_session_and_bound_to_this_host() {
    let pages = Pages::start().await;
    let first = pages.settled().await;
    let planted = format!("__Host-quantix={}", "a".repeat(64));
    for before in [&first, &planted] {
        let form = format!("username=admin&password={}", PASSWORD.replace(' ', "+"));
        let answer = pages.post("/sign-in", before, &form).await;
        assert_ne!(&answer.cookie, before);
        for rule in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
            assert!(answer.cookie_rules.contains(rule), "{}", answer.cookie_rules);
        }
        assert!(!answer.cookie_rules.to_lowercase().contains("domain"), "{}", answer.cookie_rules);
    }
    assert_eq!(pages.get("/overview", &planted).await.location, "/sign-in?ended=1");
    let out = pages.post("/sign-out", &first, "").await;
    assert!(out.cookie_rules.contains("Max-Age=0"), "{}", out.cookie_rules);
    assert!(pages.get("/cluster", &first).await.location.starts_with("/sign-in"), "the session goes on");
}
