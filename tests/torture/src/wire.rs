//! What a client and a member say to each other: each message its length and its bytes.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Makes this member a cluster of its own.
    Found,
    /// Its id.
    Id,
    /// Takes a member in, who is reached at the address.
    Add(u64, String),
    /// Puts a member out.
    Remove(u64),
    /// How it stands.
    Status,
    /// Sets a row.
    Put(String, i64),
    /// Sets a row if it has a value; tells whether it had.
    Swap(String, i64, i64),
    /// Adds one to a row; tells the sum.
    Add1(String),
    /// Adds an element to a set.
    Insert(i64),
    /// Moves an amount from one account to another.
    Transfer(i64, i64, i64),
    /// Fills a table until it has so many rows of so many bytes.
    Fill(i64, usize),
    /// Reads a row: everything acknowledged anywhere is in it.
    Get(String),
    /// Reads a row as it is here.
    Here(String),
    /// Reads a row here so often, and tells how long one took, in nanoseconds.
    ReadOften(u32),
    /// All data, in a text; everything acknowledged anywhere is in it.
    Dump,
    /// How long what was put elsewhere took to be seen here, in microseconds, sorted.
    Seen,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done, and what came of it.
    Done(Option<i64>),
    /// A text.
    Text(String),
    /// Some figures.
    Figures(Vec<u64>),
    /// How a member stands.
    Status(Standing),
    /// It was not done.
    Not(String),
    /// It may have been done.
    Unknown(String),
}

/// How a member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its id.
    pub id: u64,
    /// Whether it leads and can write.
    pub leads: bool,
    /// Whether somebody does, who can write.
    pub led: bool,
    /// How many members vote.
    pub voters: usize,
    /// How many there are.
    pub members: usize,
    /// The last entry in its data.
    pub applied: u64,
    /// The step of the schema.
    pub schema: u32,
    /// What is wrong.
    pub trouble: Vec<String>,
}

/// A connection to a member.
#[derive(Debug)]
pub struct Client(TcpStream);

impl Client {
    /// Connects to a member's port for clients.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Asks and waits for the answer.
    pub async fn ask(&mut self, ask: &Ask) -> io::Result<Answer> {
        send(&mut self.0, ask).await?;
        receive(&mut self.0).await
    }
}

/// Sends a message.
pub async fn send(stream: &mut TcpStream, message: &impl Serialize) -> io::Result<()> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&bytes).await
}

/// Receives a message.
pub async fn receive<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let length = stream.read_u32().await?;
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}
