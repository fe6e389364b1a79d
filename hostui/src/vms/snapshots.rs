//! The snapshots of a virtual machine, and the form that clones one.

use askama::Template;
use axum::{
    extract::{Extension, Path, Query, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    CallError, ChangeSnapshot, CloneVm, Folder, NewSnapshot, Problem, RemoveSnapshot, RevertVm, Right,
    Schedule, Snapshot, Vm, VmState, calls,
};
use serde::Deserialize;

use super::{
    machine_of,
    schedules::{ScheduleForm, capital},
};
use crate::{
    component::{Badge, Fault, Field, Icon, Level, Post, Standing},
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// So deep a snapshot is moved in at most.
const DEEPEST: usize = 7;

#[derive(Debug, Template)]
#[template(path = "vms/snapshots.html", blocks = ["snapshots"])]
struct SnapshotsPage {
    frame: Frame,
    vm: Vm,
    snapshots: Vec<Snapshot>,
    schedules: Vec<Schedule>,
    filled: SnapshotForm,
    schedule: ScheduleForm,
    problem: Option<Problem>,
}

/// What is filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SnapshotForm {
    name: String,
    description: String,
    memory: Option<String>,
    freeze: Option<String>,
    version: String,
}

impl SnapshotsPage {
    fn may_manage(&self) -> bool {
        self.vm.rights.contains(&Right::ManageVms)
    }

    fn deed(&self, snapshot: &Snapshot, deed: &str) -> String {
        format!("/vms/{}/snapshots/{}/{deed}", self.vm.id, snapshot.id)
    }

    fn tree(&self) -> Vec<(usize, &Snapshot)> {
        tree(&self.snapshots)
    }

    fn often(&self, schedule: &Schedule) -> String {
        capital(&schedule.when.words())
    }

    /// Takes a schedule away.
    fn ends(&self, schedule: &Schedule) -> Post {
        Post::to(format!("/vms/{}/schedules/{}/remove", self.vm.id, schedule.id), "Remove")
            .class("quiet danger")
            .icon("x")
    }

    fn size(&self, snapshot: &Snapshot) -> String {
        snapshot.bytes.map(words::bytes).unwrap_or_default()
    }
}

/// Each behind the one it came from, with how far it is moved in: only where ways part.
fn tree(snapshots: &[Snapshot]) -> Vec<(usize, &Snapshot)> {
    let behind = |parent: Option<&str>| {
        let these = snapshots.iter().filter(|snapshot| snapshot.parent.as_deref() == parent);
        these.collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    let mut open: Vec<(usize, &Snapshot)> = behind(None).into_iter().rev().map(|first| (0, first)).collect();
    while let Some((depth, snapshot)) = open.pop() {
        all.push((depth.min(DEEPEST), snapshot));
        let next = behind(Some(&snapshot.id));
        let deeper = depth + usize::from(next.len() > 1);
        open.extend(next.into_iter().rev().map(|next| (deeper, next)));
    }
    all
}

async fn snapshots(web: &Web, frame: &Frame, id: &str) -> Result<Vec<Snapshot>, Response> {
    let call = calls::snapshots(id).as_session(frame.token());
    web.agent.call(&call).await.map(|all| all.items).map_err(|error| turned_away(&error))
}

/// What was filled in on the page, and what was wrong with it.
#[derive(Default)]
struct Refused {
    snapshot: Option<SnapshotForm>,
    schedule: ScheduleForm,
    problem: Option<Problem>,
}

async fn show(web: &Web, frame: Frame, id: &str, refused: Refused) -> Response {
    let (vm, snapshots) = match (machine_of(web, &frame, id).await, snapshots(web, &frame, id).await) {
        (Ok(vm), Ok(snapshots)) => (vm, snapshots),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let schedules = match web.agent.call(&calls::schedules(id).as_session(frame.token())).await {
        Ok(schedules) => schedules.items,
        Err(error) => return turned_away(&error),
    };
    let Refused { snapshot, schedule, problem } = refused;
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    // A guest that can hold its file systems is asked to.
    let usual = || {
        let freeze = (vm.guest.is_some() && vm.state == VmState::Running).then(|| "true".to_owned());
        SnapshotForm { freeze, ..SnapshotForm::default() }
    };
    let filled = snapshot.unwrap_or_else(usual);
    let page = SnapshotsPage { frame, vm, snapshots, schedules, filled, schedule, problem };
    let drawn =
        if page.frame.block() == Some("snapshots") { draw(&page.as_snapshots()) } else { draw(&page) };
    (status, drawn).into_response()
}

/// The page, with what was wrong with a schedule.
pub(super) async fn show_schedule(
    web: &Web,
    frame: Frame,
    id: &str,
    schedule: ScheduleForm,
    problem: Problem,
) -> Response {
    show(web, frame, id, Refused { schedule, problem: Some(problem), snapshot: None }).await
}

/// `GET /vms/{id}/snapshots`
pub(crate) async fn snapshots_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    show(&web, frame, &id, Refused::default()).await
}

/// `POST /vms/{id}/snapshots`
pub(crate) async fn make_snapshot(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<SnapshotForm>,
) -> Response {
    let new = NewSnapshot {
        name: form.name.trim().to_owned(),
        description: form.description.trim().replace("\r\n", "\n"),
        memory: form.memory.is_some(),
        freeze: form.freeze.is_some(),
    };
    let call = calls::make_snapshot(&id, &new).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(_) => done(&format!("/vms/{id}/snapshots"), &format!("The snapshot {} is being made.", new.name)),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            let refused = Refused { snapshot: Some(form), problem: Some(problem), ..Refused::default() };
            show(&web, frame, &id, refused).await
        }
        Err(error) => turned_away(&error),
    }
}

