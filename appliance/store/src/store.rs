//! The store as others use it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    elections,
    feed::Watch,
    frame::Link,
    log::{Log, OpenError as LogError},
    members,
    network::{self, Network},
    peers::{Dial, Peers},
    raft::{Address, HostId, Raft},
    serve,
    shared::{Core, LEASE},
    state,
    state::{Failure, Machine, Migration, Pending, SchemaError, State, Writer},
    trouble::Trouble,
    voters::Wanted,
    writers,
};

/// A leader sends something to every host at least so often. It is also how long an answer may take, so it is well
/// above what a disk needs to keep a write.
const HEARTBEAT: Duration = Duration::from_millis(150);
/// How long a vote may take to come, which a disk has a part in; and how long a host keeps faith with a leader it has
/// heard. The library wants the first below the second. When a host stands for election is decided in `elections`.
const ELECTION: [Duration; 2] = [Duration::from_millis(790), LEASE];
/// Writers that wait for their turn.
const WAITING: usize = 4096;
/// How long a reader waits for an entry that must be there soon.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it.
    #[error("the store's folder {0}: {1}")]
    Io(PathBuf, io::Error),
    /// Another process has it open.
    #[error("another process has the store in {0} open")]
    InUse(PathBuf),
    /// A file in it cannot be read as a database.
    #[error("the store in {0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
    /// What was acknowledged is no longer there.
    #[error(
        "the store in {0} is damaged: {1}. The other hosts have the data: remove this host from the cluster and let it \
         join again. A host alone starts again from a backup."
    )]
    Damaged(PathBuf, String),
    /// The program's own steps of the schema.
    #[error("the schema: {0}")]
    Schema(#[from] SchemaError),
    /// The data was written by a newer version.
    #[error(
        "the data is at step {0} of the schema, which this version does not know; start the newer version"
    )]
    TooNew(u32),
    /// The consensus library does not start.
    #[error("the store does not start: {0}")]
    Start(String),
}

/// Why something was not written.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum WriteError<E> {
    /// The writer itself refused.
    #[error("{0}")]
    Refused(E),
    /// The cluster could not.
    #[error("{0}")]
    Failed(Failure),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<R> {
    /// The writer's result.
    pub value: R,
    /// The entry; a reader at this one or later sees what was written.
    pub index: u64,
}

/// Part of a member in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It decides, and is asked first.
    Leader,
    /// It votes.
    Voter,
    /// It has everything and votes when it is needed.
    Learner,
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The host.
    pub id: HostId,
    /// Where it is reached.
    pub address: Address,
    /// Its part.
    pub role: Role,
    /// How far its log is, which only the leader knows.
    pub matched: Option<u64>,
    /// How long it has not been heard here; nothing if never, zero for this host itself.
    pub silent: Option<Duration>,
}

/// How the cluster stands, seen from this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This host.
    pub id: HostId,
    /// The host that decides, if this one knows.
    pub leader: Option<HostId>,
    /// How many elections there were, more or less.
    pub term: u64,
    /// The last entry in this host's log, and the last that is in its database.
    pub last: u64,
    /// The last entry in its database.
    pub applied: u64,
    /// The step of the schema the data is at.
    pub schema: u32,
    /// All hosts, this one among them.
    pub members: Vec<Member>,
    /// Whether anything can be written.
    pub writable: bool,
    /// What is wrong with this host, in sentences.
    pub trouble: Vec<String>,
}

