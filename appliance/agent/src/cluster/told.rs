//! What hosts tell the one that leads: how far their tasks are, what is wrong with them, and how their machines and pools
//! are. And what they fetch from each other: a task's file, in pieces.

use std::{cell::Cell, path::PathBuf, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, Method, Response, StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use quantix_api::{Problem, ProblemCode};
use quantix_storage::{Directory, VolumeId};
use quantix_store::{HostId, Store};
use serde::{Deserialize, Serialize};

use super::{
    Cluster, Standing as Open,
    node::{ByMember, FromHost},
    unusable,
};
use crate::{
    api::answer::{Body, Failure},
    events::News,
    storage,
    tasks::{Report, Standing, bundle},
    vms::asked::Asked,
};

const REPORT: &str = "/node/v1/task";
const NEWS: &str = "/node/v1/news";
const VM: &str = "/node/v1/vm";
const STORAGE: &str = "/node/v1/storage";
const FILE: &str = "/node/v1/task-file";
const IMAGE: &str = "/node/v1/image";
/// How long the whole file is of which something is given.
const LENGTH: &str = "quantix-length";
tokio::task_local! {
    static WENT_UNANSWERED: Cell<bool>;
}

/// Does something, and says besides whether anything it asked of the cluster went unanswered for now: then it may have
/// failed for no other reason.
pub(crate) async fn listening<T>(work: impl Future<Output = T>) -> (T, bool) {
    // All steps of all tasks are in this: on the stack there is no room for it.
    let work = Box::pin(work);
    WENT_UNANSWERED.scope(Cell::new(false), async { (work.await, WENT_UNANSWERED.with(Cell::get)) }).await
}

/// Notes for whoever listens that there was no answer.
pub(crate) fn heard<T>(answer: Result<T, Problem>) -> Result<T, Problem> {
    if answer.as_ref().is_err_and(Problem::is_passing) {
        // Nobody may be listening.
        WENT_UNANSWERED.try_with(|unanswered| unanswered.set(true)).unwrap_or_default();
    }
    answer
}

/// What of an image travels at once.
const PIECE_OF_IMAGE: u64 = 3 << 20;

/// What an owner tells of its task.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfTask {
    task: i64,
    report: Report,
}

/// A piece of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    task: i64,
    offset: u64,
}

/// A piece of the file of an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceOfImage {
    image: String,
    offset: u64,
}

pub(super) fn routes() -> Router<Arc<Cluster>> {
    Router::new()
        .route(REPORT, post(take_report))
        .route(NEWS, post(take_news))
        .route(VM, post(take_asked))
        .route(STORAGE, post(take_about_storage))
        .route(FILE, post(give_piece))
        .route(IMAGE, post(give_piece_of_image))
}

/// The host that asks over a connection between hosts.
pub(crate) fn who(asks: &FromHost) -> Result<HostId, Problem> {
    asks.host().ok_or_else(unusable)
}

async fn take_report(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    _: ByMember,
    Body(told): Body<OfTask>,
) -> Result<Json<Standing>, Failure> {
    Ok(Json(cluster.take_report(who(&asks)?, told.task, told.report).await?))
}

