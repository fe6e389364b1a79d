//! Connections: a bounded number, bounded for each address, with a time limit on every step before a request.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::{
    idle::Idle,
    options::Options,
    redirect,
    shown::{ACME_TLS, Shown},
    web,
};

const MOST_CONNECTIONS: usize = 1024;
const MOST_FROM_ONE_ADDRESS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(15);
/// A browser opens a connection anew without anybody noticing.
const MOST_IDLE: Duration = Duration::from_secs(60);
const GOODBYE: Duration = Duration::from_secs(5);
const HTTP_PORT: u16 = 80;

/// Why the pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0}")]
    Runtime(io::Error),
    #[error("no socket was handed over and none was named with --https")]
    NoSocket,
    #[error("the socket cannot be used: {0}")]
    Socket(io::Error),
}

/// Serves until systemd asks for the end.
pub(crate) async fn serve(options: Options) -> Result<(), StartError> {
    let (https, http) = sockets(&options)?;
    let https_port = https.local_addr().map_err(StartError::Socket)?.port();
    let (shown, follower) = Shown::new(&options.agent);
    let connections = Connections::default();
    let app = web::router(&options);
    let alive = app.clone();
    // Whoever comes before there is a certificate waits in the socket's queue.
    let begun = async {
        shown.first().await;
        log::info!(port = https_port; "The pages answer on port {https_port}");
        quantix_service::ready("answering");
    };
    let follow = follower.follow();
    tokio::pin!(follow);
    tokio::select! {
        () = begun => {}
        () = &mut follow => {}
        () = quantix_service::asked_to_end() => return Ok(()),
    }
    let secure = accept(https, connections.clone(), |stream, address| {
        // What is shown when the connection comes is shown until its handshake is done.
        let (tls, app) = (shown.tls(), app.clone());
        async move {
            if let Some(tls) = tls {
                secure_connection(stream, address, tls, app).await;
            }
        }
    });
    let plain = async {
        match http {
            Some(http) => {
                let shown = shown.clone();
                accept(http, connections.clone(), move |stream, _| {
                    redirect::connection(stream, https_port, shown.clone())
                })
                .await;
            }
            None => std::future::pending().await,
        }
    };
    let watchdog = async {
        quantix_service::feed_watchdog(|| async {
            let request = axum::extract::Request::builder().uri("/healthz").body(Body::empty());
            match request {
                Ok(request) => {
                    alive.clone().oneshot(request).await.is_ok_and(|answer| answer.status().is_success())
                }
                Err(_) => false,
            }
        })
        .await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = follow => {}
        () = secure => {}
        () = plain => {}
        () = watchdog => {}
        () = quantix_service::asked_to_end() => {}
    }
    Ok(())
}

/// The sockets for pages and for the redirect: handed over by systemd, told apart by port, or opened here.
fn sockets(options: &Options) -> Result<(TcpListener, Option<TcpListener>), StartError> {
    let mut handed = listenfd::ListenFd::from_env();
    let (mut https, mut http) = (None, None);
    for index in 0..handed.len() {
        let Some(socket) = handed.take_tcp_listener(index).map_err(StartError::Socket)? else { continue };
        let port = socket.local_addr().map_err(StartError::Socket)?.port();
        if port == HTTP_PORT { http = Some(socket) } else { https = Some(socket) }
    }
    let open = |address: SocketAddr| StdListener::bind(address).map_err(StartError::Socket);
    if https.is_none() {
        https = options.https.map(open).transpose()?;
    }
    if http.is_none() {
        http = options.http.map(open).transpose()?;
    }
    let listen = |socket: StdListener| {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    let https = listen(https.ok_or(StartError::NoSocket)?).map_err(StartError::Socket)?;
    Ok((https, http.map(listen).transpose().map_err(StartError::Socket)?))
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    socket: TcpListener,
    connections: Connections,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                // Too many already: this one is closed at once, which costs less than any answer.
                let Some(place) = connections.place(address.ip()) else { continue };
                let served = serve(stream, address);
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely; connections that end give some back.
                log::warn!("A connection could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn secure_connection(stream: TcpStream, address: SocketAddr, tls: TlsAcceptor, app: axum::Router) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
        // An authority has seen what it wanted to see.
        return;
    }
    let client = web::ClientAddress(address.ip().to_canonical());
    let idle = Idle::new();
    let service = service_fn({
        let idle = idle.clone();
        move |mut request: hyper::Request<hyper::body::Incoming>| {
            let busy = idle.busy();
            request.extensions_mut().insert(client);
            let answer = app.clone().oneshot(request);
            async move {
                let answer = answer.await;
                // A file takes as long as it takes. Anything else is there when its head is.
                answer.map(|answer| {
                    answer.map(|body| match body.size_hint().exact() {
                        Some(_) => body,
                        None => busy.until_end_of(body),
                    })
                })
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(32 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(32 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off is the client's business.
        _ = connection.as_mut() => return,
        () = idle.lasts(MOST_IDLE) => connection.as_mut().graceful_shutdown(),
    }
    // Whoever does not read the goodbye, or the answer before it, is cut off.
    let _ = timeout(GOODBYE, connection).await;
}

/// The places there are, over all and for each address.
#[derive(Clone, Debug)]
struct Connections {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST_CONNECTIONS)), by_address: Arc::default() }
    }
}

/// A place that one connection holds.
#[derive(Debug)]
struct Place {
    _permit: tokio::sync::OwnedSemaphorePermit,
    connections: Connections,
    address: IpAddr,
}

impl Connections {
    fn place(&self, address: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_address.entry(address).or_default();
        if *held >= MOST_FROM_ONE_ADDRESS {
            return None;
        }
        *held += 1;
        Some(Place { _permit: permit, connections: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.connections.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = by_address.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_every_place() {
        let connections = Connections::default();
        let (greedy, honest) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held: Vec<_> =
            (0..MOST_FROM_ONE_ADDRESS + 10).filter_map(|_| connections.place(greedy)).collect();
        assert_eq!(held.len(), MOST_FROM_ONE_ADDRESS);
        assert!(connections.place(honest).is_some());
        drop(held);
        assert!(connections.place(greedy).is_some());
    }
}
