//! The page of a virtual machine.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    Boot, Bus, CallError, CpuModel, Firmware, Folder, Guest, Image, Keep, Pool, PowerVm, Problem,
    ProblemCode, RemoveVm, Right, SettleDrift, Task, TaskQuery, Vm, VmAction, VmCd, VmDisk, VmState, Volume,
    VolumeQuery, VolumeState, calls,
};
use serde::Deserialize;

use super::{ACTIONS, begun, fits, machine_of, standing};
use crate::{
    component::{Badge, Fault, Field, Icon, Level, Post, Standing},
    confirm::Confirm,
    folders,
    frame::Frame,
    load::{self, Load},
    problem::{Filled, Page, draw},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

/// Volumes that are offered to a machine.
pub(super) const MOST_UNUSED: u32 = 200;

#[derive(Debug, Template)]
#[template(path = "vms/vm.html", blocks = ["vm"])]
struct VmPage {
    frame: Frame,
    vm: Vm,
    folders: Vec<Folder>,
    /// The last things that were done with it.
    tasks: Vec<Task>,
    volumes: Vec<Volume>,
    pools: Vec<Pool>,
    images: Vec<Image>,
    /// Volumes of its host that no machine has.
    unused: Vec<Volume>,
    /// Nothing where only another block is drawn.
    load: Option<Load>,
    problem: Option<Problem>,
}

impl VmPage {
    fn standing(&self) -> Standing {
        standing(&self.vm)
    }

    fn deed(&self, deed: &str) -> String {
        format!("/vms/{}/{deed}", self.vm.id)
    }

    fn may_manage(&self) -> bool {
        self.vm.rights.contains(&Right::ManageVms)
    }

    fn may_operate(&self) -> bool {
        self.vm.rights.contains(&Right::OperateVms)
    }

    /// The buttons that make sense now.
    fn buttons(&self) -> Vec<Post> {
        if !self.may_operate() || self.vm.policy.template {
            return Vec::new();
        }
        let sensible = ACTIONS.iter().filter(|(action, ..)| fits(*action, &self.vm));
        sensible
            .map(|(action, words, icon, class)| {
                Post::to(self.deed(&format!("power/{}", action.name())), *words).class(class).icon(icon)
            })
            .collect()
    }

    /// How somebody gets in over SSH, where that is known.
    fn way_in(&self) -> Option<String> {
        let address = self.vm.guest.as_ref()?.addresses().next()?;
        let user = &self.vm.user;
        (!user.is_empty()).then(|| format!("ssh {user}@{address}"))
    }

    /// The folders around it, the outermost first.
    fn crumbs(&self) -> Vec<&Folder> {
        let mut around = Vec::new();
        let mut next = self.vm.folder;
        while let Some(id) = next
            && around.len() < 16
            && let Some(folder) = self.folders.iter().find(|folder| folder.id == id)
        {
            around.push(folder);
            next = folder.parent;
        }
        around.reverse();
        around
    }

    fn folder(&self) -> Option<String> {
        let paths = folders::paths(&self.folders);
        paths.into_iter().find(|(id, _)| Some(*id) == self.vm.folder).map(|(_, path)| path)
    }

    /// Its disks, in order, each with its volume.
    fn disks(&self) -> Vec<(&VmDisk, Option<&Volume>)> {
        let volume = |disk: &VmDisk| self.volumes.iter().find(|volume| volume.id == disk.volume);
        self.vm.spec.disks.iter().map(|disk| (disk, volume(disk))).collect()
    }

    /// The volumes that were taken from it, and that its guest has not given back yet.
    fn leaving(&self) -> impl Iterator<Item = &Volume> {
        let stays = |volume: &Volume| self.vm.spec.disks.iter().any(|disk| disk.volume == volume.id);
        self.volumes.iter().filter(move |volume| !stays(volume))
    }

    /// What is in a drive.
    fn in_drive(&self, cd: &VmCd) -> String {
        let Some(inside) = &cd.image else { return "empty".to_owned() };
        let image = self.images.iter().find(|image| image.id == *inside);
        image.map_or("an image that is gone".to_owned(), |image| image.name.clone())
    }

    fn bus(&self, disk: &VmDisk) -> &'static str {
        match disk.bus {
            None => "as the guest needs it",
            Some(Bus::Virtio) => "virtio",
            Some(Bus::Scsi) => "SCSI",
            Some(Bus::Sata) => "SATA",
        }
    }

    fn size(&self, volume: &Volume) -> String {
        words::bytes(volume.bytes)
    }

    fn disk_choices(&self) -> Vec<(String, String)> {
        let title =
            |volume: &Volume| format!("{} ({} in {})", volume.name, self.size(volume), volume.pool_name);
        let unused = self.unused.iter().map(|volume| (volume.id.clone(), title(volume)));
        std::iter::once((String::new(), "A new one, empty".to_owned())).chain(unused).collect()
    }

    fn pool_choices(&self) -> Vec<(String, String)> {
        self.pools.iter().map(|pool| (pool.id.clone(), pool.name.clone())).collect()
    }

    /// Whether disks can be taken away now.
    fn may_let_go(&self) -> bool {
        self.may_manage()
            && matches!(
                self.vm.state,
                VmState::Stopped | VmState::Crashed | VmState::Running | VmState::Paused
            )
    }

    fn memory(&self) -> String {
        let memory = &self.vm.spec.memory;
        let most = match memory.most_mib > memory.mib {
            true => format!(", can grow to {}", words::bytes(memory.most_mib << 20)),
            false => String::new(),
        };
        format!("{}{most}", words::bytes(memory.mib << 20))
    }

    fn processors(&self) -> String {
        let cpu = &self.vm.spec.cpu;
        let model = match cpu.model {
            _ if !cpu.named.is_empty() => cpu.named.as_str(),
            CpuModel::HostModel => "the host's model",
            CpuModel::HostPassthrough => "the host's own",
        };
        let sockets =
            if cpu.sockets == 1 { "1 socket".to_owned() } else { format!("{} sockets", cpu.sockets) };
        let most = match cpu.most > cpu.cores {
            true => format!(", can grow to {}", cpu.most),
            false => String::new(),
        };
        format!("{} vCPU{most}, {sockets}, {model}", cpu.count())
    }

    /// What is tried before its disks.
    fn starts_from(&self) -> Option<&'static str> {
        match self.vm.spec.boot {
            Boot::Disk => None,
            Boot::Cd => Some("its CD drive"),
            Boot::Network => Some("the network"),
        }
    }

    fn firmware(&self) -> &'static str {
        firmware(self.vm.spec.firmware)
    }

    fn guest(&self) -> &'static str {
        guest(self.vm.spec.guest)
    }
}

