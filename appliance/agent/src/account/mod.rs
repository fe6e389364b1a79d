//! Accounts: who may sign in, with what, and what they may do. Every cluster begins with one, `admin`, with a password
//! that is random at first.

pub(crate) mod access;
pub(crate) mod groups;
mod kept;
mod password;
pub(crate) mod rights;
pub(crate) mod roles;
pub(crate) mod second_factor;
pub(crate) mod tokens;
pub(crate) mod users;

pub(crate) use kept::{Account, changed_meanwhile, hash};
pub(crate) use password::{check_new, verify};
use quantix_api::{Problem, ProblemCode, Secret};

use crate::text;

const LONGEST_PURPOSE: usize = 200;

/// A random password to be changed at the first sign-in, and its hash; blocking.
pub(crate) fn one_time_password() -> Result<(Secret, String), String> {
    let password = password::random().map_err(|error| error.to_string())?;
    let hashed = hash(&password)?;
    Ok((Secret::new(password), hashed))
}

/// The name of the account that every cluster begins with.
pub(crate) const ADMIN: &str = "admin";

/// A name of a user, a group or a role: what can be typed on any keyboard and mistaken for no other.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), Problem> {
    let is_name = (1..=32).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
        && name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if is_name {
        return Ok(());
    }
    let sentence = "A name begins with a letter from a to z and goes on with such letters, digits, dots, dashes and \
                    underscores, at most 32.";
    Err(Problem::new(ProblemCode::Invalid, sentence).in_field(field))
}

/// What something is for: a line that can be read.
pub(crate) fn check_purpose(purpose: &str) -> Result<(), Problem> {
    if text::is_line(purpose, LONGEST_PURPOSE) {
        return Ok(());
    }
    let sentence = format!("What it is for is one line of at most {LONGEST_PURPOSE} characters.");
    Err(Problem::new(ProblemCode::Invalid, sentence).in_field("purpose"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert!(check_name("name", "ada.l-2_x").is_ok());
        for wrong in ["", "Ada", "2a", "a b", "ä", "a\n", "../x", &"a".repeat(33), "-a"] {
            assert!(check_name("name", wrong).is_err(), "{wrong:?}");
        }
        assert!(check_purpose("For the nightly backup – keep").is_ok() && check_purpose("").is_ok());
        assert!(check_purpose("two\nlines").is_err() && check_purpose(&"a".repeat(201)).is_err());
    }
}
