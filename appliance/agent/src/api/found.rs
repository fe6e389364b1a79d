//! Virtual machines that hosts have and that are not among the machines.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use quantix_api::{FoundVms, ImportVm, Problem, ProblemCode, Right, Scope, Task, TaskKind};
use quantix_compute::VmId;
use quantix_store::HostId;
use rusqlite::Connection;

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token},
    person::Person,
    vms::to_json,
};
use crate::{
    audit::Line,
    cluster::Refused,
    sessions::now_ms,
    tasks::{self, NewTask},
    vms::{folders, found, kept},
};

/// The virtual machines that a host's libvirt has and that are not among the machines.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/found-vms", tag = "virtual machines", params(("host" = String, Path,)), responses((status = 200, body = FoundVms), (status = 503, description = "It does not answer.")))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Token(token): Token,
    Path(id): Path<String>,
) -> Result<Json<FoundVms>, Failure> {
    let host = agent.host_of(&id).await?;
    person.must_have(Right::See, Scope::Host(host.0.to_string()))?;
    Ok(Json(agent.found_vms_of(host, &token).await?))
}

/// Makes one of them one of the machines. The task is about it and names its id.
#[utoipa::path(post, path = "/api/v1/vms/import", tag = "virtual machines", request_body = ImportVm, responses((status = 202, body = Task), (status = 409, description = "It cannot be imported as it is.")))]
pub(crate) async fn import(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Token(token): Token,
    Body(body): Body<ImportVm>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let (host, name) = agent.host_of(&body.host).await.map_err(|problem| problem.in_field("host"))?;
    // What is on the host, and in no folder yet, belongs to whoever operates the host.
    person.must_have(Right::OperateHosts, Scope::Host(host.to_string()))?;
    let found = agent.found_vms_of((host, name), &token).await?;
    let found = found.items.into_iter().find(|found| found.id == body.vm).ok_or_else(|| {
        Problem::new(ProblemCode::NotFound, "The host has no such machine that is not among the machines.")
    })?;
    let id: VmId = found.id.parse().map_err(|_| kept::not_there())?;
    let line = person.line(client, TaskKind::ImportVm.name(), format!("{} ({id})", found.called));
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let import = move |connection: &Connection, line: &mut Line| {
        person.must_have(Right::ManageVms, folders::place_in(connection, body.folder)?)?;
        let making = found::plan(connection, found, &body, host)?;
        let added = kept::add(connection, id, &making, host, &actor, now_ms());
        let vm = added.map_err(|refused| match refused {
            // That is what it is called in the request.
            Refused::Problem(problem) if problem.field.as_deref() == Some("spec.name") => {
                problem.in_field("name").into()
            }
            refused => refused,
        })?;
        line.is(&vm.spec);
        let new = NewTask {
            kind: TaskKind::ImportVm,
            object: vm.scope(),
            object_name: vm.spec.name,
            host: Some(host),
            params: to_json(&making),
            actor,
            address,
        };
        tasks::kept::add(connection, &new, now_ms())
    };
    let task = agent.cluster.write_telling(line, import).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

impl Agent {
    async fn found_vms_of(&self, (host, name): (HostId, String), token: &str) -> Result<FoundVms, Problem> {
        if host == self.cluster.store()?.id() {
            return self.look_at_found_vms().await;
        }
        self.ask_host((host, name), "found-vms", token).await
    }
}
