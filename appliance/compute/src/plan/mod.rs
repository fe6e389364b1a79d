//! What libvirt is to be told, and what is allowed when.

pub(crate) mod allowed;
pub(crate) mod cloud_init;
pub(crate) mod differences;
pub(crate) mod domain;
pub(crate) mod found;
pub(crate) mod guest;
pub(crate) mod load;
pub(crate) mod ovf;
pub(crate) mod plugged;
pub(crate) mod recognise;
pub(crate) mod runs;
pub(crate) mod snapshot;
pub(crate) mod strayed;
