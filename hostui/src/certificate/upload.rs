//! A certificate from elsewhere, pasted or as a file.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, PageCertificate, Problem, Secret, UploadCertificate, calls};

use super::{form::Texts, is_for_page, look, path_of, plain_host};
use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::draw,
    reader,
    session::turned_away,
    web::{ClientAddress, Web},
};

/// The fields of the form.
const FIELDS: &[&str] = &["chain", "key", "accept_warnings"];

#[derive(Debug, Template)]
#[template(path = "certificate/upload.html")]
struct UploadPage {
    frame: Frame,
    certificate: PageCertificate,
    chain: String,
    problem: Option<Problem>,
}

impl UploadPage {
    fn back(&self) -> String {
        path_of(&self.certificate.host)
    }

    /// Whether the box is worth showing: there is something to accept.
    fn can_accept(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.about("accept_warnings").is_some())
    }
}

/// `GET /settings/certificate/{host}/upload`
pub(super) async fn page(State(web): State<Web>, frame: Frame, Path(host): Path<String>) -> Response {
    match plain_host(&host) {
        Ok(host) => show(&web, frame, host, String::new(), None).await,
        Err(page) => page.into_response(),
    }
}

async fn show(web: &Web, frame: Frame, host: &str, chain: String, problem: Option<Problem>) -> Response {
    match look(web, frame.token(), host).await {
        Ok(certificate) => {
            let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
            (status, draw(&UploadPage { frame, certificate, chain, problem })).into_response()
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/certificate/{host}/upload`
pub(super) async fn upload(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(host): Path<String>,
    mut form: Texts,
) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let (chain, key) = (form.take("chain"), form.take("key"));
    let key = Some(key).filter(|key| !key.is_empty()).map(Secret::new);
    let accept_warnings = form.has("accept_warnings");
    let body = UploadCertificate { chain, key, accept_warnings };
    let call = calls::upload_certificate(host, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(_) => reader::done(
            &path_of(host),
            "New connections are shown the new certificate; those that are open go on.",
        ),
        Err(CallError::Problem(problem)) if is_for_page(&problem) => {
            // What holds a key by mistake is not sent back, nor is what is no text.
            let is_public = !body.chain.contains("PRIVATE KEY") && !body.chain.contains('\u{fffd}');
            let chain = if is_public { body.chain } else { String::new() };
            show(&web, frame, host, chain, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
