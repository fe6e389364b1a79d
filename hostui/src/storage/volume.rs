//! A volume: the form that makes one, its page, and how it goes.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    CallError, ChangeVm, ChangeVolume, DiskLimit, GrowVolume, MoveVolume, NewVolume, Pool, Problem,
    ProblemCode, RemoveVolume, Right, Vm, Volume, calls,
};
use serde::Deserialize;

use super::{beside_its_field, gib, standing, taken};
use crate::{
    component::{Badge, Fault, Field, Icon, Standing},
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// What is said of a new volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewForm {
    name: String,
    pool: String,
    host: String,
    gib: String,
}

#[derive(Debug, Template)]
#[template(path = "storage/new.html")]
struct NewPage {
    frame: Frame,
    form: NewForm,
    pools: Vec<Pool>,
    problem: Option<Problem>,
}

impl NewPage {
    fn pool_choices(&self) -> Vec<(String, String)> {
        self.pools.iter().map(|pool| (pool.id.clone(), pool.name.clone())).collect()
    }

    fn host_choices(&self) -> Vec<(String, String)> {
        let hosts = self.frame.cluster().map_or(&[][..], |cluster| &cluster.hosts);
        let any = (String::new(), "Chosen for you".to_owned());
        std::iter::once(any).chain(hosts.iter().map(|host| (host.id.clone(), host.name.clone()))).collect()
    }
}

/// `GET /storage/volumes/new`
pub(crate) async fn new_page(State(web): State<Web>, frame: Frame) -> Response {
    let form = NewForm { gib: "20".to_owned(), ..NewForm::default() };
    draw_new(&web, frame, form, None).await
}

async fn draw_new(web: &Web, frame: Frame, form: NewForm, problem: Option<Problem>) -> Response {
    let pools = match web.agent.call(&calls::pools().as_session(frame.token())).await {
        Ok(pools) => pools.items,
        Err(error) => return turned_away(&error),
    };
    let problem = problem.map(beside_its_field);
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&NewPage { frame, form, pools, problem })).into_response()
}

