//! Whether a chain and a key that somebody brings can be shown to browsers; if not, what is wrong and what to do.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use quantix_api::{CertificateSource, Problem, ProblemCode, Secret, UploadCertificate};
use rustls::{
    Error, InconsistentKeys,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use super::{
    facts::{self, KeyKind},
    pair::Pair,
};

const LONGEST_CHAIN: usize = 32 * 1024;
const LONGEST_KEY: usize = 16 * 1024;
const MOST_CERTIFICATES: usize = 10;
/// RSA keys below are broken; those above take a browser's patience and this host's processor.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Signatures by hashes for which a second text can be found: MD5 and SHA-1.
const BROKEN: &[&str] = &["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];

/// What a certificate is measured by.
pub(super) struct Against<'a> {
    pub(super) now: Timestamp,
    /// Whether the clock follows a server.
    pub(super) clock_is_right: bool,
    /// By what browsers reach the host: its name and its addresses.
    pub(super) name: &'a str,
    pub(super) addresses: &'a [IpAddr],
}

/// Checks what was uploaded; without a key of its own it must answer the request whose key this is.
pub(super) fn check(
    upload: &UploadCertificate,
    requested: Option<&Secret>,
    against: &Against<'_>,
) -> Result<Pair, Problem> {
    let chain = certificates(&upload.chain)?;
    let (key, is_own) = match upload.key.as_ref().filter(|key| !key.expose().trim().is_empty()) {
        Some(key) => (private_key(key.expose())?, false),
        None => match requested {
            Some(key) => (private_key(key.expose())?, true),
            None => {
                let sentence =
                    "The key is missing. It can be left out only when the host has made a request itself.";
                return Err(invalid("key", sentence));
            }
        },
    };
    must_belong_together(&chain, &key, is_own)?;
    let parsed: Vec<_> = chain
        .iter()
        .enumerate()
        .map(|(at, certificate)| {
            facts::parse(certificate)
                .map_err(|why| invalid("chain", format!("{} cannot be read: {why}.", place(at))))
        })
        .collect::<Result<_, _>>()?;
    first_must_do(&parsed[0])?;
    must_be_valid_now(&parsed, against)?;
    must_be_a_chain(&chain, &parsed)?;
    if !upload.accept_warnings {
        must_be_what_browsers_take(&parsed, against)?;
    }
    let pair = Pair {
        source: CertificateSource::Uploaded,
        chain: chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect(),
        key: match requested.filter(|_| is_own) {
            Some(key) => key.clone(),
            None => Secret::new(key_pem(&key)),
        },
    };
    // What is kept is what was checked.
    if !pair.is_whole() {
        return Err(Problem::new(
            ProblemCode::Internal,
            "The certificate could not be written as it was read.",
        ));
    }
    Ok(pair)
}

fn invalid(field: &str, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

/// Certificates as PEM, in the order in which they are sent.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    if text.len() > LONGEST_CHAIN {
        let sentence = format!("The certificates are longer than {} KiB.", LONGEST_CHAIN / 1024);
        return Err(invalid("chain", sentence));
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(invalid(
            "chain",
            "There is a private key among the certificates. Put it into the field for the key.",
        ));
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| invalid("chain", format!("The certificates cannot be read: {error}.")))?;
    match found.len() {
        0 => {
            let sentence = "There is no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----. A file \
                            in another form is changed with: openssl x509 -inform der -in FILE -out cert.pem";
            Err(invalid("chain", sentence))
        }
        more if more > MOST_CERTIFICATES => Err(invalid(
            "chain",
            format!("There are {more} certificates; a chain has at most {MOST_CERTIFICATES}."),
        )),
        _ => Ok(found),
    }
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    if text.len() > LONGEST_KEY {
        return Err(invalid("key", format!("The key is longer than {} KiB.", LONGEST_KEY / 1024)));
    }
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        let sentence = "The key is protected with a passphrase. Take it off with: openssl pkey -in key.pem -out \
                        plain.pem, and upload plain.pem.";
        return Err(invalid("key", sentence));
    }
    // What the parser says is not told: it may quote the key.
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        let sentence = "There is no private key in PEM form, which begins with -----BEGIN PRIVATE KEY-----. A key in \
                        another form is changed with: openssl pkey -inform der -in FILE -out key.pem";
        invalid("key", sentence)
    })
}

