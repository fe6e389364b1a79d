//! The API on the agent's socket. The routes say who may ask; each handler calls one action, and answers JSON.

pub(crate) mod answer;
mod audit;
mod backup;
mod forward;
mod host;
mod hosts;
mod peer;
mod session;
mod users;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, patch, post, put},
};
use quantix_api::{Check, CheckState, MAX_BODY_BYTES, Problem, ProblemCode, calls};
use quantix_host::{Host, blocking};
use tokio::net::{TcpListener, UnixListener};

use crate::{
    certificate,
    cluster::{self, Cluster},
    durable,
    hashing::Hashing,
    lock, sessions,
    throttle::Throttle,
};

/// The account the page server runs as; its group may open the socket.
const PAGES: &str = "quantix-hostui";
/// How often an account or certificate that the disk did not take is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// All that the handlers share.
pub(crate) struct Agent {
    pub(crate) host: Host,
    /// The host's name.
    pub(crate) name: String,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) has_account: AtomicBool,
    sessions_here: sessions::Here,
    throttle: Mutex<Throttle>,
    hashing: Hashing,
    tls_dir: PathBuf,
    certificate: Mutex<Result<String, String>>,
}

impl Agent {
    /// Reads what is kept in `state_dir`, or makes it.
    pub(crate) fn open(state_dir: &Path, name: &str, hosts: SocketAddr) -> Arc<Self> {
        let tls_dir = state_dir.join("tls");
        Arc::new(Self {
            host: Host::open(state_dir),
            name: name.to_owned(),
            cluster: Arc::new(Cluster::new(state_dir, hosts)),
            has_account: AtomicBool::new(false),
            sessions_here: sessions::Here::default(),
            throttle: Mutex::default(),
            hashing: Hashing::new(),
            certificate: Mutex::new(ensure_certificate(&tls_dir)),
            tls_dir,
        })
    }

    /// What works: the host's parts, and what the agent keeps.
    async fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.cluster.check(), self.account_check(), self.certificate_check()];
        checks.extend(self.host.checks().await);
        checks
    }

    fn account_check(&self) -> Check {
        let (state, detail) = if self.has_account.load(Ordering::Relaxed) {
            (CheckState::Ok, "The administrator's account is there.".to_owned())
        } else {
            (CheckState::Failed, "There is no account yet: nobody can sign in.".to_owned())
        };
        Check { name: "account".to_owned(), state, detail }
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
    durable::remove(socket)?;
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
    hosts: TcpListener,
    agent: Arc<Agent>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = routes(Arc::clone(&agent)).into_make_service_with_connect_info::<peer::Peer>();
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(end) => served,
        () = Arc::clone(&agent).keep_trying() => Ok(()),
        why = agent.do_duties() => Err(io::Error::other(why)),
        () = agent.cluster.asked_to_start_again() => Ok(()),
        () = cluster::serve(hosts, Arc::clone(&agent.cluster), routes(Arc::clone(&agent))) => Ok(()),
    }
}

/// Who may ask for what is decided here, before anything of the request is looked at.
fn routes(agent: Arc<Agent>) -> Router {
    let anybody = Router::new()
        .route(calls::READY_PATH, get(host::ready))
        .route(calls::CONSOLE_PATH, get(host::console))
        .route(
            calls::SESSION_PATH,
            get(session::show).post(session::open).put(session::note).delete(session::close),
        )
        .route(calls::PASSWORD_PATH, put(session::change_password))
        .route(calls::JOIN_PATH, post(hosts::join));
    let people = Router::new()
        .route(calls::HOST_PATH, get(host::facts))
        .route(calls::CLUSTER_PATH, get(hosts::show))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&agent), session::only_people));
    let administrators = Router::new()
        .route(calls::USERS_PATH, get(users::list).post(users::make))
        .route(&format!("{}/{{name}}", calls::USERS_PATH), patch(users::change).delete(users::remove))
        .route(&format!("{}/{{name}}/password", calls::USERS_PATH), post(users::reset_password))
        .route(&format!("{}/{{name}}/sessions", calls::USERS_PATH), delete(users::end_sessions))
        .route(calls::AUDIT_PATH, get(audit::list))
        .route(calls::LEAVE_PATH, post(hosts::leave))
        .route(calls::RECOVER_PATH, post(hosts::recover))
        .route(calls::BACKUP_PATH, post(backup::make))
        .route(calls::RESTORE_PATH, post(backup::restore).layer(DefaultBodyLimit::disable()))
        .route(calls::TOKENS_PATH, get(hosts::tokens).post(hosts::make_token))
        .route(&format!("{}/{{id}}", calls::TOKENS_PATH), delete(hosts::revoke_token))
        .route(calls::LEADER_PATH, put(hosts::move_lead))
        .route(calls::VOTERS_PATH, put(hosts::set_voters))
        .route(&format!("{}/{{id}}", calls::HOSTS_PATH), delete(hosts::remove_host))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&agent), session::only_administrators));
    anybody
        .merge(people)
        .merge(administrators)
        .fallback(async || {
            answer::Failure(Problem::new(ProblemCode::NotFound, "There is nothing at this path."))
        })
        .method_not_allowed_fallback(async || {
            answer::Failure(Problem::new(
                ProblemCode::MethodNotAllowed,
                "This path does not take this method.",
            ))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&agent), forward::to_leader))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(agent)
}
