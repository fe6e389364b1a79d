//! Waiting for a condition, always with a bound. Nothing else here or in the cases sleeps.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// How long something may take before a case gives up.
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl Patience {
    /// Waits until there is an answer.
    pub async fn wait<T>(self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(start.elapsed() < self.0, "waited {} s until {what}", self.0.as_secs());
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits until it is so, half a minute at most.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    Patience::default().wait(what, async || is_so().await.then_some(())).await;
}