fn must_belong_together(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    is_own: bool,
) -> Result<(), Problem> {
    let signing = aws_lc_rs::sign::any_supported_type(key).map_err(|_| {
        invalid("key", "This kind of key is not understood, or the key is damaged. Use ECDSA P-256 or RSA with 2048 bits.")
    })?;
    match CertifiedKey::new(chain.to_vec(), Arc::clone(&signing)).keys_match() {
        Ok(()) => Ok(()),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) if is_own => {
            let sentence = "The certificate is not for the request that this host has made. Upload the one that answers \
                            it, or the certificate with its own key.";
            Err(invalid("chain", sentence))
        }
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let sentence = "This is not the key of the first certificate. The host’s own certificate comes first; the \
                            key is the one its request was made with.";
            Err(invalid("key", sentence))
        }
        Err(error) => Err(invalid("chain", format!("The first certificate cannot be used: {error}."))),
    }
}

/// What browsers refuse in any case.
fn first_must_do(first: &X509Certificate<'_>) -> Result<(), Problem> {
    match facts::kind(first.public_key()) {
        KeyKind::Rsa(bits) if !RSA_BITS.contains(&bits) => {
            let sentence = format!(
                "The key is RSA with {bits} bits; {} to {} will do.",
                RSA_BITS.start(),
                RSA_BITS.end()
            );
            return Err(invalid("key", sentence));
        }
        KeyKind::Ed25519 => {
            return Err(invalid(
                "key",
                "Browsers do not take Ed25519 keys. Use ECDSA P-256 or RSA with 2048 bits.",
            ));
        }
        KeyKind::Rsa(_) | KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Other => {}
    }
    if BROKEN.contains(&first.signature_algorithm.algorithm.to_id_string().as_str()) {
        return Err(invalid(
            "chain",
            "The certificate is signed with SHA-1 or MD5, which browsers refuse. Have it made anew with SHA-256.",
        ));
    }
    if facts::names(first).is_empty() {
        let sentence = "The certificate has no alternative names, and browsers look at nothing else. Have it made anew \
                        with the host’s name as a subject alternative name.";
        return Err(invalid("chain", sentence));
    }
    let is_for_servers = match first.extended_key_usage() {
        Ok(Some(usage)) => usage.value.any || usage.value.server_auth,
        Ok(None) => true,
        Err(_) => false,
    };
    if !is_for_servers {
        return Err(invalid(
            "chain",
            "The certificate is not for servers: its extended key usage lacks server authentication.",
        ));
    }
    Ok(())
}

