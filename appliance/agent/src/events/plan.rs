//! When something counts as wrong, and when as right again. What comes and goes is told once, and only when it stays.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use quantix_api::{Check, CheckState, Severity};
use serde::{Deserialize, Serialize};

/// What is not right must stay so for this long before anybody is told.
const TOLD_AFTER: Duration = Duration::from_secs(10);
/// And must be right for this long before it counts as over.
const OVER_AFTER: Duration = Duration::from_secs(30);

/// So many virtual machines are told by name.
const FOUND_NAMED: usize = 5;

/// Something that is not right, for as long as it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    /// By this it is known again.
    pub(crate) what: String,
    pub(crate) severity: Severity,
    pub(crate) component: String,
    pub(crate) sentence: String,
    /// How long it must have been so before it is told; nothing for the usual time.
    #[serde(skip)]
    pub(crate) after: Option<Duration>,
}

/// What is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct News {
    pub(crate) wrong: Vec<Condition>,
    pub(crate) over: Vec<String>,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.wrong.is_empty() && self.over.is_empty()
    }
}

/// Tells apart what lasts from what comes and goes. Times are since any fixed moment.
#[derive(Debug, Default)]
pub(crate) struct Damper {
    /// What was told to be wrong.
    told: BTreeMap<String, String>,
    /// Since when something is as it has not been told yet.
    since: HashMap<String, Duration>,
}

impl Damper {
    /// One that knows what was told before it was made.
    pub(crate) fn knowing(told: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { told: told.into_iter().collect(), since: HashMap::new() }
    }

    /// What is news, given all that is wrong now. It stays news until it is `told`.
    pub(crate) fn look(&mut self, wrong: &[Condition], now: Duration) -> News {
        let mut news = News::default();
        let mut unsettled = HashMap::new();
        for condition in wrong {
            let is_told = self.told.get(&condition.what) == Some(&condition.sentence);
            if is_told {
                continue;
            }
            let since = self.since.get(&condition.what).copied().unwrap_or(now);
            unsettled.insert(condition.what.clone(), since);
            if now.saturating_sub(since) >= condition.after.unwrap_or(TOLD_AFTER) {
                news.wrong.push(condition.clone());
            }
        }
        for what in self.told.keys().filter(|what| !wrong.iter().any(|wrong| wrong.what == **what)) {
            let since = self.since.get(what).copied().unwrap_or(now);
            unsettled.insert(what.clone(), since);
            if now.saturating_sub(since) >= OVER_AFTER {
                news.over.push(what.clone());
            }
        }
        self.since = unsettled;
        news
    }

    /// The news has been told.
    pub(crate) fn told(&mut self, news: &News) {
        for condition in &news.wrong {
            self.since.remove(&condition.what);
            self.told.insert(condition.what.clone(), condition.sentence.clone());
        }
        for what in &news.over {
            self.since.remove(what);
            self.told.remove(what);
        }
    }
}

/// What the checks of a host find wrong.
pub(crate) fn of_checks(host: &str, checks: &[Check], clock_follows: bool) -> Vec<Condition> {
    let mut found: Vec<_> = checks
        .iter()
        .filter_map(|check| {
            let severity = match check.state {
                CheckState::Ok => return None,
                CheckState::Warn => Severity::Warning,
                CheckState::Failed => Severity::Error,
            };
            Some(Condition {
                what: format!("check/{}", check.name),
                severity,
                component: component(&check.name).to_owned(),
                sentence: format!("{host}: {}", first_words(&check.detail)),
                // A boot takes its time, and whether guests run is tried out first.
                after: Some(if check.name == "kvm" { Duration::from_secs(120) } else { TOLD_AFTER }),
            })
        })
        .collect();
    if !clock_follows {
        found.push(Condition {
            what: "clock".to_owned(),
            severity: Severity::Warning,
            component: "time".to_owned(),
            sentence: format!(
                "{host}: The clock follows no time server. Certificates and logs depend on it."
            ),
            after: Some(Duration::from_secs(300)),
        });
    }
    found
}

/// Virtual machines that the host has and that are not among the machines.
pub(crate) fn of_found_vms(host: &str, mut names: Vec<String>) -> Option<Condition> {
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let more = names.len().saturating_sub(FOUND_NAMED);
    names.truncate(FOUND_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(Condition {
        what: "found-vms".to_owned(),
        severity: Severity::Warning,
        component: "virtual machines".to_owned(),
        sentence: format!(
            "{host} has virtual machines that are not among the machines: {}{more}. Import them, or remove them there.",
            names.join(", ")
        ),
        after: None,
    })
}

fn component(check: &str) -> &'static str {
    match check {
        "store" | "account" => "cluster",
        "certificate" => "certificates",
        "state-storage" => "storage",
        "network" | "open-vswitch" | "ovn-northbound" | "ovn-southbound" | "ovn-northd"
        | "ovn-controller" => "network",
        _ => "host",
    }
}

/// Numbers that change all the time are not news: what is told ends before the first colon with figures behind it.
fn first_words(detail: &str) -> String {
    match detail.split_once(": ") {
        Some((before, after)) if after.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("{before}.")
        }
        _ => detail.to_owned(),
    }
}

