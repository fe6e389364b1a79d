//! The one door to blocking work: a few at a time, so that a disk that hangs cannot take the runtime with it.

use tokio::sync::Semaphore;

static ROOM: Semaphore = Semaphore::const_new(4);

/// Runs blocking work on a thread of its own; `None` when it panicked. Work that began runs to its end and keeps its
/// place until then, also when nobody waits for it any more.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // The semaphore is never closed.
    let place = ROOM.acquire().await.ok()?;
    let work = move || {
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn callers_that_give_up_do_not_make_more_room() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..20 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let work = blocking(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
                running.fetch_sub(1, Ordering::SeqCst);
            });
            let _ = tokio::time::timeout(Duration::from_millis(5), work).await;
        }
        assert!(most.load(Ordering::SeqCst) <= 4);
    }
}
