//! Certificates from an authority, got and renewed by themselves.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{AcmeBinding, AcmeChallenge, CallError, PageCertificate, Problem, Secret, SetAcme, calls};

use super::{back, form::Texts, is_for_page, look, path_of, plain_host, request::names};
use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::draw,
    reader,
    session::turned_away,
    web::{ClientAddress, Web},
};

/// The fields of the form.
const FIELDS: &[&str] = &[
    "directory",
    "authority",
    "contact",
    "names",
    "challenge",
    "terms_agreed",
    "binding.key_id",
    "binding.key",
];

const HTTP: &str = "http-01";
const TLS_ALPN: &str = "tls-alpn-01";

/// What was filled in, but for the key.
#[derive(Debug, Default)]
struct Filled {
    directory: String,
    authority: String,
    contact: String,
    names: String,
    is_tls: bool,
    key_id: String,
}

#[derive(Debug, Template)]
#[template(path = "certificate/acme.html")]
struct AcmePage {
    frame: Frame,
    certificate: PageCertificate,
    filled: Filled,
    problem: Option<Problem>,
}

impl AcmePage {
    fn back(&self) -> String {
        path_of(&self.certificate.host)
    }

    fn challenge(&self) -> &'static str {
        if self.filled.is_tls { TLS_ALPN } else { HTTP }
    }

    /// Whether the part that few need is open.
    fn is_bound(&self) -> bool {
        let is_about = self.problem.as_ref().and_then(|problem| problem.field.as_deref());
        !self.filled.key_id.is_empty() || is_about.is_some_and(|field| field.starts_with("binding"))
    }
}

/// `GET /settings/certificate/{host}/acme`
pub(super) async fn page(State(web): State<Web>, frame: Frame, Path(host): Path<String>) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    match look(&web, frame.token(), host).await {
        Ok(certificate) => {
            let filled = match &certificate.acme {
                Some(acme) => Filled {
                    directory: acme.directory.clone(),
                    contact: acme.contact.clone().unwrap_or_default(),
                    names: acme.names.join("\n"),
                    is_tls: acme.challenge == AcmeChallenge::TlsAlpn,
                    ..Filled::default()
                },
                None => Filled { names: certificate.host_name.clone(), ..Filled::default() },
            };
            draw(&AcmePage { frame, certificate, filled, problem: None })
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/certificate/{host}/acme`
pub(super) async fn set(
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
    let filled = Filled {
        directory: form.take("directory"),
        authority: form.take("authority"),
        contact: form.take("contact"),
        names: form.take("names"),
        is_tls: form.take("challenge") == TLS_ALPN,
        key_id: form.take("binding.key_id"),
    };
    let key = form.take("binding.key");
    let is_bound = !filled.key_id.is_empty() || !key.is_empty();
    let body = SetAcme {
        directory: filled.directory.clone(),
        authority: Some(filled.authority.clone()).filter(|authority| !authority.is_empty()),
        contact: Some(filled.contact.clone()).filter(|contact| !contact.is_empty()),
        names: names(&filled.names),
        challenge: if filled.is_tls { AcmeChallenge::TlsAlpn } else { AcmeChallenge::Http },
        terms_agreed: form.has("terms_agreed"),
        binding: is_bound.then(|| AcmeBinding { key_id: filled.key_id.clone(), key: Secret::new(key) }),
    };
    let call = calls::set_acme(host, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(_) => reader::done(
            &path_of(host),
            "The authority is asked now; until it has answered everything stays as it is.",
        ),
        Err(CallError::Problem(problem)) if is_for_page(&problem) => {
            match look(&web, frame.token(), host).await {
                Ok(certificate) => {
                    let status = problem.code.status();
                    (status, draw(&AcmePage { frame, certificate, filled, problem: Some(problem) }))
                        .into_response()
                }
                Err(error) => turned_away(&error),
            }
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/certificate/{host}/acme/renew`
pub(super) async fn renew(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(host): Path<String>,
) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let done =
        web.agent.call(&calls::renew_certificate(host).as_session(frame.token()).for_client(client.0)).await;
    back(&web, frame, host, done, "The authority is asked now.").await
}

/// `POST /settings/certificate/{host}/acme/stop`
pub(super) async fn stop(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(host): Path<String>,
) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let done = web.agent.call(&calls::stop_acme(host).as_session(frame.token()).for_client(client.0)).await;
    back(&web, frame, host, done, "Nothing is renewed any more. The certificate stays until it is replaced.")
        .await
}
