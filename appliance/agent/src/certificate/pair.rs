//! A certificate with its key, as it is kept and shown: in one file, so that no moment has one without the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use quantix_api::{CertificateFacts, CertificateSource, Secret};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};

use super::facts;
use crate::durable;

/// A chain of certificates, the host's first, and the key of the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) source: CertificateSource,
    pub(crate) chain: String,
    pub(crate) key: Secret,
}

impl Pair {
    /// Whether it parses and the key is the certificate's.
    pub(super) fn is_whole(&self) -> bool {
        let Ok(chain) = self.certificates() else { return false };
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes());
        key.is_ok_and(|key| CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).is_ok())
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect()
    }

    /// The certificate's SHA-256, as people compare it.
    pub(super) fn fingerprint(&self) -> Option<String> {
        Some(facts::fingerprint(self.certificates().ok()?.first()?))
    }

    /// What the certificate says.
    pub(super) fn facts(&self) -> Result<CertificateFacts, String> {
        facts::of(&self.certificates().map_err(|error| error.to_string())?)
    }

    /// The pair in a file, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let damaged = |why: &dyn std::fmt::Display| format!("{} is damaged ({why})", path.display());
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        // What serde says may quote what is there, and that may be the key.
        let pair: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&format!("line {}", error.line())))?;
        if !pair.is_whole() {
            return Err(damaged(&"the key is not the certificate's"));
        }
        Ok(Some(pair))
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        durable::write(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Where the pair is kept that was put in the place of the host's own.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("pages.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::own;

    #[test]
    fn a_file_that_was_torn_or_tampered_with_is_no_pair_and_its_key_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let (pair, _) = own::ensure(dir.path(), "qx-01").unwrap();
        let (other, _) = own::ensure(&dir.path().join("other"), "qx-01").unwrap();
        let path = file(dir.path());
        assert_eq!(Pair::read(&path), Ok(None));
        pair.write(&path).unwrap();
        assert_eq!(Pair::read(&path), Ok(Some(pair.clone())));
        let mixed = Pair { key: other.key, ..pair };
        mixed.write(&path).unwrap();
        assert!(Pair::read(&path).unwrap_err().contains("the key is not the certificate's"));
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let why = Pair::read(&path).unwrap_err();
            assert!(why.contains("damaged") && !why.contains("BEGIN"), "{why}");
        }
    }
}
