//! Restarting a host, switching it off, and its support bundle.

use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, PowerHost, Problem, ProblemCode, calls};
use serde::Deserialize;

use crate::{
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page},
    session::turned_away,
    tasks::begun,
    web::{ClientAddress, Web},
};

/// What is typed to go on.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfirmForm {
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Restart,
    ShutDown,
}

impl Deed {
    fn of(name: &str) -> Option<Self> {
        match name {
            "restart" => Some(Self::Restart),
            "shut-down" => Some(Self::ShutDown),
            _ => None,
        }
    }

    fn sentences(self, leads: bool, is_alone: bool) -> Vec<String> {
        let mut sentences = vec!["What runs on it ends.".to_owned()];
        if is_alone {
            sentences.push("It is the only host: these pages are gone as long as it is.".to_owned());
        } else if leads {
            sentences.push("It has the vDC role and gives it to another host first.".to_owned());
        }
        sentences.push(match self {
            Self::Restart => "It is back after some minutes; the task ends when it is.".to_owned(),
            Self::ShutDown => {
                "Somebody must switch it on again, at the machine or its controller.".to_owned()
            }
        });
        sentences
    }
}

/// `GET /cluster/hosts/{id}/power/{deed}`
pub(crate) async fn page(
    State(web): State<Web>,
    frame: Frame,
    Path((id, deed)): Path<(String, String)>,
) -> Response {
    match Deed::of(&deed) {
        Some(deed) => confirm(&web, frame, &id, deed, None).await,
        None => Page::not_found().into_response(),
    }
}

async fn confirm(web: &Web, frame: Frame, id: &str, deed: Deed, problem: Option<Problem>) -> Response {
    let cluster = match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => cluster,
        Err(error) => return turned_away(&error),
    };
    let Some(host) = cluster.hosts.iter().find(|host| host.id == id) else {
        return Page::not_found().into_response();
    };
    let leads = cluster.leader.as_deref() == Some(id);
    let (title, name, button) = match deed {
        Deed::Restart => (format!("Restart {}", host.name), "restart", "Restart"),
        Deed::ShutDown => (format!("Shut down {}", host.name), "shut-down", "Shut down"),
    };
    let page = Confirm {
        back: "/cluster".to_owned(),
        choice: None,
        title,
        action: format!("/cluster/hosts/{id}/power/{name}"),
        sentences: deed.sentences(leads, cluster.hosts.len() == 1),
        name: host.name.clone(),
        button,
        problem,
        frame,
    };
    page.answer()
}

/// `POST /cluster/hosts/{id}/power/{deed}`
pub(crate) async fn begin(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((id, deed)): Path<(String, String)>,
    Filled(form): Filled<ConfirmForm>,
) -> Response {
    let Some(deed) = Deed::of(&deed) else { return Page::not_found().into_response() };
    let body = PowerHost { name: form.name.trim().to_owned() };
    let call = match deed {
        Deed::Restart => calls::restart_host(&id, &body),
        Deed::ShutDown => calls::shut_down_host(&id, &body),
    };
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => begun(&task),
        Err(CallError::Problem(problem)) if problem.code != ProblemCode::SignInNeeded => {
            confirm(&web, frame, &id, deed, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /cluster/hosts/{id}/support-bundle`
pub(crate) async fn bundle(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
) -> Response {
    let call = calls::support_bundle(&id).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => begun(&task),
        Err(error) => turned_away(&error),
    }
}