/// What the leader finds wrong with the other hosts: how long each has been silent, and whether it votes.
pub(crate) fn of_hosts(hosts: &[(String, String, bool, Duration)]) -> Vec<(String, Condition)> {
    let is_lost = |silent: &Duration| *silent >= LOST_AFTER;
    let mut found: Vec<_> = hosts
        .iter()
        .filter(|(.., silent)| is_lost(silent))
        .map(|(id, name, votes, _)| {
            let votes = if *votes { " It has a vote." } else { "" };
            let condition = Condition {
                what: "lost".to_owned(),
                severity: Severity::Error,
                component: "cluster".to_owned(),
                sentence: format!("{name} does not answer any more.{votes} Look at its power and network."),
                after: Some(Duration::ZERO),
            };
            (format!("host/{id}"), condition)
        })
        .collect();
    let voters = hosts.iter().filter(|(_, _, votes, _)| *votes).count();
    let answering = hosts.iter().filter(|(_, _, votes, silent)| *votes && !is_lost(silent)).count();
    if answering < voters {
        let spare = answering.saturating_sub(voters / 2 + 1);
        let bears = match spare {
            0 => "When another one is lost, nothing can be changed any more.".to_owned(),
            1 => "The cluster bears the loss of one more.".to_owned(),
            more => format!("The cluster bears the loss of {more} more."),
        };
        let condition = Condition {
            what: "voters".to_owned(),
            severity: Severity::Warning,
            component: "cluster".to_owned(),
            sentence: format!("Only {answering} of {voters} voters answer. {bears}"),
            after: Some(Duration::ZERO),
        };
        found.push(("datacenter".to_owned(), condition));
    }
    found
}

/// A host that was not heard for so long is lost.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn machines_that_nobody_keeps_are_told_by_name() {
        let told = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            of_found_vms("qx-1", names).map(|condition| condition.sentence)
        };
        assert_eq!(told(&[]), None);
        assert!(told(&["mail", "db"]).unwrap().contains("not among the machines: db, mail. Import"));
        assert!(told(&["a", "b", "c", "d", "e", "f", "g"]).unwrap().contains("e and 2 more."));
    }

    fn condition(what: &str) -> Condition {
        Condition {
            what: what.into(),
            severity: Severity::Error,
            component: "host".into(),
            sentence: format!("{what} is wrong."),
            after: None,
        }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_lasts_is_told_once_and_once_that_it_is_over() {
        let mut damper = Damper::default();
        let wrong = [condition("a")];
        assert!(damper.look(&wrong, s(0)).is_empty());
        assert!(damper.look(&wrong, s(9)).is_empty());
        let news = damper.look(&wrong, s(10));
        assert_eq!(news.wrong, wrong);
        // Nobody could be told: it stays news.
        assert_eq!(damper.look(&wrong, s(12)), news);
        damper.told(&news);
        assert!(damper.look(&wrong, s(60)).is_empty());
        assert!(damper.look(&[], s(61)).is_empty());
        let over = damper.look(&[], s(91));
        assert_eq!(over.over, ["a"]);
        damper.told(&over);
        assert!(damper.look(&[], s(200)).is_empty());
    }

    #[test]
    fn a_host_that_starts_again_knows_what_was_told() {
        let mut damper = Damper::knowing([("a".to_owned(), "a is wrong.".to_owned())]);
        assert!(damper.look(&[condition("a")], s(0)).is_empty());
        assert!(damper.look(&[condition("a")], s(100)).is_empty());
        assert!(damper.look(&[], s(101)).is_empty());
        assert_eq!(damper.look(&[], s(140)).over, ["a"]);
    }

    proptest! {
        /// However something comes and goes, it is told at most once in the time that it takes to be over.
        #[test]
        fn what_comes_and_goes_is_not_told_over_and_over(flaps in prop::collection::vec(any::<bool>(), 1..400)) {
            let mut damper = Damper::default();
            let mut told = Vec::new();
            for (second, is_wrong) in (0..).zip(flaps) {
                let wrong = if is_wrong { vec![condition("a")] } else { vec![] };
                let news = damper.look(&wrong, s(second));
                if !news.is_empty() {
                    told.push((second, news.over.is_empty()));
                }
                damper.told(&news);
            }
            for pair in told.windows(2) {
                prop_assert!(pair[0].1 != pair[1].1, "{told:?}");
                let least = if pair[1].1 { TOLD_AFTER } else { OVER_AFTER };
                prop_assert!(s(pair[1].0 - pair[0].0) >= least, "{told:?}");
            }
        }
    }

    #[test]
    fn figures_that_change_are_no_news() {
        let check = |detail: &str| Check {
            name: "state-storage".into(),
            state: CheckState::Warn,
            detail: detail.into(),
        };
        let told = |detail: &str| of_checks("qx-1", &[check(detail)], true)[0].sentence.clone();
        assert_eq!(
            told("The state partition is almost full: 90 MiB (4 %) are free."),
            "qx-1: The state partition is almost full."
        );
        assert_eq!(
            told("libvirt does not answer: it is not running."),
            "qx-1: libvirt does not answer: it is not running."
        );
    }

    #[test]
    fn a_lost_voter_is_told_with_what_the_cluster_still_bears() {
        let host = |id: &str, votes, silent| (id.to_owned(), format!("qx-{id}"), votes, s(silent));
        let hosts = [host("a", true, 0), host("b", true, 1), host("c", true, 9), host("d", false, 7)];
        let found = of_hosts(&hosts);
        let sentences: Vec<_> = found.iter().map(|(_, condition)| condition.sentence.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "qx-c does not answer any more. It has a vote. Look at its power and network.",
                "qx-d does not answer any more. Look at its power and network.",
                "Only 2 of 3 voters answer. When another one is lost, nothing can be changed any more.",
            ]
        );
        assert!(of_hosts(&hosts[..2]).is_empty());
    }
}
