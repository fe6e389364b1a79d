//! The list of virtual machines, with the tree of their folders beside it.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    CallError, ChangeFolder, ChangeVm, Folder, NewFolder, PowerVm, Problem, ProblemCode, Right, Vm, VmAction,
    VmQuery, calls,
};
use serde::Deserialize;

use super::{ACTIONS, begun, fits, standing};
use crate::{
    component::{Badge, Chips, Fault, Field, Heads, Icon, Pager, Post, Search, Standing},
    folders,
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::done,
    session::turned_away,
    users::query,
    web::{ClientAddress, Web},
    words,
};

/// Machines at once that something is done with.
const MOST_AT_ONCE: usize = 200;
const STATES: [(&str, &str); 7] = [
    ("", "All"),
    ("on", "On"),
    ("off", "Off"),
    ("paused", "Stand still"),
    ("crashed", "Crashed"),
    ("attention", "Need attention"),
    ("template", "Templates"),
];

/// A folder in the tree: how deep it is, and what leads to it.
#[derive(Debug)]
struct Branch {
    id: i64,
    name: String,
    vms: u32,
    depth: usize,
    link: String,
    is_here: bool,
}

#[derive(Debug, Template)]
#[template(path = "vms/page.html", blocks = ["tree", "vms"])]
struct VmsPage {
    frame: Frame,
    vms: Vec<Vm>,
    folders: Vec<Folder>,
    tree: Vec<Branch>,
    /// The folder whose machines are shown; nothing for all.
    here: Option<Folder>,
    pager: Pager,
    problem: Option<Problem>,
}

impl VmsPage {
    fn standing(&self, vm: &Vm) -> Standing {
        standing(vm)
    }

    /// What can be done with one now, from the list.
    fn deeds(&self, vm: &Vm) -> Vec<Post> {
        if !vm.rights.contains(&Right::OperateVms) || vm.policy.template {
            return Vec::new();
        }
        let sensible = ACTIONS.iter().filter(|(action, ..)| fits(*action, vm));
        let deed = |(action, words, icon, class): &(VmAction, &'static str, &'static str, &'static str)| {
            let class = if *class == "danger" { "danger" } else { "" };
            let post = Post::to("/vms/many", *words).class(class).icon(icon);
            post.with("vm", &vm.id).with("deed", action.name()).with("back", self.frame.address.to_string())
        };
        sensible.map(deed).collect()
    }

    /// The first address that its guest tells.
    fn address<'a>(&self, vm: &'a Vm) -> Option<&'a str> {
        vm.guest.as_ref()?.addresses().next()
    }

    fn memory(&self, vm: &Vm) -> String {
        words::bytes(vm.spec.memory.mib << 20)
    }

    fn folder(&self, vm: &Vm) -> String {
        let paths = folders::paths(&self.folders);
        paths.into_iter().find(|(id, _)| Some(*id) == vm.folder).map(|(_, path)| path).unwrap_or_default()
    }

    fn is_narrowed(&self) -> bool {
        ["text", "state", "host"].iter().any(|name| !self.frame.address.get(name).is_empty())
    }

    /// Whether one may make something where one is.
    fn may_make(&self) -> bool {
        match &self.here {
            Some(folder) => folder.rights.contains(&Right::ManageVms),
            None => self.frame.person.may_somewhere(Right::ManageVms),
        }
    }

    /// Whether one may take over what a host has and nobody keeps.
    fn may_import(&self) -> bool {
        self.may_make() && self.frame.person.may_somewhere(Right::OperateHosts)
    }

    fn may_operate(&self) -> bool {
        self.frame.person.may_somewhere(Right::OperateVms)
    }

    fn new_link(&self) -> String {
        match &self.here {
            Some(folder) => format!("/vms/new?folder={}", folder.id),
            None => "/vms/new".to_owned(),
        }
    }

    /// Where machines can be put.
    fn targets(&self) -> Vec<(String, String)> {
        let none = ("0".to_owned(), "In no folder".to_owned());
        let may = |id: &i64| {
            self.folders.iter().any(|folder| folder.id == *id && folder.rights.contains(&Right::ManageVms))
        };
        let paths = folders::paths(&self.folders).into_iter().filter(|(id, _)| may(id));
        std::iter::once(none).chain(paths.map(|(id, path)| (id.to_string(), path))).collect()
    }

    /// The same for a folder, which is never in itself.
    fn parents(&self, folder: &Folder) -> Vec<(String, String)> {
        self.targets().into_iter().filter(|(id, _)| *id != folder.id.to_string()).collect()
    }
}

/// The tree as it is drawn: each folder before those in it.
fn tree(frame: &Frame, all: &[Folder]) -> Vec<Branch> {
    let mut order = folders::paths(all);
    order.sort_by_key(|(_, path)| path.to_lowercase());
    let here = frame.address.get("folder").to_owned();
    order
        .into_iter()
        .filter_map(|(id, path)| {
            let folder = all.iter().find(|folder| folder.id == id)?;
            Some(Branch {
                id,
                name: folder.name.clone(),
                vms: folder.vms,
                depth: path.matches(" / ").count().min(7),
                link: frame.address.without("after").with("folder", &id.to_string()).to_string(),
                is_here: here == id.to_string(),
            })
        })
        .collect()
}

/// `GET /vms?text=…&state=…&folder=…&host=…&sort=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, None).await
}

