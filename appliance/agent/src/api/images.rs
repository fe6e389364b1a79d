//! Images: their files come in pieces to the host that is asked.

use std::{fs::File, io, os::fd::AsFd, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade};
use quantix_api::{
    Arrived, ChangeImage, FetchImage, Image, ImageState, Images, MAX_PIECE_BYTES, NewImage, PieceQuery,
    Problem, ProblemCode, RemoveImage, Task, TaskKind,
    pieces::{self, End},
};
use quantix_storage::{Directory, VolumeId};
use quantix_store::HostId;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::{
    Agent,
    answer::{Body, Failure, Queried},
    peer::Client,
    person::Person,
};
use crate::{
    audit::Line,
    cluster::{self, FromHost, Refused},
    sessions::now_ms,
    storage::{
        images::{self, Kept},
        layers,
    },
    tasks::{self, NewTask},
    version::{Version, tag},
};

fn conflict(sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Conflict, sentence)
}

fn named(image: &Kept) -> String {
    format!("{} ({})", image.shown.name, image.id)
}

/// All images.
#[utoipa::path(get, path = "/api/v1/images", tag = "storage", responses((status = 200, body = Images)))]
pub(crate) async fn list(State(agent): State<Arc<Agent>>, person: Person) -> Result<Json<Images>, Failure> {
    let images = agent.cluster.read(images::list).await?;
    Ok(Json(Images { items: images.into_iter().map(|image| image.shown(&person.info.roles)).collect() }))
}

/// One image.
#[utoipa::path(get, path = "/api/v1/images/{image}", tag = "storage", params(("image" = String, Path,)), responses((status = 200, body = Image)))]
pub(crate) async fn show(
    State(agent): State<Arc<Agent>>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<Image>, Failure> {
    let image = agent.found(move |connection| images::one(connection, &id)).await?;
    Ok(Json(image.shown(&person.info.roles)))
}

/// Takes a place for an image on the host that is asked. Its file comes next.
#[utoipa::path(post, path = "/api/v1/images", tag = "storage", request_body = NewImage, responses((status = 201, body = Image), (status = 409, description = "The pool takes nothing new, or has not so much room.")))]
pub(crate) async fn make(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    from: Option<Extension<FromHost>>,
    Body(body): Body<NewImage>,
) -> Result<(StatusCode, Json<Image>), Failure> {
    // Whoever leads writes it down; the host that was asked is where the file comes to.
    let me = match from {
        Some(Extension(from)) => cluster::told::who(&from)?,
        None => agent.cluster.store()?.id(),
    };
    let line = person.line(client, "make-image", &body.name);
    let (id, roles) = (VolumeId::new().to_string(), person.info.roles.clone());
    let actor = person.name().to_owned();
    let make = move |connection: &Connection, line: &mut Line| {
        let image = images::begin(connection, &id, &body, me, &actor, now_ms())?;
        line.object = named(&image);
        line.is(&json!({ "file": body.file, "pool": body.pool, "length": body.length }));
        Ok(image.shown(&roles))
    };
    let image = agent.cluster.write_telling(line, make).await?;
    // The first piece comes at once, and is taken here.
    agent.cluster.catch_up().await?;
    Ok((StatusCode::CREATED, Json(image)))
}

/// Fetches an image from an address. It is a task, which goes on after a line that broke and after a restart.
#[utoipa::path(post, path = "/api/v1/images/fetch", tag = "storage", request_body = FetchImage, responses((status = 202, body = Task), (status = 409, description = "The pool takes nothing new.")))]
pub(crate) async fn fetch(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Body(body): Body<FetchImage>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let me = agent.cluster.store()?.id();
    let hosts = agent.hosts_for(body.host.as_deref()).await?;
    let host = hosts.iter().find(|host| **host == me).or(hosts.first()).copied().unwrap_or(me);
    let line = person.line(client, TaskKind::FetchImage.name(), &body.url);
    let (actor, address) = (person.name().to_owned(), client.to_string());
    let fetch = move |connection: &Connection, line: &mut Line| {
        let id = VolumeId::new().to_string();
        let image = images::add_fetched(connection, &id, &body, host, &actor, now_ms())?;
        line.object = named(&image);
        line.is(&json!({ "url": body.url, "pool": body.pool, "allow_private": body.allow_private }));
        let new = NewTask {
            kind: TaskKind::FetchImage,
            object: image.scope(),
            object_name: image.shown.name,
            host: Some(host),
            params: json!({ "pool": image.shown.pool, "from": body }),
            actor,
            address,
        };
        tasks::kept::add(connection, &new, now_ms())
    };
    let task = agent.cluster.write_telling(line, fetch).await?;
    Ok((StatusCode::ACCEPTED, Json(task.shown())))
}

/// Gives an image another name, or says what is on it.
#[utoipa::path(patch, path = "/api/v1/images/{image}", tag = "storage", params(("image" = String, Path,)), request_body = ChangeImage, responses((status = 200, body = Image)))]
pub(crate) async fn change(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    seen: Version,
    Body(body): Body<ChangeImage>,
) -> Result<impl IntoResponse, Failure> {
    let told = |image: &Kept| {
        let Image { name, os, os_version, .. } = &image.shown;
        json!({ "name": name, "os": os, "os_version": os_version })
    };
    let line = person.line(client, "change-image", &id);
    let change = move |connection: &Connection, line: &mut Line| {
        let before = images::one(connection, &id)?;
        line.object = named(&before);
        line.was(&told(&before));
        let changed = images::change(connection, &id, &body, seen)?;
        line.is(&told(&changed));
        Ok(changed.shown(&person.info.roles))
    };
    let image = agent.cluster.write_telling(line, change).await?;
    Ok((tag(image.version), Json(image)))
}

/// How much of its file has come.
#[utoipa::path(get, path = "/api/v1/images/{image}/content", tag = "storage", params(("image" = String, Path,)), responses((status = 200, body = Arrived), (status = 409, description = "It comes to another host.")))]
pub(crate) async fn arrived(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
) -> Result<Json<Arrived>, Failure> {
    let image = agent.arriving_image(id).await?;
    Ok(Json(agent.arrived(&image).await?))
}

/// Takes a piece of its file, which is at most 64 MiB long. What has come may come again, and what has come of a piece that was
/// cut off has come.
#[utoipa::path(put, path = "/api/v1/images/{image}/content", tag = "storage", params(("image" = String, Path,), PieceQuery), request_body(content_type = "application/octet-stream", content = Vec<u8>), responses((status = 200, body = Arrived), (status = 409, description = "It comes to another host, or something is missing before it.")))]
pub(crate) async fn bring(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
    Queried(query): Queried<PieceQuery>,
    mut request: Request,
) -> Result<Response, Failure> {
    let image = agent.arriving_image(id).await?;
    let before = agent.arrived(&image).await?;
    if query.at > before.bytes {
        return Err(conflict(format!("{} bytes have come: go on there.", before.bytes))
            .in_field("at")
            .into());
    }
    let pool = agent.directory(&image.shown.pool);
    let file = pool.open_arriving(image.id).await.map_err(|failed| conflict(failed.to_string()))?;
    let most = (before.length - query.at).min(MAX_PIECE_BYTES as u64);
    let piece = Piece { pool, image: image.id, before, at: query.at, most };
    if request.headers().get(header::UPGRADE) == Some(&pieces::PROTOCOL) {
        let changes = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Err(error) = piece.written_elsewhere(changes, &file).await {
                log::info!("Whoever was given the file of an image is gone: {error}");
            }
        });
        let changes =
            [(header::CONNECTION, HeaderValue::from_static("upgrade")), (header::UPGRADE, pieces::PROTOCOL)];
        return Ok((StatusCode::SWITCHING_PROTOCOLS, changes).into_response());
    }
    let (come, end) = pieces::write(request.into_body(), file, query.at, most).await;
    Ok(Json(piece.has_come(come, end).await?).into_response())
}

