//! `quantix-bench-pages FOLDER SECONDS`: how fast pages and lists come, beside peers of this machine's distribution.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends at what it did not expect"
)]

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use quantix_api::{NewGroup, Secret, calls};
use quantix_load::{
    figures::Figures,
    pace,
    peers::{self, Peer},
    programs::Programs,
    streams::Streams,
    wire::{Question, Server, Version},
};

const LINES: u32 = 10_000;
const RATE: u32 = 200;
const CLIENTS: usize = 8;
const STREAMS: usize = 500;
const PEOPLE: usize = 40;
const CHANGES: usize = 20;
/// What browsers say they can unpack.
const PACKED: &str = "gzip, deflate, br, zstd";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let built = PathBuf::from(std::env::args().nth(1).unwrap());
    let seconds = std::env::args().nth(2).and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    let lasts = Duration::from_secs(seconds);
    let folder = tempfile::tempdir_in(".").unwrap();
    let programs = Programs::start(&built, folder.path(), PEOPLE, LINES, None).await;
    let server = programs.server();
    // Each question as each of the people asks it.
    let page = |path: &str| -> Vec<Question> {
        let asked = |session: &Secret| {
            let cookie = ("cookie", format!("__Host-quantix={}", session.expose()));
            let headers = vec![cookie, ("accept-encoding", PACKED.to_owned())];
            Question { path: path.to_owned(), headers, body: Bytes::new() }
        };
        programs.sessions.iter().map(asked).collect()
    };
    let api = |path: &str| -> Vec<Question> {
        let asked = |session: &Secret| {
            let headers = vec![("authorization", format!("Bearer {}", session.expose()))];
            Question { path: path.to_owned(), headers, body: Bytes::new() }
        };
        programs.sessions.iter().map(asked).collect()
    };

    println!(
        "| what | HTTP | bytes | at {RATE}/s: answered/s | p50 ms | p99 ms | longest ms | flat out: requests/s | p50 ms | p99 ms | longest ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let list = page("/activity");
    for (name, question) in [
        ("Overview", page("/overview")),
        ("list page, 50 of 10,000", list.clone()),
        ("the same, API", api("/api/v1/audit?limit=50")),
        ("list page, searched", page("/activity?text=person-7")),
    ] {
        for version in [Version::Http1, Version::Http2] {
            measure(name, &server, version, &question, lasts).await;
        }
    }
    if let Some(etcd) = Peer::etcd(folder.path()).await {
        let server = etcd.server(folder.path());
        peers::fill_etcd(&server, LINES).await;
        for (name, question) in [
            ("etcd, 50 of 10,000, the last", peers::etcd_list(50)),
            ("etcd, 50 of 10,000, the first", peers::etcd_first(50)),
        ] {
            for version in [Version::Http1, Version::Http2] {
                measure(name, &server, version, std::slice::from_ref(&question), lasts).await;
            }
        }
    }
    if let Some(cockpit) = Peer::cockpit(folder.path()).await {
        let server = cockpit.server(folder.path());
        let question = Question {
            path: "/".into(),
            headers: vec![("accept-encoding", PACKED.into())],
            body: Bytes::new(),
        };
        measure("cockpit, its sign-in page", &server, Version::Http1, &[question], lasts).await;
    }
    let (pages, agent) = programs.memory();
    streams(&programs, &server, &api("/api/v1/changes")).await;
    println!("\nAfterwards the page server holds {} MiB and the agent {} MiB.", pages / 1024, agent / 1024);
}

/// Five hundred pages that stay open.
async fn streams(programs: &Programs, server: &Server, questions: &[Question]) {
    let mut streams = Streams::open(server, questions, STREAMS).await;
    let mut took = Vec::new();
    for number in 0..CHANGES {
        let group = NewGroup { name: format!("group-{number}"), purpose: String::new(), provider_name: None };
        let call = calls::make_group(&group).as_session(&programs.sessions[0]);
        let agent = programs.agent();
        took.push(streams.until_all_hear(async { drop(agent.call(&call).await.unwrap()) }).await);
    }
    took.sort_unstable();
    assert!(streams.are_open(), "a stream has ended");
    let (pages, agent) = programs.memory();
    let (median, longest) = (took[took.len() / 2].as_millis(), took[took.len() - 1].as_millis());
    println!(
        "\nWith {STREAMS} open streams the page server holds {} MiB and the agent {} MiB; a change is on all of them \
         after {median} ms, the longest of {CHANGES} times {longest} ms.",
        pages / 1024,
        agent / 1024
    );
}

async fn measure(
    name: &str,
    server: &Server,
    version: Version,
    questions: &[Question],
    lasts: Duration,
) -> (Figures, Figures) {
    let bytes = server.ask_once(&questions[0]).await.unwrap().body.len();
    // Once before it counts: caches, and connections between the programs.
    pace::flat_out(server, version, questions, CLIENTS, Duration::from_secs(1)).await;
    let steady = pace::steady(server, version, &questions[0], RATE, lasts).await;
    let flat_out = pace::flat_out(server, version, questions, CLIENTS, lasts).await;
    println!("| {name} | {} | {bytes} | {steady} | {flat_out} |", version.name());
    (steady, flat_out)
}
