//! What helps to find a fault on a host, in one file: versions, state, the newest tasks and events, and the journal.
//! Passwords, tokens and keys are in none of it. It lies where state is kept, which must never become full of it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quantix_api::{Problem, Progress, TaskFile, TaskState, Unit};
use quantix_host::{blocking, run, run_into_file};
use serde_json::json;

use super::Work;
use crate::{
    api::Agent,
    durable,
    tasks::{
        Kept, kept,
        plan::Report,
        runner::{Did, Hand},
    },
};

/// So many files stay on a host, and each for so long.
const MOST_FILES: usize = 3;
const KEPT_FOR_MS: i64 = 24 * 60 * 60 * 1000;
/// So much is left free on the state partition, whatever is asked for.
const LEFT_FREE: u64 = 96 * 1024 * 1024;
/// The journal is cut when it is longer.
const MOST_JOURNAL: u64 = 64 * 1024 * 1024;
const JOURNAL_LINES: &str = "--lines=300000";
const JOURNAL_WITHIN: Duration = Duration::from_secs(300);
const COMMAND_WITHIN: Duration = Duration::from_secs(10);
/// What is read and written at once.
const PIECE: usize = 256 * 1024;
const JOURNAL: &str = "journal.txt";

/// What is asked of the system besides.
const COMMANDS: [(&str, &str, &[&str]); 5] = [
    ("units.txt", "systemctl", &["list-units", "--all", "--no-pager", "--full"]),
    ("failed-units.txt", "systemctl", &["status", "--failed", "--no-pager", "--full", "--lines=50"]),
    ("addresses.txt", "ip", &["-details", "address"]),
    ("routes.txt", "ip", &["route", "show", "table", "all"]),
    ("space.txt", "df", &["-h"]),
];

/// Where the parts of a task's file are before they are one.
fn gathered(agent: &Agent, task: i64) -> PathBuf {
    agent.cluster.bundles().join(task.to_string())
}

/// Where the file of a task is.
fn file(folder: &Path, task: i64) -> PathBuf {
    folder.join(format!("{task}.tar.zst"))
}

/// Runs what waits for a disk. The sentence is for people.
async fn on_disk<T: Send + 'static>(
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = blocking(what).await.unwrap_or_else(|| Err(io::Error::other("it broke off")));
    done.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "The state partition has too little room for it. Delete images or older files on it.".to_owned()
        }
        _ => format!("The file could not be made: {error}."),
    })
}

