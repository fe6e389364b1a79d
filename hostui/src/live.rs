//! What pages listen to: the agent's stream of changes in the session of whoever reads, gathered so that a storm of
//! changes is a few events a second for a page. The agent decides what somebody may hear; a page hears only of which
//! kind it was, and asks for what it shows.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Extension, RawQuery, State},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame};
use quantix_api::{CLIENT_ADDRESS_HEADER, Secret, calls, connection::Arriving};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    session::SignedIn,
    web::{ClientAddress, Web},
};

/// A page hears of each kind of object no more often.
const APART: Duration = Duration::from_millis(100);
/// Pages that listen at this host.
const LISTENERS: usize = 800;
/// Without any word from the agent for so long, it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// A page that takes nothing for so long is let go.
const TAKES_WITHIN: Duration = Duration::from_secs(20);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// What is on its way to a page.
const ON_THE_WAY: usize = 4;
/// One event of the agent's is never longer.
const LONGEST: usize = 64 * 1024;
/// Objects of a kind that are named; with more, it may be any of them.
const MOST_NAMED: usize = 20;
const LAST_EVENT_ID: &str = "last-event-id";

static PLACES: Semaphore = Semaphore::const_new(LISTENERS);

/// The text of a stream, and the place it holds.
struct Text {
    pieces: mpsc::Receiver<Bytes>,
    _place: SemaphorePermit<'static>,
}

impl HttpBody for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// What a page knows already: what it heard last, or what was in the data when it was drawn.
fn after(headers: &HeaderMap, query: Option<&str>) -> Option<HeaderValue> {
    let heard = headers.get(LAST_EVENT_ID).cloned();
    heard.or_else(|| {
        let drawn = query?.strip_prefix("after=")?;
        let is_number = !drawn.is_empty() && drawn.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| HeaderValue::from_str(drawn).ok()).flatten()
    })
}

/// `GET /live?after=…`
pub(crate) async fn stream(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    SignedIn(token): SignedIn,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = PLACES.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")]).into_response();
    };
    let answer = match begin(&web, client, &token, after(&headers, query.as_deref())).await {
        Ok(answer) => answer,
        Err(error) => {
            log::warn!("Changes cannot be told to a page: {error}");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    if !answer.status().is_success() {
        // A browser that is told so does not come back by itself.
        return answer.status().into_response();
    }
    let (sender, pieces) = mpsc::channel(ON_THE_WAY);
    tokio::spawn(pass_on(answer.into_body(), sender));
    let mut response = Body::new(Text { pieces, _place: place }).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn begin(
    web: &Web,
    client: ClientAddress,
    token: &Secret,
    after: Option<HeaderValue>,
) -> Result<axum::http::Response<Arriving>, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::builder()
        .uri(calls::CHANGES_PATH)
        .header(header::HOST, "agent")
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
        .header(CLIENT_ADDRESS_HEADER, client.0.to_string());
    if let Some(after) = after {
        request = request.header(LAST_EVENT_ID, after);
    }
    let request = request.body(Full::new(Bytes::new()))?;
    Ok(timeout(ANSWERS_WITHIN, web.agent.begin(request)).await??)
}

async fn pass_on(mut changes: Arriving, to: mpsc::Sender<Bytes>) {
    let mut gathered = Gathered::default();
    let mut text = Vec::new();
    let mut heard = Instant::now();
    loop {
        let due = gathered.due(Instant::now());
        let more = tokio::select! {
            frame = changes.frame() => match frame {
                Some(Ok(frame)) => frame.into_data().ok(),
                // What has been gathered is still told.
                _ => None,
            },
            () = sleep_until(due.unwrap_or(heard + SILENCE)) => Some(Bytes::new()),
            () = to.closed() => return,
        };
        let has_ended = more.is_none();
        if let Some(more) = more.filter(|more| !more.is_empty()) {
            heard = Instant::now();
            text.extend_from_slice(&more);
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                gathered.take(&String::from_utf8_lossy(&text[..end]));
                text.drain(..end + 2);
            }
        }
        let told = gathered.tell(Instant::now(), has_ended);
        if !told.is_empty() && !matches!(timeout(TAKES_WITHIN, to.send(told.into())).await, Ok(Ok(()))) {
            return;
        }
        if has_ended || text.len() > LONGEST || heard.elapsed() > SILENCE {
            return;
        }
    }
}

/// What a page has not been told yet.
#[derive(Debug, Default)]
struct Gathered {
    waiting: BTreeMap<String, Vec<String>>,
    told: BTreeMap<String, Instant>,
    /// Where the page is once all that waits is told.
    id: Option<String>,
    /// What goes on as it came: silence that is broken.
    beat: bool,
}