/// A piece of a file that comes.
struct Piece {
    pool: Directory,
    image: VolumeId,
    /// How much there was before it.
    before: Arrived,
    at: u64,
    /// So long it is at most.
    most: u64,
}

impl Piece {
    /// Has whoever asked over a connection write it, and answers them.
    async fn written_elsewhere(self, changes: OnUpgrade, file: &File) -> io::Result<()> {
        let changed = changes.await.map_err(io::Error::other)?;
        let parts = upgrade::downcast::<TokioIo<UnixStream>>(changed);
        let mut stream = parts.map_err(|_| io::Error::other("the connection is another"))?.io.into_inner();
        pieces::give(&mut stream, file.as_fd(), self.at, self.most).await?;
        let (come, end) = pieces::told(&mut stream).await;
        let (status, body) = match self.has_come(come, end).await {
            Ok(arrived) => (StatusCode::OK, serde_json::to_vec(&arrived)?),
            Err(problem) => (problem.code.status(), serde_json::to_vec(&problem)?),
        };
        pieces::answer(&mut stream, status, &body).await
    }

    /// How much there is after it.
    async fn has_come(self, come: u64, end: End) -> Result<Arrived, Problem> {
        let Self { pool, image, before, at, most } = self;
        pool.has_come(image).await.map_err(|failed| conflict(failed.to_string()))?;
        match end {
            End::All => Ok(Arrived { bytes: before.bytes.max(at + come), ..before }),
            End::CutOff => Err(Problem::new(ProblemCode::Malformed, "The request was cut short.")),
            End::Failed(why) => Err(conflict(Directory::not_written(why).to_string())),
            End::TooLong if most == MAX_PIECE_BYTES as u64 => {
                let sentence = format!("A piece has at most {MAX_PIECE_BYTES} bytes.");
                Err(Problem::new(ProblemCode::TooLarge, sentence))
            }
            End::TooLong => {
                let sentence =
                    format!("The file was said to have {} bytes, and this is more.", before.length);
                Err(Problem::new(ProblemCode::Invalid, sentence).in_field("at"))
            }
        }
    }
}

