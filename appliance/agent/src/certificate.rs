//! The certificate the pages show: made by the host itself at first start, kept for good.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use crate::durable;

/// The file whose modification time is when the image was built.
const CLOCK_EPOCH: &str = "/usr/lib/clock-epoch";
const YEARS_VALID: i16 = 20;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("it could not be made: {0}")]
    Made(#[from] rcgen::Error),
    #[error("it could not be written to {}: {}", .0.display(), .1)]
    Written(PathBuf, io::Error),
}

/// Makes sure that `cert.pem` and `key.pem` are in `dir` and belong together; gives the SHA-256 of the certificate
/// as people compare it.
pub(crate) fn ensure(dir: &Path, hostname: &str) -> Result<String, CertificateError> {
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    let kept = fs::read(&cert_file).ok().zip(fs::read(&key_file).ok());
    if let Some(fingerprint) = kept.and_then(|(cert, key)| fingerprint_of_pair(&cert, &key)) {
        return Ok(fingerprint);
    }
    if cert_file.exists() {
        // Power was lost between the two writes, or the disk lost one.
        log::warn!("The certificate and its key do not belong together; both are made anew.");
    }
    let written = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::Written(path, error)
    };
    let (cert, key) = make(hostname, image_built())?;
    fs::create_dir_all(dir).map_err(written(dir))?;
    durable::write(&key_file, key.as_bytes()).map_err(written(&key_file))?;
    durable::write(&cert_file, cert.as_bytes()).map_err(written(&cert_file))?;
    let fingerprint = fingerprint_of_pair(cert.as_bytes(), key.as_bytes()).unwrap_or_default();
    log::info!(fingerprint:% = fingerprint; "A certificate was made: SHA-256 {fingerprint}");
    Ok(fingerprint)
}

/// Valid from the day the image was built, whatever the clock says now: a host whose clock is years off would
/// otherwise make a certificate that is not valid yet, or not valid any more, once the clock is right.
fn make(hostname: &str, built: Date) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![hostname.to_owned(), "localhost".to_owned()])?;
    let (year, month, day) = (built.year(), built.month().unsigned_abs(), built.day().unsigned_abs());
    params.not_before = rcgen::date_time_ymd(i32::from(year), month, day);
    // The first of a month exists in every year; 29 February does not.
    params.not_after = rcgen::date_time_ymd(i32::from(year + YEARS_VALID), month, 1);
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.distinguished_name.push(DnType::OrganizationName, "Quantix host");
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn image_built() -> Date {
    let modified = fs::metadata(CLOCK_EPOCH).and_then(|metadata| metadata.modified()).ok();
    let built = modified
        .and_then(|time| i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok())
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    built.map_or(jiff::civil::date(2026, 1, 1), |built| built.to_zoned(TimeZone::UTC).date())
}

/// The certificate's SHA-256 in pairs, if both parse and the key is the certificate's.
fn fingerprint_of_pair(cert: &[u8], key: &[u8]) -> Option<String> {
    let cert = CertificateDer::from_pem_slice(cert).ok()?;
    let key = PrivateKeyDer::from_pem_slice(key).ok()?;
    CertifiedKey::from_der(vec![cert.clone()], key, &aws_lc_rs::default_provider()).ok()?;
    let pairs: Vec<_> = Sha256::digest(&cert).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), "qx-01").unwrap();
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_eq!(ensure(dir.path(), "qx-01").unwrap(), first);
    }

    #[test]
    fn a_torn_or_foreign_half_is_replaced_with_its_other_half() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), "qx-01").unwrap();
        let cert = fs::read(dir.path().join("cert.pem")).unwrap();
        fs::write(dir.path().join("cert.pem"), &cert[..cert.len() / 2]).unwrap();
        let second = ensure(dir.path(), "qx-01").unwrap();
        assert_ne!(first, second);
        fs::write(dir.path().join("cert.pem"), &cert).unwrap();
        assert!(![first, second].contains(&ensure(dir.path(), "qx-01").unwrap()));
    }

    #[test]
    fn a_leap_day_is_a_day_to_build_on() {
        assert!(make("h", jiff::civil::date(2028, 2, 29)).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = ensure(Path::new("/proc/quantix"), "h").unwrap_err().to_string();
        assert!(error.contains("/proc/quantix"), "{error}");
    }
}
