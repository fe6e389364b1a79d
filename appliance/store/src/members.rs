//! Who belongs to the cluster, who votes, and what the leader does about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use openraft::{
    ChangeMembers, ServerState,
    error::{ClientWriteError, RaftError},
};
use tokio::time::{sleep, timeout};

use crate::{
    frame::Request,
    raft::{Address, Command, HostId, Metrics},
    shared::Core,
    state::{Ask, Failure},
    store::{Member, Role, Status},
    voters::{self, Standing},
};

/// How often the leader looks after its cluster.
const LOOK: Duration = Duration::from_millis(500);
/// Hosts that have started again introduce themselves so often until everybody knows.
const INTRODUCE: Duration = Duration::from_secs(1);
/// A host so few entries behind has what the leader has, or nearly.
const BEHIND: u64 = 1000;
/// The log is cut when it is larger than this, and larger than half the database.
const LOG_BYTES: u64 = 64 * 1024 * 1024;
/// How long is waited to hear that a host has what the leader has.
const CAUGHT_UP: Duration = Duration::from_secs(2);
/// How long leadership may take to move.
const MOVE: Duration = Duration::from_secs(5);

/// Tells every voter that this host has started. Until each has heard, or could not be reached, this host does not
/// vote: one of them may know that its disk is older than what it had promised.
pub(crate) async fn introduce(core: Arc<Core>) {
    let mut met = BTreeSet::from([core.peers.me]);
    let mut verdicts = core.peers.verdict();
    loop {
        let membership = Arc::clone(&core.metrics.borrow().membership_config);
        let mut asked = tokio::task::JoinSet::new();
        for voter in membership.voter_ids().filter(|voter| !met.contains(voter)) {
            let Some(address) = membership.membership().get_node(&voter).cloned() else { continue };
            let peers = Arc::clone(&core.peers);
            asked.spawn(async move { (voter, peers.ask(voter, &address, &Request::Ping).await.is_ok()) });
        }
        while let Some(answered) = asked.join_next().await {
            if let Ok((voter, true)) = answered {
                met.insert(voter);
            }
        }
        if let Some(verdict) = *verdicts.borrow_and_update() {
            core.be_out(verdict);
            return;
        }
        if core.have_met_the_others() && core.is_alone() {
            // There is nobody to wait for.
            drop(core.raft.trigger().elect().await);
        }
        // A verdict may come with any link that is opened later.
        if let Ok(Ok(())) = timeout(INTRODUCE, verdicts.changed()).await
            && let Some(verdict) = *verdicts.borrow()
        {
            core.be_out(verdict);
            return;
        }
    }
}

/// Says when leadership is won and lost.
pub(crate) async fn follow_leadership(core: Arc<Core>) {
    let mut metrics = core.metrics.clone();
    loop {
        if let Err(fatal) = &metrics.borrow_and_update().running_state {
            core.trouble
                .set("store", format!("The store has stopped and needs a restart of its program: {fatal}."));
        }
        let term = core.may_write().ok();
        core.leading.send_if_modified(|leading| {
            let is_other = *leading != term;
            if is_other {
                match term {
                    Some(term) => log::info!(term; "This host leads the cluster"),
                    None => log::info!("This host leads the cluster no longer"),
                }
            }
            *leading = term;
            is_other
        });
        // Time alone can end it: when nobody answers any more, nothing else changes.
        if let Ok(Err(_)) = timeout(Duration::from_millis(100), metrics.changed()).await {
            return;
        }
    }
}

