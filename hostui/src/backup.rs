//! The cluster's data as a file to keep elsewhere, and a host that begins again from one.

use askama::Template;
use axum::{
    body::Body,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use quantix_api::{
    CLIENT_ADDRESS_HEADER, CallError, MakeBackup, Problem, ProblemCode, Secret, calls, connection,
};
use serde::Deserialize;

use crate::{
    cluster::StartingPage,
    component::{Fault, Field},
    frame::Frame,
    problem::{Filled, Page, draw},
    session::turned_away,
    web::{ClientAddress, Web},
};

/// The longest problem that the agent describes.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

#[derive(Debug, Template)]
#[template(path = "cluster/backup.html")]
struct BackupPage {
    frame: Frame,
    problem: Option<Problem>,
}

#[derive(Debug, Template)]
#[template(path = "cluster/restore.html")]
struct RestorePage {
    frame: Frame,
    name: String,
    problem: Option<Problem>,
}

/// What a backup is made with.
#[derive(Debug, Deserialize)]
pub(crate) struct BackupForm {
    passphrase: Secret,
    again: Secret,
}

/// `GET /cluster/backup`
pub(crate) async fn make_page(frame: Frame) -> Response {
    draw(&BackupPage { frame, problem: None })
}

/// `POST /cluster/backup`: the file.
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<BackupForm>,
) -> Response {
    if form.passphrase != form.again {
        let differ = Problem::new(ProblemCode::Invalid, "The two passphrases differ.").in_field("again");
        return refused(Some(differ), |problem| draw(&BackupPage { frame, problem }));
    }
    let call = calls::backup(&MakeBackup { passphrase: form.passphrase });
    let request = match call.as_session(frame.token()).for_client(client.0).request() {
        Ok(request) => request.map(Body::from),
        Err(error) => return turned_away(&CallError::Broken(error.to_string())),
    };
    let answer = match web.agent.begin(request).await {
        Ok(answer) => answer,
        Err(error) => return turned_away(&error),
    };
    if !answer.status().is_success() {
        return match problem_of(answer).await {
            Ok(problem) => refused(Some(problem), |problem| draw(&BackupPage { frame, problem })),
            Err(error) => turned_away(&error),
        };
    }
    let name = format!("quantix-{}.age", Timestamp::now().strftime("%Y-%m-%d-%H%M"));
    let mut response = Response::new(Body::new(answer.into_body()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = format!("attachment; filename=\"{name}\"").parse() {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// `GET /cluster/restore`
pub(crate) async fn restore_page(State(web): State<Web>, frame: Frame) -> Response {
    confirm(&web, frame, None).await
}

async fn confirm(web: &Web, frame: Frame, problem: Option<Problem>) -> Response {
    match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => {
            let name = cluster.this_name().to_owned();
            refused(problem, |problem| draw(&RestorePage { frame, name, problem }))
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /cluster/restore`: the form goes to the agent as it comes.
pub(crate) async fn restore(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let mut passed = axum::http::Request::builder()
        .method(Method::POST)
        .uri(calls::RESTORE_PATH)
        .header(header::HOST, "agent")
        .header(header::AUTHORIZATION, format!("Bearer {}", frame.token().expose()))
        .header(CLIENT_ADDRESS_HEADER, client.0.to_string());
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        passed = passed.header(header::CONTENT_TYPE, kind);
    }
    let Ok(passed) = passed.body(request.into_body()) else {
        return Page::bad_form(StatusCode::BAD_REQUEST).into_response();
    };
    match web.agent.begin(passed).await {
        Ok(answer) if answer.status().is_success() => draw(&StartingPage {
            title: "This host begins again from the backup",
            sentence: "It starts again. Then sign in with a password of the backup’s time.",
        }),
        Ok(answer) => match problem_of(answer).await {
            Ok(problem) => confirm(&web, frame, Some(problem)).await,
            Err(error) => turned_away(&error),
        },
        Err(error) => turned_away(&error),
    }
}

/// What the agent said, unless it asks for a new sign-in.
async fn problem_of(answer: axum::http::Response<connection::Arriving>) -> Result<Problem, CallError> {
    let answer = connection::collect(answer, MAX_PROBLEM_BYTES).await?;
    let problem: Problem = serde_json::from_slice(answer.body()).map_err(connection::Broken::from)?;
    match problem.code {
        ProblemCode::SignInNeeded | ProblemCode::PasswordChangeNeeded => Err(problem.into()),
        _ => Ok(problem),
    }
}

/// A page that says what is wrong has the status that goes with it.
fn refused(problem: Option<Problem>, page: impl FnOnce(Option<Problem>) -> Response) -> Response {
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, page(problem)).into_response()
}
