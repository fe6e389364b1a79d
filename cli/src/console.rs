//! Consoles in a terminal: the serial line here, and the screen for whichever VNC client there is.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    net::Ipv4Addr,
    path::PathBuf,
    process::Stdio,
};

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use quantix_api::{CONSOLE_CLOSED, ConsoleKind, OpenConsole, calls};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    Failure, Session, backup,
    cluster::done,
    shown::{self, Output},
    vms,
};

/// Ctrl-], with which one leaves, as with virsh and telnet.
const LEAVES: u8 = 0x1d;
const PIECE: usize = 64 * 1024;

/// How a console ended.
enum Ended {
    /// Whoever looked has left.
    Here,
    /// With a sentence.
    There(String),
}

impl Session {
    /// Opens a console of a machine.
    async fn console(
        &self,
        vm: &str,
        kind: ConsoleKind,
        take_over: bool,
    ) -> Result<WebSocketStream<impl AsyncRead + AsyncWrite + Unpin + Send + use<>>, Failure> {
        let ticket = self.call(calls::open_console(vm, &OpenConsole { kind, take_over })).await?;
        let stream = self.host.open().await?;
        let address = format!("wss://{}{}", self.host.address, ticket.address.expose());
        let opened = client_async(address, stream).await;
        Ok(opened.map_err(|error| Failure::Said(format!("the console could not be opened: {error}")))?.0)
    }
}

/// Passes on what comes from either end, until one of them ends. Of what is typed, `leaves` says where somebody leaves.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    mut typed: mpsc::Receiver<Vec<u8>>,
    mut shown: impl AsyncWrite + Unpin,
    leaves: Option<u8>,
) -> Result<Ended, Failure> {
    let (mut there, mut from_there) = socket.split();
    let cut = |error: &dyn std::fmt::Display| Failure::Said(format!("the console was cut: {error}"));
    loop {
        tokio::select! {
            bytes = typed.recv() => {
                let Some(bytes) = bytes else { break };
                let end = bytes.iter().position(|byte| Some(*byte) == leaves);
                let sent = bytes[..end.unwrap_or(bytes.len())].to_vec();
                there.send(Message::Binary(sent.into())).await.map_err(|error| cut(&error))?;
                if end.is_some() {
                    break;
                }
            }
            message = from_there.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    shown.write_all(&bytes).await?;
                    shown.flush().await?;
                }
                Some(Ok(Message::Close(frame))) => {
                    let said = frame.filter(|frame| u16::from(frame.code) == CONSOLE_CLOSED);
                    let said = said.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    let sentence = said.split_once(' ').map_or("It has ended.", |(_, sentence)| sentence);
                    return Ok(Ended::There(sentence.to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(cut(&error)),
                None => return Ok(Ended::There("It has ended.".to_owned())),
            },
        }
    }
    // That it is left is said, and need not be heard.
    let _ = there.close().await;
    Ok(Ended::Here)
}

/// The terminal passes on each key as it is, until this is dropped.
struct Raw;

impl Raw {
    fn begin() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        stty(&["raw", "-echo"])?;
        Ok(Some(Self))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        drop(stty(&["sane"]));
    }
}

#[expect(clippy::disallowed_methods, reason = "the terminal's own program, which is there and then gone")]
fn stty(how: &[&str]) -> io::Result<()> {
    let done = std::process::Command::new("stty").args(how).stdin(Stdio::inherit()).status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other("the terminal could not be set up")) }
}

