//! What hosts ask each other: to join, to be let in, a certificate, and whatever only the leader does.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request as Asking, State},
    http::{HeaderMap, Method, Request, Response, StatusCode, header},
    middleware::{Next, from_fn},
    routing::post,
};
use http_body_util::Full;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use quantix_api::{MAX_BODY_BYTES, Problem, ProblemCode, connection};
use quantix_store::HostId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    Cluster, Contact, authority,
    join::{Answered, Asked},
    kept::{self, Known},
    refusals, sign, told,
    transport::{self, Binding, HTTP, STORE, Shown},
    unusable,
};
use crate::{
    api::answer::{Body, Failure},
    audit::{self, Line},
    lock,
    sessions::now,
    throttle::Source,
};

pub(super) const JOIN: &str = "/node/v1/join";
const ADMIT: &str = "/node/v1/admit";
const ANNOUNCE: &str = "/node/v1/announce";
pub(super) const LEAVE: &str = "/node/v1/leave";
const WELCOME: &str = "/node/v1/welcome";
const CERTIFICATE: &str = "/node/v1/certificate";
const NOTE: &str = "/node/v1/note";

/// Links that hosts have open to this one, and connections of strangers among them.
const CONNECTIONS: usize = 1024;
const STRANGERS: usize = 32;
const HEADERS: Duration = Duration::from_secs(10);
/// The longest that another host may take for an answer.
const ANSWER: Duration = Duration::from_secs(20);
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What a new host sends: the bytes of what it asks for, and the proof over them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Joining {
    pub(super) ask: String,
    pub(super) proof: Vec<u8>,
}

/// A new host that says where it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Announcement {
    port: u16,
}

/// The same, passed on to the leader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Welcome {
    host: HostId,
    address: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateRequest {
    host: HostId,
    request: String,
}

/// Who asks over a connection between hosts, and over which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromHost {
    shown: Option<Shown>,
    binding: Binding,
    /// Where it comes from, and where it came to.
    from: IpAddr,
    to: IpAddr,
}

impl FromHost {
    /// The host that asks, if it has shown a key of the cluster's.
    pub(super) fn host(&self) -> Option<HostId> {
        self.shown.map(|shown| shown.host)
    }
}

/// The other host must be a member.
pub(super) struct ByMember;

impl<S: Sync> axum::extract::FromRequestParts<S> for ByMember {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Failure> {
        match parts.extensions.get::<Member>() {
            Some(_) => Ok(Self),
            None => {
                Err(Problem::new(ProblemCode::Forbidden, "Only a host of the cluster may ask this.").into())
            }
        }
    }
}

/// Marks what a member asks.
#[derive(Clone, Copy, Debug)]
struct Member;

