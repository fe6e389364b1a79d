//! The connection to libvirt. Its calls block, and may block for ever, so they are made by a few threads of their own;
//! a connection serves all of them at once. When the daemon is restarted the next call finds it again.

use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use quantix_api::VmState;
use tokio::{
    sync::{broadcast, oneshot, watch},
    time::timeout,
};
use virt::{
    connect::Connect,
    domain::{Domain, DomainPausedReason, DomainShutoffReason, DomainState, DomainStateReason},
    enumutil::Enum,
    error::{Error, ErrorNumber},
};

use super::{
    console::{self, Console, Line},
    events::{self, Event, Hearing},
    kept::{self, Watched},
    layers,
};
use crate::model::id::VmId;

const THREADS: usize = 8;
/// Questions that wait for a thread; more are turned away.
const QUEUE: usize = 1024;
/// Events that wait for whoever reads them.
const EVENTS: usize = 1024;
/// What only looks is answered soon.
pub(super) const LOOKS_WITHIN: Duration = Duration::from_secs(10);
/// Starting a machine may wait for its volumes.
const ACTS_WITHIN: Duration = Duration::from_secs(120);
/// To keep a machine's memory, or to wake it with one, takes as long as it takes to write and read it.
pub(super) const HOLDS_WITHIN: Duration = Duration::from_secs(3600);
/// A daemon that does not say for so many seconds, so many times, that it is alive has gone.
const KEEP_ALIVE: (i32, u32) = (5, 5);

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// There is no such machine.
    #[error("libvirt does not know this machine")]
    Unknown,
    /// Nobody answers.
    #[error("libvirt does not answer: {0}")]
    Away(String),
    /// It is not known whether it was done.
    #[error("libvirt did not answer within {} seconds", .0.as_secs())]
    Hangs(Duration),
    /// Somebody else has it.
    #[error("somebody else has it")]
    Busy,
    /// It was refused.
    #[error("libvirt: {0}")]
    Refused(String),
}

/// A machine as libvirt sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The machine.
    pub id: VmId,
    /// What libvirt calls it.
    pub name: String,
    /// How it is.
    pub state: VmState,
    /// Whether it stands still because one of its disks could not be written.
    pub cannot_write: bool,
}

type Work = Box<dyn FnOnce(&Shared) + Send>;

tokio::task_local! {
    static WENT_AWAY: Cell<bool>;
}

/// Does something, and says besides whether libvirt, which had answered before, did not answer anything that was asked of it:
/// then it may have failed for no other reason.
pub async fn noticing_absence<T>(work: impl Future<Output = T>) -> (T, bool) {
    // All steps of all tasks are in this: on the stack there is no room for it.
    let work = Box::pin(work);
    WENT_AWAY.scope(Cell::new(false), async { (work.await, WENT_AWAY.with(Cell::get)) }).await
}

/// The way to libvirt.
#[derive(Debug)]
pub struct Libvirt {
    address: String,
    questions: mpsc::SyncSender<Work>,
    events: broadcast::Sender<Event>,
    connections: watch::Sender<u64>,
    _watched: Option<Watched>,
}

struct Shared {
    address: String,
    /// Where libvirt notes what the machines that are on consist of.
    running: PathBuf,
    hearing: Mutex<Option<Hearing>>,
    events: broadcast::Sender<Event>,
    connections: watch::Sender<u64>,
}

impl Libvirt {
    /// Readies the threads, and watches the folder in which libvirt keeps descriptions. Whether libvirt is there, at its socket,
    /// is seen with the first question.
    pub fn open(socket: &Path, kept: &Path) -> io::Result<Self> {
        events::listen().map_err(io::Error::other)?;
        let (questions, asked) = mpsc::sync_channel::<Work>(QUEUE);
        let events = broadcast::Sender::new(EVENTS);
        let watched = kept::watch(kept, events.clone());
        let watched =
            watched.inspect_err(|error| log::warn!("{} is not watched: {error}", kept.display())).ok();
        let connections = watch::Sender::new(0);
        let address = format!("qemu+unix:///system?socket={}", socket.display());
        let shared = Shared {
            address: address.clone(),
            running: socket.with_file_name("qemu"),
            hearing: Mutex::default(),
            events: events.clone(),
            connections: connections.clone(),
        };
        let (shared, asked) = (Arc::new(shared), Arc::new(Mutex::new(asked)));
        for number in 0..THREADS {
            let (shared, asked) = (Arc::clone(&shared), Arc::clone(&asked));
            std::thread::Builder::new().name(format!("libvirt-{number}")).spawn(move || {
                // Ends when the last sender is gone.
                while let Ok(work) = { lock(&asked).recv() } {
                    work(&shared);
                }
            })?;
        }
        Ok(Self { address, questions, events, connections, _watched: watched })
    }

