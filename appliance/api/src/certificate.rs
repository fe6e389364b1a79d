//! The certificate that a host shows to browsers, and where it comes from.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// The most names that one certificate is asked for.
pub const MAX_CERTIFICATE_NAMES: usize = 16;

/// `GET /api/v1/cluster/hosts/{id}/certificate`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageCertificate {
    /// The host whose pages show it.
    pub host: String,
    /// That host's name.
    pub host_name: String,
    /// By what browsers reach it: its name and its addresses.
    pub reached_as: Vec<String>,
    /// Where it comes from.
    pub source: CertificateSource,
    /// What it says.
    pub shown: CertificateFacts,
    /// What is wrong with it or with its renewal, and what to do.
    pub trouble: Option<String>,
    /// A request that waits for its certificate.
    pub request: Option<CertificateRequest>,
    /// How certificates are got by themselves, if they are.
    pub acme: Option<Acme>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSource {
    /// The host made it for itself at its first start.
    SelfSigned,
    /// Somebody uploaded it.
    Uploaded,
    /// An authority gave it through ACME.
    Acme,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateFacts {
    /// Whom it is for.
    pub subject: String,
    /// The names and addresses it is good for.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// SHA-256 of it, as colon-separated hexadecimal pairs.
    pub fingerprint: String,
    /// The kind of its key: `ECDSA P-256`, `RSA 2048`.
    pub key: String,
    /// How many certificates are sent to a browser, this one first.
    pub chain: u32,
}

/// A request for a certificate. Its key does not leave the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateRequest {
    /// The names it asks for.
    pub names: Vec<String>,
    /// When it was made.
    pub made_at: Timestamp,
    /// The request to hand to an authority: PKCS#10 as PEM.
    pub pem: String,
}

/// `POST /api/v1/cluster/hosts/{id}/certificate/request`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCertificateRequest {
    /// Names and addresses. The first is the subject's common name.
    pub names: Vec<String>,
    /// The organisation, if the authority wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
}

/// `PUT /api/v1/cluster/hosts/{id}/certificate`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadCertificate {
    /// The certificate, then those between it and the authority, as PEM.
    pub chain: String,
    /// Its key as PEM. Left out when the certificate answers the host's own request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// Use it although browsers may not accept it: it does not name the host, or its chain seems to have a gap.
    #[serde(default)]
    pub accept_warnings: bool,
}

/// `PUT /api/v1/cluster/hosts/{id}/certificate/acme`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAcme {
    /// The address of the authority's directory.
    pub directory: String,
    /// The certificates with which the directory's own server is trusted, as PEM; without them the public authorities
    /// are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// An address to which the authority writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The names to get a certificate for.
    pub names: Vec<String>,
    /// How the authority sees that the names are this host's.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// That the authority's terms are agreed to.
    pub terms_agreed: bool,
    /// An account at the authority to belong to, if it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<AcmeBinding>,
}

/// How an authority sees that a name is this host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum AcmeChallenge {
    /// It fetches a file over port 80.
    #[default]
    #[serde(rename = "http-01")]
    Http,
    /// It looks at a certificate on port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

/// An account at the authority, made elsewhere (external account binding).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeBinding {
    /// The key's identifier.
    pub key_id: String,
    /// The key, as base64url.
    pub key: Secret,
}

/// How certificates are got by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acme {
    /// The address of the authority's directory.
    pub directory: String,
    /// Whether its server is trusted by certificates of its own.
    pub own_authority: bool,
    /// To whom the authority writes.
    pub contact: Option<String>,
    /// The names.
    pub names: Vec<String>,
    /// How the authority sees that the names are this host's.
    pub challenge: AcmeChallenge,
    /// How it goes.
    pub state: AcmeState,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When a certificate was last asked for.
    pub last_attempt: Option<Timestamp>,
    /// When one is asked for next.
    pub next_attempt: Option<Timestamp>,
}

/// How getting a certificate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AcmeState {
    /// It has not been tried yet.
    Waiting,
    /// The authority is being asked.
    Working,
    /// There is a certificate; it is renewed in time.
    Obtained,
    /// The last attempt failed; it is tried again.
    Failed,
}

/// What the agent tells the page server, and nobody else: what to show, and what authorities ask for. A stream of
/// these, a line of JSON each, begins with how it is and goes on with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToShow {
    /// The certificate and those between it and the authority, as PEM.
    pub chain: String,
    /// Its key, as PEM.
    pub key: Secret,
    /// Files that authorities fetch over port 80.
    pub files: Vec<ChallengeFile>,
    /// Certificates that authorities look at on port 443.
    pub proofs: Vec<ChallengeProof>,
}

/// A file by which an authority sees that a name is this host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeFile {
    /// Its name.
    pub token: String,
    /// What is in it.
    pub content: String,
}

/// A certificate by which an authority sees that a name is this host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeProof {
    /// The name.
    pub name: String,
    /// The certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: Secret,
}

/// Whether this can be a name that a certificate is asked for: a host name or an address, never a wildcard.
pub fn is_certificate_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_host = name.len() <= 253 && name.split('.').all(is_label);
    // What ends in a number is an address or nothing.
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.parse::<IpAddr>().is_ok() || (is_host && !ends_in_number)
}

#[cfg(test)]
mod tests {
    use super::is_certificate_name;

    #[test]
    fn names_and_addresses_are_told_from_what_is_neither() {
        for name in ["qx-01", "qx-01.lab.example", "192.0.2.7", "2001:db8::1", "xn--bcher-kva.example"] {
            assert!(is_certificate_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "*.lab.example",
            "a b",
            "-a",
            "a-",
            "1.2.3",
            "1.2.3.256",
            "http://a",
            "ä.example",
            "a/b",
            "a\n",
        ] {
            assert!(!is_certificate_name(name), "{name}");
        }
        assert!(!is_certificate_name(&"a".repeat(64)));
    }
}