/// `POST /storage/volumes/new`
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<NewForm>,
) -> Response {
    let bytes = match gib(&form.gib, "gib") {
        Ok(bytes) => bytes,
        Err(problem) => return draw_new(&web, frame, form, Some(problem)).await,
    };
    let new = NewVolume {
        name: form.name.trim().to_owned(),
        pool: form.pool.clone(),
        host: Some(form.host.clone()).filter(|host| !host.is_empty()),
        bytes,
    };
    match web.agent.call(&calls::make_volume(&new).as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => {
            let id = task.object.strip_prefix("volume/").unwrap_or_default();
            done(&format!("/storage/volumes/{id}"), &format!("The volume {} is being made.", new.name))
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            draw_new(&web, frame, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Template)]
#[template(path = "storage/volume.html", blocks = ["volume"])]
struct VolumePage {
    frame: Frame,
    volume: Volume,
    /// How much its machine may use it, if it has one.
    limit: Option<DiskLimit>,
    /// The other pools of its host.
    pools: Vec<Pool>,
    problem: Option<Problem>,
}

impl VolumePage {
    fn standing(&self) -> Standing {
        standing(&self.volume)
    }

    fn taken(&self) -> String {
        taken(&self.volume)
    }

    fn size(&self) -> String {
        words::bytes(self.volume.bytes)
    }

    /// Where it could go, with the room that there is.
    fn pool_choices(&self) -> Vec<(String, String)> {
        let choice = |pool: &Pool| {
            let there = pool.hosts.iter().find(|there| there.host == self.volume.host)?;
            let free = words::bytes(there.capacity.saturating_sub(there.used));
            Some((pool.id.clone(), format!("{}, {free} free", pool.name)))
        };
        self.pools.iter().filter_map(choice).collect()
    }

    /// The least that it can grow to, in whole GiB.
    fn next_gib(&self) -> u32 {
        u32::try_from((self.volume.bytes >> 30) + 1).unwrap_or(u32::MAX)
    }

    fn may_manage(&self) -> bool {
        self.volume.rights.contains(&Right::ManageVms)
    }
}

/// `GET /storage/volumes/{id}`
pub(crate) async fn volume_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    show(&web, frame, &id, None).await
}

async fn show(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    match web.agent.call(&calls::volume(id).as_session(frame.token())).await {
        Ok(volume) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let limit = limit_of(web, &frame, &volume).await;
            let pools = match web.agent.call(&calls::pools().as_session(frame.token())).await {
                Ok(pools) => pools.items.into_iter().filter(|pool| pool.id != volume.pool).collect(),
                // Whoever may not see them moves nothing.
                Err(CallError::Problem(problem)) if problem.code == ProblemCode::Forbidden => Vec::new(),
                Err(error) => return turned_away(&error),
            };
            let page = VolumePage { frame, volume, limit, pools, problem };
            let drawn =
                if page.frame.block() == Some("volume") { draw(&page.as_volume()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// The machine that has a volume, as far as one may see it.
async fn machine_of(web: &Web, frame: &Frame, volume: &Volume) -> Option<Vm> {
    let vm = volume.vm.as_deref()?;
    web.agent.call(&calls::vm(vm).as_session(frame.token())).await.ok()
}

async fn limit_of(web: &Web, frame: &Frame, volume: &Volume) -> Option<DiskLimit> {
    let vm = machine_of(web, frame, volume).await?;
    vm.spec.disks.iter().find(|disk| disk.volume == volume.id).map(|disk| disk.limit)
}

/// Limits how much the machine may use it that has it.
async fn limit(
    web: &Web,
    client: ClientAddress,
    frame: &Frame,
    id: &str,
    form: &DeedForm,
) -> Result<String, CallError> {
    let number = |text: &str, field: &str| {
        let wrong = || Problem::new(ProblemCode::Invalid, "This is not a number that can be used.");
        text.trim().parse().map_err(|_| CallError::Problem(wrong().in_field(field)))
    };
    let limit = DiskLimit { iops: number(&form.iops, "iops")?, mib_s: number(&form.mib_s, "mib_s")? };
    let volume = web.agent.call(&calls::volume(id).as_session(frame.token())).await?;
    let Some(mut vm) = machine_of(web, frame, &volume).await else {
        return Err(CallError::Problem(Problem::new(ProblemCode::Conflict, "No machine has it.")));
    };
    vm.spec.disks.iter_mut().filter(|disk| disk.volume == id).for_each(|disk| disk.limit = limit);
    let body = ChangeVm { spec: Some(vm.spec), ..ChangeVm::default() };
    let call = calls::change_vm(&vm.id, &body).if_version(vm.version);
    web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await?;
    Ok(if limit == DiskLimit::default() { "It has no limit." } else { "It is limited." }.to_owned())
}

/// What is said of a volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeedForm {
    /// What is typed to go on.
    name: String,
    /// Another name. It is on the same page as what is typed to go on.
    new_name: String,
    gib: String,
    mib_s: String,
    iops: String,
    pool: String,
    version: u64,
}

impl DeedForm {
    pub(super) fn typed(self) -> String {
        self.name.trim().to_owned()
    }
}

/// `POST /storage/volumes/{id}/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, deed)): Path<(String, String)>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    let (token, back) = (frame.token().clone(), format!("/storage/volumes/{id}"));
    let told = match deed.as_str() {
        "grow" => match gib(&form.gib, "gib") {
            Ok(bytes) => {
                let call =
                    calls::grow_volume(&id, &GrowVolume { bytes }).as_session(&token).for_client(client.0);
                web.agent.call(&call).await.map(|_| "It is being made bigger.".to_owned())
            }
            Err(problem) => Err(CallError::Problem(problem)),
        },
        "move" => {
            let body = MoveVolume { pool: form.pool.clone() };
            let call = calls::move_volume(&id, &body).as_session(&token).for_client(client.0);
            web.agent.call(&call).await.map(|_| "It is being moved.".to_owned())
        }
        "limit" => limit(&web, client, &frame, &id, &form).await,
        "rename" => {
            let body = ChangeVolume { name: Some(form.new_name.trim().to_owned()) };
            let call = calls::change_volume(&id, &body).if_version(form.version);
            let changed = web.agent.call(&call.as_session(&token).for_client(client.0)).await;
            changed.map(|volume| format!("It is named {}.", volume.name))
        }
        _ => return Page::not_found().into_response(),
    };
    match told {
        Ok(sentence) => done(&back, &sentence),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            let mut problem = beside_its_field(problem);
            if problem.field.as_deref() == Some("name") {
                problem.field = Some("new_name".to_owned());
            }
            show(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /storage/volumes/{id}/remove`
pub(crate) async fn remove_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    confirm(&web, frame, &id, None).await
}

async fn confirm(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    let volume = match web.agent.call(&calls::volume(id).as_session(frame.token())).await {
        Ok(volume) => volume,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let mut sentences = vec!["It is removed with all that is on it. This cannot be undone.".to_owned()];
    if let Some(vm) = &volume.vm_name {
        sentences.push(format!("The virtual machine {vm} has it: take it from there first."));
    }
    let page = Confirm {
        choice: None,
        back: format!("/storage/volumes/{id}"),
        title: format!("Remove {}", volume.name),
        action: format!("/storage/volumes/{id}/remove"),
        sentences,
        name: volume.name,
        button: "Remove",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /storage/volumes/{id}/remove`
pub(crate) async fn remove(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    let body = RemoveVolume { name: form.name.trim().to_owned() };
    match web
        .agent
        .call(&calls::remove_volume(&id, &body).as_session(frame.token()).for_client(client.0))
        .await
    {
        Ok(task) => done("/storage", &format!("The volume {} is being removed.", task.object_name)),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            confirm(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
