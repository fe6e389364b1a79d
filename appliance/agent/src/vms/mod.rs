//! Virtual machines: what is kept of them, the folders they are in, and what each host does so that its machines are as
//! they shall be and everybody knows how they are.

pub(crate) mod asked;
mod boot;
mod checks;
pub(crate) mod clone;
pub(crate) mod cloud_init;
pub(crate) mod console;
pub(crate) mod counts;
pub(crate) mod disks;
mod drift;
pub(crate) mod folders;
pub(crate) mod found;
mod guests;
pub(crate) mod holding;
mod keeper;
pub(crate) mod kept;
mod live;
pub(crate) mod schedules;
pub(crate) mod sighting;
pub(crate) mod snapshots;
mod tidy;

pub(crate) use boot::Starting;
pub(crate) use found::FoundNames;
pub(crate) use keeper::Accelerators;