pub(super) fn firmware(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Uefi => "UEFI",
        Firmware::SecureBoot => "UEFI with Secure Boot",
        Firmware::Bios => "BIOS",
    }
}

pub(super) fn guest(guest: Guest) -> &'static str {
    match guest {
        Guest::Linux => "Linux or BSD",
        Guest::Windows => "Windows",
        Guest::Legacy => "A legacy system",
    }
}

/// `GET /vms/{id}`
pub(crate) async fn vm_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    if frame.block() != Some(load::BLOCK) {
        return show(&web, frame, &id, None).await;
    }
    match web.agent.call(&calls::vm(&id).as_session(frame.token())).await {
        Ok(vm) => draw(&load_of(&web, &frame, &vm).await),
        Err(error) => turned_away(&error),
    }
}

async fn load_of(web: &Web, frame: &Frame, vm: &Vm) -> Load {
    let call = calls::vm_metrics(&vm.id, &load::asked(&frame.address)).as_session(frame.token());
    Load::of(frame, web.agent.call(&call).await, vm.spec.memory.mib << 20)
}

/// The volumes that it could have, as far as whoever asks may see them.
async fn unused_of(web: &Web, frame: &Frame, vm: &Vm) -> Vec<Volume> {
    let query = VolumeQuery {
        used: Some(false),
        host: Some(vm.host.clone()),
        limit: Some(MOST_UNUSED),
        ..VolumeQuery::default()
    };
    let found = web.agent.call(&calls::volumes(&query).as_session(frame.token())).await;
    let is_ready = |volume: &Volume| volume.state == VolumeState::Ready && volume.task.is_none();
    found.map(|found| found.items.into_iter().filter(is_ready).collect()).unwrap_or_default()
}

