//! Signing in with an identity provider (OpenID Connect, authorization code with PKCE). The agent asks the provider and
//! checks what it says; the pages only carry a browser there and back.
//!
//! Nothing is kept between the two: what the way back is checked against travels sealed in the browser's own cookie, so
//! that nobody can fill a table by beginning again and again. That it was used once is written down when it is.

mod discovery;
pub(crate) mod id_token;
pub(crate) mod kept;
pub(crate) mod people;
mod ticket;

use quantix_api::{BackFromProvider, BegunAtProvider, Problem, ProblemCode, Secret, to_query};
use serde_json::{Map, Value};

use discovery::Found;
pub(crate) use discovery::{Known, test};
use kept::Settings;
pub(crate) use ticket::Ticket;

use crate::{outside, sessions::now};

/// Who somebody is, as the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) issuer: String,
    /// By what the provider tells them from everybody else.
    pub(crate) subject: String,
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

/// What people are told when the provider is the trouble.
fn trouble(why: impl std::fmt::Display) -> Problem {
    let sentence = format!("Signing in with the identity provider did not work. {why}");
    Problem::new(ProblemCode::Unavailable, sentence)
}

fn refused(why: &str) -> Problem {
    Problem::new(ProblemCode::Forbidden, why)
}

/// Where the provider sends people back to.
fn way_back(address: &str) -> String {
    format!("{address}/sign-in/oidc/callback")
}

/// The way to the provider for somebody who looks at the pages at an address.
pub(crate) async fn begin(
    settings: &Settings,
    known: &Known,
    address: &str,
) -> Result<BegunAtProvider, Problem> {
    if !settings.shown.addresses.iter().any(|allowed| allowed == address) {
        let known = settings.shown.addresses.join(" or ");
        return Err(refused(&format!("Signing in with {} works at {known} only.", settings.shown.title)));
    }
    let found = known.discovered(settings).await.map_err(trouble)?;
    let ticket = Ticket::new(settings, address).ok_or_else(crate::sessions::no_randomness)?;
    let scopes: Vec<_> =
        std::iter::once("openid").chain(settings.shown.scopes.iter().map(String::as_str)).collect();
    let asked = to_query(&[
        ("response_type", "code"),
        ("client_id", &settings.shown.client_id),
        ("redirect_uri", &way_back(address)),
        ("scope", &scopes.join(" ")),
        ("state", &ticket.state),
        ("nonce", &ticket.nonce),
        ("code_challenge", &ticket.challenge()),
        ("code_challenge_method", "S256"),
    ]);
    let joint = if found.authorization_endpoint.contains('?') { '&' } else { '?' };
    let go_to = format!("{}{joint}{asked}", found.authorization_endpoint);
    let ticket = ticket.seal(&settings.key).ok_or_else(crate::sessions::no_randomness)?;
    Ok(BegunAtProvider { go_to, ticket: Secret::new(ticket) })
}

/// The ticket that somebody came back with, if it is theirs and still good.
pub(crate) fn ticket(settings: &Settings, back: &BackFromProvider) -> Result<Ticket, Problem> {
    let ticket = Ticket::open(back.ticket.expose(), &settings.key);
    let ticket = ticket.filter(|ticket| ticket.is_of(settings, &back.address, &back.state, now()));
    let issuer_is_right = back.issuer.as_ref().is_none_or(|issuer| *issuer == settings.shown.issuer);
    ticket.filter(|_| issuer_is_right).ok_or_else(|| {
        refused("This way in was begun in another browser, more than ten minutes ago, or not at all. Begin again.")
    })
}

/// Who came back, asked of the provider itself.
pub(crate) async fn who(
    settings: &Settings,
    known: &Known,
    ticket: &Ticket,
    code: &Secret,
) -> Result<Shown, Problem> {
    let found = known.discovered(settings).await.map_err(trouble)?;
    let tokens = exchange(settings, &found, ticket, code).await.map_err(trouble)?;
    let text = |name: &str| tokens.get(name).and_then(Value::as_str);
    let id_token = text("id_token").ok_or_else(|| trouble("It sent no ID token."))?;
    let claims =
        id_token::check(settings, known, &found, id_token, &ticket.nonce, now()).await.map_err(trouble)?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
    let further = match (&found.userinfo_endpoint, text("access_token")) {
        (Some(endpoint), Some(token)) if !has_all(&claims, settings) => {
            user_info(settings, endpoint, token, &subject).await.map_err(trouble)?
        }
        _ => Map::new(),
    };
    let claim = |name: &str| claims.get(name).or_else(|| further.get(name));
    let name = claim(&settings.shown.name_claim).and_then(Value::as_str);
    let name =
        name.ok_or_else(|| trouble(format!("It did not say \"{}\" of you.", settings.shown.name_claim)))?;
    let groups = groups(claim(&settings.shown.groups_claim));
    Ok(Shown { issuer: settings.shown.issuer.clone(), subject, name: name.to_owned(), groups })
}

fn has_all(claims: &Map<String, Value>, settings: &Settings) -> bool {
    [&settings.shown.name_claim, &settings.shown.groups_claim].iter().all(|name| claims.contains_key(*name))
}

/// A list of names, or a single one.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The code for tokens, which nobody but this cluster can do: it needs the client secret and the ticket.
async fn exchange(
    settings: &Settings,
    found: &Found,
    ticket: &Ticket,
    code: &Secret,
) -> Result<Map<String, Value>, String> {
    let back = way_back(&ticket.address);
    let mut asked = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", &back),
        ("code_verifier", &ticket.verifier),
    ];
    let mut request =
        axum::http::Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    if found.takes_secret_in_header() {
        request = request.header("authorization", settings.basic());
    } else {
        asked.extend([
            ("client_id", settings.shown.client_id.as_str()),
            ("client_secret", settings.secret.expose()),
        ]);
    }
    let config = settings.trust().await?;
    let answer = outside::ask(&found.token_endpoint, config, request, to_query(&asked)).await?;
    if !answer.status().is_success() {
        // Its words may hold anything; only the code of the error is taken.
        let said: Map<String, Value> = serde_json::from_slice(answer.body()).unwrap_or_default();
        let error = said.get("error").and_then(Value::as_str).unwrap_or_default();
        let error: String =
            error.chars().filter(|letter| letter.is_ascii_lowercase() || *letter == '_').take(40).collect();
        return Err(format!("It answered {} {error}.", answer.status().as_u16()));
    }
    serde_json::from_slice(answer.body()).map_err(|_| "Its answer could not be read.".to_owned())
}

async fn user_info(
    settings: &Settings,
    endpoint: &str,
    token: &str,
    subject: &str,
) -> Result<Map<String, Value>, String> {
    let request = axum::http::Request::get("/").header("authorization", format!("Bearer {token}"));
    let answer = outside::ask(endpoint, settings.trust().await?, request, String::new()).await?;
    let claims: Map<String, Value> = serde_json::from_slice(answer.body())
        .map_err(|_| "What it knows of you could not be read.".to_owned())?;
    if claims.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err("What it said belongs to somebody else.".to_owned());
    }
    Ok(claims)
}
