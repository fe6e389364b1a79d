//! Pages for when something is not as it should be: what happened, and the way on.

use askama::Template;
use axum::{
    Form, Json,
    extract::{FromRequest, Request, rejection::FormRejection},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use quantix_api::{CallError, Problem, ProblemCode};
use serde::de::DeserializeOwned;

/// A page that says what happened.
#[derive(Debug, Template)]
#[template(path = "problem/page.html")]
pub(crate) struct Page {
    status: u16,
    title: &'static str,
    what: String,
    link: &'static str,
    link_text: &'static str,
}

impl Page {
    fn new(status: StatusCode, title: &'static str, what: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title,
            what: what.into(),
            link: "/overview",
            link_text: "Go to the overview",
        }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Nothing is here",
            "The address leads nowhere. It may have been mistyped.",
        )
    }

    pub(crate) fn not_yours() -> Self {
        let what = "There is nothing here that you may look at or change. Ask an administrator.";
        Self::new(StatusCode::FORBIDDEN, "This is not for you", what)
    }

    pub(crate) fn wrong_method() -> Self {
        let what = "This address cannot be used in this way.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "This does not work here", what)
    }

    pub(crate) fn foreign_form() -> Self {
        let what = "The form was not sent from a page of this host, so nothing was done.";
        Self::new(StatusCode::FORBIDDEN, "Sent from elsewhere", what)
    }

    pub(crate) fn bad_form(status: StatusCode) -> Self {
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(
                status,
                "Too much at once",
                "The form holds more than this host reads. Nothing was done.",
            );
        }
        let what = "A field is missing or holds what it should not. Nothing was done.";
        Self::new(StatusCode::BAD_REQUEST, "The form could not be read", what)
    }

    pub(crate) fn too_many() -> Self {
        let what = "This host is busy with many other requests from your network. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Too much at once", what)
    }

    pub(crate) fn too_slow() -> Self {
        let what = "The host took too long to answer. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "This took too long", what)
    }

    /// The agent did not do what a page needs.
    pub(crate) fn agent(error: &CallError) -> Self {
        let mut page = match error {
            CallError::Problem(problem) if problem.code != ProblemCode::Internal => {
                Self::new(problem.code.status(), "This did not work", problem.detail.clone())
            }
            other => {
                log::error!("A page could not be drawn: {other}");
                let what = format!("{other} The host's own screen says more.");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The host does not answer", what)
            }
        };
        page.link_text = "Try again";
        page
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, draw(&self)).into_response();
        // For the last layer, which knows whether a program asked.
        response.extensions_mut().insert(What(self.what));
        response
    }
}

/// A form as it was filled in; one that cannot be read gets a page that says so.
#[derive(Debug)]
pub(crate) struct Filled<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Filled<T> {
    type Rejection = Page;

    async fn from_request(request: Request, state: &S) -> Result<Self, Page> {
        let Form(form) = Form::from_request(request, state)
            .await
            .map_err(|rejection: FormRejection| Page::bad_form(rejection.status()))?;
        Ok(Self(form))
    }
}

/// What happened, in a sentence, beside the page that shows it.
#[derive(Clone, Debug)]
struct What(String);

/// The same answer as a problem document, for a program that reads JSON and no pages.
pub(crate) fn for_a_program(page: &Response) -> Option<Response> {
    let What(what) = page.extensions().get()?;
    let code = match page.status() {
        StatusCode::BAD_REQUEST => ProblemCode::Malformed,
        StatusCode::FORBIDDEN => ProblemCode::Forbidden,
        StatusCode::NOT_FOUND => ProblemCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ProblemCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
        StatusCode::SERVICE_UNAVAILABLE => ProblemCode::Unavailable,
        _ => ProblemCode::Internal,
    };
    let mut problem = Problem::new(code, what);
    problem.status = page.status().as_u16();
    Some((page.status(), [(header::CONTENT_TYPE, Problem::CONTENT_TYPE)], Json(problem)).into_response())
}

/// Draws a template; one that cannot be drawn is a defect, told in plain text.
pub(crate) fn draw(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            log::error!("A template could not be drawn: {error}");
            let mut response = "This page could not be drawn. That is a defect in Quantix.".into_response();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            response
        }
    }
}

/// Whether a problem is shown in the form in which it arose.
pub(crate) fn is_told(problem: &Problem) -> bool {
    matches!(
        problem.code,
        ProblemCode::Invalid | ProblemCode::Conflict | ProblemCode::ChangedMeanwhile | ProblemCode::Forbidden
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_shown_as_text() {
        let mut page = Page::not_found();
        page.what = "<img src=x onerror=alert(1)>".to_owned();
        let html = page.render().unwrap();
        assert!(!html.contains("<img"), "{html}");
    }
}
