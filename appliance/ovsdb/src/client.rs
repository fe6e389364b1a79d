//! One connection, one call at a time.

use std::{io, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::{FrameError, MessageReader};

const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is not there, or was closed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed the connection in the middle.
    #[error("the connection was closed before the answer came")]
    Closed,
    /// No answer in time.
    #[error("no answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// The server speaks something else.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// What came is not JSON-RPC.
    #[error("the answer is not JSON-RPC: {0}")]
    NotJsonRpc(String),
    /// The server refused the call.
    #[error("refused: {0}")]
    Refused(String),
}

/// A connection to an OVSDB server or a daemon's control socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    reader: MessageReader,
    last_id: u64,
    timeout: Duration,
}

impl Client {
    /// Connects; every call on the connection ends within `limit`.
    pub async fn connect(socket: impl AsRef<Path>, limit: Duration) -> Result<Self, Error> {
        let stream =
            timeout(limit, UnixStream::connect(socket)).await.map_err(|_| Error::TimedOut(limit))??;
        Ok(Self { stream, reader: MessageReader::new(MAX_MESSAGE_BYTES), last_id: 0, timeout: limit })
    }

    /// Calls a method and gives its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Error> {
        let limit = self.timeout;
        timeout(limit, self.exchange(method, params)).await.map_err(|_| Error::TimedOut(limit))?
    }

    /// Runs operations in one transaction on `database`; an operation that fails is an error.
    pub async fn transact(&mut self, database: &str, operations: Vec<Value>) -> Result<Vec<Value>, Error> {
        let mut params = vec![json!(database)];
        params.extend(operations);
        let result = self.call("transact", Value::Array(params)).await?;
        let Value::Array(results) = result else {
            return Err(Error::NotJsonRpc("the result of a transaction is not a list".into()));
        };
        match results.iter().find_map(|result| Some((result.get("error")?.as_str()?, result.get("details"))))
        {
            Some((error, details)) => Err(Error::Refused(format!(
                "{error} {}",
                details.and_then(Value::as_str).unwrap_or_default()
            ))),
            None => Ok(results),
        }
    }

    async fn exchange(&mut self, method: &str, params: Value) -> Result<Value, Error> {
        self.last_id += 1;
        let id = json!(self.last_id);
        self.send(&json!({"method": method, "params": params, "id": id})).await?;
        loop {
            let message = self.receive().await?;
            // The server asks from time to time whether we are there; answering keeps the connection.
            if message.get("method").and_then(Value::as_str) == Some("echo") {
                let answer = json!({"result": message.get("params"), "error": null, "id": message.get("id")});
                self.send(&answer).await?;
            } else if message.get("id") == Some(&id) {
                return match message.get("error") {
                    None | Some(Value::Null) => Ok(message.get("result").cloned().unwrap_or(Value::Null)),
                    Some(error) => Err(Error::Refused(error.to_string())),
                };
            }
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), Error> {
        Ok(self.stream.write_all(message.to_string().as_bytes()).await?)
    }

    async fn receive(&mut self) -> Result<Value, Error> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(message) = self.reader.next_message()? {
                return serde_json::from_slice(&message)
                    .map_err(|error| Error::NotJsonRpc(error.to_string()));
            }
            match self.stream.read(&mut chunk).await? {
                0 => return Err(Error::Closed),
                length => self.reader.push(&chunk[..length]),
            }
        }
    }
}
