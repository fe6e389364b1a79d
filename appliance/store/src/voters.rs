//! Which hosts vote. Pure: what is, and what is wanted, gives what should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::raft::HostId;

/// How many hosts should vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// One of one or two, three of three or four, five of more.
    #[default]
    BySize,
    /// So many, if there are so many: one, three or five.
    Exactly(usize),
}

/// What the leader knows of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) votes: bool,
    /// How long it has not answered.
    pub(crate) silent: Duration,
    /// It has what the leader has, or nearly.
    pub(crate) caught_up: bool,
}

/// A voter that has not answered for so long gives its vote to another.
pub(crate) const LOST: Duration = Duration::from_secs(20);
/// A host that is to vote has answered just now.
pub(crate) const ANSWERS: Duration = Duration::from_secs(2);

/// Who should vote now. The leader always does: it is the one that changes this.
pub(crate) fn plan(leader: HostId, hosts: &BTreeMap<HostId, Standing>, wanted: Wanted) -> BTreeSet<HostId> {
    let size = match wanted {
        Wanted::BySize => hosts.len().min(5),
        Wanted::Exactly(count) => count.clamp(1, 5),
    };
    let able = hosts.len().min(size);
    // An even number bears no more losses than the odd one below it.
    let count = if able % 2 == 0 { able.saturating_sub(1) } else { able };

    let rank = |host: &HostId, standing: &Standing| -> Option<u8> {
        let ready = standing.caught_up && standing.silent < ANSWERS;
        match (*host == leader, standing.votes) {
            (true, _) => Some(0),
            (false, true) if standing.silent < LOST => Some(1),
            (false, false) if ready => Some(2),
            // A lost voter stays one until another can take its place.
            (false, true) => Some(3),
            (false, false) => None,
        }
    };
    let mut ranked: Vec<_> =
        hosts.iter().filter_map(|(host, standing)| Some((rank(host, standing)?, *host))).collect();
    ranked.sort_unstable();
    ranked.truncate(count.max(1));
    if ranked.len() % 2 == 0 {
        ranked.pop();
    }
    ranked.into_iter().map(|(_, host)| host).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: Standing = Standing { votes: true, silent: Duration::ZERO, caught_up: true };
    const LEARNER: Standing = Standing { votes: false, ..GOOD };

    fn hosts(standings: &[Standing]) -> BTreeMap<HostId, Standing> {
        (1..).map(HostId).zip(standings.iter().copied()).collect()
    }

    fn planned(standings: &[Standing]) -> Vec<u64> {
        plan(HostId(1), &hosts(standings), Wanted::BySize).into_iter().map(|host| host.0).collect()
    }

    #[test]
    fn voters_follow_the_size_of_the_cluster() {
        assert_eq!(planned(&[GOOD]), [1]);
        assert_eq!(planned(&[GOOD, LEARNER]), [1]);
        assert_eq!(planned(&[GOOD, LEARNER, LEARNER]), [1, 2, 3]);
        assert_eq!(planned(&[GOOD, GOOD, GOOD, LEARNER]), [1, 2, 3]);
        assert_eq!(planned(&[GOOD, GOOD, GOOD, LEARNER, LEARNER, LEARNER]), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_lost_voter_is_replaced_when_somebody_can() {
        let lost = Standing { silent: LOST, ..GOOD };
        assert_eq!(planned(&[GOOD, lost, GOOD, LEARNER]), [1, 3, 4]);
        assert_eq!(planned(&[GOOD, lost, GOOD]), [1, 2, 3]);
        let behind = Standing { caught_up: false, ..LEARNER };
        assert_eq!(planned(&[GOOD, lost, GOOD, behind]), [1, 2, 3]);
        let short = Standing { silent: LOST - Duration::from_secs(1), ..GOOD };
        assert_eq!(planned(&[GOOD, short, GOOD, LEARNER]), [1, 2, 3]);
    }

    #[test]
    fn no_more_vote_than_are_wanted() {
        let five = hosts(&[GOOD, LEARNER, LEARNER, LEARNER, LEARNER]);
        let voters = plan(HostId(1), &five, Wanted::Exactly(3));
        assert_eq!(voters, BTreeSet::from([HostId(1), HostId(2), HostId(3)]));
    }

    proptest! {
        #[test]
        fn there_is_always_an_odd_number_with_the_leader_in_it(
            standings in prop::collection::vec((any::<bool>(), 0..40_u64, any::<bool>()), 1..12),
            wanted in 0..8_usize,
        ) {
            let standings: Vec<_> = standings
                .into_iter()
                .map(|(votes, silent, caught_up)| Standing { votes, silent: Duration::from_secs(silent), caught_up })
                .collect();
            let wanted = if wanted == 0 { Wanted::BySize } else { Wanted::Exactly(wanted) };
            let voters = plan(HostId(1), &hosts(&standings), wanted);
            prop_assert!(voters.contains(&HostId(1)));
            prop_assert_eq!(voters.len() % 2, 1);
            prop_assert!(voters.len() <= 5);
        }
    }
}
