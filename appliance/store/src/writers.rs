//! The writers' turn: those that wait work one after the other, and what they changed goes to the other hosts together.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};

use crate::{
    raft::Command,
    shared::Core,
    state::{Ask, Failure, Recorded, Writer},
};

/// So many writers go together at most.
const TOGETHER: usize = 128;
/// How long a writer is kept waiting for the other hosts.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many times five milliseconds is waited for a new leader to settle.
const SETTLING: usize = 200;

pub(crate) async fn write(core: Arc<Core>, mut asked: mpsc::Receiver<Box<dyn Writer>>) {
    let mut waiting: VecDeque<Box<dyn Writer>> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(writer) = asked.recv().await else { return };
            waiting.push_back(writer);
        }
        while waiting.len() < TOGETHER
            && let Ok(writer) = asked.try_recv()
        {
            waiting.push_back(writer);
        }
        while core.moving.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        wait_until_settled(&core).await;
        let term = match core.may_write() {
            Ok(term) => term,
            Err(failure) => {
                waiting.drain(..).for_each(|writer| writer.finish(Err(failure.clone())));
                continue;
            }
        };
        let (now, late): (Vec<_>, Vec<_>) =
            waiting.drain(..).partition(|writer| writer.term().is_none_or(|wanted| wanted == term));
        late.into_iter().for_each(|writer| writer.finish(Err(Failure::NotLeader)));
        let Some(mut recorded) = core.state.ask(|answer| Ask::Record(term, now, answer)).await else {
            return;
        };
        waiting.extend(recorded.recording.not_yet.drain(..));
        let done = std::mem::take(&mut recorded.recording.done);
        let outcome = replicate(&core, recorded).await;
        done.into_iter().for_each(|writer| writer.finish(outcome.clone()));
    }
}

/// A host that has just become the leader needs a moment until it has everything in its database.
async fn wait_until_settled(core: &Core) {
    for _ in 0..SETTLING {
        if !core.is_settling() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn replicate(core: &Core, recorded: Recorded) -> Result<u64, Failure> {
    let Recorded { change, mut outcome, .. } = recorded;
    if change.changesets.is_empty() {
        // Nothing changed, which is true only if this host still leads.
        return core.read_index().await;
    }
    let sent = core.raft.client_write_ff(Command::Change(change)).await;
    let answer = sent.map_err(|error| Failure::NotWritten(error.to_string()))?;
    let told = async {
        tokio::select! {
            told = &mut outcome => told.ok(),
            answer = answer => match answer {
                Ok(Err(openraft::error::ClientWriteError::ForwardToLeader(_))) => Some(Err(Failure::NotLeader)),
                _ => outcome.await.ok(),
            }
        }
    };
    match timeout(PATIENCE, told).await {
        Ok(Some(told)) => told,
        Ok(None) => Err(Failure::Unknown("the database has another state now".into())),
        Err(_) => Err(Failure::Unknown("too few hosts have answered so far".into())),
    }
}
