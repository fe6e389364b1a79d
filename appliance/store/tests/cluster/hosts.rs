//! Hosts in one process, with links in memory that can be cut.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use quantix_store::{
    Address, Dial, Dialled, Failure, HostId, Link, Migration, Role, Store, WriteError, Written,
};
use rusqlite::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// What the tests keep.
pub(crate) const SCHEMA: &[Migration] = &[
    Migration {
        name: "counters",
        sql: "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    },
    Migration {
        name: "people",
        sql: "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, note ANY, seen ANY) STRICT;
              CREATE TABLE pet (
                  id INTEGER PRIMARY KEY,
                  owner INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE ON UPDATE CASCADE,
                  name ANY
              ) STRICT;
              CREATE TABLE wide (
                  a ANY, b ANY, c BLOB, d ANY, e ANY, f ANY, g ANY, h ANY, i ANY, j ANY, k ANY, l ANY, m ANY,
                  n ANY, o ANY, p ANY, q ANY, r ANY, s ANY, t ANY, u ANY, v ANY, w ANY, x ANY, y ANY, z ANY,
                  a1 ANY, b1 ANY, c1 ANY, d1 ANY, e1 ANY, f1 ANY, g1 ANY, h1 ANY, i1 ANY, j1 ANY, k1 ANY,
                  l1 ANY, m1 ANY, n1 ANY, o1 ANY, p1 ANY, q1 ANY, r1 ANY, s1 ANY, t1 TEXT,
                  PRIMARY KEY (c, t1)
              ) STRICT, WITHOUT ROWID;
              CREATE TABLE tally (what TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
              CREATE TRIGGER pet_came AFTER INSERT ON pet BEGIN
                  INSERT INTO tally VALUES ('pets', 1) ON CONFLICT (what) DO UPDATE SET count = count + 1;
              END;
              CREATE TRIGGER pet_went AFTER DELETE ON pet BEGIN
                  UPDATE tally SET count = count - 1 WHERE what = 'pets';
              END",
    },
];

#[derive(Default)]
struct Wires {
    hosts: BTreeMap<HostId, Arc<Store>>,
    /// What each host answers.
    answering: BTreeMap<HostId, Vec<tokio::task::AbortHandle>>,
    /// Nothing goes from the first to the second.
    cut: HashSet<(HostId, HostId)>,
}

/// The network between the hosts.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<Wires>>);

impl Network {
    fn wires(&self) -> std::sync::MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cut(&self, from: HostId, to: HostId) {
        self.wires().cut.insert((from, to));
    }

    pub(crate) fn cut_off(&self, host: HostId) {
        let others: Vec<_> = self.wires().hosts.keys().copied().collect();
        for other in others {
            self.cut(host, other);
            self.cut(other, host);
        }
    }

    pub(crate) fn heal(&self) {
        self.wires().cut.clear();
    }

    fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.wires().cut.contains(&(from, to))
    }
}

struct Plug {
    network: Network,
    /// It is known only when the store is open.
    me: Arc<Mutex<Option<HostId>>>,
}

impl Dial for Plug {
    fn dial(&self, host: HostId, _: &Address) -> Dialled {
        let network = self.network.clone();
        let me = self.me.lock().unwrap().unwrap();
        Box::pin(async move {
            let answering = network.wires().hosts.get(&host).cloned();
            let answering = answering.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, mut our_end) = duplex(64 * 1024);
            let (theirs, mut their_end) = duplex(64 * 1024);
            let answers = tokio::spawn(async move { answering.serve(me, theirs).await });
            network.wires().answering.entry(host).or_default().push(answers.abort_handle());
            tokio::spawn(async move {
                let (mut out, mut back) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
                loop {
                    let (from, to, sent) = tokio::select! {
                        read = our_end.read(&mut out) => (me, host, read),
                        read = their_end.read(&mut back) => (host, me, read),
                    };
                    let Ok(length @ 1..) = sent else { return };
                    // What is sent on a cut wire is lost, and the link with it.
                    while network.is_cut(from, to) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        if !network.is_cut(from, to) {
                            return;
                        }
                    }
                    let written = if from == me {
                        their_end.write_all(&out[..length]).await
                    } else {
                        our_end.write_all(&back[..length]).await
                    };
                    if written.is_err() {
                        return;
                    }
                }
            });
            Ok(Box::new(ours) as Box<dyn Link>)
        })
    }
}

/// One host.
pub(crate) struct Host {
    pub(crate) store: Arc<Store>,
    pub(crate) folder: PathBuf,
}

/// Some hosts and the network between them.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    /// The host that began.
    pub(crate) first_id: HostId,
    pub(crate) root: tempfile::TempDir,
}

impl Cluster {
    /// So many hosts that have become one cluster, the schema in place.
    pub(crate) async fn of(count: usize) -> Self {
        let mut cluster = Self::empty();
        for number in 0..count {
            cluster.start(&format!("host-{number}"), SCHEMA).await;
        }
        cluster.first_id = cluster.hosts[0].store.id();
        cluster.hosts[0].store.found(address(0)).await.unwrap();
        cluster.wait_schema(0, 2).await;
        for number in 1..count {
            let id = cluster.hosts[number].store.id();
            cluster.hosts[0].store.add(id, address(number)).await.unwrap();
        }
        for number in 1..count {
            cluster.wait_schema(number, 2).await;
        }
        cluster
    }