/// Looks after the log of this host and, while it leads, after voters and schema.
pub(crate) async fn tend(core: Arc<Core>) {
    let mut leading = core.leading.subscribe();
    loop {
        // Whoever has just become the leader does not wait; a new cluster has no tables yet.
        drop(timeout(LOOK, leading.changed()).await);
        cut_log(&core).await;
        if core.may_write().is_err() || core.moving.load(Ordering::Relaxed) {
            continue;
        }
        if core.trouble.has("log") || core.trouble.has("database") {
            // Nothing is done without this host's disk. Another's may have room.
            match hand_over(&core).await {
                Ok(()) => log::warn!("Another host leads: this one cannot write"),
                Err(failure) => log::warn!("No other host can lead: {failure}"),
            }
            continue;
        }
        let changed = match tend_voters(&core).await {
            Ok(()) => tend_schema(&core).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = changed {
            log::warn!("The cluster could not be changed: {failure}");
        }
    }
}

async fn cut_log(core: &Core) {
    let state = core.state.bytes();
    let limit = LOG_BYTES.max(state / 2);
    if core.log.bytes() <= limit {
        return;
    }
    let Some(applied) = core.metrics.borrow().last_applied else { return };
    let upto = core.log.first_within(limit / 2).saturating_sub(1).min(applied.index);
    // What leaves the log is in the database, on the disk, before.
    let mut metrics = core.metrics.clone();
    let is_kept = |metrics: &Metrics| metrics.snapshot.is_some_and(|kept| kept.index >= upto);
    if core.raft.trigger().snapshot().await.is_ok()
        && timeout(MOVE, metrics.wait_for(is_kept)).await.is_ok_and(|kept| kept.is_ok())
        && let Err(error) = core.raft.trigger().purge_log(upto).await
    {
        log::warn!("The log could not be cut: {error}");
    }
}

async fn tend_voters(core: &Core) -> Result<(), Failure> {
    let Ok(_only) = core.changing.try_lock() else { return Ok(()) };
    let metrics = core.metrics.borrow().clone();
    let is_settled = metrics.membership_config.membership().get_joint_config().len() == 1
        && metrics.last_applied >= *metrics.membership_config.log_id();
    let now: BTreeSet<_> = metrics.membership_config.voter_ids().collect();
    let wanted = plan(core, &metrics, None);
    if is_settled && wanted == now {
        return Ok(());
    }
    log::info!(voters:? = wanted; "The voters change");
    change(core, ChangeMembers::ReplaceAllVoters(wanted), true).await
}

/// Who should vote, as if one of the hosts were not there.
fn plan(core: &Core, metrics: &Metrics, without: Option<HostId>) -> BTreeSet<HostId> {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<_> = membership.voter_ids().collect();
    let last = metrics.last_log_index.unwrap_or_default();
    let mut standings = BTreeMap::new();
    for (host, _) in membership.nodes().filter(|(host, _)| Some(**host) != without) {
        let matched = metrics.replication.as_ref().and_then(|all| *all.get(host)?);
        let standing = Standing {
            votes: voters.contains(host),
            silent: core.peers.silent(*host).unwrap_or(Duration::MAX),
            caught_up: matched.is_some_and(|matched| matched.index + BEHIND >= last),
        };
        standings.insert(*host, standing);
    }
    voters::plan(core.peers.me, &standings, *crate::lock(&core.wanted))
}

/// Proposes the next step of the schema when every host knows it and it has been seen to run here.
async fn tend_schema(core: &Core) -> Result<(), Failure> {
    let membership = Arc::clone(&core.metrics.borrow().membership_config);
    let all_know =
        |to: u32| membership.membership().nodes().all(|(host, _)| core.peers.knows(*host) >= Some(to));
    loop {
        let to = core.state.schema() + 1;
        if to > core.knows() || !all_know(to) || !take_step(core, to).await? {
            return Ok(());
        }
    }
}

/// Whether the step was taken.
async fn take_step(core: &Core, to: u32) -> Result<bool, Failure> {
    let tried = core.state.ask(|answer| Ask::TryStep(to, answer)).await;
    if let Some(Err(why)) = tried {
        core.trouble.set("schema", format!("Step {to} of the schema does not run on this data: {why}."));
        return Ok(false);
    }
    core.trouble.clear("schema");
    log::info!(step = to; "The schema takes step {to}");
    core.raft.client_write(Command::Migrate { to }).await.map_err(failure)?;
    Ok(core.state.schema() >= to)
}

pub(crate) async fn add(core: &Core, host: HostId, address: Address) -> Result<(), Failure> {
    core.may_write()?;
    let _only = core.changing.lock().await;
    let membership = Arc::clone(&core.metrics.borrow().membership_config);
    if let Some((other, _)) = membership.membership().nodes().find(|(id, at)| **id != host && **at == address)
    {
        return Err(Failure::NotWritten(format!("host {other} has the address {address} already")));
    }
    let schema = core.state.schema();
    let reached = core.peers.ask(host, &address, &Request::Ping).await;
    reached
        .map_err(|error| Failure::NotWritten(format!("the host does not answer at {address}: {error}")))?;
    if core.peers.knows(host) < Some(schema) {
        return Err(Failure::NotWritten(
            "the host runs a version that is too old for this cluster's data; update it first".into(),
        ));
    }
    core.raft.add_learner(host, address, false).await.map(drop).map_err(failure)
}

pub(crate) async fn remove(core: &Core, host: HostId) -> Result<(), Failure> {
    core.may_write()?;
    if host == core.peers.me {
        return Err(Failure::NotWritten("a host that leads cannot be removed; move leadership first".into()));
    }
    let _only = core.changing.lock().await;
    let metrics = core.metrics.borrow().clone();
    if metrics.membership_config.membership().get_node(&host).is_none() {
        return Ok(());
    }
    if metrics.membership_config.voter_ids().any(|voter| voter == host) {
        change(core, ChangeMembers::ReplaceAllVoters(plan(core, &metrics, Some(host))), true).await?;
    }
    change(core, ChangeMembers::RemoveNodes(BTreeSet::from([host])), true).await
}

pub(crate) async fn set_address(core: &Core, host: HostId, address: Address) -> Result<(), Failure> {
    core.may_write()?;
    let _only = core.changing.lock().await;
    change(core, ChangeMembers::SetNodes(BTreeMap::from([(host, address)])), true).await
}

pub(crate) async fn move_lead(core: &Arc<Core>, to: HostId) -> Result<(), Failure> {
    core.may_write()?;
    if to == core.peers.me {
        return Ok(());
    }
    let _only = core.changing.lock().await;
    let address = core.address(to).ok_or_else(|| Failure::NotWritten("the host is not a member".into()))?;
    let answers = core.peers.ask(to, &address, &Request::Ping).await.is_ok();
    // Who has only just become the leader does not know yet how far the others are.
    let has_caught_up = |metrics: &Metrics| {
        let matched = metrics.replication.as_ref().and_then(|all| *all.get(&to)?);
        matched.is_some_and(|matched| matched.index + BEHIND >= metrics.last_log_index.unwrap_or_default())
    };
    let mut seen = core.metrics.clone();
    if !answers || !timeout(CAUGHT_UP, seen.wait_for(has_caught_up)).await.is_ok_and(|seen| seen.is_ok()) {
        return Err(Failure::NotWritten("the host does not answer, or has not caught up".into()));
    }
    let voters: BTreeSet<_> = core.metrics.borrow().membership_config.voter_ids().collect();
    let moving = Moving::begin(core);
    if !voters.contains(&to) {
        // It takes the vote of one that has it, of this host if there is no other.
        let other = voters.iter().copied().find(|voter| *voter != core.peers.me).unwrap_or(core.peers.me);
        let mut wanted = voters;
        wanted.remove(&other);
        wanted.insert(to);
        change(core, ChangeMembers::ReplaceAllVoters(wanted), true).await?;
    }
    let is_there = |metrics: &Metrics| metrics.current_leader == Some(to);
    for _ in 0..MOVE.as_secs() {
        // The others vote for nobody while they hear from a leader.
        sleep(Duration::from_millis(850)).await;
        drop(core.peers.ask(to, &address, &Request::Elect).await);
        if timeout(Duration::from_millis(400), seen.wait_for(is_there)).await.is_ok_and(|seen| seen.is_ok()) {
            return Ok(());
        }
    }
    drop(moving);
    Err(Failure::NotWritten("the host was not elected; this one goes on leading".into()))
}

/// Lets whichever other host is fittest lead, if this one does and is not the only one.
pub(crate) async fn hand_over(core: &Arc<Core>) -> Result<(), Failure> {
    let status = status(core);
    if status.leader != Some(status.id) || status.members.len() == 1 {
        return Ok(());
    }
    let answers = |member: &&Member| {
        member.id != status.id && member.silent.is_some_and(|silent| silent < voters::ANSWERS)
    };
    let heirs = status.members.iter().filter(answers);
    let heir = heirs.min_by_key(|member| (member.role == Role::Learner, std::cmp::Reverse(member.matched)));
    let nobody = || Failure::NotWritten("no other host answers".into());
    move_lead(core, heir.ok_or_else(nobody)?.id).await
}

/// While it lives this host sends no heartbeats and lets no writer work.
struct Moving<'a>(&'a Core);

