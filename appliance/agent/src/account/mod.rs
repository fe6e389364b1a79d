//! The one account of a host so far: `admin`, with a password that is random at first.

mod file;
mod password;

pub(crate) use file::{AccountFile, SaveError, hash};
pub(crate) use password::{check_new, verify};

/// The account's name.
pub(crate) const ADMIN: &str = "admin";
