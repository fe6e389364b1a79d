//! Storage: what is kept of pools and volumes, and what each host does so that everybody knows how its pools are.

pub(crate) mod asked;
pub(crate) mod catalogue;
pub(crate) mod copies;
pub(crate) mod files;
pub(crate) mod images;
mod keeper;
pub(crate) mod layers;
pub(crate) mod moving;
pub(crate) mod pools;
pub(crate) mod sighting;
pub(crate) mod volumes;
