//! From whom certificates are got and for which names, checked; and what is kept of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::AccountCredentials;
use jiff::Timestamp;
use quantix_api::{AcmeBinding, AcmeChallenge, CertificateFacts, Problem, ProblemCode, Secret, SetAcme};
use rustls::{RootCertStore, pki_types::CertificateDer};
use serde::{Deserialize, Serialize};

use crate::{certificate, durable};

const LONGEST_ADDRESS: usize = 512;
const LONGEST_CONTACT: usize = 254;
const LONGEST_KEY: usize = 1024;

/// From whom, and for which names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(super) directory: String,
    pub(super) authority: Option<String>,
    pub(super) contact: Option<String>,
    pub(super) names: Vec<String>,
    pub(super) challenge: AcmeChallenge,
    pub(super) binding: Option<AcmeBinding>,
}

impl Settings {
    /// Checks what somebody filled in.
    pub(crate) fn new(asked: SetAcme) -> Result<Self, Problem> {
        let directory = asked.directory.trim().to_owned();
        directory_of(&directory)?;
        let authority = asked.authority.filter(|authority| !authority.trim().is_empty());
        if let Some(authority) = &authority {
            roots_of(authority).map_err(|sentence| invalid("authority", sentence))?;
        }
        let contact =
            asked.contact.map(|contact| contact.trim().to_owned()).filter(|contact| !contact.is_empty());
        if contact.as_ref().is_some_and(|contact| !is_mail_address(contact)) {
            return Err(invalid("contact", "This is not a mail address, as in operations@lab.example."));
        }
        let names = certificate::names(&asked.names)?;
        if asked.challenge == AcmeChallenge::TlsAlpn
            && names.iter().any(|name| name.parse::<std::net::IpAddr>().is_ok())
        {
            return Err(invalid(
                "names",
                "An address is shown to be this host’s over port 80 only. Choose that, or leave the address out.",
            ));
        }
        if !asked.terms_agreed {
            return Err(invalid(
                "terms_agreed",
                "The authority gives certificates only to those who agree to its terms.",
            ));
        }
        let binding = asked
            .binding
            .filter(|binding| !binding.key_id.trim().is_empty() || !binding.key.expose().trim().is_empty());
        if let Some(binding) = &binding {
            if binding.key_id.trim().is_empty() || binding.key_id.len() > LONGEST_KEY {
                return Err(invalid(
                    "binding.key_id",
                    "The key has an identifier, which the authority gives with it.",
                ));
            }
            key_of(binding)?;
        }
        Ok(Self { directory, authority, contact, names, challenge: asked.challenge, binding })
    }

    /// Whether a certificate is for the names that are wanted.
    pub(super) fn are_of(&self, facts: &CertificateFacts) -> bool {
        self.names.iter().all(|name| facts.names.iter().any(|given| given.eq_ignore_ascii_case(name)))
    }
}

fn invalid(field: &str, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

/// The address of a directory: the web's, and only such as nobody in between can read or change.
fn directory_of(text: &str) -> Result<hyper::Uri, Problem> {
    let sentence = "This is not the address of a directory, as in https://ca.lab.example/acme/directory. It begins with \
                    https://.";
    let not_one = || invalid("directory", sentence);
    if text.len() > LONGEST_ADDRESS || !text.starts_with("https://") || text.contains(['#', '@']) {
        return Err(not_one());
    }
    let uri: hyper::Uri = text.parse().map_err(|_| not_one())?;
    uri.host().is_some_and(|host| !host.is_empty()).then_some(uri).ok_or_else(not_one)
}

/// What the server of a directory is trusted by.
pub(super) fn roots_of(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificate::certificates(pem).map_err(|problem| problem.detail)? {
        roots
            .add(certificate)
            .map_err(|error| format!("A certificate of the authority cannot be used: {error}."))?;
    }
    Ok(roots)
}

/// The public authorities, as the image has them.
pub(super) fn public_roots() -> Result<RootCertStore, String> {
    use rustls::pki_types::pem::PemObject;
    let unreadable = |error: &dyn std::fmt::Display| {
        format!("the public authorities in {PUBLIC} cannot be read ({error}).")
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(PUBLIC).map_err(|error| unreadable(&error))?;
    // Some of the public ones are always beyond what a library reads.
    roots.add_parsable_certificates(found.filter_map(Result::ok));
    if roots.is_empty() { Err(unreadable(&"there is none")) } else { Ok(roots) }
}

const PUBLIC: &str = "/etc/ssl/certs/ca-certificates.crt";

fn is_mail_address(text: &str) -> bool {
    let Some((before, after)) = text.split_once('@') else { return false };
    let is_plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b",;?&%\"<>@".contains(&byte))
    };
    text.len() <= LONGEST_CONTACT && is_plain(before) && is_plain(after)
}

