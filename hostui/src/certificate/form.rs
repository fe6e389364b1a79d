//! A form with files, read whole: it is short, and none of it is written anywhere.

use std::collections::HashMap;

use axum::{
    extract::{FromRequest, Multipart, Request},
    http::StatusCode,
};

use crate::problem::Page;

/// The texts of a form by the names of their fields; of a field that is there twice, the first that is not empty: what
/// was pasted, or the file that was chosen instead.
#[derive(Default)]
pub(super) struct Texts(HashMap<String, String>);

impl Texts {
    /// Takes what a field holds.
    pub(super) fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl<S: Send + Sync> FromRequest<S> for Texts {
    type Rejection = Page;

    async fn from_request(request: Request, state: &S) -> Result<Self, Page> {
        let mut form = Multipart::from_request(request, state)
            .await
            .map_err(|_| Page::bad_form(StatusCode::BAD_REQUEST))?;
        let mut texts = HashMap::new();
        while let Some(field) = form.next_field().await.map_err(|error| Page::bad_form(error.status()))? {
            let name = field.name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(|error| Page::bad_form(error.status()))?;
            // A file in another form than text is told by the agent, who sees no PEM in it.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if !text.trim().is_empty() {
                texts.entry(name).or_insert(text);
            }
        }
        Ok(Self(texts))
    }
}
