//! The certificate that a host shows to browsers: what it says, and the ways to another.

mod acme;
mod form;
mod request;
mod upload;

use askama::Template;
use axum::{
    Router,
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use quantix_api::{
    Acme, AcmeState, CallError, CertificateFacts, CertificateSource, PageCertificate, Problem, ProblemCode,
    Secret, calls,
};
use serde::Deserialize;

use crate::{
    component::{Fault, Field, Icon, Level, Post, Standing},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader,
    session::turned_away,
    web::{ClientAddress, Web},
};

/// Where these pages are.
const PATH: &str = "/settings/certificate";

/// The pages of this part.
pub(crate) fn routes() -> Router<Web> {
    let of_host = |rest: &str| format!("{PATH}/{{host}}{rest}");
    Router::new()
        .route(PATH, get(here))
        .route(&of_host(""), get(page))
        .route(&of_host("/upload"), get(upload::page).post(upload::upload))
        .route(&of_host("/acme"), get(acme::page).post(acme::set))
        .route(&of_host("/acme/renew"), post(acme::renew))
        .route(&of_host("/acme/stop"), post(acme::stop))
        .route(&of_host("/request"), get(request::page).post(request::make))
        .route(&of_host("/request.pem"), get(request::file))
        .route(&of_host("/request/drop"), post(request::forget))
        .route(&of_host("/reset"), get(reset_page).post(reset))
}

/// A host as the agent names them: what a person wrote into the address does not become a part of the agent's.
fn plain_host(host: &str) -> Result<&str, Page> {
    let is_one = host.len() == 16 && host.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(host) } else { Err(Page::not_found()) }
}

fn path_of(host: &str) -> String {
    format!("{PATH}/{host}")
}

/// Of one day.
fn day(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d").to_string()
}

fn minute(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[derive(Debug, Template)]
#[template(path = "certificate/page.html", blocks = ["state"])]
struct CertificatePage {
    frame: Frame,
    certificate: PageCertificate,
    problem: Option<Problem>,
}

impl CertificatePage {
    fn facts(&self) -> &CertificateFacts {
        &self.certificate.shown
    }

    fn is_own(&self) -> bool {
        self.certificate.source == CertificateSource::SelfSigned
    }

    fn source(&self) -> &'static str {
        match self.certificate.source {
            CertificateSource::SelfSigned => "The host made it for itself; browsers ask before they trust it",
            CertificateSource::Uploaded => "Uploaded",
            CertificateSource::Acme => "From an authority, renewed by itself",
        }
    }

    /// Until when it is good.
    fn standing(&self) -> Standing {
        let (now, facts) = (Timestamp::now(), self.facts());
        let until = day(facts.not_after);
        if facts.not_after <= now {
            Standing::bad(format!("Expired on {until}"))
        } else if facts.not_before > now {
            Standing::warn(format!("Not valid before {}", day(facts.not_before)))
        } else if self.certificate.trouble.is_some() {
            Standing::warn(format!("Valid until {until}"))
        } else {
            Standing::ok(format!("Valid until {until}"))
        }
    }

    fn trouble_level(&self) -> Level {
        if self.facts().not_after <= Timestamp::now() { Level::Bad } else { Level::Warn }
    }

    fn chain(&self) -> String {
        match self.facts().chain {
            0 | 1 => "Alone, without others behind it".to_owned(),
            2 => "With the one that signed it".to_owned(),
            more => format!("With {} others behind it", more - 1),
        }
    }

    fn renewal(&self, acme: &Acme) -> Standing {
        match acme.state {
            AcmeState::Waiting => Standing::busy("About to ask"),
            AcmeState::Working => Standing::busy("Asking the authority"),
            AcmeState::Obtained => Standing::ok("Obtained"),
            AcmeState::Failed => Standing::bad("The last attempt failed"),
        }
    }

    /// Whether something is about to change by itself.
    fn is_moving(&self) -> bool {
        let state = self.certificate.acme.as_ref().map(|acme| acme.state);
        matches!(state, Some(AcmeState::Waiting | AcmeState::Working))
    }

    fn path(&self, rest: &str) -> String {
        format!("{PATH}/{}/{rest}", self.certificate.host)
    }

    /// The hosts to choose from: id, name, and whether it is the one that is shown.
    fn hosts(&self) -> Vec<(String, &str, bool)> {
        let hosts = self.frame.cluster().map_or(&[][..], |cluster| &cluster.hosts);
        let is_shown = |id: &str| id == self.certificate.host;
        hosts.iter().map(|host| (path_of(&host.id), host.name.as_str(), is_shown(&host.id))).collect()
    }

    fn minute(&self, moment: &Timestamp) -> String {
        minute(*moment)
    }

    fn days(&self) -> String {
        format!("{} – {}", day(self.facts().not_before), day(self.facts().not_after))
    }
}

