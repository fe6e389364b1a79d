//! Waiting for a condition, always with a bound. Nothing else in the framework or the cases sleeps.

use std::time::{Duration, Instant};

use crate::fail;

const PAUSE: Duration = Duration::from_millis(50);

/// Asks again and again until there is an answer or time is up.
pub fn poll_until<T>(bound: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits for something that must come; the case ends when it does not.
#[track_caller]
pub fn wait_until<T>(what: &str, bound: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match poll_until(bound, ask) {
        Some(answer) => answer,
        None => fail(format!("Waited {} s for {what}, which did not come.", bound.as_secs())),
    }
}
