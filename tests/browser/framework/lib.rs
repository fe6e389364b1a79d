//! The real pages in a real browser. A case starts a [`Host`], which is an agent and a page server of their own, sits
//! down at a [`Desk`], which is a Chromium with a fresh profile, and does what a person does: opens addresses, fills in
//! fields by their labels, presses buttons by what is written on them, looks. A [`Screen`] is that without a
//! host of its own, for one that runs elsewhere.
//!
//! Things are found by what they mean to a person (role and name), never by their markup, so that a page may be drawn
//! anew without a case that changes.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "what goes wrong in a test ends it, and says so"
)]

mod browser;
mod desk;
mod driver;
mod elsewhere;
mod host;
mod keyboard;
mod look;
mod process;
mod provider;
mod screen;
mod wait;

pub use browser::Browser;
pub use desk::Desk;
pub use elsewhere::Elsewhere;
pub use host::{Host, NAME, PASSWORD, cluster_of};
pub use keyboard::{Focused, Key};
pub use look::{LOOKS, Look};
pub use provider::Provider;
pub use screen::Screen;
pub use wait::{Patience, until};
