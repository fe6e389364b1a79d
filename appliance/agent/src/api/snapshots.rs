//! Snapshots of virtual machines, and machines that are cloned.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{
    ChangeSnapshot, CloneVm, NewSnapshot, Problem, ProblemCode, RemoveSnapshot, RevertVm, Right, Snapshot,
    Snapshots, Task, TaskKind,
};
use quantix_compute::VmId;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    Agent,
    answer::{Body, Failure},
    peer::Client,
    person::Person,
    vms::{named, to_json},
};
use crate::{
    audit::Line,
    cluster::Refused,
    sessions::now_ms,
    tasks::{self, NewTask},
    version::{Version, tag},
    vms::{
        clone, folders,
        holding::Dropping,
        kept::{self, Kept},
        snapshots,
    },
};

/// The snapshots of a virtual machine, the oldest first.
#[utoipa::path(get, path = "/api/v1/vms/{vm}/snapshots", tag = "virtual machines", params(("vm" = String, Path,)), responses((status = 200, body = Snapshots)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
) -> Result<Json<Snapshots>, Failure> {
    let list = move |connection: &Connection| {
        kept::one(connection, &id)?;
        let items = snapshots::of_vm(connection, &id)?.into_iter().map(|kept| kept.shown).collect();
        Ok(Snapshots { items })
    };
    Ok(Json(agent.found(list).await?))
}

/// Makes a snapshot of a virtual machine, which goes on running if it is on.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/snapshots", tag = "virtual machines", params(("vm" = String, Path,)), request_body = NewSnapshot, responses((status = 202, body = Task), (status = 409, description = "It cannot be done in the state it is in.")))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<NewSnapshot>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let by = person.name().to_owned();
    let begin = move |connection: &Connection, vm: &Kept, line: &mut Line| {
        line.is(&body);
        Ok(to_json(&snapshots::add(connection, vm, &body, &by, now_ms())?))
    };
    agent.begin_on_vm(client, &person, id, TaskKind::SnapshotVm, begin).await
}

/// Gives a snapshot another name, or other words.
#[utoipa::path(patch, path = "/api/v1/vms/{vm}/snapshots/{snapshot}", tag = "virtual machines", params(("vm" = String, Path,), ("snapshot" = String, Path,)), request_body = ChangeSnapshot, responses((status = 200, body = Snapshot)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((id, snapshot)): Path<(String, String)>,
    seen: Version,
    Body(body): Body<ChangeSnapshot>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "change-snapshot", &id);
    let told = |snapshot: &Snapshot| json!({ "name": snapshot.name, "description": snapshot.description });
    let change = move |connection: &Connection, line: &mut Line| {
        line.object = named(&kept::one(connection, &id)?);
        line.was(&told(&snapshots::one(connection, &id, &snapshot)?.shown));
        let changed = snapshots::change(connection, &id, &snapshot, &body, seen)?.shown;
        line.is(&told(&changed));
        Ok(changed)
    };
    let changed = agent.cluster.write_telling(line, change).await?;
    Ok((tag(changed.version), Json(changed)))
}

/// Takes a virtual machine back to a snapshot. What it was since then is lost, unless another snapshot has it.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/snapshots/{snapshot}/revert", tag = "virtual machines", params(("vm" = String, Path,), ("snapshot" = String, Path,)), request_body = RevertVm, responses((status = 202, body = Task), (status = 409, description = "It cannot be done in the state it is in.")))]
pub(crate) async fn revert(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((id, snapshot)): Path<(String, String)>,
    Body(body): Body<RevertVm>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let begin = move |connection: &Connection, vm: &Kept, line: &mut Line| {
        let reverting = snapshots::revert(connection, vm, &snapshot, body.start)?;
        line.is(&json!({ "snapshot": reverting.name }));
        kept::want(connection, &vm.id.to_string(), reverting.start)?;
        Ok(to_json(&reverting))
    };
    agent.begin_on_vm(client, &person, id, TaskKind::RevertVm, begin).await
}

/// Removes a snapshot. The virtual machine stays as it is.
#[utoipa::path(delete, path = "/api/v1/vms/{vm}/snapshots/{snapshot}", tag = "virtual machines", params(("vm" = String, Path,), ("snapshot" = String, Path,)), request_body = RemoveSnapshot, responses((status = 202, body = Task), (status = 409, description = "Something is being done with the machine.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path((id, snapshot)): Path<(String, String)>,
    Body(body): Body<RemoveSnapshot>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let begin = move |connection: &Connection, vm: &Kept, line: &mut Line| {
        let vm = vm.id.to_string();
        let one = snapshots::one(connection, &vm, &snapshot)?;
        let dropping = Dropping {
            snapshots: snapshots::with_children(connection, &vm, &one, body.children)?,
            name: one.shown.name,
        };
        line.was(&json!({ "snapshot": dropping.name, "snapshots": dropping.snapshots.len() }));
        Ok(to_json(&dropping))
    };
    agent.begin_on_vm(client, &person, id, TaskKind::DeleteSnapshot, begin).await
}

