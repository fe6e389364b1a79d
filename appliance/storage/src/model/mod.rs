//! What there is, and what a file is.

pub(crate) mod content;
pub(crate) mod id;
pub(crate) mod os;
mod qcow2;
mod vmdk;
