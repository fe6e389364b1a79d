//! The line in front of the password hash. A hash costs memory and time on purpose, so one runs at a time and few
//! wait; whoever finds the line full is told at once and can try again, instead of waiting behind a flood.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use quantix_host::blocking;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{lock, throttle::Source};

const LINE: usize = 8;
/// Hashes take milliseconds; a turn that does not come means that a disk hangs in the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Lets work through, one at a time.
#[derive(Debug)]
pub(crate) struct Hashing {
    line: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    sources: Arc<Mutex<HashSet<Source>>>,
}

/// A place in the line. It is kept until the work has ended, also when the caller hangs up: otherwise callers that
/// hang up would run as many hashes at once as they like.
#[derive(Debug)]
pub(crate) struct Place {
    source: Source,
    sources: Arc<Mutex<HashSet<Source>>>,
    _line: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.sources).remove(&self.source);
    }
}

/// The turn did not come, or the work broke off.
#[derive(Debug)]
pub(crate) struct NoTurn;

impl Hashing {
    pub(crate) fn new() -> Self {
        let (line, turn) = (Arc::new(Semaphore::new(LINE)), Arc::new(Semaphore::new(1)));
        Self { line, turn, sources: Arc::default() }
    }

    /// A place in the line; `None` when it is full, or when this source stands in it already.
    pub(crate) fn place(&self, source: Source) -> Option<Place> {
        let line = Arc::clone(&self.line).try_acquire_owned().ok()?;
        let is_first = lock(&self.sources).insert(source);
        is_first.then(|| Place { source, sources: Arc::clone(&self.sources), _line: line })
    }

    /// Waits for the turn and does the work on another thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoTurn> {
        let turn = tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.turn).acquire_owned()).await;
        let turn = turn.map_err(|_| NoTurn)?.map_err(|_| NoTurn)?;
        let done = blocking(move || {
            let _kept_to_the_end = (turn, place);
            work()
        });
        done.await.ok_or(NoTurn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of(Some([192, 0, 2, last].into()))
    }

    #[tokio::test]
    async fn a_source_stands_in_the_line_once_and_the_line_is_short() {
        let hashing = Hashing::new();
        let first = hashing.place(source(0)).unwrap();
        assert!(hashing.place(source(0)).is_none());
        let line = u8::try_from(LINE).unwrap();
        let others: Vec<_> = (1..line).map(|last| hashing.place(source(last)).unwrap()).collect();
        assert!(hashing.place(source(line)).is_none());
        drop(first);
        assert!(hashing.place(source(line)).is_some());
        drop(others);
        assert!(hashing.run(hashing.place(source(0)).unwrap(), || ()).await.is_ok());
        assert!(hashing.place(source(0)).is_some());
    }

    #[tokio::test]
    async fn work_keeps_its_turn_when_its_caller_hangs_up() {
        let hashing = Hashing::new();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let work = hashing.run(hashing.place(source(1)).unwrap(), move || ended.recv());
        assert!(tokio::time::timeout(Duration::from_millis(50), work).await.is_err());
        assert!(hashing.place(source(1)).is_none());
        let next = hashing.run(hashing.place(source(2)).unwrap(), || ());
        tokio::pin!(next);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err());
        end.send(()).unwrap();
        assert!(next.await.is_ok());
    }
}