    /// What happens to machines from now on. Whoever reads too slowly is told so and must look at all of them.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Counts the connections: what happened before each but the first, and after the one before it, was told to nobody.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    pub(super) async fn ask<R: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(&Connect) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Failed> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |shared: &Shared| {
            // Nobody waits any more: what nobody waits for is not begun.
            if !sender.is_closed() {
                let _ = sender.send(shared.answer(work));
            }
        });
        let busy = || Failed::Away("too much was asked at once".to_owned());
        self.questions.try_send(work).map_err(|_| busy())?;
        let answer = match timeout(within, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failed::Away("the thread that asks it has ended".to_owned())),
            Err(_) => Err(Failed::Hangs(within)),
        };
        if matches!(answer, Err(Failed::Away(_))) && *self.connections.borrow() > 0 {
            // Nobody may be listening.
            WENT_AWAY.try_with(|away| away.set(true)).unwrap_or_default();
        }
        answer
    }

    pub(super) async fn act(
        &self,
        id: VmId,
        act: impl FnOnce(&Domain) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Failed> {
        self.ask(ACTS_WITHIN, move |connection| act(&connection.lookup_domain_by_uuid(id.0)?)).await
    }

    /// The daemon's version.
    pub async fn version(&self) -> Result<String, Failed> {
        let version = self.ask(LOOKS_WITHIN, Connect::lib_version).await?;
        Ok(format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000))
    }

    /// All machines that libvirt knows of, by their ids.
    pub async fn all(&self) -> Result<HashMap<VmId, Seen>, Failed> {
        self.ask(LOOKS_WITHIN, |connection| {
            let domains = connection.list_all_domains(0)?;
            // One that is forgotten while it is looked at is one less.
            Ok(domains.iter().filter_map(|domain| seen(domain).ok()).map(|seen| (seen.id, seen)).collect())
        })
        .await
    }

    /// One machine.
    pub async fn look(&self, id: VmId) -> Result<Seen, Failed> {
        self.ask(LOOKS_WITHIN, move |connection| seen(&connection.lookup_domain_by_uuid(id.0)?)).await
    }

    /// One machine that was on or asleep when it was seen last. Whoever knows that need not be told by libvirt, which takes one
    /// that sleeps for one that is off since it was described to it anew.
    pub async fn look_closely(&self, id: VmId) -> Result<Seen, Failed> {
        self.ask(LOOKS_WITHIN, move |connection| {
            let domain = connection.lookup_domain_by_uuid(id.0)?;
            let first = seen(&domain)?;
            if first.state != VmState::Stopped {
                return Ok(first);
            }
            if layers::has_memory(&domain)? {
                return Ok(Seen { state: VmState::Suspended, ..first });
            }
            // One that was woken between the questions has none any more.
            if domain.is_active()? { seen(&domain) } else { Ok(first) }
        })
        .await
    }

    /// Describes a machine, new or anew. What runs goes on as it was described before, until it is switched off.
    pub async fn define(&self, description: String) -> Result<(), Failed> {
        // The library by which libvirt checks descriptions makes itself ready at the first, and fails if two are the first.
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = ONE_AT_A_TIME.lock().await;
        let check = virt_sys::VIR_DOMAIN_DEFINE_VALIDATE;
        let define =
            move |connection: &Connect| connection.define_domain_xml_flags(&description, check).map(drop);
        self.ask(ACTS_WITHIN, define).await
    }

    /// The description of a machine as it is kept.
    pub async fn description(&self, id: VmId) -> Result<String, Failed> {
        let kept = virt_sys::VIR_DOMAIN_XML_INACTIVE;
        self.ask(LOOKS_WITHIN, move |connection| connection.lookup_domain_by_uuid(id.0)?.xml_desc(kept)).await
    }

    /// How many snapshots of a machine libvirt has.
    pub async fn snapshots(&self, id: VmId) -> Result<u32, Failed> {
        self.ask(LOOKS_WITHIN, move |connection| connection.lookup_domain_by_uuid(id.0)?.num_snapshots(0))
            .await
    }

    /// Forgets a machine that is off, with all that libvirt keeps of it. One that is not known is forgotten.
    pub async fn forget(&self, id: VmId) -> Result<(), Failed> {
        let everything = virt_sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | virt_sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | virt_sys::VIR_DOMAIN_UNDEFINE_NVRAM
            | virt_sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | virt_sys::VIR_DOMAIN_UNDEFINE_TPM;
        match self.act(id, move |domain| domain.undefine_flags(everything)).await {
            Err(Failed::Unknown) => Ok(()),
            forgotten => forgotten,
        }
    }

    /// Switches a machine on, or wakes it; if so, it stands still before its first instruction.
    pub async fn start(&self, id: VmId, stands_still: bool) -> Result<(), Failed> {
        let flags = if stands_still { virt_sys::VIR_DOMAIN_START_PAUSED } else { virt_sys::VIR_DOMAIN_NONE };
        self.act(id, move |domain| domain.create_with_flags(flags).map(drop)).await
    }

    /// Asks a guest to end.
    pub async fn shut_down(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| domain.shutdown()).await
    }

    /// Asks a guest to start anew.
    pub async fn reboot(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| domain.reboot(virt_sys::VIR_DOMAIN_REBOOT_DEFAULT)).await
    }

    /// Switches a machine off, and gives up its memory if that is on disk. One that is off is off.
    pub async fn force_stop(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| {
            match domain.destroy() {
                // While it was on there was no memory on disk.
                Ok(()) => Ok(()),
                // While a daemon that was restarted finds its machines again, it takes the end of one for a fault.
                Err(error) if domain.is_active()? => Err(error),
                Err(_) if layers::has_memory(domain)? => domain.managed_save_remove(0),
                Err(_) => Ok(()),
            }
        })
        .await
    }

    /// Starts a machine anew.
    pub async fn reset(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| domain.reset()).await
    }

    /// Lets a machine stand still.
    pub async fn pause(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| domain.suspend()).await
    }

    /// Lets a machine go on.
    pub async fn resume(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| match domain.resume() {
            // One that was told so just before libvirt ended goes on already.
            Err(error) if seen(domain)?.state != VmState::Running => Err(error),
            _ => Ok(()),
        })
        .await
    }

    /// The description of a machine that is on, as it is now.
    pub async fn running(&self, id: VmId) -> Result<String, Failed> {
        self.ask(LOOKS_WITHIN, move |connection| connection.lookup_domain_by_uuid(id.0)?.xml_desc(0)).await
    }

    /// Plugs something into a machine that is on, until it is switched off.
    pub async fn plug_in(&self, id: VmId, device: String) -> Result<(), Failed> {
        let live = virt_sys::VIR_DOMAIN_AFFECT_LIVE;
        self.act(id, move |domain| domain.attach_device_flags(&device, live).map(drop)).await
    }

    /// Changes something that a machine that is on has, until it is switched off.
    pub async fn change_device(&self, id: VmId, device: String) -> Result<(), Failed> {
        let live = virt_sys::VIR_DOMAIN_AFFECT_LIVE;
        self.act(id, move |domain| domain.update_device_flags(&device, live)).await
    }

    /// Asks the guest of a machine that is on to give something back. When it has, the machine's description is without it.
    pub async fn unplug(&self, id: VmId, device: String) -> Result<(), Failed> {
        let live = virt_sys::VIR_DOMAIN_AFFECT_LIVE;
        self.act(id, move |domain| domain.detach_device_flags(&device, live)).await
    }

    /// Gives a machine that is on so many processors.
    pub async fn set_processors(&self, id: VmId, count: u32) -> Result<(), Failed> {
        self.act(id, move |domain| domain.set_vcpus_flags(count, virt_sys::VIR_DOMAIN_VCPU_LIVE).map(drop))
            .await
    }

    /// Makes a disk of a machine that is on bigger, for its guest to see.
    pub async fn grow_disk(&self, id: VmId, disk: String, bytes: u64) -> Result<(), Failed> {
        self.act(id, move |domain| domain.block_resize(&disk, bytes, virt_sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES))
            .await
    }

    /// The screen of a machine that is on, for a VNC client.
    pub async fn screen(&self, id: VmId) -> Result<Box<dyn Console>, Failed> {
        let open = move |connection: &Connect| console::screen(&connection.lookup_domain_by_uuid(id.0)?);
        let file = self.ask(ACTS_WITHIN, open).await?;
        let stream = console::screen_of(file).map_err(|error| Failed::Refused(error.to_string()))?;
        Ok(Box::new(stream))
    }

    /// A picture of the screen of a machine that is on, as PNG.
    pub async fn picture(&self, id: VmId) -> Result<Vec<u8>, Failed> {
        let take = move |connection: &Connect| {
            console::picture(connection, &connection.lookup_domain_by_uuid(id.0)?)
        };
        let (kind, picture) = self.ask(LOOKS_WITHIN, take).await?;
        match kind.as_str() {
            "image/png" if picture.len() <= console::LARGEST_PICTURE => Ok(picture),
            "image/png" => Err(Failed::Refused("the picture of the screen is too large".to_owned())),
            other => Err(Failed::Refused(format!("the picture of the screen is {other}, and not PNG"))),
        }
    }

    /// The serial line of a machine that is on. There is one at a time; `take_over` ends the one there is.
    pub async fn serial_line(&self, id: VmId, take_over: bool) -> Result<Box<dyn Console>, Failed> {
        let address = self.address.clone();
        let open = move |_: &Connect| {
            let own = Connect::open(Some(&address))?;
            own.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)?;
            let domain = own.lookup_domain_by_uuid(id.0)?;
            Line::open(own, &domain, take_over)
        };
        match self.ask(ACTS_WITHIN, open).await {
            Ok(line) => Ok(Box::new(line.into_console())),
            // There is no code for it.
            Err(Failed::Refused(why)) if why.contains("Active console session") => Err(Failed::Busy),
            Err(failed) => Err(failed),
        }
    }

    /// Puts a machine's memory on disk and switches it off.
    pub async fn suspend(&self, id: VmId) -> Result<(), Failed> {
        self.act(id, |domain| domain.managed_save(0)).await
    }
}

