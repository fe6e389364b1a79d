//! What the page server is told and nobody else: the certificate with its key, and what authorities ask for. It is not
//! below `/api/v1`, which the page server passes on for everybody; and what is asked on behalf of somebody is refused.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use quantix_api::{Problem, ProblemCode, ToShow};
use tokio::sync::watch;

use super::{Agent, answer::Failure, peer::PageServer};

/// `GET /pages/v1/certificate`: how it is, and every change, a line of JSON each, until the agent ends.
pub(crate) async fn certificate(State(agent): State<Arc<Agent>>, _: PageServer) -> Result<Response, Failure> {
    let seen = agent.certificates.watch();
    if seen.borrow().is_none() {
        let sentence = "The host has no certificate for the pages, or is about to start again.";
        return Err(Problem::new(ProblemCode::Unavailable, sentence).retry_after(1).into());
    }
    let mut response = Body::new(Told(Some(Box::pin(next(seen, true))))).into_response();
    let kind = HeaderValue::from_static("application/jsonl");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

type Next = Pin<Box<dyn Future<Output = Option<(watch::Receiver<Option<ToShow>>, Bytes)>> + Send>>;

/// The lines as a body.
struct Told(Option<Next>);

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(waiting) = &mut self.0 else { return Poll::Ready(None) };
        match waiting.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.0 = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((seen, line))) => {
                self.0 = Some(Box::pin(next(seen, false)));
                Poll::Ready(Some(Ok(Frame::data(line))))
            }
        }
    }
}

async fn next(
    mut seen: watch::Receiver<Option<ToShow>>,
    is_first: bool,
) -> Option<(watch::Receiver<Option<ToShow>>, Bytes)> {
    if !is_first {
        seen.changed().await.ok()?;
    }
    let line = {
        let shown = seen.borrow_and_update();
        let mut line = serde_json::to_vec(shown.as_ref()?).ok()?;
        line.push(b'\n');
        line
    };
    Some((seen, line.into()))
}
