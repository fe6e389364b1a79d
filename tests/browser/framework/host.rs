//! A host: the agent, started again when it ends as systemd does, and the page server in front of it.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use quantix_api::{
    AgentClient, ChangePassword, CheckState, HostRole, JoinCluster, NewJoinToken, Secret, SignIn, calls,
};

use quantix_libvirt::Daemon;

use crate::{
    process::{Group, built},
    wait::until,
};

/// Who administers every host here.
pub const NAME: &str = "admin";
/// The password of everybody here who has chosen one.
pub const PASSWORD: &str = "correct horse battery";

/// Hosts of one test have addresses of their own: a browser keeps cookies by address, whatever the port.
static ADDRESSES: AtomicU8 = AtomicU8::new(1);

/// One host.
#[derive(Debug)]
pub struct Host {
    /// What it is called.
    pub name: String,
    /// Where its pages are.
    pub pages: SocketAddr,
    /// Where other hosts reach it.
    pub hosts: SocketAddr,
    dir: tempfile::TempDir,
    /// Its libvirt, if it has machines.
    pub machines: Option<Daemon>,
    agent: Arc<Mutex<Option<Group>>>,
    up: Arc<AtomicBool>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    server: Mutex<Option<Group>>,
}

impl Host {
    /// Where what it keeps is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A host as it is after its first boot.
    pub async fn start(name: &str) -> Arc<Self> {
        Self::start_with(name, None).await
    }

    async fn start_with(name: &str, machines: Option<Daemon>) -> Arc<Self> {
        let address = IpAddr::from([127, 0, 0, ADDRESSES.fetch_add(1, Ordering::Relaxed)]);
        let dir = tempfile::Builder::new().prefix("quantix-").tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let host = Self {
            name: name.to_owned(),
            pages: free_port(address),
            // Members learn each other's address from where a connection comes.
            hosts: free_port(IpAddr::from([127, 0, 0, 1])),
            dir,
            machines,
            agent: Arc::default(),
            up: Arc::default(),
            keeper: Mutex::default(),
            server: Mutex::default(),
        };
        host.start_agent();
        host.is_ready().await;
        host.start_pages().await;
        Arc::new(host)
    }

    /// A host whose administrator has chosen a password.
    pub async fn settled(name: &str) -> Arc<Self> {
        Self::start(name).await.settle().await
    }

    /// The same with virtual machines.
    pub async fn with_machines(name: &str) -> Arc<Self> {
        Self::start_with(name, Some(Daemon::start())).await.settle().await
    }

    async fn settle(self: Arc<Self>) -> Arc<Self> {
        let host = self;
        let first = host.first_password().await;
        let body = SignIn { username: NAME.into(), password: first.clone() };
        let session = host.agent().call(&calls::sign_in(&body)).await.unwrap();
        let change = ChangePassword { current: first, new: Secret::new(PASSWORD) };
        host.agent().call(&calls::change_password(&change).as_session(&session.token)).await.unwrap();
        host
    }

    /// What stands before every path.
    pub fn origin(&self) -> String {
        format!("https://{}", self.pages)
    }

    /// The password on its screen.
    pub async fn first_password(&self) -> Secret {
        self.agent().call(&calls::console()).await.unwrap().first_password.expect("it was changed already")
    }

    /// The agent itself, without pages.
    pub fn agent(&self) -> AgentClient {
        AgentClient::new(self.dir.path().join("run/api.sock"))
    }

    /// A session of the administrator, without a browser.
    pub async fn session(&self) -> Secret {
        let body = SignIn { username: NAME.into(), password: Secret::new(PASSWORD) };
        let mut session = None;
        until("one can sign in", async || {
            session = self.agent().call(&calls::sign_in(&body)).await.ok();
            session.is_some()
        })
        .await;
        session.unwrap().token
    }

    /// Waits until people can sign in and data can be changed.
    pub async fn is_ready(&self) {
        until(&format!("{} is ready", self.name), async || {
            let Ok(readiness) = self.agent().call(&calls::ready()).await else { return false };
            ["store", "account"].iter().all(|name| {
                readiness.checks.iter().any(|check| check.name == *name && check.state == CheckState::Ok)
            })
        })
        .await;
    }

