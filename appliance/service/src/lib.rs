//! What every Quantix program does as a systemd service: its log, its readiness, its watchdog and its end.

use std::{future::Future, io::Write};

use sd_notify::NotifyState;
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tokio::signal::unix::{SignalKind, signal};

struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // A log line that cannot be written has nobody to be told.
        let _ = writeln!(std::io::stderr(), "{:<5} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Logs to the journal with fields when it is there, else to standard error.
pub fn start_log() {
    let journal = if connected_to_journal() { JournalLog::new().ok() } else { None };
    let installed = match journal {
        Some(journal) => journal.install(),
        None => log::set_boxed_logger(Box::new(StderrLog)),
    };
    if installed.is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// Tells systemd that the service answers.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Feeds systemd's watchdog for as long as `answers` says that the service really does its work. Runs for ever;
/// returns at once when systemd does not ask for it.
pub async fn feed_watchdog<F: Future<Output = bool>>(answers: impl Fn() -> F) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(limit / 3);
    loop {
        ticks.tick().await;
        if answers().await {
            notify(&[NotifyState::Watchdog]);
        } else {
            log::error!("The service does not answer itself; systemd will restart it.");
        }
    }
}

/// Waits until the service is asked to end, and tells systemd that it does.
pub async fn asked_to_end() {
    let ended = async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate()).ok()?, signal(SignalKind::interrupt()).ok()?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Some(())
    };
    if ended.await.is_none() {
        // Without signal handlers the default applies: the process ends at once.
        std::future::pending::<()>().await;
    }
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("systemd could not be told: {error}");
    }
}
