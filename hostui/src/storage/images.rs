//! Images: the list of them, and how their files come from a browser.

use askama::Template;
use axum::{
    body::Body,
    extract::{Extension, Path, Query, State},
    response::{IntoResponse, Response},
};
use quantix_api::{
    CallError, Catalogue, FetchImage, Image, ImageState, NewImage, PieceQuery, Pool, Problem, ProblemCode,
    RemoveImage, Right, calls,
};
use serde::Deserialize;

use crate::{
    api,
    component::{Badge, Fault, Field, Heads, Icon, Standing},
    confirm::Confirm,
    frame::Frame,
    problem::{Filled, Page, draw, is_told},
    reader::done,
    session::turned_away,
    web::{ClientAddress, Web},
    words,
};

#[derive(Debug, Template)]
#[template(path = "storage/images.html", blocks = ["images"])]
struct ImagesPage {
    frame: Frame,
    images: Vec<Image>,
    pools: Vec<Pool>,
    catalogue: Catalogue,
    form: FetchForm,
    problem: Option<Problem>,
}

impl ImagesPage {
    fn standing(&self, image: &Image) -> Standing {
        match image.state {
            ImageState::Arriving => Standing::busy("Its file is coming"),
            ImageState::Making => Standing::busy("Is being made"),
            ImageState::Ready => Standing::ok("Ready"),
            ImageState::Unknown => Standing::bad("Its host is lost"),
        }
    }

    fn size(&self, bytes: &Option<u64>) -> String {
        bytes.map(words::bytes).unwrap_or_default()
    }

    fn pool_choices(&self) -> Vec<(String, String)> {
        self.pools.iter().map(|pool| (pool.id.clone(), pool.name.clone())).collect()
    }

    fn offer_choices(&self) -> Vec<(String, String)> {
        let other = (String::new(), "The address below".to_owned());
        std::iter::once(other)
            .chain(self.catalogue.items.iter().map(|offer| (offer.id.clone(), offer.name.clone())))
            .collect()
    }

    fn may_change(&self) -> bool {
        self.frame.may(Right::ManageStorage)
    }
}

/// What is filled in of an image that is fetched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FetchForm {
    offer: String,
    url: String,
    fetched_name: String,
    fetched_pool: String,
    checksum: String,
    allow_private: Option<String>,
}

/// `GET /storage/images`
pub(crate) async fn list(State(web): State<Web>, frame: Frame) -> Response {
    show(&web, frame, FetchForm::default(), None).await
}

async fn show(web: &Web, frame: Frame, form: FetchForm, problem: Option<Problem>) -> Response {
    let images = calls::images().as_session(frame.token());
    let pools = calls::pools().as_session(frame.token());
    let offered = calls::catalogue().as_session(frame.token());
    let asked = tokio::try_join!(web.agent.call(&images), web.agent.call(&pools), web.agent.call(&offered));
    let (images, pools, catalogue) = match asked {
        Ok((images, pools, catalogue)) => (images.items, pools.items, catalogue),
        Err(error) => return turned_away(&error),
    };
    let status = problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
    let page = ImagesPage { frame, images, pools, catalogue, form, problem };
    let drawn = if page.frame.block() == Some("images") { draw(&page.as_images()) } else { draw(&page) };
    (status, drawn).into_response()
}