impl<'a> Moving<'a> {
    fn begin(core: &'a Core) -> Self {
        core.moving.store(true, Ordering::Release);
        core.raft.runtime_config().heartbeat(false);
        Self(core)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.raft.runtime_config().heartbeat(true);
        self.0.moving.store(false, Ordering::Release);
    }
}

async fn change(core: &Core, members: ChangeMembers<HostId, Address>, retain: bool) -> Result<(), Failure> {
    core.raft.change_membership(members, retain).await.map(drop).map_err(failure)
}

fn failure(error: RaftError<HostId, ClientWriteError<HostId, Address>>) -> Failure {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Failure::NotLeader,
        error => Failure::NotWritten(error.to_string()),
    }
}

/// The hosts whose votes count already. While the voters change, a loss is borne only by those who vote before and
/// after; whoever is told of more believes the cluster safer than it is.
fn settled_voters(metrics: &Metrics) -> BTreeSet<HostId> {
    let membership = &metrics.membership_config;
    if metrics.last_applied < *membership.log_id() {
        return metrics.current_leader.into_iter().collect();
    }
    let configs = membership.membership().get_joint_config();
    let first = configs.first().cloned().unwrap_or_default();
    first.into_iter().filter(|host| configs.iter().all(|config| config.contains(host))).collect()
}

