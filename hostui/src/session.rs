//! Signing in, signing out, and the password. The token lives in a cookie that no script can read and no other site
//! can send.

use askama::Template;
use axum::{
    extract::{Extension, FromRequestParts, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    CallError, ChangePassword, Problem, ProblemCode, SecondFactorCode, Secret, Session, SignIn, calls,
};
use serde::Deserialize;

use crate::{
    component::{Fault, Field, Level},
    next::{self, Next},
    problem::{Filled, Page, draw},
    reader,
    web::{ClientAddress, Web},
};

const COOKIE: &str = "__Host-quantix";
const CODE: &str = "/sign-in/code";
const COOKIE_RULES: &str = "; Path=/; Secure; HttpOnly; SameSite=Strict";

/// The token the browser holds, if any.
#[derive(Clone, Debug)]
pub(crate) struct Visitor(Option<Secret>);

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(token(&parts.headers).map(Secret::new)))
    }
}

impl Visitor {
    /// The token, if there is one.
    pub(crate) fn token(&self) -> Option<&Secret> {
        self.0.as_ref()
    }
}

/// The token of somebody who has one; whoever has none is shown the way to sign in before anything else is looked at.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn(pub(crate) Secret);

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        token(&parts.headers).map(|token| Self(Secret::new(token))).ok_or_else(to_sign_in)
    }
}

/// The way to sign in.
pub(crate) fn to_sign_in() -> Response {
    Redirect::to("/sign-in").into_response()
}

/// What a page answers when the agent did not give it what it needs: the way to sign in, to a password of one's own,
/// or a page that says what happened.
pub(crate) fn turned_away(error: &CallError) -> Response {
    match error {
        CallError::Problem(Problem { code: ProblemCode::SignInNeeded, .. }) => {
            ([(header::SET_COOKIE, ended_cookie())], Redirect::to("/sign-in?ended=1")).into_response()
        }
        CallError::Problem(Problem { code: ProblemCode::CodeNeeded, .. }) => {
            Redirect::to(CODE).into_response()
        }
        CallError::Problem(Problem { code: ProblemCode::PasswordChangeNeeded, .. }) => {
            Redirect::to("/password").into_response()
        }
        other => Page::agent(other).into_response(),
    }
}

#[derive(Debug, Default, Template)]
#[template(path = "session/sign-in.html")]
struct SignInPage {
    username: String,
    error: Option<String>,
    ended: bool,
    /// Where to go afterwards.
    next: Option<Next>,
    /// The identity provider, where people can sign in with one.
    provider: Option<String>,
}

/// What the identity provider is called, if there is one. Whether that can be found out or not, passwords work.
async fn provider(web: &Web) -> Option<String> {
    web.agent.call(&calls::ways_in()).await.ok()?.provider
}

/// `GET /sign-in`
pub(crate) async fn sign_in_page(State(web): State<Web>, RawQuery(query): RawQuery) -> Response {
    let provider = provider(&web).await;
    // Whatever else an address brings along, it leads to the page.
    let ended = query.as_deref().is_some_and(|query| query.split('&').any(|part| part == "ended=1"));
    draw(&SignInPage { ended, next: Next::in_query(query.as_deref()), provider, ..SignInPage::default() })
}

/// The sign-in page for somebody who came back from elsewhere and was not let in.
pub(crate) async fn refused_at_the_door(web: &Web, error: &CallError) -> Response {
    let (status, wait) = refusal(error);
    let provider = provider(web).await;
    let page = SignInPage { error: Some(error.to_string()), provider, ..SignInPage::default() };
    (status, wait, draw(&page)).into_response()
}

#[derive(Debug, Deserialize)]
pub(crate) struct SignInForm {
    username: String,
    password: Secret,
    #[serde(default)]
    next: String,
}

/// `POST /sign-in`
pub(crate) async fn sign_in(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    Filled(form): Filled<SignInForm>,
) -> Response {
    let next = form.next.parse::<Next>().ok();
    let body = SignIn { username: form.username.trim().to_owned(), password: form.password };
    match web.agent.call(&calls::sign_in(&body).for_client(client.0)).await {
        Ok(session) => begun(&session, next.as_ref()),
        Err(error) => {
            let (status, wait) = refusal(&error);
            let (username, error) = (body.username, Some(error.to_string()));
            let page = SignInPage { username, error, ended: false, next, provider: provider(&web).await };
            (status, wait, draw(&page)).into_response()
        }
    }
}

/// A browser is given its session, and led to what comes next.
fn begun(session: &Session, next: Option<&Next>) -> Response {
    let next = match &session.info {
        info if info.code_needed => next.map_or_else(|| CODE.to_owned(), |next| next.after(CODE)),
        info if info.must_change_password => "/password".to_owned(),
        _ => next.map_or(next::AT_FIRST, Next::as_str).to_owned(),
    };
    with_session(Redirect::to(&next).into_response(), session)
}

/// A browser that shows `page` keeps its session; or there is the page that says that it cannot.
pub(crate) fn with_session(mut page: Response, session: &Session) -> Response {
    match HeaderValue::from_str(&format!("{COOKIE}={}{COOKIE_RULES}", session.token.expose())) {
        Ok(kept) => {
            page.headers_mut().append(header::SET_COOKIE, kept);
            page
        }
        Err(_) => Page::agent(&CallError::Broken("the token is not text".into())).into_response(),
    }
}

