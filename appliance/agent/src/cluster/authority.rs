//! The cluster's certificate authority, and the certificates by which hosts know each other.
//!
//! Hosts do not look at each other's clocks: a host that was off for years, or whose clock is wrong, is still the host
//! with this key. What ends a host's membership is its removal, not a date. Certificates are renewed all the same.

use quantix_store::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256};

use std::time::Duration;

/// Every certificate of a cluster is valid at this moment, and this is the moment at which they are looked at.
pub(super) const WHEN: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_312_000));
/// From the day before.
const BEGINS: (i32, u8, u8) = (2026, 1, 1);
/// An authority outlives its hosts.
const AUTHORITY_ENDS: i32 = 2126;

/// The authority: a certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Quantix cluster");
        params.distinguished_name.push(DnType::OrganizationName, format!("{:016x}", rand::random::<u64>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = rcgen::date_time_ymd(BEGINS.0, BEGINS.1, BEGINS.2);
        params.not_after = rcgen::date_time_ymd(AUTHORITY_ENDS, 1, 1);
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }

    /// Signs what a host asked for: its key, and the name of the host it is, until the end of a year.
    pub(super) fn sign(&self, request: &str, host: HostId, ends: i32) -> Result<String, rcgen::Error> {
        let key = KeyPair::from_pem(&self.key)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, key)?;
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        // Of what was asked for only the key is taken.
        request.params = CertificateParams::new(vec![name_of(host)])?;
        request.params.distinguished_name.push(DnType::CommonName, host.to_string());
        request.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.not_before = rcgen::date_time_ymd(BEGINS.0, BEGINS.1, BEGINS.2);
        request.params.not_after = rcgen::date_time_ymd(ends, 1, 1);
        Ok(request.signed_by(&issuer)?.pem())
    }
}

/// A new key for a host, as PEM.
pub(super) fn new_key() -> Result<String, rcgen::Error> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// What a host sends to have its key signed.
pub(super) fn request(key: &str, host: HostId) -> Result<String, rcgen::Error> {
    let params = CertificateParams::new(vec![name_of(host)])?;
    params.serialize_request(&KeyPair::from_pem(key)?)?.pem()
}

/// The name of a host in its certificate.
pub(super) fn name_of(host: HostId) -> String {
    format!("{host}{SUFFIX}")
}

const SUFFIX: &str = ".host.quantix.internal";

/// Which host a certificate names, and a hash of its key.
pub(super) fn host_of(certificate: &CertificateDer<'_>) -> Option<(HostId, [u8; 32])> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let host =
        parsed.valid_dns_names().find_map(|name| u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok())?;
    Some((HostId(host), Sha256::digest(parsed.subject_public_key_info().as_ref()).into()))
}

/// The same of a certificate as PEM.
pub(super) fn host_of_pem(certificate: &str) -> Option<(HostId, [u8; 32])> {
    host_of(&CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?)
}

/// The SHA-256 of a certificate, as people compare it.
pub(crate) fn fingerprint(certificate: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let pairs: Vec<_> = Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_key_names_its_host_whatever_was_asked_for() {
        let authority = Authority::new().unwrap();
        let key = new_key().unwrap();
        let asked = request(&key, HostId(7)).unwrap();
        let signed = authority.sign(&asked, HostId(0xabc), 2030).unwrap();
        assert_eq!(host_of_pem(&signed).unwrap().0, HostId(0xabc));
    }
}
