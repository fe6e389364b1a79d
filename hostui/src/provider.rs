//! The identity provider: how it is set, and the way there and back for somebody who signs in with it.

use askama::Template;
use axum::{
    extract::{Extension, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use quantix_api::{
    BackFromProvider, BeginAtProvider, CallError, Problem, ProblemCode, Provider, Secret, SetProvider, Tried,
    calls,
};
use serde::Deserialize;

use crate::{
    component::{Fault, Field, Level, Post},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader::{cookie, done},
    session::{refused_at_the_door, turned_away, with_session},
    web::{ClientAddress, Web},
};

const PATH: &str = "/settings/sign-in";

/// What a browser keeps while somebody is at the provider. It has to come along when the provider sends them back, and so
/// it is `Lax`; it opens nothing by itself.
const TICKET: &str = "__Host-quantix-provider";
const TICKET_RULES: &str = "; Path=/; Secure; HttpOnly; SameSite=Lax";
const TEN_MINUTES: &str = "; Max-Age=600";
const NO_TICKET: &str = "__Host-quantix-provider=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0";

/// Where the browser thinks that it is: HTTP/2 has it in the address, HTTP/1 in a header. The agent decides whether that
/// is a place of ours.
fn here(uri: &Uri, headers: &HeaderMap) -> String {
    let named = uri.authority().map(|authority| authority.as_str().to_owned());
    let host = named.or_else(|| Some(headers.get(header::HOST)?.to_str().ok()?.to_owned()));
    format!("https://{}", host.unwrap_or_default())
}

/// `GET /sign-in/oidc`: the way to the provider.
pub(crate) async fn go(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let begin = BeginAtProvider { address: here(&uri, &headers) };
    match web.agent.call(&calls::begin_at_provider(&begin).for_client(client.0)).await {
        Ok(begun) => {
            let kept = format!("{TICKET}={}{TICKET_RULES}{TEN_MINUTES}", begun.ticket.expose());
            match HeaderValue::from_str(&kept) {
                Ok(kept) => ([(header::SET_COOKIE, kept)], Redirect::to(&begun.go_to)).into_response(),
                Err(_) => Page::agent(&CallError::Broken("the ticket is not text".into())).into_response(),
            }
        }
        Err(error) => refused_at_the_door(&web, &error).await,
    }
}

/// What the provider sends along.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    state: String,
    code: Option<Secret>,
    iss: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "session/welcome.html")]
struct WelcomePage {
    username: String,
}

/// `GET /sign-in/oidc/callback`: the way back.
///
/// It ends on a page and not with a redirect: a browser that comes from elsewhere does not send our session along on the
/// way, because that cookie never leaves our own pages.
pub(crate) async fn back(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    uri: Uri,
    headers: HeaderMap,
    answer: Result<Query<Answer>, QueryRejection>,
) -> Response {
    let answer = answer.map(|Query(answer)| answer).unwrap_or_default();
    let gone = (header::SET_COOKIE, HeaderValue::from_static(NO_TICKET));
    let Some(code) = answer.code else {
        // What it says of the reason is the provider's, and may be anybody's: it is not shown.
        let sentence = "The identity provider did not let you in.";
        let refused = Problem::new(ProblemCode::Forbidden, sentence).into();
        return ([gone], refused_at_the_door(&web, &refused).await).into_response();
    };
    let body = BackFromProvider {
        ticket: Secret::new(cookie(&headers, TICKET).unwrap_or_default()),
        address: here(&uri, &headers),
        state: answer.state,
        code,
        issuer: answer.iss,
    };
    match web.agent.call(&calls::back_from_provider(&body).for_client(client.0)).await {
        Ok(session) => {
            let page = draw(&WelcomePage { username: session.info.username.clone() });
            with_session(([gone], page).into_response(), &session)
        }
        Err(error) => ([gone], refused_at_the_door(&web, &error).await).into_response(),
    }
}

#[derive(Debug, Template)]
#[template(path = "settings/sign-in.html")]
struct ProviderPage {
    frame: Frame,
    set: Provider,
    form: ProviderForm,
    /// Where this page is reached, for the form's first time.
    callbacks: Vec<String>,
    tried: Option<Tried>,
    problem: Option<Problem>,
}

