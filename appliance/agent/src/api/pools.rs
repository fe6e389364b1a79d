//! Pools and the disks of hosts: what there is, and what is done with them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use quantix_api::{
    AddDisks, ChangePool, DiskUse, HostDisk, HostDisks, NewPool, Pool, Pools, Problem, ProblemCode,
    RemovePool, Right, Scope, Task, TaskKind,
};
use quantix_storage::thin::{Disk, Holds};
use quantix_store::HostId;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    Agent,
    answer::{Body, Failure},
    peer::{Client, Token},
    person::Person,
};
use crate::{
    audit::Line,
    cluster,
    sessions::now_ms,
    storage::pools,
    tasks::{self, NewTask},
    version::{Version, tag},
};

/// All pools, and how each is on its hosts.
#[utoipa::path(get, path = "/api/v1/pools", tag = "storage", responses((status = 200, body = Pools)))]
pub(crate) async fn list(State(agent): State<Arc<Agent>>) -> Result<Json<Pools>, Failure> {
    Ok(Json(Pools { items: agent.cluster.read(pools::list).await? }))
}

/// One pool.
#[utoipa::path(get, path = "/api/v1/pools/{pool}", tag = "storage", params(("pool" = String, Path,)), responses((status = 200, body = Pool)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let pool = agent.found(move |connection| pools::one(connection, &id)).await?;
    Ok((tag(pool.version), Json(pool)))
}

/// Gives a pool another name, or another limit.
#[utoipa::path(patch, path = "/api/v1/pools/{pool}", tag = "storage", params(("pool" = String, Path,)), request_body = ChangePool, responses((status = 200, body = Pool)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<ChangePool>,
) -> Result<impl IntoResponse, Failure> {
    let told = |pool: &Pool| json!({ "name": pool.name, "limit": pool.limit });
    let line = person.line(client, "change-pool", &id);
    let change = move |connection: &Connection, line: &mut Line| {
        let before = pools::one(connection, &id)?;
        line.object.clone_from(&before.name);
        line.was(&told(&before));
        let changed = pools::change(connection, &id, &body, seen)?;
        line.is(&told(&changed));
        Ok(changed)
    };
    let pool = agent.cluster.write_telling(line, change).await?;
    Ok((tag(pool.version), Json(pool)))
}

/// Begins to do something with a pool, for somebody who asks from an address.
fn begin(
    connection: &Connection,
    kind: TaskKind,
    pool: Pool,
    host: Option<HostId>,
    params: Value,
    (actor, address): (String, String),
) -> Result<tasks::kept::Kept, cluster::Refused> {
    let (object, object_name) = (Scope::Pool(pool.id), pool.name);
    tasks::kept::add(
        connection,
        &NewTask { kind, object, object_name, host, params, actor, address },
        now_ms(),
    )
}

/// Makes a pool of disks of a host. The task is about it and names its id.
#[utoipa::path(post, path = "/api/v1/pools", tag = "storage", request_body = NewPool, responses((status = 202, body = Task)))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<NewPool>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let host = agent.host_of(&body.host).await.map_err(|problem| problem.in_field("host"))?.0;
    let line = person.line(client, TaskKind::CreatePool.name(), &body.name);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let make = move |connection: &Connection, line: &mut Line| {
        let pool = pools::add(connection, &body, host)?;
        line.is(&json!({ "host": body.host, "disks": body.disks, "erase": body.erase }));
        let params = json!({ "disks": body.disks, "erase": body.erase });
        begin(connection, TaskKind::CreatePool, pool, Some(host), params, (actor, address))
    };
    let task = agent.cluster.write_telling(line, make).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// Makes a pool bigger by disks of its host. Disks by which it cannot be made bigger are as they were.
#[utoipa::path(post, path = "/api/v1/pools/{pool}/disks", tag = "storage", params(("pool" = String, Path,)), request_body = AddDisks, responses((status = 202, body = Task), (status = 409, description = "It is a directory.")))]
pub(crate) async fn add_disks(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<AddDisks>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let line = person.line(client, TaskKind::GrowPool.name(), &id);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let add = move |connection: &Connection, line: &mut Line| {
        let (pool, host) = pools::add_disks(connection, &id, &body.disks)?;
        line.object.clone_from(&pool.name);
        let params = json!({ "disks": body.disks, "erase": body.erase });
        line.is(&params);
        begin(connection, TaskKind::GrowPool, pool, Some(host), params, (actor, address))
    };
    let task = agent.cluster.write_telling(line, add).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// Removes a pool in which nothing is, and leaves its disks empty.
#[utoipa::path(delete, path = "/api/v1/pools/{pool}", tag = "storage", params(("pool" = String, Path,)), request_body = RemovePool, responses((status = 202, body = Task), (status = 409, description = "Something is in it.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<RemovePool>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let line = person.line(client, TaskKind::DeletePool.name(), &id);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let remove = move |connection: &Connection, line: &mut Line| {
        let pool = pools::one(connection, &id)?;
        line.object.clone_from(&pool.name);
        pools::must_be_empty(connection, &pool)?;
        if body.name != pool.name {
            let sentence = format!("To remove this pool, type its name: {}.", pool.name);
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into());
        }
        line.was(&json!({ "host": pool.host, "disks": pool.disks }));
        // Of one whose host is gone for good only its name is left, which whoever leads gives up.
        let host = match pools::host_of(&pool) {
            Some(host) if cluster::kept::is_there(connection, host)? => Some(host),
            _ => None,
        };
        begin(connection, TaskKind::DeletePool, pool, host, Value::Null, (actor, address))
    };
    let task = agent.cluster.write_telling(line, remove).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// The whole disks of a host, and of which a pool can be made.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/disks", tag = "storage", params(("host" = String, Path,)), responses((status = 200, body = HostDisks), (status = 503, description = "It does not answer.")))]
pub(crate) async fn disks(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Token(token): Token,
    Path(id): Path<String>,
) -> Result<Json<HostDisks>, Failure> {
    let (host, name) = agent.host_of(&id).await?;
    person.must_have(Right::See, Scope::Host(host.to_string()))?;
    if host == agent.cluster.store()?.id() {
        let found = quantix_storage::host_disks(&agent.disks).await;
        let found = found.map_err(|failed| Problem::new(ProblemCode::Unavailable, failed.to_string()))?;
        return Ok(Json(HostDisks { items: found.into_iter().map(shown).collect() }));
    }
    Ok(Json(agent.ask_host((host, name), "disks", &token).await?))
}

fn shown(disk: Disk) -> HostDisk {
    let (usage, holds) = match disk.holds {
        Holds::Nothing => (DiskUse::Free, String::new()),
        Holds::Something(what) => (DiskUse::NotEmpty, what),
        Holds::InUse(why) => (DiskUse::InUse, why),
    };
    let Disk { id, path, bytes, model, serial, is_rotating, .. } = disk;
    HostDisk { id, path, bytes, model, serial, is_rotating, usage, holds }
}
