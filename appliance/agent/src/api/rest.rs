//! What of a request nobody reads. Whoever is refused before their request was read is still sending it, and if the
//! connection ended under them they would see that, and not why they were refused.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, SizeHint};
use quantix_api::MAX_PIECE_BYTES;

/// Whoever is slower than this is cut off after all.
const LONGEST: Duration = Duration::from_secs(5);

/// A body of which the rest is taken in when it is dropped.
struct ReadToEnd(Body);

impl Drop for ReadToEnd {
    fn drop(&mut self) {
        if !self.0.is_end_stream() {
            let mut rest = Limited::new(std::mem::take(&mut self.0), MAX_PIECE_BYTES);
            let taken_in = async move { while let Some(Ok(_)) = rest.frame().await {} };
            tokio::spawn(tokio::time::timeout(LONGEST, taken_in));
        }
    }
}

impl HttpBody for ReadToEnd {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Takes in all of a request, up to the longest that there is, whatever is done with it.
pub(super) async fn read_to_end(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(ReadToEnd(body)))).await
}
