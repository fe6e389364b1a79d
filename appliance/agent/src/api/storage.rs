//! Volumes: what there is, and what is done with them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{
    ChangeVolume, GrowVolume, ListQuery, MoveVolume, NewDisk, NewVolume, Page, Problem, ProblemCode,
    RemoveVolume, Right, Scope, Task, TaskKind, Volume, VolumeQuery, VolumeState,
};
use quantix_storage::VolumeId;
use quantix_store::HostId;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    Agent,
    answer::{Body, Failure, Queried},
    peer::Client,
    person::Person,
};
use crate::{
    audit::Line,
    cluster::{self, Refused},
    list::Asked,
    sessions::now_ms,
    storage::{
        moving, pools,
        volumes::{self, Kept, TABLE, ToMake},
    },
    tasks::{self, NewTask},
    version::{Version, tag},
    vms,
};

fn invalid(field: &str, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

/// The volumes.
#[utoipa::path(get, path = "/api/v1/volumes", tag = "storage", params(VolumeQuery), responses((status = 200, body = Page<Volume>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Queried(query): Queried<VolumeQuery>,
) -> Result<Json<Page<Volume>>, Failure> {
    let VolumeQuery { after, limit, sort, text, .. } = query.clone();
    let asked = Asked::of(&ListQuery { after, limit, sort, text }, &TABLE)?;
    let seen = person.sees();
    let list = move |connection: &Connection| {
        volumes::list(connection, &asked, &query, seen.as_deref(), &person.info.roles)
    };
    Ok(Json(agent.cluster.read(list).await?))
}

/// One volume.
#[utoipa::path(get, path = "/api/v1/volumes/{volume}", tag = "storage", params(("volume" = String, Path,)), responses((status = 200, body = Volume)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let show = move |connection: &Connection| {
        Ok(volumes::one(connection, &id)?.shown(connection, &person.info.roles)?)
    };
    let volume = agent.found(show).await?;
    Ok((tag(volume.version), Json(volume)))
}

/// Makes a volume. The task is about it and names its id.
#[utoipa::path(post, path = "/api/v1/volumes", tag = "storage", request_body = NewVolume, responses((status = 202, body = Task), (status = 409, description = "The pool takes nothing new.")))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewVolume>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let hosts = agent.hosts_for(body.host.as_deref()).await?;
    let id = VolumeId::new().to_string();
    let line = person.line(client, TaskKind::CreateVolume.name(), &body.name);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let make = move |connection: &Connection, line: &mut Line| {
        person.must_have(Right::ManageVms, Scope::Datacenter)?;
        let host = roomiest(connection, &body.pool, &hosts)?;
        let new = ToMake::empty(id, body.name, body.pool, body.bytes);
        let volume = volumes::add(connection, &new, host, &actor, now_ms())?;
        line.is(&new);
        let task = NewTask {
            kind: TaskKind::CreateVolume,
            object: volume.scope(),
            object_name: volume.shown.name,
            host: Some(host),
            // What is kept of a volume has a form in JSON.
            params: serde_json::to_value(&new).unwrap_or_default(),
            actor,
            address,
        };
        tasks::kept::add(connection, &task, now_ms())
    };
    let task = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// Of some hosts the one where a pool has most room.
fn roomiest(connection: &Connection, pool: &str, hosts: &[HostId]) -> Result<HostId, Refused> {
    let pool = pools::one(connection, pool).map_err(|_| invalid("pool", "There is no such pool."))?;
    let open = hosts.iter().filter(|host| pools::is_closed(&pool, **host).is_none());
    let room = |host: &&HostId| {
        pools::on_host(&pool, **host).map_or(0, |there| there.capacity.saturating_sub(there.used))
    };
    if let Some(host) = open.max_by_key(room) {
        return Ok(*host);
    }
    let why = hosts.first().and_then(|host| pools::is_closed(&pool, *host));
    let why = why.unwrap_or_else(|| "No host answers on which it could be.".to_owned());
    Err(Problem::new(ProblemCode::Conflict, why).in_field("pool").into())
}

/// Gives a volume another name.
#[utoipa::path(patch, path = "/api/v1/volumes/{volume}", tag = "storage", params(("volume" = String, Path,)), request_body = ChangeVolume, responses((status = 200, body = Volume)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<ChangeVolume>,
) -> Result<impl IntoResponse, Failure> {
    let line = person.line(client, "change-volume", &id);
    let change = move |connection: &Connection, line: &mut Line| {
        let before = volumes::one(connection, &id)?;
        line.object = named(&before);
        line.was(&json!({ "name": before.shown.name }));
        let changed = volumes::change(connection, &id, &body, seen)?;
        line.is(&json!({ "name": changed.shown.name }));
        Ok(changed.shown(connection, &person.info.roles)?)
    };
    let volume = agent.cluster.write_telling(line, change).await?;
    Ok((tag(volume.version), Json(volume)))
}

fn named(volume: &Kept) -> String {
    format!("{} ({})", volume.shown.name, volume.id)
}

