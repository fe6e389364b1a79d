//! This machine: what it is made of, what runs on it, and whether that answers.
//!
//! `model` reads text the kernel writes, `plan` judges, `driver` reaches out. A [`Host`] joins them.

mod driver;
mod model;
mod plan;

pub use driver::{
    blocking::blocking,
    host::{Host, hostname, nics},
    load::load,
    run::{Finished, RunError, filter, run, run_into_file},
    services::Asked,
};
pub use model::load::{DiskLoad, Load, NetworkLoad};
pub use plan::pci::refused as pci_refused;