/// What is typed, as it is typed. Reading a terminal waits for ever, which a thread of its own may do.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count) = io::stdin().lock().read(&mut piece) {
            if count == 0 || sender.blocking_send(piece[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The serial line of a machine, in this terminal.
pub(crate) async fn serial(session: &Session, vm: &str, take_over: bool) -> Result<(), Failure> {
    let vm = vms::find(session, vm).await?;
    let socket = session.console(&vm.id, ConsoleKind::Serial, take_over).await?;
    let raw = Raw::begin()?;
    if raw.is_some() {
        write!(io::stderr(), "The serial line of {}. Ctrl-] leaves it.\r\n", vm.spec.name)?;
    }
    // Without a terminal what comes in may end long before what comes back.
    let leaves = raw.is_some().then_some(LEAVES);
    let keys = if raw.is_some() { typed() } else { to_the_end(typed()) };
    let ended = relay(socket, keys, tokio::io::stdout(), leaves).await;
    drop(raw);
    match ended? {
        Ended::Here => Ok(()),
        Ended::There(sentence) => Err(Failure::Said(sentence)),
    }
}

/// The same, and then nothing more comes and nothing ends.
fn to_the_end(mut typed: mpsc::Receiver<Vec<u8>>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(bytes) = typed.recv().await {
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
        sender.closed().await;
    });
    receiver
}

/// Writes a picture of the screen of a machine into a new file.
pub(crate) async fn picture(
    session: &Session,
    vm: &str,
    file: Option<PathBuf>,
    output: Output,
) -> Result<(), Failure> {
    let vm = vms::find(session, vm).await?;
    let path = file.unwrap_or_else(|| format!("{}.png", vm.spec.name.replace(['/', '\\'], "-")).into());
    let request = calls::vm_picture(&vm.id).as_session(&session.token).request();
    let request = request.map_err(|error| Failure::Said(error.to_string()))?;
    let answer = session.host.begin(request.map(Full::new)).await?;
    let bytes = backup::save(answer, &path, "the picture").await?;
    done(output, &format!("{} holds the picture, {bytes} bytes.", path.display()))
}

/// Which screen is served, and how.
#[derive(Debug, Args)]
pub(crate) struct Screen {
    /// Name or id.
    vm: String,
    /// The port; any that is free, if none is named.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Write a new file with which virt-viewer opens it, as in web-01.vv.
    #[arg(long, value_name = "FILE")]
    viewer: Option<PathBuf>,
}

/// The screen of a machine, for a VNC client on this machine.
pub(crate) async fn screen(session: &Session, asked: Screen) -> Result<(), Failure> {
    let vm = vms::find(session, &asked.vm).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, asked.port)).await?;
    let place = listener.local_addr()?;
    if let Some(path) = &asked.viewer {
        // A name is one line.
        let (host, port, title) = (place.ip(), place.port(), &vm.spec.name);
        let text = format!("[virt-viewer]\ntype=vnc\nhost={host}\nport={port}\ntitle={title}\n");
        let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| Failure::Said(format!("{} cannot be made: {error}", path.display())))?;
    }
    shown::line(&format!("The screen of {} is at {place} for VNC clients, until Ctrl-C.", vm.spec.name))?;
    loop {
        let (client, _) = listener.accept().await?;
        match session.console(&vm.id, ConsoleKind::Screen, false).await {
            Ok(socket) => drop(tokio::spawn(watch(client, socket))),
            // The client is let go, and the next one is served.
            Err(failure) => writeln!(io::stderr(), "{failure}")?,
        }
    }
}

/// Serves one VNC client.
async fn watch<S: AsyncRead + AsyncWrite + Unpin>(client: TcpStream, socket: WebSocketStream<S>) {
    let _ = client.set_nodelay(true);
    let (mut keys, screen) = client.into_split();
    let (sender, typed) = mpsc::channel(64);
    let reads = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count) = keys.read(&mut piece).await {
            if count == 0 || sender.send(piece[..count].to_vec()).await.is_err() {
                return;
            }
        }
    };
    let relayed = relay(socket, typed, screen, None);
    match tokio::join!(reads, relayed).1 {
        Ok(Ended::There(sentence)) => drop(writeln!(io::stderr(), "{sentence}")),
        Ok(Ended::Here) => {}
        Err(failure) => drop(writeln!(io::stderr(), "{failure}")),
    }
}