    /// Becomes a member of the other's cluster.
    pub async fn join(&self, other: &Self) {
        let theirs = other.session().await;
        let token = NewJoinToken { purpose: "Second host in rack 4".into(), hours: 1, uses: 1 };
        let made = other.agent().call(&calls::make_join_token(&token).as_session(&theirs)).await.unwrap();
        let body = JoinCluster { address: other.hosts.to_string(), token: made.token };
        let own = self.session().await;
        self.agent().call(&calls::join(&body).as_session(&own)).await.unwrap();
        until(&format!("{} is a member", self.name), async || {
            let cluster = self.agent().call(&calls::cluster().as_session(&theirs)).await;
            cluster.is_ok_and(|cluster| {
                cluster.hosts.len() > 1 && cluster.hosts.iter().all(|host| host.role != HostRole::Joining)
            })
        })
        .await;
        self.is_ready().await;
    }

    /// Starts the agent, and starts it again whenever it ends.
    pub fn start_agent(&self) {
        self.up.store(true, Ordering::Relaxed);
        let folder = |name| self.dir.path().join(name).display().to_string();
        let (hosts, state, run) = (self.hosts.to_string(), folder("state"), folder("run"));
        let arguments = ["--name", &self.name, "--hosts", &hosts, "--state-dir", &state, "--run-dir", &run];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        if let Some(daemon) = &self.machines {
            let (socket, kept) = (daemon.socket().display().to_string(), daemon.kept().display().to_string());
            arguments.extend(["--libvirt".into(), socket, "--libvirt-kept".into(), kept]);
        }
        let log = self.dir.path().join("agent.log");
        let (agent, up, program) = (Arc::clone(&self.agent), Arc::clone(&self.up), built("quantixd"));
        *self.keeper.lock().unwrap() = Some(std::thread::spawn(move || {
            while up.load(Ordering::Relaxed) {
                *agent.lock().unwrap() = Some(Group::start(&program, &arguments, &log));
                while !agent.lock().unwrap().as_mut().unwrap().has_ended() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }));
    }

    /// Ends the agent for good.
    pub fn stop_agent(&self) {
        self.up.store(false, Ordering::Relaxed);
        if let Some(agent) = self.agent.lock().unwrap().as_mut() {
            agent.kill();
        }
        if let Some(keeper) = self.keeper.lock().unwrap().take() {
            keeper.join().unwrap();
        }
    }

    /// Starts the page server where it was before.
    pub async fn start_pages(&self) {
        let agent = self.dir.path().join("run/api.sock").display().to_string();
        let address = self.pages.to_string();
        // With the page that shows every component.
        let arguments = ["--dev", "--https", &address, "--agent", &agent];
        let arguments = arguments.map(str::to_owned);
        let log = self.dir.path().join("pages.log");
        let server = Group::start(&built("quantix-hostui"), &arguments, &log);
        *self.server.lock().unwrap() = Some(server);
        until("the pages answer", async || TcpStream::connect(self.pages).is_ok()).await;
    }

    /// Ends the page server.
    pub fn stop_pages(&self) {
        *self.server.lock().unwrap() = None;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop_pages();
        self.stop_agent();
        if std::thread::panicking() {
            for log in ["agent.log", "pages.log"] {
                print_end(&self.name, &self.dir.path().join(log));
            }
        }
    }
}

/// So many hosts of one cluster.
pub async fn cluster_of(count: usize) -> Vec<Arc<Host>> {
    let mut hosts = Vec::new();
    for number in 1..=count {
        hosts.push(Host::settled(&format!("qx-{number:02}")).await);
    }
    for host in &hosts[1..] {
        host.join(&hosts[0]).await;
    }
    hosts
}

pub(crate) fn free_port(address: IpAddr) -> SocketAddr {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

fn print_end(name: &str, log: &Path) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(30)..] {
        eprintln!("{name} {line}");
    }
}