/// Answers other hosts until the end. `api` is what people may ask; members pass it on.
pub(crate) async fn serve(listener: TcpListener, cluster: Arc<Cluster>, api: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let nodes = Router::new()
        .route(JOIN, post(join))
        .route(ADMIT, post(admit))
        .route(ANNOUNCE, post(announce))
        .route(WELCOME, post(welcome))
        .route(CERTIFICATE, post(certificate))
        .route(LEAVE, post(leave))
        .route(NOTE, post(note))
        .merge(told::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::clone(&cluster));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors; some are given back soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (cluster, nodes, api) = (Arc::clone(&cluster), nodes.clone(), api.clone());
        let strangers = Arc::clone(&strangers);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection(stream, from, &cluster, nodes, api, &strangers).await {
                log::debug!("A connection from {from} ended: {error}");
                if let Some(why) = refusals::reason(&error) {
                    cluster.note_refused_host(from.ip().to_canonical(), None, why);
                }
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    cluster: &Arc<Cluster>,
    nodes: Router,
    api: Router,
    strangers: &Arc<Semaphore>,
) -> io::Result<()> {
    let place = strangers.try_acquire().map_err(io::Error::other)?;
    let identity = cluster.dialler.identity().ok_or(io::ErrorKind::NotConnected)?;
    stream.set_nodelay(true)?;
    let to = stream.local_addr()?.ip().to_canonical();
    let (stream, shown) = identity.accept(stream).await?;
    let known = match shown {
        Some(shown) => cluster.known(shown).await,
        None => Known::NotYet,
    };
    // Whoever has shown a key of the cluster's does not take a stranger's place.
    let place = if shown.is_some() {
        drop(place);
        None
    } else {
        Some(place)
    };
    match (stream.get_ref().1.alpn_protocol(), shown) {
        (Some(STORE), Some(shown)) => {
            let store = cluster.arriving.borrow().clone().ok_or(io::ErrorKind::NotConnected)?;
            // Of a host it does not know yet, the store asks for a membership that is newer than its own.
            match known {
                Known::Member | Known::NotYet => store.serve(shown.host, stream).await,
                Known::Removed => {
                    let why = "It was removed from the cluster.".to_owned();
                    cluster.note_refused_host(from.ip().to_canonical(), Some(shown), why);
                    store.refuse(shown.host, stream).await
                }
            }
        }
        (Some(HTTP), shown) => {
            let binding = transport::binding(&stream)?;
            let asks = FromHost { shown, binding, from: from.ip().to_canonical(), to };
            let router = match known {
                Known::Member => nodes.merge(api).layer(Extension(Member)),
                Known::Removed | Known::NotYet => nodes.fallback(no_member),
            };
            let refused = Arc::clone(cluster);
            let router = router.layer(Extension(asks)).layer(from_fn(move |request: Asking, next: Next| {
                let refused = Arc::clone(&refused);
                async move {
                    // Why a host may not join, or a person may not do something, is noted where it is decided.
                    let is_noted = known == Known::Member || request.uri().path() == JOIN;
                    let response = next.run(request).await;
                    if let Some(why) = refusals::reason_of(response.status(), is_noted) {
                        refused.note_refused_host(asks.from, shown, why);
                    }
                    response
                }
            }));
            let service = TowerToHyperService::new(router);
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false);
            let served = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
            let served = timeout(ANSWER + HEADERS, served).await;
            drop(place);
            served.map_err(io::Error::other)?.map_err(io::Error::other)
        }
        _ => Ok(()),
    }
}

async fn no_member() -> Failure {
    Failure(Problem::new(ProblemCode::Forbidden, "This host is no member of the cluster."))
}

async fn join(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    Body(joining): Body<Joining>,
) -> Result<Json<Answered>, Failure> {
    let source = Source::of(Some(asks.from));
    let wait = lock(&cluster.strangers).wait(source, Instant::now());
    if !wait.is_zero() {
        let seconds = wait.as_secs() + 1;
        let sentence =
            format!("Too many wrong join tokens from your address. Try again in {seconds} seconds.");
        return Err(Problem::new(ProblemCode::TooManyAttempts, sentence).retry_after(seconds).into());
    }
    lock(&cluster.strangers).failed(source, Instant::now());
    cluster.learn_own_address(asks.to).await?;
    let asked =
        Asked { binding: asks.binding, ask: joining.ask, proof: joining.proof, from: asks.from.to_string() };
    let answered = match cluster.other_leader() {
        Some(leader) => cluster.ask_host(&leader, ADMIT, &asked).await?,
        None => cluster.admit(&asked).await?,
    };
    lock(&cluster.strangers).succeeded(source);
    Ok(Json(answered))
}

async fn admit(
    State(cluster): State<Arc<Cluster>>,
    _: ByMember,
    Body(asked): Body<Asked>,
) -> Result<Json<Answered>, Failure> {
    Ok(Json(cluster.admit(&asked).await?))
}

