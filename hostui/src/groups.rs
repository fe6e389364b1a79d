//! Groups: what is given to a group, everybody in it has.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, ChangeGroup, Group, NewGroup, Problem, ProblemCode, User, Who, calls};
use serde::Deserialize;

use crate::{
    access::{self, Given, all},
    component::{Badge, Fault, Field, Heads, Pager, Post, Search},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::done,
    session::turned_away,
    users::{is_name, query},
    web::{ClientAddress, Web},
};

#[derive(Debug, Template)]
#[template(path = "groups/page.html", blocks = ["groups"])]
struct GroupsPage {
    groups: Vec<Group>,
    pager: Pager,
    form: GroupForm,
    problem: Option<Problem>,
    frame: Frame,
}

#[derive(Debug, Template)]
#[template(path = "groups/group.html")]
struct GroupPage {
    frame: Frame,
    group: Group,
    given: Given,
    /// Users who are not in it.
    others: Vec<User>,
    problem: Option<Problem>,
}

impl GroupPage {
    fn deed(&self, deed: &str) -> String {
        format!("/groups/{}/{deed}", self.group.name)
    }

    fn choices(&self) -> Vec<(&str, &str)> {
        self.others.iter().map(|user| (user.username.as_str(), user.username.as_str())).collect()
    }
}

/// What a group is made of, and what is done to one.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct GroupForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    provider_name: String,
    user: Option<String>,
    role: Option<String>,
    place: Option<String>,
    id: Option<i64>,
}

/// `GET /groups`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    list(&web, frame, GroupForm::default(), None).await
}

async fn list(web: &Web, frame: Frame, form: GroupForm, problem: Option<Problem>) -> Response {
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    match web.agent.call(&calls::groups(&query(&frame)).as_session(frame.token())).await {
        Ok(found) => {
            let pager = Pager::new(&frame.address, found.next.as_deref());
            let page = GroupsPage { groups: found.items, pager, form, problem, frame };
            let drawn =
                if page.frame.block() == Some("groups") { draw(&page.as_groups()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /groups`
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<GroupForm>,
) -> Response {
    let provider_name = Some(form.provider_name.trim().to_owned()).filter(|name| !name.is_empty());
    let new = NewGroup { name: form.name.trim().to_owned(), purpose: form.purpose.clone(), provider_name };
    match web.agent.call(&calls::make_group(&new).as_session(frame.token()).for_client(client.0)).await {
        Ok(group) => done(&format!("/groups/{}", group.name), &format!("The group {} is there.", group.name)),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            list(&web, frame, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /groups/{name}`
pub(crate) async fn group_page(State(web): State<Web>, frame: Frame, Path(name): Path<String>) -> Response {
    show(&web, frame, &name, None).await
}

async fn show(web: &Web, frame: Frame, name: &str, problem: Option<Problem>) -> Response {
    let (group, users) =
        (calls::group(name).as_session(frame.token()), calls::users(&all()).as_session(frame.token()));
    let (group, users) = match tokio::try_join!(web.agent.call(&group), web.agent.call(&users)) {
        Ok(found) => found,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let (path, who) = (format!("/groups/{}", group.name), Who::Group(group.name.clone()));
    match Given::read(web, &frame, path, who, &[]).await {
        Ok(given) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let mut others = users.items;
            others.retain(|user| !group.members.contains(&user.username));
            (status, draw(&GroupPage { frame, group, given, others, problem })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /groups/{name}/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((name, deed)): Path<(String, String)>,
    Filled(form): Filled<GroupForm>,
) -> Response {
    if !is_name(&name) {
        return Page::not_found().into_response();
    }
    let user = form.user.unwrap_or_default();
    let call = |call: quantix_api::Call<Group>| call.as_session(frame.token()).for_client(client.0);
    let (to_group, to_groups) = (format!("/groups/{name}"), "/groups".to_owned());
    let (result, path, sentence) = match deed.as_str() {
        "change" => {
            let change = ChangeGroup { purpose: Some(form.purpose), provider_name: Some(form.provider_name) };
            let changed = web.agent.call(&call(calls::change_group(&name, &change))).await.map(drop);
            (changed, to_group, "Saved.".to_owned())
        }
        "put" => {
            let put = web.agent.call(&call(calls::add_to_group(&name, &user))).await.map(drop);
            (put, to_group, format!("{user} is in {name}."))
        }
        "leave" => {
            let taken = web.agent.call(&call(calls::take_from_group(&name, &user))).await.map(drop);
            (taken, to_group, format!("{user} is not in {name} any more."))
        }
        "give" => {
            let who = Who::Group(name.clone());
            let given = access::give(&web, client, &frame, who, form.role, form.place).await;
            (given, to_group, "The role is given.".to_owned())
        }
        "take" => {
            let taken = access::take(&web, client, &frame, form.id).await;
            (taken, to_group, "The role is taken back.".to_owned())
        }
        "remove" if form.name.trim() == name => {
            let remove = calls::remove_group(&name).as_session(frame.token()).for_client(client.0);
            (web.agent.call(&remove).await, to_groups, format!("The group {name} is removed."))
        }
        "remove" => {
            let sentence = format!("To remove this group, type the name: {name}.");
            let wrong = Problem::new(ProblemCode::Invalid, sentence).in_field("name");
            (Err(wrong.into()), to_groups, String::new())
        }
        _ => return Page::not_found().into_response(),
    };
    match result {
        Ok(()) => done(&path, &sentence),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::Forbidden) =>
        {
            show(&web, frame, &name, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
