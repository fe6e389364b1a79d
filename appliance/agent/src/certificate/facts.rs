//! What a certificate says, in words for people.

use std::net::IpAddr;

use jiff::Timestamp;
use quantix_api::CertificateFacts;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
    time::ASN1Time,
    x509::{SubjectPublicKeyInfo, X509Name},
};

use crate::text;

/// The longest text of a certificate that is shown.
const LONGEST: usize = 256;
/// The most names of a certificate that are shown.
const MOST_NAMES: usize = 100;

/// The kind of a key and how strong it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa(usize),
    P256,
    P384,
    P521,
    Ed25519,
    Other,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::P521 => f.write_str("ECDSA P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("of an unknown kind"),
        }
    }
}

/// Reads a certificate.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("something follows it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What the first certificate of a chain says.
pub(super) fn of(chain: &[CertificateDer<'_>]) -> Result<CertificateFacts, String> {
    let first = chain.first().ok_or("there is no certificate")?;
    let parsed = parse(first)?;
    Ok(CertificateFacts {
        subject: name(parsed.subject()),
        names: names(&parsed),
        issuer: name(parsed.issuer()),
        not_before: when(parsed.validity().not_before),
        not_after: when(parsed.validity().not_after),
        fingerprint: fingerprint(first),
        key: kind(parsed.public_key()).to_string(),
        chain: u32::try_from(chain.len()).unwrap_or(u32::MAX),
    })
}

/// The SHA-256 of a certificate, as people compare it.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let pairs: Vec<_> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// A name for people: the common name, or the organisation, or all of it.
pub(super) fn name(name: &X509Name<'_>) -> String {
    let first = name.iter_common_name().chain(name.iter_organization()).find_map(|part| part.as_str().ok());
    let text = first.map_or_else(|| name.to_string(), ToOwned::to_owned);
    if text.trim().is_empty() { "without a name".to_owned() } else { text::beginning(&text, LONGEST) }
}

/// The names and addresses that a certificate is good for.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(text::beginning(name, LONGEST)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).take(MOST_NAMES).collect()
}

/// What kind of key it is.
pub(super) fn kind(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let curve = || key.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
    match (key.algorithm.algorithm.to_id_string().as_str(), key.parsed()) {
        ("1.3.101.112", _) => KeyKind::Ed25519,
        (_, Ok(PublicKey::RSA(rsa))) => KeyKind::Rsa(rsa.key_size()),
        (_, Ok(PublicKey::EC(_))) => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => KeyKind::P256,
            Some("1.3.132.0.34") => KeyKind::P384,
            Some("1.3.132.0.35") => KeyKind::P521,
            _ => KeyKind::Other,
        },
        _ => KeyKind::Other,
    }
}

/// A moment; one that is out of all reach is the last or the first there is.
pub(super) fn when(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(if time.timestamp() > 0 {
        Timestamp::MAX
    } else {
        Timestamp::MIN
    })
}