impl Gathered {
    /// Takes in an event of the agent's.
    fn take(&mut self, event: &str) {
        let (mut kind, mut data) = ("", "");
        for line in event.lines() {
            match line.split_once(": ") {
                Some(("event", name)) => kind = name,
                Some(("data", text)) => data = text,
                Some(("id", id)) => self.id = Some(id.to_owned()),
                _ => {}
            }
        }
        match kind {
            "" => self.beat = true,
            "resync" => {
                for kind in KINDS {
                    self.waiting.insert((*kind).to_owned(), vec![String::new(); MOST_NAMED + 1]);
                }
            }
            kind => {
                let named: Option<quantix_api::Change> = serde_json::from_str(data).ok();
                let keys = self.waiting.entry(kind.to_owned()).or_default();
                let key = named.map(|named| named.key).unwrap_or_default();
                if keys.len() <= MOST_NAMED && !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
    }

    /// When the next of what waits may be told.
    fn due(&self, now: Instant) -> Option<Instant> {
        self.waiting.keys().map(|kind| self.told.get(kind).map_or(now, |told| *told + APART)).min()
    }

    /// What may be told now, as the text of events.
    fn tell(&mut self, now: Instant, all: bool) -> String {
        let may = |told: &BTreeMap<String, Instant>, kind: &str| {
            all || told.get(kind).is_none_or(|told| *told + APART <= now)
        };
        let mut text = String::new();
        let ready: Vec<_> = self.waiting.keys().filter(|kind| may(&self.told, kind)).cloned().collect();
        for kind in ready {
            let keys = self.waiting.remove(&kind).unwrap_or_default();
            let keys = if keys.len() > MOST_NAMED { "*".to_owned() } else { keys.join(",") };
            text.push_str(&format!("event: {kind}\ndata: {keys}\n\n"));
            self.told.insert(kind, now);
        }
        // Whoever breaks off while something waits is told it again.
        if (self.beat || !text.is_empty())
            && self.waiting.is_empty()
            && let Some(id) = &self.id
        {
            text.push_str(&format!("id: {id}\n\n"));
            self.beat = false;
        }
        text
    }
}

/// All kinds of objects that pages show.
const KINDS: &[&str] = &[
    "host", "cluster", "vm", "folder", "pool", "volume", "image", "task", "event", "user", "session",
    "settings", "audit",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: &str, key: &str, id: u64) -> String {
        format!("event: {kind}\ndata: {{\"key\":\"{key}\",\"operation\":\"changed\"}}\nid: {id}")
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_together() {
        let (mut gathered, now) = (Gathered::default(), Instant::now());
        gathered.take(&change("task", "7", 1));
        assert_eq!(gathered.tell(now, false), "event: task\ndata: 7\n\nid: 1\n\n");
        for id in 2..50 {
            gathered.take(&change("task", &(id % 3).to_string(), id));
            // Nothing more of this kind, and no id that would skip it.
            assert_eq!(gathered.tell(now, false), "");
        }
        gathered.take(&change("host", "a1", 50));
        assert_eq!(gathered.tell(now, false), "event: host\ndata: a1\n\n");
        assert_eq!(gathered.due(now), Some(now + APART));
        let now = now + APART;
        assert_eq!(gathered.tell(now, false), "event: task\ndata: 2,0,1\n\nid: 50\n\n");
        assert_eq!(gathered.due(now), None);
    }

    #[test]
    fn many_objects_of_a_kind_are_any_of_them() {
        let mut gathered = Gathered::default();
        for id in 0..1000 {
            gathered.take(&change("task", &id.to_string(), id));
        }
        assert!(gathered.waiting["task"].len() <= MOST_NAMED + 1);
        assert_eq!(gathered.tell(Instant::now(), false), "event: task\ndata: *\n\nid: 999\n\n");
        gathered.take("event: resync\ndata: {}\nid: 2000");
        let told = gathered.tell(Instant::now() + APART, false);
        assert_eq!(told.matches("data: *").count(), KINDS.len());
    }

    #[test]
    fn a_heartbeat_goes_on_and_the_end_of_a_session_as_well() {
        let mut gathered = Gathered::default();
        gathered.take(": \nid: 12");
        assert_eq!(gathered.tell(Instant::now(), false), "id: 12\n\n");
        gathered.take("event: end\ndata: {}");
        assert_eq!(gathered.tell(Instant::now(), true), "event: end\ndata: \n\nid: 12\n\n");
    }

    #[test]
    fn a_page_hears_what_happened_since_it_was_drawn() {
        let none = HeaderMap::new();
        let heard =
            HeaderMap::from_iter([(header::HeaderName::from_static(LAST_EVENT_ID), "9".parse().unwrap())]);
        assert_eq!(after(&none, Some("after=7")).unwrap(), "7");
        assert_eq!(after(&heard, Some("after=7")).unwrap(), "9");
        for strange in [None, Some(""), Some("after="), Some("after=7%0d%0a"), Some("after=-1")] {
            assert_eq!(after(&none, strange), None);
        }
    }

    #[test]
    fn whatever_comes_is_no_more_than_text() {
        let mut gathered = Gathered::default();
        for strange in ["", "event", "event: ", "data: {", "event: task\ndata: <script>", "id: \u{202e}"] {
            gathered.take(strange);
        }
        let told = gathered.tell(Instant::now(), true);
        assert!(!told.contains("<script>"), "{told}");
    }
}
