//! What virtual machines are.

pub(crate) mod check;
pub(crate) mod element;
pub(crate) mod id;