/// The machine and its snapshot that an address names.
async fn named(
    web: &Web,
    frame: &Frame,
    id: &str,
    snapshot: &str,
) -> Result<(Vm, Snapshot, usize), Response> {
    let (vm, all) = (machine_of(web, frame, id).await?, snapshots(web, frame, id).await?);
    let after = all.iter().filter(|other| other.parent.as_deref() == Some(snapshot)).count();
    match all.into_iter().find(|known| known.id == snapshot) {
        Some(found) => Ok((vm, found, after)),
        None => Err(Page::not_found().into_response()),
    }
}

fn sentences_of_revert(vm: &Vm, snapshot: &Snapshot) -> Vec<String> {
    let mut sentences = vec![
        "What it is now is lost, unless another snapshot has it: make one first if in doubt.".to_owned(),
    ];
    if vm.state.is_on() {
        sentences.push("It is on, and is switched off for that as if its plug was pulled.".to_owned());
    }
    if vm.state == VmState::Suspended {
        sentences.push("Its memory, which is on disk, is given up as well.".to_owned());
    }
    sentences.push(if snapshot.has_memory {
        "It goes on from where it was: its memory of then was kept.".to_owned()
    } else {
        "It is off then, with its disks as they were.".to_owned()
    });
    sentences.push(
        "Disks that it was given later are taken from it, and stay as volumes that no machine has."
            .to_owned(),
    );
    sentences
}

async fn confirm_revert(
    web: &Web,
    frame: Frame,
    id: &str,
    snapshot: &str,
    problem: Option<Problem>,
) -> Response {
    let (vm, snapshot, _) = match named(web, &frame, id, snapshot).await {
        Ok(named) => named,
        Err(answer) => return answer,
    };
    let page = Confirm {
        choice: (!snapshot.has_memory).then_some(("start", "Start it then")),
        back: format!("/vms/{id}/snapshots"),
        title: format!("Take {} back to “{}”", vm.spec.name, snapshot.name),
        action: format!("/vms/{id}/snapshots/{}/revert", snapshot.id),
        sentences: sentences_of_revert(&vm, &snapshot),
        name: String::new(),
        button: "Go back",
        problem,
        frame,
    };
    page.answer()
}

/// `GET /vms/{id}/snapshots/{snapshot}/revert`
pub(crate) async fn revert_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, snapshot)): Path<(String, String)>,
) -> Response {
    confirm_revert(&web, frame, &id, &snapshot, None).await
}

/// What is said besides.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Besides {
    start: Option<String>,
    children: Option<String>,
}