pub(crate) fn status(core: &Core) -> Status {
    let metrics = core.metrics.borrow().clone();
    let membership = metrics.membership_config.membership();
    let voters = settled_voters(&metrics);
    let me = core.peers.me;
    let role = |host: HostId| match host {
        host if metrics.current_leader == Some(host) => Role::Leader,
        host if voters.contains(&host) => Role::Voter,
        _ => Role::Learner,
    };
    let matched = |host: HostId| {
        if host == me {
            return metrics.last_log_index;
        }
        metrics.replication.as_ref().and_then(|all| (*all.get(&host)?).map(|matched| matched.index))
    };
    let members = membership.nodes().map(|(host, address)| Member {
        id: *host,
        address: address.clone(),
        role: role(*host),
        matched: matched(*host),
        silent: if *host == me { Some(Duration::ZERO) } else { core.peers.silent(*host) },
    });
    let writable = match metrics.state {
        ServerState::Leader => core.may_write().is_ok(),
        _ => metrics.current_leader.is_some_and(|leader| {
            leader != me && core.peers.silent(leader).is_some_and(|silent| silent < voters::ANSWERS)
        }),
    };
    Status {
        id: me,
        leader: metrics.current_leader,
        term: metrics.current_term,
        last: metrics.last_log_index.unwrap_or_default(),
        applied: metrics.last_applied.map_or(0, |applied| applied.index),
        schema: core.state.schema(),
        members: members.collect(),
        writable,
        trouble: core.trouble.sentences(),
    }
}
