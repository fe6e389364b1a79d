//! A request for a certificate, to take to an authority.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, NewCertificateRequest, PageCertificate, Problem, calls};
use serde::Deserialize;

use super::{back, is_for_page, look, path_of, plain_host};
use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::{Filled, Page, draw},
    reader,
    session::turned_away,
    web::{ClientAddress, Web},
};

#[derive(Debug, Template)]
#[template(path = "certificate/request.html")]
struct RequestPage {
    frame: Frame,
    certificate: PageCertificate,
    names: String,
    organization: String,
    problem: Option<Problem>,
}

impl RequestPage {
    fn back(&self) -> String {
        path_of(&self.certificate.host)
    }
}

/// Names from a field: one a line, or with commas or spaces between.
pub(super) fn names(text: &str) -> Vec<String> {
    text.split(|character: char| character.is_whitespace() || character == ',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[derive(Debug, Deserialize)]
pub(super) struct RequestForm {
    names: String,
    #[serde(default)]
    organization: String,
}

/// `GET /settings/certificate/{host}/request`
pub(super) async fn page(State(web): State<Web>, frame: Frame, Path(host): Path<String>) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    match look(&web, frame.token(), host).await {
        Ok(certificate) => {
            let names = certificate.host_name.clone();
            draw(&RequestPage { frame, certificate, names, organization: String::new(), problem: None })
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /settings/certificate/{host}/request`
pub(super) async fn make(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(host): Path<String>,
    Filled(form): Filled<RequestForm>,
) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let organization = Some(form.organization.trim().to_owned()).filter(|name| !name.is_empty());
    let body = NewCertificateRequest { names: names(&form.names), organization };
    let call = calls::make_certificate_request(host, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(_) => reader::done(&path_of(host), "The request is made. Take it to your authority."),
        Err(CallError::Problem(problem)) if is_for_page(&problem) => match look(&web, frame.token(), host)
            .await
        {
            Ok(certificate) => {
                let status = problem.code.status();
                let RequestForm { names, organization } = form;
                let page = RequestPage { frame, certificate, names, organization, problem: Some(problem) };
                (status, draw(&page)).into_response()
            }
            Err(error) => turned_away(&error),
        },
        Err(error) => turned_away(&error),
    }
}

/// `GET /settings/certificate/{host}/request.pem`
pub(super) async fn file(State(web): State<Web>, frame: Frame, Path(host): Path<String>) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let certificate = match look(&web, frame.token(), host).await {
        Ok(certificate) => certificate,
        Err(error) => return turned_away(&error),
    };
    let Some(request) = certificate.request else { return Page::not_found().into_response() };
    let mut response = request.pem.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/pem-certificate-chain"));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"request.pem\""),
    );
    response
}

/// `POST /settings/certificate/{host}/request/drop`
pub(super) async fn forget(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(host): Path<String>,
) -> Response {
    let host = match plain_host(&host) {
        Ok(host) => host,
        Err(page) => return page.into_response(),
    };
    let call = calls::drop_certificate_request(host).as_session(frame.token()).for_client(client.0);
    let done = web.agent.call(&call).await;
    back(&web, frame, host, done, "The request and its key are forgotten.").await
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_stand_one_a_line_or_with_something_between() {
        assert_eq!(names("a.lab\r\nb.lab, 192.0.2.7\t c "), ["a.lab", "b.lab", "192.0.2.7", "c"]);
        assert!(names(" \n").is_empty());
    }
}
