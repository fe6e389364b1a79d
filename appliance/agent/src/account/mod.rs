//! Accounts. Every cluster begins with one, `admin`, with a password that is random at first.

mod kept;
mod password;
pub(crate) mod users;

pub(crate) use kept::{Account, changed_meanwhile, hash};
pub(crate) use password::{check_new, verify};
use quantix_api::Secret;

/// A random password to be changed at the first sign-in, and its hash; blocking.
pub(crate) fn one_time_password() -> Result<(Secret, String), String> {
    let password = password::random().map_err(|error| error.to_string())?;
    let hashed = hash(&password)?;
    Ok((Secret::new(password), hashed))
}

/// The name of the account that every cluster begins with.
pub(crate) const ADMIN: &str = "admin";
