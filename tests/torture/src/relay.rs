//! The wires between members: each has an address here that leads to it, and on every wire, in each direction, what is
//! sent can be held back, delayed, or let through in pieces.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What happens on one wire in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Nothing comes through; what was sent meanwhile is lost with its connection.
    pub cut: bool,
    /// Everything takes so long.
    pub delay: Duration,
    /// At most so many bytes come through at once, with a pause between.
    pub piece: Option<usize>,
}

type Wires = HashMap<(u64, usize), Weather>;

/// All wires. A wire is named by the member that opened it and by the number of the one it leads to.
#[derive(Clone, Debug, Default)]
pub struct Relays {
    /// From the opener to the other.
    there: Arc<Mutex<Wires>>,
    /// And back.
    back: Arc<Mutex<Wires>>,
}

impl Relays {
    /// Sets the weather from one member to another, on wires that either has opened.
    pub fn set(&self, from: (u64, usize), to: (u64, usize), weather: Weather) {
        self.there.lock().unwrap().insert((from.0, to.1), weather);
        self.back.lock().unwrap().insert((to.0, from.1), weather);
    }

    /// Good weather everywhere.
    pub fn clear(&self) {
        self.there.lock().unwrap().clear();
        self.back.lock().unwrap().clear();
    }

    /// Leads whoever connects to a port to a member.
    pub async fn lead(&self, listener: TcpListener, number: usize, to: String) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (relays, to) = (self.clone(), to.clone());
            tokio::spawn(async move { relays.carry(stream, number, &to).await });
        }
    }

    async fn carry(&self, mut stream: TcpStream, number: usize, to: &str) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut head = [0; 16];
        stream.read_exact(&mut head).await?;
        let opener = u64::from_be_bytes(head[..8].try_into().unwrap());
        let wire = (opener, number);
        self.wait(&self.there, wire).await?;
        let mut other = TcpStream::connect(to).await?;
        other.set_nodelay(true)?;
        other.write_all(&head).await?;
        let (read, write) = stream.into_split();
        let (other_read, other_write) = other.into_split();
        tokio::select! {
            ended = self.pass(&self.there, wire, read, other_write) => ended,
            ended = self.pass(&self.back, wire, other_read, write) => ended,
        }
    }

    async fn pass(
        &self,
        wires: &Mutex<Wires>,
        wire: (u64, usize),
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let weather = self.wait(wires, wire).await?;
            tokio::time::sleep(weather.delay).await;
            match weather.piece {
                None => to.write_all(&buffer[..read]).await?,
                Some(piece) => {
                    for piece in buffer[..read].chunks(piece) {
                        to.write_all(piece).await?;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        }
    }

    /// Waits while a wire is cut, and then breaks the connection: what was sent is gone.
    async fn wait(&self, wires: &Mutex<Wires>, wire: (u64, usize)) -> io::Result<Weather> {
        let now = || wires.lock().unwrap().get(&wire).copied().unwrap_or_default();
        if !now().cut {
            return Ok(now());
        }
        while now().cut {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }
}