/// Refuses to go on when too little would be left for what the host itself must keep.
fn must_have_room(folder: &Path) -> io::Result<()> {
    let room = nix::sys::statvfs::statvfs(folder)?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    if free < LEFT_FREE { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// First step: whatever is short.
pub(super) async fn collect_state(work: &Work) -> Result<Did, String> {
    let (agent, task) = (&work.agent, work.task.id);
    let into = gathered(agent, task);
    let made = into.clone();
    on_disk(move || {
        fs::create_dir_all(&made)?;
        must_have_room(&made)
    })
    .await?;
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, value: serde_json::Result<Vec<u8>>| {
        parts.push((name.to_owned(), value.unwrap_or_else(|error| error.to_string().into_bytes())));
    };
    let about = json!({
        "host": agent.name,
        "version": env!("CARGO_PKG_VERSION"),
        "task": task,
        "made_at": jiff::Timestamp::now(),
    });
    add("about.json", serde_json::to_vec_pretty(&about));
    add("host.json", serde_json::to_vec_pretty(&*agent.host.facts().await));
    add("checks.json", serde_json::to_vec_pretty(&agent.checks().await));
    if let Ok(store) = agent.cluster.store() {
        add("cluster.txt", Ok(format!("{:#?}\n", store.status()).into_bytes()));
    }
    let newest = agent.cluster.read(newest).await.map_err(|problem| problem.detail)?;
    add("tasks-and-events.json", serde_json::to_vec_pretty(&newest));
    for (name, program, args) in COMMANDS {
        let said = match run(program, args, COMMAND_WITHIN).await {
            Ok(finished) => format!("{}{}", finished.stdout, finished.stderr),
            Err(error) => format!("{error}\n"),
        };
        add(name, Ok(said.into_bytes()));
    }
    on_disk(move || {
        for (name, bytes) in parts {
            must_have_room(&into)?;
            fs::write(into.join(name), bytes)?;
        }
        Ok(Did::Done)
    })
    .await
}

/// The newest tasks and events, as people see them.
fn newest(connection: &rusqlite::Connection) -> rusqlite::Result<serde_json::Value> {
    let columns =
        "json_object('id', id, 'title', title, 'state', state, 'outcome', outcome, 'made_at', made_at)";
    let tasks = format!(
        "SELECT json_group_array(json({columns})) FROM (SELECT * FROM task ORDER BY id DESC LIMIT 500)"
    );
    let columns = "json_object('id', id, 'at', at, 'severity', severity, 'sentence', sentence, 'cleared_at', cleared_at)";
    let events = format!(
        "SELECT json_group_array(json({columns})) FROM (SELECT * FROM event ORDER BY id DESC LIMIT 1000)"
    );
    let read = |sql: &str| {
        let text: String = connection.query_row(sql, [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>(serde_json::from_str(&text).unwrap_or(serde_json::Value::Null))
    };
    Ok(json!({ "tasks": read(&tasks)?, "events": read(&events)? }))
}

/// Second step: the journal of the last days.
pub(super) async fn collect_journal(work: &Work, hand: &Hand) -> Result<Did, String> {
    let into = gathered(&work.agent, work.task.id);
    let path = into.join(JOURNAL);
    let opened = path.clone();
    let file = on_disk(move || File::create(opened)).await?;
    let mut is_full = false;
    let go_on = || {
        let bytes = fs::metadata(&path).map_or(0, |file| file.len());
        hand.is_at(Progress::at(bytes, None, Unit::Bytes));
        is_full = must_have_room(&into).is_err();
        !is_full && !hand.is_to_end() && bytes < MOST_JOURNAL
    };
    let args = ["--no-pager", "--quiet", "--output=short-iso-precise", "--since=-7d", JOURNAL_LINES];
    let ended = run_into_file("journalctl", &args, JOURNAL_WITHIN, file, go_on).await;
    if hand.is_to_end() {
        return Ok(Did::Stopped);
    }
    if is_full {
        return on_disk(|| Err(io::ErrorKind::StorageFull.into())).await;
    }
    // A host without a journal has other things to tell.
    if let Err(error) = ended {
        let note = format!("{error}\n");
        let path = into.join("journal-is-missing.txt");
        on_disk(move || fs::write(path, note)).await?;
    }
    Ok(Did::Done)
}

/// Third step: one file of all, in which nothing is half.
pub(super) async fn close(work: &Work, hand: &Hand) -> Result<Did, String> {
    let (from, to) = (gathered(&work.agent, work.task.id), file(&work.agent.cluster.bundles(), work.task.id));
    let name = format!("quantix-{}-task-{}", work.agent.name, work.task.id);
    let (inside, packing) = (name.clone(), hand.clone());
    let packed = on_disk(move || {
        let bytes = pack(&from, &to, &inside, &packing)?;
        if bytes.is_some() {
            fs::remove_dir_all(&from)?;
        }
        Ok(bytes)
    })
    .await?;
    Ok(match packed {
        Some(bytes) => Did::File(TaskFile { name: format!("{name}.tar.zst"), bytes }),
        None => Did::Stopped,
    })
}

/// Packs a folder; nothing if the end was asked for meanwhile.
fn pack(from: &Path, to: &Path, inside: &str, hand: &Hand) -> io::Result<Option<u64>> {
    let mut names: Vec<_> = fs::read_dir(from)?.collect::<io::Result<_>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    let total = names.iter().map(|file| file.metadata().map_or(0, |file| file.len())).sum();
    let part = to.with_extension("part");
    let mut archive =
        tar::Builder::new(zstd::Encoder::new(File::create(&part)?, zstd::DEFAULT_COMPRESSION_LEVEL)?);
    let packed = Arc::new(AtomicU64::new(0));
    for file in names {
        let (length, open) = (file.metadata()?.len(), File::open(file.path())?);
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(crate::sessions::now());
        let reader =
            Watched { file: open.take(length), left: length, packed: Arc::clone(&packed), total, hand, to };
        let path = Path::new(inside).join(file.file_name());
        match archive.append_data(&mut header, path, reader) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted || hand.is_to_end() => return Ok(None),
            other => other?,
        }
    }
    let written = archive.into_inner()?.finish()?;
    written.sync_all()?;
    let bytes = written.metadata()?.len();
    fs::rename(&part, to)?;
    Ok(Some(bytes))
}

/// A file while it is packed: it tells how far it is, and stops when it is to.
struct Watched<'a> {
    file: io::Take<File>,
    /// A file that has become shorter is filled up, so that the others are still in their places.
    left: u64,
    packed: Arc<AtomicU64>,
    total: u64,
    hand: &'a Hand,
    to: &'a Path,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.hand.is_to_end() {
            return Err(io::Error::other("the end was asked for"));
        }
        let most = into.len().min(PIECE);
        let mut read = self.file.read(&mut into[..most])?;
        if read == 0 && self.left > 0 {
            read = usize::try_from(self.left).unwrap_or(most).min(most);
            into[..read].fill(0);
        }
        self.left = self.left.saturating_sub(read as u64);
        let done = self.packed.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        self.hand.is_at(Progress::at(done, Some(self.total), Unit::Bytes));
        must_have_room(self.to.parent().unwrap_or(self.to))?;
        Ok(read)
    }
}

