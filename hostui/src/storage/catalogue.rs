//! The catalogue of images: what it offers, and where it comes from.

use askama::Template;
use axum::{
    extract::{Extension, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, Catalogue, Problem, Right, SetCatalogue, calls};
use serde::Deserialize;

use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::{Filled, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

const PAGE: &str = "/storage/images/catalogue";

/// What is filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Form {
    url: String,
    allow_private: Option<String>,
    authority: String,
}

#[derive(Debug, Template)]
#[template(path = "storage/catalogue.html")]
struct CataloguePage {
    frame: Frame,
    catalogue: Catalogue,
    form: Form,
    problem: Option<Problem>,
}

impl CataloguePage {
    fn may_change(&self) -> bool {
        self.frame.may(Right::ManageStorage)
    }
}

/// `GET /storage/images/catalogue`
pub(crate) async fn page(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, None, None).await
}

async fn show(web: &Web, frame: Frame, form: Option<Form>, problem: Option<Problem>) -> Response {
    let catalogue = match web.agent.call(&calls::catalogue().as_session(frame.token())).await {
        Ok(catalogue) => catalogue,
        Err(error) => return turned_away(&error),
    };
    let form = form.unwrap_or_else(|| {
        catalogue.from.as_ref().map_or_else(Form::default, |from| Form {
            url: from.url.clone(),
            allow_private: from.allow_private.then(String::new),
            authority: from.authority.clone(),
        })
    });
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    (status, draw(&CataloguePage { frame, catalogue, form, problem })).into_response()
}

/// `POST /storage/images/catalogue`
pub(crate) async fn set(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<Form>,
) -> Response {
    let body = SetCatalogue {
        url: form.url.trim().to_owned(),
        allow_private: form.allow_private.is_some(),
        authority: form.authority.trim().to_owned(),
    };
    match web.agent.call(&calls::set_catalogue(&body).as_session(frame.token()).for_client(client.0)).await {
        Ok(catalogue) => {
            let sentence = match catalogue.items.len() {
                1 => "One image is offered.".to_owned(),
                count => format!("{count} images are offered."),
            };
            done(PAGE, &sentence)
        }
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show(&web, frame, Some(form), Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// `POST /storage/images/catalogue/reset`
pub(crate) async fn reset(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
) -> Response {
    match web.agent.call(&calls::reset_catalogue().as_session(frame.token()).for_client(client.0)).await {
        Ok(()) => done(PAGE, "What distributions offer is offered again."),
        Err(error) => turned_away(&error),
    }
}
