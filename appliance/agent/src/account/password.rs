//! Passwords: how they are hashed, what a new one must be, and the random one a host begins with.

use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{Error, Output, ParamsString, SaltString},
};
use quantix_api::{Problem, ProblemCode};
use rand::{TryRngCore, rngs::OsRng};

const FEWEST: usize = 12;
const MOST: usize = 128;

/// Without the characters that are read wrongly from a screen: 0 and o, 1, i and l.
const LEGIBLE: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS: usize = 4;
const GROUP: usize = 5;

/// The C library gives a block back to the kernel when it is freed only if the block is beyond what it ever keeps for
/// reuse, 32 MiB; 19 MiB would stay with the process, once for each thread that ever hashed. So more is asked for
/// than is touched, and what is not touched takes no memory.
const RESERVED_BLOCKS: usize = 40 * 1024 * 1024 / Block::SIZE;

/// argon2id with 19 MiB and two passes: a guess costs as much as a sign-in.
fn parameters() -> Params {
    // These parameters are within the bounds of the algorithm.
    Params::new(19 * 1024, 2, 1, None).unwrap_or_default()
}

fn digest(password: &str, salt: &[u8], params: Params) -> Result<Output, Error> {
    let mut memory = Vec::with_capacity(params.block_count().max(RESERVED_BLOCKS));
    memory.resize(params.block_count(), Block::default());
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Output::init_with(length, |out| {
        Ok(hasher.hash_password_into_with_memory(password.as_bytes(), salt, out, memory.as_mut_slice())?)
    })
}

/// The hash to keep.
pub(crate) fn hash(password: &str) -> Result<String, Error> {
    let mut salt = [0; 16];
    OsRng.try_fill_bytes(&mut salt).map_err(|_| Error::Crypto)?;
    let output = digest(password, &salt, parameters())?;
    let salt = SaltString::encode_b64(&salt)?;
    let kept = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&parameters())?,
        salt: Some(salt.as_salt()),
        hash: Some(output),
    };
    Ok(kept.to_string())
}

/// Whether the password is the one that was hashed; takes the same time whether or not it is.
pub(crate) fn verify(password: &str, hash: &str) -> bool {
    let matches = || -> Result<bool, Error> {
        let kept = PasswordHash::new(hash)?;
        let (Some(salt), Some(expected), true) = (kept.salt, kept.hash, kept.algorithm == ARGON2ID_IDENT)
        else {
            return Ok(false);
        };
        let mut bytes = [0; 64];
        // Outputs are compared in constant time.
        Ok(digest(password, salt.decode_b64(&mut bytes)?, Params::try_from(&kept)?)? == expected)
    };
    matches().unwrap_or(false)
}

/// What a new password must be.
pub(crate) fn check_new(current: &str, new: &str) -> Result<(), Problem> {
    let length = new.chars().count();
    let sentence = if length < FEWEST {
        format!("The new password has {length} characters; it needs at least {FEWEST}.")
    } else if length > MOST {
        format!("The new password has {length} characters; it can have at most {MOST}.")
    } else if new == current {
        "The new password is the present one. Choose another.".to_owned()
    } else if new.chars().any(char::is_control) {
        "The new password holds a character that cannot be typed. Choose another.".to_owned()
    } else if new.chars().collect::<std::collections::BTreeSet<_>>().len() < 5 {
        "The new password repeats a few characters. Use at least five different ones.".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::new(ProblemCode::Invalid, sentence).in_field("new"))
}

/// A random password of 99 bits in groups that are easy to read from a screen and to type.
pub(crate) fn random() -> Result<String, rand::rand_core::OsError> {
    let mut password = String::with_capacity(GROUPS * (GROUP + 1));
    let mut count = 0;
    while count < GROUPS * GROUP {
        // Bytes past the last whole multiple are drawn again, or some characters would come up more often.
        let mut byte = [0];
        OsRng.try_fill_bytes(&mut byte)?;
        let Some(character) = (byte[0] < 248).then(|| LEGIBLE[usize::from(byte[0]) % LEGIBLE.len()]) else {
            continue;
        };
        if count > 0 && count % GROUP == 0 {
            password.push('-');
        }
        password.push(char::from(character));
        count += 1;
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_password_that_was_hashed_is_right() {
        let kept = hash("correct horse battery").unwrap();
        assert!(verify("correct horse battery", &kept));
        assert!(!verify("correct horse batter", &kept));
        assert!(!verify("", &kept));
        assert!(!verify("x", "not a hash"));
    }

    #[test]
    fn a_refused_password_is_told_what_would_be_right() {
        let detail = |new| check_new("the-present-one", new).unwrap_err().detail;
        assert_eq!(detail("short"), "The new password has 5 characters; it needs at least 12.");
        assert_eq!(detail("the-present-one"), "The new password is the present one. Choose another.");
        assert_eq!(
            detail("aaaaaaaaaaaabbb"),
            "The new password repeats a few characters. Use at least five different ones."
        );
        assert!(check_new("the-present-one", "köstliche Nüsse").is_ok());
    }

    #[test]
    fn a_first_password_is_legible_and_never_the_same() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 23);
        assert!(
            one.split('-').all(|group| group.len() == 5 && group.bytes().all(|byte| LEGIBLE.contains(&byte)))
        );
        assert!(check_new("", &one).is_ok());
    }

    #[test]
    fn a_hash_made_by_another_argon2_is_understood() {
        // From the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24
        let kept = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify("password", kept));
        assert!(!verify("Password", kept));
    }

    proptest! {
        #[test]
        fn no_password_makes_the_rules_panic(current in ".{0,20}", new in ".{0,200}") {
            let _ = check_new(&current, &new);
        }
    }
}
