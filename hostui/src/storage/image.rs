//! The form that gives an image another name, or says what is on it.

use askama::Template;
use axum::{
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use quantix_api::{CallError, ChangeImage, Image, Problem, ProblemCode, calls};
use serde::Deserialize;

use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
};

#[derive(Debug, Template)]
#[template(path = "storage/image.html")]
struct ImagePage {
    frame: Frame,
    image: Image,
    form: ImageForm,
    problem: Option<Problem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageForm {
    name: String,
    os: String,
    os_version: String,
    version: u64,
}

async fn show(web: &Web, frame: Frame, id: &str, filled: Option<(ImageForm, Problem)>) -> Response {
    let image = match web.agent.call(&calls::image(id).as_session(frame.token())).await {
        Ok(image) => image,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let status = filled.as_ref().map(|(_, problem)| problem.code.status()).unwrap_or_default();
    let (form, problem) = match filled {
        Some((form, problem)) => (form, Some(problem)),
        None => {
            let Image { name, os, os_version, version, .. } = image.clone();
            (ImageForm { name, os, os_version, version }, None)
        }
    };
    (status, draw(&ImagePage { frame, image, form, problem })).into_response()
}

/// `GET /storage/images/{id}/edit`
pub(crate) async fn edit_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    show(&web, frame, &id, None).await
}

/// `POST /storage/images/{id}/edit`
pub(crate) async fn edit(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<ImageForm>,
) -> Response {
    let text = |text: &str| Some(text.trim().to_owned());
    let change =
        ChangeImage { name: text(&form.name), os: text(&form.os), os_version: text(&form.os_version) };
    let call = calls::change_image(&id, &change).if_version(form.version);
    match web.agent.call(&call.as_session(frame.token()).for_client(client.0)).await {
        Ok(_) => done("/storage/images", "Saved."),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            show(&web, frame, &id, Some((form, problem))).await
        }
        Err(error) => turned_away(&error),
    }
}
