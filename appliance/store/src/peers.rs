//! The other hosts: links to them, when they were heard last, and whether they are who they were.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use crate::{
    frame::{self, FORM, Introduction, Link, Reached, Refusal, Request, Response, Welcome},
    log::{Log, Marks},
    raft::{Address, HostId, Metrics},
};

/// Links to one host that wait to be used again.
const IDLE: usize = 4;
/// How long it may take to reach a host and to be welcomed.
const REACH: Duration = Duration::from_secs(5);
/// How long an answer may take, which may have to wait for a disk.
const ANSWER: Duration = Duration::from_secs(10);
/// Under this and its id the log keeps what is known of a host.
const MARK: &str = "host-";

/// How hosts reach each other. Whoever implements it proves who is at the other end.
pub trait Dial: Send + Sync + 'static {
    /// Opens a link to this host and no other.
    fn dial(&self, host: HostId, address: &Address) -> Dialled;
}

/// A link that is being opened.
pub type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Link>>> + Send>>;

/// What a host told of itself, kept over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    boots: u64,
    boot: u64,
    knows: u32,
}

#[derive(Default)]
struct Known {
    told: Told,
    reached: Reached,
    heard: Option<Instant>,
    /// Links are of one address and are not used after it has changed.
    address: Address,
    idle: Vec<Box<dyn Link>>,
    /// Why it does not answer, if it does not.
    unreachable: Option<String>,
    /// Only one link at a time is opened to a host.
    opening: Arc<tokio::sync::Mutex<()>>,
}

/// What the others made of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was removed from the cluster.
    Removed,
    /// Its disk was put back to an earlier time.
    Older,
}

pub(crate) struct Peers {
    pub(crate) me: HostId,
    boots: u64,
    boot: u64,
    knows: u32,
    dial: Box<dyn Dial>,
    pub(crate) log: Log,
    known: Mutex<HashMap<HostId, Known>>,
    metrics: OnceLock<watch::Receiver<Metrics>>,
    verdict: watch::Sender<Option<Verdict>>,
}

impl Peers {
    pub(crate) fn new(
        me: HostId,
        boots: u64,
        knows: u32,
        dial: Box<dyn Dial>,
        log: Log,
        marks: &Marks,
    ) -> Self {
        let known = marks.iter().filter_map(|(name, value)| {
            let host = u64::from_str_radix(name.strip_prefix(MARK)?, 16).ok()?;
            let told = postcard::from_bytes(value).ok()?;
            Some((HostId(host), Known { told, ..Known::default() }))
        });
        Self {
            me,
            boots,
            boot: rand::random(),
            knows,
            dial,
            known: Mutex::new(known.collect()),
            log,
            metrics: OnceLock::new(),
            verdict: watch::Sender::new(None),
        }
    }

    /// From now on introductions say which members this host knows.
    pub(crate) fn follow(&self, metrics: watch::Receiver<Metrics>) {
        // It is set once, when the host starts.
        drop(self.metrics.set(metrics));
    }

    pub(crate) fn verdict(&self) -> watch::Receiver<Option<Verdict>> {
        self.verdict.subscribe()
    }

    /// How long this host has not been heard; nothing if never.
    pub(crate) fn silent(&self, host: HostId) -> Option<Duration> {
        self.known().get(&host)?.heard.map(|heard| heard.elapsed())
    }

    /// How many steps of the schema the version on this host knows; nothing if it never said.
    pub(crate) fn knows(&self, host: HostId) -> Option<u32> {
        if host == self.me {
            return Some(self.knows);
        }
        self.known().get(&host).filter(|known| known.told.boots > 0).map(|known| known.told.knows)
    }

    pub(crate) fn heard(&self, host: HostId) {
        if let Some(known) = self.known().get_mut(&host) {
            known.heard = Some(Instant::now());
        }
    }

