//! Accounts: so far one, `admin`, with a password that is random at first.

mod kept;
mod password;

pub(crate) use kept::{Account, changed_meanwhile, hash};
pub(crate) use password::{check_new, verify};

/// The name of the account that every cluster has.
pub(crate) const ADMIN: &str = "admin";
