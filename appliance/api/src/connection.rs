//! HTTP over one connection: a request, its answer, and the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    body::{Body, Bytes, Frame, SizeHint},
    client::conn::http1::SendRequest,
};
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

/// A connection over which one request follows another.
#[derive(Debug)]
pub struct Line<B> {
    sender: SendRequest<B>,
    connection: Driven,
}

impl<B> Line<B>
where
    B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
{
    /// One that nothing was sent over yet.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Broken> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = Driven(tokio::spawn(async move {
            // How it ended is seen in the answer.
            let _ = connection.with_upgrades().await;
        }));
        Ok(Self { sender, connection })
    }

    /// Sends a request and gives all of its answer, if that is no longer than `limit` bytes.
    pub async fn ask(&mut self, request: Request<B>, limit: usize) -> Result<Response<Bytes>, Broken> {
        self.sender.ready().await?;
        collect(self.sender.send_request(request).await?, limit).await
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
    let Line { mut sender, connection } = Line::over(stream).await?;
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Arriving { body, _connection: connection }))
}

/// What speaks of another protocol on the connection, and goes along with it.
const CHANGING: [HeaderName; 6] = [
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// Passes on a request for another protocol over a connection, and then all that follows, both ways, for as long as both ends
/// go on. If the other end does not change the protocol, that is its answer. `held` is let go at the end.
pub async fn tunnel<B>(
    mut request: Request<B>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    held: impl Send + 'static,
) -> Result<Response<Option<Arriving>>, Broken> {
    let asked = hyper::upgrade::on(&mut request);
    let Line { mut sender, connection } = Line::over(stream).await?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut passed =
        Request::builder().method(request.method().clone()).uri(path).header(header::HOST, "host");
    // Whoever keeps no connection open says so here, also of one that goes on as something else.
    passed = passed.header(header::CONNECTION, "upgrade");
    for name in CHANGING {
        if let Some(value) = request.headers().get(&name) {
            passed = passed.header(name, value);
        }
    }
    let mut response = sender.send_request(passed.body(Empty::<Bytes>::new())?).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| Some(Arriving { body, _connection: connection })));
    }
    let there = hyper::upgrade::on(&mut response).await?;
    let mut answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    answer = answer.header(header::CONNECTION, "upgrade");
    for name in CHANGING {
        if let Some(value) = response.headers().get(&name) {
            answer = answer.header(name, value);
        }
    }
    tokio::spawn(async move {
        let _held = (held, connection);
        // Whoever asked has changed once they have the answer.
        let Ok(here) = asked.await else { return };
        let (mut here, mut there) = (TokioIo::new(here), TokioIo::new(there));
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    });
    Ok(answer.body(None)?)
}

/// Whether a request is for another protocol.
pub fn asks_for_change<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE)
}

/// All of an answer, if it is no longer than `limit` bytes.
pub async fn collect(
    response: Response<impl Body<Data = Bytes, Error: Into<Broken>>>,
    limit: usize,
) -> Result<Response<Bytes>, Broken> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limit).collect().await?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
