//! The second factor: codes from an authenticator, each good once, and recovery codes for when it is lost.

use quantix_api::{NewSecondFactor, Problem, ProblemCode, RecoveryCodes, Secret};
use rand::{TryRngCore, rngs::OsRng};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use totp_rs::{Builder, Secret as Shared, Totp};

use super::password;
use crate::{cluster::Refused, sessions::no_randomness};

/// The length RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
const RECOVERY_CODES: usize = 10;
/// So many wrong codes are free; each further one doubles the wait until the next is looked at.
const FREE: u32 = 5;
const LONGEST_WAIT: u64 = 15 * 60;

/// A second factor as it is kept.
struct Kept {
    shared: [u8; SECRET_BYTES],
    last_step: u64,
    wrong: u32,
    wrong_at: u64,
}

fn totp(username: &str, shared: [u8; SECRET_BYTES]) -> Result<Totp, Problem> {
    let builder = Builder::new().with_secret(Shared::new_stack(shared));
    let made = builder.with_account_name(username).with_issuer(Some("Quantix")).build();
    made.map_err(|error| {
        Problem::new(ProblemCode::Internal, format!("The second factor cannot be used: {error}."))
    })
}

fn kept(connection: &Connection, username: &str, confirmed: bool) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(
            "SELECT secret, last_step, wrong, wrong_at FROM second_factor WHERE username = ?1 AND confirmed = ?2",
        )?
        .query_row(params![username, confirmed], |row| {
            Ok(Kept { shared: row.get(0)?, last_step: row.get(1)?, wrong: row.get(2)?, wrong_at: row.get(3)? })
        })
        .optional()
}

/// Begins to set one up. What was begun before and never confirmed is forgotten.
pub(crate) fn begin(connection: &Connection, username: &str) -> Result<NewSecondFactor, Refused> {
    if kept(connection, username, true)?.is_some() {
        let sentence = "There is a second factor already. Remove it first.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).into());
    }
    let mut shared = [0; SECRET_BYTES];
    OsRng.try_fill_bytes(&mut shared).map_err(|_| no_randomness())?;
    let totp = totp(username, shared)?;
    let address = totp.to_url().map_err(|error| {
        Problem::new(
            ProblemCode::Internal,
            format!("The address for the authenticator cannot be made: {error}."),
        )
    })?;
    connection.execute(
        "INSERT OR REPLACE INTO second_factor (username, secret) VALUES (?1, ?2)",
        params![username, shared],
    )?;
    Ok(NewSecondFactor { secret: Secret::new(totp.secret().to_base32()), address: Secret::new(address) })
}

/// Ends setting it up: whoever shows a code has it in an authenticator.
pub(crate) fn confirm(
    connection: &Connection,
    username: &str,
    code: &Secret,
    now: u64,
) -> Result<RecoveryCodes, Refused> {
    let Some(kept) = kept(connection, username, false)? else {
        let sentence = "No second factor is being set up. Begin again.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).into());
    };
    let Some(step) = totp(username, kept.shared)?.check(digits(code).as_str(), now) else {
        let sentence = "This is not the code that the authenticator should show now. Are its clock and the host's right?";
        return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("code").into());
    };
    connection.execute(
        "UPDATE second_factor SET confirmed = 1, last_step = ?2 WHERE username = ?1",
        params![username, step],
    )?;
    new_recovery_codes(connection, username)
}

/// Makes recovery codes; those before are good for nothing any more.
pub(crate) fn new_recovery_codes(connection: &Connection, username: &str) -> Result<RecoveryCodes, Refused> {
    if kept(connection, username, true)?.is_none() {
        let sentence = "There is no second factor that recovery codes could stand in for. Set one up first.";
        return Err(Problem::new(ProblemCode::Invalid, sentence).into());
    }
    connection.execute("DELETE FROM recovery_code WHERE username = ?1", [username])?;
    let mut codes = Vec::with_capacity(RECOVERY_CODES);
    for _ in 0..RECOVERY_CODES {
        let code = password::random().map_err(|_| no_randomness())?;
        connection.execute(
            "INSERT INTO recovery_code (username, code_hash) VALUES (?1, ?2)",
            params![username, recovery_hash(&code)],
        )?;
        codes.push(Secret::new(code));
    }
    Ok(RecoveryCodes { codes })
}

/// Whether an account has one that counts.
pub(crate) fn is_set_up(connection: &Connection, username: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM second_factor WHERE username = ?1 AND confirmed")?
        .exists([username])
}

/// Takes it away, with the recovery codes.
pub(crate) fn remove(connection: &Connection, username: &str) -> Result<(), Refused> {
    connection.execute("DELETE FROM recovery_code WHERE username = ?1", [username])?;
    if connection.execute("DELETE FROM second_factor WHERE username = ?1", [username])? == 0 {
        return Err(Problem::new(ProblemCode::NotFound, "There is no second factor.").into());
    }
    Ok(())
}

/// What came of a code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It was right.
    Right,
    /// It was a recovery code, and so many are left.
    Recovered(u32),
    /// It was wrong.
    Wrong,
    /// Too many wrong ones came: nothing is looked at for so many seconds.
    Wait(u64),
}