/// `POST /storage/images/fetch`
pub(crate) async fn fetch(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<FetchForm>,
) -> Response {
    let mut wanted = FetchImage {
        url: form.url.trim().to_owned(),
        name: form.fetched_name.trim().to_owned(),
        pool: form.fetched_pool.clone(),
        checksum: form.checksum.trim().to_owned(),
        allow_private: form.allow_private.is_some(),
        ..FetchImage::default()
    };
    let catalogue = match web.agent.call(&calls::catalogue().as_session(frame.token())).await {
        Ok(catalogue) => catalogue,
        Err(error) => return turned_away(&error),
    };
    if let Some(offer) = catalogue.items.into_iter().find(|offer| offer.id == form.offer) {
        if let Some(source) = catalogue.from {
            wanted.allow_private |= source.allow_private;
            wanted.authority = source.authority;
        }
        (wanted.url, wanted.checksums, wanted.checksum) = (offer.url, offer.checksums, String::new());
        if wanted.name.is_empty() {
            wanted.name = offer.name;
        }
    }
    match web.agent.call(&calls::fetch_image(&wanted).as_session(frame.token()).for_client(client.0)).await {
        Ok(task) => done("/storage/images", &format!("{} is being fetched.", task.object_name)),
        Err(CallError::Problem(mut problem)) if is_told(&problem) => {
            let field = match problem.field.as_deref() {
                Some("name") => "fetched_name",
                Some("pool") => "fetched_pool",
                other => other.unwrap_or_default(),
            };
            problem.field = Some(field.to_owned()).filter(|field| !field.is_empty());
            show(&web, frame, form, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}

/// What is said of a file that is about to come.
#[derive(Debug, Deserialize)]
pub(crate) struct NewForm {
    name: String,
    file: String,
    pool: String,
    length: u64,
    #[serde(default)]
    sha256: String,
}

/// `POST /storage/images`
pub(crate) async fn begin(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Filled(form): Filled<NewForm>,
) -> Response {
    let NewForm { name, file, pool, length, sha256 } = form;
    let sha256 = Some(sha256.trim().to_owned()).filter(|sum| !sum.is_empty());
    let new = NewImage { name: name.trim().to_owned(), file, pool, length, sha256 };
    api::told(&web, calls::make_image(&new).as_session(frame.token()).for_client(client.0)).await
}

/// `GET /storage/images/{id}`: for whoever has brought it, and waits for what comes of it.
pub(crate) async fn tell(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    api::told(&web, calls::image(&id).as_session(frame.token())).await
}

/// `PUT /storage/images/{id}/content?at=…`
pub(crate) async fn bring(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Query(piece): Query<PieceQuery>,
    body: Body,
) -> Response {
    let call = calls::bring_image(&id, piece.at, Vec::new()).as_session(frame.token()).for_client(client.0);
    match call.request() {
        Ok(asked) => api::piece(&web, asked.map(|_| ()), body).await,
        Err(_) => Page::not_found().into_response(),
    }
}

/// `POST /storage/images/{id}/finish`
pub(crate) async fn finish(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
) -> Response {
    api::told(&web, calls::finish_image(&id).as_session(frame.token()).for_client(client.0)).await
}

/// `GET /storage/images/{id}/remove`
pub(crate) async fn remove_page(State(web): State<Web>, frame: Frame, Path(id): Path<String>) -> Response {
    confirm(&web, frame, &id, None).await
}

async fn confirm(web: &Web, frame: Frame, id: &str, problem: Option<Problem>) -> Response {
    let image = match web.agent.call(&calls::image(id).as_session(frame.token())).await {
        Ok(image) => image,
        Err(CallError::Problem(problem)) if problem.code == ProblemCode::NotFound => {
            return Page::not_found().into_response();
        }
        Err(error) => return turned_away(&error),
    };
    let page = Confirm {
        choice: None,
        back: "/storage/images".to_owned(),
        title: format!("Remove {}", image.name),
        action: format!("/storage/images/{id}/remove"),
        sentences: vec![
            "It cannot be brought back. Disks that began as copies of it stay as they are.".to_owned(),
        ],
        name: image.name,
        button: "Remove",
        problem,
        frame,
    };
    page.answer()
}

/// `POST /storage/images/{id}/remove`
pub(crate) async fn remove(
    State(web): State<Web>,
    Extension(client): Extension<ClientAddress>,
    frame: Frame,
    Path(id): Path<String>,
    Filled(form): Filled<super::volume::DeedForm>,
) -> Response {
    let body = RemoveImage { name: form.typed() };
    let call = calls::remove_image(&id, &body).as_session(frame.token()).for_client(client.0);
    match web.agent.call(&call).await {
        Ok(task) => done("/storage/images", &format!("The image {} is being removed.", task.object_name)),
        Err(CallError::Problem(problem)) if is_told(&problem) => {
            confirm(&web, frame, &id, Some(problem)).await
        }
        Err(error) => turned_away(&error),
    }
}
