//! The way to everything that is set for the whole cluster.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::{
    frame::Frame,
    problem::{Page, draw},
};

#[derive(Debug, Template)]
#[template(path = "settings/page.html")]
struct SettingsPage {
    frame: Frame,
}

/// `GET /settings`
pub(crate) async fn page(frame: Frame) -> Response {
    if frame.settings().next().is_none() {
        return Page::not_yours().into_response();
    }
    draw(&SettingsPage { frame })
}
