//! This host's part of the cluster: its store, opened as soon as the disk allows, and what proves to other hosts that
//! it is a member.

mod authority;
mod backup;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod join;
pub(crate) mod kept;
mod leave;
mod member;
mod node;
mod recover;
mod refusals;
mod schema;
mod token;
pub(crate) mod told;
mod transport;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quantix_api::{CLUSTER_PORT, Check, CheckState, Problem, ProblemCode};
use quantix_host::blocking;
use quantix_store::{Address, Failure, HostId, Store, WriteError};
use rusqlite::Connection;
use tokio::sync::{Notify, watch};

pub(crate) use authority::fingerprint;
pub(crate) use member::Contact;
pub(crate) use node::{FromHost, serve};
pub(crate) use token::JoinToken;

use crate::{
    api,
    audit::{self, Line},
    sessions::now,
    storage,
    throttle::Throttle,
    vms,
};
use member::Member;
use transport::{Dialler, Identity};

/// How often a store that does not open is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A certificate is valid for this many years after the one it was made in.
const YEARS: i32 = 2;
/// It is renewed long before it ends.
const RENEW: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// How the store stands.
#[derive(Clone)]
enum Standing {
    /// Not open, and why, if it was tried.
    Closed(Option<String>),
    Open(Arc<Store>),
}

/// This host's part of the cluster.
pub(crate) struct Cluster {
    /// What makes this host the member it is.
    folder: PathBuf,
    /// What will, once it has joined another cluster.
    joining: PathBuf,
    /// Where its pools are, from which other hosts bring images.
    pools_dir: PathBuf,
    listen: SocketAddr,
    dialler: Dialler,
    standing: watch::Sender<Standing>,
    /// The store while it is not a member yet: other hosts may speak to it, people may not.
    arriving: watch::Sender<Option<Arc<Store>>>,
    strangers: std::sync::Mutex<Throttle>,
    refusals: refusals::Refusals,
    /// One at a time.
    membership: tokio::sync::Mutex<()>,
    backing_up: Arc<tokio::sync::Mutex<()>>,
    start_again: Notify,
}

impl Cluster {
    /// The one whose data is below `state_dir`, and which other hosts reach at `listen`.
    pub(crate) fn new(state_dir: &Path, pools_dir: &Path, listen: SocketAddr) -> Self {
        Self {
            folder: state_dir.join("cluster"),
            joining: state_dir.join("cluster-joining"),
            pools_dir: pools_dir.to_owned(),
            listen,
            dialler: Dialler::default(),
            standing: watch::Sender::new(Standing::Closed(None)),
            arriving: watch::Sender::new(None),
            strangers: std::sync::Mutex::default(),
            refusals: refusals::Refusals::default(),
            membership: tokio::sync::Mutex::default(),
            backing_up: Arc::default(),
            start_again: Notify::new(),
        }
    }

