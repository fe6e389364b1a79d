//! What there is, and what a file is.

pub(crate) mod content;
pub(crate) mod id;
pub(crate) mod os;
pub(crate) mod pool;
pub(crate) mod qcow2;
pub mod thin;
mod vmdk;
