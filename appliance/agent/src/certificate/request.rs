//! A request for a certificate, whose key the host makes and keeps.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use quantix_api::{
    CertificateRequest, MAX_CERTIFICATE_NAMES, NewCertificateRequest, Problem, ProblemCode, Secret,
    is_certificate_name,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::{Deserialize, Serialize};

use crate::{durable, text};

const LONGEST_ORGANIZATION: usize = 64;

/// A request that waits for its certificate, and its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    pub(super) request: CertificateRequest,
    pub(super) key: Secret,
}

impl Waiting {
    pub(super) fn make(asked: &NewCertificateRequest, now: Timestamp) -> Result<Self, Problem> {
        let names = names(&asked.names)?;
        let organization = asked.organization.as_deref().map(str::trim).filter(|name| !name.is_empty());
        if organization.is_some_and(|name| !text::is_line(name, LONGEST_ORGANIZATION)) {
            let sentence =
                format!("An organisation has at most {LONGEST_ORGANIZATION} characters, all on one line.");
            return Err(Problem::new(ProblemCode::Invalid, sentence).in_field("organization"));
        }
        let (key, pem) = sign(&names, organization).map_err(not_made)?;
        Ok(Self { request: CertificateRequest { names, made_at: now, pem }, key: Secret::new(key) })
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        durable::write(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Where a request waits.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("request.json")
}

/// Names as they can be asked for, each once.
pub(crate) fn names(asked: &[String]) -> Result<Vec<String>, Problem> {
    let invalid = |sentence: String| Problem::new(ProblemCode::Invalid, sentence).in_field("names");
    let mut names: Vec<String> = Vec::new();
    for name in asked.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        if !is_certificate_name(name) {
            let start = text::beginning(name, 64);
            return Err(invalid(format!(
                "“{start}” is neither a host name, as in qx-01.lab.example, nor an address."
            )));
        }
        let name = name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > MAX_CERTIFICATE_NAMES {
            return Err(invalid(format!("A certificate has at most {MAX_CERTIFICATE_NAMES} names.")));
        }
    }
    if names.is_empty() {
        return Err(invalid("At least one name is needed, the one by which browsers open this host.".into()));
    }
    Ok(names)
}

/// A new key and a request for names, both as PEM.
fn sign(names: &[String], organization: Option<&str>) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    // A common name has 64 characters at most; the alternative names are what counts.
    if let Some(name) = names.first().filter(|name| name.len() <= 64) {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    let request = params.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), request))
}

pub(super) fn not_made(error: rcgen::Error) -> Problem {
    Problem::new(ProblemCode::Internal, format!("The request could not be made: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(names: &[&str]) -> NewCertificateRequest {
        NewCertificateRequest { names: names.iter().map(ToString::to_string).collect(), organization: None }
    }

    #[test]
    fn names_are_taken_once_and_in_small_letters() {
        let waiting =
            Waiting::make(&asked(&["QX-01.lab", " qx-01.lab ", "", "192.0.2.7"]), Timestamp::UNIX_EPOCH);
        assert_eq!(waiting.unwrap().request.names, ["qx-01.lab", "192.0.2.7"]);
    }

    #[test]
    fn what_cannot_be_asked_for_is_said() {
        let many: Vec<_> = (0..20).map(|number| format!("a{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        for (names, says) in [
            (&[][..], "At least one name"),
            (&["a b"][..], "“a b” is neither"),
            (&["*.lab"][..], "neither"),
            (&many[..], "at most 16 names"),
        ] {
            let problem = Waiting::make(&asked(names), Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(problem.detail.contains(says) && problem.field.as_deref() == Some("names"), "{problem}");
        }
        let long = NewCertificateRequest { organization: Some("x".repeat(65)), ..asked(&["a"]) };
        assert!(Waiting::make(&long, Timestamp::UNIX_EPOCH).is_err());
    }
}
