//! What pages listen to: changes as they are made, on any host, for whoever may hear of them.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use quantix_api::{Secret, SignIn, calls, connection::Arriving};
use tokio::time::timeout;

use crate::hosts::{Host, PASSWORD, cluster_of};

struct Stream {
    body: Arriving,
    text: String,
}

async fn open(host: &Host, session: &Secret, after: Option<&str>) -> Result<Stream, u16> {
    let mut request = axum::http::Request::get(calls::CHANGES_PATH)
        .header("authorization", format!("Bearer {}", session.expose()));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let answer = host.client().begin(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
    if !answer.status().is_success() {
        return Err(answer.status().as_u16());
    }
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = Stream { body: answer.into_body(), text: String::new() };
    // It begins with where it is.
    stream.next().await;
    Ok(stream)
}

impl Stream {
    /// The next that comes; nothing when it has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = timeout(Duration::from_secs(20), self.body.frame()).await.unwrap()?;
            let Ok(frame) = frame else { return None };
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// Waits for an event that has this in it, and gives the others before it.
    async fn until(&mut self, part: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("it ended before {part}: {before:?}"));
            if event.contains(part) {
                before.push(event);
                return before;
            }
            before.push(event);
        }
    }

    async fn rest(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

fn id(event: &str) -> Option<&str> {
    event.lines().find_map(|line| line.strip_prefix("id: "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_one_host_is_heard_on_another_at_once() {
    let (hosts, session) = cluster_of(2).await;
    let mut stream = open(&hosts[1], &session, None).await.unwrap();
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let start = Instant::now();
        hosts[0].make_token(&session, 1).await;
        stream.until("event: cluster").await;
        stream.until("event: audit").await;
        longest = longest.max(start.elapsed());
    }
    println!("heard on the other host after {longest:?} at most, asking included");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_hears_what_was_missed_or_that_too_much_was() {
    let host = Host::start("qx-0");
    let session = host.settled().await;
    let mut stream = open(&host, &session, None).await.unwrap();
    host.make_token(&session, 1).await;
    let events = stream.until("event: audit").await;
    let last = events.iter().rev().find_map(|event| id(event)).unwrap().to_owned();
    drop(stream);
    for _ in 0..5 {
        host.make_token(&session, 1).await;
    }
    let mut stream = open(&host, &session, Some(&last)).await.unwrap();
    let mut heard = 0;
    while heard < 5 {
        let event = stream.next().await.unwrap();
        assert!(!event.contains("resync"), "{event}");
        heard += usize::from(event.contains("event: audit"));
    }
    let mut lost = open(&host, &session, Some("0")).await.unwrap();
    lost.until("event: resync").await;
    // What cannot be an id is none.
    for strange in ["-1", "x", "99999999999999999999999", "<img>"] {
        assert!(open(&host, &session, Some(strange)).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hear_of_what_they_may_see_and_of_their_own_sessions_only() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let ada = host.somebody(&admin, "ada", "viewer").await;
    let mut hers = open(&host, &ada, None).await.unwrap();
    let mut all = open(&host, &admin, None).await.unwrap();
    host.somebody(&admin, "ben", "viewer").await;
    host.make_token(&admin, 1).await;
    let heard = hers.until("event: cluster").await;
    for event in &heard {
        for kind in ["user", "audit", "settings", "session"] {
            assert!(!event.contains(&format!("event: {kind}")), "a viewer heard {event}");
        }
    }
    let heard = all.until("event: cluster").await;
    assert!(heard.iter().any(|event| event.contains("event: user") && event.contains("ben")), "{heard:?}");
    assert!(!heard.iter().any(|event| event.contains("event: session")), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session_its_user_and_its_rights() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let body = SignIn { username: "ada".into(), password: Secret::new(PASSWORD) };
    let again = async || host.client().call(&calls::sign_in(&body)).await.unwrap().token;

    let session = host.somebody(&admin, "ada", "viewer").await;
    let mut stream = open(&host, &session, None).await.unwrap();
    host.client().call(&calls::sign_out().as_session(&session)).await.unwrap();
    assert!(stream.rest().await.last().is_some_and(|event| event.contains("event: end")));
    assert_eq!(open(&host, &session, None).await.err(), Some(401));

    let session = again().await;
    let mut stream = open(&host, &session, None).await.unwrap();
    let access = quantix_api::NewAccess {
        who: quantix_api::Who::User("ada".into()),
        role: "operator".into(),
        scope: quantix_api::Scope::Datacenter,
    };
    host.client().call(&calls::give_access(&access).as_session(&admin)).await.unwrap();
    assert!(stream.rest().await.last().is_some_and(|event| event.contains("event: end")));

    let mut stream = open(&host, &session, None).await.unwrap();
    let lock = quantix_api::ChangeUser { locked: Some(true), ..Default::default() };
    host.client().call(&calls::change_user("ada", &lock).as_session(&admin)).await.unwrap();
    assert!(stream.rest().await.last().is_some_and(|event| event.contains("event: end")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_does_not_take_every_place() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let ada = host.somebody(&admin, "ada", "viewer").await;
    let mut open_ones = Vec::new();
    for _ in 0..16 {
        open_ones.push(open(&host, &ada, None).await.unwrap());
    }
    assert_eq!(open(&host, &ada, None).await.err(), Some(503));
    assert!(open(&host, &admin, None).await.is_ok());
    drop(open_ones);
    let start = Instant::now();
    while open(&host, &ada, None).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "places are not given back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
