//! The only code that speaks to libvirt.

pub(crate) mod console;
pub(crate) mod events;
pub(crate) mod guest;
mod kept;
pub(crate) mod layers;
pub(crate) mod libvirt;
pub(crate) mod load;
pub(crate) mod params;
