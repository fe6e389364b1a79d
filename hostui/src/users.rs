//! People: who may sign in, and what they may do.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    CallError, ChangeUser, NewUser, Problem, ProblemCode, Role, Secret, User, UserPassword, calls,
};
use serde::Deserialize;

use crate::{
    problem::{Filled, Page, draw},
    session::{SignedIn, turned_away},
    web::{ClientAddress, Web},
};

/// Where every page of this part is in the bar.
trait Here {
    fn here(&self) -> &'static str {
        "users"
    }

    /// What a role is called.
    fn title(&self, role: &Role) -> &'static str {
        match role {
            Role::Administrator => "Administrator",
            Role::Viewer => "Viewer",
        }
    }

    /// How a user stands: a colour and a word.
    fn standing(&self, user: &User) -> (&'static str, &'static str) {
        match (user.locked, user.must_change_password) {
            (true, _) => ("bad", "Locked"),
            (false, true) => ("warn", "Password not chosen yet"),
            (false, false) => ("ok", "Can sign in"),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "users/page.html")]
struct UsersPage {
    users: Vec<User>,
    username: String,
    role: Role,
    problem: Option<Problem>,
}

impl Here for UsersPage {}

impl UsersPage {
    fn error(&self, field: &str) -> Option<&str> {
        self.problem.as_ref()?.about(field)
    }
}

#[derive(Debug, Template)]
#[template(path = "users/user.html")]
struct UserPage {
    user: User,
    /// Whose page it is looks at it.
    is_self: bool,
    problem: Option<Problem>,
}

impl Here for UserPage {}

#[derive(Debug, Template)]
#[template(path = "users/password.html")]
struct PasswordPage {
    made: UserPassword,
    is_new: bool,
}

impl Here for PasswordPage {}

/// `GET /users`
pub(crate) async fn page(State(web): State<Web>, SignedIn(token): SignedIn) -> Response {
    list(&web, &token, String::new(), Role::Viewer, None).await
}

async fn list(web: &Web, token: &Secret, username: String, role: Role, problem: Option<Problem>) -> Response {
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    match web.agent.call(&calls::users().as_session(token)).await {
        Ok(users) => {
            (status, draw(&UsersPage { users: users.items, username, role, problem })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What a new user is made of.
#[derive(Debug, Deserialize)]
pub(crate) struct NewForm {
    username: String,
    role: Role,
}

/// `POST /users`: the password is shown this once.
pub(crate) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    SignedIn(token): SignedIn,
    Filled(form): Filled<NewForm>,
) -> Response {
    let body = NewUser { username: form.username.trim().to_owned(), role: form.role };
    match web.agent.call(&calls::make_user(&body).as_session(&token).for_client(client.0)).await {
        Ok(made) => draw(&PasswordPage { made, is_new: true }),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::Invalid => {
            list(&web, &token, body.username, body.role, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `GET /users/{name}`
pub(crate) async fn user_page(
    State(web): State<Web>,
    SignedIn(token): SignedIn,
    Path(name): Path<String>,
) -> Response {
    show(&web, &token, &name, None).await
}

async fn show(web: &Web, token: &Secret, name: &str, problem: Option<Problem>) -> Response {
    let (users_call, session_call) = (calls::users().as_session(token), calls::session().as_session(token));
    let (users, session) = match tokio::try_join!(web.agent.call(&users_call), web.agent.call(&session_call))
    {
        Ok(found) => found,
        Err(error) => return turned_away(&error),
    };
    let Some(user) = users.items.into_iter().find(|user| user.username == name) else {
        return Page::not_found().into_response();
    };
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let is_self = user.username == session.username;
    (status, draw(&UserPage { user, is_self, problem })).into_response()
}

/// What is done to a user.
#[derive(Debug, Deserialize)]
pub(crate) struct DeedForm {
    /// For a change of role.
    role: Option<Role>,
    /// For a removal: the name, typed once more.
    name: Option<String>,
}

/// `POST /users/{name}/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    SignedIn(token): SignedIn,
    Path((name, deed)): Path<(String, String)>,
    Filled(form): Filled<DeedForm>,
) -> Response {
    // It goes into an address: only names that can be one.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        || name.starts_with('.')
    {
        return Page::not_found().into_response();
    }
    let change = |change| calls::change_user(&name, &change).as_session(&token).for_client(client.0);
    let done = match deed.as_str() {
        "role" => web.agent.call(&change(ChangeUser { role: form.role, locked: None })).await.map(drop),
        "lock" => web.agent.call(&change(ChangeUser { role: None, locked: Some(true) })).await.map(drop),
        "unlock" => web.agent.call(&change(ChangeUser { role: None, locked: Some(false) })).await.map(drop),
        "sign-out" => {
            let call = calls::end_sessions(&name).as_session(&token).for_client(client.0);
            web.agent.call(&call).await
        }
        "password" => {
            let call = calls::reset_password(&name).as_session(&token).for_client(client.0);
            match web.agent.call(&call).await {
                Ok(made) => return draw(&PasswordPage { made, is_new: false }),
                Err(error) => Err(error),
            }
        }
        "remove" if form.name.as_deref().map(str::trim) == Some(name.as_str()) => {
            match web.agent.call(&calls::remove_user(&name).as_session(&token).for_client(client.0)).await {
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
            show(&web, &token, &name, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
