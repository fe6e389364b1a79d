//! Work that takes time. A task is kept with all data from the moment it is asked for; its owner sees it there, does
//! it step by step, and writes down how far it is. Whoever is killed on the way finds out from what is kept what to do
//! next.

#[cfg(test)]
mod crashes;
pub(crate) mod kept;
pub(crate) mod kinds;
mod plan;
mod runner;
mod work;

pub(crate) use kept::{Kept, NewTask};
pub(crate) use plan::{Report, Standing};
pub(crate) use work::{boot, bundle};
