//! What a host starts by itself: after its own start, the machines that are to be on then, one after the other; and those
//! that ended in a way they should not, after a while that grows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quantix_api::Problem;
use quantix_compute::VmId;
use quantix_host::blocking;

use super::kept::{self, Kept};
use crate::{api::Agent, durable, lock, tasks::boot};

/// What was not taken is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// The first time, and the longest, before a machine is started after a crash.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// A machine that ran for so long has not crashed because of what made it crash before.
const CALM: Duration = Duration::from_secs(10 * 60);

/// What this host starts by itself.
#[derive(Debug, Default)]
pub(crate) struct Starting {
    /// Whether what is to be on after the host's start was seen to, or is.
    has_begun: AtomicBool,
    crashed: Mutex<HashMap<VmId, Crashes>>,
}

#[derive(Clone, Copy, Debug)]
struct Crashes {
    last: Instant,
    pause: Duration,
    waits: bool,
}

impl Starting {
    /// How long is waited before a machine is started after a crash; nothing, if somebody waits already.
    fn pause(&self, id: VmId, now: Instant) -> Option<Duration> {
        let mut crashed = lock(&self.crashed);
        let before = crashed.get(&id).copied();
        let pause = match before {
            Some(before) if before.waits => return None,
            Some(before) if now.duration_since(before.last) < CALM => (before.pause * 2).min(LONGEST),
            _ => SHORTEST,
        };
        crashed.insert(id, Crashes { last: now, pause, waits: true });
        Some(pause)
    }

    fn has_waited(&self, id: VmId, now: Instant) {
        if let Some(crashes) = lock(&self.crashed).get_mut(&id) {
            (crashes.waits, crashes.last) = (false, now);
        }
    }
}

/// Machines in the order in which they are started: those of a number at once, then so long a pause.
fn in_order(vms: &[Kept]) -> Vec<(Vec<VmId>, Duration)> {
    let mut numbers: BTreeMap<u16, (Vec<VmId>, u16)> = BTreeMap::new();
    for vm in vms.iter().filter(|vm| vm.policy.start_at_boot && !vm.policy.template) {
        let (ids, delay) = numbers.entry(vm.policy.boot_order).or_default();
        ids.push(vm.id);
        *delay = (*delay).max(vm.policy.boot_delay);
    }
    numbers.into_values().map(|(ids, delay)| (ids, Duration::from_secs(delay.into()))).collect()
}

impl Agent {
    /// Once in each start of the host: starts the machines that are to be on then.
    pub(super) fn start_what_is_to_be_on(self: &Arc<Self>) {
        if self.starting.has_begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let boot = boot().await;
            let noted = agent.state_dir.join("started-vms-in");
            let read = noted.clone();
            let last = blocking(move || std::fs::read_to_string(read).unwrap_or_default()).await;
            if last.as_deref() == Some(&*boot) {
                return;
            }
            // What this host has on its disk may be of before the last changes: a machine that was made just before the power
            // failed is not in it yet.
            let vms = loop {
                match agent.vms_by_now().await {
                    Ok(vms) => break vms,
                    Err(why) => log::debug!("Machines wait to be started: {why}"),
                }
                tokio::time::sleep(AGAIN).await;
            };
            for (ids, pause) in in_order(&vms) {
                for id in ids {
                    // What is kept of it is of before the host's start.
                    while let Err(why) = agent.keep_vm(id).await {
                        log::debug!("{id} waits to be started: {why}");
                        tokio::time::sleep(AGAIN).await;
                    }
                    agent.ask_for_start(id, "its host has started").await;
                }
                tokio::time::sleep(pause).await;
            }
            let written = blocking(move || durable::write(&noted, boot.as_bytes())).await;
            if let Some(Err(error)) = written {
                log::warn!("That machines were started is not noted: {error}");
            }
        });
    }

    /// The machines of this host, after all that was changed by now.
    async fn vms_by_now(&self) -> Result<Vec<Kept>, Problem> {
        let me = self.cluster.store()?.id();
        self.cluster.catch_up().await?;
        self.cluster.read(move |connection| kept::on_host(connection, me)).await
    }

    /// Starts a machine again that ended in a way it should not, after a while.
    pub(super) fn start_after_crash(self: &Arc<Self>, id: VmId) {
        let Some(pause) = self.starting.pause(id, Instant::now()) else { return };
        log::warn!("{id} has crashed and is started again in {} s", pause.as_secs());
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            agent.ask_for_start(id, "it had crashed").await;
            agent.starting.has_waited(id, Instant::now());
        });
    }

    /// Asks whoever leads to have a machine started; as long as nobody leads, again.
    async fn ask_for_start(&self, id: VmId, why: &str) {
        loop {
            match self.cluster.ask_for_start(id, why).await {
                Err(problem) if problem.is_passing() => tokio::time::sleep(AGAIN).await,
                Err(problem) => return log::info!("{id} is not started: {problem}"),
                Ok(()) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_crashes_again_and_again_is_started_more_and_more_slowly() {
        let (starting, id, start) = (Starting::default(), VmId::new(), Instant::now());
        assert_eq!(starting.pause(id, start), Some(SHORTEST));
        // Somebody waits already.
        assert_eq!(starting.pause(id, start), None);
        let mut last = SHORTEST;
        for _ in 0..10 {
            starting.has_waited(id, start);
            let pause = starting.pause(id, start).unwrap();
            assert!(pause == last * 2 || pause == LONGEST);
            last = pause;
        }
        assert_eq!(last, LONGEST);
        starting.has_waited(id, start);
        assert_eq!(starting.pause(id, start + CALM), Some(SHORTEST));
    }
}
