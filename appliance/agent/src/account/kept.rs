//! Accounts as they are kept. Next to the hash stands the first password in plain, for the screen at the machine,
//! until it has been changed; both change in one write.

use quantix_api::{Problem, ProblemCode, Secret, built_in};
use rusqlite::{Connection, OptionalExtension, params};

use super::{ADMIN, access, password};
use crate::cluster::Refused;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) username: String,
    /// The hash of the password.
    pub(crate) password_hash: String,
    /// The password it began with, as long as it is still the one.
    pub(crate) first_password: Option<Secret>,
    pub(crate) locked: bool,
    pub(crate) must_change_password: bool,
}

impl Account {
    /// The account that a cluster begins with; blocking.
    pub(crate) fn first() -> Result<Self, String> {
        let (first, password_hash) = super::one_time_password()?;
        Ok(Self {
            username: ADMIN.into(),
            password_hash,
            first_password: Some(first),
            locked: false,
            must_change_password: true,
        })
    }

    /// Finds an account by its name.
    pub(crate) fn find(connection: &Connection, username: &str) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT username, password_hash, first_password, locked, must_change FROM account
                 WHERE username = ?1",
            )?
            .query_row([username], |row| {
                let first_password = row.get::<_, Option<String>>(2)?.map(Secret::new);
                Ok(Self {
                    username: row.get(0)?,
                    password_hash: row.get(1)?,
                    must_change_password: first_password.is_some() || row.get(4)?,
                    first_password,
                    locked: row.get(3)?,
                })
            })
            .optional()
    }

    /// The oldest account with a password.
    pub(crate) fn any(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let name: Option<String> = connection
            .query_row(
                "SELECT username FROM account WHERE password_hash <> '' ORDER BY made_at, username LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()?;
        name.map_or(Ok(None), |name| Self::find(connection, &name))
    }

    /// Keeps it as an administrator's, unless there is one of its name.
    pub(crate) fn keep_new(&self, connection: &Connection) -> Result<(), Refused> {
        let first = self.first_password.as_ref().map(Secret::expose);
        let is_new = connection.execute(
            "INSERT INTO account (username, password_hash, first_password) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![self.username, self.password_hash, first],
        )?;
        if is_new > 0 {
            access::set_everywhere(connection, &self.username, built_in::ADMINISTRATOR)?;
        }
        Ok(())
    }

    /// Replaces the password, if it is still the one that was proven, and ends all sessions but one.
    pub(crate) fn change_password(
        &self,
        connection: &Connection,
        new_hash: &str,
        kept_session: &[u8],
    ) -> Result<(), Refused> {
        let changed = connection.execute(
            "UPDATE account SET password_hash = ?3, first_password = NULL, must_change = 0 WHERE username = ?1 AND password_hash = ?2",
            params![self.username, self.password_hash, new_hash],
        )?;
        if changed == 0 {
            return Err(changed_meanwhile().into());
        }
        connection.execute(
            "DELETE FROM session WHERE username = ?1 AND token_hash <> ?2",
            params![self.username, kept_session],
        )?;
        Ok(())
    }
}

/// The answer to whoever proved a password that is no longer the one.
pub(crate) fn changed_meanwhile() -> Problem {
    Problem::new(ProblemCode::WrongCredentials, "The name or the password is wrong.")
}

/// Hashes a password; blocking, and it holds 19 MiB while it runs.
pub(crate) fn hash(password: &str) -> Result<String, String> {
    password::hash(password).map_err(|error| error.to_string())
}
