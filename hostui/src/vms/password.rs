//! The form that gives a user of a guest another password.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, Problem, ProblemCode, Secret, SetGuestPassword, Vm, calls};
use serde::Deserialize;

use super::machine_of;
use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::{Filled, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

#[derive(Debug, Template)]
#[template(path = "vms/password.html")]
struct PasswordPage {
    frame: Frame,
    vm: Vm,
    user: String,
    problem: Option<Problem>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct PasswordForm {
    user: String,
    password: String,
    again: String,
}

async fn show(web: &Web, frame: Frame, id: &str, filled: Option<(String, Problem)>) -> Response {
    let vm = match machine_of(web, &frame, id).await {
        Ok(vm) => vm,
        Err(answer) => return answer,
    };
    let status = filled.as_ref().map(|(_, problem)| problem.code.status()).unwrap_or_default();
    let (user, problem) = match filled {
        Some((user, problem)) => (user, Some(problem)),
        None => (vm.user.clone(), None),
    };
    (status, draw(&PasswordPage { frame, vm, user, problem })).into_response()
}

/// `GET /vms/{id}/password`
pub(crate) async fn password_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    show(&web, frame, &id, None).await
}

/// `POST /vms/{id}/password`
pub(crate) async fn set_password(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<PasswordForm>,
) -> Response {
    if form.password != form.again {
        let problem = Problem::new(ProblemCode::Invalid, "These two are not the same.").in_field("again");
        return show(&web, frame, &id, Some((form.user, problem))).await;
    }
    let body = SetGuestPassword { user: form.user.trim().to_owned(), password: Secret::new(&form.password) };
    let call = calls::set_guest_password(&id, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(()) => done(&format!("/vms/{id}"), &format!("{} has another password in the guest.", body.user)),
        Err(CallError::Problem(problem))
            if is_told(&problem)
                || matches!(
                    problem.code,
                    ProblemCode::VmNotRunning | ProblemCode::HostUnreachable | ProblemCode::Unavailable
                ) =>
        {
            show(&web, frame, &id, Some((form.user, problem))).await
        }
        Err(error) => turned_away(&error),
    }
}
