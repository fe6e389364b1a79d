//! Connections over TLS, with HTTP/1.1 or HTTP/2, and requests on them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One request at a time on a connection that stays.
    Http1,
    /// Many at a time.
    Http2,
}

impl Version {
    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A server and how it is trusted.
#[derive(Clone)]
pub struct Server {
    address: SocketAddr,
    name: String,
    roots: Arc<RootCertStore>,
}

/// What is asked again and again.
#[derive(Clone, Debug)]
pub struct Question {
    /// The path and what follows it.
    pub path: String,
    /// Headers: names and values.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent along; with something, the request is a POST.
    pub body: Bytes,
}

/// What is left of an answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The body, as it came over the wire.
    pub body: Bytes,
}

/// One connection.
pub enum Connection {
    /// Free again when its request is answered.
    One(http1::SendRequest<Full<Bytes>>),
    /// Can be cloned.
    Many(http2::SendRequest<Full<Bytes>>),
}

impl Server {
    /// A server whose certificate, or whose authority's, is the one given.
    pub fn new(address: SocketAddr, name: &str, certificate: rustls::pki_types::CertificateDer<'_>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.into_owned()).unwrap();
        Self { address, name: name.to_owned(), roots: Arc::new(roots) }
    }

    /// A stream over TLS, from an address of this machine.
    pub async fn stream(&self, version: Version, from: IpAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut config =
            ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth();
        config.alpn_protocols = match version {
            Version::Http1 => vec![b"http/1.1".to_vec()],
            Version::Http2 => vec![b"h2".to_vec()],
        };
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Connects, from an address of this machine.
    pub async fn connect(&self, version: Version, from: IpAddr) -> io::Result<Connection> {
        let stream = TokioIo::new(self.stream(version, from).await?);
        // A connection that breaks is seen by the next request on it.
        Ok(match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
                tokio::spawn(async move { drop(connection.await) });
                Connection::One(sender)
            }
            Version::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), stream).await;
                let (sender, connection) = handshake.map_err(io::Error::other)?;
                tokio::spawn(async move { drop(connection.await) });
                Connection::Many(sender)
            }
        })
    }

    /// One question on a connection of its own.
    pub async fn ask_once(&self, question: &Question) -> io::Result<Answer> {
        let mut connection = self.connect(Version::Http1, IpAddr::from([127, 0, 0, 1])).await?;
        connection.ask(self, question).await
    }

    fn request(&self, version: Version, question: &Question) -> http::Result<Request<Full<Bytes>>> {
        let method = if question.body.is_empty() { "GET" } else { "POST" };
        let mut request = Request::builder().method(method);
        let host = format!("{}:{}", self.name, self.address.port());
        request = match version {
            Version::Http1 => request.uri(&question.path).header(header::HOST, host),
            Version::Http2 => request.uri(format!("https://{host}{}", question.path)),
        };
        for (name, value) in &question.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(question.body.clone()))
    }
}

impl Connection {
    /// The same connection for one more request at the same time, where that can be.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Many(sender) => Some(Self::Many(sender.clone())),
        }
    }

    /// Asks, and takes all of the answer.
    pub async fn ask(&mut self, server: &Server, question: &Question) -> io::Result<Answer> {
        let response = self.begin(server, question).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Answer { status, body })
    }

    /// Asks, and gives the answer when its head is there.
    pub async fn begin(&mut self, server: &Server, question: &Question) -> io::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                let request = server.request(Version::Http1, question).map_err(io::Error::other)?;
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await.map_err(io::Error::other)
            }
            Self::Many(sender) => {
                let request = server.request(Version::Http2, question).map_err(io::Error::other)?;
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await.map_err(io::Error::other)
            }
        }
    }
}