async fn announce(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    Body(announcement): Body<Announcement>,
) -> Result<StatusCode, Failure> {
    let shown = asks.shown.ok_or_else(|| {
        Problem::new(ProblemCode::Forbidden, "Only a host that was let into the cluster may ask this.")
    })?;
    let address = reached_at(&asks.from.to_string(), announcement.port)?;
    let welcome = Welcome { host: shown.host, address };
    match cluster.other_leader() {
        Some(leader) => cluster.ask_host(&leader, WELCOME, &welcome).await?,
        None => cluster.welcome(welcome.host, welcome.address).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn welcome(
    State(cluster): State<Arc<Cluster>>,
    _: ByMember,
    Body(welcome): Body<Welcome>,
) -> Result<StatusCode, Failure> {
    cluster.welcome(welcome.host, welcome.address).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn certificate(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    _: ByMember,
    Body(asked): Body<CertificateRequest>,
) -> Result<Json<String>, Failure> {
    if asks.shown.is_none_or(|shown| shown.host != asked.host) {
        return Err(
            Problem::new(ProblemCode::Forbidden, "A host may ask for its own certificate only.").into()
        );
    }
    Ok(Json(cluster.make_certificate(asked.host, asked.request).await?))
}

async fn note(
    State(cluster): State<Arc<Cluster>>,
    _: ByMember,
    Body(line): Body<Line>,
) -> Result<StatusCode, Failure> {
    cluster.note(line).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn leave(
    State(cluster): State<Arc<Cluster>>,
    Extension(asks): Extension<FromHost>,
    _: ByMember,
    Body(line): Body<Line>,
) -> Result<StatusCode, Failure> {
    let host = asks.shown.map(|shown| shown.host).ok_or_else(unusable)?;
    cluster.remove(host, line).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Cluster {
    /// What the table of hosts knows of it.
    async fn known(&self, shown: Shown) -> Known {
        let known = self.read(move |connection| kept::known(connection, shown.host, &shown.key_hash)).await;
        known.unwrap_or(Known::NotYet)
    }

    /// Adds a line to the audit log, whoever leads.
    pub(crate) async fn note(&self, line: Line) -> Result<(), Problem> {
        match self.other_leader() {
            Some(leader) => self.ask_host(&leader, NOTE, &line).await,
            None => self.write(move |connection| audit::note(connection, &line)).await,
        }
    }

    /// A host that was alone learns where it is reached from the first that reaches it.
    async fn learn_own_address(&self, address: IpAddr) -> Result<(), Problem> {
        let store = self.store()?;
        let me = store.id();
        let is_known =
            store.status().members.iter().any(|member| member.id == me && !member.address.0.is_empty());
        if is_known || store.leadership().borrow().is_none() {
            return Ok(());
        }
        let address = SocketAddr::new(address, self.listen.port()).to_string();
        let set = store.set_address(me, quantix_store::Address(address)).await;
        set.map_err(|failure| Problem::new(ProblemCode::Unavailable, format!("{failure}.")))
    }

    /// Tells the cluster where this new host is.
    pub(super) async fn announce(&self, contacts: &[Contact]) -> Result<(), Problem> {
        let mut last = Problem::new(ProblemCode::Unavailable, "No host of the cluster is known.");
        for contact in contacts {
            match self.ask_host(contact, ANNOUNCE, &Announcement { port: self.listen.port() }).await {
                Ok(()) => return Ok(()),
                Err(problem) => last = problem,
            }
        }
        Err(last)
    }

    /// A certificate for this host's key, from whoever leads.
    pub(super) async fn ask_for_certificate(&self, request: String) -> Result<String, Problem> {
        let host = self.store()?.id();
        match self.other_leader() {
            Some(leader) => self.ask_host(&leader, CERTIFICATE, &CertificateRequest { host, request }).await,
            None => self.make_certificate(host, request).await,
        }
    }

    async fn make_certificate(&self, host: HostId, request: String) -> Result<String, Problem> {
        self.write(move |connection| {
            let authority = kept::authority(connection)?.ok_or_else(unusable)?;
            let certificate = sign(&authority, &request, host, now())?;
            let (_, key_hash) = authority::host_of_pem(&certificate).ok_or_else(unusable)?;
            let name = kept::hosts(connection)?
                .into_iter()
                .find(|known| known.id == host)
                .ok_or_else(unusable)?
                .name;
            kept::keep_host(connection, host, &name, &key_hash, now())?;
            Ok(certificate)
        })
        .await
    }

    /// Asks another host something.
    pub(super) async fn ask_host<T: DeserializeOwned>(
        &self,
        host: &Contact,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let stream = self.reach(host).await?;
        let body = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
        post_over(stream, path, body).await
    }

    async fn reach(
        &self,
        host: &Contact,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Problem> {
        self.identity()?.reach(host.host, &host.address).await.map_err(|error| {
            Problem::new(
                ProblemCode::Unavailable,
                format!("The host at {} does not answer ({error}). Try again.", host.address),
            )
            .retry_after(2)
        })
    }

    /// What another host shows in a session.
    pub(crate) async fn fetch<T: DeserializeOwned>(
        &self,
        host: &Contact,
        path: &str,
        session: &str,
    ) -> Result<T, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            format!("Bearer {session}").parse().map_err(|error| unreadable(&error))?,
        );
        let response = self.pass_on(host, Method::GET, path, &headers, Bytes::new()).await?;
        serde_json::from_slice(response.body()).map_err(|error| unreadable(&error))
    }

    /// Passes a request for another protocol on to another host, and all that follows.
    pub(crate) async fn tunnel(
        &self,
        host: &Contact,
        request: axum::extract::Request,
    ) -> Result<axum::response::Response, Problem> {
        let stream = self.reach(host).await?;
        let answer = connection::tunnel(request, stream, ()).await;
        let answer = answer.map_err(|error| unreadable(&error))?;
        Ok(answer.map(|body| body.map_or_else(axum::body::Body::empty, axum::body::Body::new)))
    }

    /// Passes a request on to another host, and its answer back.
    pub(crate) async fn pass_on(
        &self,
        host: &Contact,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Problem> {
        let stream = self.reach(host).await?;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "host");
        for name in quantix_api::ASKED_HEADERS {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        if let Some(client) = headers.get(quantix_api::CLIENT_ADDRESS_HEADER) {
            request = request.header(quantix_api::CLIENT_ADDRESS_HEADER, client);
        }
        exchange(stream, request.body(Full::new(body)).map_err(|error| unreadable(&error))?).await
    }
}

/// Asks whoever is at the other end of a connection.
pub(super) async fn post_over<T: DeserializeOwned>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Problem> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, "host")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| unreadable(&error))?;
    let response = exchange(stream, request).await?;
    if !response.status().is_success() {
        return Err(serde_json::from_slice(response.body()).unwrap_or_else(|_| {
            Problem::new(ProblemCode::Unavailable, format!("The other host answered {}.", response.status()))
        }));
    }
    let body = if response.body().is_empty() { b"null" } else { &response.body()[..] };
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Problem> {
    let broken = |error: &dyn std::fmt::Display| {
        Problem::new(ProblemCode::Unavailable, format!("The other host's answer was cut short ({error})."))
            .retry_after(2)
    };
    let answered =
        async { connection::collect(connection::send(stream, request).await?, MAX_ANSWER_BYTES).await };
    let answered = timeout(ANSWER, answered).await.map_err(|_| broken(&"it took too long"))?;
    answered.map_err(|error| broken(&error))
}

/// Where a host is reached that came from an address.
pub(super) fn reached_at(from: &str, port: u16) -> Result<String, Problem> {
    let ip: IpAddr =
        from.parse().map_err(|_| Problem::new(ProblemCode::Malformed, "The address is none."))?;
    Ok(SocketAddr::new(ip, port).to_string())
}

fn unreadable(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::Internal, format!("What hosts say to each other could not be read: {error}."))
}