/// This host's part of the store.
pub struct Store {
    core: Arc<Core>,
    asked: mpsc::Sender<Box<dyn Writer>>,
    tasks: JoinSet<()>,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in a folder, or makes one that belongs to no cluster yet.
    pub async fn open(
        folder: &Path,
        migrations: &'static [Migration],
        dial: Box<dyn Dial>,
    ) -> Result<Self, OpenError> {
        state::check_schema(migrations)?;
        let lock = lock_folder(folder)?;
        let trouble = Arc::new(Trouble::default());
        let (log, mut marks) = Log::open(folder, Arc::clone(&trouble)).map_err(|error| match error {
            LogError::Io(error) => OpenError::Io(folder.into(), error),
            LogError::Sqlite(error) => OpenError::Sqlite(folder.into(), error),
            LogError::Damaged(why) => OpenError::Damaged(folder.into(), why),
        })?;
        let number = |name: &str| {
            marks.get(name).and_then(|bytes| Some(u64::from_be_bytes(bytes.as_slice().try_into().ok()?)))
        };
        let me = number("id").map_or_else(HostId::random, HostId);
        log.is_of(me);
        let boots = number("boots").unwrap_or_default() + 1;
        let is_new = number("id").is_none();
        if is_new && state::exists(folder) {
            return Err(OpenError::Damaged(folder.into(), "its log is gone".into()));
        }
        let file = number(state::FILE_MARK).unwrap_or_default();
        marks.retain(|name, _| name.starts_with("host-"));
        for (name, value) in [("id", me.0), ("boots", boots)] {
            let kept = log.mark(name.into(), value.to_be_bytes().to_vec()).await;
            kept.map_err(|error| OpenError::Io(folder.into(), io::Error::other(error)))?;
        }
        let opened = State::open(folder, file, migrations, log.clone(), Arc::clone(&trouble));
        let (state, position) = opened.map_err(|error| OpenError::Sqlite(folder.into(), error))?;
        let knows = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
        if position.schema > knows {
            return Err(OpenError::TooNew(position.schema));
        }
        if position.applied < log.purged() {
            return Err(OpenError::Damaged(folder.into(), "the database is older than the log".into()));
        }
        let peers = Arc::new(Peers::new(me, boots, knows, dial, log.clone(), &marks));
        let network = Network { peers: Arc::clone(&peers), state: state.clone() };
        let machine = Machine::new(state.clone(), log.clone(), position);
        let raft = Raft::new(me, Arc::new(config()?), network, log.clone(), machine).await;
        let raft = raft.map_err(|error| OpenError::Start(error.to_string()))?;
        let mut metrics = raft.metrics();
        // At first they are empty, as if this host belonged to no cluster.
        let last = log.reached().1.map(|last| last.index);
        let known = metrics.wait_for(|metrics| metrics.last_log_index >= last).await.map(drop);
        known.map_err(|error| OpenError::Start(error.to_string()))?;
        peers.follow(metrics.clone());
        let core = Arc::new(Core {
            raft,
            state,
            log,
            peers,
            metrics,
            trouble,
            wanted: Mutex::default(),
            migrations,
            leading: watch::Sender::new(None),
            moving: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            met: AtomicBool::new(false),
            led: Mutex::new(Instant::now()),
            quiet: AtomicUsize::new(1),
        });
        let (asked, waiting) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        tasks.spawn(writers::write(Arc::clone(&core), waiting));
        tasks.spawn(members::introduce(Arc::clone(&core)));
        tasks.spawn(members::tend(Arc::clone(&core)));
        tasks.spawn(elections::stand(Arc::clone(&core)));
        tasks.spawn(members::follow_leadership(Arc::clone(&core)));
        Ok(Self { core, asked, tasks, _lock: lock })
    }