impl Shared {
    fn answer<R>(&self, work: impl FnOnce(&Connect) -> Result<R, Error>) -> Result<R, Failed> {
        let connection = self.connection()?;
        work(&connection).map_err(|error| {
            if connection.is_alive() == Ok(true) {
                return failed(&error);
            }
            // The daemon was restarted; the next connection reaches the new one.
            lock(&self.hearing).take();
            Failed::Away(error.message().to_owned())
        })
    }

    /// The connection, which is opened if it is not open.
    fn connection(&self) -> Result<Connect, Failed> {
        let away = |error: Error| Failed::Away(error.message().to_owned());
        let mut kept = lock(&self.hearing);
        if let Some(open) = kept.as_ref().map(Hearing::connection)
            && open.is_alive() == Ok(true)
        {
            return Ok(open.clone());
        }
        let open = Connect::open(Some(&self.address)).map_err(away)?;
        open.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1).map_err(away)?;
        let told = self.events.clone();
        let mut hearing = Hearing::begin(open, move |event| drop(told.send(event))).map_err(away)?;
        // With the first daemon of a host the folder comes, too.
        let watched = kept::watch(&self.running, self.events.clone());
        hearing.watched = watched.inspect_err(|error| log::warn!("{}: {error}", self.running.display())).ok();
        let open = kept.insert(hearing).connection().clone();
        self.connections.send_modify(|connections| *connections += 1);
        Ok(open)
    }
}

