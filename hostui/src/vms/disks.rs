//! Disks of a machine: one is made for it, or taken from it.

use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{Cache, CallError, ChangeVm, NewDisk, Problem, ProblemCode, VmDisk, calls};
use serde::Deserialize;

use super::{machine::show, machine_of};
use crate::{
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page},
    reader::done,
    session::turned_away,
    storage,
    web::{ClientAddress, Web},
};

#[derive(Debug, Deserialize)]
pub(crate) struct DiskForm {
    #[serde(default)]
    pool: String,
    #[serde(default)]
    gib: String,
    /// One that is there already, instead of a new one.
    #[serde(default)]
    volume: String,
}

/// `POST /vms/{id}/disks`
pub(crate) async fn add_disk(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<DiskForm>,
) -> Response {
    let token = frame.token().clone();
    if !form.volume.is_empty() {
        let changed =
            change(&web, &client, &frame, &id, |disks| disks.push(VmDisk::usual(form.volume))).await;
        return match changed {
            Ok(_) => done(&format!("/vms/{id}"), "It has the disk now, or from its next start."),
            Err(CallError::Problem(mut problem)) if is_said(&problem) => {
                problem.field = Some("volume".to_owned());
                show(&web, frame, &id, Some(problem)).await
            }
            Err(error) => turned_away(&error),
        };
    }
    let added = async {
        let bytes = storage::gib(&form.gib, "gib").map_err(CallError::Problem)?;
        let (pool, cache) = (form.pool.clone(), Cache::default());
        let disk = NewDisk { pool, bytes, image: None, linked: false, bus: None, cache };
        web.agent.call(&calls::add_disk(&id, &disk).as_session(&token).for_client(client.0)).await
    };
    match added.await {
        Ok(_) => done(&format!("/vms/{id}"), "A disk is being made for it."),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::Conflict) =>
        {
            show(&web, frame, &id, Some(storage::beside_its_field(problem))).await
        }
        Err(error) => turned_away(&error),
    }
}

/// Gives a machine other disks than it has. Whether it is on.
async fn change(
    web: &Web,
    client: &ClientAddress,
    frame: &Frame,
    id: &str,
    change: impl FnOnce(&mut Vec<VmDisk>),
) -> Result<bool, CallError> {
    let token = frame.token();
    let vm = web.agent.call(&calls::vm(id).as_session(token)).await?;
    let mut spec = vm.spec;
    change(&mut spec.disks);
    let body = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
    let call = calls::change_vm(id, &body).if_version(vm.version);
    web.agent.call(&call.as_session(token).for_client(client.0)).await?;
    Ok(vm.state.is_on())
}

fn is_said(problem: &Problem) -> bool {
    matches!(problem.code, ProblemCode::Invalid | ProblemCode::Conflict | ProblemCode::ChangedMeanwhile)
}

/// `GET /vms/{id}/disks/{volume}/let-go`
pub(crate) async fn let_go_page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, volume)): Path<(String, String)>,
) -> Response {
    confirm(&web, frame, &id, &volume, None).await
}

async fn confirm(web: &Web, frame: Frame, id: &str, volume: &str, problem: Option<Problem>) -> Response {
    let vm = match machine_of(web, &frame, id).await {
        Ok(vm) => vm,
        Err(answer) => return answer,
    };
    let known = match web.agent.call(&calls::volume(volume).as_session(frame.token())).await {
        Ok(known) => known,
        Err(error) => return turned_away(&error),
    };
    if !vm.spec.disks.iter().any(|disk| disk.volume == volume) {
        return Page::not_found().into_response();
    }
    let mut sentences = Vec::new();
    if vm.state.is_on() {
        sentences.push(
            "It is on. Unmount the disk in its guest first: what is not written yet would be lost."
                .to_owned(),
        );
    }
    sentences.push("What is on the volume stays, and any machine of this host can have it.".to_owned());
    let page = Confirm {
        choice: None,
        back: format!("/vms/{id}"),
        title: format!("Take {} from {}", known.name, vm.spec.name),
        action: format!("/vms/{id}/disks/{volume}/let-go"),
        sentences,
        name: String::new(),
        button: "Take it away",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /vms/{id}/disks/{volume}/let-go`
pub(crate) async fn let_go(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, volume)): Path<(String, String)>,
) -> Response {
    match change(&web, &client, &frame, &id, |disks| disks.retain(|disk| disk.volume != volume)).await {
        Ok(true) => done(&format!("/vms/{id}"), "Its guest is asked for the disk."),
        Ok(false) => done(&format!("/vms/{id}"), "The volume is taken from it. What is on it stays."),
        Err(CallError::Problem(problem)) if is_said(&problem) => {
            confirm(&web, frame, &id, &volume, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
