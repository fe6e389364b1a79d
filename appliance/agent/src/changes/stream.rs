//! One listener: what it may hear, until it is gone, too slow, or no longer who it was.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use quantix_api::Held;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep_until, timeout},
};

use super::{Batch, Seat, What};
use crate::{api::Agent, sessions::TokenHash};

/// Silence is broken this often, so that both ends know that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A listener that takes nothing for so long is let go.
const TAKES_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether the session is still open, beside when something touches it.
const LOOK: Duration = Duration::from_secs(30);
/// What is on its way to a listener.
const ON_THE_WAY: usize = 8;

/// Who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) session: TokenHash,
    pub(crate) username: String,
    /// Whether a program listens, with a token.
    pub(crate) is_program: bool,
    pub(crate) rights: Vec<Held>,
}

/// The text of a stream.
pub(crate) struct Text(mpsc::Receiver<Bytes>);

impl HttpBody for Text {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

/// Begins to tell somebody what changes, after an entry of the log if they have heard before. Nothing if too many
/// listen already.
pub(crate) fn listen(agent: &Arc<Agent>, listener: Listener, after: Option<u64>) -> Option<Text> {
    let seat = agent.changes.seat(listener.session)?;
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    tokio::spawn(tell(Arc::clone(agent), listener, after, sender, seat));
    Some(Text(receiver))
}

async fn tell(
    agent: Arc<Agent>,
    listener: Listener,
    after: Option<u64>,
    to: mpsc::Sender<Bytes>,
    _seat: Seat,
) {
    let mut ends = agent.changes.ends.subscribe();
    let (mut batches, missed, must_resync, index) = agent.changes.subscribe(after);
    let mut index = after.unwrap_or(index).max(index);
    let mut heard = missed.last().map(|batch| batch.number);
    let mut begin = format!(": changes\nretry: 2000\nid: {index}\n\n");
    if must_resync {
        begin.push_str(&resync(index));
    }
    for batch in &missed {
        begin.push_str(&listener.hears(batch));
    }
    if !send(&to, begin.into()).await {
        return;
    }
    let mut heartbeat = Instant::now() + HEARTBEAT;
    // It may have changed since whoever asked was let in.
    let mut look = Instant::now();
    loop {
        let (text, must_look) = tokio::select! {
            batch = batches.recv() => match batch {
                Ok(batch) if heard.is_some_and(|heard| batch.number <= heard) => continue,
                Ok(batch) => {
                    heard = Some(batch.number);
                    index = batch.index.unwrap_or(index);
                    (listener.hears(&batch), listener.is_touched(&batch))
                }
                // Too far behind: it comes back and is told from where it was.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return,
            },
            () = sleep_until(heartbeat) => (format!(": \nid: {index}\n\n"), false),
            () = sleep_until(look) => (String::new(), true),
            _ = ends.changed() => return,
            () = to.closed() => return,
        };
        if must_look {
            look = Instant::now() + LOOK;
            if !agent.may_still_listen(&listener).await {
                send(&to, Bytes::from_static(b"event: end\ndata: {}\n\n")).await;
                return;
            }
        }
        if !text.is_empty() {
            heartbeat = Instant::now() + HEARTBEAT;
            if !send(&to, text.into()).await {
                return;
            }
        }
    }
}

async fn send(to: &mpsc::Sender<Bytes>, text: Bytes) -> bool {
    matches!(timeout(TAKES_WITHIN, to.send(text)).await, Ok(Ok(())))
}

fn resync(index: u64) -> String {
    format!("event: resync\ndata: {{}}\nid: {index}\n\n")
}

impl Listener {
    /// What of a batch this listener may hear. Only the last event of it names the entry: whoever breaks off in between
    /// is told all of it again.
    fn hears(&self, batch: &Batch) -> String {
        let told = match &batch.what {
            What::Resync => return resync(batch.index.unwrap_or_default()),
            What::Told(told) => told,
        };
        let mut text = String::new();
        for (told, its_text) in told {
            if told.is_for(&self.username, &self.rights) {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(its_text);
            }
        }
        if text.is_empty() {
            return text;
        }
        if let Some(index) = batch.index {
            text.push_str(&format!("id: {index}\n"));
        }
        text.push('\n');
        text
    }

    /// Whether who it is may be different now.
    fn is_touched(&self, batch: &Batch) -> bool {
        let touches = &batch.touches;
        touches.everybody
            || touches.sessions.contains(&self.session)
            || touches.people.contains(&self.username)
    }
}