/// Makes a virtual machine that begins as another is, or was. The task is about the new one and names its id.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/clone", tag = "virtual machines", params(("vm" = String, Path,)), request_body = CloneVm, responses((status = 202, body = Task), (status = 409, description = "It cannot be done in the state it is in.")))]
pub(crate) async fn clone(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<CloneVm>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let new_id = VmId::new();
    let line = person.line(client, "clone-vm", &id);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let begin = move |connection: &Connection, line: &mut Line| {
        let vm = kept::one(connection, &id)?;
        line.object = format!("{} ({new_id}), of {}", body.name, named(&vm));
        person.must_have(Right::ManageVms, folders::place_in(connection, body.folder)?)?;
        must_have_its_host(connection, &vm)?;
        if vm.comes_or_goes() {
            return Err(Problem::new(ProblemCode::Conflict, "It is just being made or removed.").into());
        }
        let mut cloning = clone::plan(connection, &vm, &body, &actor, now_ms())?;
        let new = |kind, object, object_name: &str, params| NewTask {
            kind,
            object,
            object_name: object_name.to_owned(),
            host: Some(vm.host),
            params,
            actor: actor.clone(),
            address: address.clone(),
        };
        if let Some(holding) = &cloning.holding {
            let task = new(TaskKind::SnapshotVm, vm.scope(), &vm.spec.name, to_json(holding));
            tasks::kept::add(connection, &task, now_ms())?;
        }
        let made = kept::add(connection, new_id, &cloning.making, vm.host, &actor, now_ms());
        let made = made.map_err(in_field)?;
        // With the addresses it was given: another attempt makes the same machine.
        cloning.making.vm.spec.clone_from(&made.spec);
        line.is(&made.spec);
        let mut next = new(TaskKind::CreateVm, made.scope(), &made.spec.name, to_json(&cloning.making));
        let task = tasks::kept::add(connection, &next, now_ms())?;
        if body.start {
            (next.kind, next.params) = (TaskKind::StartVm, Value::Null);
            tasks::kept::add_next(connection, &next, now_ms())?;
            kept::want(connection, &new_id.to_string(), true)?;
        }
        Ok(task)
    };
    let task = agent.cluster.write_telling(line, begin).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// What is wrong is said of what was asked for.
fn in_field(refused: Refused) -> Refused {
    match refused {
        Refused::Problem(problem) => Refused::Problem(match problem.field.as_deref() {
            Some("spec.name") => problem.in_field("name"),
            _ => problem,
        }),
        other => other,
    }
}

fn must_have_its_host(connection: &Connection, vm: &Kept) -> Result<(), Refused> {
    if kept::has_lost_its_host(connection, vm)? {
        return Err(Problem::new(ProblemCode::Conflict, "The host of this machine is gone.").into());
    }
    Ok(())
}

impl Agent {
    /// Makes a task that does something with a machine: it, what it begins with, and the line of the audit log are one write.
    async fn begin_on_vm(
        &self,
        client: Client,
        person: &Person,
        id: String,
        kind: TaskKind,
        begin: impl FnOnce(&Connection, &Kept, &mut Line) -> Result<Value, Refused> + Send + 'static,
    ) -> Result<(StatusCode, Json<Task>), Failure> {
        let line = person.line(client, kind.name(), &id);
        let (actor, address) = (person.name().to_owned(), client.to_string());
        let begin = move |connection: &Connection, line: &mut Line| {
            let vm = kept::one(connection, &id)?;
            line.object = named(&vm);
            must_have_its_host(connection, &vm)?;
            vm.must_be_as_described()?;
            let params = begin(connection, &vm, line)?;
            let (object, host) = (vm.scope(), Some(vm.host));
            let new = NewTask { kind, object, object_name: vm.spec.name, host, params, actor, address };
            tasks::kept::add(connection, &new, now_ms())
        };
        let task = self.cluster.write_telling(line, begin).await?;
        Ok((StatusCode::ACCEPTED, Json(task.shown())))
    }
}
