//! Two ways to ask: at a pace of one's own, whatever the server does, and as fast as the answers come.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::StatusCode;
use tokio::{runtime::Handle, sync::Semaphore, task::JoinSet};

use crate::{
    figures::Figures,
    wire::{Connection, Question, Server, Version},
};

/// How people's browsers come: so many connections, from this machine.
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

async fn connections(server: &Server, version: Version, number: usize) -> Vec<Connection> {
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(server.connect(version, HOME).await.unwrap());
    }
    all
}

/// Asks `rate` times a second for as long as `lasts`. A request counts from the moment it was due: one that had to
/// wait for a connection, or for the server to take the one before it, has waited, and that is what people feel.
pub async fn steady(
    server: &Server,
    version: Version,
    question: &Question,
    rate: u32,
    lasts: Duration,
) -> Figures {
    let number = match version {
        Version::Http1 => 32,
        Version::Http2 => 8,
    };
    let free = Arc::new(Mutex::new(connections(server, version, number).await));
    let places = Arc::new(Semaphore::new(number));
    let took = Arc::new(Mutex::new(Vec::new()));
    let runtime = Handle::current();
    let all = rate * u32::try_from(lasts.as_secs()).unwrap();
    let (server, question) = (Arc::new(server.clone()), Arc::new(question.clone()));
    let (sent, collected) = (Arc::clone(&took), tokio::sync::oneshot::channel());
    // A thread of its own: the runtime's clock ticks in milliseconds, and may be late when it is busy.
    std::thread::spawn(move || {
        let start = Instant::now() + Duration::from_millis(50);
        let mut under_way = Vec::new();
        for number in 0..all {
            let due = start + Duration::from_secs(1) * number / rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (server, question, sent) = (Arc::clone(&server), Arc::clone(&question), Arc::clone(&sent));
            let (free, places) = (Arc::clone(&free), Arc::clone(&places));
            under_way.push(runtime.spawn(async move {
                let _place = match version {
                    Version::Http1 => Some(places.acquire_owned().await.unwrap()),
                    Version::Http2 => None,
                };
                let mut connection = {
                    let mut free = free.lock().unwrap();
                    let turn = number as usize % free.len().max(1);
                    free.get(turn).and_then(Connection::again).unwrap_or_else(|| free.pop().unwrap())
                };
                ask(&mut connection, &server, &question).await;
                sent.lock().unwrap().push(due.elapsed());
                if version == Version::Http1 {
                    free.lock().unwrap().push(connection);
                }
            }));
        }
        drop(collected.0.send(under_way));
    });
    for task in collected.1.await.unwrap() {
        task.await.unwrap();
    }
    let took = std::mem::take(&mut *took.lock().unwrap());
    Figures::of(took, lasts)
}

/// Asks from so many connections at once, on each as soon as the answer before is there. They share the questions out:
/// one person alone would be told to ask more slowly.
pub async fn flat_out(
    server: &Server,
    version: Version,
    questions: &[Question],
    clients: usize,
    lasts: Duration,
) -> Figures {
    let mut all = JoinSet::new();
    let ready = connections(server, version, clients).await;
    let start = Instant::now();
    for (mut connection, question) in ready.into_iter().zip(questions.iter().cycle()) {
        let (server, question) = (server.clone(), question.clone());
        all.spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < lasts {
                let begun = Instant::now();
                ask(&mut connection, &server, &question).await;
                took.push(begun.elapsed());
            }
            took
        });
    }
    let took = all.join_all().await.concat();
    Figures::of(took, start.elapsed())
}

async fn ask(connection: &mut Connection, server: &Server, question: &Question) {
    let answer = connection.ask(server, question).await.unwrap();
    assert!(answer.status == StatusCode::OK, "{}: {}", question.path, answer.status);
}
