//! Consoles: the window with a tab for each screen and serial line, the ways to them, and what goes through.

use std::sync::Arc;

use askama::Template;
use axum::{
    Json,
    body::Body,
    extract::{Extension, Path, Request, State},
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use quantix_api::{
    Answer, Call, CallError, ConsoleKind, OpenConsole, PowerVm, Problem, ProblemCode, Vm, VmAction, calls,
    connection::asks_for_change,
};
use serde::{Deserialize, Serialize};

use crate::{
    api,
    component::Icon,
    frame::Frame,
    places::Place,
    problem::{Filled, Page, draw},
    session::turned_away,
    web::{ClientAddress, Web},
};

/// Machines in one window.
const MOST: usize = 16;

/// Keys that a browser or its system keeps for itself: as the script calls them, and their words.
const KEYS: [(&str, &str); 10] = [
    ("Control Alt Delete", "Ctrl Alt Del"),
    ("Control Alt F1", "Ctrl Alt F1"),
    ("Control Alt F2", "Ctrl Alt F2"),
    ("Control Alt F3", "Ctrl Alt F3"),
    ("Control Alt F7", "Ctrl Alt F7"),
    ("Alt Tab", "Alt Tab"),
    ("Super", "Windows key"),
    ("PrintScreen", "Print screen"),
    ("Escape", "Esc"),
    ("F12", "F12"),
];

/// What is done with a machine that somebody looks at; what its guest loses by it, if it does, is asked before.
const POWER: [(VmAction, &str, &str); 4] = [
    (VmAction::ShutDown, "Shut down", ""),
    (VmAction::Reboot, "Reboot", ""),
    (
        VmAction::Reset,
        "Reset",
        "is started anew at once. What its guest has not written to its disks is lost.",
    ),
    (
        VmAction::ForceStop,
        "Force off",
        "is switched off at once. What its guest has not written to its disks is lost.",
    ),
];

#[derive(Debug, Template)]
#[template(path = "consoles/page.html")]
struct ConsolesPage {
    frame: Frame,
    vms: Vec<Vm>,
}

struct Tab<'a> {
    vm: &'a Vm,
    kind: &'static str,
    title: String,
    icon: &'static str,
}

impl ConsolesPage {
    fn title(&self) -> String {
        match &self.vms[..] {
            [one] => format!("Console of {}", one.spec.name),
            several => format!("Consoles of {} machines", several.len()),
        }
    }

    fn tabs(&self) -> Vec<Tab<'_>> {
        self.vms.iter().flat_map(Tab::both_of).collect()
    }
}

impl<'a> Tab<'a> {
    fn both_of(vm: &'a Vm) -> [Self; 2] {
        let name = &vm.spec.name;
        let serial = format!("{name}, serial");
        [
            Self { vm, kind: ConsoleKind::Screen.name(), title: name.clone(), icon: "monitor" },
            Self { vm, kind: ConsoleKind::Serial.name(), title: serial, icon: "terminal" },
        ]
    }
}

/// `GET /console?vm=…&vm=…`
pub(crate) async fn page(State(web): State<Web>, frame: Frame, uri: Uri) -> Response {
    let asked = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("vm="));
    let mut vms: Vec<Vm> = Vec::new();
    for id in asked.take(MOST) {
        match web.agent.call(&calls::vm(id).as_session(frame.token())).await {
            Ok(vm) if vms.iter().any(|other| other.id == vm.id) => {}
            Ok(vm) => vms.push(vm),
            Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {}
            Err(error) => return turned_away(&error),
        }
    }
    if vms.is_empty() {
        return Page::not_found().into_response();
    }
    draw(&ConsolesPage { frame, vms }).into_response()
}

/// An answer to the script: what was asked for, or a problem. A browser would complain of an answer that is a refusal, and a
/// machine that is off is nothing to complain of.
async fn told<T: Serialize + Answer>(web: &Web, call: Call<T>) -> Response {
    let problem = match web.agent.call(&call).await {
        Ok(answer) => return Json(answer).into_response(),
        Err(CallError::Problem(problem)) => problem,
        Err(error) => Problem::new(ProblemCode::Unavailable, error.to_string()),
    };
    Json(problem).into_response()
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConsoleForm {
    kind: ConsoleKind,
    #[serde(default)]
    take_over: Option<String>,
}

/// `POST /vms/{id}/console`
pub(crate) async fn open(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<ConsoleForm>,
) -> Response {
    let body = OpenConsole { kind: form.kind, take_over: form.take_over.is_some() };
    told(&web, calls::open_console(&id, &body).as_session(frame.token()).for_client(client.0)).await
}

/// `POST /vms/{id}/console/power/{action}`. One that is started waits for whoever looks.
pub(crate) async fn power(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, action)): Path<(String, String)>,
) -> Response {
    let Some(action) = VmAction::of(&action) else { return Page::not_found().into_response() };
    let body = PowerVm { with_console: action == VmAction::Start, ..PowerVm::usual(action) };
    told(&web, calls::power_vm(&id, &body).as_session(frame.token()).for_client(client.0)).await
}

/// `GET /vms/{id}/picture`: of its screen. A page that is drawn anew soon shows the same.
pub(crate) async fn picture(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    let Ok(request) = calls::vm_picture(&id).as_session(frame.token()).request() else {
        return Page::not_found().into_response();
    };
    match web.agent.pass_on(request).await {
        Ok(answer) if answer.status().is_success() => {
            let kept = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=5")];
            (kept, answer.into_body()).into_response()
        }
        Ok(_) => Page::not_found().into_response(),
        Err(error) => turned_away(&error),
    }
}

/// `GET /api/v1/cluster/hosts/{host}/consoles/{ticket}`: what goes through is not looked at. Whoever has the ticket may have it; that a
/// browser was led here by a page of ours was looked at before.
pub(crate) async fn pass_through(
    State(web): State<Web>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Response {
    if !asks_for_change(&request) {
        let sentence = "A console is a WebSocket, and this request asks for none.";
        return api::refuse(&Problem::new(ProblemCode::Malformed, sentence));
    }
    // It counts among what its client has under way, to the end.
    let Some(under_way) = place.begin() else { return Page::too_many().into_response() };
    match web.agent.tunnel(request, (under_way, place)).await {
        Ok(answer) => answer.map(|body| body.map_or_else(Body::empty, Body::new)),
        Err(error) => turned_away(&error),
    }
}
