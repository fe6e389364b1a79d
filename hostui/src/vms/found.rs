//! Virtual machines that hosts have and that are not among the machines: the list of them, and the page on which one of them is
//! imported.

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    CallError, Folder, FoundDisk, FoundVm, ImportVm, Problem, ProblemCode, VmSpec, VmState, calls,
};
use serde::Deserialize;
use tokio::{task::JoinSet, time::timeout};

use super::{choices::folder_choices, machine};
use crate::{
    component::{Fault, Field, Level, Standing},
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// A host that takes longer is told of as one that does not answer.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// What one host has, or why that is not known.
#[derive(Debug)]
struct OnHost {
    id: String,
    name: String,
    found: Result<Vec<FoundVm>, String>,
}

#[derive(Debug, Template)]
#[template(path = "vms/found.html")]
struct FoundPage {
    frame: Frame,
    hosts: Vec<OnHost>,
}

impl FoundPage {
    fn all(&self) -> Vec<(&OnHost, &FoundVm)> {
        self.hosts.iter().flat_map(|host| host.found.iter().flatten().map(move |vm| (host, vm))).collect()
    }

    fn silent(&self) -> Vec<(&str, &str)> {
        self.hosts.iter().filter_map(|host| Some((&*host.name, &**host.found.as_ref().err()?))).collect()
    }

    fn standing(&self, vm: &FoundVm) -> Standing {
        standing(vm.state)
    }

    fn size(&self, vm: &FoundVm) -> String {
        match vm.disks.iter().map(|disk| disk.bytes).sum::<u64>() {
            0 => String::new(),
            bytes => words::bytes(bytes),
        }
    }

    fn warning(&self) -> Level {
        Level::Warn
    }
}

fn standing(state: VmState) -> Standing {
    match state {
        VmState::Stopped => Standing::idle("Off"),
        VmState::Suspended => Standing::idle("Suspended"),
        VmState::Crashed => Standing::bad("Crashed"),
        VmState::Paused => Standing::warn("Stands still"),
        VmState::Unknown => Standing::warn("Unknown"),
        VmState::Running | VmState::Starting | VmState::Stopping => Standing::ok("On"),
    }
}

/// `GET /vms/found`
pub(crate) async fn found_page(State(web): State<Web>, frame: Frame) -> Response {
    let mut asked = JoinSet::new();
    for host in frame.cluster().map_or(&[][..], |cluster| &cluster.hosts) {
        let (agent, id, name, token) =
            (web.agent.clone(), host.id.clone(), host.name.clone(), frame.token().clone());
        asked.spawn(async move {
            let call = calls::found_vms(&id).as_session(&token);
            let found = match timeout(SAYS_WITHIN, agent.call(&call)).await {
                Ok(Ok(found)) => Ok(found.items),
                Ok(Err(CallError::Problem(problem))) => Err(problem.detail),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("It does not answer.".to_owned()),
            };
            OnHost { id, name, found }
        });
    }
    let mut hosts = asked.join_all().await;
    hosts.sort_by(|one, other| one.name.cmp(&other.name));
    draw(&FoundPage { frame, hosts }).into_response()
}

/// What is filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImportForm {
    name: String,
    folder: String,
}

#[derive(Debug, Template)]
#[template(path = "vms/import.html")]
struct ImportPage {
    frame: Frame,
    host: String,
    host_name: String,
    vm: FoundVm,
    folders: Vec<Folder>,
    filled: ImportForm,
    problem: Option<Problem>,
}

impl ImportPage {
    fn folder_choices(&self) -> Vec<(String, String)> {
        folder_choices(&self.folders)
    }

    fn standing(&self) -> Standing {
        standing(self.vm.state)
    }

    fn may_import(&self) -> bool {
        self.vm.spec.is_some() && self.vm.why_not.is_empty()
    }

    fn memory(&self, spec: &VmSpec) -> String {
        words::bytes(spec.memory.mib << 20)
    }

    fn firmware(&self, spec: &VmSpec) -> &'static str {
        machine::firmware(spec.firmware)
    }

    fn bytes(&self, bytes: &u64) -> String {
        words::bytes(*bytes)
    }

    fn becomes(&self, disk: &FoundDisk) -> &'static str {
        if disk.volume.is_some() { "Stays where it is" } else { "Is copied into local" }
    }

    /// How much is copied.
    fn copied(&self) -> Option<String> {
        let copied = self.vm.disks.iter().filter(|disk| disk.volume.is_none());
        let bytes: u64 = copied.map(|disk| disk.used).sum();
        (bytes > 0).then(|| words::bytes(bytes))
    }

    fn warning(&self) -> Level {
        Level::Warn
    }
}

/// `GET /vms/found/{host}/{vm}`
pub(crate) async fn import_page(
    State(web): State<Web>,
    frame: Frame,
    Path((host, vm)): Path<(String, String)>,
) -> Response {
    show(&web, frame, (&host, &vm), None, None).await
}

async fn show(
    web: &Web,
    frame: Frame,
    (host, vm): (&str, &str),
    filled: Option<ImportForm>,
    problem: Option<Problem>,
) -> Response {
    let found = calls::found_vms(host).as_session(frame.token());
    let folders = calls::folders().as_session(frame.token());
    let (found, folders) = match tokio::try_join!(web.agent.call(&found), web.agent.call(&folders)) {
        Ok(both) => both,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let Some(vm) = found.items.into_iter().find(|found| found.id == vm) else {
        return Page::not_found().into_response();
    };
    let hosts = frame.cluster().map_or(&[][..], |cluster| &cluster.hosts);
    let host_name = hosts.iter().find(|known| known.id == host).map(|known| known.name.clone());
    let name = vm.spec.as_ref().map_or_else(|| vm.called.clone(), |spec| spec.name.clone());
    let filled = filled.unwrap_or(ImportForm { name, folder: "0".to_owned() });
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let folders = folders.items;
    let host = host.to_owned();
    let host_name = host_name.unwrap_or_else(|| host.clone());
    (status, draw(&ImportPage { frame, host, host_name, vm, folders, filled, problem })).into_response()
}

/// `POST /vms/found/{host}/{vm}`
pub(crate) async fn import(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((host, vm)): Path<(String, String)>,
    Filled(form): Filled<ImportForm>,
) -> Response {
    let body = ImportVm {
        host: host.clone(),
        vm: vm.clone(),
        name: Some(form.name.trim().to_owned()),
        folder: form.folder.parse().ok().filter(|folder| *folder != 0),
    };
    let call = calls::import_vm(&body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => {
            done(&format!("/activity/tasks/{}", task.id), &format!("{} is being imported.", task.object_name))
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show(&web, frame, (&host, &vm), Some(form), Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
