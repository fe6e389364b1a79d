//! Bodies in and out: JSON that is read strictly, and problems as RFC 9457 documents.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Json,
    body::{Bytes, HttpBody},
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use quantix_api::{MAX_BODY_BYTES, Problem, ProblemCode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.0.code.status(), Json(&self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Whether a body is announced as larger than any may be; such a one is not waited for.
pub(crate) fn says_too_much(body: &axum::body::Body) -> bool {
    usize::try_from(body.size_hint().lower()).is_ok_and(|bytes| bytes > MAX_BODY_BYTES)
}

pub(crate) fn too_large() -> Problem {
    Problem::new(ProblemCode::TooLarge, format!("The request is larger than {MAX_BODY_BYTES} bytes."))
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if says_too_much(request.body()) {
            return Err(too_large().into());
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                too_large()
            } else {
                Problem::new(ProblemCode::Malformed, "The request was cut short.")
            }
        })?;
        let unexpected = |place: &str| {
            let sentence = format!("The request is not what is expected here ({place}).");
            Failure::from(Problem::new(ProblemCode::Malformed, sentence))
        };
        // serde would take a list of values for an object with these values.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(unexpected("it is no object"));
        }
        // serde's message may quote a value, and the value may be a password: only the place is told.
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| unexpected(&format!("line {}, column {}", error.line(), error.column())))
    }
}

/// What axum refuses before anything of ours is asked, a number that is none in an address for example, is refused in
/// the way of all others.
pub(crate) async fn refused_alike(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_text || response.status() != StatusCode::BAD_REQUEST {
        return response;
    }
    Failure(Problem::new(ProblemCode::Malformed, "The request cannot be read.")).into_response()
}

/// What stands in the address behind the question mark.
#[derive(Debug)]
pub(crate) struct Queried<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Queried<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                Err(Problem::new(ProblemCode::Invalid, format!("{}.", rejection.body_text())).into())
            }
        }
    }
}

/// Something long as a body, a part at a time.
#[derive(Debug)]
pub(crate) struct Leaving(pub(crate) mpsc::Receiver<io::Result<Bytes>>);

impl IntoResponse for Leaving {
    fn into_response(self) -> Response {
        axum::body::Body::new(self).into_response()
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
