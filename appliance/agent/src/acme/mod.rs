//! Certificates from an authority that speaks ACME (RFC 8555), got and renewed by themselves. A working certificate is
//! never given up for one that is not there yet.

mod connection;
mod order;
mod settings;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use quantix_api::{
    AcmeState, CertificateFacts, CertificateSource, ChallengeFile, ChallengeProof, Problem, ProblemCode,
};
use quantix_host::blocking;
use tokio::sync::Notify;

pub(crate) use settings::Settings;
use settings::{Kept, file};

use crate::{api::Agent, certificate, lock};

/// One attempt, whatever the authority does.
const ATTEMPT: Duration = Duration::from_secs(240);
/// The first wait after a failure; each further one is three times as long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 60 * 60);
/// A clock that is set is noticed after so long.
const LOOK: Duration = Duration::from_secs(60 * 60);
/// Between two certificates, however short they live.
const APART: Duration = Duration::from_secs(60);
/// So many attempts that people ask for within an hour; public authorities refuse more that fail.
const BY_HAND: usize = 5;
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What authorities ask for to see that names are this host's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Challenges {
    pub(crate) files: Vec<ChallengeFile>,
    pub(crate) proofs: Vec<ChallengeProof>,
}

/// How this host gets certificates, if it does.
pub(crate) struct Acme {
    folder: PathBuf,
    kept: Mutex<Option<Kept>>,
    working: Mutex<bool>,
    by_hand: Mutex<VecDeque<Instant>>,
    wake: Notify,
    /// The file is written by one at a time.
    writing: tokio::sync::Mutex<()>,
}