/// What is set, as it is typed.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ProviderForm {
    on: Option<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    client_id: String,
    client_secret: Option<Secret>,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    name_claim: String,
    #[serde(default)]
    groups_claim: String,
    #[serde(default)]
    certificate: String,
    #[serde(default)]
    addresses: String,
    version: Option<u64>,
}

impl ProviderForm {
    fn of(set: &Provider, here: &str) -> Self {
        if set.version == 0 {
            return Self {
                on: Some("true".into()),
                client_id: "quantix".into(),
                scopes: "profile groups".into(),
                name_claim: "preferred_username".into(),
                groups_claim: "groups".into(),
                addresses: here.to_owned(),
                ..Self::default()
            };
        }
        Self {
            on: set.on.then(|| "true".into()),
            title: set.title.clone(),
            issuer: set.issuer.clone(),
            client_id: set.client_id.clone(),
            client_secret: None,
            scopes: set.scopes.join(" "),
            name_claim: set.name_claim.clone(),
            groups_claim: set.groups_claim.clone(),
            certificate: set.certificate.clone(),
            addresses: set.addresses.join("\n"),
            version: Some(set.version),
        }
    }

    fn as_set(&self) -> SetProvider {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let text = |text: &str| text.trim().to_owned();
        SetProvider {
            on: self.on.is_some(),
            title: text(&self.title),
            issuer: text(&self.issuer),
            client_id: text(&self.client_id),
            client_secret: self.client_secret.clone().unwrap_or_else(|| Secret::new("")),
            scopes: words(&self.scopes),
            name_claim: text(&self.name_claim),
            groups_claim: text(&self.groups_claim),
            certificate: self.certificate.clone(),
            addresses: words(&self.addresses),
        }
    }
}

/// `GET /settings/sign-in`
pub(crate) async fn page(State(web): State<Web>, frame: Frame, uri: Uri, headers: HeaderMap) -> Response {
    show(&web, frame, &here(&uri, &headers), None, None, None).await
}

async fn show(
    web: &Web,
    frame: Frame,
    here: &str,
    form: Option<ProviderForm>,
    tried: Option<Tried>,
    problem: Option<Problem>,
) -> Response {
    let set = match web.agent.call(&calls::provider().as_session(frame.token())).await {
        Ok(set) => set,
        Err(error) => return turned_away(&error),
    };
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let form = form.unwrap_or_else(|| ProviderForm::of(&set, here));
    let addresses = form.addresses.split_whitespace();
    let callbacks = addresses.map(|address| format!("{address}/sign-in/oidc/callback")).collect();
    (status, draw(&ProviderPage { frame, set, form, callbacks, tried, problem })).into_response()
}

/// `POST /settings/sign-in`
pub(crate) async fn save(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    uri: Uri,
    headers: HeaderMap,
    Filled(form): Filled<ProviderForm>,
) -> Response {
    let call = calls::set_provider(&form.as_set()).as_session(frame.token()).for_client(client.0);
    let call = match form.version {
        Some(seen) => call.if_version(seen),
        None => call,
    };
    match web.agent.call(&call).await {
        Ok(set) if set.on => done(PATH, &format!("People can sign in with {}.", set.title)),
        Ok(_) => done(PATH, "Saved. Nobody signs in with it yet."),
        Err(CallError::Problem(problem))
            if matches!(problem.code, ProblemCode::Invalid | ProblemCode::ChangedMeanwhile) =>
        {
            show(&web, frame, &here(&uri, &headers), Some(form), None, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/sign-in/{deed}`
pub(crate) async fn deed(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(deed): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match deed.as_str() {
        "test" => {
            let test = calls::test_provider().as_session(frame.token()).for_client(client.0);
            match web.agent.call(&test).await {
                Ok(tried) => show(&web, frame, &here(&uri, &headers), None, Some(tried), None).await,
                Err(error) => turned_away(&error),
            }
        }
        "remove" => {
            let remove = calls::remove_provider().as_session(frame.token()).for_client(client.0);
            match web.agent.call(&remove).await {
                Ok(()) => done(PATH, "The identity provider is forgotten."),
                Err(error) => turned_away(&error),
            }
        }
        _ => Page::not_found().into_response(),
    }
}
