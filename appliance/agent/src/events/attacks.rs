//! Passwords that are being guessed: who tries so often that it is no mistake any more.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use quantix_api::Severity;

use super::Happened;
use crate::lock;

const WINDOW: Duration = Duration::from_secs(10 * 60);
/// So many wrong passwords from one address in that time are an attack.
const FROM_ONE: u32 = 10;
/// And so many from all together.
const FROM_ALL: u32 = 100;
/// More addresses at once are counted together only.
const REMEMBERED: usize = 256;

/// Sign-ins that were refused of late.
#[derive(Debug, Default)]
pub(crate) struct Attacks(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    all: u32,
    by_address: HashMap<String, u32>,
}

impl Attacks {
    /// Counts a refusal; what to tell, if it is the one too many.
    pub(crate) fn refused(&self, address: &str, now: Instant) -> Option<Happened> {
        let mut recent = lock(&self.0);
        if recent.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *recent = Recent { since: Some(now), ..Recent::default() };
        }
        recent.all += 1;
        let is_known = recent.by_address.contains_key(address);
        if is_known || recent.by_address.len() < REMEMBERED {
            let count = recent.by_address.entry(address.to_owned()).or_default();
            *count += 1;
            if *count == FROM_ONE {
                let sentence = format!("{FROM_ONE} wrong passwords came from {address} within ten minutes.");
                return Some(attack(address, sentence));
            }
        }
        (recent.all == FROM_ALL).then(|| {
            let sentence = format!("{FROM_ALL} wrong passwords came from many addresses within ten minutes.");
            attack("many", sentence)
        })
    }
}

fn attack(from: &str, sentence: String) -> Happened {
    Happened {
        key: format!("sign-in/{from}"),
        severity: Severity::Warning,
        component: "sign-in".to_owned(),
        object: "datacenter".to_owned(),
        host: String::new(),
        sentence,
        is_lasting: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_none_and_an_attack_is_told_once_in_a_while() {
        let (attacks, start) = (Attacks::default(), Instant::now());
        let mut told = Vec::new();
        for _ in 0..50 {
            told.extend(attacks.refused("192.0.2.1", start));
        }
        assert_eq!(told.len(), 1);
        for _ in 0..9 {
            assert!(attacks.refused("192.0.2.2", start).is_none());
        }
        assert!(attacks.refused("192.0.2.2", start + WINDOW).is_none());
    }

    #[test]
    fn an_attack_from_everywhere_is_seen_and_costs_no_memory() {
        let (attacks, now) = (Attacks::default(), Instant::now());
        let told: Vec<_> =
            (0..1000).filter_map(|number| attacks.refused(&format!("address {number}"), now)).collect();
        assert_eq!(told.iter().map(|told| told.key.as_str()).collect::<Vec<_>>(), ["sign-in/many"]);
        assert!(lock(&attacks.0).by_address.len() <= REMEMBERED);
    }
}
