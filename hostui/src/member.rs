//! A host as a member of its cluster, in the words that every page has for it.

use quantix_api::{Cluster, ClusterHost, HostRole};

use crate::{
    component::{Level, Standing},
    words,
};

/// A host that was not heard for so long is shown as lost.
const LOST_MS: u64 = 5_000;
/// A host so many changes behind is shown to be catching up.
const BEHIND: u64 = 100;

/// A host, and the cluster it is seen in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) host: &'a ClusterHost,
    cluster: &'a Cluster,
}

impl<'a> Member<'a> {
    pub(crate) fn new(cluster: &'a Cluster, host: &'a ClusterHost) -> Self {
        Self { host, cluster }
    }

    pub(crate) fn all(cluster: &'a Cluster) -> impl Iterator<Item = Self> {
        cluster.hosts.iter().map(|host| Self::new(cluster, host))
    }

    /// Whether it is the host that answers.
    pub(crate) fn is_here(&self) -> bool {
        self.host.id == self.cluster.this_host
    }

    /// A host that led and hears too few others has the role no longer.
    pub(crate) fn leads(&self) -> bool {
        self.host.role == HostRole::Leader && self.cluster.writable
    }

    pub(crate) fn votes(&self) -> bool {
        matches!(self.host.role, HostRole::Leader | HostRole::Voter)
    }

    pub(crate) fn is_joining(&self) -> bool {
        self.host.role == HostRole::Joining
    }

    pub(crate) fn is_lost(&self) -> bool {
        !self.is_here()
            && !self.is_joining()
            && self.host.last_contact_ms.is_none_or(|silent| silent > LOST_MS)
    }

    pub(crate) fn can_lead(&self) -> bool {
        matches!(self.host.role, HostRole::Voter | HostRole::Learner) && !self.is_lost()
    }

    /// Its part, in a word or two.
    pub(crate) fn part(&self) -> &'static str {
        match self.host.role {
            HostRole::Leader | HostRole::Voter => "Votes",
            HostRole::Learner => "Stands by",
            HostRole::Joining => "Let in",
        }
    }

    pub(crate) fn contact(&self) -> Standing {
        match self.host.last_contact_ms {
            _ if self.is_joining() => Standing::busy("Not there yet"),
            _ if self.is_here() => Standing::ok("Answers"),
            Some(silent) if silent <= LOST_MS => Standing::ok("Answers"),
            Some(silent) if silent < 60_000 => Standing::bad(format!("Not heard for {} s", silent / 1000)),
            Some(silent) => Standing::bad(format!("Not heard for {}", words::duration(silent / 1000))),
            None => Standing::bad("Not heard yet"),
        }
    }

    /// How its data stands.
    pub(crate) fn data(&self) -> String {
        match self.host.lag {
            _ if self.is_joining() => String::new(),
            _ if self.is_lost() => "Not known now".to_owned(),
            None => "Not known now".to_owned(),
            Some(lag) if lag < BEHIND => "Up to date".to_owned(),
            Some(lag) => format!("{lag} changes behind"),
        }
    }

    /// The address of its page.
    pub(crate) fn path(&self) -> String {
        format!("/hosts/{}", self.host.id)
    }
}

/// Why nothing can be changed, and what to do.
pub(crate) fn why_not_writable(cluster: &Cluster) -> String {
    let lost: Vec<_> =
        Member::all(cluster).filter(Member::is_lost).map(|member| member.host.name.as_str()).collect();
    if lost.is_empty() {
        return "No host has the vDC role; one is being chosen, which takes seconds.".to_owned();
    }
    format!(
        "Not heard here: {}. Start them or mend the network between them. What runs goes on running.",
        lost.join(", ")
    )
}

/// How many hosts vote, and of how many the loss is borne.
pub(crate) fn voters(cluster: &Cluster) -> (usize, usize) {
    let voters = Member::all(cluster).filter(Member::votes).count();
    (voters, voters.saturating_sub(1) / 2)
}

/// How the cluster stands as a whole.
pub(crate) fn health(cluster: &Cluster) -> Level {
    match cluster.writable {
        false => Level::Bad,
        true if !cluster.trouble.is_empty() || Member::all(cluster).any(|member| member.is_lost()) => {
            Level::Warn
        }
        true => Level::Ok,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn host(name: &str, role: HostRole, last_contact_ms: Option<u64>) -> ClusterHost {
        ClusterHost {
            id: format!("{name:0>16}"),
            name: name.to_owned(),
            address: "192.0.2.1:7443".to_owned(),
            role,
            lag: Some(0),
            last_contact_ms,
            joined_at: None,
        }
    }

    pub(crate) fn cluster(hosts: Vec<ClusterHost>, writable: bool) -> Cluster {
        Cluster {
            this_host: hosts[0].id.clone(),
            leader: writable.then(|| hosts[0].id.clone()),
            term: 3,
            last_index: 70,
            applied_index: 70,
            schema: 5,
            writable,
            wanted_voters: None,
            fingerprint: "AA:BB".to_owned(),
            hosts,
            trouble: Vec::new(),
        }
    }

    #[test]
    fn a_host_that_is_not_heard_is_lost_and_one_that_is_to_come_is_not() {
        let hosts = vec![
            host("a1", HostRole::Leader, None),
            host("a2", HostRole::Voter, Some(90_000)),
            host("a3", HostRole::Voter, Some(20)),
            host("a4", HostRole::Joining, None),
        ];
        let cluster = cluster(hosts, true);
        let check = |word: fn(&Member<'_>) -> bool| {
            Member::all(&cluster).map(|member| word(&member)).collect::<Vec<_>>()
        };
        assert_eq!(check(|member| member.is_lost()), [false, true, false, false]);
        assert_eq!(check(|member| member.leads()), [true, false, false, false]);
        assert_eq!(check(|member| member.can_lead()), [false, false, true, false]);
        let contacts: Vec<_> = Member::all(&cluster).map(|member| member.contact()).collect();
        assert_eq!(contacts[1], Standing::bad("Not heard for 1 min"));
        assert_eq!((voters(&cluster), health(&cluster)), ((3, 1), Level::Warn));
    }

    #[test]
    fn who_is_missing_is_named_when_nothing_can_be_changed() {
        let hosts = vec![host("a1", HostRole::Leader, None), host("a2", HostRole::Voter, None)];
        let cluster = cluster(hosts, false);
        assert!(why_not_writable(&cluster).starts_with("Not heard here: a2."));
        assert!(!Member::all(&cluster).any(|member| member.leads()));
        assert_eq!(health(&cluster), Level::Bad);
    }
}