/// Makes a volume bigger, also while a machine uses it.
#[utoipa::path(post, path = "/api/v1/volumes/{volume}/grow", tag = "storage", params(("volume" = String, Path,)), request_body = GrowVolume, responses((status = 202, body = Task), (status = 409, description = "Something is being done with it.")))]
pub(crate) async fn grow(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<GrowVolume>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    volumes::check_size(body.bytes, "bytes")?;
    let check = move |connection: &Connection, volume: &Kept, line: &mut Line| {
        let (name, bytes) = (&volume.shown.name, volume.shown.bytes);
        if body.bytes <= bytes {
            let sentence =
                format!("The volume {name} has {bytes} bytes, and can only grow. Ask for more than it has.");
            return Err(invalid("bytes", sentence).into());
        }
        if volume.shown.state != VolumeState::Ready {
            return Err(
                Problem::new(ProblemCode::Conflict, format!("The volume {name} is not there now.")).into()
            );
        }
        let pool = pools::one(connection, &volume.shown.pool)?;
        if let Some(why) = pools::is_closed(&pool, volume.host) {
            return Err(Problem::new(ProblemCode::Conflict, why).into());
        }
        line.was(&json!({ "bytes": bytes }));
        line.is(&json!({ "bytes": body.bytes }));
        let bytes = pools::whole(&pool.id, body.bytes);
        Ok(json!({ "volume": volume.shown.id, "name": name, "bytes": bytes }))
    };
    agent.begin_volume_task(client, &person, id, TaskKind::GrowVolume, check).await
}

/// Moves a volume into another pool of its host, also while a machine uses it.
#[utoipa::path(post, path = "/api/v1/volumes/{volume}/move", tag = "storage", params(("volume" = String, Path,)), request_body = MoveVolume, responses((status = 202, body = Task), (status = 409, description = "Something is being done with it, it has snapshots, other disks lie on it, or the pool takes nothing new.")))]
pub(crate) async fn move_to_pool(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<MoveVolume>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let check = move |connection: &Connection, volume: &Kept, line: &mut Line| {
        let moving = moving::plan(connection, volume, &body.pool)?;
        line.was(&json!({ "pool": volume.shown.pool_name }));
        line.is(&json!({ "pool": moving.pool_name }));
        // What is planned has a form in JSON.
        Ok(serde_json::to_value(moving).unwrap_or_default())
    };
    agent.begin_volume_task(client, &person, id, TaskKind::MoveVolume, check).await
}

/// Removes a volume with all that is on it.
#[utoipa::path(delete, path = "/api/v1/volumes/{volume}", tag = "storage", params(("volume" = String, Path,)), request_body = RemoveVolume, responses((status = 202, body = Task), (status = 409, description = "A virtual machine has it.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<RemoveVolume>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let check = move |_: &Connection, volume: &Kept, _: &mut Line| {
        volumes::must_be_idle(volume)?;
        if body.name != volume.shown.name {
            let sentence = format!("To remove this volume, type its name: {}.", volume.shown.name);
            return Err(invalid("name", sentence).into());
        }
        Ok(Value::Null)
    };
    agent.begin_volume_task(client, &person, id, TaskKind::DeleteVolume, check).await
}

/// Makes a disk for a virtual machine. One that is on has it at once where it can be plugged in.
#[utoipa::path(post, path = "/api/v1/vms/{vm}/disks", tag = "virtual machines", params(("vm" = String, Path,)), request_body = NewDisk, responses((status = 202, body = Task), (status = 409, description = "The pool takes nothing new, or something is being done with the machine.")))]
pub(crate) async fn add_disk(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<NewDisk>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let line = person.line(client, TaskKind::CreateVolume.name(), &id);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let add = move |connection: &Connection, line: &mut Line| {
        let vm = vms::kept::one(connection, &id)?;
        line.object = super::vms::named(&vm);
        if vms::kept::has_lost_its_host(connection, &vm)? {
            return Err(Problem::new(ProblemCode::Conflict, "The host of this machine is gone.").into());
        }
        let new = vms::kept::add_disk(connection, &vm, &body, &actor, now_ms())?;
        line.is(&new);
        let task = NewTask {
            kind: TaskKind::CreateVolume,
            object: vm.scope(),
            object_name: vm.spec.name,
            host: Some(vm.host),
            params: serde_json::to_value(&new).unwrap_or_default(),
            actor,
            address,
        };
        tasks::kept::add(connection, &task, now_ms())
    };
    let task = agent.cluster.write_telling(line, add).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

impl Agent {
    /// Makes a task that does something with a volume. What a machine has is done as something with the machine, so that
    /// nothing else is done with that meanwhile.
    async fn begin_volume_task(
        &self,
        client: Client,
        person: &Person,
        id: String,
        kind: TaskKind,
        check: impl FnOnce(&Connection, &Kept, &mut Line) -> Result<Value, Refused> + Send + 'static,
    ) -> Result<(StatusCode, Json<Task>), Failure> {
        let line = person.line(client, kind.name(), &id);
        let (actor, address) = (person.name().to_owned(), client.to_string());
        let begin = move |connection: &Connection, line: &mut Line| {
            let volume = volumes::one(connection, &id)?;
            line.object = named(&volume);
            let params = check(connection, &volume, line)?;
            let (object, object_name) = match (&volume.shown.vm, &volume.shown.vm_name) {
                (Some(vm), Some(name)) => (Scope::Vm(vm.clone()), name.clone()),
                _ => (volume.scope(), volume.shown.name.clone()),
            };
            // Of a volume whose host is gone for good only its place is left, which whoever leads gives up.
            let is_left_over = !cluster::kept::is_there(connection, volume.host)?;
            let host = (!is_left_over).then_some(volume.host);
            let new = NewTask { kind, object, object_name, host, params, actor, address };
            tasks::kept::add(connection, &new, now_ms())
        };
        let task = self.cluster.write_telling(line, begin).await?;
        Ok((StatusCode::ACCEPTED, Json(task.shown())))
    }
}
