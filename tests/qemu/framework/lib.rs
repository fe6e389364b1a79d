//! Boots the real image in QEMU and lets a case do what a person does: look at the console, open pages, pull the plug.
//!
//! A [`Machine`] is one appliance; a [`SavedMachine`] is one that has booted already, from which a case starts in a
//! second. A [`Segment`] is a network in the test process, on which a [`Station`] is another machine. Everything that
//! goes wrong ends the case with a sentence (see `fail.rs`), and the machine's artefacts stay in `out/test-runs`.

pub mod accelerator;
mod artefacts;
mod builder;
mod certificate;
pub mod disk;
mod fail;
mod https;
mod look;
mod machine;
mod note;
pub mod options;
pub mod pages;
pub mod project;
mod qmp;
mod saved;
mod screen;
pub mod segment;
mod shell;
pub mod spawn;
mod station;
mod wait;

pub use builder::Builder;
pub use certificate::Fingerprint;
pub use fail::{OrFail, fail};
pub use https::{Browser, Connect, Response, Stream, plain_get};
pub use machine::{BOOT_BOUND, Machine};
pub use note::note;
pub use saved::{About, SavedMachine};
pub use screen::Console;
pub use segment::Segment;
pub use shell::Output;
pub use station::Station;
pub use wait::{poll_until, wait_until};
