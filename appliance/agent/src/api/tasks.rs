//! Tasks: what is being done, its end, another attempt, and the file it made. Whatever starts one is here as well.

use std::{io, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use quantix_api::{
    ListQuery, Page, PowerHost, Problem, ProblemCode, RestartServices, Right, Scope, Task, TaskKind,
    TaskQuery, TaskState,
};
use quantix_store::HostId;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    Agent,
    answer::{Body, Failure, Leaving, Queried},
    peer::Client,
    person::Person,
};
use crate::{
    cluster::Refused,
    list::{Asked, must_be_short},
    sessions::now_ms,
    tasks::{
        NewTask, bundle,
        kept::{self, TABLE},
        kinds::{Kind, SERVICES},
    },
};

/// What of a file is on its way at once.
const PIECES: usize = 2;

fn invalid(field: &str, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

/// The tasks, the newest first.
#[utoipa::path(get, path = "/api/v1/tasks", tag = "activity", params(TaskQuery), responses((status = 200, body = Page<Task>)))]
pub(crate) async fn list(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Queried(query): Queried<TaskQuery>,
) -> Result<Json<Page<Task>>, Failure> {
    let TaskQuery { after, limit, sort, text, .. } = query.clone();
    let asked = Asked::of(&ListQuery { after, limit, sort, text }, &TABLE)?;
    if let Some(state) = &query.state
        && !matches!(state.as_str(), "open" | "ended")
        && TaskState::of(state).is_none()
    {
        let known: Vec<_> = TaskState::ALL.into_iter().map(TaskState::name).collect();
        return Err(invalid("state", format!("A state is one of open, ended, {}.", known.join(", "))).into());
    }
    if let Some(kind) = &query.kind
        && TaskKind::of(kind).is_none()
    {
        let known: Vec<_> = TaskKind::ALL.into_iter().map(TaskKind::name).collect();
        return Err(invalid("kind", format!("A kind is one of {}.", known.join(", "))).into());
    }
    must_be_short("object", query.object.as_deref().unwrap_or_default(), 200)?;
    let seen = person.sees();
    let list = move |connection: &Connection| kept::list(connection, &asked, &query, seen.as_deref());
    Ok(Json(agent.cluster.read(list).await?))
}

/// One task.
#[utoipa::path(get, path = "/api/v1/tasks/{id}", tag = "activity", params(("id" = i64, Path,)), responses((status = 200, body = Task)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<Task>, Failure> {
    Ok(Json(agent.task(&person, &id).await?.shown()))
}

/// Asks for the end of a task. Whoever asked for the task may, and whoever could have.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/cancel", tag = "activity", params(("id" = i64, Path,)), responses((status = 202, body = Task), (status = 409, description = "It has ended, or cannot be cancelled any more.")))]
pub(crate) async fn cancel(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let task = agent.task(&person, &id).await?;
    if task.actor != person.name() {
        person.must_have(task.rules().right, agent.place(task.scope()).await?)?;
    }
    let line = person.line(client, "cancel task", format!("{} ({})", task.title(), task.id));
    let (id, by) = (task.id, person.name().to_owned());
    let cancel = move |connection: &Connection| kept::cancel(connection, id, &by, now_ms());
    Ok((StatusCode::ACCEPTED, Json(agent.cluster.write_noted(line, cancel).await?.shown())))
}

/// Tries a task again that failed or was cancelled: another task.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/retry", tag = "activity", params(("id" = i64, Path,)), responses((status = 202, body = Task), (status = 409, description = "It did not fail, or was tried again already.")))]
pub(crate) async fn retry(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let task = agent.task(&person, &id).await?;
    person.must_have(task.rules().right, agent.place(task.scope()).await?)?;
    let line = person.line(client, "retry task", format!("{} ({})", task.title(), task.id));
    let (id, actor, address) = (task.id, person.name().to_owned(), client.to_string());
    let retry = move |connection: &Connection| kept::retry(connection, id, &actor, &address, now_ms());
    Ok((StatusCode::ACCEPTED, Json(agent.cluster.write_noted(line, retry).await?.shown())))
}

/// The file that a task made, from whichever host has it.
#[utoipa::path(get, path = "/api/v1/tasks/{id}/file", tag = "activity", params(("id" = i64, Path,)), responses((status = 200, body = [u8], content_type = "application/zstd")))]
pub(crate) async fn file(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let task = agent.task(&person, &id).await?;
    person.must_have(task.rules().right, agent.place(task.scope()).await?)?;
    let gone = || Problem::new(ProblemCode::NotFound, "The file of this task is there no longer.");
    let file = task.standing.file.clone().ok_or_else(gone)?;
    let owner = task.owner.ok_or_else(gone)?;
    // What is wrong is said before anything is sent.
    let first = agent.piece_of_file(owner, task.id, 0).await?;
    let (leaving, pieces) = mpsc::channel(PIECES);
    let length = file.bytes;
    tokio::spawn(async move {
        let (mut sent, mut piece) = (0, Ok(first));
        // It ends with the file, or when nobody takes what it sends.
        while sent < length {
            let bytes = match piece {
                Ok(bytes) if !bytes.is_empty() => Ok(bytes),
                Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(problem) => Err(io::Error::other(problem)),
            };
            let is_broken = bytes.is_err();
            sent += bytes.as_ref().map_or(0, |bytes: &Bytes| bytes.len() as u64);
            if leaving.send(bytes).await.is_err() || is_broken {
                return;
            }
            piece = if sent < length {
                agent.piece_of_file(owner, task.id, sent).await
            } else {
                Ok(Bytes::new())
            };
        }
    });
    let mut response = Leaving(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zstd"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // Names of hosts are letters, digits and dashes.
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", file.name)) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Restarts a host.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/restart", tag = "cluster", params(("host" = String, Path,)), request_body = PowerHost, responses((status = 202, body = Task), (status = 409, description = "Something is being done to it already.")))]
pub(crate) async fn restart(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
    Body(body): Body<PowerHost>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    agent.begin_power(client, &person, &host, &body, TaskKind::RestartHost).await
}

