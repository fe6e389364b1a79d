//! What the agents in the guests of virtual machines do when they are asked.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use quantix_api::{Problem, ProblemCode, SetGuestPassword, text::is_line};
use quantix_compute::Failed;
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
    vms::named,
};
use crate::vms::{console::is_off, kept};

const LONGEST_USER: usize = 64;
const LONGEST_PASSWORD: usize = 256;

fn check(asked: &SetGuestPassword) -> Result<(), Problem> {
    if asked.user.is_empty() || !is_line(&asked.user, LONGEST_USER) || asked.user.contains([':', ' ']) {
        let sentence = "Name a user of the guest, as in root or Administrator.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("user"));
    }
    let password = asked.password.expose();
    if password.is_empty() || !is_line(password, LONGEST_PASSWORD) {
        let sentence = format!("A password is one line of 1 to {LONGEST_PASSWORD} characters.");
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("password"));
    }
    Ok(())
}

/// Gives a user of a guest another password. The agent in the guest does so; nothing of it is kept.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/guest/password", tag = "virtual machines", params(("vm" = String, Path,)), request_body = SetGuestPassword, responses((status = 204), (status = 409, description = "It is off, or no agent answers in its guest."), (status = 503, description = "Its host does not answer.")))]
pub(crate) async fn set_password(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body<SetGuestPassword>,
) -> Result<Response, Failure> {
    check(&body)?;
    let vm = agent.found(move |connection: &Connection| kept::one(connection, &id)).await?;
    if vm.host != agent.cluster.store()?.id() {
        let body = serde_json::to_vec(&body)
            .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
        return Ok(agent.ask_its_host(&vm, Method::POST, "guest/password", &headers, body).await?);
    }
    if !agent.is_on(vm.id).await {
        return Err(is_off(&vm.spec.name).into());
    }
    // Who did it is written down first: what cannot be is not done.
    let line = person.line(client, "set-guest-password", format!("{}, {}", named(&vm), body.user));
    agent.cluster.note(line).await?;
    let set = agent.libvirt.set_password(vm.id, body.user.clone(), body.password.expose().to_owned()).await;
    match set {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(Failed::Refused(why)) if why.contains("not connected") => {
            let sentence = format!(
                "No agent answers in the guest of {}. Install qemu-guest-agent there, and start it.",
                vm.spec.name
            );
            Err(Problem::new(ProblemCode::Conflict, sentence).into())
        }
        Err(Failed::Refused(why)) => {
            let sentence = format!("The guest refused: {why}. Is there a user {}?", body.user);
            Err(Problem::new(ProblemCode::Conflict, sentence).in_field("user").into())
        }
        Err(failed) => {
            Err(Problem::new(ProblemCode::Unavailable, format!("{failed}.")).retry_after(5).into())
        }
    }
}
