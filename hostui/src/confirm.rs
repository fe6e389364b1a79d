//! The page on which somebody is asked before something is lost, and a name is typed before all of it is.

use askama::Template;
use axum::response::{IntoResponse, Response};
use quantix_api::Problem;

use crate::{
    component::{Fault, Field},
    frame::Frame,
    problem::draw,
};

/// The page, or what is put into a dialog.
#[derive(Debug, Template)]
#[template(path = "layout/confirm.html", blocks = ["dialog"])]
pub(crate) struct Confirm {
    pub(crate) frame: Frame,
    /// Where whoever thinks better of it goes.
    pub(crate) back: String,
    pub(crate) title: String,
    pub(crate) action: String,
    pub(crate) sentences: Vec<String>,
    /// Something that can be said besides: its name in the form, and its words.
    pub(crate) choice: Option<(&'static str, &'static str)>,
    /// What is to be typed, if something is.
    pub(crate) name: String,
    pub(crate) button: &'static str,
    pub(crate) problem: Option<Problem>,
}

impl Confirm {
    pub(crate) fn answer(&self) -> Response {
        let status = self.problem.as_ref().map(|problem| problem.code.status()).unwrap_or_default();
        let drawn = if self.frame.block() == Some("dialog") { draw(&self.as_dialog()) } else { draw(self) };
        (status, drawn).into_response()
    }
}
