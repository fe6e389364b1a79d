//! The only code that speaks to libvirt.

pub(crate) mod console;
pub(crate) mod events;
mod kept;
pub(crate) mod layers;
pub(crate) mod libvirt;
