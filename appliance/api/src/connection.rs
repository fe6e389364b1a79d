//! HTTP over one connection: a request, its answer, and the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

/// Why there was no answer, or only the beginning of one.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer as it arrives. Its connection ends with it.
#[derive(Debug)]
pub struct Arriving {
    body: hyper::body::Incoming,
    _connection: Driven,
}

#[derive(Debug)]
struct Driven(JoinHandle<()>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sends a request over a connection, and gives the answer when its head is there. Nothing outlives whoever waits.
pub async fn send<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
) -> Result<Response<Arriving>, Broken>
where
    B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = Driven(tokio::spawn(async move {
        // How it ended is seen in the answer.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Arriving { body, _connection: driven }))
}

/// All of an answer, if it is no longer than `limit` bytes.
pub async fn collect(response: Response<Arriving>, limit: usize) -> Result<Response<Bytes>, Broken> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limit).collect().await?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
