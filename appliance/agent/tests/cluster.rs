//! Several agents, each a process of its own, that become a cluster over loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quantix_api::{
    AgentClient, CallError, ChangePassword, CheckState, Cluster, HostRole, JoinCluster, MadeJoinToken,
    MoveLead, NewJoinToken, Problem, ProblemCode, RemoveHost, Secret, SetVoters, SignIn, calls,
};

const PASSWORD: &str = "correct horse battery";

/// A host whose agent is started again when it ends, as systemd does.
struct Host {
    name: String,
    hosts: SocketAddr,
    dir: tempfile::TempDir,
    child: Arc<Mutex<Option<Child>>>,
    up: Arc<AtomicBool>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = free.local_addr().unwrap();
        drop(free);
        let (child, up) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(true)));
        let mut host = Self { name: name.into(), hosts, dir, child, up, keeper: None };
        host.keeper = Some(host.keep());
        host
    }

    #[expect(clippy::disallowed_methods, reason = "the program under test is a process")]
    fn keep(&self) -> std::thread::JoinHandle<()> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quantixd"));
        command.args(["--name", &self.name, "--hosts", &self.hosts.to_string()]);
        command.arg("--state-dir").arg(self.dir.path().join("state"));
        command.arg("--run-dir").arg(self.dir.path().join("run"));
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

    fn kill(&mut self) {
        self.up.store(false, Ordering::Relaxed);
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            drop(child.kill());
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.join().unwrap();
        }
    }

    fn start_again(&mut self) {
        self.up.store(true, Ordering::Relaxed);
        self.keeper = Some(self.keep());
    }

    /// The files of its database, without the log.
    fn database(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = std::fs::read_dir(self.dir.path().join("state/cluster/store")).unwrap();
        let paths = folder.map(|file| file.unwrap().path());
        let is_of_it = |path: &PathBuf| {
            !["log", "lock"].iter().any(|of| path.file_name().unwrap().to_str().unwrap().starts_with(of))
        };
        paths.filter(is_of_it).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn client(&self) -> AgentClient {
        AgentClient::new(self.dir.path().join("run/api.sock"))
    }

    /// Waits until people can sign in and data can be changed.
    async fn ready(&self) {
        until(&format!("{} is ready", self.name), async || {
            let Ok(readiness) = self.client().call(&calls::ready()).await else { return false };
            ["store", "account"].iter().all(|name| {
                readiness.checks.iter().any(|check| check.name == *name && check.state == CheckState::Ok)
            })
        })
        .await;
    }

    async fn sign_in(&self) -> Secret {
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
    async fn settled(&self) -> Secret {
        self.ready().await;
        let first = self.client().call(&calls::console()).await.unwrap().first_password.unwrap();
        let body = SignIn { username: "admin".into(), password: first.clone() };
        let session = self.client().call(&calls::sign_in(&body)).await.unwrap();
        let change = ChangePassword { current: first, new: Secret::new(PASSWORD) };
        self.client().call(&calls::change_password(&change).as_session(&session.token)).await.unwrap();
        session.token
    }

    async fn cluster(&self, session: &Secret) -> Result<Cluster, CallError> {
        self.client().call(&calls::cluster().as_session(session)).await
    }

    async fn make_token(&self, session: &Secret, uses: u32) -> MadeJoinToken {
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

    async fn join(&self, session: &Secret, to: &Host, token: &Secret) -> Result<(), CallError> {
        let body = JoinCluster { address: to.hosts.to_string(), token: token.clone() };
        self.client().call(&calls::join(&body).as_session(session)).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, CallError>) -> Problem {
    match result.unwrap_err() {
        CallError::Problem(problem) => problem,
        other => panic!("{other}"),
    }
}

fn count(cluster: &Cluster, is: impl Fn(HostRole) -> bool) -> usize {
    cluster.hosts.iter().filter(|host| is(host.role)).count()
}

/// So many hosts of one cluster, all that can vote voting; and a session.
async fn cluster_of(count_of_hosts: usize) -> (Vec<Host>, Secret) {
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

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_join_and_any_of_them_answers() {
    let (mut hosts, session) = cluster_of(3).await;
    // Whatever is asked of any host is done, and is seen there at once.
    for host in &hosts {
        let made = host.make_token(&session, 1).await;
        let tokens = host.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
        assert!(tokens.tokens.iter().any(|token| token.id == made.kept.id));
    }
    let cluster = hosts[1].cluster(&session).await.unwrap();
    assert!(cluster.writable && cluster.hosts.iter().all(|host| !host.address.is_empty()), "{cluster:?}");
    assert_eq!(
        cluster.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(),
        ["qx-0", "qx-1", "qx-2"]
    );

    // The leader dies; the others go on, with the same sessions.
    hosts[0].kill();
    let start = Instant::now();
    until("another leads", async || {
        hosts[1].cluster(&session).await.is_ok_and(|now| now.writable && now.leader != cluster.leader)
    })
    .await;
    println!("another leads after {:?}", start.elapsed());
    hosts[2].make_token(&session, 1).await;
    let again = hosts[2].sign_in().await;
    assert!(hosts[1].cluster(&again).await.is_ok());

    hosts[0].start_again();
    hosts[0].ready().await;
    until("the first has caught up", async || {
        let Ok(now) = hosts[0].cluster(&again).await else { return false };
        hosts[1].cluster(&again).await.is_ok_and(|other| other.applied_index == now.applied_index)
    })
    .await;
}

/// A power cut leaves the log whole; the database may be as it was when the other hosts were not there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_forgotten_the_others_lets_them_in_again() {
    let mut hosts: Vec<_> = ["qx-0", "qx-1", "qx-2"].into_iter().map(Host::start).collect();
    let session = hosts[0].settled().await;
    let made = hosts[0].make_token(&session, 10).await;
    hosts[0].kill();
    let earlier = hosts[0].database();
    hosts[0].start_again();
    hosts[0].ready().await;
    for number in [1, 2] {
        let own = hosts[number].settled().await;
        hosts[number].join(&own, &hosts[0], &made.token).await.unwrap();
    }
    until("three vote", async || {
        let Ok(cluster) = hosts[1].cluster(&session).await else { return false };
        count(&cluster, |role| matches!(role, HostRole::Leader | HostRole::Voter)) == 3
    })
    .await;
    hosts[0].kill();
    for (path, _) in hosts[0].database() {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in earlier {
        std::fs::write(path, bytes).unwrap();
    }
    hosts[1].make_token(&session, 1).await;
    hosts[0].start_again();
    hosts[0].ready().await;
    until("it has caught up", async || {
        let Ok(now) = hosts[0].cluster(&session).await else { return false };
        now.hosts.len() == 3 && now.hosts.iter().all(|host| host.lag == Some(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_people_see_everything_and_change_nothing() {
    let (mut hosts, session) = cluster_of(3).await;
    hosts[0].kill();
    hosts[1].kill();
    until("the last host knows that it is alone", async || {
        hosts[2].cluster(&session).await.is_ok_and(|cluster| !cluster.writable)
    })
    .await;
    let own = hosts[2].sign_in().await;
    let cluster = hosts[2].cluster(&own).await.unwrap();
    assert_eq!(cluster.hosts.len(), 3);
    let body = NewJoinToken { purpose: "a test".into(), hours: 1, uses: 1 };
    let refused = problem(hosts[2].client().call(&calls::make_join_token(&body).as_session(&own)).await);
    assert_eq!(refused.code, ProblemCode::Unavailable);
    hosts[1].start_again();
    until("two are enough", async || hosts[2].cluster(&own).await.is_ok_and(|cluster| cluster.writable))
        .await;
    hosts[2].make_token(&session, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_alone_when_it_is_told_to() {
    let (mut hosts, session) = cluster_of(3).await;
    let named = RemoveHost { name: "qx-2".into() };
    let early = problem(hosts[2].client().call(&calls::recover(&named).as_session(&session)).await);
    assert!(early.detail.contains("nothing to recover from"), "{early}");
    let made = hosts[1].make_token(&session, 1).await;
    hosts[0].kill();
    hosts[1].kill();
    until("the last host knows that it is alone", async || {
        hosts[2].cluster(&session).await.is_ok_and(|cluster| !cluster.writable)
    })
    .await;
    let own = hosts[2].sign_in().await;
    let wrong = RemoveHost { name: "qx-1".into() };
    let refused = problem(hosts[2].client().call(&calls::recover(&wrong).as_session(&own)).await);
    assert_eq!(refused.field.as_deref(), Some("name"));
    hosts[2].client().call(&calls::recover(&named).as_session(&own)).await.unwrap();
    until("it goes on", async || {
        hosts[2].cluster(&session).await.is_ok_and(|cluster| cluster.writable && cluster.hosts.len() == 1)
    })
    .await;
    let tokens = hosts[2].client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    assert!(tokens.tokens.iter().any(|token| token.id == made.kept.id));
    hosts[2].make_token(&session, 1).await;
    // One that comes back is refused, and says so.
    hosts[0].start_again();
    until("it says that it was removed", async || {
        let Ok(readiness) = hosts[0].client().call(&calls::ready()).await else { return false };
        readiness.checks.iter().any(|check| check.detail.contains("was removed"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vdc_role_moves_and_hosts_leave_and_are_removed() {
    let (mut hosts, session) = cluster_of(3).await;
    let cluster = hosts[0].cluster(&session).await.unwrap();
    let id = |name: &str| cluster.hosts.iter().find(|host| host.name == name).unwrap().id.clone();

    let to = MoveLead { host: id("qx-2") };
    hosts[1].client().call(&calls::move_lead(&to).as_session(&session)).await.unwrap();
    until("it leads", async || {
        hosts[1].cluster(&session).await.is_ok_and(|now| now.leader == Some(id("qx-2")) && now.writable)
    })
    .await;

    let wrong = RemoveHost { name: "qx-1".into() };
    let refused = hosts[1].client().call(&calls::remove_host(&id("qx-0"), &wrong).as_session(&session)).await;
    assert_eq!(problem(refused).code, ProblemCode::Invalid);

    // A dead host is removed; when it comes back it is refused and says so.
    hosts[0].kill();
    let named = RemoveHost { name: "qx-0".into() };
    hosts[1].client().call(&calls::remove_host(&id("qx-0"), &named).as_session(&session)).await.unwrap();
    until("one votes", async || {
        let Ok(now) = hosts[1].cluster(&session).await else { return false };
        now.hosts.len() == 2 && now.writable && count(&now, |role| role == HostRole::Voter) == 0
    })
    .await;
    hosts[0].start_again();
    until("it says that it was removed", async || {
        let Ok(readiness) = hosts[0].client().call(&calls::ready()).await else { return false };
        readiness.checks.iter().any(|check| check.detail.contains("was removed"))
    })
    .await;

    // It starts anew, and may come back as a new host.
    let own = hosts[0].sign_in().await;
    hosts[0].client().call(&calls::leave().as_session(&own)).await.unwrap();
    until("it has a password of its own", async || {
        hosts[0].client().call(&calls::console()).await.is_ok_and(|view| view.first_password.is_some())
    })
    .await;
    let own = hosts[0].settled().await;
    let made = hosts[1].make_token(&session, 1).await;
    hosts[0].join(&own, &hosts[1], &made.token).await.unwrap();
    until("it is back", async || hosts[0].cluster(&session).await.is_ok_and(|now| now.hosts.len() == 3))
        .await;

    // The leader leaves: another leads, and it is a cluster of its own.
    hosts[2].client().call(&calls::leave().as_session(&session)).await.unwrap();
    until("two are left", async || {
        hosts[1].cluster(&session).await.is_ok_and(|now| now.hosts.len() == 2 && now.writable)
    })
    .await;
    until("it starts anew", async || {
        hosts[2].client().call(&calls::console()).await.is_ok_and(|view| view.first_password.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_hold_let_nobody_in() {
    let (member, stranger, other) = (Host::start("qx-a"), Host::start("qx-b"), Host::start("qx-c"));
    let session = member.settled().await;
    let own = stranger.settled().await;
    let elsewhere = other.settled().await;
    let refused = async |token: &Secret| {
        // The member slows down whoever guesses.
        loop {
            let problem = problem(stranger.join(&own, &member, token).await);
            if problem.code != ProblemCode::TooManyAttempts {
                return problem;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    assert_eq!(refused(&Secret::new("hello")).await.field.as_deref(), Some("token"));
    assert_eq!(refused(&Secret::new("QUANTIX-0000-0000-0000-0000")).await.code, ProblemCode::Forbidden);
    let foreign = other.make_token(&elsewhere, 1).await;
    assert_eq!(refused(&foreign.token).await.code, ProblemCode::Forbidden);
    let revoked = member.make_token(&session, 1).await;
    member.client().call(&calls::revoke_join_token(&revoked.kept.id).as_session(&session)).await.unwrap();
    assert!(refused(&revoked.token).await.detail.contains("taken back"));
    let nowhere = JoinCluster { address: "127.0.0.1:1".into(), token: revoked.token.clone() };
    let refusal = problem(stranger.client().call(&calls::join(&nowhere).as_session(&own)).await);
    assert_eq!(refusal.field.as_deref(), Some("address"));

    let once = member.make_token(&session, 1).await;
    stranger.join(&own, &member, &once.token).await.unwrap();
    until("it is in", async || stranger.cluster(&session).await.is_ok_and(|now| now.hosts.len() == 2)).await;
    let used_up = problem(other.join(&elsewhere, &member, &once.token).await);
    assert!(used_up.detail.contains("used up"), "{used_up}");
    let tokens = member.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    let used = tokens.tokens.iter().find(|token| token.id == once.kept.id).unwrap();
    assert_eq!((used.uses_left, used.used_by.as_slice()), (0, &["qx-b".to_owned()][..]));

    let twin = Host::start("qx-B");
    let own = twin.settled().await;
    let made = member.make_token(&session, 1).await;
    let clash = problem(twin.join(&own, &member, &made.token).await);
    assert_eq!(clash.field.as_deref(), Some("name"), "{clash}");
    // Nothing of it was used or kept.
    let tokens = member.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    assert_eq!(tokens.tokens.iter().find(|token| token.id == made.kept.id).unwrap().uses_left, 1);
    assert_eq!(member.cluster(&session).await.unwrap().hosts.len(), 2);

    let even = SetVoters { wanted: Some(2) };
    let refusal = problem(member.client().call(&calls::set_voters(&even).as_session(&session)).await);
    assert_eq!(refusal.field.as_deref(), Some("wanted"));
}
