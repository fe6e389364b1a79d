//! People: who may sign in, and what they may do.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    CallError, ChangeUser, ListQuery, NewUser, Page as Part, Problem, ProblemCode, Role, Scope, User,
    UserPassword, built_in, calls,
};
use serde::Deserialize;

use crate::{
    component::{Badge, Fault, Field, Heads, Post, Standing},
    frame::Frame,
    problem::{Filled, Page, draw},
    session::turned_away,
    web::{ClientAddress, Web},
};

/// What the pages of this part say in the same words.
trait Words {
    /// What a user is: the role they have everywhere, or those they have here and there.
    fn title(&self, user: &User) -> String {
        match self.role_everywhere(user) {
            Some(role) => role.to_owned(),
            None if user.roles.is_empty() => "none".to_owned(),
            None => user.roles.iter().map(|held| held.role.as_str()).collect::<Vec<_>>().join(", "),
        }
    }

    /// The role that was given to a user for everywhere.
    fn role_everywhere<'a>(&self, user: &'a User) -> Option<&'a str> {
        let mut held = user.roles.iter();
        held.find(|held| held.through.is_none() && held.scope == Scope::Datacenter)
            .map(|held| held.role.as_str())
    }

    /// How a user stands: a colour and a word.
    fn standing(&self, user: &User) -> Standing {
        match (user.locked, user.must_change_password) {
            (true, _) => Standing::bad("Locked"),
            (false, true) => Standing::warn("Password not chosen yet"),
            (false, false) => Standing::ok("Can sign in"),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "users/page.html")]
struct UsersPage {
    frame: Frame,
    users: Vec<User>,
    roles: Vec<Role>,
    username: String,
    role: String,
    problem: Option<Problem>,
}

impl Words for UsersPage {}

impl UsersPage {
    fn choices(&self) -> Vec<(&str, &str)> {
        self.roles.iter().map(|role| (role.name.as_str(), role.name.as_str())).collect()
    }
}

#[derive(Debug, Template)]
#[template(path = "users/user.html")]
struct UserPage {
    frame: Frame,
    user: User,
    roles: Vec<Role>,
    /// Whose page it is looks at it.
    is_self: bool,
    problem: Option<Problem>,
}

impl Words for UserPage {}

impl UserPage {
    /// Where something is done to this user.
    fn deed(&self, deed: &str) -> String {
        format!("/users/{}/{deed}", self.user.username)
    }
}

#[derive(Debug, Template)]
#[template(path = "users/password.html")]
struct PasswordPage {
    frame: Frame,
    made: UserPassword,
    is_new: bool,
}

/// `GET /users`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    list(&web, frame, String::new(), built_in::VIEWER.into(), None).await
}

/// The most that can be asked for at once; there are never more.
fn all() -> ListQuery {
    ListQuery { limit: Some(1000), ..ListQuery::default() }
}

async fn list(web: &Web, frame: Frame, username: String, role: String, problem: Option<Problem>) -> Response {
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let (users, roles) =
        (calls::users(&all()).as_session(frame.token()), calls::roles(&all()).as_session(frame.token()));
    match tokio::try_join!(web.agent.call(&users), web.agent.call(&roles)) {
        Ok((Part { items: users, .. }, Part { items: roles, .. })) => {
            (status, draw(&UsersPage { frame, users, roles, username, role, problem })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What a new user is made of.
#[derive(Debug, Deserialize)]
pub(crate) struct NewForm {
    username: String,
    role: String,
}

/// `POST /users`: the password is shown this once.
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<NewForm>,
) -> Response {
    let body = NewUser { username: form.username.trim().to_owned(), role: form.role };
    match web.agent.call(&calls::make_user(&body).as_session(frame.token()).for_client(client.0)).await {
        Ok(made) => draw(&PasswordPage { frame, made, is_new: true }),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            list(&web, frame, body.username, body.role, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /users/{name}`
pub(crate) async fn user_page(State(web): State<Web>, frame: Frame, Path(name): Path<String>) -> Response {
    show(&web, frame, &name, None).await
}

async fn show(web: &Web, frame: Frame, name: &str, problem: Option<Problem>) -> Response {
    let (user, roles) =
        (calls::user(name).as_session(frame.token()), calls::roles(&all()).as_session(frame.token()));
    match tokio::try_join!(web.agent.call(&user), web.agent.call(&roles)) {
        Ok((user, Part { items: roles, .. })) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let is_self = user.username == frame.person.username;
            (status, draw(&UserPage { frame, user, roles, is_self, problem })).into_response()
        }
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            Page::not_found().into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What is done to a user.
#[derive(Debug, Deserialize)]
pub(crate) struct DeedForm {
    /// For a change of role.
    role: Option<String>,
    /// For a removal: the name, typed once more.
    name: Option<String>,
}

/// `POST /users/{name}/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path((name, deed)): Path<(String, String)>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    // It goes into an address: only names that can be one.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        || name.starts_with('.')
    {
        return Page::not_found().into_response();
    }
    let change = |change: ChangeUser| {
        calls::change_user(&name, &change).as_session(frame.token()).for_client(client.0)
    };
    let done = match deed.as_str() {
        "role" => web.agent.call(&change(ChangeUser { role: form.role, locked: None })).await.map(drop),
        "lock" => web.agent.call(&change(ChangeUser { role: None, locked: Some(true) })).await.map(drop),
        "unlock" => web.agent.call(&change(ChangeUser { role: None, locked: Some(false) })).await.map(drop),
        "sign-out" => {
            let call = calls::end_sessions(&name).as_session(frame.token()).for_client(client.0);
            web.agent.call(&call).await
        }
        "password" => {
            let call = calls::reset_password(&name).as_session(frame.token()).for_client(client.0);
            match web.agent.call(&call).await {
                Ok(made) => return draw(&PasswordPage { frame, made, is_new: false }),
                Err(error) => Err(error),
            }
        }
        "remove" if form.name.as_deref().map(str::trim) == Some(name.as_str()) => {
            match web
                .agent
                .call(&calls::remove_user(&name).as_session(frame.token()).for_client(client.0))
                .await
            {
                Ok(()) => return Redirect::to("/users").into_response(),
                Err(error) => Err(error),
            }
        }
        "remove" => {
            let sentence = format!("To remove this user, type the name: {name}.");
            Err(Problem::new(ProblemCode::Invalid, sentence).in_field("name").into())
        }
        _ => return Page::not_found().into_response(),
    };
    match done {
        Ok(()) => Redirect::to(&format!("/users/{name}")).into_response(),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::Forbidden) =>
        {
            show(&web, frame, &name, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
