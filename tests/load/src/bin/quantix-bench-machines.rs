//! `quantix-bench-machines FOLDER`: how fast machines are started and listed, beside virsh with the same libvirt.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends at what it did not expect"
)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use quantix_api::{
    AgentClient, ChangeVm, CloneVm, ConsoleKind, NewDisk, NewVm, OpenConsole, PowerVm, Secret, TaskState,
    VmAction, VmPolicy, VmQuery, VmSpec, VmState, calls,
};
use quantix_compute::Libvirt;
use quantix_libvirt::Daemon;
use quantix_load::{
    figures::Figures,
    programs::Programs,
    wire::{Question, Version},
};
use rusqlite::Connection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Machines that are there when they are listed.
const MACHINES: usize = 1000;
/// So many are made at once.
const AT_ONCE: usize = 16;
/// Starts of each kind, one after the other in turn.
const STARTS: usize = 15;
const LISTS: usize = 100;
/// Snapshots of each machine.
const SNAPSHOTS: usize = 48;
/// Machines that are on while nobody asks for anything.
const ON: usize = 200;
/// Consoles that are opened, one after the other.
const GREETINGS: usize = 100;

/// The agent, and who asks it.
#[derive(Clone)]
struct Asker {
    client: AgentClient,
    session: Secret,
}

impl Asker {
    async fn make(&self, name: String) -> String {
        let mut spec = VmSpec::named(&name);
        (spec.cpu.cores, spec.memory.mib) = (1, 64);
        let new = NewVm::usual(spec);
        let task = self.client.call(&calls::make_vm(&new).as_session(&self.session)).await.unwrap();
        self.ends(task.id).await;
        task.object.strip_prefix("vm/").unwrap().to_owned()
    }

