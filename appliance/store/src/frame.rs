//! What hosts say to one another: each message its length and its bytes.

use std::io;

use openraft::{
    SnapshotMeta,
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::raft::{Address, HostId, LogId, Types, Vote};

/// The form of what follows; hosts of different forms do not talk.
pub(crate) const FORM: u8 = 1;
/// An introduction is small.
pub(crate) const SMALL: usize = 4 * 1024;
/// Nothing is larger.
pub(crate) const LARGE: usize = 4 * 1024 * 1024;

/// Two hosts can talk to each other over it. Who is at the other end has been proven already.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// The first that a host says on a link, and the first that it is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) form: u8,
    pub(crate) from: HostId,
    pub(crate) to: HostId,
    /// How often this host has started, and a number that this start has to itself.
    pub(crate) boots: u64,
    pub(crate) boot: u64,
    pub(crate) reached: Reached,
    /// How many steps of the schema this version knows.
    pub(crate) knows: u32,
    /// The entry that made the membership this host goes by.
    pub(crate) members_at: Option<LogId>,
}

/// How far a host has voted and written. It only ever grows.
pub(crate) type Reached = (Option<Vote>, Option<LogId>);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Welcome {
    Come(Introduction),
    No(Refusal),
}

/// Why a host does not talk to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it speaks form {0} of the hosts' language, this host speaks form {FORM}")]
    OtherForm(u8),
    #[error("another host answers at its address")]
    OtherHost,
    #[error("it is not a member")]
    NotAMember(Option<LogId>),
    #[error("its disk is older than what it had said before")]
    Older,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<HostId>),
    /// So many bytes of a database follow.
    Snapshot(Vote, SnapshotMeta<HostId, Address>, u64),
    /// Up to where has to be read to see everything acknowledged so far?
    ReadIndex,
    /// Become the leader now.
    Elect,
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<HostId>),
    Vote(VoteResponse<HostId>),
    Snapshot(SnapshotResponse<HostId>),
    ReadIndex(u64),
    Done,
    Failed(String),
}

pub(crate) async fn send(
    link: &mut (impl AsyncWrite + Unpin + ?Sized),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    link.write_all(&bytes).await?;
    link.flush().await
}

pub(crate) async fn receive<T: DeserializeOwned>(
    link: &mut (impl AsyncRead + Unpin + ?Sized),
    limit: usize,
) -> io::Result<T> {
    let length = link.read_u32().await? as usize;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes is too large"),
        ));
    }
    let mut bytes = vec![0; length];
    link.read_exact(&mut bytes).await?;
    let (message, rest) = postcard::take_from_bytes(&bytes).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a message cannot be read: {error}"))
    })?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than what it says"))
    }
}