    /// Asks a host something. A link that broke while it was idle is replaced.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        host: HostId,
        address: &Address,
        request: &Request,
    ) -> io::Result<Response> {
        if let Some(mut link) = self.take(host, address) {
            match exchange(&mut *link, request).await {
                Ok(response) => {
                    self.give_back(host, address, link);
                    return Ok(response);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                Err(_) => {}
            }
        }
        let mut link = self.link(host, address).await?;
        let response = exchange(&mut *link, request).await?;
        self.give_back(host, address, link);
        Ok(response)
    }

    /// A link to a host, for a while.
    pub(crate) async fn link(self: &Arc<Self>, host: HostId, address: &Address) -> io::Result<Box<dyn Link>> {
        let opening = Arc::clone(&self.known().entry(host).or_default().opening);
        let Ok(only) = Arc::clone(&opening).try_lock_owned() else {
            // Somebody opens one already; many may wait for it.
            drop(opening.lock().await);
            return self.take(host, address).ok_or_else(|| io::ErrorKind::NotConnected.into());
        };
        let (peers, to) = (Arc::clone(self), address.clone());
        // Whoever waits may give up long before the link is there; the next one finds it then.
        let opened = tokio::spawn(async move {
            let _only = only;
            if let Some(link) = peers.take(host, &to) {
                peers.give_back(host, &to, link);
                return Ok(());
            }
            let opened = timeout(REACH, peers.open(host, &to)).await;
            let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            peers.tell(host, &to, opened.as_ref().err());
            let link = opened?;
            peers.give_back(host, &to, link);
            io::Result::Ok(())
        });
        opened.await.map_err(io::Error::other)??;
        self.take(host, address).ok_or_else(|| io::Error::other("the link is in use"))
    }

    pub(crate) fn take(&self, host: HostId, address: &Address) -> Option<Box<dyn Link>> {
        let mut all = self.known();
        let known = all.get_mut(&host)?;
        if known.address == *address {
            return known.idle.pop();
        }
        known.address = address.clone();
        known.idle.clear();
        None
    }

    pub(crate) fn give_back(&self, host: HostId, address: &Address, link: Box<dyn Link>) {
        let mut all = self.known();
        let known = all.entry(host).or_default();
        known.heard = Some(Instant::now());
        if known.address != *address {
            known.address = address.clone();
            known.idle.clear();
        }
        if known.idle.len() < IDLE {
            known.idle.push(link);
        }
    }

    /// Says in the log when a host stops or begins to answer, and not in between.
    fn tell(&self, host: HostId, address: &Address, error: Option<&io::Error>) {
        let why = error.map(ToString::to_string);
        let mut all = self.known();
        let known = all.entry(host).or_default();
        if known.unreachable == why {
            return;
        }
        match &why {
            Some(why) => log::warn!(host:%; "Host {host} at {address} does not answer: {why}"),
            None => log::info!(host:%; "Host {host} at {address} answers"),
        }
        known.unreachable = why;
    }

    async fn open(&self, host: HostId, address: &Address) -> io::Result<Box<dyn Link>> {
        let mut link = self.dial.dial(host, address).await?;
        frame::send(&mut *link, &self.introduction(host)).await?;
        match frame::receive(&mut *link, frame::SMALL).await? {
            Welcome::Come(introduction) if introduction.from == host => {
                self.meet(&introduction)
                    .await
                    .map_err(|refusal| io::Error::other(format!("{host}: {refusal}")))?;
                Ok(link)
            }
            Welcome::Come(_) => Err(io::Error::other(Refusal::OtherHost)),
            Welcome::No(refusal) => {
                self.consider(&refusal);
                Err(io::Error::other(format!("refused by {host}: {refusal}")))
            }
        }
    }

    pub(crate) fn introduction(&self, to: HostId) -> Introduction {
        Introduction {
            form: FORM,
            from: self.me,
            to,
            boots: self.boots,
            boot: self.boot,
            reached: self.log.reached(),
            knows: self.knows,
            members_at: self.metrics.get().and_then(|metrics| *metrics.borrow().membership_config.log_id()),
        }
    }

    /// Whether to answer a host that introduces itself. One that knows newer members than this host may be among them.
    pub(crate) async fn admit(&self, other: &Introduction) -> Result<(), Refusal> {
        if let Some(metrics) = self.metrics.get() {
            let metrics = metrics.borrow();
            let ours = metrics.membership_config.log_id();
            if *ours > other.members_at
                && metrics.membership_config.membership().get_node(&other.from).is_none()
            {
                return Err(Refusal::NotAMember(*ours));
            }
        }
        self.meet(other).await
    }

    /// Whether to talk to a host, and that it is still who it was. What it tells is kept before it counts.
    pub(crate) async fn meet(&self, other: &Introduction) -> Result<(), Refusal> {
        if other.form != FORM {
            return Err(Refusal::OtherForm(FORM));
        }
        if other.to != self.me {
            return Err(Refusal::OtherHost);
        }
        let told = Told { boots: other.boots, boot: other.boot, knows: other.knows };
        let is_new = {
            let mut all = self.known();
            let known = all.entry(other.from).or_default();
            let is_older = told.boots < known.told.boots
                || told.boots == known.told.boots && told.boot != known.told.boot
                || other.reached < known.reached;
            if is_older {
                return Err(Refusal::Older);
            }
            known.reached = other.reached;
            known.heard = Some(Instant::now());
            std::mem::replace(&mut known.told, told) != told
        };
        if is_new {
            let value = postcard::to_stdvec(&told).unwrap_or_default();
            // A log that cannot be written stops the host by itself.
            drop(self.log.mark(format!("{MARK}{:x}", other.from.0), value).await);
        }
        Ok(())
    }

    /// What to make of being refused. A host that nobody has added yet makes nothing of it.
    fn consider(&self, refusal: &Refusal) {
        let Some(metrics) = self.metrics.get() else { return };
        let membership = Arc::clone(&metrics.borrow().membership_config);
        if membership.membership().get_node(&self.me).is_none() {
            return;
        }
        match refusal {
            Refusal::NotAMember(as_of) if as_of > membership.log_id() => {
                self.verdict.send_replace(Some(Verdict::Removed));
            }
            Refusal::Older => {
                self.verdict.send_replace(Some(Verdict::Older));
            }
            _ => {}
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<HostId, Known>> {
        crate::lock(&self.known)
    }
}

/// Asks and waits, but not for ever: a host whose power is gone does not even say that it is gone.
async fn exchange(link: &mut dyn Link, request: &Request) -> io::Result<Response> {
    let answered = async {
        frame::send(link, request).await?;
        frame::receive(link, frame::LARGE).await
    };
    timeout(ANSWER, answered).await.map_err(io::Error::other)?
}