#[derive(Debug, Default, Template)]
#[template(path = "session/code.html")]
struct CodePage {
    error: Option<String>,
    next: Option<Next>,
}

/// `GET /sign-in/code`
pub(crate) async fn code_page(SignedIn(_): SignedIn, RawQuery(query): RawQuery) -> Response {
    draw(&CodePage { error: None, next: Next::in_query(query.as_deref()) })
}

#[derive(Debug, Deserialize)]
pub(crate) struct CodeForm {
    code: Secret,
    #[serde(default)]
    next: String,
}

/// `POST /sign-in/code`: the session it is answered with takes the place of the one before.
pub(crate) async fn give_code(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    SignedIn(token): SignedIn,
    Filled(form): Filled<CodeForm>,
) -> Response {
    let next = form.next.parse::<Next>().ok();
    let call =
        calls::give_code(&SecondFactorCode { code: form.code }).as_session(&token).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(session) => begun(&session, next.as_ref()),
        Err(error) => match &error {
            CallError::Problem(problem)
                if matches!(problem.code, ProblemCode::Invalid | ProblemCode::TooManyAttempts) =>
            {
                let (status, wait) = refusal(&error);
                (status, wait, draw(&CodePage { error: Some(error.to_string()), next })).into_response()
            }
            _ => turned_away(&error),
        },
    }
}

/// `POST /sign-out`
pub(crate) async fn sign_out(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    visitor: Visitor,
) -> Response {
    if let Some(token) = visitor.token() {
        // A session that has ended already is signed out of as well.
        if let Err(error) = web.agent.call(&calls::sign_out().as_session(token).for_client(client.0)).await
            && !matches!(&error, CallError::Problem(problem) if problem.code == ProblemCode::SignInNeeded)
        {
            return Page::agent(&error).into_response();
        }
    }
    ([(header::SET_COOKIE, ended_cookie())], Redirect::to("/sign-in")).into_response()
}

#[derive(Debug, Default, Template)]
#[template(path = "session/password.html")]
struct PasswordPage {
    username: String,
    first: bool,
    problem: Option<Problem>,
}

/// `GET /password`
pub(crate) async fn password_page(State(web): State<Web>, visitor: Visitor) -> Response {
    let Some(token) = visitor.token() else { return to_sign_in() };
    match password_form(&web, token, None).await {
        Ok(page) => draw(&page),
        Err(error) => turned_away(&error),
    }
}

async fn password_form(
    web: &Web,
    token: &Secret,
    problem: Option<Problem>,
) -> Result<PasswordPage, CallError> {
    let session = web.agent.call(&calls::session().as_session(token)).await?;
    Ok(PasswordPage { username: session.username, first: session.must_change_password, problem })
}

#[derive(Debug, Deserialize)]
pub(crate) struct PasswordForm {
    current: Secret,
    new: Secret,
    again: Secret,
}

/// `POST /password`
pub(crate) async fn change_password(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    visitor: Visitor,
    Filled(form): Filled<PasswordForm>,
) -> Response {
    let Some(token) = visitor.token() else { return to_sign_in() };
    let changed = if form.new == form.again {
        let body = ChangePassword { current: form.current, new: form.new };
        web.agent.call(&calls::change_password(&body).as_session(token).for_client(client.0)).await
    } else {
        Err(Problem::new(ProblemCode::Invalid, "The two new passwords differ.").in_field("again").into())
    };
    let error = match changed {
        Ok(()) => return Redirect::to("/overview").into_response(),
        Err(error) => error,
    };
    let CallError::Problem(problem) = &error else { return turned_away(&error) };
    if problem.code == ProblemCode::SignInNeeded {
        return turned_away(&error);
    }
    match password_form(&web, token, Some(problem.clone())).await {
        Ok(page) => {
            let (status, wait) = refusal(&error);
            (status, wait, draw(&page)).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// The status of a refusal, and how long to wait where that is the reason.
fn refusal(error: &CallError) -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    let CallError::Problem(problem) = error else { return (StatusCode::SERVICE_UNAVAILABLE, headers) };
    if let Some(seconds) = problem.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    (problem.code.status(), headers)
}

fn ended_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-quantix=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Our cookie's value, if it looks like a token: anything else is not worth asking the agent about.
pub(crate) fn token(headers: &HeaderMap) -> Option<String> {
    reader::cookie(headers, COOKIE)
        .filter(|value| value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cookie: &str) -> Option<String> {
        token(&HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())]))
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let token = "a1".repeat(32);
        assert_eq!(check(&format!("theme=dark; __Host-quantix={token}; x=y")), Some(token));
    }

    #[test]
    fn what_cannot_be_a_token_is_none() {
        assert_eq!(check("__Host-quantix=short"), None);
        assert_eq!(check(&format!("__Host-quantix={}", "\"".repeat(64))), None);
        assert_eq!(check(&format!("quantix={}", "a".repeat(64))), None);
    }

    #[test]
    fn a_name_is_shown_as_text() {
        let page = SignInPage {
            username: "\"><script>alert(1)</script>".into(),
            provider: Some("<b>".into()),
            ..SignInPage::default()
        };
        let drawn = page.render().unwrap();
        assert!(!drawn.contains("<script>") && !drawn.contains("<b>"), "{drawn}");
    }
}