impl Acme {
    /// Reads what is kept in `folder`. Settings that were made while another certificate was shown than now, one that
    /// came from nowhere else, are from before an upload that was cut short.
    pub(crate) fn open(folder: &Path, source: Option<CertificateSource>, fingerprint: Option<&str>) -> Self {
        let kept = Kept::read(&file(folder)).unwrap_or_else(|why| {
            log::error!("How certificates are got is not known any more: {why}");
            None
        });
        let is_current = |kept: &Kept| {
            source == Some(CertificateSource::Acme) || fingerprint == Some(kept.made_while_shown.as_str())
        };
        Self {
            folder: folder.to_owned(),
            kept: Mutex::new(kept.filter(is_current)),
            working: Mutex::new(false),
            by_hand: Mutex::default(),
            wake: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// For whom certificates are got, as far as it can be shown.
    pub(crate) fn view(
        &self,
        source: CertificateSource,
        facts: &CertificateFacts,
    ) -> Option<quantix_api::Acme> {
        let kept = lock(&self.kept).clone()?;
        let state = match (*lock(&self.working), kept.failures, source) {
            (true, ..) => AcmeState::Working,
            (false, 1.., _) => AcmeState::Failed,
            (false, 0, CertificateSource::Acme) => AcmeState::Obtained,
            (false, 0, _) => AcmeState::Waiting,
        };
        let next =
            (state != AcmeState::Working).then(|| next_attempt(&kept, source, facts, Timestamp::now()));
        Some(quantix_api::Acme {
            directory: kept.settings.directory.clone(),
            own_authority: kept.settings.authority.is_some(),
            contact: kept.settings.contact.clone(),
            names: kept.settings.names.clone(),
            challenge: kept.settings.challenge,
            state,
            last_error: kept.last_error.clone(),
            last_attempt: kept.last_attempt,
            next_attempt: next,
        })
    }

    /// The settings, as text that differs when they do.
    pub(crate) fn settings(&self) -> Option<String> {
        lock(&self.kept).as_ref().map(|kept| format!("{} {:?}", kept.settings.directory, kept.settings.names))
    }

    /// Why there is no new certificate, if the last attempt failed.
    pub(crate) fn trouble(&self) -> Option<String> {
        let kept = lock(&self.kept);
        kept.as_ref().filter(|kept| kept.failures > 0).and_then(|kept| kept.last_error.clone())
    }

    /// Gets certificates like this from now on.
    pub(crate) async fn set(&self, settings: Settings, made_while_shown: String) -> Result<(), Problem> {
        self.may_try_by_hand()?;
        let before = lock(&self.kept).clone();
        // An account at the same authority is used again.
        let account = before.and_then(|before| before.account_for(&settings));
        let kept = Kept::new(settings, account, made_while_shown);
        self.write(kept).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Asks at once, and not when it is time.
    pub(crate) async fn try_now(&self) -> Result<(), Problem> {
        let kept = lock(&self.kept).clone();
        let Some(mut kept) = kept else {
            let sentence = "This host does not get certificates by ACME. Say first from whom.";
            return Err(Problem::new(ProblemCode::Invalid, sentence));
        };
        self.may_try_by_hand()?;
        kept.asked_for = true;
        self.write(kept).await?;
        self.wake.notify_one();
        Ok(())
    }

    fn may_try_by_hand(&self) -> Result<(), Problem> {
        let mut tried = lock(&self.by_hand);
        while tried.front().is_some_and(|first| first.elapsed() > HOUR) {
            tried.pop_front();
        }
        if let Some(first) = tried.front()
            && tried.len() >= BY_HAND
        {
            let wait = HOUR.saturating_sub(first.elapsed()).as_secs() + 1;
            let sentence = format!(
                "It was tried {BY_HAND} times within an hour. Authorities shut out who tries more often: wait {} minutes.",
                wait.div_ceil(60)
            );
            return Err(Problem::new(ProblemCode::TooManyAttempts, sentence).retry_after(wait));
        }
        tried.push_back(Instant::now());
        Ok(())
    }

    /// Gets no certificates any more.
    pub(crate) async fn turn_off(&self) -> Result<(), Problem> {
        let _writing = self.writing.lock().await;
        let folder = self.folder.clone();
        let removed = blocking(move || match folder.exists() {
            true => certificate::remove(&folder, &file(&folder)),
            false => Ok(()),
        })
        .await;
        removed.unwrap_or_else(|| Err(std::io::Error::other("it broke off"))).map_err(not_written)?;
        *lock(&self.kept) = None;
        self.wake.notify_one();
        Ok(())
    }

    async fn write(&self, kept: Kept) -> Result<(), Problem> {
        let _writing = self.writing.lock().await;
        let (path, written) = (file(&self.folder), kept.clone());
        let done = blocking(move || written.write(&path)).await;
        done.unwrap_or_else(|| Err(std::io::Error::other("it broke off"))).map_err(not_written)?;
        *lock(&self.kept) = Some(kept);
        Ok(())
    }

    /// Notes what came of an attempt, unless the settings have been changed meanwhile.
    async fn note(&self, tried: &Kept, change: impl FnOnce(&mut Kept)) {
        let _writing = self.writing.lock().await;
        let mut kept = tried.clone();
        change(&mut kept);
        {
            let mut present = lock(&self.kept);
            if present.as_ref().is_none_or(|present| present.settings != tried.settings) {
                return;
            }
            // What the disk does not take is known at least until the agent ends: how often it is tried depends on it.
            *present = Some(kept.clone());
        }
        let path = file(&self.folder);
        let written = blocking(move || kept.write(&path)).await;
        if let Some(Err(error)) = written {
            log::warn!("What came of asking for a certificate could not be kept: {error}");
        }
    }
}

fn not_written(error: std::io::Error) -> Problem {
    let sentence = format!("Nothing was changed: the disk did not take it ({error}).");
    Problem::new(ProblemCode::StorageUnavailable, sentence)
}

/// When a certificate is asked for next. A moment that was noted by a clock that was ahead counts as passed.
fn next_attempt(
    kept: &Kept,
    source: CertificateSource,
    facts: &CertificateFacts,
    now: Timestamp,
) -> Timestamp {
    let last = kept.last_attempt.filter(|last| *last <= now);
    let Some(last) = last.filter(|_| !kept.asked_for) else { return now };
    let after = |wait: Duration| {
        last.saturating_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(Timestamp::MAX)
    };
    match (kept.failures, source) {
        (0, CertificateSource::Acme) if kept.settings.are_of(facts) => {
            certificate::renew_at(facts).max(after(APART))
        }
        (0, _) => after(APART),
        (failures, _) => {
            let wait = FIRST_WAIT.saturating_mul(3_u32.saturating_pow(failures - 1)).min(LONGEST_WAIT);
            // Hosts that failed together do not come back together.
            after(wait + wait / 5 * u32::from(kept.jitter) / 255)
        }
    }
}

impl Agent {
    /// Gets certificates when it is time, for ever.
    pub(crate) async fn renew_certificates(&self) {
        let acme = &self.certificates.acme;
        loop {
            let wait = self.wait_for_attempt();
            tokio::select! {
                () = acme.wake.notified() => continue,
                () = tokio::time::sleep(wait.unwrap_or(LOOK).min(LOOK)) => {}
            }
            if self.wait_for_attempt().is_some_and(|wait| wait.is_zero()) {
                *lock(&acme.working) = true;
                self.attempt().await;
                *lock(&acme.working) = false;
            }
        }
    }

    fn wait_for_attempt(&self) -> Option<Duration> {
        let (source, facts) = self.certificates.present()?;
        let kept = lock(&self.certificates.acme.kept).clone()?;
        let now = Timestamp::now();
        let next = next_attempt(&kept, source, &facts, now);
        Some(if next <= now { Duration::ZERO } else { next.duration_since(now).unsigned_abs() })
    }

    async fn attempt(&self) {
        let (certificates, acme) = (&self.certificates, &self.certificates.acme);
        // What is asked for, and how often it was changed, belong together.
        let unchanging = certificates.unchanging().await;
        let Some(kept) = lock(&acme.kept).clone() else { return };
        let changes = certificates.changes();
        drop(unchanging);
        // Before anything is asked: an agent that dies here does not ask again and again.
        acme.note(&kept, |kept| {
            kept.last_attempt = Some(Timestamp::now());
            kept.asked_for = false;
        })
        .await;
        let here = self.here().await;
        let tried = tokio::time::timeout(ATTEMPT, order::get(certificates, &kept, &here)).await;
        certificates.prove(Challenges::default());
        let (account, got) = match tried {
            Ok(tried) => tried,
            Err(_) => {
                (None, Err(format!("the authority took longer than {} minutes.", ATTEMPT.as_secs() / 60)))
            }
        };
        let got = match got {
            Ok(pair) => certificates.renew(pair, changes).await.map_err(|problem| problem.detail),
            Err(why) => Err(why),
        };
        if let Err(why) = &got {
            log::warn!(directory:% = kept.settings.directory; "No certificate was got from {}: {why}", kept.settings.directory);
        }
        acme.note(&kept, |kept| {
            kept.last_attempt = Some(Timestamp::now());
            kept.asked_for = false;
            kept.jitter = rand::random();
            if let Some(account) = account {
                kept.account = account;
            }
            match got {
                Ok(()) => (kept.failures, kept.last_error) = (0, None),
                Err(why) => {
                    kept.failures = kept.failures.saturating_add(1);
                    kept.last_error = Some(why);
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use quantix_api::AcmeChallenge;

    use super::*;

    fn kept(last: &str, failures: u32) -> Kept {
        let settings = Settings {
            directory: "https://ca.lab.example/directory".into(),
            authority: None,
            contact: None,
            names: vec!["qx-01.lab.example".into()],
            challenge: AcmeChallenge::Http,
            binding: None,
        };
        let mut kept = Kept::new(settings, None, String::new());
        (kept.last_attempt, kept.failures, kept.jitter) = (Some(last.parse().unwrap()), failures, 0);
        kept.asked_for = false;
        kept
    }

    fn facts() -> CertificateFacts {
        CertificateFacts {
            subject: "qx-01".into(),
            names: vec!["qx-01.lab.example".into()],
            issuer: "Lab".into(),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2026-04-01T00:00:00Z".parse().unwrap(),
            fingerprint: "AB".into(),
            key: "ECDSA P-256".into(),
            chain: 2,
        }
    }

    #[track_caller]
    fn check(kept: &Kept, source: CertificateSource, now: &str, expected: &str) {
        let next = next_attempt(kept, source, &facts(), now.parse().unwrap());
        assert_eq!(next.strftime("%Y-%m-%d %H:%M").to_string(), expected);
    }

    #[test]
    fn failures_are_tried_again_less_and_less_often() {
        let (last, now) = ("2026-02-01T00:00:00Z", "2026-02-01T00:00:01Z");
        for (failures, expected) in [
            (1, "2026-02-01 00:05"),
            (2, "2026-02-01 00:15"),
            (3, "2026-02-01 00:45"),
            (4, "2026-02-01 02:15"),
            (6, "2026-02-01 12:00"),
            (u32::MAX, "2026-02-01 12:00"),
        ] {
            check(&kept(last, failures), CertificateSource::Acme, now, expected);
        }
        let mut late = kept(last, 1);
        late.jitter = 255;
        check(&late, CertificateSource::Acme, now, "2026-02-01 00:06");
    }

    #[test]
    fn a_clock_that_was_ahead_delays_nothing_and_one_that_is_far_ahead_does_not_ask_without_end() {
        check(
            &kept("2040-01-01T00:00:00Z", 5),
            CertificateSource::Acme,
            "2026-02-01T00:00:00Z",
            "2026-02-01 00:00",
        );
        check(
            &kept("2040-01-01T00:00:00Z", 0),
            CertificateSource::Acme,
            "2040-01-01T00:00:01Z",
            "2040-01-01 00:01",
        );
    }

    #[test]
    fn a_certificate_for_other_names_is_not_what_was_wanted() {
        let mut kept = kept("2026-01-01T00:00:00Z", 0);
        check(&kept, CertificateSource::Acme, "2026-01-02T00:00:00Z", "2026-03-03 03:06");
        kept.settings.names.push("qx-02.lab.example".into());
        check(&kept, CertificateSource::Acme, "2026-01-02T00:00:00Z", "2026-01-01 00:01");
        check(&kept, CertificateSource::Uploaded, "2026-01-02T00:00:00Z", "2026-01-01 00:01");
    }
}