/// Switches a host off.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/shut-down", tag = "cluster", params(("host" = String, Path,)), request_body = PowerHost, responses((status = 202, body = Task), (status = 409, description = "Something is being done to it already.")))]
pub(crate) async fn shut_down(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
    Body(body): Body<PowerHost>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    agent.begin_power(client, &person, &host, &body, TaskKind::ShutDownHost).await
}

/// Restarts services of a host. What they run goes on meanwhile.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/restart-services", tag = "cluster", params(("host" = String, Path,)), request_body = RestartServices, responses((status = 202, body = Task), (status = 409, description = "Something is being done to it already.")))]
pub(crate) async fn restart_services(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
    Body(body): Body<RestartServices>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let known = |name: &String| SERVICES.iter().any(|(known, ..)| known == name);
    if body.services.is_empty() || !body.services.iter().all(known) {
        let known: Vec<_> = SERVICES.iter().map(|(name, ..)| *name).collect();
        let sentence = format!("Name one or several of {}.", known.join(", "));
        return Err(invalid("services", sentence).into());
    }
    let (id, name) = agent.host_of(&host).await?;
    let params = json!({ "services": body.services });
    agent.begin_task(client, &person, TaskKind::RestartServices, id, name, params, |_| Ok(())).await
}

/// Puts what helps to find a fault on a host into a file, which stays there for a day.
#[utoipa::path(post, path = "/api/v1/cluster/hosts/{host}/support-bundle", tag = "cluster", params(("host" = String, Path,)), responses((status = 202, body = Task), (status = 409, description = "One is being made already.")))]
pub(crate) async fn support_bundle(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(host): Path<String>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let (id, name) = agent.host_of(&host).await?;
    agent.begin_task(client, &person, TaskKind::SupportBundle, id, name, Value::Null, |_| Ok(())).await
}

impl Agent {
    /// A task that somebody may see. Others are not there for them.
    async fn task(&self, person: &Person, id: &str) -> Result<kept::Kept, Problem> {
        let id: i64 = id.parse().map_err(|_| kept::not_there())?;
        let found = self.cluster.read(move |connection| kept::find(connection, id)).await?;
        let task = found.ok_or_else(kept::not_there)?;
        if person.must_have(Right::See, self.place(task.scope()).await?).is_err() {
            return Err(kept::not_there());
        }
        Ok(task)
    }

    async fn begin_power(
        &self,
        client: Client,
        person: &Person,
        host: &str,
        body: &PowerHost,
        kind: TaskKind,
    ) -> Result<(StatusCode, Json<Task>), Failure> {
        let (id, name) = self.host_of(host).await?;
        if body.name != name {
            return Err(invalid("name", format!("To go on, type the host's name: {name}.")).into());
        }
        self.begin_task(client, person, kind, id, name, Value::Null, |_| Ok(())).await
    }

    /// Makes a task about a host: what it wants, the task and the line of the audit log are one write.
    #[expect(clippy::too_many_arguments, reason = "each says something of its own about the task")]
    pub(super) async fn begin_task(
        &self,
        client: Client,
        person: &Person,
        kind: TaskKind,
        host: HostId,
        name: String,
        params: Value,
        wanted: impl FnOnce(&Connection) -> Result<(), Refused> + Send + 'static,
    ) -> Result<(StatusCode, Json<Task>), Failure> {
        let title = Kind::of(kind).title(&name, &params);
        let line = person.line(client, kind.name(), format!("{name} ({host})"));
        let new = NewTask {
            kind,
            object: Scope::Host(host.to_string()),
            object_name: name,
            host: Some(host),
            params,
            actor: person.name().to_owned(),
            address: client.to_string(),
        };
        let begin = move |connection: &Connection| {
            let task = kept::add(connection, &new, now_ms())?;
            wanted(connection)?;
            Ok(task)
        };
        let task = self.cluster.write_noted(line, begin).await?;
        log::info!(task = task.id; "Task {} was asked for: {title}", task.id);
        Ok((StatusCode::ACCEPTED, Json(task.shown())))
    }

    async fn piece_of_file(&self, owner: HostId, task: i64, offset: u64) -> Result<Bytes, Problem> {
        if self.cluster.store()?.id() == owner {
            return bundle::piece(&self.cluster.bundles(), task, offset).await.map(Bytes::from);
        }
        self.cluster.fetch_file(owner, task, offset).await
    }
}
