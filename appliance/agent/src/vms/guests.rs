//! What each host knows of the guests of its machines: what their agents tell, where there are some. That an agent comes or
//! goes libvirt tells; what changes in a guest nothing tells, and so those that answered are asked again now and then.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use quantix_api::VmState;
use quantix_compute::{Failed, Happened, VmId};
use tokio::sync::broadcast::error::RecvError;

use super::kept;
use crate::api::Agent;

/// Guests that answered are asked again so often.
const AGAIN: Duration = Duration::from_secs(30);
/// A guest that was just started has no addresses yet.
const SOON: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 20;
/// How often, and how long between, a guest is asked for what it may not be able to do yet.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(2);

impl Agent {
    /// Asks the guests of this host's machines, for as long as the program runs.
    pub(crate) async fn keep_guests(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let mut events = self.libvirt.events();
        let mut connections = self.libvirt.connections();
        // Those that answered, and how often they were asked again at once since their agent came.
        let mut answered: HashMap<VmId, usize> = HashMap::new();
        let mut again = tokio::time::interval(AGAIN);
        let mut soon = tokio::time::interval(SOON);
        let mut fresh: HashSet<VmId> = HashSet::new();
        loop {
            let mut ask: HashSet<VmId> = HashSet::new();
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) if event.happened == Happened::Agent => {
                        answered.remove(&event.id);
                        ask.insert(event.id);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => ask.extend(self.on_here(store.id()).await),
                    Err(RecvError::Closed) => return,
                },
                // What happened while nobody listened was told to nobody.
                _ = connections.changed() => ask.extend(self.on_here(store.id()).await),
                _ = soon.tick(), if !fresh.is_empty() => ask.extend(fresh.drain()),
                _ = again.tick() => ask.extend(answered.keys().copied()),
            }
            for id in ask {
                match self.ask_guest(id).await {
                    Ok(None) => drop(answered.remove(&id)),
                    Ok(Some(has_addresses)) => {
                        let asked = answered.entry(id).or_default();
                        // A card that nobody gives an address may stay without for ever.
                        if !has_addresses && *asked < AT_ONCE {
                            *asked += 1;
                            fresh.insert(id);
                        }
                    }
                    Err(why) => log::debug!("The guest of {id} cannot be asked: {why}"),
                }
            }
        }
    }

    /// The machines of this host that are on.
    async fn on_here(&self, me: quantix_store::HostId) -> Vec<VmId> {
        let all = self.cluster.read(move |connection| kept::on_host(connection, me)).await;
        let on = all.unwrap_or_default().into_iter().filter(|vm| vm.seen.is_on());
        on.map(|vm| vm.id).collect()
    }

    /// Asks a guest, and tells what it says: whether it has addresses, or nothing if it has no agent that answers.
    async fn ask_guest(&self, id: VmId) -> Result<Option<bool>, String> {
        let guest = match self.libvirt.guest(id).await {
            Ok(guest) => guest,
            // It is off, or gone.
            Err(Failed::Unknown | Failed::Refused(_)) => None,
            Err(failed) => return Err(failed.to_string()),
        };
        let has_addresses =
            guest.as_ref().map(|guest| guest.cards.iter().all(|card| !card.addresses.is_empty()));
        self.tell_of_vm(id, |more| more.guest = guest).await?;
        Ok(has_addresses)
    }

    /// Lets the clock of a guest that woke be right, if it has an agent.
    pub(crate) fn set_clock_of(self: &Arc<Self>, id: VmId) {
        self.has_its_guest(
            id,
            "sets its clock",
            move |agent| async move { agent.libvirt.set_clock(id).await },
        );
    }

    /// Lets a guest use the processors that it was given, if it has an agent.
    pub(super) fn use_processors_of(self: &Arc<Self>, id: VmId, count: u32) {
        let what = "uses what processors it has";
        self.has_its_guest(
            id,
            what,
            move |agent| async move { agent.libvirt.use_processors(id, count).await },
        );
    }

    /// Asks a guest to do something that it may be able to do only a little later.
    fn has_its_guest<Done: Future<Output = Result<(), Failed>> + Send>(
        self: &Arc<Self>,
        id: VmId,
        what: &'static str,
        deed: impl Fn(Arc<Self>) -> Done + Send + 'static,
    ) {
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            for _ in 0..TRIES {
                tokio::time::sleep(PAUSE).await;
                match agent.libvirt.look(id).await {
                    Ok(seen) if seen.state == VmState::Running => {}
                    _ => return,
                }
                if deed(Arc::clone(&agent)).await.is_ok() {
                    log::info!("The guest of {id} {what}");
                    return;
                }
            }
        });
    }
}
