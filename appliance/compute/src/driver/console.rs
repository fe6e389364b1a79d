//! What is on a machine's screen and its serial line, as bytes in both directions. The screen is a socket that QEMU serves; the
//! serial line is a stream of libvirt's, whose functions in C are called here.

#![expect(
    unsafe_code,
    reason = "libvirt hands over screens as numbers of files, and tells of streams through functions of C"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{c_int, c_void},
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::UnixStream,
    sync::{Notify, mpsc},
};
use virt::{connect::Connect, domain::Domain, error::Error, stream::Stream};

/// What is taken from the line at once, and given to it.
const PIECE: usize = 4096;
const MOST_AT_ONCE: usize = 64 * 1024;
/// Bytes that wait for whoever reads; a reader that is slower than that is let go.
const MOST_TO_READER: usize = 4 << 20;
/// Bytes that wait for the guest.
const MOST_TO_GUEST: usize = 1 << 20;
/// How often it is looked whether the connection is still there: a stream is not told that it is not.
const IS_THERE: Duration = Duration::from_secs(5);
/// There is nothing now.
const LATER: c_int = -2;

/// The lines that are open, by the numbers that libvirt is given. It does not wait for a call that is under way when it is told
/// to call no more: a call about a number that is not here any more does nothing.
static OPEN: Mutex<BTreeMap<usize, Arc<Ends>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A console: whatever is read from it was sent by the guest, and what is written goes there.
pub trait Console: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Console for T {}

/// The screen of a machine that is on, as a VNC client sees it.
pub(super) fn screen(domain: &Domain) -> Result<OwnedFd, Error> {
    let file = domain.open_graphics_fd(0, virt_sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)?;
    let file = RawFd::try_from(file).map_err(|_| Error::last_error())?;
    // SAFETY: libvirt has just opened it, and it is nobody's but ours.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// The largest picture that is taken, in bytes.
pub(super) const LARGEST_PICTURE: usize = 3 << 20;

/// A picture of the screen of a machine that is on: of which kind, and itself, or a little more than is taken of it.
pub(super) fn picture(connection: &Connect, domain: &Domain) -> Result<(String, Vec<u8>), Error> {
    let stream = Stream::new(connection, 0)?;
    let kind = domain.screenshot(&stream, 0, 0)?;
    let (mut picture, mut piece) = (Vec::new(), vec![0; MOST_AT_ONCE]);
    loop {
        let count = usize::try_from(stream.recv(&mut piece)?).unwrap_or_default();
        picture.extend_from_slice(&piece[..count.min(piece.len())]);
        if count == 0 {
            stream.finish()?;
            return Ok((kind, picture));
        }
        if picture.len() > LARGEST_PICTURE {
            stream.abort()?;
            return Ok((kind, picture));
        }
    }
}

pub(super) fn screen_of(file: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(file);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The serial line of a machine that is on.
pub(super) struct Line {
    number: usize,
    ends: Arc<Ends>,
    from_guest: mpsc::UnboundedReceiver<Vec<u8>>,
}

/// What the thread of events and whoever writes share.
struct Ends {
    stream: virt_sys::virStreamPtr,
    /// Nothing once the line has ended.
    to_reader: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    /// How many bytes of that are not read yet.
    unread: AtomicUsize,
    /// Told when whoever reads is too slow.
    let_go: Notify,
    to_guest: Mutex<VecDeque<u8>>,
    /// The stream's own: what is typed at a guest that does not read holds up whatever else goes over its connection. Fields
    /// are given back in this order, and the stream before all of them.
    connection: Connect,
}

// SAFETY: the streams of libvirt's remote driver, which this one is of, may be used from any thread.
unsafe impl Send for Ends {}
// SAFETY: as above; what is ours is behind locks.
unsafe impl Sync for Ends {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Opens the line over a connection of its own; if so, whoever has it loses it.
    pub(super) fn open(connection: Connect, domain: &Domain, take_over: bool) -> Result<Self, Error> {
        let how =
            if take_over { virt_sys::VIR_DOMAIN_CONSOLE_FORCE } else { virt_sys::VIR_DOMAIN_CONSOLE_SAFE };
        // SAFETY: the connection is open.
        let stream = unsafe { virt_sys::virStreamNew(connection.as_ptr(), virt_sys::VIR_STREAM_NONBLOCK) };
        if stream.is_null() {
            return Err(Error::last_error());
        }
        let (sender, from_guest) = mpsc::unbounded_channel();
        let ends = Arc::new(Ends {
            stream,
            to_reader: Mutex::new(Some(sender)),
            unread: AtomicUsize::new(0),
            let_go: Notify::new(),
            to_guest: Mutex::default(),
            connection,
        });
        // SAFETY: both are open; no name means the first console.
        if unsafe { virt_sys::virDomainOpenConsole(domain.as_ptr(), ptr::null(), stream, how) } < 0 {
            return Err(Error::last_error());
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&OPEN).insert(number, Arc::clone(&ends));
        let line = Self { number, ends, from_guest };
        let told = ptr::without_provenance_mut::<c_void>(number);
        // SAFETY: the stream is open, and what libvirt is to remember is a number.
        if unsafe { virt_sys::virStreamEventAddCallback(stream, reads(), Some(happened), told, None) } < 0 {
            return Err(Error::last_error());
        }
        Ok(line)
    }

    /// The line as something that is read and written.
    pub(super) fn into_console(mut self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(ours);
            let mut typed = vec![0; PIECE];
            let mut looks = tokio::time::interval(IS_THERE);
            loop {
                let goes_on = tokio::select! {
                    piece = self.from_guest.recv() => match piece {
                        Some(piece) => {
                            self.ends.unread.fetch_sub(piece.len(), Ordering::Relaxed);
                            tokio::select! {
                                written = writer.write_all(&piece) => written.is_ok(),
                                () = self.ends.let_go.notified() => false,
                            }
                        }
                        None => false,
                    },
                    count = reader.read(&mut typed) => match count {
                        Ok(count) if count > 0 => self.ends.send(&typed[..count]),
                        _ => false,
                    },
                    () = self.ends.let_go.notified() => false,
                    _ = looks.tick() => self.ends.connection.is_alive() == Ok(true),
                };
                if !goes_on {
                    return;
                }
            }
        });
        theirs
    }
}

