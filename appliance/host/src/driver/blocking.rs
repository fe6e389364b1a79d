//! The one door to blocking work: a few at a time, so that a disk that hangs cannot take the runtime with it.

use tokio::sync::Semaphore;

static ROOM: Semaphore = Semaphore::const_new(4);

/// Runs blocking work on a thread of its own; `None` when it panicked.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // The semaphore is never closed.
    let _permit = ROOM.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}
