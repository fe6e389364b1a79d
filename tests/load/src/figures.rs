//! What was measured, and how it is shown.

use std::{fmt, time::Duration};

/// How long requests took.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests in a second.
    pub per_second: f64,
    /// Half of the requests took no longer.
    pub p50: Duration,
    /// All but one in twenty took no longer.
    pub p95: Duration,
    /// All but one in a hundred took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Figures {
    /// Of requests that took so long each, made within `over`.
    pub fn of(mut took: Vec<Duration>, over: Duration) -> Self {
        took.sort_unstable();
        let part = |hundredths: usize| {
            took.get(took.len() * hundredths / 100).or(took.last()).copied().unwrap_or_default()
        };
        Self {
            per_second: took.len() as f64 / over.as_secs_f64(),
            p50: part(50),
            p95: part(95),
            p99: part(99),
            max: part(100),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1000.0;
        write!(f, "{:.0} | {:.2} | {:.2} | {:.2}", self.per_second, ms(self.p50), ms(self.p99), ms(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_the_ninety_ninth_is_shown() {
        let took = (1..=100).rev().map(Duration::from_millis).collect();
        let figures = Figures::of(took, Duration::from_secs(2));
        assert_eq!(figures.to_string(), "50 | 51.00 | 100.00 | 100.00");
        assert_eq!(Figures::of(Vec::new(), Duration::from_secs(1)).to_string(), "0 | 0.00 | 0.00 | 0.00");
    }
}
