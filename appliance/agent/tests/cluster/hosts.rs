//! Agents as processes of their own, on loopback.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quantix_api::{
    AgentClient, CallError, ChangePassword, CheckState, Cluster, HostRole, JoinCluster, MadeJoinToken,
    NewJoinToken, NewUser, Problem, ProblemCode, Secret, SignIn, calls,
};
use quantix_libvirt::Daemon;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// What gives a process another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A host whose agent is started again when it ends, as systemd does.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) hosts: SocketAddr,
    /// How far its clock is off, in seconds.
    pub(crate) clock: i64,
    pub(crate) dir: tempfile::TempDir,
    mounted: Option<PathBuf>,
    /// libvirt's socket, and where it keeps what it was told.
    libvirt: Option<(PathBuf, PathBuf)>,
    child: Arc<Mutex<Option<Child>>>,
    up: Arc<AtomicBool>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, 0)
    }

    /// One whose clock is off by so many seconds.
    pub(crate) fn start_at(name: &str, clock: i64) -> Self {
        assert!(clock == 0 || Path::new(FAKETIME).exists(), "the package libfaketime is missing");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = free.local_addr().unwrap();
        drop(free);
        Self::start_with(name, clock, hosts)
    }

    /// One that other hosts reach there.
    pub(crate) fn start_on(name: &str, hosts: SocketAddr) -> Self {
        Self::start_with(name, 0, hosts)
    }

    /// One with virtual machines.
    pub(crate) fn start_with_libvirt(name: &str, daemon: &Daemon) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = free.local_addr().unwrap();
        drop(free);
        let host = Self::at(name, 0, hosts);
        host.with_libvirt(daemon)
    }

    /// One that keeps everything in a folder that is there already.
    pub(crate) fn start_in(dir: tempfile::TempDir, daemon: &Daemon) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = free.local_addr().unwrap();
        drop(free);
        let mut host = Self::at("qx-1", 0, hosts);
        host.dir = dir;
        host.with_libvirt(daemon)
    }

    fn with_libvirt(mut self, daemon: &Daemon) -> Self {
        self.libvirt = Some((daemon.socket(), daemon.kept()));
        self.keeper = Some(self.keep());
        self
    }

    /// Forgets in which start of the machine it was, as if the machine had started anew.
    pub(crate) fn forget_start(&self) {
        std::fs::remove_file(self.dir.path().join("state/started-vms-in")).unwrap();
    }

    /// One whose state has so little room.
    #[expect(clippy::disallowed_methods, reason = "a file system of its own is the system's to make")]
    pub(crate) fn start_small(name: &str, mib: u32) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = free.local_addr().unwrap();
        drop(free);
        let mut host = Self::at(name, 0, hosts);
        let state = host.dir.path().join("state");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&state).status();
        assert!(mounted.unwrap().success(), "a file system in memory needs root");
        host.mounted = Some(state);
        host.keeper = Some(host.keep());
        host
    }

    /// Everything it keeps is below this folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What its state partition holds of the files that tasks make.
    pub(crate) fn bundles(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.dir.path().join("state/bundles"));
        let names = folder.into_iter().flatten().map(|file| file.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    fn start_with(name: &str, clock: i64, hosts: SocketAddr) -> Self {
        let mut host = Self::at(name, clock, hosts);
        host.keeper = Some(host.keep());
        host
    }

    fn at(name: &str, clock: i64, hosts: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let (child, up) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(true)));
        Self { name: name.into(), hosts, clock, dir, mounted: None, libvirt: None, child, up, keeper: None }
    }

    #[expect(clippy::disallowed_methods, reason = "the program under test is a process")]
    fn keep(&self) -> std::thread::JoinHandle<()> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quantixd"));
        command.args(["--name", &self.name, "--hosts", &self.hosts.to_string()]);
        command.arg("--state-dir").arg(self.dir.path().join("state"));
        command.arg("--run-dir").arg(self.dir.path().join("run"));
        if let Some((socket, kept)) = &self.libvirt {
            command.arg("--libvirt").arg(socket).arg("--libvirt-kept").arg(kept);
        }
        if self.clock != 0 {
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", format!("{:+}", self.clock));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let (child, up) = (Arc::clone(&self.child), Arc::clone(&self.up));
        std::thread::spawn(move || {
            while up.load(Ordering::Relaxed) {
                *child.lock().unwrap() = Some(command.spawn().unwrap());
                loop {
                    std::thread::sleep(Duration::from_millis(20));
                    if child.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_some() {
                        break;
                    }
                }
            }
        })
    }

    pub(crate) fn kill(&mut self) {
        self.up.store(false, Ordering::Relaxed);
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            drop(child.kill());
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.join().unwrap();
        }
    }

    /// The process that the agent is just now; none in the moment between two.
    pub(crate) fn pid(&self) -> Option<u32> {
        let mut child = self.child.lock().unwrap();
        let child = child.as_mut()?;
        child.try_wait().unwrap().is_none().then(|| child.id())
    }

    pub(crate) fn start_again(&mut self) {
        self.up.store(true, Ordering::Relaxed);
        self.keeper = Some(self.keep());
    }

    /// What makes it a member: its key and its certificates.
    pub(crate) fn member(&self) -> serde_json::Value {
        let file = std::fs::read(self.dir.path().join("state/cluster/member.json")).unwrap();
        serde_json::from_slice(&file).unwrap()
    }

    /// What the audit log says came of things.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let is_database = |(path, _): &(PathBuf, Vec<u8>)| path.extension().is_some_and(|end| end == "db");
        let (path, _) = self.database().into_iter().find(is_database).unwrap();
        let connection = rusqlite::Connection::open(path).unwrap();
        let mut lines = connection.prepare("SELECT outcome FROM audit ORDER BY id").unwrap();
        lines.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Whether any of its files has these bytes in it.
    pub(crate) fn holds(&self, text: &str) -> bool {
        let mut folders = vec![self.dir.path().join("state")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return true;
                }
            }
        }
        false
    }

    /// The files of its database, without the log.
    pub(crate) fn database(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = std::fs::read_dir(self.dir.path().join("state/cluster/store")).unwrap();
        let paths = folder.map(|file| file.unwrap().path());
        let is_of_it = |path: &PathBuf| {
            !["log", "lock"].iter().any(|of| path.file_name().unwrap().to_str().unwrap().starts_with(of))
        };
        paths.filter(is_of_it).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    pub(crate) fn client(&self) -> AgentClient {
        AgentClient::new(self.dir.path().join("run/api.sock"))
    }

    /// Waits until people can sign in and data can be changed.
    pub(crate) async fn ready(&self) {
        until(&format!("{} is ready", self.name), async || {
            let Ok(readiness) = self.client().call(&calls::ready()).await else { return false };
            ["store", "account"].iter().all(|name| {
                readiness.checks.iter().any(|check| check.name == *name && check.state == CheckState::Ok)
            })
        })
        .await;
    }

    /// Waits until one of its checks says this.
    pub(crate) async fn says(&self, text: &str) {
        until(&format!("{} says: {text}", self.name), async || {
            let Ok(readiness) = self.client().call(&calls::ready()).await else { return false };
            readiness.checks.iter().any(|check| check.detail.contains(text))
        })
        .await;
    }

    /// Waits until it knows that too few others are left to change anything.
    pub(crate) async fn hears_too_few(&self, session: &Secret) {
        until(&format!("{} knows that it is alone", self.name), async || {
            self.cluster(session).await.is_ok_and(|cluster| !cluster.writable)
        })
        .await;
    }

    pub(crate) async fn sign_in(&self) -> Secret {
        let body = SignIn { username: "admin".into(), password: Secret::new(PASSWORD) };
        let mut session = None;
        until("one can sign in", async || {
            session = self.client().call(&calls::sign_in(&body)).await.ok();
            session.is_some()
        })
        .await;
        session.unwrap().token
    }

    /// Makes its password the usual one, and signs in.
    pub(crate) async fn settled(&self) -> Secret {
        self.ready().await;
        let first = self.client().call(&calls::console()).await.unwrap().first_password.unwrap();
        self.signed_in_first("admin", first).await
    }

    /// Makes somebody's password the usual one.
    async fn signed_in_first(&self, name: &str, first: Secret) -> Secret {
        let body = SignIn { username: name.into(), password: first.clone() };
        let session = self.client().call(&calls::sign_in(&body)).await.unwrap().token;
        let change = ChangePassword { current: first, new: Secret::new(PASSWORD) };
        self.client().call(&calls::change_password(&change).as_session(&session)).await.unwrap();
        session
    }

    /// Somebody new with a role everywhere, and the usual password.
    pub(crate) async fn somebody(&self, admin: &Secret, name: &str, role: &str) -> Secret {
        let new = NewUser { username: name.into(), role: role.into() };
        let made = self.client().call(&calls::make_user(&new).as_session(admin)).await.unwrap();
        self.signed_in_first(name, made.password).await
    }

    pub(crate) async fn cluster(&self, session: &Secret) -> Result<Cluster, CallError> {
        self.client().call(&calls::cluster().as_session(session)).await
    }

    pub(crate) async fn make_token(&self, session: &Secret, uses: u32) -> MadeJoinToken {
        let body = NewJoinToken { purpose: "a test".into(), hours: 1, uses };
        let call = calls::make_join_token(&body).as_session(session);
        let start = Instant::now();
        loop {
            // On a busy machine the role may move at any time; then the answer is to try again.
            match self.client().call(&call).await {
                Ok(made) => return made,
                Err(CallError::Problem(problem)) if problem.code == ProblemCode::Unavailable => {}
                Err(error) => panic!("{error}"),
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no token could be made");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn join(&self, session: &Secret, to: &Host, token: &Secret) -> Result<(), CallError> {
        let body = JoinCluster { address: to.hosts.to_string(), token: token.clone() };
        self.client().call(&calls::join(&body).as_session(session)).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if let Some(state) = &self.mounted {
            unmount(state);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file system of its own is the system's to take away")]
fn unmount(state: &Path) {
    drop(Command::new("umount").arg("--lazy").arg(state).status());
}

/// How many seconds what comes in one is waited for: on a machine with other things to do it may take fifty times as long.
pub(crate) const PATIENCE: u64 = 90;

pub(crate) async fn until(what: &str, is_so: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, is_so).await;
}

/// The same for what takes longer: so many seconds.
pub(crate) async fn until_within(limit: u64, what: &str, is_so: impl AsyncFnMut() -> bool) {
    look_until(limit, what, is_so, |is_so| *is_so).await;
}

/// Waits until something is as it should be, or says what it was at last.
pub(crate) async fn until_it<T: std::fmt::Debug>(
    what: &str,
    look: impl AsyncFnMut() -> T,
    is_so: impl Fn(&T) -> bool,
) {
    look_until(PATIENCE, what, look, is_so).await;
}

const SHORTEST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_millis(400);

async fn look_until<T: std::fmt::Debug>(
    limit: u64,
    what: &str,
    mut look: impl AsyncFnMut() -> T,
    is_so: impl Fn(&T) -> bool,
) {
    let start = Instant::now();
    loop {
        let seen = look().await;
        if is_so(&seen) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(limit), "waited {limit} s until {what}: {seen:?}");
        // Whoever waits long does not take the processor from what is waited for.
        tokio::time::sleep((start.elapsed() / 50).clamp(SHORTEST_LOOK, LONGEST_LOOK)).await;
    }
}

#[track_caller]
pub(crate) fn problem<T: std::fmt::Debug>(result: Result<T, CallError>) -> Problem {
    match result.unwrap_err() {
        CallError::Problem(problem) => problem,
        other => panic!("{other}"),
    }
}

pub(crate) fn count(cluster: &Cluster, is: impl Fn(HostRole) -> bool) -> usize {
    cluster.hosts.iter().filter(|host| is(host.role)).count()
}

/// So many hosts of one cluster, all that can vote voting; and a session.
pub(crate) async fn cluster_of(count_of_hosts: usize) -> (Vec<Host>, Secret) {
    let mut hosts: Vec<_> = (0..count_of_hosts).map(|number| Host::start(&format!("qx-{number}"))).collect();
    let session = hosts[0].settled().await;
    let made = hosts[0].make_token(&session, 10).await;
    for host in &mut hosts[1..] {
        host.settled().await;
    }
    for number in 1..hosts.len() {
        let own = hosts[number].sign_in().await;
        hosts[number].join(&own, &hosts[0], &made.token).await.unwrap();
    }
    let wanted = if count_of_hosts < 3 { 1 } else { 3.min(count_of_hosts) };
    for host in &hosts {
        host.ready().await;
        until("the voters vote", async || {
            let Ok(cluster) = host.cluster(&session).await else { return false };
            cluster.hosts.len() == count_of_hosts
                && count(&cluster, |role| matches!(role, HostRole::Leader | HostRole::Voter)) == wanted
        })
        .await;
    }
    (hosts, session)
}
