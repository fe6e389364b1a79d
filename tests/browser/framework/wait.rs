//! Waiting for a condition, always with a bound. Nothing else here or in the cases sleeps.

use std::time::{Duration, Instant};

/// What comes at once is seen at once; whoever waits long does not take the processor from what is waited for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
    pub async fn wait<T>(self, what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
        let answer = self.wait_or_give_up(ask).await;
        answer.unwrap_or_else(|| panic!("waited {} s until {what}", self.0.as_secs()))
    }

    /// The same for those who have more to say when there is none.
    pub async fn wait_or_give_up<T>(self, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return Some(answer);
            }
            if start.elapsed() > self.0 {
                return None;
            }
            tokio::time::sleep((start.elapsed() / 50).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        }
    }
}

/// Waits until it is so, half a minute at most.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    Patience::default().wait(what, async || is_so().await.then_some(())).await;
}