fn must_be_valid_now(chain: &[X509Certificate<'_>], against: &Against<'_>) -> Result<(), Problem> {
    let clock = if against.clock_is_right { "" } else { ", whose clock follows no server and may be wrong" };
    let now = against.now.strftime("%Y-%m-%d %H:%M UTC");
    for (at, certificate) in chain.iter().enumerate() {
        let (from, until) =
            (facts::when(certificate.validity().not_before), facts::when(certificate.validity().not_after));
        let day = |moment: Timestamp| moment.strftime("%Y-%m-%d %H:%M UTC").to_string();
        if until <= against.now {
            let sentence =
                format!("{} expired on {}; it is {now} on this host{clock}.", place(at), day(until));
            return Err(invalid("chain", sentence));
        }
        if from > against.now {
            let sentence = format!(
                "{} is valid only from {} on; it is {now} on this host{clock}.",
                place(at),
                day(from)
            );
            return Err(invalid("chain", sentence));
        }
    }
    Ok(())
}

/// Each certificate must have signed the one before it.
fn must_be_a_chain(chain: &[CertificateDer<'static>], parsed: &[X509Certificate<'_>]) -> Result<(), Problem> {
    for (at, two) in parsed.windows(2).enumerate() {
        if two[0].issuer().as_raw() != two[1].subject().as_raw() {
            let sentence = format!(
                "The certificates are not in order: {} was signed by “{}”, but after it comes the one of “{}”. The \
                 host’s own is first, then the one that signed it, and so on.",
                place(at).to_lowercase(),
                facts::name(two[0].issuer()),
                facts::name(two[1].subject()),
            );
            return Err(invalid("chain", sentence));
        }
    }
    let [first, between @ .., last] = chain else { return Ok(()) };
    let unsigned = |why: &dyn std::fmt::Display| {
        invalid("chain", format!("The certificates do not sign each other: {why}."))
    };
    let anchor = [anchor_from_trusted_cert(last).map_err(|error| unsigned(&error))?];
    // At a moment when all of them were valid: whether they are now has been looked at.
    let moment = parsed.iter().map(|certificate| certificate.validity().not_before.timestamp()).max();
    let moment =
        Duration::from_secs(moment.and_then(|second| u64::try_from(second).ok()).unwrap_or_default());
    let end = EndEntityCert::try_from(first).map_err(|error| unsigned(&error))?;
    end.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchor,
        between,
        UnixTime::since_unix_epoch(moment),
        KeyUsage::server_auth(),
        None,
        None,
    )
    .map_err(|error| unsigned(&error))?;
    Ok(())
}

/// What whoever opens the pages may stumble over, although it can be meant.
fn must_be_what_browsers_take(chain: &[X509Certificate<'_>], against: &Against<'_>) -> Result<(), Problem> {
    let names = facts::names(&chain[0]);
    if !names_host(&names, against) {
        let addresses: Vec<_> = against.addresses.iter().take(4).map(ToString::to_string).collect();
        let called = match addresses.is_empty() {
            true => format!("this host is called {}", against.name),
            false => format!("this host is called {} and has {}", against.name, addresses.join(", ")),
        };
        let shown: Vec<_> = names.iter().take(8).map(String::as_str).collect();
        let sentence = format!(
            "The certificate is for {}, but {called}. Browsers warn whoever opens it by another name. Use it all the \
             same if it is opened by one of these names.",
            shown.join(", ")
        );
        return Err(invalid("accept_warnings", sentence));
    }
    if chain.len() == 1 && says_where_issuer_is(&chain[0]) {
        let sentence = format!(
            "Only the host’s own certificate is there; the one of “{}” that signed it probably belongs behind it, or \
             some browsers do not trust it. Use it all the same if “{0}” is installed in all browsers.",
            facts::name(chain[0].issuer())
        );
        return Err(invalid("accept_warnings", sentence));
    }
    Ok(())
}

/// Whether somebody who types the host's name, alone or in a domain, or one of its addresses, is shown a certificate
/// for it.
pub(super) fn names_host(names: &[String], against: &Against<'_>) -> bool {
    names.iter().any(|name| match name.parse::<IpAddr>() {
        Ok(address) => against.addresses.contains(&address),
        Err(_) => {
            let first = name.split('.').next().unwrap_or_default();
            name.eq_ignore_ascii_case(against.name)
                || first.eq_ignore_ascii_case(against.name)
                || (first == "*" && name.contains('.'))
        }
    })
}

/// Authorities that sign with a certificate of their own in between say where it is found; one's own root signs by
/// itself and says nothing.
fn says_where_issuer_is(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => access.accessdescs.iter().any(|description| {
            description.access_method.to_id_string() == "1.3.6.1.5.5.7.48.2"
                && matches!(description.access_location, GeneralName::URI(_))
        }),
        _ => false,
    })
}

fn place(at: usize) -> String {
    match at {
        0 => "The certificate".to_owned(),
        1 => "The 2nd certificate".to_owned(),
        2 => "The 3rd certificate".to_owned(),
        more => format!("The {}th certificate", more + 1),
    }
}

fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem(label, key.secret_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    // Base64 is ASCII, so that every place is between two characters.
    let lines: Vec<_> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests;
