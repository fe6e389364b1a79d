//! quantix-disks: the one program that may touch the host's disks. The agent, which has no such rights, asks it over a socket
//! that only the host's own administrator reaches: one thing to a connection, out of the few that can be asked
//! (`quantix_storage::thin::Asked`). It knows nothing of people, and keeps nothing.

mod group;
mod lvm;
mod make;

use std::{
    os::unix::net::UnixListener as StdListener,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quantix_storage::{
    Failed,
    thin::{Asked, Told},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// The longest question, and how long it may take to arrive.
const LONGEST: u64 = 64 * 1024;
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
/// So many things are done at once; LVM itself does one after the other.
const PLACES: usize = 8;
/// Nobody has asked for so long: it ends, and is started with the next question.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// The pool that every host has, and in which images are of which volumes begin as copies.
const LOCAL: &str = "/var/lib/quantix-pools/local";

fn main() -> ExitCode {
    quantix_service::start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The socket that systemd hands over.
fn handed() -> Result<UnixListener, String> {
    let socket: Option<StdListener> = listenfd::ListenFd::from_env()
        .take_unix_listener(0)
        .map_err(|error| format!("The socket cannot be taken: {error}."))?;
    let socket = socket.ok_or("It is started with its socket, quantix-disks.socket.")?;
    let listen = socket.set_nonblocking(true).and_then(|()| UnixListener::from_std(socket));
    listen.map_err(|error| format!("Nothing can be heard: {error}."))
}

async fn serve() -> Result<(), String> {
    let socket = handed()?;
    let places = Arc::new(Semaphore::new(PLACES));
    quantix_service::ready("Answers");
    let mut asked_to_end = std::pin::pin!(quantix_service::asked_to_end());
    loop {
        let accepted = tokio::select! {
            accepted = timeout(IDLE, socket.accept()) => accepted,
            () = &mut asked_to_end => break,
        };
        match accepted {
            Ok(Ok((stream, _))) => {
                // There is one for each in the end: they are only lent.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
                tokio::spawn(async move {
                    answer(stream).await;
                    drop(place);
                });
            }
            Ok(Err(error)) => log::warn!("A connection could not be taken: {error}"),
            Err(_) if places.available_permits() == PLACES => break,
            Err(_) => {}
        }
    }
    // What was begun is brought to its end: LVM is not to be stopped in the middle.
    let all = u32::try_from(PLACES).unwrap_or(u32::MAX);
    drop(places.acquire_many(all).await);
    Ok(())
}

/// Answers what is asked over a connection.
async fn answer(stream: UnixStream) {
    // The socket's mode says so already; whoever changes that changes nothing here.
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == 0) {
        log::warn!("Somebody else than the administrator has asked, and gets no answer");
        return;
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(LONGEST));
    let mut line = String::new();
    let Ok(Ok(1..)) = timeout(ARRIVES_WITHIN, read.read_line(&mut line)).await else { return };
    let asked: Asked = match serde_json::from_str(&line) {
        Ok(asked) => asked,
        Err(error) => {
            log::warn!("What is asked cannot be read: {error}");
            return;
        }
    };
    let (tell, mut told) = mpsc::channel(16);
    let is_awaited = Arc::new(AtomicBool::new(true));
    let hand = Hand { tell, is_awaited: Arc::clone(&is_awaited) };
    let is_look = matches!(asked, Asked::Disks | Asked::Look { .. });
    if !is_look {
        log::info!("Asked: {}", line.trim_end());
    }
    let doing = tokio::spawn(do_it(asked, hand));
    let mut gone = std::pin::pin!(gone(read.into_inner().into_inner()));
    loop {
        let one = tokio::select! {
            one = told.recv() => one,
            () = &mut gone, if is_awaited.load(Ordering::Relaxed) => {
                is_awaited.store(false, Ordering::Relaxed);
                continue;
            }
        };
        let Some(one) = one else { break };
        if !is_awaited.load(Ordering::Relaxed) {
            continue;
        }
        if let Told::Failed(failed) = &one
            && !is_look
        {
            log::warn!("It cannot be done: {failed}");
        }
        let mut line = serde_json::to_vec(&one).unwrap_or_default();
        line.push(b'\n');
        if write.write_all(&line).await.is_err() {
            is_awaited.store(false, Ordering::Relaxed);
        }
    }
    if doing.await.is_err() {
        log::error!("What was asked has ended in a fault of this program");
    }
}

/// Waits until whoever asked is gone.
async fn gone(mut read: OwnedReadHalf) {
    let mut byte = [0];
    while matches!(read.read(&mut byte).await, Ok(1..)) {}
}

/// Tells whoever asked how far it is, and knows whether anybody still waits.
struct Hand {
    tell: mpsc::Sender<Told>,
    is_awaited: Arc<AtomicBool>,
}

impl Hand {
    fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    async fn is_at(&self, written: u64) {
        drop(self.tell.send(Told::At(written)).await);
    }
}

/// Does what is asked, to its end, whether anybody waits or not: only copying is given up.
async fn do_it(asked: Asked, hand: Hand) {
    let done: Result<Told, Failed> = match asked {
        Asked::Disks => lvm::disks().await.map(Told::Disks),
        Asked::MakePool { pool, disks, erase } => group::make(pool, &disks, erase).await.map(|()| Told::Done),
        Asked::AddDisks { pool, disks, erase } => {
            group::add_disks(pool, &disks, erase).await.map(|()| Told::Done)
        }
        Asked::GiveBack { pool, disks } => group::give_back(pool, &disks).await.map(|()| Told::Done),
        Asked::RemovePool { pool } => group::remove(pool).await.map(|()| Told::Done),
        Asked::Look { pool } => group::look(pool).await.map(Told::Pool),
        Asked::Make { pool, volume, bytes, of } => {
            make::make(pool, volume, bytes, of, &hand).await.map(|()| Told::Done)
        }
        Asked::WriteOut { pool, volume, file } => {
            make::write_out(pool, volume, file, &hand).await.map(|()| Told::Done)
        }
        Asked::Lay { pool, volume, below, bytes } => {
            make::lay(pool, volume, below, bytes).await.map(|()| Told::Done)
        }
        Asked::Grow { pool, volume, bytes } => make::grow(pool, volume, bytes).await.map(|()| Told::Done),
        Asked::Remove { pool, volume } => make::remove(pool, volume).await.map(|()| Told::Done),
    };
    drop(hand.tell.send(done.unwrap_or_else(Told::Failed)).await);
}
