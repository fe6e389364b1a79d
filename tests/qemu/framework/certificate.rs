//! Trust in one certificate: the one whose fingerprint the console shows.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Finds a fingerprint in text: 32 pairs of hexadecimal digits with colons between, possibly over several lines.
    pub fn find(text: &str) -> Option<Self> {
        let mut pairs = Vec::new();
        for word in text.split(|c: char| !c.is_ascii_hexdigit() && c != ':') {
            let word = word.trim_matches(':');
            let found: Option<Vec<u8>> = word
                .split(':')
                .map(|pair| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten())
                .collect();
            match found {
                Some(found) if found.len() >= 4 => pairs.extend(found),
                _ if word.is_empty() => {}
                _ => pairs.clear(),
            }
            if let Some(bytes) = pairs.get(..32) {
                return bytes.try_into().ok().map(Self);
            }
        }
        None
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Accepts one certificate; without a fingerprint any, and says afterwards which it was.
#[derive(Debug)]
pub(crate) struct Pinned {
    wanted: Option<Fingerprint>,
    seen: Arc<Mutex<Option<Fingerprint>>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(crate) fn new(wanted: Option<Fingerprint>) -> Self {
        Self { wanted, seen: Arc::default(), provider: Arc::new(aws_lc_rs::default_provider()) }
    }

    pub(crate) fn seen(&self) -> Option<Fingerprint> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        use crate::OrFail as _;
        let verifier =
            Self { wanted: self.wanted, seen: Arc::clone(&self.seen), provider: Arc::clone(&self.provider) };
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .or_fail("Setting up TLS")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = Fingerprint(Sha256::digest(certificate).into());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        match self.wanted {
            Some(wanted) if wanted != seen => {
                Err(Error::General(format!("The certificate is {seen}, the console shows {wanted}.")))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_found_also_when_it_is_broken_over_two_lines() {
        let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap() * 7);
        let wanted = Fingerprint(bytes);
        let text = wanted.to_string();
        let (first, second) = text.split_at(48);
        let screen = format!("  Certificate  SHA-256\n   │ {first} │\n   │ {second} │\n 12:34 o'clock");
        assert_eq!(Fingerprint::find(&screen), Some(wanted));
        assert_eq!(Fingerprint::find(&format!("SHA-256 {text}")), Some(wanted));
        assert_eq!(Fingerprint::find("12:34:56:78:9A:BC and nothing else"), None);
    }
}
