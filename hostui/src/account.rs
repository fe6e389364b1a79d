//! One's own account: the second factor, where one is signed in, and tokens for programs.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    ApiToken, CallError, MadeApiToken, NewApiToken, NewSecondFactor, OpenSession, Problem, ProblemCode,
    ProvePassword, RecoveryCodes, Role, Scope, SecondFactorCode, Secret, built_in, calls,
};
use serde::Deserialize;

use crate::{
    access::{self, all},
    component::{Fault, Field, Heads, Post, QrCode, Standing},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

const PATH: &str = "/account";

#[derive(Debug, Template)]
#[template(path = "account/page.html")]
struct AccountPage {
    frame: Frame,
    sessions: Vec<OpenSession>,
    tokens: Vec<ApiToken>,
    roles: Vec<Role>,
    places: access::Places,
    form: AccountForm,
    /// Which form the problem is about.
    wrong: &'static str,
    problem: Option<Problem>,
}

impl AccountPage {
    /// The problem, for the form it is about.
    fn problem_of(&self, form: &str) -> Option<Problem> {
        self.problem.clone().filter(|_| self.wrong == form)
    }

    fn place(&self, scope: &Scope) -> String {
        self.places.name(scope)
    }

    fn place_choices(&self) -> Vec<(String, String)> {
        self.places.choices()
    }

    fn role_choices(&self) -> Vec<(&str, &str)> {
        self.roles.iter().map(|role| (role.name.as_str(), role.name.as_str())).collect()
    }

    /// What one may do, in a sentence.
    fn held(&self) -> String {
        let held = &self.frame.person.roles;
        if held.is_empty() {
            return "You have no role: an administrator can give you one.".to_owned();
        }
        let one = |held: &quantix_api::Held| match &held.through {
            Some(group) => format!("{} {} through {group}", held.role, self.place(&held.scope)),
            None => format!("{} {}", held.role, self.place(&held.scope)),
        };
        format!("You are {}.", held.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

#[derive(Debug, Template)]
#[template(path = "account/second-factor.html")]
struct SecondFactorPage {
    frame: Frame,
    made: NewSecondFactor,
    code: QrCode,
    problem: Option<Problem>,
}

#[derive(Debug, Template)]
#[template(path = "account/codes.html")]
struct CodesPage {
    frame: Frame,
    codes: RecoveryCodes,
}

#[derive(Debug, Template)]
#[template(path = "account/token.html")]
struct TokenPage {
    frame: Frame,
    made: MadeApiToken,
}

/// A token that only looks is the one that does least harm.
fn viewer() -> String {
    built_in::VIEWER.to_owned()
}

/// What the forms of this page send.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AccountForm {
    password: Option<Secret>,
    code: Option<Secret>,
    /// Of a second factor that is being set up, for when its code was mistyped.
    secret: Option<Secret>,
    address: Option<Secret>,
    id: Option<String>,
    #[serde(default)]
    purpose: String,
    #[serde(default = "viewer")]
    role: String,
    #[serde(default)]
    place: String,
    days: Option<u32>,
}

/// `GET /account`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, AccountForm { role: viewer(), ..AccountForm::default() }, "", None).await
}

async fn show(
    web: &Web,
    frame: Frame,
    form: AccountForm,
    wrong: &'static str,
    problem: Option<Problem>,
) -> Response {
    let token = frame.token();
    let (sessions, tokens) = (calls::sessions().as_session(token), calls::tokens().as_session(token));
    let roles = calls::roles(&all()).as_session(token);
    let places = access::Places::read(web, &frame);
    let found =
        tokio::try_join!(web.agent.call(&sessions), web.agent.call(&tokens), web.agent.call(&roles), places);
    match found {
        Ok((sessions, tokens, roles, places)) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let page = AccountPage {
                sessions: sessions.items,
                tokens: tokens.items,
                roles: roles.items,
                places,
                frame,
                form,
                wrong,
                problem,
            };
            (status, draw(&page)).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /account/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(deed): Path<String>,
    Filled(form): Filled<AccountForm>,
) -> Response {
    let proof = ProvePassword { password: form.password.clone().unwrap_or_else(|| Secret::new("")) };
    let token = frame.token().clone();
    let id = form.id.clone().unwrap_or_default();
    let (wrong, result) = match deed.as_str() {
        "second-factor" => {
            let call = calls::begin_second_factor(&proof).as_session(&token).for_client(client.0);
            match web.agent.call(&call).await {
                Ok(made) => return second_factor_page(frame, made, None),
                Err(error) => ("factor", Err(error)),
            }
        }
        "confirm" => return confirm(&web, client, frame, form).await,
        "recovery-codes" => {
            let call = calls::make_recovery_codes(&proof).as_session(&token).for_client(client.0);
            match web.agent.call(&call).await {
                Ok(codes) => return draw(&CodesPage { frame, codes }),
                Err(error) => ("factor", Err(error)),
            }
        }
        "remove-factor" => {
            let call = calls::remove_second_factor(&proof).as_session(&token).for_client(client.0);
            ("factor", web.agent.call(&call).await.map(|()| "You sign in with the password alone now."))
        }
        "end-session" => {
            let call = calls::end_session(&id).as_session(&token).for_client(client.0);
            ("sessions", web.agent.call(&call).await.map(|()| "The session has ended."))
        }
        "sign-out-elsewhere" => {
            let call = calls::end_other_sessions().as_session(&token).for_client(client.0);
            ("sessions", web.agent.call(&call).await.map(|()| "You are signed out everywhere else."))
        }
        "revoke-token" => {
            let call = calls::revoke_token(&id).as_session(&token).for_client(client.0);
            ("tokens", web.agent.call(&call).await.map(|()| "The token is good for nothing any more."))
        }
        "token" => {
            let new = NewApiToken {
                purpose: form.purpose.clone(),
                role: form.role.clone(),
                scope: form.place.parse().unwrap_or(Scope::Datacenter),
                days: form.days.unwrap_or_default(),
            };
            match web.agent.call(&calls::make_token(&new).as_session(&token).for_client(client.0)).await {
                Ok(made) => return draw(&TokenPage { frame, made }),
                Err(error) => ("token", Err(error)),
            }
        }
        _ => return Page::not_found().into_response(),
    };
    match result {
        Ok(sentence) => done(PATH, sentence),
        Err(CallError::Problem(problem)) if is_about_the_form(&problem) => {
            show(&web, frame, form, wrong, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

fn is_about_the_form(problem: &Problem) -> bool {
    matches!(
        problem.code,
        ProblemCode::Invalid
            | ProblemCode::NotFound
            | ProblemCode::Forbidden
            | ProblemCode::TooManyAttempts
            | ProblemCode::Unavailable
    )
}

fn second_factor_page(frame: Frame, made: NewSecondFactor, problem: Option<Problem>) -> Response {
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let code = QrCode::of(made.address.expose());
    (status, draw(&SecondFactorPage { frame, made, code, problem })).into_response()
}

/// Whoever mistypes the code sees the same secret again: it comes back with the form, from the person who has it.
async fn confirm(web: &Web, client: ClientAddress, frame: Frame, form: AccountForm) -> Response {
    let code = SecondFactorCode { code: form.code.unwrap_or_else(|| Secret::new("")) };
    let call = calls::confirm_second_factor(&code).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(codes) => draw(&CodesPage { frame, codes }),
        Err(CallError::Problem(problem)) if problem.about("code").is_some() => {
            match (form.secret, form.address) {
                (Some(secret), Some(address)) => {
                    second_factor_page(frame, NewSecondFactor { secret, address }, Some(problem))
                }
                _ => show(web, frame, AccountForm::default(), "factor", Some(problem)).await,
            }
        }
        Err(CallError::Problem(problem)) if is_about_the_form(&problem) => {
            show(web, frame, AccountForm::default(), "factor", Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
