//! The API on the agent's socket. Each handler checks who asks, calls one action, and answers JSON.

mod answer;
mod host;
mod peer;
mod session;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, put},
};
use quantix_api::{Check, CheckState, MAX_BODY_BYTES, Problem, ProblemCode, calls};
use quantix_host::{Host, blocking};
use tokio::net::UnixListener;

use crate::{
    account::AccountFile, certificate, hashing::Hashing, lock, sessions::Sessions, throttle::Throttle,
};

/// The account the page server runs as; its group may open the socket.
const PAGES: &str = "quantix-hostui";
/// How often an account or certificate that the disk did not take is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// All that the handlers share.
#[derive(Debug)]
pub(crate) struct Agent {
    host: Host,
    account: AccountFile,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    hashing: Hashing,
    tls_dir: PathBuf,
    certificate: Mutex<Result<String, String>>,
}

impl Agent {
    /// Reads what is kept in `state_dir`, or makes it.
    pub(crate) fn open(state_dir: &Path) -> Arc<Self> {
        let tls_dir = state_dir.join("tls");
        Arc::new(Self {
            host: Host::open(state_dir),
            account: AccountFile::open(&state_dir.join("account.json")),
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            hashing: Hashing::new(),
            certificate: Mutex::new(ensure_certificate(&tls_dir)),
            tls_dir,
        })
    }

    /// What works: the host's parts, and what the agent keeps.
    async fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.account.check(), self.certificate_check()];
        checks.extend(self.host.checks().await);
        checks
    }

    fn certificate_check(&self) -> Check {
        let (state, detail) = match &*lock(&self.certificate) {
            Ok(_) => (CheckState::Ok, "The pages have a certificate.".to_owned()),
            Err(why) => (CheckState::Failed, format!("The pages have no certificate: {why}.")),
        };
        Check { name: "certificate".to_owned(), state, detail }
    }

    /// Keeps trying to write what the disk did not take at the start.
    async fn keep_trying(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(RETRY);
        loop {
            ticks.tick().await;
            let agent = Arc::clone(&self);
            blocking(move || agent.keep()).await;
        }
    }

    fn keep(&self) {
        self.account.keep();
        if lock(&self.certificate).is_err() {
            let made = ensure_certificate(&self.tls_dir);
            *lock(&self.certificate) = made;
        }
    }
}

fn ensure_certificate(dir: &Path) -> Result<String, String> {
    certificate::ensure(dir, &quantix_host::hostname())
        .map_err(|error| error.to_string())
        .inspect_err(|error| log::error!("The pages have no certificate: {error}"))
}

/// Opens the socket for root and the page server, and nobody else.
pub(crate) fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = socket.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    let mode = match nix::unistd::Group::from_name(PAGES).ok().flatten() {
        Some(group) if nix::unistd::chown(socket, None, Some(group.gid)).is_ok() => 0o660,
        // Not on an image, or not root: the socket is for whoever started the agent.
        _ => 0o600,
    };
    fs::set_permissions(socket, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Answers until `end`; what was asked before is still answered.
pub(crate) async fn serve(
    listener: UnixListener,
    agent: Arc<Agent>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = router(Arc::clone(&agent)).into_make_service_with_connect_info::<peer::Peer>();
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(end) => served,
        () = agent.keep_trying() => Ok(()),
    }
}

fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route(calls::READY_PATH, get(host::ready))
        .route(calls::HOST_PATH, get(host::facts))
        .route(calls::CONSOLE_PATH, get(host::console))
        .route(calls::SESSION_PATH, get(session::show).post(session::open).delete(session::close))
        .route(calls::PASSWORD_PATH, put(session::change_password))
        .fallback(async || {
            answer::Failure(Problem::new(ProblemCode::NotFound, "There is nothing at this path."))
        })
        .method_not_allowed_fallback(async || {
            answer::Failure(Problem::new(
                ProblemCode::MethodNotAllowed,
                "This path does not take this method.",
            ))
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(agent)
}
