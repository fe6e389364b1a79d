//! Pages that listen: what is done is shown where it is shown, and hundreds of open pages cost little.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::time::{Duration, Instant};

use axum::http::StatusCode;

use crate::framework::{PASSWORD, Pages};

/// So many pages are open, and so many of them in one session.
const PAGES: usize = 500;
const OF_ONE_SESSION: usize = 16;
/// From one address only so many connections are taken.
const OF_ONE_ADDRESS: usize = 100;
const MOST_KIB: u64 = 80 * 1024;
/// Programs that were not made fast take longer.
const WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 200 });

async fn id_of_host(pages: &Pages, cookie: &str) -> String {
    let page = pages.get("/cluster", cookie).await.body;
    let (_, rest) = page.split_once(r#"<tr id="host-"#).unwrap();
    rest[..16].to_owned()
}

#[tokio::test]
async fn a_task_is_begun_followed_to_its_end_and_its_file_is_fetched() {
    let pages = Pages::start().await;
    pages.wants_a_session("/activity/tasks").await;
    assert_eq!(pages.get("/live", "").await.location, "/sign-in");
    let cookie = pages.settled().await;
    let empty = pages.get("/activity/tasks", &cookie).await.body;
    assert!(empty.contains("Nothing is being done"), "{empty}");
    let host = id_of_host(&pages, &cookie).await;
    let begun = pages.post(&format!("/cluster/hosts/{host}/support-bundle"), &cookie, "").await;
    assert_eq!((begun.status, begun.location.as_str()), (StatusCode::SEE_OTHER, "/activity/tasks/1"));
    let start = Instant::now();
    let page = loop {
        let page = pages.get("/activity/tasks/1", &cookie).await.body;
        if page.contains("Download") {
            break page;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(page.contains("The file is there for a day.") && !page.contains("Try again"), "{page}");
    let file = pages.get("/activity/tasks/1/file", &cookie).await;
    assert_eq!(file.status, StatusCode::OK);
    // What zstd begins with.
    assert_eq!(file.bytes[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    assert!(file.headers["content-disposition"].to_str().unwrap().contains(".tar.zst"));

    let late = pages.post("/activity/tasks/1/cancel", &cookie, "").await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.body.contains("It has ended already"), "{}", late.body);
    for nothing in ["/activity/tasks/7", "/activity/tasks/7/file"] {
        assert_eq!(pages.get(nothing, &cookie).await.status, StatusCode::NOT_FOUND, "{nothing}");
    }
}

#[tokio::test]
async fn a_host_is_only_restarted_by_whoever_types_its_name() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let host = id_of_host(&pages, &cookie).await;
    let path = format!("/cluster/hosts/{host}/power/restart");
    let page = pages.get(&path, &cookie).await.body;
    assert!(page.contains("It is the only host"), "{page}");
    let refused = pages.post(&path, &cookie, "name=another").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains(r#"id="name-error""#), "{}", refused.body);
    assert_eq!(pages.get("/cluster/hosts/x/power/explode", &cookie).await.status, StatusCode::NOT_FOUND);
    assert!(pages.get("/tray", &cookie).await.body.contains(r#"aria-label="Tasks""#));
    // Nothing of what Quantix stands on runs here, which is told after a while.
    let start = Instant::now();
    while !pages.get("/activity/events?open=true", &cookie).await.body.contains("libvirt does not answer") {
        assert!(start.elapsed() < Duration::from_secs(60), "no alarm came");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(pages.get("/alarms", &cookie).await.body.contains("alarms\""));
    let looked = pages.post("/activity/events/1/acknowledge", &cookie, "").await;
    assert_eq!(looked.location, "/activity/events?open=true");
    assert!(pages.get("/activity/events", &cookie).await.body.contains("admin looks after it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_pages_hear_of_a_change_at_once_and_cost_little() {
    let pages = Pages::start().await;
    let first = pages.settled().await;
    let mut listening = Vec::with_capacity(PAGES);
    let mut cookie = first.clone();
    for number in 0..PAGES {
        let from = u8::try_from(2 + number / OF_ONE_ADDRESS).unwrap();
        if number > 0 && number % OF_ONE_SESSION == 0 {
            cookie = pages.sign_in_from(from, "admin", &PASSWORD.replace(' ', "+")).await;
        }
        listening.push(pages.listen(from, &cookie).await);
    }
    let memory = pages.server_kib();
    let tasks: Vec<_> = listening
        .into_iter()
        .map(|mut one| {
            tokio::spawn(async move {
                one.until("event: cluster").await;
                (Instant::now(), one)
            })
        })
        .collect();
    // Whoever listens waits by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    let made = pages.post("/cluster/tokens", &first, "purpose=a+test&hours=1&uses=1").await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    let mut last = start;
    let mut still_open = Vec::with_capacity(PAGES);
    for task in tasks {
        let (heard, one) = tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
        last = last.max(heard);
        still_open.push(one);
    }
    let (took, after) = (last - start, pages.server_kib());
    println!("{PAGES} pages: {memory} KiB, then {after} KiB; all heard {took:?} after it was asked for");
    assert!(memory.max(after) <= MOST_KIB, "{memory} KiB, {after} KiB");
    assert!(took <= WITHIN, "{took:?}");
    // And pages are served meanwhile.
    assert_eq!(pages.get("/overview", &first).await.status, StatusCode::OK);
}
