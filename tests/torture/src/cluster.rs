//! Members as processes.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    member::CLIENTS,
    space::Space,
    wire::{Answer, Ask, Client, Standing},
};

/// What gives a process another time.
pub const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A member's process.
#[derive(Debug)]
pub struct Process {
    /// Where its data is.
    pub folder: PathBuf,
    /// Where other members reach it.
    pub ip: String,
    /// The port for members.
    pub port: u16,
    /// The network it stands in, if that is not the machine's.
    pub space: Option<Space>,
    child: Option<Child>,
}

impl Process {
    /// A member that is not running.
    pub fn new(folder: &Path, ip: &str, port: u16) -> Self {
        Self { folder: folder.into(), ip: ip.into(), port, space: None, child: None }
    }

    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "a member is a process")]
    pub fn start(&mut self) {
        let program = std::env::current_exe().unwrap().with_file_name("quantix-member");
        let mut command = Command::new(program);
        command.arg(&self.folder).arg(&self.ip).arg(self.port.to_string());
        let errors = std::fs::File::create(self.folder.with_extension("err")).unwrap();
        // It ends when this process does, for then its input does.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
        let child = match &self.space {
            Some(space) => {
                // Its clock is off by what a file says; while there is none it is right.
                command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", self.clock());
                command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
                space.inside(|| command.spawn()).unwrap()
            }
            None => command.spawn(),
        };
        self.child = Some(child.unwrap());
    }

    /// Kills it as a power cut would, but for what the kernel still holds.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// What it said last.
    pub fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.folder.with_extension("err")).unwrap_or_default();
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// Where other members reach it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }

    /// Where clients do.
    pub fn client_address(&self) -> String {
        format!("{}:{}", self.ip, self.port + CLIENTS)
    }

    /// The file that says what is wrong with its clock.
    pub fn clock(&self) -> PathBuf {
        self.folder.with_extension("clock")
    }

    /// A connection for a client.
    pub async fn client(&self) -> std::io::Result<Client> {
        Client::connect(&self.client_address()).await
    }

    /// Asks once.
    pub async fn ask(&self, ask: &Ask) -> std::io::Result<Answer> {
        self.client().await?.ask(ask).await
    }

    /// How it stands, if it answers.
    pub async fn standing(&self) -> Option<Standing> {
        match tokio::time::timeout(Duration::from_secs(2), self.ask(&Ask::Status)).await {
            Ok(Ok(Answer::Status(standing))) => Some(standing),
            _ => None,
        }
    }

    /// Memory that is resident, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes the members one cluster, of which the first is the leader, and waits until all can vote.
pub async fn found(members: &mut [Process]) {
    for member in &mut *members {
        member.start();
    }
    for member in &*members {
        until("a member answers", async || member.client().await.is_ok()).await;
    }
    assert_eq!(members[0].ask(&Ask::Found).await.unwrap(), Answer::Done(None));
    until("the first leads", async || {
        members[0].standing().await.is_some_and(|standing| standing.leads && standing.schema == 1)
    })
    .await;
    for member in &members[1..] {
        let Ok(Answer::Figures(id)) = member.ask(&Ask::Id).await else { panic!("no id") };
        let added = members[0].ask(&Ask::Add(id[0], member.address())).await.unwrap();
        assert_eq!(added, Answer::Done(None));
    }
    let voters = [1, 1, 3, 3, 5][members.len().min(5) - 1];
    until("all that can vote do", async || {
        members[0].standing().await.is_some_and(|standing| standing.voters == voters)
    })
    .await;
    for member in &*members {
        until("all have the tables", async || {
            member.standing().await.is_some_and(|standing| standing.schema == 1)
        })
        .await;
    }
}

/// Waits for something, a minute at most.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waited a minute until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
