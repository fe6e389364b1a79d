//! People: who may sign in, and what they may do.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    ApiToken, Call, CallError, ChangeUser, ListQuery, NewUser, Problem, ProblemCode, Role, Scope, User,
    UserPassword, Who, built_in, calls,
};
use serde::Deserialize;

use crate::{
    access::{self, Given, all},
    component::{Badge, Fault, Field, Heads, Pager, Post, Search, Standing},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::done,
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
#[template(path = "users/page.html", blocks = ["users"])]
struct UsersPage {
    frame: Frame,
    users: Vec<User>,
    pager: Pager,
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
    given: Given,
    tokens: Vec<ApiToken>,
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

/// What the address asks of a list.
pub(crate) fn query(frame: &Frame) -> ListQuery {
    let asked =
        |name: &str| Some(frame.address.get(name).trim().to_owned()).filter(|asked| !asked.is_empty());
    ListQuery { after: asked("after"), limit: Some(50), sort: asked("sort"), text: asked("text") }
}

/// Whether it can be the name of a user, a group or a role: it goes into addresses.
pub(crate) fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) && !name.starts_with('.')
}

async fn list(web: &Web, frame: Frame, username: String, role: String, problem: Option<Problem>) -> Response {
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let (users, roles) = (
        calls::users(&query(&frame)).as_session(frame.token()),
        calls::roles(&all()).as_session(frame.token()),
    );
    match tokio::try_join!(web.agent.call(&users), web.agent.call(&roles)) {
        Ok((users, roles)) => {
            let pager = Pager::new(&frame.address, users.next.as_deref());
            let (users, roles) = (users.items, roles.items);
            let page = UsersPage { frame, users, pager, roles, username, role, problem };
            let drawn =
                if page.frame.block() == Some("users") { draw(&page.as_users()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        // An address that was mistyped leads to the first.
        Err(CallError::Problem(refused)) if refused.code == ProblemCode::Invalid && problem.is_none() => {
            Redirect::to("/users").into_response()
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
    let (user, tokens) =
        (calls::user(name).as_session(frame.token()), calls::tokens_of(name).as_session(frame.token()));
    let (user, tokens) = match tokio::try_join!(web.agent.call(&user), web.agent.call(&tokens)) {
        Ok((user, tokens)) => (user, tokens.items),
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let (path, who) = (format!("/users/{}", user.username), Who::User(user.username.clone()));
    match Given::read(web, &frame, path, who, &user.roles).await {
        Ok(given) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let is_self = user.username == frame.person.username;
            (status, draw(&UserPage { frame, user, given, tokens, is_self, problem })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// What is done to a user.
#[derive(Debug, Deserialize)]
pub(crate) struct DeedForm {
    /// For a role that is given, and where it counts.
    role: Option<String>,
    place: Option<String>,
    /// Of a role or a token that is taken back.
    id: Option<String>,
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
    if !is_name(&name) {
        return Page::not_found().into_response();
    }
    if deed == "password" {
        let call = calls::reset_password(&name).as_session(frame.token()).for_client(client.0);
        return match web.agent.call(&call).await {
            Ok(made) => draw(&PasswordPage { frame, made, is_new: false }),
            Err(error) => refused(&web, frame, &name, error).await,
        };
    }
    let lock = async |locked| {
        let change = ChangeUser { role: None, locked: Some(locked) };
        let call = calls::change_user(&name, &change).as_session(frame.token()).for_client(client.0);
        web.agent.call(&call).await.map(drop)
    };
    let plain =
        async |call: Call<()>| web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await;
    let id = form.id.unwrap_or_default();
    let (result, sentence) = match deed.as_str() {
        "give" => {
            let who = Who::User(name.clone());
            let given = access::give(&web, client, &frame, who, form.role, form.place).await;
            (given, "The role is given.".to_owned())
        }
        "take" => {
            (access::take(&web, client, &frame, id.parse().ok()).await, "The role is taken back.".to_owned())
        }
        "lock" => (lock(true).await, format!("{name} is locked.")),
        "unlock" => (lock(false).await, format!("{name} can sign in again.")),
        "sign-out" => {
            (plain(calls::end_sessions(&name)).await, format!("All sessions of {name} have ended."))
        }
        "second-factor" => (
            plain(calls::reset_second_factor(&name)).await,
            format!("{name} signs in with the password alone, until they set up another."),
        ),
        "revoke-token" => (
            plain(calls::revoke_token_of(&name, &id)).await,
            "The token is good for nothing any more.".to_owned(),
        ),
        "remove" if form.name.as_deref().map(str::trim) == Some(name.as_str()) => {
            (plain(calls::remove_user(&name)).await, format!("{name} is removed."))
        }
        "remove" => {
            let sentence = format!("To remove this user, type the name: {name}.");
            let wrong = Problem::new(ProblemCode::Invalid, sentence).in_field("name");
            (Err(wrong.into()), String::new())
        }
        _ => return Page::not_found().into_response(),
    };
    match result {
        Ok(()) if deed == "remove" => done("/users", &sentence),
        Ok(()) => done(&format!("/users/{name}"), &sentence),
        Err(error) => refused(&web, frame, &name, error).await,
    }
}

async fn refused(web: &Web, frame: Frame, name: &str, error: CallError) -> Response {
    match error {
        CallError::Problem(problem)
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::Forbidden) =>
        {
            show(web, frame, name, Some(problem)).await
        }
        error => turned_away(&error),
    }
}