async fn show(web: &Web, frame: Frame, problem: Option<Problem>) -> Response {
    let part = query(&frame);
    let asked = |name: &str| Some(frame.address.get(name).to_owned()).filter(|asked| !asked.is_empty());
    let query = VmQuery {
        after: part.after,
        limit: part.limit,
        sort: part.sort,
        text: part.text,
        folder: asked("folder").and_then(|folder| folder.parse().ok()),
        host: asked("host"),
        state: asked("state"),
    };
    let (vms, folders) =
        (calls::vms(&query).as_session(frame.token()), calls::folders().as_session(frame.token()));
    match tokio::try_join!(web.agent.call(&vms), web.agent.call(&folders)) {
        Ok((found, folders)) => {
            let folders = folders.items;
            let here = folders.iter().find(|folder| Some(folder.id) == query.folder).cloned();
            let pager = Pager::new(&frame.address, found.next.as_deref());
            let tree = tree(&frame, &folders);
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let page = VmsPage { vms: found.items, folders, tree, here, pager, problem, frame };
            let drawn = match page.frame.block() {
                Some("tree") => draw(&page.as_tree()),
                Some("vms") => draw(&page.as_vms()),
                _ => draw(&page),
            };
            (status, drawn).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What is done with several machines.
#[derive(Debug)]
struct Many {
    ids: Vec<String>,
    deed: String,
    folder: i64,
    back: String,
}

impl Many {
    fn of(fields: Vec<(String, String)>) -> Self {
        let mut many = Self { ids: Vec::new(), deed: String::new(), folder: 0, back: "/vms".to_owned() };
        for (name, value) in fields {
            match name.as_str() {
                "vm" => many.ids.push(value),
                "deed" => many.deed = value,
                "folder" => many.folder = value.parse().unwrap_or_default(),
                // Only to a list of ours.
                "back" if value == "/vms" || value.starts_with("/vms?") => many.back = value,
                _ => {}
            }
        }
        many.ids.truncate(MOST_AT_ONCE);
        many
    }
}

/// `POST /vms/many`: with each that is ticked.
pub(crate) async fn many(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(fields): Filled<Vec<(String, String)>>,
) -> Response {
    let many = Many::of(fields);
    if many.ids.is_empty() {
        return done(&many.back, "Nothing is ticked. Tick the machines first.");
    }
    if many.deed == "consoles" {
        let is_id = |id: &&String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let asked: Vec<_> = many.ids.iter().filter(is_id).map(|id| format!("vm={id}")).collect();
        return Redirect::to(&format!("/console?{}", asked.join("&"))).into_response();
    }
    let (mut went, mut refused) = (0, Vec::new());
    let mut last = None;
    for id in &many.ids {
        let result = match VmAction::of(&many.deed) {
            Some(action) => {
                last = Some(action);
                let call = calls::power_vm(id, &PowerVm::usual(action));
                web.agent
                    .call(&call.as_session(frame.token()).for_client(client.0))
                    .await
                    .map(|task| task.object_name)
            }
            None if many.deed == "move" => {
                let folder = Some(many.folder).filter(|folder| *folder > 0);
                let change = ChangeVm { folder: Some(folder), ..ChangeVm::default() };
                let call = calls::change_vm(id, &change).as_session(frame.token()).for_client(client.0);
                web.agent.call(&call).await.map(|vm| vm.spec.name)
            }
            None => return Page::not_found().into_response(),
        };
        match result {
            Ok(name) => {
                went += 1;
                if many.ids.len() == 1 {
                    let sentence =
                        last.map_or(format!("{name} is somewhere else now."), |last| begun(last, &name));
                    return done(&many.back, &sentence);
                }
            }
            Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
                refused.push(problem.detail);
            }
            Err(error) => return turned_away(&error),
        }
    }
    refused.dedup();
    let why =
        refused.first().map(|why| format!(" {} could not: {why}", many.ids.len() - went)).unwrap_or_default();
    done(&many.back, &format!("Begun with {went} of {}.{why}", many.ids.len()))
}

/// What a folder is made of, and what is done to one.
#[derive(Debug, Deserialize)]
pub(crate) struct FolderForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    parent: i64,
}

fn none_is_zero(folder: i64) -> Option<i64> {
    Some(folder).filter(|folder| *folder > 0)
}

/// `POST /folders`
pub(crate) async fn make_folder(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<FolderForm>,
) -> Response {
    let new = NewFolder { name: form.name.trim().to_owned(), parent: none_is_zero(form.parent) };
    let call = calls::make_folder(&new).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(made) => done(&format!("/vms?folder={}", made.id), &format!("The folder {} is there.", made.name)),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            show(&web, frame, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /folders/{id}/{deed}`
pub(crate) async fn folder(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, deed)): Path<(i64, String)>,
    Filled(form): Filled<FolderForm>,
) -> Response {
    let here = format!("/vms?folder={id}");
    let change = |change: ChangeFolder| {
        calls::change_folder(id, &change).as_session(frame.token()).for_client(client.0)
    };
    let (result, path, sentence) = match deed.as_str() {
        "change" => {
            let name = Some(form.name.trim().to_owned()).filter(|name| !name.is_empty());
            let call = change(ChangeFolder { name, parent: Some(none_is_zero(form.parent)) });
            (web.agent.call(&call).await.map(drop), here, "Saved.")
        }
        "remove" => {
            let call = calls::remove_folder(id).as_session(frame.token()).for_client(client.0);
            (web.agent.call(&call).await, "/vms".to_owned(), "The folder is removed.")
        }
        _ => return Page::not_found().into_response(),
    };
    match result {
        Ok(()) => done(&path, sentence),
        Err(CallError::Problem(problem))
            if matches!(
                problem.code,
                ProblemCode::Invalid | ProblemCode::Conflict | ProblemCode::Forbidden
            ) =>
        {
            show(&web, frame, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
