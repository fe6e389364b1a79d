//! Consoles of virtual machines: who may have one is asked here, and where it is looked at.

use std::sync::Arc;

use axum::{
    Json,
    body::Body as AnyBody,
    extract::{Path, State, ws::WebSocketUpgrade},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use quantix_api::{ConsoleTicket, OpenConsole, Problem, ProblemCode, Secret, calls};
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
    vms::named,
};
use crate::{
    changes::Listener,
    vms::{
        console::{GOOD_FOR, Ticket, is_off},
        kept::{self, Kept},
    },
};

/// What is sent at once, either way.
const MOST: usize = 1 << 20;

/// Asks for the way to a console. It is good once, for half a minute, and for whoever has it.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/console", tag = "virtual machines", params(("vm" = String, Path,)), request_body = OpenConsole, responses((status = 201, body = ConsoleTicket), (status = 409, description = "It is off.")))]
pub(crate) async fn open(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body<OpenConsole>,
) -> Result<Response, Failure> {
    let find = move |connection: &Connection| kept::one(connection, &id);
    let vm = agent.found(find).await?;
    if vm.host != agent.cluster.store()?.id() {
        let body = serde_json::to_vec(&body)
            .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
        return Ok(agent.ask_its_host(&vm, Method::POST, "console", &headers, body).await?);
    }
    if !agent.is_on(vm.id).await {
        return Err(is_off(&vm.spec.name).into());
    }
    let line = person.line(client, "open-console", format!("{}, {}", named(&vm), body.kind.name()));
    // On a bad night somebody must get to their machine, also where nobody can write that down.
    if let Err(problem) = agent.cluster.note(line).await {
        log::warn!("{} opens a console of {}, and that is not noted: {problem}", person.name(), vm.spec.name);
    }
    let (session, username) = (person.hash, person.name().to_owned());
    let listener = Listener { session, username, is_program: person.is_program, rights: person.info.roles };
    let (kind, take_over) = (body.kind, body.take_over);
    let ticket = Ticket { vm: vm.id, name: vm.spec.name, kind, take_over, listener };
    let text = agent.consoles.issue(ticket)?;
    let address = format!("{}/{}/consoles/{}", calls::HOSTS_PATH, vm.host, text.expose());
    let good_until = Timestamp::now() + GOOD_FOR;
    let ticket = ConsoleTicket { address: Secret::new(address), kind, good_until };
    Ok((StatusCode::CREATED, Json(ticket)).into_response())
}

/// A picture of the screen of a virtual machine as it is now.
#[utoipa::path(get, path = "/api/v1/vms/{vm}/picture", tag = "virtual machines", params(("vm" = String, Path,)), responses((status = 200, content_type = "image/png", body = Vec<u8>), (status = 409, description = "It is off."), (status = 503, description = "Its host does not answer.")))]
pub(crate) async fn picture(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let vm = agent.found(move |connection: &Connection| kept::one(connection, &id)).await?;
    if vm.host != agent.cluster.store()?.id() {
        return Ok(agent.ask_its_host(&vm, Method::GET, "picture", &headers, Vec::new()).await?);
    }
    if !agent.is_on(vm.id).await {
        return Err(is_off(&vm.spec.name).into());
    }
    let picture = agent.libvirt.picture(vm.id).await;
    let picture = picture
        .map_err(|failed| Problem::new(ProblemCode::Unavailable, format!("{failed}.")).retry_after(5))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

/// A console: a WebSocket over which goes what the guest shows, and what is typed. It ends with 4000 and, as its reason, the
/// code of a problem and a sentence.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/consoles/{ticket}", tag = "virtual machines", params(("host" = String, Path,), ("ticket" = String, Path,)), responses((status = 101, description = "The WebSocket is open."), (status = 400, description = "No WebSocket is asked for."), (status = 426, description = "This connection cannot become a WebSocket.")))]
pub(crate) async fn attend(
    State(agent): State<Arc<Agent>>,
    Path((_, ticket)): Path<(String, String)>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|_| {
        Problem::new(ProblemCode::Malformed, "A console is a WebSocket, and this request asks for none.")
    })?;
    let upgrade = upgrade.max_message_size(MOST).max_frame_size(MOST);
    Ok(upgrade.on_upgrade(move |socket| agent.attend_console(socket, ticket)))
}

impl Agent {
    /// What only the host that has a machine can answer.
    pub(super) async fn ask_its_host(
        &self,
        vm: &Kept,
        method: Method,
        what: &str,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, Problem> {
        let unreachable = || {
            let sentence = format!("{}, on which {} is, does not answer.", vm.host_name, vm.spec.name);
            Problem::new(ProblemCode::HostUnreachable, sentence).retry_after(5)
        };
        let host = self.cluster.other_member(vm.host).ok_or_else(unreachable)?;
        let path = format!("{}/{}/{what}", calls::VMS_PATH, vm.id);
        let passed = self.cluster.pass_on(&host, method, &path, headers, body.into()).await;
        passed.map(|response| response.map(AnyBody::from)).map_err(|_| unreachable())
    }
}
