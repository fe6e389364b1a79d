//! Pages that stay open and hear what changes: many streams of events, and how long until a change is on all of them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use crate::wire::{Question, Server, Version};

/// One address of this machine has so many of them; the page server does not let one address have all its places.
const FROM_ONE_ADDRESS: usize = 100;
const LONGEST: Duration = Duration::from_secs(10);

/// Open streams.
#[derive(Debug)]
pub struct Streams {
    all: JoinSet<()>,
    /// What each has told of.
    heard: Vec<Arc<AtomicUsize>>,
}

impl Streams {
    /// Opens so many, each on a connection of its own, as so many browsers would, and as one person after the other: each
    /// may have a few.
    pub async fn open(server: &Server, questions: &[Question], number: usize) -> Self {
        let mut heard = Vec::new();
        let mut all = JoinSet::new();
        for turn in 0..number {
            let last = u8::try_from(turn / FROM_ONE_ADDRESS + 1).unwrap();
            let mut connection =
                server.connect(Version::Http1, IpAddr::from([127, 0, 0, last])).await.unwrap();
            let question = &questions[turn % questions.len()];
            let response = connection.begin(server, question).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "stream {turn}");
            let (mut body, told) = (response.into_body(), Arc::new(AtomicUsize::new(0)));
            heard.push(Arc::clone(&told));
            all.spawn(async move {
                // The connection is the stream's as long as the stream lasts.
                let _connection = connection;
                while let Some(Ok(frame)) = body.frame().await {
                    let said = frame.into_data().unwrap_or_default();
                    // A line with a colon alone keeps the connection and says nothing.
                    if said.windows(5).any(|bytes| bytes == b"data:") {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Self { all, heard }
    }

    /// How long it takes from the begin of a change until every stream has told of it.
    pub async fn until_all_hear(&self, change: impl Future<Output = ()>) -> Duration {
        let told = || self.heard.iter().map(|told| told.load(Ordering::Relaxed));
        let (before, begun): (Vec<_>, _) = (told().collect(), Instant::now());
        change.await;
        while told().zip(&before).any(|(now, before)| now == *before) {
            assert!(begun.elapsed() < LONGEST, "a stream did not hear of a change");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed();
        // What else came with it is not counted as the next change.
        tokio::time::sleep(Duration::from_millis(500)).await;
        took
    }

    /// Whether none has ended.
    pub fn are_open(&mut self) -> bool {
        self.all.try_join_next().is_none()
    }
}
