//! The session, kept in one file that only its owner can read.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use quantix_api::Secret;
use serde::{Deserialize, Serialize};

/// Who is signed in where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    pub(crate) username: String,
    pub(crate) token: Secret,
}

fn path() -> io::Result<PathBuf> {
    let folder = match std::env::var_os("XDG_STATE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").ok_or(io::ErrorKind::NotFound)?).join(".local/state"),
    };
    Ok(folder.join("quantix/session.json"))
}

impl Kept {
    /// The session, if somebody is signed in.
    pub(crate) fn read() -> io::Result<Option<Self>> {
        match fs::read(path()?) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps it.
    pub(crate) fn write(&self) -> io::Result<()> {
        let path = path()?;
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let beside = path.with_extension("new");
        drop(fs::remove_file(&beside));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(beside, path)
    }

    /// Forgets it.
    pub(crate) fn forget() -> io::Result<()> {
        match fs::remove_file(path()?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