impl Ends {
    /// Has bytes sent to the guest; false if they are too many.
    fn send(&self, bytes: &[u8]) -> bool {
        let mut waiting = lock(&self.to_guest);
        if waiting.len() + bytes.len() > MOST_TO_GUEST {
            return false;
        }
        waiting.extend(bytes);
        drop(waiting);
        self.wants(reads() | writes())
    }

    fn wants(&self, events: c_int) -> bool {
        // SAFETY: the stream is there until this is dropped; one that has ended says so.
        unsafe { virt_sys::virStreamEventUpdateCallback(self.stream, events) >= 0 }
    }

    /// Takes what there is; false once the line has ended.
    fn receive(&self) -> bool {
        let mut to_reader = lock(&self.to_reader);
        let Some(sender) = to_reader.as_ref() else { return false };
        let mut piece = [0_u8; PIECE];
        loop {
            // SAFETY: there is room for so many bytes.
            let count = unsafe { virt_sys::virStreamRecv(self.stream, piece.as_mut_ptr().cast(), PIECE) };
            if count == LATER {
                return true;
            }
            let piece = &piece[..usize::try_from(count).unwrap_or_default()];
            let unread = self.unread.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
            if unread > MOST_TO_READER {
                self.let_go.notify_one();
            }
            if piece.is_empty() || unread > MOST_TO_READER || sender.send(piece.to_vec()).is_err() {
                *to_reader = None;
                return false;
            }
        }
    }

    /// Sends what waits; false once the line has ended. Sending may wait, and nobody else waits for that.
    fn transmit(&self) -> bool {
        loop {
            let mut waiting = lock(&self.to_guest);
            if waiting.is_empty() {
                return self.wants(reads());
            }
            let count = waiting.len().min(MOST_AT_ONCE);
            let piece: Vec<u8> = waiting.drain(..count).collect();
            drop(waiting);
            // SAFETY: so many bytes are there.
            let sent = unsafe { virt_sys::virStreamSend(self.stream, piece.as_ptr().cast(), piece.len()) };
            let is_later = sent == LATER;
            let Ok(sent) = usize::try_from(if is_later { 0 } else { sent }) else { return false };
            // Nobody else takes from it: what was not sent is first again.
            let mut waiting = lock(&self.to_guest);
            for byte in piece[sent.min(piece.len())..].iter().rev() {
                waiting.push_front(*byte);
            }
            if is_later {
                return true;
            }
        }
    }

    fn end(&self) {
        *lock(&self.to_reader) = None;
        self.wants(0);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        lock(&OPEN).remove(&self.number);
        // SAFETY: the stream is there until the last of its ends is dropped. One that has ended refuses.
        unsafe { virt_sys::virStreamEventRemoveCallback(self.ends.stream) };
        let ends = Arc::clone(&self.ends);
        // libvirt answers this when the guest has read what was typed, which may be never; so does closing the connection. A
        // thread that cannot be begun leaves the line open until the daemon is restarted.
        let begun = std::thread::Builder::new().name("libvirt-line".into()).spawn(move || {
            // SAFETY: as above.
            unsafe { virt_sys::virStreamAbort(ends.stream) };
            // The thread of events is not the one that closes the connection.
            while Arc::strong_count(&ends) > 1 {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        if let Err(error) = begun {
            log::warn!("A serial line is not let go: {error}");
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // SAFETY: it was opened by us, and nobody uses it after this.
        unsafe { virt_sys::virStreamFree(self.stream) };
    }
}

fn reads() -> c_int {
    event(virt_sys::VIR_STREAM_EVENT_READABLE)
        | event(virt_sys::VIR_STREAM_EVENT_ERROR)
        | event(virt_sys::VIR_STREAM_EVENT_HANGUP)
}

fn writes() -> c_int {
    event(virt_sys::VIR_STREAM_EVENT_WRITABLE)
}

fn event(event: virt_sys::virStreamEventType) -> c_int {
    c_int::try_from(event).unwrap_or_default()
}

extern "C" fn happened(_: virt_sys::virStreamPtr, events: c_int, told: *mut c_void) {
    let Some(ends) = lock(&OPEN).get(&told.addr()).cloned() else { return };
    let ended = event(virt_sys::VIR_STREAM_EVENT_ERROR) | event(virt_sys::VIR_STREAM_EVENT_HANGUP);
    let mut goes_on = events & ended == 0;
    if events & event(virt_sys::VIR_STREAM_EVENT_READABLE) != 0 {
        goes_on &= ends.receive();
    }
    if goes_on && events & writes() != 0 {
        goes_on &= ends.transmit();
    }
    if !goes_on {
        ends.end();
    }
}
