//! A piece of a file that comes: written as it comes, by whoever has it first. The page server asks the agent for the piece's
//! place, is given the open file over the connection on which it asked, writes, and tells what came of it. What comes over the
//! network then passes neither the agent nor the socket between the two.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    sync::Semaphore,
};

use crate::connection::{Arriving, Broken, send};

/// So much of a piece is written at once.
const PART: usize = 256 << 10;
/// So many write at once: more of them make no disk faster, and a disk that hangs holds up no other thread.
static TURNS: Semaphore = Semaphore::const_new(8);
/// The system takes no more of them in one call.
const MOST_SLICES: usize = 1024;
/// What the connection goes on as once the file has been asked for.
pub const PROTOCOL: HeaderValue = HeaderValue::from_static("quantix-file");
/// The longest answer to what came of a piece.
const MAX_ANSWER: u64 = 64 * 1024;

/// How a piece ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it has come.
    All,
    /// The connection ended before it did.
    CutOff,
    /// It is longer than there is room.
    TooLong,
    /// It could not be written; with the system's number for why.
    Failed(i32),
}

impl End {
    fn numbers(self) -> (u8, i32) {
        match self {
            Self::All => (0, 0),
            Self::CutOff => (1, 0),
            Self::TooLong => (2, 0),
            Self::Failed(why) => (3, why),
        }
    }

    fn of(kind: u8, why: i32) -> Self {
        match kind {
            0 => Self::All,
            2 => Self::TooLong,
            3 => Self::Failed(why),
            _ => Self::CutOff,
        }
    }
}

/// Writes a piece into a file as it comes, from a place on and no more than `most`. How much of it was written, and how it ended.
pub async fn write(mut body: impl Body<Data = Bytes> + Unpin, file: File, at: u64, most: u64) -> (u64, End) {
    if body.size_hint().lower() > most {
        return (0, End::TooLong);
    }
    let mut come = 0;
    loop {
        let (pieces, length, end) = next_part(&mut body, most - come).await;
        if let Err(error) = in_turn(|| write_all(&file, &pieces, at + come)).await {
            return (come, End::Failed(error.raw_os_error().unwrap_or_default()));
        }
        come += length;
        if let Some(end) = end {
            return (come, end);
        }
    }
}

/// Writes when it is its turn, on the thread that has read, which is left to it alone: another goes on with what else there is
/// to do. To wake one for the writing took longer than to write.
async fn in_turn(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let _turn = TURNS.acquire().await.map_err(io::Error::other)?;
    tokio::task::block_in_place(work)
}

/// Writes what has come into a file, from a place on, with as few calls as there can be.
fn write_all(file: &File, pieces: &[Bytes], mut at: u64) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match rustix::io::pwritev(file, &left[..left.len().min(MOST_SLICES)], at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What comes next of a piece, how long that is, and how the piece ended if it did.
async fn next_part(
    body: &mut (impl Body<Data = Bytes> + Unpin),
    most: u64,
) -> (Vec<Bytes>, u64, Option<End>) {
    let (mut pieces, mut length) = (Vec::new(), 0);
    while length < PART as u64 {
        match body.frame().await {
            None => return (pieces, length, Some(End::All)),
            Some(Err(_)) => return (pieces, length, Some(End::CutOff)),
            Some(Ok(frame)) => {
                let Ok(mut data) = frame.into_data() else { continue };
                let room = usize::try_from(most - length).unwrap_or(usize::MAX);
                let is_too_long = data.len() > room;
                data.truncate(room);
                length += data.len() as u64;
                pieces.push(data);
                if is_too_long {
                    return (pieces, length, Some(End::TooLong));
                }
            }
        }
    }
    (pieces, length, None)
}

/// Gives somebody an open file, from which place on to write, and how much at most; once they have asked for it, since a file is
/// lost to whoever does not expect one.
pub async fn give(to: &mut UnixStream, file: BorrowedFd<'_>, at: u64, most: u64) -> io::Result<()> {
    to.read_u8().await?;
    let numbers = [at.to_be_bytes(), most.to_be_bytes()].concat();
    let files = [file];
    to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        along.push(SendAncillaryMessage::ScmRights(&files));
        let sent = sendmsg(to.as_fd(), &[IoSlice::new(&numbers)], &mut along, SendFlags::NOSIGNAL)?;
        if sent == numbers.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    })
    .await
}

async fn take(from: &mut UnixStream) -> io::Result<(File, u64, u64)> {
    from.write_u8(0).await?;
    from.async_io(Interest::READABLE, || {
        let (mut at, mut most) = ([0; 8], [0; 8]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut at), IoSliceMut::new(&mut most)];
        let come = recvmsg(from.as_fd(), &mut into, &mut along, RecvFlags::CMSG_CLOEXEC)?;
        let file = along.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        match file {
            Some(file) if come.bytes == 16 => {
                Ok((file.into(), u64::from_be_bytes(at), u64::from_be_bytes(most)))
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    })
    .await
}

/// Waits until whoever was given a file tells what they have written. `CutOff` if they are gone.
pub async fn told(by: &mut UnixStream) -> (u64, End) {
    let mut numbers = [0; 13];
    match by.read_exact(&mut numbers).await {
        Ok(_) => {
            let [a, b, c, d, e, f, g, h, kind, why @ ..] = numbers;
            (u64::from_be_bytes([a, b, c, d, e, f, g, h]), End::of(kind, i32::from_be_bytes(why)))
        }
        Err(_) => (0, End::CutOff),
    }
}

/// Answers whoever has told that.
pub async fn answer(to: &mut UnixStream, status: StatusCode, body: &[u8]) -> io::Result<()> {
    to.write_all(&[&status.as_u16().to_be_bytes(), body].concat()).await?;
    to.shutdown().await
}

/// A file that was given, to be written to.
#[derive(Debug)]
pub struct Given {
    stream: UnixStream,
    file: File,
    at: u64,
    most: u64,
}

impl Given {
    /// Writes a piece to where it belongs, tells that, and gives the status and the body of the answer.
    pub async fn fill(mut self, body: impl Body<Data = Bytes> + Unpin) -> io::Result<(StatusCode, Vec<u8>)> {
        let (come, end) = write(body, self.file, self.at, self.most).await;
        let (kind, why) = end.numbers();
        let told = [&come.to_be_bytes()[..], &[kind], &why.to_be_bytes()].concat();
        self.stream.write_all(&told).await?;
        let mut answer = Vec::new();
        self.stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        let (status, body) = answer.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = StatusCode::from_u16(u16::from_be_bytes(*status)).map_err(io::Error::other)?;
        Ok((status, body.to_vec()))
    }
}

/// What was answered to somebody who asked for a file.
#[derive(Debug)]
pub enum Answered {
    /// Here it is.
    Given(Given),
    /// Anything else.
    Otherwise(Response<Arriving>),
}

/// Asks over a connection for the file that a request is about.
pub(crate) async fn ask(stream: UnixStream, mut request: Request<()>) -> Result<Answered, Broken> {
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(header::UPGRADE, PROTOCOL);
    let mut response = send(stream, request.map(|()| Empty::<Bytes>::new())).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answered::Otherwise(response));
    }
    let upgraded = hyper::upgrade::on(&mut response).await?;
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().map_err(|_| "the connection is another")?;
    let mut stream = parts.io.into_inner();
    let (file, at, most) = take(&mut stream).await?;
    Ok(Answered::Given(Given { stream, file, at, most }))
}
