//! How much one may ask for. Each person, program and stranger has a measure of requests that fills up again by itself;
//! a program that runs wild finds it empty and is told how long to wait, and everybody else is served.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Mutex,
    time::{Duration, Instant},
};

use quantix_api::{Problem, ProblemCode};

use crate::lock;

/// More are not remembered; those that are full again make room first.
const MOST: usize = 10_000;

/// Measures of requests, one for each of those who ask.
#[derive(Debug)]
pub(crate) struct Measures<K> {
    /// So many can be asked for at once.
    full: u32,
    /// And so many in a second for ever.
    each_second: u32,
    kept: Mutex<HashMap<K, Measure>>,
}

#[derive(Clone, Copy, Debug)]
struct Measure {
    /// In thousandths of a request.
    left: u64,
    at: Instant,
}

impl<K: Eq + Hash + Clone> Measures<K> {
    pub(crate) fn new(full: u32, each_second: u32) -> Self {
        Self { full, each_second, kept: Mutex::default() }
    }

    fn full(&self) -> u64 {
        u64::from(self.full) * 1000
    }

    /// What there is at a time of what there was.
    fn filled(&self, measure: Measure, now: Instant) -> u64 {
        let since = now.saturating_duration_since(measure.at);
        let more =
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_mul(u64::from(self.each_second));
        measure.left.saturating_add(more).min(self.full())
    }

    /// Takes a request out of somebody's measure; where it is empty, says how long to wait.
    pub(crate) fn take(&self, who: &K, now: Instant) -> Result<(), Problem> {
        let mut kept = lock(&self.kept);
        if kept.len() >= MOST && !kept.contains_key(who) {
            kept.retain(|_, measure| self.filled(*measure, now) < self.full());
            // All of them ask without end. One of them begins anew, and this one is remembered.
            if kept.len() >= MOST
                && let Some(one) = kept.keys().next().cloned()
            {
                kept.remove(&one);
            }
        }
        let measure = kept.entry(who.clone()).or_insert(Measure { left: self.full(), at: now });
        *measure = Measure { left: self.filled(*measure, now), at: now };
        match measure.left.checked_sub(1000) {
            Some(left) => {
                measure.left = left;
                Ok(())
            }
            None => Err(self.wait(measure.left)),
        }
    }

    /// Refuses whoever has an empty measure, and takes nothing.
    pub(crate) fn look(&self, who: &K, now: Instant) -> Result<(), Problem> {
        let kept = lock(&self.kept);
        match kept.get(who).map(|measure| self.filled(*measure, now)) {
            Some(left) if left < 1000 => Err(self.wait(left)),
            _ => Ok(()),
        }
    }

    fn wait(&self, left: u64) -> Problem {
        let missing =
            Duration::from_millis((1000 - left.min(1000)).div_ceil(u64::from(self.each_second.max(1))));
        let seconds = missing.as_secs() + 1;
        let sentence = format!(
            "More was asked for than {} requests in a second. Ask more slowly, or in larger parts.",
            self.each_second
        );
        Problem::new(ProblemCode::TooManyAttempts, sentence).retry_after(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_emptied_and_fills_up_again_and_is_nobody_elses() {
        let (measures, now) = (Measures::new(3, 2), Instant::now());
        for _ in 0..3 {
            measures.look(&"ada", now).unwrap();
            measures.take(&"ada", now).unwrap();
        }
        assert!(measures.look(&"ada", now).is_err());
        let refused = measures.take(&"ada", now).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_seconds), (ProblemCode::TooManyAttempts, Some(1)));
        measures.take(&"ben", now).unwrap();
        let later = now + Duration::from_millis(500);
        measures.take(&"ada", later).unwrap();
        assert!(measures.take(&"ada", later).is_err());
        let much_later = now + Duration::from_secs(3600);
        for _ in 0..3 {
            measures.take(&"ada", much_later).unwrap();
        }
        assert!(measures.take(&"ada", much_later).is_err());
    }

    #[test]
    fn the_table_is_bounded() {
        let (measures, now) = (Measures::new(2, 1), Instant::now());
        for who in 0..MOST + 10 {
            measures.take(&who, now).unwrap();
        }
        assert!(lock(&measures.kept).len() <= MOST);
        measures.take(&(2 * MOST), now + Duration::from_secs(10)).unwrap();
        assert_eq!(lock(&measures.kept).len(), 1, "those that are full again are forgotten");
    }
}