    /// Ends everything; what was acknowledged is on the disk already.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
        if let Err(error) = self.core.raft.shutdown().await {
            log::warn!("The store ended badly: {error}");
        }
    }

    /// This host.
    pub fn id(&self) -> HostId {
        self.core.peers.me
    }

    /// Whether this host belongs to a cluster.
    pub fn is_member(&self) -> bool {
        self.core.is_member()
    }

    /// Whether this host was put out of its cluster: it was removed, or its disk was put back to an earlier time.
    pub fn is_out(&self) -> bool {
        self.core.trouble.has("membership")
    }

    /// Makes this host a cluster of its own.
    pub async fn found(&self, address: Address) -> Result<(), Failure> {
        let members = BTreeMap::from([(self.id(), address)]);
        self.core.raft.initialize(members).await.map_err(|error| Failure::NotWritten(error.to_string()))
    }

    /// Answers what another host asks over a link, until it is closed. Who that host is has been proven.
    pub async fn serve(&self, peer: HostId, link: impl Link) -> io::Result<()> {
        serve::serve(&self.core, peer, link).await
    }

    /// Tells a host that it is no member. Who that host is has been proven.
    pub async fn refuse(&self, peer: HostId, link: impl Link) -> io::Result<()> {
        serve::refuse(&self.core, peer, link).await
    }

    /// Changes data: what `work` does to the rows holds on every host, or nowhere. It may run only on the leader.
    pub async fn write<R, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, E> + Send + 'static,
    ) -> Result<Written<R>, WriteError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        self.write_as(None, work).await
    }

    /// The same, but only if this host still leads in this term.
    pub async fn write_in_term<R, E>(
        &self,
        term: u64,
        work: impl FnOnce(&Connection) -> Result<R, E> + Send + 'static,
    ) -> Result<Written<R>, WriteError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        self.write_as(Some(term), work).await
    }

    async fn write_as<R, E>(
        &self,
        term: Option<u64>,
        work: impl FnOnce(&Connection) -> Result<R, E> + Send + 'static,
    ) -> Result<Written<R>, WriteError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        let (writer, answer) = Pending::new(term, work);
        let ended = || WriteError::Failed(Failure::NotWritten("the store has ended".into()));
        self.asked.send(Box::new(writer)).await.map_err(|_| ended())?;
        match answer.await.map_err(|_| ended())? {
            (Some(Err(refused)), _) => Err(WriteError::Refused(refused)),
            (Some(Ok(value)), Ok(index)) => Ok(Written { value, index }),
            (_, Err(failure)) => Err(WriteError::Failed(failure)),
            (None, Ok(_)) => Err(ended()),
        }
    }

    /// Reads what this host has now, all of it of one moment. It blocks for as long as the disk does.
    pub fn read<R, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, E>,
    ) -> Result<R, E> {
        self.core.state.readers.read(work)
    }

    /// Waits until what was written up to an entry is in this host's database.
    pub async fn wait_for(&self, index: u64) -> Result<(), Failure> {
        let mut applied = self.core.state.feed.applied();
        let there = tokio::time::timeout(CATCH_UP, applied.wait_for(|applied| *applied >= index)).await;
        match there {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::NotWritten(format!(
                "this host is behind: it has {}, not {index}",
                self.applied()
            ))),
        }
    }

    /// Waits until this host has everything that anybody was told is written.
    pub async fn catch_up(&self) -> Result<(), Failure> {
        let index = match self.core.read_index().await {
            Err(Failure::NotLeader) => self.core.ask_leader_for_index().await?,
            answered => answered?,
        };
        self.wait_for(index).await
    }

    /// Follows the last entry in this host's database.
    pub fn applied_changes(&self) -> watch::Receiver<u64> {
        self.core.state.feed.applied()
    }

    /// The last entry in this host's database.
    pub fn applied(&self) -> u64 {
        *self.core.state.feed.applied().borrow()
    }

    /// The first entry that is still in this host's log.
    pub fn first_in_log(&self) -> u64 {
        self.core.log.purged().map_or(0, |purged| purged.index + 1)
    }

    /// Tells what changes after an entry.
    pub fn watch(&self, after: u64) -> Watch {
        Watch::new(Arc::clone(&self.core.state.feed), after)
    }

    /// The term of which this host is the leader; nothing while it is not.
    pub fn leadership(&self) -> watch::Receiver<Option<u64>> {
        self.core.leading.subscribe()
    }

    /// Ends when the store has stopped for good and only a new start of the program helps, and tells why.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.core.metrics.clone();
        let ended = "the store has ended".to_owned();
        metrics.wait_for(|metrics| metrics.running_state.is_err()).await.map_or(ended.clone(), |found| {
            found.running_state.as_ref().err().map_or(ended, ToString::to_string)
        })
    }

    /// How the cluster stands.
    pub fn status(&self) -> Status {
        members::status(&self.core)
    }

    /// Takes a host into the cluster. It gets everything, and votes when it is needed.
    pub async fn add(&self, host: HostId, address: Address) -> Result<(), Failure> {
        members::add(&self.core, host, address).await
    }

    /// Takes a host out of the cluster. Whether it is there to hear that does not matter.
    pub async fn remove(&self, host: HostId) -> Result<(), Failure> {
        members::remove(&self.core, host).await
    }

    /// Tells everybody that a host is reached elsewhere now.
    pub async fn set_address(&self, host: HostId, address: Address) -> Result<(), Failure> {
        members::set_address(&self.core, host, address).await
    }

    /// Makes another host the leader.
    pub async fn move_lead(&self, to: HostId) -> Result<(), Failure> {
        members::move_lead(&self.core, to).await
    }

    /// Makes another host the leader if this one is: it is about to end.
    pub async fn hand_over(&self) -> Result<(), Failure> {
        members::hand_over(&self.core).await
    }

    /// How many shall vote from now on. Every host is told, since each may lead.
    pub fn want_voters(&self, wanted: Wanted) {
        *crate::lock(&self.core.wanted) = wanted;
    }

    /// Copies the database as it is now into a file.
    pub async fn backup(&self, path: PathBuf) -> Result<u64, Failure> {
        let readers = Arc::clone(&self.core.state.readers);
        let copied = crate::in_thread("store backup", move || {
            let index = network::copy(&readers.connect()?, &path)?.index();
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            Ok::<_, rusqlite::Error>(index)
        });
        match copied.await {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(error)) => Err(Failure::NotWritten(error.to_string())),
            Err(error) => Err(Failure::NotWritten(error.to_string())),
        }
    }
}

fn config() -> Result<openraft::Config, OpenError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: "quantix".into(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION[0]),
        election_timeout_max: millis(ELECTION[1]),
        // The log is cut by its bytes, see `members`.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        // A host whose entries are all there gets the entries, however many.
        replication_lag_threshold: u64::MAX / 2,
        enable_elect: false,
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| OpenError::Start(error.to_string()))
}

pub(crate) fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io(folder.into(), error);
    std::fs::create_dir_all(folder).map_err(io)?;
    let lock =
        File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(folder.into())),
        Err(std::fs::TryLockError::Error(error)) => Err(io(error)),
    }
}
