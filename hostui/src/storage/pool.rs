//! A pool: the form that makes one of a host's disks or adds some to it, what is said of it, and how it goes.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    AddDisks, CallError, ChangePool, DiskUse, HostDisk, NewPool, Pool, Problem, ProblemCode, RemovePool,
    calls,
};
use serde::Deserialize;

use super::volume::DeedForm;
use crate::{
    component::{Fault, Field, Icon, Level, Standing},
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// What is said of a new pool, or of more disks for one.
#[derive(Debug, Default)]
struct NewForm {
    name: String,
    host: String,
    disks: Vec<String>,
    erase: bool,
}

impl NewForm {
    fn of(fields: Vec<(String, String)>) -> Self {
        let mut form = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "name" => form.name = value.trim().to_owned(),
                "host" => form.host = value,
                "disk" => form.disks.push(value),
                "erase" => form.erase = true,
                _ => {}
            }
        }
        form
    }
}

#[derive(Debug, Template)]
#[template(path = "storage/new_pool.html")]
struct NewPoolPage {
    frame: Frame,
    form: NewForm,
    hosts: Vec<(String, String)>,
    disks: Vec<HostDisk>,
    /// The pool that the disks are for; nothing for a new one.
    pool: Option<Pool>,
    /// Why there are none to choose from.
    unknown: Option<String>,
    problem: Option<Problem>,
}

impl NewPoolPage {
    fn title(&self) -> String {
        self.pool.as_ref().map_or_else(|| "New pool".to_owned(), |pool| format!("Add disks to {}", pool.name))
    }

    fn sentence(&self) -> &str {
        match self.pool {
            Some(_) => "Whole disks of its host. What is in the pool stays, and goes on being used.",
            None => "Whole disks of a host, on which volumes take only what is written to them.",
        }
    }

    /// Where the form goes.
    fn action(&self) -> String {
        self.pool.as_ref().map_or_else(
            || "/storage/pools/new".to_owned(),
            |pool| format!("/storage/pools/{}/disks", pool.id),
        )
    }

    /// Where whoever thinks better of it goes.
    fn back(&self) -> String {
        self.pool.as_ref().map_or_else(|| "/storage".to_owned(), |pool| format!("/storage/pools/{}", pool.id))
    }

    fn size(&self, bytes: &u64) -> String {
        words::bytes(*bytes)
    }

    fn kind(&self, disk: &HostDisk) -> String {
        let turns = if disk.is_rotating { "Hard disk" } else { "Flash" };
        match (disk.model.as_str(), disk.serial.as_str()) {
            ("", "") => turns.to_owned(),
            (model, serial) => format!("{turns}, {model} {serial}").trim_end().to_owned(),
        }
    }

    fn standing(&self, disk: &HostDisk) -> Standing {
        match disk.usage {
            DiskUse::Free => Standing::ok("Free"),
            DiskUse::NotEmpty => Standing::warn("Something is on it"),
            DiskUse::InUse => Standing::idle("Cannot be taken"),
        }
    }

    fn can_be_taken(&self, disk: &HostDisk) -> bool {
        disk.usage != DiskUse::InUse
    }

    fn is_ticked(&self, disk: &HostDisk) -> bool {
        self.form.disks.contains(&disk.id)
    }

    fn has_any(&self) -> bool {
        self.disks.iter().any(|disk| disk.usage != DiskUse::InUse)
    }

    fn may_need_erasing(&self) -> bool {
        self.disks.iter().any(|disk| disk.usage == DiskUse::NotEmpty)
    }

    fn wrong_disks(&self) -> Option<&str> {
        let problem = self.problem.as_ref().filter(|problem| problem.field.as_deref() == Some("disks"))?;
        Some(&problem.detail)
    }

    fn warning(&self) -> Level {
        Level::Warn
    }
}

/// `GET /storage/pools/new?host=…`
pub(crate) async fn new_page(State(web): State<Web>, frame: Frame) -> Response {
    let form = NewForm { host: frame.address.get("host").to_owned(), ..NewForm::default() };
    draw_new(&web, frame, form, None).await
}

async fn draw_new(web: &Web, frame: Frame, mut form: NewForm, problem: Option<Problem>) -> Response {
    let hosts = frame.cluster().map_or(&[][..], |cluster| &cluster.hosts);
    let hosts: Vec<_> = hosts.iter().map(|host| (host.id.clone(), host.name.clone())).collect();
    if !hosts.iter().any(|(id, _)| *id == form.host) {
        form.host = hosts.first().map(|(id, _)| id.clone()).unwrap_or_default();
    }
    draw_disks(web, NewPoolPage { frame, form, hosts, disks: Vec::new(), pool: None, unknown: None, problem })
        .await
}

