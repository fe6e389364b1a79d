//! Images.

use http::Method;

use super::part;
use crate::{
    Arrived, Call, Catalogue, ChangeImage, FetchImage, Image, Images, NewImage, RemoveImage, SetCatalogue,
    Task,
};

/// Images.
pub const IMAGES_PATH: &str = "/api/v1/images";

/// All images.
pub fn images() -> Call<Images> {
    Call::new(Method::GET, IMAGES_PATH)
}

/// One image.
pub fn image(id: &str) -> Call<Image> {
    Call::new(Method::GET, format!("{IMAGES_PATH}/{}", part(id)))
}

/// Gives an image another name, or says what is on it.
pub fn change_image(id: &str, body: &ChangeImage) -> Call<Image> {
    Call::new(Method::PATCH, format!("{IMAGES_PATH}/{}", part(id))).json(body)
}

/// Takes a place for an image whose file comes next, in pieces.
pub fn make_image(body: &NewImage) -> Call<Image> {
    Call::new(Method::POST, IMAGES_PATH).json(body)
}

/// Fetches an image from an address.
pub fn fetch_image(body: &FetchImage) -> Call<Task> {
    Call::new(Method::POST, format!("{IMAGES_PATH}/fetch")).json(body)
}

fn catalogue_path() -> String {
    format!("{IMAGES_PATH}/catalogue")
}

/// What is offered.
pub fn catalogue() -> Call<Catalogue> {
    Call::new(Method::GET, catalogue_path())
}

/// Offers what is at an address instead of what is built in.
pub fn set_catalogue(body: &SetCatalogue) -> Call<Catalogue> {
    Call::new(Method::PUT, catalogue_path()).json(body)
}

/// Offers what is built in again.
pub fn reset_catalogue() -> Call<()> {
    Call::new(Method::DELETE, catalogue_path())
}

fn content(id: &str) -> String {
    format!("{IMAGES_PATH}/{}/content", part(id))
}

/// How much of its file has come.
pub fn image_arrived(id: &str) -> Call<Arrived> {
    Call::new(Method::GET, content(id))
}

/// Brings a piece of its file.
pub fn bring_image(id: &str, at: u64, piece: Vec<u8>) -> Call<Arrived> {
    Call::new(Method::PUT, format!("{}?at={at}", content(id))).bytes(piece)
}

/// Makes an image of the file that has come.
pub fn finish_image(id: &str) -> Call<Task> {
    Call::new(Method::POST, format!("{IMAGES_PATH}/{}/finish", part(id)))
}

/// Removes an image. Disks that began as copies of it stay.
pub fn remove_image(id: &str, body: &RemoveImage) -> Call<Task> {
    Call::new(Method::DELETE, format!("{IMAGES_PATH}/{}", part(id))).json(body)
}