/// The key of a binding, as bytes.
pub(super) fn key_of(binding: &AcmeBinding) -> Result<Vec<u8>, Problem> {
    let text = binding.key.expose().trim().trim_end_matches('=');
    let key = URL_SAFE_NO_PAD.decode(text).ok().filter(|key| !key.is_empty() && text.len() <= LONGEST_KEY);
    key.ok_or_else(|| invalid("binding.key", "The key is not base64url, as the authority gives it."))
}

/// The settings, the account at the authority, and what came of the last attempt.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) settings: Settings,
    /// Opaque, and with its key: JSON as the library writes it.
    pub(super) account: Option<Secret>,
    /// The certificate that was shown when the settings were made.
    pub(super) made_while_shown: String,
    pub(super) failures: u32,
    pub(super) jitter: u8,
    pub(super) last_error: Option<String>,
    pub(super) last_attempt: Option<Timestamp>,
    /// Whether somebody wants it at once.
    pub(super) asked_for: bool,
}

impl Kept {
    pub(super) fn new(settings: Settings, account: Option<Secret>, made_while_shown: String) -> Self {
        Self {
            settings,
            account,
            made_while_shown,
            failures: 0,
            jitter: 0,
            last_error: None,
            last_attempt: None,
            asked_for: true,
        }
    }

    /// The account, if it is one for these settings too.
    pub(super) fn account_for(self, settings: &Settings) -> Option<Secret> {
        let is_same = self.settings.directory == settings.directory
            && self.settings.contact == settings.contact
            && self.settings.binding == settings.binding;
        self.account.filter(|_| is_same)
    }

    pub(super) fn credentials(&self) -> Option<AccountCredentials> {
        serde_json::from_str(self.account.as_ref()?.expose()).ok()
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        match fs::read(path) {
            // What serde says may quote a key.
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| format!("{} is damaged (line {})", path.display(), error.line())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        durable::write(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Where it is kept.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("acme.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> SetAcme {
        SetAcme {
            directory: "https://ca.lab.example/acme/directory".into(),
            authority: None,
            contact: Some("operations@lab.example".into()),
            names: vec!["qx-01.lab.example".into()],
            challenge: AcmeChallenge::Http,
            terms_agreed: true,
            binding: None,
        }
    }

    #[track_caller]
    fn check(asked: SetAcme, field: &str) {
        let problem = Settings::new(asked).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field), "{problem}");
    }

    #[test]
    fn what_cannot_work_is_refused_beside_its_field() {
        assert!(Settings::new(asked()).is_ok());
        for directory in [
            "",
            "ca.lab.example",
            "http://ca.lab.example/",
            "https://",
            "https:///x",
            "https://a@b/",
            "https://a/#x",
            "file:///etc/shadow",
        ] {
            check(SetAcme { directory: directory.into(), ..asked() }, "directory");
        }
        check(SetAcme { authority: Some("x".into()), ..asked() }, "authority");
        for contact in ["x", "@", "a@", "a b@c", "mailto:a@b?cc=c@d", "a@b,c@d", "a@b\r\nX: y"] {
            check(SetAcme { contact: Some(contact.into()), ..asked() }, "contact");
        }
        check(SetAcme { names: vec!["*.lab.example".into()], ..asked() }, "names");
        check(SetAcme { terms_agreed: false, ..asked() }, "terms_agreed");
        check(
            SetAcme { names: vec!["192.0.2.7".into()], challenge: AcmeChallenge::TlsAlpn, ..asked() },
            "names",
        );
        let binding = |key_id: &str, key: &str| AcmeBinding { key_id: key_id.into(), key: Secret::new(key) };
        check(SetAcme { binding: Some(binding("", "AAAA")), ..asked() }, "binding.key_id");
        check(SetAcme { binding: Some(binding("kid", "not base64!")), ..asked() }, "binding.key");
        // A form that was left empty.
        assert!(
            Settings::new(SetAcme { binding: Some(binding("", "")), ..asked() }).unwrap().binding.is_none()
        );
    }
}
