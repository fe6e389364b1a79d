//! What a case is doing, with the seconds since it began, so that a log tells where the time went.

use std::{fmt::Display, sync::OnceLock, time::Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Says what is being done.
#[expect(clippy::print_stderr, reason = "the test runner captures it and shows it when a case fails")]
pub fn note(sentence: impl Display) {
    let elapsed = START.get_or_init(Instant::now).elapsed();
    eprintln!("[{:7.1}s] {sentence}", elapsed.as_secs_f64());
}
