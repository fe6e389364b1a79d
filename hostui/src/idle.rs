//! How long a connection has had nothing to do. A place is taken from the moment a client connects, and places are
//! few: one that asks nothing must give its place back, however politely it answers pings.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The requests under way on one connection, and when the last of them ended.
#[derive(Clone, Debug)]
pub(crate) struct Idle(Arc<Mutex<Activity>>);

#[derive(Debug)]
struct Activity {
    under_way: usize,
    last: Instant,
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Idle);

impl Idle {
    /// A connection that has just been opened.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Activity { under_way: 0, last: Instant::now() })))
    }

    /// A request begins.
    pub(crate) fn busy(&self) -> Busy {
        self.activity().under_way += 1;
        Busy(self.clone())
    }

    /// Since when nothing has been asked; nothing while a request is under way.
    pub(crate) fn since(&self) -> Option<Instant> {
        let activity = self.activity();
        (activity.under_way == 0).then_some(activity.last)
    }

    /// Returns once nothing has been asked for `limit`.
    pub(crate) async fn lasts(&self, limit: Duration) {
        loop {
            let until = {
                let activity = self.activity();
                let since = if activity.under_way == 0 { activity.last } else { Instant::now() };
                since + limit
            };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut activity = self.0.activity();
        activity.under_way -= 1;
        activity.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);
    const LONGER: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_idle() {
        assert!(timeout(LONGER, Idle::new().lasts(LIMIT)).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_under_way_is_not_idleness_however_long_it_takes() {
        let idle = Idle::new();
        let busy = idle.busy();
        assert!(timeout(LONGER, idle.lasts(LIMIT)).await.is_err());
        drop(busy);
        assert!(timeout(LONGER, idle.lasts(LIMIT)).await.is_ok());
    }
}
