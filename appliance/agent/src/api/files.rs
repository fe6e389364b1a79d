//! The files of pools that are directories: what there is, and what becomes of those that nobody knows.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use quantix_api::{AdoptFile, FileBecomes, PoolFiles, RemoveFile, Right, Scope, Task, TaskKind};
use quantix_storage::VolumeId;
use quantix_store::HostId;
use rusqlite::Connection;
use serde_json::json;

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
    storage::{files, images, pools, volumes},
    tasks::{self, NewTask},
};

/// The files of a pool on a host, and to what each belongs.
#[utoipa::path(get, path = "/api/v1/cluster/hosts/{host}/pools/{pool}/files", tag = "storage", params(("host" = String, Path,), ("pool" = String, Path,)), responses((status = 200, body = PoolFiles), (status = 409, description = "It is no directory."), (status = 503, description = "The host does not answer, or the pool is not there.")))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    Token(token): Token,
    Path((host, pool)): Path<(String, String)>,
) -> Result<Json<PoolFiles>, Failure> {
    let host = agent.host_of(&host).await?;
    Ok(Json(agent.files_of(host, pool, &token).await?))
}

/// Makes a volume or an image of a file that nobody knows. What lies in the pool as a volume does becomes one where it is;
/// everything else is copied, and stays.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/pools/{pool}/files", tag = "storage", params(("host" = String, Path,), ("pool" = String, Path,)), request_body = AdoptFile, responses((status = 202, body = Task), (status = 409, description = "It belongs to something, or cannot become that."), (status = 503, description = "The host does not answer, or the pool is not there.")))]
pub(crate) async fn adopt(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Token(token): Token,
    Path((host, pool)): Path<(String, String)>,
    Body(body): Body<AdoptFile>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let host = agent.host_of(&host).await?;
    let file = files::unknown(agent.files_of(host.clone(), pool.clone(), &token).await?, &body.path)?;
    let (host, _) = host;
    let kind = match body.becomes {
        FileBecomes::Volume => TaskKind::CreateVolume,
        FileBecomes::Image => TaskKind::CreateImage,
    };
    let line = person.line(client, kind.name(), &body.name);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let adopt = move |connection: &Connection, line: &mut Line| {
        line.is(&body);
        let (object, object_name, params) = match body.becomes {
            FileBecomes::Volume => {
                // As for every volume that no machine has.
                person.must_have(Right::ManageVms, Scope::Datacenter)?;
                let new = files::plan_volume(connection, &pool, &file, &body)?;
                let volume = volumes::add(connection, &new, host, &actor, now_ms())?;
                (volume.scope(), volume.shown.name, to_json(&new))
            }
            FileBecomes::Image => {
                let (id, new) = (VolumeId::new().to_string(), files::plan_image(&pool, &file, &body));
                let image = images::add(connection, &id, &new, host, &actor, now_ms())?;
                (image.scope(), image.shown.name, json!({ "pool": pool, "lies_at": file.path }))
            }
        };
        let new = NewTask { kind, object, object_name, host: Some(host), params, actor, address };
        tasks::kept::add(connection, &new, now_ms())
    };
    let task = agent.cluster.write_telling(line, adopt).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// Removes a file that nobody knows.
#[utoipa::path(delete, path = "/api/v1/cluster/hosts/{host}/pools/{pool}/files", tag = "storage", params(("host" = String, Path,), ("pool" = String, Path,)), request_body = RemoveFile, responses((status = 202, body = Task), (status = 409, description = "It belongs to something."), (status = 503, description = "The host does not answer, or the pool is not there.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Token(token): Token,
    Path((host, pool)): Path<(String, String)>,
    Body(body): Body<RemoveFile>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let host = agent.host_of(&host).await?;
    files::unknown(agent.files_of(host.clone(), pool.clone(), &token).await?, &body.path)?;
    let (host, host_name) = host;
    let line = person.line(client, TaskKind::RemoveFile.name(), format!("{} on {host_name}", body.path));
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let begin = move |connection: &Connection, line: &mut Line| {
        let pool = pools::one(connection, &pool)?;
        line.was(&json!({ "pool": pool.name, "path": body.path }));
        let new = NewTask {
            kind: TaskKind::RemoveFile,
            object: Scope::Pool(pool.id),
            object_name: pool.name,
            host: Some(host),
            params: json!({ "path": body.path }),
            actor,
            address,
        };
        tasks::kept::add(connection, &new, now_ms())
    };
    let task = agent.cluster.write_telling(line, begin).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

impl Agent {
    async fn files_of(
        &self,
        (host, name): (HostId, String),
        pool: String,
        token: &str,
    ) -> Result<PoolFiles, Failure> {
        let known = pool.clone();
        let check = move |connection: &Connection| -> Result<(), Refused> {
            files::must_have_files(connection, &known, host)
        };
        self.found(check).await?;
        if host == self.cluster.store()?.id() {
            return Ok(self.look_at_files(&pool).await?);
        }
        Ok(self.ask_host((host, name), &format!("pools/{pool}/files"), token).await?)
    }
}
