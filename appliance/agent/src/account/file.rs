//! The account on disk: one file, replaced whole. Next to the hash it holds the first password in plain, for the
//! screen at the machine, until it has been changed; both change in one write.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use quantix_api::{Check, CheckState, Secret};
use serde::{Deserialize, Serialize};

use super::password;
use crate::{durable, lock};

/// What is kept of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    version: u32,
    /// The hash of the password.
    pub(crate) password_hash: String,
    /// The password a host began with, as long as it is still the one.
    pub(crate) first_password: Option<Secret>,
}

const VERSION: u32 = 1;

/// Why a change was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("The password could not be hashed: {0}.")]
    Hash(String),
    #[error("The account could not be written: {0}. Is the state partition full?")]
    Write(#[from] io::Error),
    #[error("The account's file is damaged.")]
    Damaged,
}

/// The account, its file, and whether the two agree.
#[derive(Debug)]
pub(crate) struct AccountFile {
    path: PathBuf,
    /// Held for a moment only, never over a write: readiness asks here while the disk may hang.
    state: Mutex<State>,
    /// Held over a write.
    writing: Mutex<()>,
}

#[derive(Clone, Debug)]
enum State {
    Kept(Account),
    /// Made at this start; the disk did not take it yet.
    Unwritten(Account, String),
    /// There is a file and it cannot be read. Nobody signs in: an account made anew would hand the host to whoever
    /// can damage a file.
    Damaged(String),
}

impl AccountFile {
    /// Reads the account, or makes one when there has never been any.
    pub(crate) fn open(path: &Path) -> Self {
        let state = match fs::read(path) {
            Ok(text) => match serde_json::from_slice::<Account>(&text) {
                Ok(account) if account.version != VERSION => {
                    State::Damaged(format!("it has the unknown version {}", account.version))
                }
                Ok(account) if !password::is_hash(&account.password_hash) => {
                    State::Damaged("it holds no password".to_owned())
                }
                Ok(account) => State::Kept(account),
                Err(error) => State::Damaged(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => match Account::first() {
                Ok(account) => State::Unwritten(account, "not tried yet".to_owned()),
                Err(error) => State::Damaged(format!("a first one could not be made: {error}")),
            },
            Err(error) => State::Damaged(error.to_string()),
        };
        if let State::Damaged(why) = &state {
            log::error!(path:% = path.display(); "The account at {} cannot be used: {why}", path.display());
        }
        let file = Self { path: path.to_owned(), state: Mutex::new(state), writing: Mutex::default() };
        file.keep();
        file
    }

    /// The account, if there is one to sign in to.
    pub(crate) fn account(&self) -> Option<Account> {
        match &*lock(&self.state) {
            State::Kept(account) | State::Unwritten(account, _) => Some(account.clone()),
            State::Damaged(_) => None,
        }
    }

    /// Writes an account that the disk has not taken yet; blocking.
    pub(crate) fn keep(&self) {
        let _writing = lock(&self.writing);
        let State::Unwritten(account, _) = lock(&self.state).clone() else { return };
        let kept = match self.write(&account) {
            Ok(()) => State::Kept(account),
            Err(error) => State::Unwritten(account, error.to_string()),
        };
        *lock(&self.state) = kept;
    }

    /// Replaces the password; on an error the old one stays. Blocking.
    pub(crate) fn change_password(&self, password_hash: String) -> Result<(), SaveError> {
        let _writing = lock(&self.writing);
        if matches!(*lock(&self.state), State::Damaged(_)) {
            return Err(SaveError::Damaged);
        }
        let account = Account { version: VERSION, password_hash, first_password: None };
        self.write(&account)?;
        *lock(&self.state) = State::Kept(account);
        Ok(())
    }

    /// Whether people can sign in, and whether they still can after a reboot.
    pub(crate) fn check(&self) -> Check {
        let (state, detail) = match &*lock(&self.state) {
            State::Kept(_) => (CheckState::Ok, "The administrator's account is kept.".to_owned()),
            State::Unwritten(_, why) => (
                CheckState::Failed,
                format!(
                    "The administrator's account could not be written ({why}); after a reboot the first password is another."
                ),
            ),
            State::Damaged(why) => (
                CheckState::Failed,
                format!(
                    "The administrator's account cannot be read ({why}): nobody can sign in. Check the system disk."
                ),
            ),
        };
        Check { name: "account".to_owned(), state, detail }
    }

    fn write(&self, account: &Account) -> Result<(), SaveError> {
        let text = serde_json::to_vec_pretty(account).map_err(io::Error::from)?;
        Ok(durable::write(&self.path, &text)?)
    }
}

impl Account {
    fn first() -> Result<Self, SaveError> {
        let first = password::random().map_err(|error| SaveError::Hash(error.to_string()))?;
        Ok(Self { version: VERSION, password_hash: hash(&first)?, first_password: Some(Secret::new(first)) })
    }

    /// Whether the password is still the one on the screen at the machine.
    pub(crate) fn must_change_password(&self) -> bool {
        self.first_password.is_some()
    }
}

/// Hashes a password; blocking, and it holds 19 MiB while it runs.
pub(crate) fn hash(password: &str) -> Result<String, SaveError> {
    password::hash(password).map_err(|error| SaveError::Hash(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_password(file: &AccountFile) -> String {
        file.account().unwrap().first_password.clone().unwrap().expose().to_owned()
    }

    #[test]
    fn an_account_is_made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("account.json");
        let first = first_password(&AccountFile::open(&path));
        assert_eq!(first_password(&AccountFile::open(&path)), first);
    }

    #[test]
    fn a_changed_password_takes_the_first_one_off_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("account.json");
        let file = AccountFile::open(&path);
        let first = first_password(&file);
        file.change_password(hash("another password").unwrap()).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(&first));
        assert!(!AccountFile::open(&path).account().unwrap().must_change_password());
    }

    #[test]
    fn a_damaged_file_lets_nobody_in_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("account.json");
        fs::write(&path, "{\"version\":1,\"password_hash\":\"\",\"first_password\":null}").unwrap();
        assert!(AccountFile::open(&path).account().is_none());
        fs::write(&path, "{\"version\":1,\"passwo").unwrap();
        let file = AccountFile::open(&path);
        assert!(file.account().is_none());
        assert_eq!(file.check().state, CheckState::Failed);
        assert!(file.change_password("x".into()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"version\":1,\"passwo");
    }

    #[test]
    fn an_account_the_disk_does_not_take_is_said_and_kept_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/account.json");
        let file = AccountFile::open(&path);
        let first = first_password(&file);
        assert_eq!(file.check().state, CheckState::Failed);
        fs::create_dir(dir.path().join("later")).unwrap();
        file.keep();
        assert_eq!(file.check().state, CheckState::Ok);
        assert_eq!(first_password(&AccountFile::open(&path)), first);
    }
}
