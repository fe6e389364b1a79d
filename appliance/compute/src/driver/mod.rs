//! The only code that speaks to libvirt.

pub(crate) mod events;
pub(crate) mod libvirt;