/// Draws the form with the disks that its host has.
async fn draw_disks(web: &Web, mut page: NewPoolPage) -> Response {
    if page.unknown.is_none() {
        let asked = calls::host_disks(&page.form.host).as_session(page.frame.token());
        match web.agent.call(&asked).await {
            Ok(disks) => page.disks = disks.items,
            // Whoever asks knows then why there is nothing to choose from.
            Err(CallError::Problem(problem)) if problem.code == ProblemCode::Unavailable => {
                page.unknown = Some(format!("The disks are not known now: {}", problem.detail));
            }
            Err(error) => return turned_away(&error),
        }
    }
    let status = page.problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&page)).into_response()
}

/// `GET /storage/pools/{id}/disks`
pub(crate) async fn disks_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    draw_more(&web, frame, &id, NewForm::default(), None).await
}

/// The form that adds disks to a pool.
async fn draw_more(
    web: &Web,
    frame: Frame,
    id: &str,
    mut form: NewForm,
    problem: Option<Problem>,
) -> Response {
    let pool = match web.agent.call(&calls::pool(id).as_session(frame.token())).await {
        Ok(pool) => pool,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let unknown = match &pool.host {
        Some(host) => {
            form.host.clone_from(host);
            None
        }
        None => Some("This pool is a directory: it is as big as what it lies on.".to_owned()),
    };
    let page =
        NewPoolPage { frame, form, hosts: Vec::new(), disks: Vec::new(), pool: Some(pool), unknown, problem };
    draw_disks(web, page).await
}

/// `POST /storage/pools/{id}/disks`
pub(crate) async fn add_disks(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(fields): Filled<Vec<(String, String)>>,
) -> Response {
    let form = NewForm::of(fields);
    let body = AddDisks { disks: form.disks.clone(), erase: form.erase };
    match web.agent.call(&calls::add_disks(&id, &body).as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => done(
            &format!("/activity/tasks/{}", task.id),
            &format!("The pool {} is being made bigger.", task.object_name),
        ),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            draw_more(&web, frame, &id, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /storage/pools/new`
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(fields): Filled<Vec<(String, String)>>,
) -> Response {
    let form = NewForm::of(fields);
    let new = NewPool {
        name: form.name.clone(),
        host: form.host.clone(),
        disks: form.disks.clone(),
        erase: form.erase,
    };
    match web.agent.call(&calls::make_pool(&new).as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => {
            done(&format!("/activity/tasks/{}", task.id), &format!("The pool {} is being made.", new.name))
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            draw_new(&web, frame, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Template)]
#[template(path = "storage/pool.html")]
struct PoolPage {
    frame: Frame,
    pool: Pool,
    problem: Option<Problem>,
}

/// `GET /storage/pools/{id}`
pub(crate) async fn pool_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    show_pool(&web, frame, &id, None).await
}

async fn show_pool(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    match web.agent.call(&calls::pool(id).as_session(frame.token())).await {
        Ok(pool) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            (status, draw(&PoolPage { frame, pool, problem })).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What is said of a pool.
#[derive(Debug, Deserialize)]
pub(crate) struct PoolForm {
    name: String,
    limit: String,
    version: u64,
}

/// `POST /storage/pools/{id}`
pub(crate) async fn change_pool(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<PoolForm>,
) -> Response {
    let Ok(limit) = form.limit.trim().parse() else {
        let problem = Problem::new(ProblemCode::Invalid, "A limit is 1 to 100 per cent.").in_field("limit");
        return show_pool(&web, frame, &id, Some(problem)).await;
    };
    let body = ChangePool { name: Some(form.name.trim().to_owned()), limit: Some(limit) };
    let call = calls::change_pool(&id, &body).if_version(form.version);
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => done("/storage", "Saved."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show_pool(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /storage/pools/{id}/remove`
pub(crate) async fn remove_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    confirm(&web, frame, &id, None).await
}

async fn confirm(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    let pool = match web.agent.call(&calls::pool(id).as_session(frame.token())).await {
        Ok(pool) => pool,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let disks = match pool.disks.len() {
        1 => "Its disk is empty then".to_owned(),
        count => format!("Its {count} disks are empty then"),
    };
    let page = Confirm {
        choice: None,
        back: format!("/storage/pools/{id}"),
        title: format!("Remove the pool {}", pool.name),
        action: format!("/storage/pools/{id}/remove"),
        sentences: vec![format!("{disks}, and can be used for something else. This cannot be undone.")],
        name: pool.name,
        button: "Remove",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /storage/pools/{id}/remove`
pub(crate) async fn remove(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    let body = RemovePool { name: form.typed() };
    match web.agent.call(&calls::remove_pool(&id, &body).as_session(frame.token()).for_client(client.0)).await
    {
        Ok(task) => done("/storage", &format!("The pool {} is being removed.", task.object_name)),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            confirm(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