/// `POST /vms/{id}/snapshots/{snapshot}/revert`
pub(crate) async fn revert(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, snapshot)): Path<(String, String)>,
    Filled(form): Filled<Besides>,
) -> Response {
    let body = RevertVm { start: form.start.is_some() };
    let call = calls::revert_vm(&id, &snapshot, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => done(&format!("/vms/{id}"), &format!("{} is being taken back.", task.object_name)),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            confirm_revert(&web, frame, &id, &snapshot, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

async fn confirm_remove(
    web: &Web,
    frame: Frame,
    id: &str,
    snapshot: &str,
    problem: Option<Problem>,
) -> Response {
    let (vm, snapshot, after) = match named(web, &frame, id, snapshot).await {
        Ok(named) => named,
        Err(answer) => return answer,
    };
    let mut sentences = vec![
        format!("{} stays as it is. One cannot go back to this moment any more.", vm.spec.name),
        "What its disks share with what came later is put together with that, which takes a while."
            .to_owned(),
    ];
    if let Some(bytes) = snapshot.bytes {
        sentences.push(format!("Up to {} come free.", words::bytes(bytes)));
    }
    let page = Confirm {
        choice: (after > 0)
            .then_some(("children", "Those go with it that came after it, and whatever came after those")),
        back: format!("/vms/{id}/snapshots"),
        title: format!("Remove the snapshot “{}”", snapshot.name),
        action: format!("/vms/{id}/snapshots/{}/remove", snapshot.id),
        sentences,
        name: String::new(),
        button: "Remove",
        problem,
        frame,
    };
    page.answer()
}

/// `GET /vms/{id}/snapshots/{snapshot}/remove`
pub(crate) async fn drop_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, snapshot)): Path<(String, String)>,
) -> Response {
    confirm_remove(&web, frame, &id, &snapshot, None).await
}

/// `POST /vms/{id}/snapshots/{snapshot}/remove`
pub(crate) async fn drop_snapshot(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, snapshot)): Path<(String, String)>,
    Filled(form): Filled<Besides>,
) -> Response {
    let body = RemoveSnapshot { children: form.children.is_some() };
    let call = calls::remove_snapshot(&id, &snapshot, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(_) => done(&format!("/vms/{id}/snapshots"), "The snapshot is being removed."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            confirm_remove(&web, frame, &id, &snapshot, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Template)]
#[template(path = "vms/snapshot.html")]
struct SnapshotPage {
    frame: Frame,
    vm: Vm,
    snapshot: Snapshot,
    filled: SnapshotForm,
    problem: Option<Problem>,
}

async fn show_one(
    web: &Web,
    frame: Frame,
    id: &str,
    snapshot: &str,
    filled: Option<(SnapshotForm, Problem)>,
) -> Response {
    let (vm, snapshot, _) = match named(web, &frame, id, snapshot).await {
        Ok(named) => named,
        Err(answer) => return answer,
    };
    let status = filled.as_ref().map(|(_, problem)| problem.code.status()).unwrap_or_default();
    let (filled, problem) = match filled {
        Some((filled, problem)) => (filled, Some(problem)),
        None => {
            let (name, description) = (snapshot.name.clone(), snapshot.description.clone());
            let version = snapshot.version.to_string();
            (SnapshotForm { name, description, version, ..SnapshotForm::default() }, None)
        }
    };
    (status, draw(&SnapshotPage { frame, vm, snapshot, filled, problem })).into_response()
}

/// `GET /vms/{id}/snapshots/{snapshot}`
pub(crate) async fn snapshot_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, snapshot)): Path<(String, String)>,
) -> Response {
    show_one(&web, frame, &id, &snapshot, None).await
}

/// `POST /vms/{id}/snapshots/{snapshot}`
pub(crate) async fn change_snapshot(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, snapshot)): Path<(String, String)>,
    Filled(form): Filled<SnapshotForm>,
) -> Response {
    let change = ChangeSnapshot {
        name: Some(form.name.trim().to_owned()),
        description: Some(form.description.trim().replace("\r\n", "\n")),
    };
    let version = form.version.parse().unwrap_or_default();
    let call = calls::change_snapshot(&id, &snapshot, &change).if_version(version);
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => done(&format!("/vms/{id}/snapshots"), "Saved."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show_one(&web, frame, &id, &snapshot, Some((form, problem))).await
        }
        Err(error) => turned_away(&error),
    }
}

