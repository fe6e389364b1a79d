//! Where the audit log is sent.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, Problem, ProblemCode, SetSyslog, Syslog, Tried, calls};
use serde::Deserialize;

use crate::{
    component::{Fault, Field, Level, Post},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

const PATH: &str = "/settings/syslog";

#[derive(Debug, Template)]
#[template(path = "settings/syslog.html")]
struct SyslogPage {
    frame: Frame,
    set: Syslog,
    /// What is in the form.
    address: String,
    on: bool,
    tried: Option<Tried>,
    problem: Option<Problem>,
}

/// `GET /settings/syslog`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, None, None, None).await
}

async fn show(
    web: &Web,
    frame: Frame,
    form: Option<SyslogForm>,
    tried: Option<Tried>,
    problem: Option<Problem>,
) -> Response {
    let set = match web.agent.call(&calls::syslog().as_session(frame.token())).await {
        Ok(set) => set,
        Err(error) => return turned_away(&error),
    };
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let (address, on) = match form {
        Some(form) => (form.address, form.on.is_some()),
        // Whoever comes here for the first time comes to turn it on.
        None => (set.address.clone(), set.on || set.version == 0),
    };
    (status, draw(&SyslogPage { frame, set, address, on, tried, problem })).into_response()
}

/// What is set.
#[derive(Debug, Deserialize)]
pub(crate) struct SyslogForm {
    #[serde(default)]
    address: String,
    #[serde(default)]
    certificate: String,
    on: Option<String>,
    version: Option<u64>,
}

/// `POST /settings/syslog`
pub(crate) async fn save(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<SyslogForm>,
) -> Response {
    let set = SetSyslog {
        on: form.on.is_some(),
        address: form.address.clone(),
        certificate: form.certificate.clone(),
    };
    let call = calls::set_syslog(&set).as_session(frame.token()).for_client(client.0);
    let call = match form.version {
        Some(seen) => call.if_version(seen),
        None => call,
    };
    match web.agent.call(&call).await {
        Ok(set) if set.on => done(PATH, &format!("What is done from now on is sent to {}.", set.address)),
        Ok(_) => done(PATH, "Saved. Nothing is sent."),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::ChangedMeanwhile) =>
        {
            show(&web, frame, Some(form), None, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/syslog/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(deed): Path<String>,
) -> Response {
    match deed.as_str() {
        "test" => {
            let test = calls::test_syslog().as_session(frame.token()).for_client(client.0);
            match web.agent.call(&test).await {
                Ok(tried) => show(&web, frame, None, Some(tried), None).await,
                Err(error) => turned_away(&error),
            }
        }
        "remove" => {
            let remove = calls::remove_syslog().as_session(frame.token()).for_client(client.0);
            match web.agent.call(&remove).await {
                Ok(()) => done(PATH, "The receiver is forgotten."),
                Err(error) => turned_away(&error),
            }
        }
        _ => Page::not_found().into_response(),
    }
}
