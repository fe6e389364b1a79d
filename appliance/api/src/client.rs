//! Calls over the agent's unix socket, one connection a call: the socket is local and the calls are few.

use std::{io, path::PathBuf, time::Duration};

use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::{Answer, Call, Problem};

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
    pub async fn pass_on(&self, request: Request<Vec<u8>>) -> Result<Response<Bytes>, CallError> {
        tokio::time::timeout(TIMEOUT, self.exchange(request)).await.map_err(|_| CallError::TimedOut)?
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Bytes>, CallError> {
        let broken = |error: &dyn std::fmt::Display| CallError::Broken(error.to_string());
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| broken(&error))?
                .to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        // The connection is driven here and dropped with the call: nothing outlives it.
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(broken(&error)),
            },
        }
    }
}
