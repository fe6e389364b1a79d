//! Roles: rights with a name.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, ChangeRole, NewRole, Problem, ProblemCode, Right, Role, calls};
use serde::Deserialize;

use crate::{
    access::all,
    component::{Badge, Fault, Field, Heads},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::done,
    session::turned_away,
    users::is_name,
    web::{ClientAddress, Web},
};

#[derive(Debug, Template)]
#[template(path = "roles/page.html", blocks = ["roles"])]
struct RolesPage {
    frame: Frame,
    roles: Vec<Role>,
}

#[derive(Debug, Template)]
#[template(path = "roles/role.html")]
struct RolePage {
    frame: Frame,
    /// Nothing for one that is being made.
    kept: Option<Role>,
    form: RoleForm,
    problem: Option<Problem>,
}

impl RolePage {
    /// Each right, and whether it is ticked.
    fn rights(&self) -> Vec<(Right, bool)> {
        let ticked = |right: &Right| match &self.kept {
            Some(role) if role.built_in => role.rights.contains(right),
            _ => self.form.rights().contains(right),
        };
        Right::ALL.iter().map(|right| (*right, ticked(right))).collect()
    }

    fn is_built_in(&self) -> bool {
        self.kept.as_ref().is_some_and(|role| role.built_in)
    }

    fn error(&self, field: &str) -> Option<&str> {
        self.problem.as_ref()?.about(field)
    }
}

/// What a role is made of. A box that is not ticked sends nothing, and each has a name of its own.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RoleForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    purpose: String,
    /// The version that was seen.
    version: Option<u64>,
    #[serde(flatten)]
    ticked: std::collections::BTreeMap<String, String>,
}

impl RoleForm {
    fn rights(&self) -> BTreeSet<Right> {
        let names = self.ticked.keys().filter_map(|name| name.strip_prefix("right-"));
        names.filter_map(|name| name.parse().ok()).collect()
    }

    fn of(role: &Role) -> Self {
        let ticked = role.rights.iter().map(|right| (format!("right-{}", right.name()), "true".to_owned()));
        Self {
            name: role.name.clone(),
            purpose: role.purpose.clone(),
            version: Some(role.version),
            ticked: ticked.collect(),
        }
    }
}

/// `GET /roles`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    match web.agent.call(&calls::roles(&all()).as_session(frame.token())).await {
        Ok(found) => {
            let page = RolesPage { roles: found.items, frame };
            if page.frame.block() == Some("roles") { draw(&page.as_roles()) } else { draw(&page) }
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /roles/new`
pub(crate) async fn new_page(frame: Frame) -> Response {
    if !frame.manages_people() {
        return Page::not_yours().into_response();
    }
    draw(&RolePage { frame, kept: None, form: RoleForm::default(), problem: None })
}

/// `POST /roles`
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<RoleForm>,
) -> Response {
    let new =
        NewRole { name: form.name.trim().to_owned(), purpose: form.purpose.clone(), rights: form.rights() };
    match web.agent.call(&calls::make_role(&new).as_session(frame.token()).for_client(client.0)).await {
        Ok(role) => done("/roles", &format!("The role {} is there.", role.name)),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::Forbidden) =>
        {
            let status = problem.code.status();
            (status, draw(&RolePage { frame, kept: None, form, problem: Some(problem) })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /roles/{name}`
pub(crate) async fn role_page(State(web): State<Web>, frame: Frame, Path(name): Path<String>) -> Response {
    show(&web, frame, &name, None, None).await
}

async fn show(
    web: &Web,
    frame: Frame,
    name: &str,
    form: Option<RoleForm>,
    problem: Option<Problem>,
) -> Response {
    match web.agent.call(&calls::role(name).as_session(frame.token())).await {
        Ok(role) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let form = form.unwrap_or_else(|| RoleForm::of(&role));
            (status, draw(&RolePage { frame, kept: Some(role), form, problem })).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /roles/{name}/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((name, deed)): Path<(String, String)>,
    Filled(form): Filled<RoleForm>,
) -> Response {
    if !is_name(&name) {
        return Page::not_found().into_response();
    }
    let (result, sentence) = match deed.as_str() {
        "change" => {
            let change = ChangeRole { purpose: Some(form.purpose.clone()), rights: Some(form.rights()) };
            let mut call = calls::change_role(&name, &change).as_session(frame.token()).for_client(client.0);
            if let Some(version) = form.version {
                call = call.if_version(version);
            }
            (web.agent.call(&call).await.map(drop), format!("{name} is saved, for everybody who has it."))
        }
        "remove" => {
            let call = calls::remove_role(&name).as_session(frame.token()).for_client(client.0);
            (web.agent.call(&call).await, format!("The role {name} is removed."))
        }
        _ => return Page::not_found().into_response(),
    };
    match result {
        Ok(()) => done("/roles", &sentence),
        Err(CallError::Problem(problem))
            if matches!(
                problem.code,
                ProblemCode::Invalid | ProblemCode::Forbidden | ProblemCode::ChangedMeanwhile
            ) =>
        {
            // Whoever was overtaken sees what it is now, and their own words are in it.
            let form = (problem.code != ProblemCode::ChangedMeanwhile).then_some(form);
            show(&web, frame, &name, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