    pub(crate) fn empty() -> Self {
        Self {
            network: Network::default(),
            hosts: Vec::new(),
            first_id: HostId(0),
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) async fn start(&mut self, name: &str, schema: &'static [Migration]) -> usize {
        let folder = self.root.path().join(name);
        let store = open(&self.network, &folder, schema).await.unwrap();
        self.hosts.push(Host { store, folder });
        self.hosts.len() - 1
    }

    /// Ends a host, as if its process had been killed.
    pub(crate) async fn kill(&mut self, number: usize) {
        let host = self.hosts.remove(number);
        self.network.wires().hosts.remove(&host.store.id());
        for answers in self.network.wires().answering.remove(&host.store.id()).into_iter().flatten() {
            answers.abort();
        }
        let folder = host.folder.clone();
        close(host.store).await;
        // A stand-in keeps the numbers of the others.
        let stand_in = folder.with_extension(format!("stand-in-{}", rand::random::<u32>()));
        let stand_in = open(&Network::default(), &stand_in, SCHEMA).await.unwrap();
        self.hosts.insert(number, Host { store: stand_in, folder });
    }

    pub(crate) async fn restart(&mut self, number: usize) {
        self.restart_with(number, SCHEMA).await;
    }

    pub(crate) async fn restart_with(&mut self, number: usize, schema: &'static [Migration]) {
        let folder = self.hosts[number].folder.clone();
        self.hosts[number].store = open(&self.network, &folder, schema).await.unwrap();
    }

    /// The same, once all hosts vote.
    pub(crate) async fn with_all_voting(self) -> Self {
        let store = &self.hosts[0].store;
        until("all vote", || {
            let status = store.status();
            status.members.iter().filter(|member| member.role != Role::Learner).count() == self.hosts.len()
        })
        .await;
        self
    }

    pub(crate) async fn wait_schema(&self, number: usize, schema: u32) {
        let store = &self.hosts[number].store;
        until("the schema is there", || store.status().schema == schema).await;
    }

    /// The host that can write now.
    pub(crate) async fn leader(&self) -> usize {
        let mut found = None;
        until("there is a leader", || {
            found = self.hosts.iter().position(|host| host.store.leadership().borrow().is_some());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Writes wherever that is possible, until it was.
    pub(crate) async fn write<R: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<R> + Clone + Send + 'static,
    ) -> Written<R> {
        let start = Instant::now();
        loop {
            let leader = self.leader().await;
            match self.hosts[leader].store.write(work.clone()).await {
                Ok(written) => return written,
                Err(WriteError::Failed(Failure::Unknown(why))) => {
                    let all: Vec<_> = self.hosts.iter().map(|host| host.store.status()).collect();
                    panic!("cannot tell: {why}: {all:#?}")
                }
                Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All hosts have the same rows, byte for byte.
    pub(crate) async fn assert_equal(&self) {
        let leader = self.leader().await;
        let index = self.hosts[leader].store.write(|_| Ok::<_, rusqlite::Error>(())).await.unwrap().index;
        let wanted = self.hosts[leader].store.read(contents).unwrap();
        for host in &self.hosts {
            host.store.wait_for(index).await.unwrap();
            let theirs = host.store.read(contents).unwrap();
            assert!(theirs == wanted, "{}", first_difference(&theirs, &wanted));
        }
    }
}

pub(crate) fn address(number: usize) -> Address {
    Address(format!("host-{number}:7443"))
}

pub(crate) async fn open(
    network: &Network,
    folder: &Path,
    schema: &'static [Migration],
) -> Result<Arc<Store>, quantix_store::OpenError> {
    let me = Arc::new(Mutex::new(None));
    let plug = Plug { network: network.clone(), me: Arc::clone(&me) };
    *me.lock().unwrap() = Some(HostId(0));
    let store = Arc::new(Store::open(folder, schema, Box::new(plug)).await?);
    *me.lock().unwrap() = Some(store.id());
    network.wires().hosts.insert(store.id(), Arc::clone(&store));
    Ok(store)
}

async fn close(mut store: Arc<Store>) {
    let start = Instant::now();
    loop {
        match Arc::try_unwrap(store) {
            Ok(store) => return store.close().await,
            Err(shared) => store = shared,
        }
        assert!(start.elapsed() < Duration::from_secs(10), "somebody still uses the store");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every row of every table, and the pages' order of them.
pub(crate) fn contents(connection: &Connection) -> rusqlite::Result<String> {
    let mut tables =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_store'")?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut all = String::new();
    for name in names {
        let mut rows = connection.prepare(&format!("SELECT * FROM \"{name}\""))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            all.push_str(&name);
            for at in 0..columns {
                all.push_str(&format!(" {:?}", row.get_ref(at)?));
            }
            all.push('\n');
        }
    }
    Ok(all)
}

pub(crate) fn first_difference(ours: &str, wanted: &str) -> String {
    let differ = ours.lines().zip(wanted.lines()).find(|(ours, wanted)| ours != wanted);
    let (ours, wanted) = differ.unwrap_or((ours.lines().next_back().unwrap_or(""), "another number of rows"));
    format!("{ours:.500} instead of {wanted:.500}")
}
