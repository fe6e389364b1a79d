//! The only code here that reaches files and programs.

pub(crate) mod appliance;
pub(crate) mod arriving;
pub(crate) mod backend;
pub(crate) mod directory;
pub(crate) mod files;
pub(crate) mod foreign;
pub(crate) mod image;
pub(crate) mod layers;
pub(crate) mod seed;
pub(crate) mod thin;
