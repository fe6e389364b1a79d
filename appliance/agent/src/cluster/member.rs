//! What a host must have to be the member of a cluster that it is, in one file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use quantix_store::HostId;
use serde::{Deserialize, Serialize};

use super::transport::Identity;
use crate::durable;

/// The file of a member, beside its store.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// The host's own key, which never leaves it.
    pub(super) key: String,
    pub(super) certificate: String,
    pub(super) authority: String,
    /// Seconds since 1970: from then on it asks for a new certificate.
    pub(super) renew_at: u64,
    /// Hosts that can be asked to let this one in, while it is new.
    pub(super) contacts: Vec<Contact>,
}

/// Where a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) host: HostId,
    pub(crate) address: String,
}

impl Member {
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, String> {
        let path = file(folder);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(member) => Ok(Some(member)),
                Err(error) => Err(format!("{} is damaged: {error}", path.display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        durable::write(&file(folder), &serde_json::to_vec_pretty(self)?)
    }

    pub(super) fn identity(&self) -> Result<Identity, String> {
        Identity::new(&self.key, &self.certificate, &self.authority)
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("member.json")
}