/// Checks a code and uses it up. The count of wrong ones is kept for the account: whoever has the password and many
/// addresses would otherwise have many tries. Recovery codes are too long to be guessed, so that nobody is kept out.
pub(crate) fn check(
    connection: &Connection,
    username: &str,
    code: &Secret,
    now: u64,
) -> Result<Checked, Refused> {
    let hash = recovery_hash(code.expose().trim());
    let used = connection.execute(
        "DELETE FROM recovery_code WHERE username = ?1 AND code_hash = ?2",
        params![username, hash],
    )?;
    if used > 0 {
        let left = connection.query_row(
            "SELECT count(*) FROM recovery_code WHERE username = ?1",
            [username],
            |row| row.get(0),
        )?;
        return Ok(Checked::Recovered(left));
    }
    let Some(kept) = kept(connection, username, true)? else { return Ok(Checked::Wrong) };
    let wait = wait(kept.wrong).saturating_sub(now.abs_diff(kept.wrong_at));
    if wait > 0 {
        return Ok(Checked::Wait(wait));
    }
    match totp(username, kept.shared)?.check(digits(code).as_str(), now) {
        Some(step) if step > kept.last_step => {
            connection.execute(
                "UPDATE second_factor SET last_step = ?2, wrong = 0 WHERE username = ?1",
                params![username, step],
            )?;
            Ok(Checked::Right)
        }
        _ => {
            connection.execute(
                "UPDATE second_factor SET wrong = wrong + 1, wrong_at = ?2 WHERE username = ?1",
                params![username, now],
            )?;
            Ok(Checked::Wrong)
        }
    }
}

/// The time step of a code, if it is right: for when its use cannot be written down.
pub(crate) fn look(
    connection: &Connection,
    username: &str,
    code: &Secret,
    now: u64,
) -> rusqlite::Result<Option<u64>> {
    let Some(kept) = kept(connection, username, true)? else { return Ok(None) };
    let step = totp(username, kept.shared).ok().and_then(|totp| totp.check(digits(code).as_str(), now));
    Ok(step.filter(|step| *step > kept.last_step))
}

fn wait(wrong: u32) -> u64 {
    match wrong.checked_sub(FREE) {
        None => 0,
        Some(more) => 1_u64.checked_shl(more).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT),
    }
}

/// People type the blank that authenticators show.
fn digits(code: &Secret) -> String {
    code.expose().chars().filter(|character| !character.is_whitespace()).take(16).collect()
}

fn recovery_hash(code: &str) -> [u8; 32] {
    Sha256::digest(code.to_ascii_lowercase().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn code(made: &NewSecondFactor, at: u64) -> Secret {
        let shared = Shared::try_from_base32(made.secret.expose()).unwrap();
        let totp = totp("ada", shared.as_bytes().try_into().unwrap()).unwrap();
        Secret::new(totp.generate(at).to_string())
    }

    fn set_up() -> (Connection, NewSecondFactor, RecoveryCodes) {
        let connection = crate::cluster::tables();
        connection.execute("INSERT INTO account (username, password_hash) VALUES ('ada', 'x')", []).unwrap();
        let made = begin(&connection, "ada").unwrap();
        assert!(!is_set_up(&connection, "ada").unwrap());
        assert!(confirm(&connection, "ada", &Secret::new("000000x"), NOW).is_err());
        let codes = confirm(&connection, "ada", &code(&made, NOW), NOW).unwrap();
        assert!(is_set_up(&connection, "ada").unwrap());
        (connection, made, codes)
    }

    #[test]
    fn a_code_is_good_once_and_around_its_time() {
        let (connection, made, _) = set_up();
        let check = |code: &Secret, now| check(&connection, "ada", code, now).unwrap();
        assert_eq!(check(&code(&made, NOW), NOW), Checked::Wrong, "it confirmed the set-up");
        let next = code(&made, NOW + 30);
        assert_eq!(check(&next, NOW + 40), Checked::Right);
        assert_eq!(check(&next, NOW + 41), Checked::Wrong, "used twice");
        assert_eq!(check(&code(&made, NOW + 600), NOW + 60), Checked::Wrong, "too early");
        let spaced = code(&made, NOW + 90);
        let spaced = Secret::new(format!("{} {}", &spaced.expose()[..3], &spaced.expose()[3..]));
        assert_eq!(check(&spaced, NOW + 119), Checked::Right);
    }

    #[test]
    fn the_address_is_one_that_authenticators_read() {
        let (_, made, _) = set_up();
        let address = made.address.expose();
        assert!(
            address.starts_with("otpauth://totp/Quantix:ada?") && address.contains(made.secret.expose()),
            "{address}"
        );
    }

    #[test]
    fn guessing_is_slow_and_recovery_codes_open_all_the_same() {
        let (connection, made, codes) = set_up();
        let wrong = Secret::new("no code");
        for _ in 0..FREE {
            assert_eq!(check(&connection, "ada", &wrong, NOW).unwrap(), Checked::Wrong);
        }
        let right = code(&made, NOW + 30);
        assert_eq!(check(&connection, "ada", &right, NOW).unwrap(), Checked::Wait(1));
        let recovery = &codes.codes[3];
        assert_eq!(check(&connection, "ada", recovery, NOW).unwrap(), Checked::Recovered(9));
        assert_eq!(check(&connection, "ada", recovery, NOW).unwrap(), Checked::Wait(1), "used twice");
        assert_eq!(check(&connection, "ada", &right, NOW + 1).unwrap(), Checked::Right);
        assert_eq!([4, 5, 8, 40].map(wait), [0, 1, 8, LONGEST_WAIT]);
    }

    #[test]
    fn new_recovery_codes_take_the_place_of_the_old() {
        let (connection, _, old) = set_up();
        let new = new_recovery_codes(&connection, "ada").unwrap();
        assert_eq!(new.codes.len(), RECOVERY_CODES);
        assert_eq!(check(&connection, "ada", &old.codes[0], NOW).unwrap(), Checked::Wrong);
        remove(&connection, "ada").unwrap();
        assert!(new_recovery_codes(&connection, "ada").is_err() && remove(&connection, "ada").is_err());
    }
}
