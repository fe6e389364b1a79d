//! The agent and the page server as on a host, each a process, with as much in the audit log as is asked for.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use quantix_api::{AgentClient, ChangePassword, ConsoleView, NewUser, Secret, SignIn, built_in, calls};
use quantix_libvirt::Daemon;
use rusqlite::{Connection, params};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::wire::Server;

/// The password of everybody who is signed in.
pub const PASSWORD: &str = "correct horse battery";
const START: Duration = Duration::from_secs(20);

/// Both programs.
#[derive(Debug)]
pub struct Programs {
    agent: Child,
    pages: Child,
    port: u16,
    built: PathBuf,
    folder: PathBuf,
    /// libvirt's socket, and where it keeps what it was told.
    machines: Option<(PathBuf, PathBuf)>,
    /// Sessions of so many administrators; the first is the one that every host has.
    pub sessions: Vec<Secret>,
}

impl Programs {
    /// Starts them with their state below a folder. So many people are signed in, and the audit log holds so many
    /// lines. The agent has a libvirt, if one is given.
    pub async fn start(
        built: &Path,
        folder: &Path,
        people: usize,
        lines: u32,
        machines: Option<&Daemon>,
    ) -> Self {
        let machines = machines.map(|daemon| (daemon.socket(), daemon.kept()));
        let agent = start_agent(built, folder, machines.as_ref());
        let client = AgentClient::new(folder.join("run/api.sock"));
        let mut sessions = vec![begin(&client, "admin", first_password(&client).await).await];
        for number in 1..people {
            let new = NewUser { username: format!("person-{number}"), role: built_in::ADMINISTRATOR.into() };
            let made = client.call(&calls::make_user(&new).as_session(&sessions[0])).await.unwrap();
            sessions.push(begin(&client, &new.username, made.password).await);
        }
        let (pages, port) = start_pages(built, folder);
        let (built, folder) = (built.to_owned(), folder.to_owned());
        let mut programs = Self { agent, pages, port, built, folder, machines, sessions };
        programs.fill(|database| in_the_log(database, lines)).await;
        programs
    }

    /// Writes what years of use would have left, while nobody looks: the agent ends, and starts again.
    pub async fn fill(&mut self, write: impl FnOnce(&Connection)) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        let mut database = Connection::open(database(&self.folder)).unwrap();
        let transaction = database.transaction().unwrap();
        write(&transaction);
        transaction.commit().unwrap();
        drop(database);
        self.agent = start_agent(&self.built, &self.folder, self.machines.as_ref());
        let start = Instant::now();
        while self.agent().call(&calls::session().as_session(&self.sessions[0])).await.is_err() {
            assert!(start.elapsed() < START, "the agent did not come up again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The port of pages and API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the pages and the API are.
    pub fn server(&self) -> Server {
        let pem = fs::read(self.folder.join("state/tls/cert.pem")).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        Server::new(SocketAddr::from(([127, 0, 0, 1], self.port)), "localhost", certificate)
    }

    /// A client of the agent's own socket.
    pub fn agent(&self) -> AgentClient {
        AgentClient::new(self.folder.join("run/api.sock"))
    }

    /// What the page server and the agent hold in memory, in KiB.
    pub fn memory(&self) -> (u64, u64) {
        (resident(self.pages.id()), resident(self.agent.id()))
    }

    /// The processor time that both have used.
    pub fn worked(&self) -> (Duration, Duration) {
        (worked(self.pages.id()), worked(self.agent.id()))
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for child in [&mut self.pages, &mut self.agent] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The session of somebody who has chosen a password.
async fn begin(client: &AgentClient, name: &str, first: Secret) -> Secret {
    let sign_in = SignIn { username: name.into(), password: first.clone() };
    let session = client.call(&calls::sign_in(&sign_in)).await.unwrap().token;
    let change = ChangePassword { current: first, new: Secret::new(PASSWORD) };
    client.call(&calls::change_password(&change).as_session(&session)).await.unwrap();
    session
}

async fn first_password(client: &AgentClient) -> Secret {
    let start = Instant::now();
    loop {
        if let Ok(ConsoleView { first_password: Some(password), .. }) = client.call(&calls::console()).await {
            return password;
        }
        assert!(start.elapsed() < START, "the agent did not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn start_agent(built: &Path, folder: &Path, machines: Option<&(PathBuf, PathBuf)>) -> Child {
    let (state, run) = (folder.join("state"), folder.join("run"));
    let log = fs::File::options().create(true).append(true).open(folder.join("agent.log")).unwrap();
    let mut command = program(&built.join("quantixd"));
    command.arg("--state-dir").arg(state).arg("--run-dir").arg(run).args(["--hosts", "127.0.0.1:0"]);
    if let Some((socket, kept)) = machines {
        command.arg("--libvirt").arg(socket).arg("--libvirt-kept").arg(kept);
    }
    command.stderr(log).spawn().unwrap()
}

fn start_pages(built: &Path, folder: &Path) -> (Child, u16) {
    let mut command = program(&built.join("quantix-hostui"));
    command.args(["--https", "127.0.0.1:0", "--agent"]).arg(folder.join("run/api.sock"));
    let mut pages = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(pages.stderr.take().unwrap()).lines().map_while(Result::ok);
    let port = said.by_ref().find_map(|line| line.rsplit_once("on port ")?.1.parse().ok()).unwrap();
    // What it says later is taken, so that it never waits for somebody to read it.
    std::thread::spawn(move || said.for_each(drop));
    (pages, port)
}

#[expect(clippy::disallowed_methods, reason = "what is measured are processes")]
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn database(folder: &Path) -> PathBuf {
    let store = folder.join("state/cluster/store");
    let database = fs::read_dir(&store).unwrap().filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("state-") && name.ends_with(".db")
    });
    database.unwrap()
}

/// Lines of the audit log as people make them.
fn in_the_log(database: &Connection, lines: u32) {
    for number in 0..lines {
        let person = format!("person-{}", number % 40);
        let action =
            ["sign in", "sign out", "make join token", "lock user", "make backup"][number as usize % 5];
        let address = format!("192.0.2.{}", number % 250);
        database
            .prepare_cached(
                "INSERT INTO audit (id, at, actor, address, action, object, outcome)
                 SELECT coalesce(max(id), 0) + 1, ?1, ?2, ?3, ?4, ?5, 'done' FROM audit",
            )
            .unwrap()
            .execute(params![1_760_000_000 + i64::from(number), person, address, action, person])
            .unwrap();
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn worked(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold anything; user and system time, in hundredths of a second.
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
