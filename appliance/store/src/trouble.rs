//! What keeps the store from working, in a sentence, for as long as it does.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long to wait before what the disk refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<BTreeMap<&'static str, String>>);

impl Trouble {
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.known().values().cloned().collect()
    }

    pub(crate) fn has(&self, part: &'static str) -> bool {
        self.known().contains_key(part)
    }

    /// Says what is wrong with `part` from now on.
    pub(crate) fn set(&self, part: &'static str, sentence: String) {
        let mut known = self.known();
        if known.get(part) != Some(&sentence) {
            log::error!(part; "{sentence}");
            known.insert(part, sentence);
        }
    }

    pub(crate) fn clear(&self, part: &'static str) {
        if self.known().remove(part).is_some() {
            log::info!(part; "The {part} works again");
        }
    }

    /// Tries until the disk does it. Whoever waits goes on waiting: a host whose disk is full stands still, is told
    /// about, and goes on when there is room.
    pub(crate) fn until_done<T>(
        &self,
        part: &'static str,
        mut work: impl FnMut() -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        loop {
            match work() {
                Ok(done) => {
                    self.clear(part);
                    return Ok(done);
                }
                Err(error) if is_for_now(&error) => {
                    self.set(
                        part,
                        format!("The {part} cannot be written: {error}. It is tried again every second."),
                    );
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_for_now(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
    matches!(
        error.sqlite_error_code(),
        Some(DiskFull | SystemIoFailure | DatabaseBusy | DatabaseLocked | CannotOpen)
    )
}
