//! When a certificate must be replaced, and when people are told.

use std::time::Duration;

use jiff::Timestamp;
use quantix_api::{CertificateFacts, CertificateSource, CheckState};
use sha2::{Digest, Sha256};

/// People are told so long before the end, or for the last quarter of a shorter life.
const NOTICE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How a certificate is, and what to do.
pub(super) fn judge(
    source: CertificateSource,
    facts: &CertificateFacts,
    acme_trouble: Option<&str>,
    now: Timestamp,
) -> (CheckState, String) {
    let what_to_do = match source {
        CertificateSource::Acme => "See under Settings, Certificate, why it was not renewed",
        CertificateSource::SelfSigned | CertificateSource::Uploaded => {
            "Upload another under Settings, Certificate"
        }
    };
    let day = |moment: Timestamp| moment.strftime("%Y-%m-%d").to_string();
    if facts.not_after <= now {
        let sentence = format!(
            "The certificate of the pages expired on {}: browsers refuse it. {what_to_do}.",
            day(facts.not_after)
        );
        return (CheckState::Failed, sentence);
    }
    if facts.not_before > now {
        let sentence = format!(
            "The certificate of the pages is valid only from {} on, and it is {} by this host’s clock. Look at the clock.",
            day(facts.not_before),
            day(now)
        );
        return (CheckState::Warn, sentence);
    }
    if let Some(why) = acme_trouble {
        return (CheckState::Warn, format!("No certificate was got for the pages; it is tried again: {why}"));
    }
    let left = facts.not_after.duration_since(now);
    if left.unsigned_abs() <= notice(facts) {
        // The same sentence every day, so that it is told as one event.
        let sentence =
            format!("The certificate of the pages expires on {}. {what_to_do}.", day(facts.not_after));
        return (CheckState::Warn, sentence);
    }
    let kind = match source {
        CertificateSource::SelfSigned => "The pages have the certificate that the host made for itself",
        CertificateSource::Uploaded | CertificateSource::Acme => "The pages have a certificate",
    };
    (CheckState::Ok, format!("{kind}, valid until {}.", day(facts.not_after)))
}

fn lifetime(facts: &CertificateFacts) -> Duration {
    facts.not_after.duration_since(facts.not_before).unsigned_abs()
}

fn notice(facts: &CertificateFacts) -> Duration {
    NOTICE.min(lifetime(facts) / 4)
}

/// When a certificate is renewed: after two thirds of its life, and by a little that differs from one certificate to the
/// next, so that hosts do not all ask at once.
pub(crate) fn renew_at(facts: &CertificateFacts) -> Timestamp {
    let life = lifetime(facts);
    let spread = life / 20;
    let part = u32::try_from(hash(&facts.fingerprint) % 1000).unwrap_or_default();
    let after = life / 3 * 2 + spread * part / 1000;
    facts
        .not_before
        .saturating_add(jiff::SignedDuration::try_from(after).unwrap_or_default())
        .unwrap_or(facts.not_after)
}

pub(super) fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text);
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(from: &str, until: &str) -> CertificateFacts {
        let at = |day: &str| format!("{day}T00:00:00Z").parse().unwrap();
        CertificateFacts {
            subject: "qx-01".into(),
            names: vec!["qx-01".into()],
            issuer: "Lab".into(),
            not_before: at(from),
            not_after: at(until),
            fingerprint: "AB".into(),
            key: "ECDSA P-256".into(),
            chain: 1,
        }
    }

    #[track_caller]
    fn check(facts: &CertificateFacts, now: &str, trouble: Option<&str>, state: CheckState, says: &str) {
        let now = format!("{now}T12:00:00Z").parse().unwrap();
        let (found, sentence) = judge(CertificateSource::Uploaded, facts, trouble, now);
        assert_eq!(found, state, "{sentence}");
        assert!(sentence.contains(says), "{sentence}");
    }

    #[test]
    fn people_are_told_in_time() {
        let year = facts("2026-01-01", "2027-01-01");
        check(&year, "2026-06-01", None, CheckState::Ok, "valid until 2027-01-01");
        check(&year, "2026-12-05", None, CheckState::Warn, "expires on 2027-01-01");
        check(&year, "2026-12-31", None, CheckState::Warn, "expires on");
        check(&year, "2027-01-01", None, CheckState::Failed, "expired on 2027-01-01");
        check(&year, "1970-01-01", None, CheckState::Warn, "it is 1970-01-01 by this host’s clock");
        check(&year, "2026-06-01", Some("gone"), CheckState::Warn, "gone");
        // One of a week is not complained about all its life.
        let week = facts("2026-01-01", "2026-01-08");
        check(&week, "2026-01-05", None, CheckState::Ok, "valid until");
        check(&week, "2026-01-06", None, CheckState::Warn, "expires on 2026-01-08");
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let quarter = facts("2026-01-01", "2026-04-01");
        let at = renew_at(&quarter).strftime("%Y-%m-%d").to_string();
        assert!(("2026-03-02".."2026-03-07").contains(&at.as_str()), "{at}");
    }
}