async fn take_news(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    _: ByMember,
    Body(news): Body<News>,
) -> Result<StatusCode, Failure> {
    cluster.take_news(who(&asks)?, news).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_asked(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    _: ByMember,
    Body(asked): Body<Asked>,
) -> Result<StatusCode, Failure> {
    cluster.take_asked(who(&asks)?, asked).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_about_storage(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    _: ByMember,
    Body(asked): Body<storage::asked::Asked>,
) -> Result<StatusCode, Failure> {
    cluster.take_about_storage(who(&asks)?, asked).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether somebody may have it was decided by the host they asked.
async fn give_piece(
    State(cluster): State<Arc<Cluster>>,
    _: ByMember,
    Body(piece): Body<Piece>,
) -> Result<impl IntoResponse, Failure> {
    let bytes = bundle::piece(&cluster.bundles(), piece.task, piece.offset).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes))
}

/// Every host may have every image.
async fn give_piece_of_image(
    State(cluster): State<Arc<Cluster>>,
    _: ByMember,
    Body(PieceOfImage { image, offset }): Body<PieceOfImage>,
) -> Result<impl IntoResponse, Failure> {
    let missing = || Problem::new(ProblemCode::NotFound, "The image is not there any more.");
    let known = cluster.read(move |connection| storage::images::find(connection, &image)).await?;
    let known = known.ok_or_else(missing)?;
    let dir = Directory::at(cluster.pools_dir.join(&known.shown.pool));
    let piece = dir.piece_of_image(known.id, offset, PIECE_OF_IMAGE).await;
    let (bytes, length) = piece
        .map_err(|failed| Problem::new(ProblemCode::StorageUnavailable, failed.to_string()))?
        .ok_or_else(missing)?;
    let kind = (header::CONTENT_TYPE, "application/octet-stream".to_owned());
    Ok(([kind, (HeaderName::from_static(LENGTH), length.to_string())], bytes))
}

impl Cluster {
    /// The store, once it is open.
    pub(crate) async fn opened(&self) -> Arc<Store> {
        let mut standing = self.standing.subscribe();
        let opened = standing.wait_for(|standing| matches!(standing, Open::Open(_))).await;
        if let Ok(Open::Open(store)) = opened.as_deref() {
            return Arc::clone(store);
        }
        // The sender is in this value: it outlives whoever waits.
        std::future::pending().await
    }

    /// Where files that tasks make are kept.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.folder.with_file_name("bundles")
    }

    /// Tells whoever leads how far a task of this host is.
    pub(crate) async fn report(&self, task: i64, report: Report) -> Result<Standing, Problem> {
        match self.other_leader() {
            Some(leader) => self.ask_host(&leader, REPORT, &OfTask { task, report }).await,
            None => self.take_report(self.store()?.id(), task, report).await,
        }
    }

    /// Tells whoever leads what is wrong with this host.
    pub(crate) async fn tell(&self, news: &News) -> Result<(), Problem> {
        match self.other_leader() {
            Some(leader) => self.ask_host(&leader, NEWS, news).await,
            None => self.take_news(self.store()?.id(), news.clone()).await,
        }
    }

    /// Tells or asks whoever leads something about a machine of this host.
    pub(crate) async fn ask_about_vm(&self, asked: Asked) -> Result<(), Problem> {
        heard(match self.other_leader() {
            Some(leader) => self.ask_host(&leader, VM, &asked).await,
            None => self.take_asked(self.store()?.id(), asked).await,
        })
    }

    /// The same about its pools and volumes.
    pub(crate) async fn ask_about_storage(&self, asked: storage::asked::Asked) -> Result<(), Problem> {
        heard(match self.other_leader() {
            Some(leader) => self.ask_host(&leader, STORAGE, &asked).await,
            None => self.take_about_storage(self.store()?.id(), asked).await,
        })
    }

    /// Waits until this host has all that was kept by now.
    pub(crate) async fn catch_up(&self) -> Result<(), Problem> {
        heard(self.store()?.catch_up().await.map_err(super::failed))
    }

    /// A piece of a file that a task made on another host.
    pub(crate) async fn fetch_file(&self, host: HostId, task: i64, offset: u64) -> Result<Bytes, Problem> {
        Ok(self.fetch_piece(host, FILE, &Piece { task, offset }).await?.into_body())
    }

    /// A piece of the file of an image that another host has, and how long that is.
    pub(crate) async fn fetch_image(
        &self,
        host: HostId,
        image: VolumeId,
        offset: u64,
    ) -> Result<(Bytes, u64), Problem> {
        let piece = PieceOfImage { image: image.to_string(), offset };
        let response = self.fetch_piece(host, IMAGE, &piece).await?;
        let length = response.headers().get(LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.ok_or_else(|| {
            Problem::new(ProblemCode::Unavailable, "The other host does not say how long the file is.")
        })?;
        Ok((response.into_body(), length))
    }

    async fn fetch_piece(
        &self,
        host: HostId,
        path: &str,
        piece: &impl Serialize,
    ) -> Result<Response<Bytes>, Problem> {
        let contact = self.other_member(host).ok_or_else(|| {
            Problem::new(ProblemCode::NotFound, "The host that has the file is no longer in the cluster.")
        })?;
        let body = serde_json::to_vec(piece)
            .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        let response = self.pass_on(&contact, Method::POST, path, &headers, body.into()).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(serde_json::from_slice(response.body()).unwrap_or_else(|_| {
            Problem::new(ProblemCode::Unavailable, format!("The other host answered {}.", response.status()))
        }))
    }
}