    async fn ends(&self, task: i64) {
        loop {
            let task = self.client.call(&calls::task(task).as_session(&self.session)).await.unwrap();
            if task.state.is_end() {
                assert_eq!(task.state, TaskState::Done, "{task:?}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn does(&self, id: &str, action: VmAction) {
        let call = calls::power_vm(id, &PowerVm::usual(action)).as_session(&self.session);
        self.ends(self.client.call(&call).await.unwrap().id).await;
    }

    async fn list(&self, limit: u32) -> usize {
        let query = VmQuery { limit: Some(limit), ..VmQuery::default() };
        self.client.call(&calls::vms(&query).as_session(&self.session)).await.unwrap().items.len()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let built = PathBuf::from(std::env::args().nth(1).unwrap());
    let folder = tempfile::tempdir_in(".").unwrap();
    let daemon = Daemon::start();
    let mut programs = Programs::start(&built, folder.path(), 1, 1000, Some(&daemon)).await;
    let asker = Asker { client: programs.agent(), session: programs.sessions[0].clone() };

    let first = asker.make("first".into()).await;
    let (ours, theirs) = starts(&asker, &daemon, &first).await;
    println!("| what | median ms | longest ms |");
    println!("| --- | --- | --- |");
    row("a call to the API until QEMU runs", &ours);
    row("`virsh create` of the same description", &theirs);
    println!("\nOf the medians: {:.2} times.\n", ours.p50.as_secs_f64() / theirs.p50.as_secs_f64());

    let (ours, theirs) = clones(&asker, &daemon, folder.path()).await;
    println!("| a machine whose disk lies on another's of 2 GiB | median ms | longest ms |");
    println!("| --- | --- | --- |");
    row("a call to the API to clone a template, linked, until QEMU runs", &ours);
    row("`qemu-img create -b` and `virsh create`", &theirs);
    println!("\nOf the medians: {:.2} times.\n", ours.p50.as_secs_f64() / theirs.p50.as_secs_f64());

    let (direct, relayed) = consoles(&asker, &programs, &daemon, &first).await;
    println!("| a question to a screen and its answer | median ms | 95th | 99th |");
    println!("| --- | --- | --- | --- |");
    list_row("over the socket that libvirt hands over", direct.clone());
    list_row("over TLS, the page server and the agent", relayed.clone());
    let second = Duration::from_secs(1);
    let added = Figures::of(relayed, second).p50.saturating_sub(Figures::of(direct, second).p50);
    println!("\nThe relay adds {:.2} ms to the median.\n", ms(added));

    let begin = Instant::now();
    let mut made = tokio::task::JoinSet::new();
    for number in 1..MACHINES {
        if made.len() >= AT_ONCE {
            made.join_next().await.unwrap().unwrap();
        }
        let asker = asker.clone();
        made.spawn(async move { asker.make(format!("web-{number:04}")).await });
    }
    made.join_all().await;
    println!(
        "{} machines were made in {:.0} s, {AT_ONCE} at once.\n",
        MACHINES - 1,
        begin.elapsed().as_secs_f64()
    );

    programs.fill(has_snapshots).await;
    println!(
        "| list of {MACHINES} machines with {} snapshots | median ms | 95th | 99th |",
        MACHINES * SNAPSHOTS
    );
    println!("| --- | --- | --- | --- |");
    for (what, limit) in [("API, the first 50", 50), ("API, all", 1000)] {
        let mut took = Vec::new();
        for _ in 0..LISTS {
            let begin = Instant::now();
            assert_eq!(asker.list(limit).await, limit as usize);
            took.push(begin.elapsed());
        }
        list_row(what, took);
    }
    let (took, bytes) = pages(&programs).await;
    list_row("the page with the first 50", took);
    let of_first = calls::snapshots(&first).as_session(&asker.session);
    let begin = Instant::now();
    assert_eq!(asker.client.call(&of_first).await.unwrap().items.len(), SNAPSHOTS);
    list_row("API, the snapshots of one of them", vec![begin.elapsed()]);
    let virsh = |arguments: &[&str], least: usize| {
        let mut took = Vec::new();
        for _ in 0..LISTS / 10 {
            let begin = Instant::now();
            assert!(daemon.virsh(arguments).lines().count() >= least);
            took.push(begin.elapsed());
        }
        took
    };
    list_row("`virsh list --all`, without snapshots", virsh(&["list", "--all"], MACHINES));
    list_row("`virsh domstats --state`, without snapshots", virsh(&["domstats", "--state"], MACHINES));
    println!("\nThe page with the first 50 has {} kB uncompressed.", bytes / 1000);
    println!("\nThe agent with {MACHINES} machines, none of them asked for: {}.", idle(&programs).await);

    let ids: Vec<_> = {
        let query = VmQuery { text: Some("web-".into()), limit: Some(ON as u32), ..VmQuery::default() };
        let page = asker.client.call(&calls::vms(&query).as_session(&asker.session)).await.unwrap();
        page.items.into_iter().map(|vm| vm.id).collect()
    };
    for id in &ids {
        asker.does(id, VmAction::Start).await;
        // A firmware that is imitated and finds nothing would keep the processor busy.
        asker.does(id, VmAction::Pause).await;
    }
    println!("\nWith {ON} of them on and standing still: {}.", idle(&programs).await);
    for id in &ids {
        asker.does(id, VmAction::ForceStop).await;
    }
}

/// What the agent takes of a processor when nobody asks for anything, and of memory.
async fn idle(programs: &Programs) -> String {
    // What was begun before ends.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (_, before) = programs.worked();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (_, after) = programs.worked();
    let share = (after - before).as_secs_f64() / 60.0 * 100.0;
    let (_, kib) = programs.memory();
    format!("{share:.1} % of a core, {} MiB", kib / 1024)
}

/// Gives every machine snapshots, one after the other.
fn has_snapshots(database: &Connection) {
    let written = database
        .execute(
            "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
             INSERT INTO snapshot (id, vm, name, description, parent, spec, has_memory, is_ready, made_at, made_by)
             SELECT vm.id || '-' || n, vm.id, 'day ' || n, 'before the update of the day',
                 CASE n WHEN 1 THEN NULL ELSE vm.id || '-' || (n - 1) END, vm.spec, 0, 1, vm.made_at + n, 'admin'
             FROM vm CROSS JOIN number WHERE NOT EXISTS (SELECT 1 FROM snapshot WHERE snapshot.vm = vm.id)",
            [SNAPSHOTS],
        )
        .unwrap();
    assert!(written >= (MACHINES - 1) * SNAPSHOTS);
}

/// How long the page with the list takes to come over TLS, and how long it is.
async fn pages(programs: &Programs) -> (Vec<Duration>, usize) {
    let server = programs.server();
    let cookie = format!("__Host-quantix={}", programs.sessions[0].expose());
    let question = Question { path: "/vms".into(), headers: vec![("cookie", cookie)], body: Bytes::new() };
    let mut connection = server.connect(Version::Http1, [127, 0, 0, 1].into()).await.unwrap();
    let (mut took, mut bytes) = (Vec::new(), 0);
    for _ in 0..LISTS {
        let begin = Instant::now();
        let answer = connection.ask(&server, &question).await.unwrap();
        took.push(begin.elapsed());
        assert!(answer.status.is_success() && answer.body.windows(4).any(|part| part == b"web-"));
        bytes = answer.body.len();
    }
    (took, bytes)
}

/// How long a screen takes to answer, of which each greeting has three: directly, and as a browser reaches it, in turn.
async fn consoles(
    asker: &Asker,
    programs: &Programs,
    daemon: &Daemon,
    id: &str,
) -> (Vec<Duration>, Vec<Duration>) {
    asker.does(id, VmAction::Start).await;
    asker.does(id, VmAction::Pause).await;
    let libvirt = Libvirt::open(&daemon.socket(), Path::new("/")).unwrap();
    let (mut direct, mut relayed) = (Vec::new(), Vec::new());
    let open = OpenConsole { kind: ConsoleKind::Screen, take_over: false };
    for _ in 0..GREETINGS {
        let mut screen = libvirt.screen(id.parse().unwrap()).await.unwrap();
        screen.read_exact(&mut [0; 12]).await.unwrap();
        for (said, answer) in GREETING {
            let begin = Instant::now();
            screen.write_all(said).await.unwrap();
            screen.read_exact(&mut vec![0; answer]).await.unwrap();
            direct.push(begin.elapsed());
        }
        let ticket =
            asker.client.call(&calls::open_console(id, &open).as_session(&asker.session)).await.unwrap();
        let stream = programs.server().stream(Version::Http1, [127, 0, 0, 1].into()).await.unwrap();
        let address = format!("wss://localhost{}", ticket.address.expose());
        let (mut socket, _) = client_async(address, stream).await.unwrap();
        let mut comes = Vec::new();
        comes_to(&mut socket, &mut comes, 12).await;
        for (said, answer) in GREETING {
            let begin = Instant::now();
            socket.send(Message::Binary(said.to_vec().into())).await.unwrap();
            comes_to(&mut socket, &mut comes, answer).await;
            relayed.push(begin.elapsed());
        }
    }
    asker.does(id, VmAction::ForceStop).await;
    (direct, relayed)
}

/// What a client of VNC says, and how many bytes are answered at least.
const GREETING: [(&[u8], usize); 3] = [(b"RFB 003.008\n", 2), (&[1], 4), (&[1], 24)];

/// Waits until so many bytes have come, and forgets them.
async fn comes_to<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    comes: &mut Vec<u8>,
    count: usize,
) {
    while comes.len() < count {
        if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
            comes.extend(bytes);
        }
    }
    comes.clear();
}

/// Starts a machine through the API, and the same description as another machine with virsh, in turn.
async fn starts(asker: &Asker, daemon: &Daemon, id: &str) -> (Figures, Figures) {
    let description = daemon.virsh(&["dumpxml", id, "--inactive"]);
    let domain = daemon.virsh(&["domname", id]).trim().to_owned();
    let other = description
        .replace(id, "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
        .replace(&format!("<name>{domain}</name>"), "<name>peer</name>");
    let file = daemon.dir.path().join("run/peer.xml");
    std::fs::write(&file, other.replace(&format!("{domain}_VARS"), "peer_VARS")).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begin = Instant::now();
        asker.does(id, VmAction::Start).await;
        ours.push(begin.elapsed());
        let vm = asker.client.call(&calls::vm(id).as_session(&asker.session)).await.unwrap();
        assert_eq!(vm.state, VmState::Running);
        asker.does(id, VmAction::ForceStop).await;
        let begin = Instant::now();
        daemon.virsh(&["create", &inside(&file)]);
        theirs.push(begin.elapsed());
        daemon.virsh(&["destroy", "peer"]);
    }
    let second = Duration::from_secs(1);
    (Figures::of(ours, second), Figures::of(theirs, second))
}

/// Clones a template and starts what it becomes, and does the same with qemu-img and virsh, in turn.
async fn clones(asker: &Asker, daemon: &Daemon, folder: &Path) -> (Figures, Figures) {
    let mut spec = VmSpec::named("golden");
    (spec.cpu.cores, spec.memory.mib) = (1, 64);
    let cache = quantix_api::Cache::default();
    let disk = NewDisk { pool: "local".into(), bytes: 2 << 30, image: None, linked: false, bus: None, cache };
    let new = NewVm { disks: vec![disk], ..NewVm::usual(spec) };
    let task = asker.client.call(&calls::make_vm(&new).as_session(&asker.session)).await.unwrap();
    asker.ends(task.id).await;
    let golden = task.object.strip_prefix("vm/").unwrap().to_owned();
    let policy = Some(VmPolicy { template: true, ..VmPolicy::default() });
    let change = ChangeVm { policy, ..ChangeVm::default() };
    asker.client.call(&calls::change_vm(&golden, &change).as_session(&asker.session)).await.unwrap();
    let base = disk_of(daemon, &golden);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        let name = format!("clone-{number}");
        let begin = Instant::now();
        let body = CloneVm { name, folder: None, snapshot: None, linked: true, start: true };
        let task =
            asker.client.call(&calls::clone_vm(&golden, &body).as_session(&asker.session)).await.unwrap();
        let id = task.object.strip_prefix("vm/").unwrap().to_owned();
        while asker.client.call(&calls::vm(&id).as_session(&asker.session)).await.unwrap().state
            != VmState::Running
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ours.push(begin.elapsed());
        let description = daemon.virsh(&["dumpxml", &id, "--inactive"]);
        let (domain, disk) = (daemon.virsh(&["domname", &id]).trim().to_owned(), disk_of(daemon, &id));
        asker.does(&id, VmAction::ForceStop).await;
        let peer = folder.canonicalize().unwrap().join("peer.qcow2");
        let other = description
            .replace(&id, "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
            .replace(&format!("<name>{domain}</name>"), "<name>peer</name>")
            .replace(&format!("{domain}_VARS"), "peer_VARS")
            .replace(&disk, &peer.display().to_string());
        let file = daemon.dir.path().join("run/peer.xml");
        std::fs::write(&file, other).unwrap();
        drop(std::fs::remove_file(&peer));
        let begin = Instant::now();
        let path = peer.display().to_string();
        let args = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &base, &path];
        qemu_img(&args);
        daemon.virsh(&["create", &inside(&file)]);
        theirs.push(begin.elapsed());
        daemon.virsh(&["destroy", "peer"]);
    }
    let second = Duration::from_secs(1);
    (Figures::of(ours, second), Figures::of(theirs, second))
}

#[expect(clippy::disallowed_methods, reason = "it is what is measured")]
fn qemu_img(args: &[&str]) {
    assert!(std::process::Command::new("qemu-img").args(args).status().unwrap().success());
}

/// The file of a machine's first disk.
fn disk_of(daemon: &Daemon, id: &str) -> String {
    let listed = daemon.virsh(&["domblklist", id, "--inactive"]);
    let line = listed.lines().find(|line| line.trim().starts_with("vda")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// A file of the daemon's as it sees it.
fn inside(file: &Path) -> String {
    format!("/run/{}", file.file_name().unwrap().to_string_lossy())
}

fn row(what: &str, figures: &Figures) {
    println!("| {what} | {:.0} | {:.0} |", ms(figures.p50), ms(figures.max));
}

fn list_row(what: &str, took: Vec<Duration>) {
    let figures = Figures::of(took, Duration::from_secs(1));
    println!("| {what} | {:.1} | {:.1} | {:.1} |", ms(figures.p50), ms(figures.p95), ms(figures.p99));
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