/// Makes an image of the file that has come: its sum is checked, what it is is looked at, and it is written as it is kept.
#[utoipa::path(post, path = "/api/v1/images/{image}/finish", tag = "storage", params(("image" = String, Path,)), responses((status = 202, body = Task), (status = 409, description = "Something of it is still missing.")))]
pub(crate) async fn finish(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let found = id.clone();
    let image = agent.found(move |connection| images::one(connection, &found)).await?;
    must_arrive(&image)?;
    // On another host the task looks.
    if image.host == agent.cluster.store()?.id() {
        let Arrived { bytes, length } = agent.arrived(&image).await?;
        if bytes < length {
            return Err(
                conflict(format!("{bytes} of {length} bytes have come. Bring the rest first.")).into()
            );
        }
    }
    let check = |_: &Connection, image: &Kept| {
        let Image { pool, sha256, length, .. } = &image.shown;
        Ok(json!({ "pool": pool, "sha256": sha256, "length": length }))
    };
    agent.begin_image_task(client, &person, id, TaskKind::CreateImage, check).await
}

/// Removes an image, or what has come of one. Disks that began as copies of it stay as they are.
#[utoipa::path(delete, path = "/api/v1/images/{image}", tag = "storage", params(("image" = String, Path,)), request_body = RemoveImage, responses((status = 202, body = Task), (status = 409, description = "Something is being done with it.")))]
pub(crate) async fn remove(
    State(agent): State<Arc<Agent>>,
    client: Client,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<RemoveImage>,
) -> Result<(StatusCode, Json<Task>), Failure> {
    let check = move |connection: &Connection, image: &Kept| {
        let machines = images::in_drives_of(connection, &image.shown.id)?;
        if !machines.is_empty() {
            let sentence = format!("It is in a drive of {}. Take it out first.", machines.join(", "));
            return Err(conflict(sentence).into());
        }
        let machines = layers::on_image(connection, &image.shown.id)?;
        if !machines.is_empty() {
            let sentence = format!("Disks of {} share its data. Remove them first.", machines.join(", "));
            return Err(conflict(sentence).into());
        }
        if body.name != image.shown.name {
            let sentence = format!("To remove this image, type its name: {}.", image.shown.name);
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into());
        }
        Ok(json!({ "pool": image.shown.pool }))
    };
    agent.begin_image_task(client, &person, id, TaskKind::DeleteImage, check).await
}

fn must_arrive(image: &Kept) -> Result<(), Problem> {
    match image.shown.state {
        ImageState::Arriving => Ok(()),
        ImageState::Making => Err(conflict("Its file has come, and is being looked at.")),
        ImageState::Ready | ImageState::Unknown => Err(conflict("Its file has come.")),
    }
}

impl Agent {
    /// An image whose file comes to this host.
    async fn arriving_image(&self, id: String) -> Result<Kept, Problem> {
        let image = self.found(move |connection| images::one(connection, &id)).await?;
        if image.host != self.cluster.store()?.id() {
            let host = &image.shown.host_name;
            return Err(conflict(format!("The file of this image comes to {host}. Bring it there.")));
        }
        must_arrive(&image)?;
        Ok(image)
    }

    async fn arrived(&self, image: &Kept) -> Result<Arrived, Problem> {
        let bytes = self.directory(&image.shown.pool).arrived(image.id).await;
        let bytes = bytes.map_err(|failed| conflict(failed.to_string()))?;
        Ok(Arrived { bytes, length: image.shown.length })
    }

    /// Makes a task that does something with an image.
    async fn begin_image_task(
        &self,
        client: Client,
        person: &Person,
        id: String,
        kind: TaskKind,
        check: impl FnOnce(&Connection, &Kept) -> Result<Value, Refused> + Send + 'static,
    ) -> Result<(StatusCode, Json<Task>), Failure> {
        let line = person.line(client, kind.name(), &id);
        let (actor, address) = (person.name().to_owned(), client.to_string());
        let begin = move |connection: &Connection, line: &mut Line| {
            let image = images::one(connection, &id)?;
            line.object = named(&image);
            let params = check(connection, &image)?;
            let is_left_over = !cluster::kept::is_there(connection, image.host)?;
            let host: Option<HostId> = (!is_left_over).then_some(image.host);
            let object = image.scope();
            let new = NewTask { kind, object, object_name: image.shown.name, host, params, actor, address };
            tasks::kept::add(connection, &new, now_ms())
        };
        let task = self.cluster.write_telling(line, begin).await?;
        Ok((StatusCode::ACCEPTED, Json(task.shown())))
    }
}
