//! What all parts of the store share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use openraft::ServerState;
use tokio::sync::watch;

use crate::{
    frame::{Request, Response},
    log::Log,
    peers::{Peers, Verdict},
    raft::{Address, HostId, Metrics, Raft},
    state::{Failure, Migration, State},
    trouble::Trouble,
    voters::Wanted,
};

/// A leader that has heard from no majority for so long writes nothing; nobody else leads before.
pub(crate) const LEASE: Duration = Duration::from_millis(800);

/// What all parts of the store share.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) state: State,
    pub(crate) log: Log,
    pub(crate) peers: Arc<Peers>,
    pub(crate) metrics: watch::Receiver<Metrics>,
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) wanted: Mutex<Wanted>,
    pub(crate) migrations: &'static [Migration],
    /// The term of which this host is the leader, with everything before it in its database.
    pub(crate) leading: watch::Sender<Option<u64>>,
    /// Writers wait while leadership moves.
    pub(crate) moving: AtomicBool,
    /// Only one change of members at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) met: AtomicBool,
    /// When this host heard from a leader last.
    pub(crate) led: Mutex<Instant>,
    /// Reasons not to stand for election.
    pub(crate) quiet: AtomicUsize,
}

impl Core {
    pub(crate) fn knows(&self) -> u32 {
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn leader(&self) -> Option<HostId> {
        self.metrics.borrow().current_leader
    }

    pub(crate) fn is_member(&self) -> bool {
        self.metrics.borrow().membership_config.membership().get_node(&self.peers.me).is_some()
    }

    pub(crate) fn address(&self, host: HostId) -> Option<Address> {
        self.metrics.borrow().membership_config.membership().get_node(&host).cloned()
    }

    /// Whether this host leads and does not have everything from before in its database yet.
    pub(crate) fn is_settling(&self) -> bool {
        let metrics = self.metrics.borrow();
        metrics.state == ServerState::Leader
            && metrics.last_applied.is_none_or(|applied| applied.leader_id.term != metrics.current_term)
    }

    /// The term in which this host may write now.
    pub(crate) fn may_write(&self) -> Result<u64, Failure> {
        let metrics = self.metrics.borrow();
        if metrics.state != ServerState::Leader {
            return Err(Failure::NotLeader);
        }
        let is_alone = only_voter(&metrics) == Some(self.peers.me);
        let since = metrics.millis_since_quorum_ack.map(Duration::from_millis);
        if !is_alone && since.is_none_or(|since| since > LEASE) {
            return Err(Failure::NoQuorum);
        }
        if metrics.last_applied.is_none_or(|applied| applied.leader_id.term != metrics.current_term) {
            return Err(Failure::NotWritten("this host has only just become the leader".into()));
        }
        Ok(metrics.current_term)
    }

    /// Up to where has to be read to see everything acknowledged so far. Only the leader knows, with its quorum.
    pub(crate) async fn read_index(&self) -> Result<u64, Failure> {
        use openraft::error::{CheckIsLeaderError, RaftError};
        match self.raft.get_read_log_id().await {
            Ok((read, _)) => Ok(read.map_or(0, |read| read.index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => Err(Failure::NotLeader),
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(Failure::NoQuorum),
            Err(RaftError::Fatal(error)) => Err(Failure::NotWritten(error.to_string())),
        }
    }

    pub(crate) async fn ask_leader_for_index(&self) -> Result<u64, Failure> {
        let leader = self.leader().filter(|leader| *leader != self.peers.me).ok_or(Failure::NoQuorum)?;
        let address = self.address(leader).ok_or(Failure::NoQuorum)?;
        match self.peers.ask(leader, &address, &Request::ReadIndex).await {
            Ok(Response::ReadIndex(index)) => Ok(index),
            Ok(Response::Failed(why)) => Err(Failure::NotWritten(why)),
            Ok(_) | Err(_) => Err(Failure::NoQuorum),
        }
    }

    /// Whether every voter has been told that this host has started again, or could not be.
    pub(crate) fn has_met_the_others(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    /// Says so, and whether that is news.
    pub(crate) fn have_met_the_others(&self) -> bool {
        let is_news = !self.met.swap(true, Ordering::Relaxed);
        if is_news {
            self.be_loud();
        }
        is_news
    }

    /// Whether this host may stand for election: it votes, it does not lead, and nothing keeps it quiet.
    pub(crate) fn may_stand(&self) -> bool {
        let metrics = self.metrics.borrow();
        self.quiet.load(Ordering::Relaxed) == 0
            && metrics.state != ServerState::Leader
            && metrics.membership_config.voter_ids().any(|voter| voter == self.peers.me)
    }

    /// Whether this host is the only one that votes.
    pub(crate) fn is_alone(&self) -> bool {
        only_voter(&self.metrics.borrow()) == Some(self.peers.me)
    }

    /// Keeps this host from standing for election until the guard goes.
    pub(crate) fn quiet(self: &Arc<Self>) -> Quiet {
        self.quiet.fetch_add(1, Ordering::Relaxed);
        Quiet(Arc::clone(self))
    }

    fn be_loud(&self) {
        self.quiet.fetch_sub(1, Ordering::Relaxed);
    }

    /// From now on this host neither votes nor stands for election.
    pub(crate) fn be_out(self: &Arc<Self>, verdict: Verdict) {
        let sentence = match verdict {
            Verdict::Removed => {
                "This host was removed from the cluster. To use it again, reset it and let it join as a new host."
            }
            Verdict::Older => {
                "This host's disk was put back to an earlier time, so it no longer has what it had promised to keep. \
                 Remove it from the cluster, reset it and let it join as a new host."
            }
        };
        self.trouble.set("membership", sentence.into());
        self.met.store(false, Ordering::Relaxed);
        std::mem::forget(self.quiet());
    }
}

/// While it lives the host does not stand for election.
pub(crate) struct Quiet(Arc<Core>);

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.be_loud();
    }
}

fn only_voter(metrics: &Metrics) -> Option<HostId> {
    let mut voters = metrics.membership_config.voter_ids();
    let first = voters.next();
    if voters.next().is_none() { first } else { None }
}
