//! The API for programs: what is asked below `/api/v1` goes to the agent as it is, and its answer back. The agent
//! decides; a session in a cookie is for pages and counts for nothing here.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Json,
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Extension, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use quantix_api::{
    ANSWERED_HEADERS, ASKED_HEADERS, CLIENT_ADDRESS_HEADER, Call, CallError, MAX_BODY_BYTES, Problem,
    ProblemCode, calls,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::web::{ClientAddress, Web};

/// So much of a long body is passed on at once.
const TOGETHER: usize = 128 * 1024;

/// `/api/v1/…`. The agent takes in the rest of a body that it answers before its end, but no more than the longest that there
/// is: what is too long is refused here, or its sender would be cut off, and the answer with it.
pub(crate) async fn pass_on(web: State<Web>, client: Extension<ClientAddress>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => stream(web, client, Request::from_parts(parts, body.into())).await,
        Err(_) => {
            let sentence = format!("The request is larger than {MAX_BODY_BYTES} bytes, or was cut short.");
            refuse(&Problem::new(ProblemCode::TooLarge, sentence))
        }
    }
}

/// `GET /metrics`: what the API has for Prometheus, where Prometheus looks for it. It is asked with a token for programs.
pub(crate) async fn counters(
    web: State<Web>,
    client: Extension<ClientAddress>,
    mut request: Request,
) -> Response {
    *request.uri_mut() = axum::http::Uri::from_static(calls::COUNTERS_PATH);
    stream(web, client, request).await
}

/// The same with a body of any length, as it comes.
pub(crate) async fn stream(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let address = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let mut passed =
        axum::http::Request::builder().method(parts.method).uri(address).header(header::HOST, "agent");
    for name in ASKED_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            passed = passed.header(name, value);
        }
    }
    let passed = passed.header(CLIENT_ADDRESS_HEADER, client.0.to_string()).body(gathered(body));
    match passed {
        Ok(passed) => answer(&web, passed).await,
        Err(_) => refuse(&Problem::new(ProblemCode::Malformed, "The request cannot be passed on.")),
    }
}

/// A body in parts that are worth passing on: each costs whoever sends it and whoever waits for it as much, be it long or short.
pub(crate) fn gathered(body: Body) -> Body {
    Body::new(Gathered { coming: body, held: Vec::new(), ended: None })
}

struct Gathered {
    coming: Body,
    held: Vec<u8>,
    /// How it ended, once nothing more comes.
    ended: Option<Result<(), axum::Error>>,
}

impl HttpBody for Gathered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.ended.is_none() && self.held.len() < TOGETHER {
            match ready!(Pin::new(&mut self.coming).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(part) = frame.into_data() {
                        if self.held.is_empty() {
                            let left = usize::try_from(self.coming.size_hint().lower()).unwrap_or(TOGETHER);
                            self.held.reserve(part.len() + left.min(TOGETHER));
                        }
                        self.held.extend_from_slice(&part);
                    }
                }
                Some(Err(error)) => self.ended = Some(Err(error)),
                None => self.ended = Some(Ok(())),
            }
        }
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.held).into()))));
        }
        Poll::Ready(match self.ended.replace(Ok(())) {
            Some(Err(error)) => Some(Err(error)),
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.coming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.coming.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.held.len() as u64),
            None => SizeHint::default(),
        }
    }
}

/// What the agent answers to a request, as it comes.
pub(crate) async fn answer(web: &Web, request: axum::http::Request<Body>) -> Response {
    match web.agent.begin(request).await {
        Ok(answer) => {
            // What is between this program and the agent is not between it and the client.
            let (parts, body) = answer.into_parts();
            let mut response = Response::new(Body::new(body));
            *response.status_mut() = parts.status;
            for name in ANSWERED_HEADERS {
                if let Some(value) = parts.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response
        }
        Err(error) => {
            log::warn!("A request could not be passed on: {error}");
            refuse(
                &Problem::new(ProblemCode::Unavailable, "The agent on this host does not answer.")
                    .retry_after(2),
            )
        }
    }
}

pub(crate) fn refuse(problem: &Problem) -> Response {
    let mut response = (problem.code.status(), Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
    response
}

/// An answer to a script: what was asked for, or a sentence.
pub(crate) async fn told<T: Serialize + DeserializeOwned>(web: &Web, call: Call<T>) -> Response {
    match web.agent.call(&call).await {
        Ok(answer) => Json(answer).into_response(),
        Err(CallError::Problem(problem)) => (problem.code.status(), problem.detail).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