    /// Opens the store, however long that takes, and gives it when it belongs to a cluster.
    pub(crate) async fn open(&self) -> Arc<Store> {
        loop {
            match self.try_open().await {
                Ok(store) => {
                    self.arriving.send_replace(Some(Arc::clone(&store)));
                    self.arrive(&store).await;
                    self.wait_for_tables(&store).await;
                    self.standing.send_replace(Standing::Open(Arc::clone(&store)));
                    return store;
                }
                Err(why) => {
                    log::error!("{why}");
                    self.standing.send_replace(Standing::Closed(Some(why)));
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_open(&self) -> Result<Arc<Store>, String> {
        let finished = self.finish_switch().and_then(|()| self.finish_backup());
        finished.map_err(|error| format!("{}: {error}", self.folder.display()))?;
        self.recover_if_told()?;
        let dial = Box::new(self.dialler.clone());
        let store = Store::open(&self.folder.join("store"), schema::SCHEMA, dial).await;
        let store = store.map_err(|error| error.to_string())?;
        if let Some(member) = Member::read(&self.folder)? {
            self.dialler.set(Arc::new(member.identity()?));
        }
        Ok(Arc::new(store))
    }

    /// A host that was let into a cluster asks until it is there; another is a cluster of its own.
    async fn arrive(&self, store: &Arc<Store>) {
        while !store.is_member() {
            let contacts =
                Member::read(&self.folder).ok().flatten().map(|member| member.contacts).unwrap_or_default();
            if contacts.is_empty() {
                // It is reached nowhere until there is somebody to reach it.
                match store.found(Address::default()).await {
                    Ok(()) => return,
                    Err(failure) => {
                        self.standing.send_replace(Standing::Closed(Some(failure.to_string())));
                    }
                }
            } else {
                let waits = match self.announce(&contacts).await {
                    Ok(()) => "It has been let into the cluster and gets the data".to_owned(),
                    Err(problem) => format!("It waits to be let into the cluster: {problem}"),
                };
                log::info!("{waits}");
                self.standing.send_replace(Standing::Closed(Some(waits)));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The tables come with the first entries of the log.
    async fn wait_for_tables(&self, store: &Store) {
        let mut applied = store.applied_changes();
        while usize::try_from(store.status().schema).unwrap_or_default() < schema::NEEDED {
            let why = store.status().trouble.into_iter().next();
            self.standing.send_replace(Standing::Closed(why));
            // Trouble comes and goes without anything being applied.
            drop(tokio::time::timeout(Duration::from_secs(1), applied.changed()).await);
        }
    }

    /// Only one thing at a time decides what this host is a member of.
    fn only_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Problem> {
        self.membership.try_lock().map_err(|_| {
            let sentence = "This host is joining, leaving or being restored already.";
            Problem::new(ProblemCode::Unavailable, sentence).retry_after(10)
        })
    }

    /// What takes the place of all this host has is only done where no others have it too.
    fn must_be_alone(&self) -> Result<(), Problem> {
        if self.store()?.status().members.len() > 1 {
            return Err(Problem::new(
                ProblemCode::Forbidden,
                "This host belongs to a cluster of several hosts. Let it leave that one first.",
            ));
        }
        Ok(())
    }

    /// A host whose place among the others changes has no machines and no volumes: they would be known nowhere any more.
    async fn must_have_no_machines(&self) -> Result<(), Problem> {
        let me = self.store()?.id();
        let count = move |connection: &Connection| {
            Ok((
                vms::kept::count_on(connection, me)?,
                storage::volumes::count_on(connection, me)? + storage::images::count_on(connection, me)?,
            ))
        };
        let has = match self.read(count).await? {
            (0, 0) => return Ok(()),
            (0, 1) => "one volume or image".to_owned(),
            (0, volumes) => format!("{volumes} volumes and images"),
            (1, _) => "one virtual machine".to_owned(),
            (vms, _) => format!("{vms} virtual machines"),
        };
        let sentence = format!("This host has {has}, which would be lost. Remove them first.");
        Err(Problem::new(ProblemCode::Forbidden, sentence))
    }

    /// Becomes what was made ready, or stays what it is: one rename decides.
    fn switch(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        nix::fcntl::renameat2(
            nix::fcntl::AT_FDCWD,
            &self.joining,
            nix::fcntl::AT_FDCWD,
            &self.folder,
            nix::fcntl::RenameFlags::RENAME_EXCHANGE,
        )?;
        self.folder.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    }

    /// Removes what a switch left behind, or what was made ready and never used.
    fn finish_switch(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        match fs::remove_dir_all(&self.joining) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends when this host must start again, as a member of another cluster.
    pub(crate) async fn asked_to_start_again(&self) {
        self.start_again.notified().await;
    }

    /// Who this host is, once it has a certificate.
    fn identity(&self) -> Result<Arc<Identity>, Problem> {
        self.dialler.identity().ok_or_else(|| {
            Problem::new(
                ProblemCode::Unavailable,
                "This host has no certificate yet. Try again in a few seconds.",
            )
            .retry_after(2)
        })
    }

    /// Waits a while for somebody to lead, this host or another.
    pub(crate) async fn wait_for_leader(&self, bound: Duration) {
        let Ok(store) = self.store() else { return };
        let led = async {
            while !store.is_out() && !store.status().writable {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        drop(tokio::time::timeout(bound, led).await);
    }

    /// The host that leads, if it is another.
    pub(crate) fn other_leader(&self) -> Option<Contact> {
        let store = self.store().ok().filter(|store| !store.is_out())?;
        let status = store.status();
        let leader = status.leader.filter(|leader| *leader != status.id)?;
        let member = status.members.into_iter().find(|member| member.id == leader)?;
        Some(Contact { host: leader, address: member.address.0 })
    }

    /// A host of the cluster, if it is another one.
    pub(crate) fn other_member(&self, host: HostId) -> Option<Contact> {
        let status = self.store().ok()?.status();
        let member = status.members.into_iter().find(|member| member.id == host && host != status.id)?;
        Some(Contact { host, address: member.address.0 })
    }

    /// What the leader of a term sees to: that there is an authority, and that this host is among the hosts.
    pub(crate) async fn settle(&self, term: u64, hostname: &str) -> Result<(), Problem> {
        let store = self.store()?;
        let me = store.id();
        let known = self
            .read(move |connection| {
                let is_known = kept::hosts(connection)?.iter().any(|host| host.id == me);
                Ok(kept::cluster(connection)?.is_some() && is_known)
            })
            .await?;
        if known && self.dialler.identity().is_some() {
            return Ok(());
        }
        let internal = |error: &dyn std::fmt::Display| Problem::new(ProblemCode::Internal, error.to_string());
        let new = authority::Authority::new().map_err(|error| internal(&error))?;
        let key = authority::new_key().map_err(|error| internal(&error))?;
        let request = authority::request(&key, me).map_err(|error| internal(&error))?;
        let (name, now) = (hostname.to_owned(), now());
        let signed = move |connection: &Connection| {
            let authority = match kept::authority(connection)? {
                Some(authority) => authority,
                None => {
                    kept::keep_authority(connection, &new)?;
                    new
                }
            };
            let certificate = sign(&authority, &request, me, now)?;
            let (_, key_hash) = authority::host_of_pem(&certificate).ok_or_else(unusable)?;
            kept::keep_host(connection, me, &name, &key_hash, now)?;
            Ok((certificate, authority.certificate))
        };
        let (certificate, authority) = self.write_in(term, signed).await?;
        let renew_at = now + RENEW.as_secs();
        self.keep_member(Member { key, certificate, authority, renew_at, contacts: Vec::new() }).await
    }

    async fn keep_member(&self, member: Member) -> Result<(), Problem> {
        let identity = member.identity().map_err(|error| Problem::new(ProblemCode::Internal, error))?;
        let folder = self.folder.clone();
        let written = blocking(move || member.write(&folder)).await;
        written.unwrap_or_else(|| Err(io::Error::other("the write broke off"))).map_err(|error| {
            Problem::new(
                ProblemCode::StorageUnavailable,
                format!("The certificate could not be written: {error}."),
            )
        })?;
        self.dialler.set(Arc::new(identity));
        Ok(())
    }

    /// Tells the cluster that this host is reached elsewhere now.
    pub(crate) async fn move_to(&self, ip: std::net::IpAddr) -> Result<(), Problem> {
        let address = SocketAddr::new(ip, self.listen.port()).to_string();
        log::info!("The other hosts are told the new address {address}");
        match self.other_leader() {
            Some(leader) => self.announce(&[leader]).await,
            None => {
                let store = self.store()?;
                store.set_address(store.id(), Address(address)).await.map_err(failed)
            }
        }
    }

    /// An address of this host as a person types it on another.
    pub(crate) fn as_typed(&self, ip: Option<std::net::IpAddr>) -> String {
        let ip = ip.unwrap_or_else(|| self.listen.ip());
        if self.listen.port() == CLUSTER_PORT {
            ip.to_string()
        } else {
            SocketAddr::new(ip, self.listen.port()).to_string()
        }
    }

    /// Whether it is time for a new certificate.
    pub(crate) fn must_renew(&self) -> bool {
        matches!(Member::read(&self.folder), Ok(Some(member)) if now() >= member.renew_at)
    }

    /// Asks for a new certificate for the same key.
    pub(crate) async fn renew(&self) -> Result<(), Problem> {
        let store = self.store()?;
        let Ok(Some(mut member)) = Member::read(&self.folder) else { return Ok(()) };
        let request = authority::request(&member.key, store.id())
            .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
        member.certificate = self.ask_for_certificate(request).await?;
        member.renew_at = now() + RENEW.as_secs();
        member.contacts.clear();
        self.keep_member(member).await?;
        log::info!("This host has a new certificate for the cluster");
        Ok(())
    }

    /// The store, if it is open.
    pub(crate) fn store(&self) -> Result<Arc<Store>, Problem> {
        match &*self.standing.borrow() {
            Standing::Open(store) => Ok(Arc::clone(store)),
            Standing::Closed(None) => Err(Problem::new(
                ProblemCode::Unavailable,
                "The host is starting. Try again in a few seconds.",
            )
            .retry_after(2)),
            Standing::Closed(Some(why)) => Err(Problem::new(
                ProblemCode::StorageUnavailable,
                format!("The data of this host cannot be used: {why}."),
            )),
        }
    }

    /// Reads the data as this host has it.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Problem> {
        let store = self.store()?;
        let read = blocking(move || store.read(work)).await;
        read.unwrap_or(Err(rusqlite::Error::InvalidQuery)).map_err(|error| {
            log::error!("The data could not be read: {error}");
            Problem::new(ProblemCode::StorageUnavailable, format!("The data could not be read: {error}."))
        })
    }

    /// Changes the data on every host.
    pub(crate) async fn write<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static,
    ) -> Result<R, Problem> {
        let store = self.store()?;
        store
            .write(api::once::noting(work))
            .await
            .map(|written| written.value)
            .map_err(|error| not_changed(&store, error))
    }

    /// Does what `write` does, and takes it back: says whether it can be done.
    pub(crate) async fn try_out<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static,
    ) -> Result<(), Problem> {
        let store = self.store()?;
        // What is refused is taken back, and so this is, whatever comes of it.
        let taken_back = store.write(move |connection| Err::<(), _>(work(connection).map(drop).err())).await;
        match taken_back {
            Ok(_) | Err(WriteError::Refused(None)) => Ok(()),
            Err(WriteError::Refused(Some(refused))) => Err(not_changed(&store, WriteError::Refused(refused))),
            Err(WriteError::Failed(failure)) => Err(not_written(&store, &failure)),
        }
    }

    /// The same as `write`, with a line of the audit log: both are there, or neither.
    pub(crate) async fn write_noted<R: Send + 'static>(
        &self,
        line: Line,
        work: impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static,
    ) -> Result<R, Problem> {
        self.write_telling(line, move |connection, _| work(connection)).await
    }

    /// The same, where the work adds to the line what something was like before and is like after.
    pub(crate) async fn write_telling<R: Send + 'static>(
        &self,
        mut line: Line,
        work: impl FnOnce(&Connection, &mut Line) -> Result<R, Refused> + Send + 'static,
    ) -> Result<R, Problem> {
        let noted = move |connection: &Connection| {
            let done = work(connection, &mut line)?;
            audit::note(connection, &line)?;
            Ok(done)
        };
        self.write(noted).await
    }

    /// The same as `write` for what the leader of a term does by itself: whoever leads later does it anew.
    pub(crate) async fn write_in<R: Send + 'static>(
        &self,
        term: u64,
        work: impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static,
    ) -> Result<R, Problem> {
        let store = self.store()?;
        let written = store.write_in_term(term, work).await;
        written.map(|written| written.value).map_err(|error| not_changed(&store, error))
    }

    /// Whether the data can be changed, and if not why.
    pub(crate) fn check(&self) -> Check {
        let (state, detail) = match &*self.standing.borrow() {
            Standing::Closed(None) => (CheckState::Failed, "The data is being opened.".to_owned()),
            Standing::Closed(Some(why)) => (CheckState::Failed, format!("The data cannot be used: {why}.")),
            Standing::Open(store) => {
                let status = store.status();
                match status.trouble.first() {
                    Some(sentence) => (CheckState::Failed, sentence.clone()),
                    None if !status.writable => {
                        (CheckState::Failed, "No host leads the cluster: nothing can be changed.".to_owned())
                    }
                    None => (CheckState::Ok, "The data is there and can be changed.".to_owned()),
                }
            }
        };
        Check { name: "store".to_owned(), state, detail }
    }
}

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum Refused {
    Problem(Problem),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

fn not_changed(store: &Store, error: WriteError<Refused>) -> Problem {
    match error {
        WriteError::Refused(Refused::Problem(problem)) => problem,
        WriteError::Refused(Refused::Sqlite(error)) => {
            log::error!("A change failed: {error}");
            Problem::new(ProblemCode::Internal, format!("The change could not be made: {error}."))
        }
        WriteError::Failed(failure) => not_written(store, &failure),
    }
}

/// What a person is told when the cluster could not keep a change.
fn not_written(store: &Store, failure: &Failure) -> Problem {
    if let Some(sentence) = store.status().trouble.first() {
        return Problem::new(ProblemCode::StorageUnavailable, sentence.clone());
    }
    let sentence = match failure {
        Failure::NotLeader => "Another host leads the cluster by now. Try again.".to_owned(),
        Failure::NoQuorum => {
            "Too few hosts of the cluster answer: nothing can be changed until they do.".to_owned()
        }
        Failure::Unknown(why) => {
            format!(
                "Whether this was kept is not known ({why}). Look whether it is there before you try again."
            )
        }
        Failure::NotWritten(_) | Failure::TooLarge(_) => format!("Nothing was changed: {failure}."),
    };
    Problem::new(ProblemCode::Unavailable, sentence).retry_after(2)
}

/// The tables, empty, for tests of what is in them.
#[cfg(test)]
pub(crate) fn tables() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    schema::SCHEMA.iter().for_each(|step| connection.execute_batch(step.sql).unwrap());
    connection
}

/// Signs a host's key, for some years from now.
fn sign(authority: &authority::Authority, request: &str, host: HostId, now: u64) -> Result<String, Problem> {
    let year = jiff::Timestamp::from_second(i64::try_from(now).unwrap_or_default())
        .map_or(2026, |now| now.to_zoned(jiff::tz::TimeZone::UTC).year());
    authority.sign(request, host, i32::from(year) + YEARS).map_err(|error| {
        Problem::new(ProblemCode::Malformed, format!("The host's key cannot be signed: {error}."))
    })
}

/// What the store could not do.
pub(crate) fn failed(failure: Failure) -> Problem {
    Problem::new(ProblemCode::Unavailable, format!("{failure}.")).retry_after(2)
}

fn unusable() -> Problem {
    Problem::new(ProblemCode::Malformed, "The host's certificate cannot be read.")
}
