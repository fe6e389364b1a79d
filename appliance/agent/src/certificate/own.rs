//! The certificate that a host makes for itself at its first start and keeps for good: what the pages show until they
//! are given another, and whenever that one cannot be used.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use quantix_api::{CertificateSource, Secret};
use rcgen::{CertificateParams, DnType, KeyPair};

use super::pair::Pair;
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

/// The pair of `cert.pem` and `key.pem` in `dir`, made if it is not there, and why it could not be kept, if so: then
/// it lasts until the agent ends.
pub(super) fn ensure(
    dir: &Path,
    hostname: &str,
) -> Result<(Pair, Option<CertificateError>), CertificateError> {
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    let kept = fs::read_to_string(&cert_file).ok().zip(fs::read_to_string(&key_file).ok());
    if let Some(pair) = kept.and_then(|(cert, key)| pair_of(cert, key)) {
        return Ok((pair, None));
    }
    if cert_file.exists() {
        // Power was lost between the two writes, or the disk lost one.
        log::warn!("The certificate and its key do not belong together; both are made anew.");
    }
    let (cert, key) = make(hostname, image_built())?;
    let pair = pair_of(cert, key).ok_or(rcgen::Error::CouldNotParseKeyPair)?;
    let unkept = keep(dir, &pair).err();
    let fingerprint = pair.fingerprint().unwrap_or_default();
    log::info!(fingerprint:% = fingerprint; "A certificate was made: SHA-256 {fingerprint}");
    Ok((pair, unkept))
}

/// Writes a pair that was made.
pub(super) fn keep(dir: &Path, pair: &Pair) -> Result<(), CertificateError> {
    let written = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::Written(path, error)
    };
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::create_dir_all(dir).map_err(written(dir))?;
    durable::write(&key_file, pair.key.expose().as_bytes()).map_err(written(&key_file))?;
    durable::write(&cert_file, pair.chain.as_bytes()).map_err(written(&cert_file))
}

fn pair_of(chain: String, key: String) -> Option<Pair> {
    let pair = Pair { source: CertificateSource::SelfSigned, chain, key: Secret::new(key) };
    pair.is_whole().then_some(pair)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fingerprint(dir: &Path) -> String {
        let (pair, unkept) = ensure(dir, "qx-01").unwrap();
        assert!(unkept.is_none(), "{unkept:?}");
        pair.fingerprint().unwrap()
    }

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = fingerprint(dir.path());
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_eq!(fingerprint(dir.path()), first);
    }

    #[test]
    fn a_torn_or_foreign_half_is_replaced_with_its_other_half() {
        let dir = tempfile::tempdir().unwrap();
        let first = fingerprint(dir.path());
        let cert = fs::read(dir.path().join("cert.pem")).unwrap();
        fs::write(dir.path().join("cert.pem"), &cert[..cert.len() / 2]).unwrap();
        let second = fingerprint(dir.path());
        assert_ne!(first, second);
        fs::write(dir.path().join("cert.pem"), &cert).unwrap();
        assert!(![first, second].contains(&fingerprint(dir.path())));
    }

    #[test]
    fn a_leap_day_is_a_day_to_build_on() {
        assert!(make("h", jiff::civil::date(2028, 2, 29)).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_and_there_is_a_certificate_all_the_same() {
        let (pair, unkept) = ensure(Path::new("/proc/quantix"), "h").unwrap();
        assert!(pair.is_whole());
        let why = unkept.unwrap().to_string();
        assert!(why.contains("/proc/quantix"), "{why}");
    }
}
