//! Virtual machines.
//!
//! `model` says what they are, `plan` what libvirt is to be told and what is allowed when, `driver` speaks to libvirt.

mod driver;
mod model;
mod plan;

pub use driver::{
    events::{Event, Happened},
    libvirt::{Failed, Libvirt, Seen},
};
pub use model::{
    check::{Flaw, check},
    element::{Element, Malformed},
    id::VmId,
};
pub use plan::{
    allowed::{Refused, allowed},
    domain::{Accelerator, Drawn, Drive, Format, domain_name, draw},
    recognise::{Missing, Recognised, recognise},
};