/// What is filled in where a machine is cloned.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CloneForm {
    name: String,
    folder: String,
    snapshot: String,
    kind: String,
    start: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "vms/clone.html")]
struct ClonePage {
    frame: Frame,
    vm: Vm,
    snapshots: Vec<Snapshot>,
    folders: Vec<Folder>,
    filled: CloneForm,
    problem: Option<Problem>,
}

impl ClonePage {
    fn folder_choices(&self) -> Vec<(String, String)> {
        super::choices::folder_choices(&self.folders)
    }

    fn moments(&self) -> Vec<(String, String)> {
        let now = (String::new(), "as it is now".to_owned());
        let ready = self.snapshots.iter().filter(|snapshot| snapshot.is_ready);
        std::iter::once(now)
            .chain(ready.map(|snapshot| (snapshot.id.clone(), format!("as it was at {}", snapshot.name))))
            .collect()
    }

    fn kinds(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("whole", "Copied whole: it stands by itself"),
            ("linked", "Linked: it shares what they have in common, and is there at once"),
        ]
    }
}

async fn show_clone(
    web: &Web,
    frame: Frame,
    id: &str,
    filled: CloneForm,
    problem: Option<Problem>,
) -> Response {
    let folders = calls::folders().as_session(frame.token());
    let (vm, snapshots) = match (machine_of(web, &frame, id).await, snapshots(web, &frame, id).await) {
        (Ok(vm), Ok(snapshots)) => (vm, snapshots),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let folders = match web.agent.call(&folders).await {
        Ok(folders) => folders.items,
        Err(error) => return turned_away(&error),
    };
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&ClonePage { frame, vm, snapshots, folders, filled, problem })).into_response()
}

/// `GET /vms/{id}/clone`
pub(crate) async fn clone_page(
    State(web): State<Web>,
    frame: Frame,
    Path(id): Path<String>,
    Query(mut filled): Query<CloneForm>,
) -> Response {
    if filled.folder.is_empty()
        && let Ok(vm) = machine_of(&web, &frame, &id).await
    {
        filled.folder = vm.folder.unwrap_or_default().to_string();
        filled.kind = if vm.policy.template { "linked" } else { "whole" }.to_owned();
    }
    show_clone(&web, frame, &id, filled, None).await
}

/// `POST /vms/{id}/clone`
pub(crate) async fn clone(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<CloneForm>,
) -> Response {
    let body = CloneVm {
        name: form.name.trim().to_owned(),
        folder: form.folder.parse().ok().filter(|folder| *folder != 0),
        snapshot: (!form.snapshot.is_empty()).then(|| form.snapshot.clone()),
        linked: form.kind == "linked",
        start: form.start.is_some(),
    };
    let call = calls::clone_vm(&id, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => {
            let made = task.object.strip_prefix("vm/").unwrap_or_default();
            done(&format!("/vms/{made}"), &format!("{} is being cloned.", body.name))
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show_clone(&web, frame, &id, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_a_snapshot_stands_behind_it() {
        let snapshot = |id: &str, parent: Option<&str>| Snapshot {
            id: id.into(),
            name: id.into(),
            description: String::new(),
            parent: parent.map(str::to_owned),
            is_current: false,
            is_ready: true,
            has_memory: false,
            is_frozen: false,
            disks: 1,
            bytes: None,
            made_at: Default::default(),
            made_by: String::new(),
            version: 1,
        };
        let all = vec![
            snapshot("a", None),
            snapshot("b", Some("a")),
            snapshot("c", Some("b")),
            snapshot("d", Some("a")),
            snapshot("e", None),
        ];
        let drawn: Vec<_> = tree(&all).into_iter().map(|(depth, one)| (depth, one.id.as_str())).collect();
        assert_eq!(drawn, [(0, "a"), (1, "b"), (1, "c"), (1, "d"), (0, "e")]);
    }
}
