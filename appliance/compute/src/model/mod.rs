//! What virtual machines are.

pub(crate) mod access;
pub(crate) mod check;
pub(crate) mod element;
pub(crate) mod id;
pub(crate) mod told;
