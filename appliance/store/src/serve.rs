//! Answering other hosts.

use std::{
    fs::File,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use openraft::{
    SnapshotMeta,
    raft::{AppendEntriesResponse, SnapshotResponse},
};
use rusqlite::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    frame::{self, Introduction, Link, Refusal, Request, Response, Welcome},
    network::STALLED,
    raft::{Address, HostId, Snapshot, Vote},
    shared::Core,
    state,
};

/// A link on which nothing is said for so long is given up.
const IDLE: Duration = Duration::from_secs(300);
/// A host that opened a link introduces itself.
const INTRODUCE: Duration = Duration::from_secs(5);
/// Bytes of a database that are taken at once.
const PIECE: usize = 256 * 1024;

/// Answers what a host asks, until it closes the link.
pub(crate) async fn serve(core: &Arc<Core>, peer: HostId, mut link: impl Link) -> io::Result<()> {
    let introduction: Introduction =
        timeout(INTRODUCE, frame::receive(&mut link, frame::SMALL)).await.map_err(io::Error::other)??;
    if introduction.from != peer {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the host says it is another"));
    }
    if let Err(refusal) = core.peers.admit(&introduction).await {
        frame::send(&mut link, &Welcome::No(refusal.clone())).await?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal));
    }
    frame::send(&mut link, &Welcome::Come(core.peers.introduction(peer))).await?;
    while let Ok(received) = timeout(IDLE, frame::receive(&mut link, frame::LARGE)).await {
        let request = match received {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            received => received?,
        };
        core.peers.heard(peer);
        let response = answer(core, peer, request, &mut link).await?;
        frame::send(&mut link, &response).await?;
    }
    Ok(())
}

/// Tells a host that it is no member, as of the newest members this host knows.
pub(crate) async fn refuse(core: &Arc<Core>, peer: HostId, mut link: impl Link) -> io::Result<()> {
    let introduction: Introduction =
        timeout(INTRODUCE, frame::receive(&mut link, frame::SMALL)).await.map_err(io::Error::other)??;
    if introduction.from == peer {
        let as_of = *core.metrics.borrow().membership_config.log_id();
        frame::send(&mut link, &Welcome::No(Refusal::NotAMember(as_of))).await?;
    }
    Ok(())
}

async fn answer(
    core: &Arc<Core>,
    peer: HostId,
    request: Request,
    link: &mut impl Link,
) -> io::Result<Response> {
    let not_its_own = || Err(io::Error::new(io::ErrorKind::PermissionDenied, "the host speaks for another"));
    let response = match request {
        Request::Append(request) if request.vote.leader_id.node_id != peer => return not_its_own(),
        Request::Append(request) => {
            let answered = core.raft.append_entries(request).await;
            if !matches!(answered, Ok(AppendEntriesResponse::HigherVote(_)) | Err(_)) {
                *crate::lock(&core.led) = Instant::now();
            }
            answered.map(Response::Append).map_err(|error| error.to_string())
        }
        Request::Vote(request) if request.vote.leader_id.node_id != peer => return not_its_own(),
        Request::Vote(_) if !core.has_met_the_others() => Err("it has just started".into()),
        Request::Vote(request) => {
            let answered = core.raft.vote(request).await;
            if matches!(&answered, Ok(vote) if vote.vote_granted) {
                // Whoever has this host's vote gets the time to become the leader.
                *crate::lock(&core.led) = Instant::now();
            }
            answered.map(Response::Vote).map_err(|error| error.to_string())
        }
        Request::Snapshot(vote, ..) if vote.leader_id.node_id != peer => return not_its_own(),
        Request::Snapshot(vote, meta, bytes) => {
            // A host that takes the leader's database hears nothing else from it meanwhile.
            let _quiet = core.quiet();
            let path = core.state.place("arriving");
            let taken = take(core, vote, &meta, bytes, link, &path).await;
            drop(std::fs::remove_file(&path));
            Ok(Response::Snapshot(taken?))
        }
        Request::ReadIndex => core.read_index().await.map(Response::ReadIndex).map_err(|e| e.to_string()),
        Request::Elect if core.leader() != Some(peer) => return not_its_own(),
        Request::Elect => {
            core.raft.trigger().elect().await.map(|()| Response::Done).map_err(|e| e.to_string())
        }
        Request::Ping => Ok(Response::Done),
    };
    Ok(response.unwrap_or_else(Response::Failed))
}

async fn take(
    core: &Arc<Core>,
    vote: Vote,
    meta: &SnapshotMeta<HostId, Address>,
    bytes: u64,
    link: &mut impl Link,
    path: &Path,
) -> io::Result<SnapshotResponse<HostId>> {
    log::info!(bytes; "The leader sends its database, {bytes} bytes");
    let mut file = tokio::fs::File::create_new(path).await?;
    let mut left = bytes;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let read = timeout(STALLED, link.read(&mut piece[..most])).await.map_err(io::Error::other)??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&piece[..read]).await?;
        core.peers.heard(vote.leader_id.node_id);
        left -= read as u64;
    }
    file.flush().await?;
    drop(file);
    let (arrived, expected, knows) = (path.to_owned(), meta.clone(), core.knows());
    crate::in_thread("store arrival", move || look_at(&arrived, &expected, knows)).await??;
    let snapshot =
        openraft::Snapshot { meta: meta.clone(), snapshot: Box::new(Snapshot::Arrived(path.to_owned())) };
    core.raft.install_full_snapshot(vote, snapshot).await.map_err(io::Error::other)
}

/// A database that arrived must be what was announced, and on the disk, before it takes the place of another.
fn look_at(path: &Path, expected: &SnapshotMeta<HostId, Address>, knows: u32) -> io::Result<()> {
    let position = {
        let connection = Connection::open(path).map_err(io::Error::other)?;
        state::read_position(&connection).map_err(io::Error::other)?
    };
    if state::describe(&position) != *expected {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the database is not the one that was announced",
        ));
    }
    if position.schema > knows {
        return Err(io::Error::other(state::ApplyError::TooOld(position.schema)));
    }
    File::open(path)?.sync_all()
}
