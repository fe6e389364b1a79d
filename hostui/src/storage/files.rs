//! The files of a pool that is a directory: the list of them, and what becomes of one that nobody knows.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    AdoptFile, CallError, FileBecomes, Pool, PoolFile, PoolFiles, Problem, ProblemCode, RemoveFile, calls,
};
use serde::Deserialize;

use super::volume::DeedForm;
use crate::{
    component::{Fault, Field, Level},
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

#[derive(Debug, Template)]
#[template(path = "storage/files.html")]
struct FilesPage {
    frame: Frame,
    pool: Pool,
    host: String,
    host_name: String,
    files: PoolFiles,
    /// Why they are not known.
    unavailable: Option<String>,
}

impl FilesPage {
    fn unknown(&self) -> Vec<&PoolFile> {
        self.files.items.iter().filter(|file| file.belongs_to.is_none()).collect()
    }

    fn known(&self) -> Vec<(&PoolFile, &str)> {
        self.files.items.iter().filter_map(|file| Some((file, file.belongs_to.as_deref()?))).collect()
    }

    fn size(&self, bytes: &u64) -> String {
        words::bytes(*bytes)
    }

    fn written(&self, file: &PoolFile) -> String {
        file.changed_at.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }

    fn page_of(&self, file: &PoolFile, deed: &str) -> String {
        page_of(&self.pool.id, &self.host, deed, &file.path)
    }

    /// Where what it belongs to is shown.
    fn owner_page(&self, file: &PoolFile) -> Option<String> {
        let (kind, id) = file.object.as_deref()?.split_once('/')?;
        match kind {
            "volume" => Some(format!("/storage/volumes/{id}")),
            "image" => Some(format!("/storage/images/{id}/edit")),
            "vm" => Some(format!("/vms/{id}")),
            _ => None,
        }
    }

    fn warning(&self) -> Level {
        Level::Warn
    }
}

fn page_of(pool: &str, host: &str, deed: &str, path: &str) -> String {
    let query = serde_urlencoded::to_string([("path", path)]).unwrap_or_default();
    format!("/storage/pools/{pool}/files/{host}/{deed}?{query}")
}

fn name_of(frame: &Frame, host: &str) -> String {
    let hosts = frame.cluster().map_or(&[][..], |cluster| &cluster.hosts);
    hosts.iter().find(|known| known.id == host).map_or_else(|| host.to_owned(), |known| known.name.clone())
}

/// `GET /storage/pools/{id}/files/{host}`
pub(crate) async fn files_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, host)): Path<(String, String)>,
) -> Response {
    let pool = match web.agent.call(&calls::pool(&id).as_session(frame.token())).await {
        Ok(pool) => pool,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let nothing = PoolFiles { items: Vec::new(), is_cut: false };
    let (files, unavailable) =
        match web.agent.call(&calls::pool_files(&host, &id).as_session(frame.token())).await {
            Ok(files) => (files, None),
            Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
                return Page::not_found().into_response();
            }
            Err(CallError::Problem(problem))
                if matches!(problem.code, ProblemCode::Unavailable | ProblemCode::Conflict) =>
            {
                (nothing, Some(problem.detail))
            }
            Err(error) => return turned_away(&error),
        };
    let host_name = name_of(&frame, &host);
    draw(&FilesPage { frame, pool, host, host_name, files, unavailable }).into_response()
}

/// What is filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AdoptForm {
    name: String,
    becomes: String,
}

#[derive(Debug, Template)]
#[template(path = "storage/adopt.html")]
struct AdoptPage {
    frame: Frame,
    pool: Pool,
    host: String,
    host_name: String,
    file: PoolFile,
    form: AdoptForm,
    problem: Option<Problem>,
}

impl AdoptPage {
    fn action(&self) -> String {
        page_of(&self.pool.id, &self.host, "adopt", &self.file.path)
    }

    fn choices(&self) -> Vec<(&'static str, &'static str)> {
        let volume = ("volume", "A volume: a disk that a machine can have");
        let image = ("image", "An image: something that disks begin as, or a CD");
        if self.file.disk_bytes.is_some() { vec![volume, image] } else { vec![image] }
    }

    fn size(&self, bytes: &u64) -> String {
        words::bytes(*bytes)
    }
}