/// Removes what there is of it.
pub(super) async fn remove(work: &Work) {
    remove_all(&work.agent, work.task.id).await;
}

async fn remove_all(agent: &Agent, task: i64) {
    let (folder, file) = (gathered(agent, task), file(&agent.cluster.bundles(), task));
    let removed = on_disk(move || {
        for path in [&file, &file.with_extension("part")] {
            durable::remove(path)?;
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    if let Err(why) = removed.await {
        log::warn!("What is left of task {task} could not be removed: {why}");
    }
}

/// Removes files that were there long enough, are too many, or belong to nothing.
pub(crate) async fn sweep(agent: &Agent) -> Result<(), Problem> {
    let me = agent.cluster.store()?.id();
    let read =
        |connection: &rusqlite::Connection| Ok((kept::with_file(connection)?, kept::open(connection)?));
    let (with_file, open) = agent.cluster.read(read).await?;
    let own: Vec<Kept> = with_file.into_iter().filter(|task| task.owner == Some(me)).collect();
    let now = crate::sessions::now_ms();
    let ended: Vec<_> = own.iter().filter(|task| task.standing.state == TaskState::Done).collect();
    let newest: Vec<i64> = ended.iter().rev().take(MOST_FILES).map(|task| task.id).collect();
    let is_kept = |task: &Kept| {
        newest.contains(&task.id)
            && (now - task.ended_at.unwrap_or(now)).abs() < KEPT_FOR_MS
            && file(&agent.cluster.bundles(), task.id).exists()
    };
    for task in ended.iter().filter(|task| !is_kept(task)) {
        remove_all(agent, task.id).await;
        agent.cluster.report(task.id, Report::FileGone).await?;
    }
    let root = agent.cluster.bundles();
    let listed =
        blocking(move || fs::read_dir(root).map(|all| all.flatten().map(|file| file.file_name()).collect()));
    let listed: Vec<std::ffi::OsString> = listed.await.and_then(Result::ok).unwrap_or_default();
    for name in listed {
        let id = name.to_str().and_then(|name| name.split('.').next()?.parse::<i64>().ok());
        let belongs = id.is_some_and(|id| {
            own.iter().filter(|task| is_kept(task)).any(|task| task.id == id)
                || open.iter().any(|task| task.id == id)
        });
        if let (false, Some(id)) = (belongs, id) {
            remove_all(agent, id).await;
        }
    }
    Ok(())
}

/// A part of a task's file, from this host's disk.
pub(crate) async fn piece(folder: &Path, task: i64, offset: u64) -> Result<Vec<u8>, Problem> {
    let path = file(folder, task);
    let read = blocking(move || {
        use std::io::Seek;
        let mut file = File::open(path)?;
        file.seek(io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(PIECE_OF_FILE).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    });
    read.await.unwrap_or_else(|| Err(io::Error::other("it broke off"))).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::new(quantix_api::ProblemCode::NotFound, "The file of this task is there no longer.")
        }
        _ => Problem::new(
            quantix_api::ProblemCode::StorageUnavailable,
            format!("The file cannot be read: {error}."),
        ),
    })
}

/// What of a file travels between hosts at once.
pub(crate) const PIECE_OF_FILE: u64 = 1024 * 1024;