/// `GET /settings/certificate`: of the host that is asked.
async fn here(State(web): State<Web>, frame: Frame) -> Response {
    match web.agent.call(&calls::cluster().as_session(frame.token())).await {
        Ok(cluster) => show(&web, frame, &cluster.this_host, None).await,
        Err(error) => turned_away(&error),
    }
}

/// `GET /settings/certificate/{host}`
async fn page(State(web): State<Web>, frame: Frame, Path(host): Path<String>) -> Response {
    match plain_host(&host) {
        Ok(host) => show(&web, frame, host, None).await,
        Err(page) => page.into_response(),
    }
}

async fn show(web: &Web, frame: Frame, host: &str, problem: Option<Problem>) -> Response {
    match look(web, frame.token(), host).await {
        Ok(certificate) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            let page = CertificatePage { frame, certificate, problem };
            let drawn =
                if page.frame.block() == Some("state") { draw(&page.as_state()) } else { draw(&page) };
            (status, drawn).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

async fn look(web: &Web, token: &Secret, host: &str) -> Result<PageCertificate, CallError> {
    web.agent.call(&calls::certificate(host).as_session(token)).await
}

/// Whether a problem is to be shown on the page where it arose.
fn is_for_page(problem: &Problem) -> bool {
    !matches!(
        problem.code,
        ProblemCode::SignInNeeded | ProblemCode::CodeNeeded | ProblemCode::PasswordChangeNeeded
    )
}

/// Goes back to the host's page and says what was done, or shows it with what went wrong.
async fn back(
    web: &Web,
    frame: Frame,
    host: &str,
    done: Result<PageCertificate, CallError>,
    sentence: &str,
) -> Response {
    match done {
        Ok(_) => reader::done(&path_of(host), sentence),
        Err(CallError::Problem(problem)) if is_for_page(&problem) => {
            show(web, frame, host, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

#[derive(Debug, Template)]
#[template(path = "certificate/reset.html")]
struct ResetPage {
    frame: Frame,
    certificate: PageCertificate,
    problem: Option<Problem>,
}

/// What is typed to go on.
#[derive(Debug, Deserialize)]
struct ResetForm {
    name: String,
}

/// `GET /settings/certificate/{host}/reset`
async fn reset_page(State(web): State<Web>, frame: Frame, Path(host): Path<String>) -> Response {
    match plain_host(&host) {
        Ok(host) => confirm_reset(&web, frame, host, None).await,
        Err(page) => page.into_response(),
    }
}

async fn confirm_reset(web: &Web, frame: Frame, host: &str, problem: Option<Problem>) -> Response {
    match look(web, frame.token(), host).await {
        Ok(certificate) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            (status, draw(&ResetPage { frame, certificate, problem })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/certificate/{host}/reset`
async fn reset(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(host): Path<String>,
    Filled(form): Filled<ResetForm>,
) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let certificate = match look(&web, frame.token(), host).await {
        Ok(certificate) => certificate,
        Err(error) => return turned_away(&error),
    };
    if form.name.trim() != certificate.host_name {
        let sentence = format!("To go on, type the host’s name: {}.", certificate.host_name);
        let problem = Problem::new(ProblemCode::Invalid, sentence).in_field("name");
        return confirm_reset(&web, frame, host, Some(problem)).await;
    }
    let done =
        web.agent.call(&calls::reset_certificate(host).as_session(frame.token()).for_client(client.0)).await;
    back(&web, frame, host, done, "The pages show the certificate that the host made for itself.").await
}