/// A file that nobody knows, with its pool; or the answer, if there is none.
async fn unknown(web: &Web, frame: &Frame, id: &str, host: &str) -> Result<(Pool, PoolFile), Response> {
    let path = frame.address.get("path");
    let pool = calls::pool(id).as_session(frame.token());
    let files = calls::pool_files(host, id).as_session(frame.token());
    let (pool, files) = match tokio::try_join!(web.agent.call(&pool), web.agent.call(&files)) {
        Ok(both) => both,
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::NotFound | ProblemCode::Conflict) =>
        {
            return Err(Page::not_found().into_response());
        }
        Err(error) => return Err(turned_away(&error)),
    };
    let file = files.items.into_iter().find(|file| file.path == path && file.belongs_to.is_none());
    file.map(|file| (pool, file)).ok_or_else(|| Page::not_found().into_response())
}

/// `GET /storage/pools/{id}/files/{host}/adopt?path=…`
pub(crate) async fn adopt_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, host)): Path<(String, String)>,
) -> Response {
    show(&web, frame, (id, host), None, None).await
}

async fn show(
    web: &Web,
    frame: Frame,
    (id, host): (String, String),
    form: Option<AdoptForm>,
    problem: Option<Problem>,
) -> Response {
    let (pool, file) = match unknown(web, &frame, &id, &host).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let host_name = name_of(&frame, &host);
    let form = form.unwrap_or_else(|| {
        let name = last_of(&file.path);
        let becomes = if file.disk_bytes.is_none() || name.ends_with(".iso") { "image" } else { "volume" };
        let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
        AdoptForm { name: name.chars().take(63).collect(), becomes: becomes.to_owned() }
    });
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&AdoptPage { frame, pool, host, host_name, file, form, problem })).into_response()
}

/// `POST /storage/pools/{id}/files/{host}/adopt?path=…`
pub(crate) async fn adopt(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, host)): Path<(String, String)>,
    Filled(form): Filled<AdoptForm>,
) -> Response {
    let body = AdoptFile {
        path: frame.address.get("path").to_owned(),
        name: form.name.trim().to_owned(),
        becomes: if form.becomes == "image" { FileBecomes::Image } else { FileBecomes::Volume },
    };
    let call = calls::adopt_file(&host, &id, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => {
            done(&format!("/activity/tasks/{}", task.id), &format!("{} is being made.", task.object_name))
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show(&web, frame, (id, host), Some(form), Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /storage/pools/{id}/files/{host}/remove?path=…`
pub(crate) async fn remove_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, host)): Path<(String, String)>,
) -> Response {
    confirm(&web, frame, (id, host), None).await
}

async fn confirm(
    web: &Web,
    frame: Frame,
    (id, host): (String, String),
    problem: Option<Problem>,
) -> Response {
    let (pool, file) = match unknown(web, &frame, &id, &host).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let sentences = vec![
        format!(
            "{} lies in the pool {} on {}, and takes {}. Nobody here knows it.",
            file.path,
            pool.name,
            name_of(&frame, &host),
            words::bytes(file.used)
        ),
        "It is removed for good. This cannot be undone.".to_owned(),
    ];
    let page = Confirm {
        choice: None,
        back: format!("/storage/pools/{id}/files/{host}"),
        title: "Remove a file".to_owned(),
        action: page_of(&id, &host, "remove", &file.path),
        sentences,
        name: last_of(&file.path).to_owned(),
        button: "Remove",
        problem,
        frame,
    };
    page.answer()
}

/// What a file is called, without its folders.
fn last_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// `POST /storage/pools/{id}/files/{host}/remove?path=…`
pub(crate) async fn remove(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, host)): Path<(String, String)>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    let path = frame.address.get("path").to_owned();
    if form.typed() != last_of(&path) {
        let sentence = format!("To remove this file, type its name: {}.", last_of(&path));
        let problem = Problem::new(ProblemCode::Invalid, sentence).in_field("name");
        return confirm(&web, frame, (id, host), Some(problem)).await;
    }
    let call = calls::remove_file(&host, &id, &RemoveFile { path });
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => done(&format!("/activity/tasks/{}", task.id), "The file is being removed."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            confirm(&web, frame, (id, host), Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
