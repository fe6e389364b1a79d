//! The API for programs: what is asked below `/api/v1` goes to the agent as it is, and its answer back. The agent
//! decides; a session in a cookie is for pages and counts for nothing here.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Extension, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited};
use quantix_api::{
    ANSWERED_HEADERS, ASKED_HEADERS, CLIENT_ADDRESS_HEADER, Call, CallError, MAX_BODY_BYTES, MAX_PIECE_BYTES,
    Problem, ProblemCode, calls, connection::Arriving, pieces::Answered,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::web::{ClientAddress, Web};

/// Whoever takes longer to send what nobody reads is cut off.
const LONGEST_REST: Duration = Duration::from_secs(5);

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
    let (asked, body) = passed(client, request);
    match asked {
        Ok(asked) => answer(&web, asked.map(|()| body)).await,
        Err(_) => refuse(&Problem::new(ProblemCode::Malformed, "The request cannot be passed on.")),
    }
}

/// What the agent is asked when this is asked here, and what comes with it.
fn passed(
    client: ClientAddress,
    request: Request,
) -> (Result<axum::http::Request<()>, axum::http::Error>, Body) {
    let (parts, body) = request.into_parts();
    let address = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let mut passed =
        axum::http::Request::builder().method(parts.method).uri(address).header(header::HOST, "agent");
    for name in ASKED_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            passed = passed.header(name, value);
        }
    }
    (passed.header(CLIENT_ADDRESS_HEADER, client.0.to_string()).body(()), body)
}

/// `/api/v1/images/{image}/content`: a piece of a file is written here, to where the agent says.
pub(crate) async fn content(web: State<Web>, client: Extension<ClientAddress>, request: Request) -> Response {
    if request.method() != Method::PUT {
        return stream(web, client, request).await;
    }
    let (asked, body) = passed(client.0, request);
    match asked {
        Ok(asked) => piece(&web, asked, body).await,
        Err(_) => refuse(&Problem::new(ProblemCode::Malformed, "The request cannot be passed on.")),
    }
}

/// A piece of a file that is asked for, and what comes of it.
pub(crate) async fn piece(web: &Web, asked: axum::http::Request<()>, mut body: Body) -> Response {
    let answer = match web.agent.ask_for_file(asked).await {
        Ok(Answered::Given(given)) => match given.fill(&mut body).await {
            Ok((status, told)) => {
                let kind = if status.is_success() { "application/json" } else { Problem::CONTENT_TYPE };
                (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], told).into_response()
            }
            Err(error) => no_answer(&error),
        },
        Ok(Answered::Otherwise(answer)) => as_it_comes(answer),
        Err(error) => no_answer(&error),
    };
    if !answer.status().is_success() {
        // Whoever is refused is still sending, and hears of it when they are done.
        let mut rest = Limited::new(body, MAX_PIECE_BYTES);
        let taken_in = async { while let Some(Ok(_)) = rest.frame().await {} };
        drop(timeout(LONGEST_REST, taken_in).await);
    }
    answer
}

/// What the agent answers to a request, as it comes.
pub(crate) async fn answer(web: &Web, request: axum::http::Request<Body>) -> Response {
    match web.agent.begin(request).await {
        Ok(answer) => as_it_comes(answer),
        Err(error) => no_answer(&error),
    }
}

fn as_it_comes(answer: axum::http::Response<Arriving>) -> Response {
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

fn no_answer(error: &dyn std::fmt::Display) -> Response {
    log::warn!("A request could not be passed on: {error}");
    let sentence = "The agent on this host does not answer.";
    refuse(&Problem::new(ProblemCode::Unavailable, sentence).retry_after(2))
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
