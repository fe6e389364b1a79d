//! The network as the consensus library sees it.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use openraft::{
    OptionalSend,
    error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use rusqlite::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    frame::{self, Request, Response},
    peers::Peers,
    raft::{Address, HostId, LogId, Types, Vote},
    state::{self, State},
};

/// A transfer that does not move for so long has failed.
pub(crate) const STALLED: Duration = Duration::from_secs(15);
/// Bytes of a database that are sent at once.
const PIECE: usize = 256 * 1024;

#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    pub(crate) state: State,
}

/// One other host.
pub(crate) struct Peer {
    network: Network,
    host: HostId,
    address: Address,
    sending: Option<Sending>,
}

/// Entries on their way. The library waits for them no longer than from one heartbeat to the next, and then begins
/// again; on a slow disk or line that would never end. So what is on its way goes on, and is waited for again.
struct Sending {
    vote: Vote,
    before: Option<LogId>,
    last: Option<LogId>,
    since: Instant,
    answer: AbortOnDrop,
}

impl Sending {
    /// Whether it is the beginning of what is asked for now.
    fn holds(&self, request: &AppendEntriesRequest<Types>) -> bool {
        self.vote == request.vote && self.before == request.prev_log_id && self.since.elapsed() < ON_ITS_WAY
    }
}

struct AbortOnDrop(JoinHandle<io::Result<Response>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is on its way for longer is given up, and the link with it.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, host: HostId, address: &Address) -> Peer {
        Peer { network: self.clone(), host, address: address.clone(), sending: None }
    }
}

type Failed = RPCError<HostId, Address, RaftError<HostId>>;

impl Peer {
    async fn ask(&self, request: &Request) -> Result<Response, Failed> {
        match self.network.peers.ask(self.host, &self.address, request).await {
            Ok(Response::Failed(why)) => Err(Unreachable::new(&io::Error::other(why)).into()),
            Ok(response) => Ok(response),
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }

    fn send(&self, request: AppendEntriesRequest<Types>) -> Sending {
        let (vote, before) = (request.vote, request.prev_log_id);
        let last = request.entries.last().map_or(before, |last| Some(last.log_id));
        let (peers, host, address) = (Arc::clone(&self.network.peers), self.host, self.address.clone());
        let answer = tokio::spawn(async move { peers.ask(host, &address, &Request::Append(request)).await });
        Sending { vote, before, last, since: Instant::now(), answer: AbortOnDrop(answer) }
    }

    async fn send_database(&self, vote: Vote) -> io::Result<Response> {
        let path = self.network.state.place("leaving");
        let result = self.send_copy(vote, &path).await;
        drop(std::fs::remove_file(&path));
        result
    }

    async fn send_copy(&self, vote: Vote, path: &Path) -> io::Result<Response> {
        let (readers, to) = (Arc::clone(&self.network.state.readers), path.to_owned());
        let position = crate::in_thread("store copy", move || copy(&readers.connect()?, &to)).await?;
        let position = position.map_err(io::Error::other)?;
        let mut file = tokio::fs::File::open(path).await?;
        let mut left = file.metadata().await?.len();
        let peers = &self.network.peers;
        let mut link = peers.link(self.host, &self.address).await?;
        frame::send(&mut *link, &Request::Snapshot(vote, state::describe(&position), left)).await?;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let read = file.read(&mut piece).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            timeout(STALLED, link.write_all(&piece[..read])).await.map_err(io::Error::other)??;
            peers.heard(self.host);
            left = left.saturating_sub(read as u64);
        }
        link.flush().await?;
        // The other host puts it on its disk now, as long as that takes.
        frame::receive(&mut *link, frame::LARGE).await
    }
}

/// Copies the database as it is now into a file, and tells how far that is.
pub(crate) fn copy(source: &Connection, path: &Path) -> Result<state::Position, rusqlite::Error> {
    let mut target = Connection::open(path)?;
    target.pragma_update(None, "synchronous", "off")?;
    let backup = rusqlite::backup::Backup::new(source, &mut target)?;
    while backup.step(-1)? != rusqlite::backup::StepResult::Done {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(backup);
    state::read_position(&target)
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<HostId>, Failed> {
        let wanted = request.entries.last().map_or(request.prev_log_id, |last| Some(last.log_id));
        if let Some(agreed) = request.leader_commit {
            // Nobody applies what this host has not on its own disk.
            self.network.peers.log.on_disk(agreed).await.map_err(|error| Unreachable::new(&error))?;
        }
        let sending = match self.sending.take() {
            Some(sending) if sending.holds(&request) => sending,
            _ => self.send(request),
        };
        let sending = self.sending.insert(sending);
        let answered = (&mut sending.answer.0).await;
        let last = sending.last;
        self.sending = None;
        match answered.map_err(io::Error::other).flatten() {
            Ok(Response::Append(AppendEntriesResponse::Success)) if last < wanted => {
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            Ok(Response::Append(response)) => Ok(response),
            Ok(Response::Failed(why)) => Err(Unreachable::new(&io::Error::other(why)).into()),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<HostId>,
        _: RPCOption,
    ) -> Result<VoteResponse<HostId>, Failed> {
        match self.ask(&Request::Vote(request)).await? {
            Response::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _: openraft::Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<HostId>, StreamingError<Types, Fatal<HostId>>> {
        log::info!(host:% = self.host; "The database is being sent to host {}", self.host);
        let sent = tokio::select! {
            closed = cancel => return Err(closed.into()),
            sent = self.send_database(vote) => sent,
        };
        match sent {
            Ok(Response::Snapshot(response)) => Ok(response),
            Ok(Response::Failed(why)) => Err(Unreachable::new(&io::Error::other(why)).into()),
            Ok(_) => Err(NetworkError::new(&io::Error::other("an answer to another question")).into()),
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }

    /// A host that is away is tried again soon: it may be the one that makes the quorum.
    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(200)))
    }
}

fn unexpected(response: &Response) -> Failed {
    NetworkError::new(&io::Error::other(format!("an answer to another question: {response:?}"))).into()
}