pub(super) async fn show(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    let of_it = TaskQuery { object: Some(format!("vm/{id}")), limit: Some(5), ..TaskQuery::default() };
    let vm = calls::vm(id).as_session(frame.token());
    let folders = calls::folders().as_session(frame.token());
    let tasks = calls::tasks(&of_it).as_session(frame.token());
    let its = VolumeQuery { vm: Some(id.to_owned()), limit: Some(1000), ..VolumeQuery::default() };
    let volumes = calls::volumes(&its).as_session(frame.token());
    let pools = calls::pools().as_session(frame.token());
    let asked = tokio::try_join!(
        web.agent.call(&vm),
        web.agent.call(&folders),
        web.agent.call(&tasks),
        web.agent.call(&volumes),
        web.agent.call(&pools)
    );
    match asked {
        Ok((vm, folders, tasks, volumes, pools)) => {
            // Only what is in a drive has a name to be found.
            let images = if vm.spec.cds.is_empty() {
                Vec::new()
            } else {
                match web.agent.call(&calls::images().as_session(frame.token())).await {
                    Ok(images) => images.items,
                    Err(error) => return turned_away(&error),
                }
            };
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let (load, unused) = match frame.block() {
                Some(_) => (None, Vec::new()),
                None => (Some(load_of(web, &frame, &vm).await), unused_of(web, &frame, &vm).await),
            };
            let page = VmPage {
                frame,
                vm,
                folders: folders.items,
                tasks: tasks.items,
                volumes: volumes.items,
                pools: pools.items,
                images,
                unused,
                load,
                problem,
            };
            let drawn = if page.frame.block() == Some("vm") { draw(&page.as_vm()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /vms/{id}/power/{action}`
pub(crate) async fn power(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, action)): Path<(String, String)>,
) -> Response {
    let Some(action) = VmAction::of(&action) else { return Page::not_found().into_response() };
    let call = calls::power_vm(&id, &PowerVm::usual(action)).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => done(&format!("/vms/{id}"), &begun(action, &task.object_name)),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Conflict => {
            show(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// What is said of a machine, besides what it is.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DeedForm {
    #[serde(default)]
    version: u64,
    #[serde(default)]
    name: String,
    keep_disks: Option<String>,
}

/// `POST /vms/{id}/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, deed)): Path<(String, String)>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    let keep = match deed.as_str() {
        "adopt" => Keep::Theirs,
        "restore" => Keep::Ours,
        _ => return Page::not_found().into_response(),
    };
    let call = calls::settle_drift(&id, &SettleDrift { keep }).if_version(form.version);
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => {
            let sentence = match keep {
                Keep::Theirs => "What libvirt has is adopted.",
                Keep::Ours => "What is kept here is restored.",
            };
            done(&format!("/vms/{id}"), sentence)
        }
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Conflict | ProblemCode::ChangedMeanwhile) =>
        {
            show(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /vms/{id}/remove`
pub(crate) async fn remove_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    confirm(&web, frame, &id, None).await
}

async fn confirm(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    let vm = match machine_of(web, &frame, id).await {
        Ok(vm) => vm,
        Err(answer) => return answer,
    };
    let mut sentences =
        vec!["It is taken from its host, and its place here is given up. This cannot be undone.".to_owned()];
    if vm.policy.protected {
        sentences.push("It is protected: take the protection away first, where it is edited.".to_owned());
    }
    if vm.state.is_on() {
        sentences.push("It is on: shut it down first.".to_owned());
    }
    if vm.state == VmState::Suspended {
        sentences.push("Its memory, which is on disk, is given up as well.".to_owned());
    }
    let choice = if vm.spec.disks.is_empty() {
        None
    } else {
        sentences.push(
            "Its disks are removed with all that is on them, unless you say that they stay.".to_owned(),
        );
        Some(("keep_disks", "Its disks stay, as volumes that no machine has"))
    };
    let page = Confirm {
        choice,
        back: format!("/vms/{id}"),
        title: format!("Remove {}", vm.spec.name),
        action: format!("/vms/{id}/remove"),
        sentences,
        name: vm.spec.name,
        button: "Remove",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /vms/{id}/remove`
pub(crate) async fn remove(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    let body = RemoveVm { name: form.name.trim().to_owned(), keep_disks: form.keep_disks.is_some() };
    match web.agent.call(&calls::remove_vm(&id, &body).as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => done("/vms", &begun(VmAction::Delete, &task.object_name)),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::Conflict) =>
        {
            confirm(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