fn failed(error: &Error) -> Failed {
    match error.code() {
        Enum::Known(ErrorNumber::NoDomain) => Failed::Unknown,
        _ => Failed::Refused(error.message().to_owned()),
    }
}

fn seen(domain: &Domain) -> Result<Seen, Error> {
    let (state, reason) = domain.state()?;
    let went_wrong = matches!(
        reason,
        Enum::Known(DomainStateReason::Shutoff(Enum::Known(
            DomainShutoffReason::Crashed | DomainShutoffReason::Failed
        )))
    );
    // QEMU stands still before its first instruction.
    let begins =
        matches!(reason, Enum::Known(DomainStateReason::Paused(Enum::Known(DomainPausedReason::StartingUp))));
    let cannot_write =
        matches!(reason, Enum::Known(DomainStateReason::Paused(Enum::Known(DomainPausedReason::IOError))));
    let state = match state {
        Enum::Known(DomainState::Paused) if begins => VmState::Starting,
        Enum::Known(DomainState::Running | DomainState::Blocked) => VmState::Running,
        Enum::Known(DomainState::Paused | DomainState::PMSuspended) => VmState::Paused,
        Enum::Known(DomainState::Shutdown) => VmState::Stopping,
        Enum::Known(DomainState::Shutoff) if domain.has_managed_save(0)? => VmState::Suspended,
        Enum::Known(DomainState::Shutoff) if went_wrong => VmState::Crashed,
        Enum::Known(DomainState::Shutoff) => VmState::Stopped,
        Enum::Known(DomainState::Crashed) => VmState::Crashed,
        Enum::Known(DomainState::NoState) | Enum::Unknown(_) => VmState::Unknown,
    };
    Ok(Seen { id: VmId(domain.uuid()?), name: domain.name()?, state, cannot_write })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
