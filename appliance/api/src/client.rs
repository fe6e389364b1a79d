//! Calls over the agent's unix socket, one connection a call: the socket is local and the calls are few.

use std::{io, path::PathBuf, time::Duration};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use tokio::net::UnixStream;

use crate::{
    Answer, Call, Problem,
    connection::{self, Arriving, Broken},
    pieces,
};

const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Speaks to the agent on this host.
#[derive(Clone, Debug)]
pub struct AgentClient {
    socket: PathBuf,
}

/// Why a call has no answer to give.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The agent answered with a problem.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The agent is not there.
    #[error("The agent on this host does not answer ({0}).")]
    Unreachable(#[from] io::Error),
    /// The agent is there and did not finish in time.
    #[error("The agent on this host did not answer within {} seconds.", TIMEOUT.as_secs())]
    TimedOut,
    /// What it said was not HTTP, or was cut short.
    #[error("The agent's answer was cut short ({0}).")]
    Broken(String),
}

impl AgentClient {
    /// A client for the agent behind `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Makes a call and waits for its answer.
    pub async fn call<T: Answer>(&self, call: &Call<T>) -> Result<T, CallError> {
        let request = call.request().map_err(|error| CallError::Broken(error.to_string()))?;
        Ok(call.read(&self.pass_on(request).await?)?)
    }

    /// Passes a request on as it is, and gives the answer as it is.
    pub async fn pass_on(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let request = request.map(Full::new);
        let answered = async { Ok(connection::collect(self.begin(request).await?, MAX_ANSWER_BYTES).await?) };
        tokio::time::timeout(TIMEOUT, answered).await.map_err(|_| CallError::TimedOut)?
    }

    /// Passes on a request that may be long, and gives an answer that may be. However long they take is the caller's
    /// to judge.
    pub async fn begin<B>(&self, request: Request<B>) -> Result<Response<Arriving>, CallError>
    where
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        let stream = UnixStream::connect(&self.socket).await?;
        Ok(connection::send(stream, request).await?)
    }

    /// Asks for the file that a request is about, to write to it.
    pub async fn ask_for_file(&self, request: Request<()>) -> Result<pieces::Answered, CallError> {
        let stream = UnixStream::connect(&self.socket).await?;
        Ok(pieces::ask(stream, request).await?)
    }

    /// Passes on a request for another protocol, and all that follows.
    pub async fn tunnel<B>(
        &self,
        request: Request<B>,
        held: impl Send + 'static,
    ) -> Result<Response<Option<Arriving>>, CallError> {
        let stream = UnixStream::connect(&self.socket).await?;
        Ok(connection::tunnel(request, stream, held).await?)
    }
}

impl From<Broken> for CallError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken.to_string())
    }
}
