//! Connections: a bounded number, with a time limit on every step before a request.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    response::IntoResponse,
};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::{
    options::Options,
    places::{Place, Places},
    problem::Page,
    redirect,
    shown::{ACME_TLS, Shown},
    web,
};

/// So much of what has come is taken from the kernel at once.
const READ_AHEAD: usize = 32 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(15);
/// A browser opens a connection anew without anybody noticing.
const MOST_IDLE: Duration = Duration::from_secs(60);
/// What a client may send before anybody has read it.
const WINDOW: u32 = 256 * 1024;
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
    let places = Places::default();
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
    let secure = accept(https, places.clone(), |stream, address, place| {
        // What is shown when the connection comes is shown until its handshake is done.
        let (tls, app) = (shown.tls(), app.clone());
        async move {
            if let Some(tls) = tls {
                secure_connection(stream, address, place, tls, app).await;
            }
        }
    });
    let plain = async {
        match http {
            Some(http) => {
                let shown = shown.clone();
                accept(http, places.clone(), move |stream, _, _| {
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
    places: Places,
    serve: impl Fn(TcpStream, SocketAddr, Arc<Place>) -> F,
) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                // No place to be had: this one is closed at once, which costs less than any answer.
                let Some(place) = places.take(address.ip()).map(Arc::new) else { continue };
                // A page leaves in two parts under HTTP/2, and the second would wait until the browser has acknowledged
                // the first, which it puts off for 40 ms.
                drop(stream.set_nodelay(true));
                let served = serve(stream, address, Arc::clone(&place));
                tokio::spawn(in_its_place(place, served));
            }
            Err(error) => {
                // Out of file descriptors, most likely; connections that end give some back.
                log::warn!("A connection could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a connection until it ends, or its place is given to another.
async fn in_its_place(place: Arc<Place>, served: impl Future<Output = ()>) {
    tokio::select! {
        () = served => {}
        () = place.is_given_away() => {}
    }
}

async fn secure_connection(
    stream: TcpStream,
    address: SocketAddr,
    place: Arc<Place>,
    tls: TlsAcceptor,
    app: axum::Router,
) {
    // Whoever decrypts asks for four KiB at a time: what has come is taken from the kernel at once.
    let stream = BufReader::with_capacity(READ_AHEAD, stream);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
        // An authority has seen what it wanted to see.
        return;
    }
    let client = web::ClientAddress(address.ip().to_canonical());
    let service = service_fn({
        let place = Arc::clone(&place);
        move |mut request: hyper::Request<hyper::body::Incoming>| {
            let under_way = place.begin();
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(Arc::clone(&place));
            let app = app.clone();
            async move {
                let Some(under_way) = under_way else { return Ok(Page::too_many().into_response()) };
                let answer = app.oneshot(request).await;
                // A file takes as long as it takes. Anything else is there when its head is.
                answer.map(|answer| {
                    answer.map(|body| match body.size_hint().exact() {
                        Some(_) => body,
                        None => under_way.until_end_of(body),
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
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off is the client's business.
        _ = connection.as_mut() => return,
        () = place.idle().lasts(MOST_IDLE) => connection.as_mut().graceful_shutdown(),
    }
    // Whoever does not read the goodbye, or the answer before it, is cut off.
    let _ = timeout(GOODBYE, connection).await;
}
