//! The API on the agent's socket. The routes say who may ask; each handler calls one action, and answers JSON.

mod access;
pub(crate) mod answer;
mod audit;
mod backup;
mod catalogue;
mod certificate;
mod changes;
mod cloud_init;
mod consoles;
mod document;
mod events;
mod files;
mod folders;
mod forward;
mod found;
mod guests;
mod host;
mod hosts;
mod images;
mod metrics;
pub(crate) mod once;
mod own;
mod pages;
mod peer;
mod person;
mod pools;
mod provider;
mod rest;
mod schedules;
mod session;
mod settings;
mod snapshots;
mod storage;
mod tasks;
mod users;
mod vms;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use jiff::Timestamp;
pub(crate) use peer::{Client, sign_in_needed};
use person::Needs;
use quantix_api::{Check, CheckState, MAX_BODY_BYTES, PAGES_CERTIFICATE_PATH, Problem, ProblemCode, Right};
use quantix_compute::Libvirt;
use quantix_host::{Host, blocking};
use rusqlite::Connection;
use tokio::net::{TcpListener, UnixListener};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    certificate::Certificates,
    changes::Hub,
    cluster::{self, Cluster, Refused},
    durable,
    events::Attacks,
    hashing::Hashing,
    options::Options,
    rate::Measures,
    sessions::{self, TokenHash},
    storage::copies::Bringing,
    syslog,
    throttle::{Source, Throttle},
    vms::{Accelerators, FoundNames, Starting, console::Consoles},
};

/// The account the page server runs as; its group may open the socket.
const PAGES: &str = "quantix-hostui";
/// How often an account or certificate that the disk did not take is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// All that the handlers share.
pub(crate) struct Agent {
    pub(crate) host: Host,
    pub(crate) libvirt: Arc<Libvirt>,
    pub(crate) accelerators: Accelerators,
    pub(crate) found_vms: FoundNames,
    /// Held while it is told how a machine is.
    pub(crate) seeing: tokio::sync::Mutex<()>,
    pub(crate) starting: Starting,
    pub(crate) consoles: Consoles,
    /// Images that are brought from other hosts.
    pub(crate) bringing: Bringing,
    pub(crate) metrics: crate::metrics::Kept,
    pub(crate) state_dir: PathBuf,
    pub(crate) pools_dir: PathBuf,
    /// The socket of what may touch the host's disks.
    pub(crate) disks: PathBuf,
    /// Told when it is worth looking at the pools at once.
    pub(crate) pools_changed: tokio::sync::Notify,
    /// The same of the machines.
    pub(crate) vms_changed: tokio::sync::Notify,
    /// The host's name.
    pub(crate) name: String,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) has_account: AtomicBool,
    pub(crate) changes: Hub,
    pub(crate) led_since: Mutex<Option<(u64, Instant)>>,
    pub(crate) attacks: Attacks,
    sessions_here: sessions::Here,
    throttle: Mutex<Throttle>,
    /// What people and programs may still ask for.
    people: Measures<TokenHash>,
    /// The same for whoever comes without a session that is open.
    strangers: Measures<Source>,
    hashing: Hashing,
    pub(crate) certificates: Certificates,
    /// What is known about the identity provider.
    pub(crate) provider: crate::provider::Known,
    /// Why the audit log is not sent, where it should be.
    pub(crate) syslog: syslog::Trouble,
}

impl Agent {
    /// Reads what is kept in the folder of its state, or makes it.
    pub(crate) fn open(options: &Options, hosts: SocketAddr) -> io::Result<Arc<Self>> {
        let Options { state_dir, name, libvirt, libvirt_kept, disks, pools_dir, .. } = options;
        let libvirt = Libvirt::open(libvirt, libvirt_kept)?;
        let libvirt = Arc::new(libvirt);
        let asked = Arc::clone(&libvirt);
        let version: quantix_host::Asked = Box::new(move || {
            let asked = Arc::clone(&asked);
            Box::pin(async move { asked.version().await.map_err(|failed| failed.to_string()) })
        });
        Ok(Arc::new(Self {
            host: Host::open(state_dir, version),
            libvirt,
            accelerators: Accelerators::default(),
            found_vms: FoundNames::default(),
            seeing: tokio::sync::Mutex::default(),
            starting: Starting::default(),
            consoles: Consoles::default(),
            bringing: Bringing::default(),
            metrics: crate::metrics::Kept::in_folder(state_dir),
            state_dir: state_dir.clone(),
            pools_dir: pools_dir.clone(),
            disks: disks.clone(),
            pools_changed: tokio::sync::Notify::new(),
            vms_changed: tokio::sync::Notify::new(),
            name: name.clone(),
            cluster: Arc::new(Cluster::new(state_dir, pools_dir, hosts)),
            has_account: AtomicBool::new(false),
            changes: Hub::default(),
            led_since: Mutex::default(),
            attacks: Attacks::default(),
            sessions_here: sessions::Here::default(),
            throttle: Mutex::default(),
            people: Measures::new(4000, 2000),
            strangers: Measures::new(200, 20),
            hashing: Hashing::new(),
            certificates: Certificates::open(&state_dir.join("tls"), name),
            provider: crate::provider::Known::default(),
            syslog: syslog::Trouble::default(),
        }))
    }

    /// Reads what may not be there.
    async fn found<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, Refused> + Send + 'static,
    ) -> Result<R, Problem> {
        let found = self.cluster.read(move |connection| match work(connection) {
            Ok(found) => Ok(Ok(found)),
            Err(Refused::Problem(problem)) => Ok(Err(problem)),
            Err(Refused::Sqlite(error)) => Err(error),
        });
        found.await?
    }

    /// What works: the host's parts, and what the agent keeps.
    pub(crate) async fn checks(&self) -> Vec<Check> {
        let mut checks =
            vec![self.cluster.check(), self.account_check(), self.certificates.check(Timestamp::now())];
        checks.extend(self.syslog_check().await);
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

    /// Keeps trying to write what the disk did not take at the start.
    async fn keep_trying(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(RETRY);
        loop {
            ticks.tick().await;
            let agent = Arc::clone(&self);
            blocking(move || agent.certificates.keep()).await;
        }
    }
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
        () = Arc::clone(&agent).do_tasks() => Ok(()),
        () = Arc::clone(&agent).watch_over() => Ok(()),
        () = Arc::clone(&agent).keep_vms() => Ok(()),
        () = Arc::clone(&agent).keep_guests() => Ok(()),
        () = Arc::clone(&agent).keep_pools() => Ok(()),
        () = Arc::clone(&agent).keep_schedules() => Ok(()),
        () = Arc::clone(&agent).keep_host_metrics() => Ok(()),
        () = Arc::clone(&agent).keep_vm_metrics() => Ok(()),
        () = Arc::clone(&agent).tell_changes() => Ok(()),
        () = agent.renew_certificates() => Ok(()),
        why = agent.do_duties() => Err(io::Error::other(why)),
        () = agent.cluster.asked_to_start_again() => Ok(()),
        () = cluster::serve(hosts, Arc::clone(&agent.cluster), routes(Arc::clone(&agent))) => Ok(()),
    }
}

/// Who may ask for what is decided here, before anything of the request is looked at: a section of routes says what it
/// needs, and the document of the API says the same.
fn sections() -> Vec<(Needs, OpenApiRouter<Arc<Agent>>)> {
    vec![
        (
            Needs::Nothing,
            OpenApiRouter::new()
                .routes(routes!(host::ready))
                .routes(routes!(host::console))
                .routes(routes!(session::open))
                .routes(routes!(provider::ways_in))
                .routes(routes!(provider::begin))
                .routes(routes!(provider::back))
                .routes(routes!(consoles::attend))
                .routes(routes!(document::show)),
        ),
        (
            Needs::Begun,
            OpenApiRouter::new()
                .routes(routes!(session::show, session::note, session::close))
                .routes(routes!(session::give_code)),
        ),
        (
            Needs::Session,
            OpenApiRouter::new().routes(routes!(own::change_password)).routes(routes!(hosts::join)),
        ),
        (
            Needs::Person,
            OpenApiRouter::new()
                .routes(routes!(
                    own::begin_second_factor,
                    own::confirm_second_factor,
                    own::remove_second_factor
                ))
                .routes(routes!(own::make_recovery_codes))
                .routes(routes!(session::list, session::close_others))
                .routes(routes!(session::close_one))
                .routes(routes!(own::tokens, own::make_token))
                .routes(routes!(own::revoke_token)),
        ),
        (
            Needs::SignedIn,
            OpenApiRouter::new().routes(routes!(access::list_roles)).routes(routes!(access::show_role)),
        ),
        (
            Needs::Right(Right::See),
            OpenApiRouter::new()
                .routes(routes!(host::facts))
                .routes(routes!(hosts::show))
                .routes(routes!(hosts::facts_of))
                .routes(routes!(metrics::of_host))
                .routes(routes!(metrics::of_vm))
                .routes(routes!(metrics::counters))
                .routes(routes!(tasks::list))
                .routes(routes!(tasks::show))
                .routes(routes!(tasks::cancel))
                .routes(routes!(tasks::retry))
                .routes(routes!(tasks::file))
                .routes(routes!(events::list))
                .routes(routes!(events::acknowledge))
                .routes(routes!(events::clear))
                .routes(routes!(vms::list))
                .routes(routes!(vms::counts))
                .routes(routes!(vms::show))
                .routes(routes!(snapshots::list))
                .routes(routes!(schedules::list))
                .routes(routes!(folders::list))
                .routes(routes!(pools::list))
                .routes(routes!(pools::show))
                .routes(routes!(pools::disks))
                .routes(routes!(found::list))
                .routes(routes!(storage::list))
                .routes(routes!(storage::show))
                .routes(routes!(images::list))
                .routes(routes!(catalogue::show))
                .routes(routes!(images::show))
                .routes(routes!(changes::show)),
        ),
        (
            Needs::Right(Right::ManageStorage),
            OpenApiRouter::new()
                .routes(routes!(pools::make))
                .routes(routes!(pools::change, pools::remove))
                .routes(routes!(pools::add_disks))
                .routes(routes!(files::list, files::adopt, files::remove))
                .routes(routes!(images::make))
                .routes(routes!(images::fetch))
                .routes(routes!(catalogue::set, catalogue::reset))
                .routes(routes!(images::finish))
                .routes(routes!(images::change, images::remove))
                .routes(routes!(images::arrived, images::bring)),
        ),
        (
            Needs::Right(Right::OperateVms),
            OpenApiRouter::new()
                .routes(routes!(vms::power))
                .routes(routes!(consoles::open))
                .routes(routes!(consoles::picture)),
        ),
        (
            Needs::Right(Right::ManageVms),
            OpenApiRouter::new()
                .routes(routes!(vms::change, vms::remove))
                .routes(routes!(vms::settle_drift))
                .routes(routes!(cloud_init::show, cloud_init::set, cloud_init::remove))
                .routes(routes!(snapshots::make))
                .routes(routes!(schedules::make))
                .routes(routes!(schedules::remove))
                .routes(routes!(snapshots::change, snapshots::remove))
                .routes(routes!(snapshots::revert))
                .routes(routes!(snapshots::clone))
                .routes(routes!(guests::set_password))
                .routes(routes!(storage::make))
                .routes(routes!(storage::change, storage::remove))
                .routes(routes!(storage::grow))
                .routes(routes!(storage::move_to_pool))
                .routes(routes!(storage::add_disk))
                .routes(routes!(folders::change, folders::remove)),
        ),
        (
            // Where is in the body.
            Needs::Somewhere(Right::ManageVms),
            OpenApiRouter::new()
                .routes(routes!(vms::make))
                .routes(routes!(vms::check))
                .routes(routes!(cloud_init::fetch_keys))
                .routes(routes!(found::import))
                .routes(routes!(folders::make)),
        ),
        (
            Needs::Right(Right::OperateHosts),
            OpenApiRouter::new()
                .routes(routes!(tasks::restart))
                .routes(routes!(tasks::shut_down))
                .routes(routes!(tasks::restart_services))
                .routes(routes!(tasks::support_bundle)),
        ),
        (
            Needs::Right(Right::SeeActivity),
            OpenApiRouter::new().routes(routes!(audit::list)).routes(routes!(audit::export)),
        ),
        (Needs::Right(Right::ManagePeople), people()),
        (Needs::Right(Right::ManageSettings), settings()),
        (
            Needs::Right(Right::ManageCluster),
            OpenApiRouter::new()
                .routes(routes!(hosts::leave))
                .routes(routes!(hosts::recover))
                .routes(routes!(hosts::tokens, hosts::make_token))
                .routes(routes!(hosts::revoke_token))
                .routes(routes!(hosts::move_lead))
                .routes(routes!(hosts::set_voters))
                .routes(routes!(hosts::remove_host)),
        ),
        (
            Needs::Right(Right::ManageSettings),
            OpenApiRouter::new()
                .routes(routes!(certificate::show, certificate::upload, certificate::reset))
                .routes(routes!(certificate::make_request, certificate::drop_request))
                .routes(routes!(certificate::set_acme, certificate::renew, certificate::stop_acme)),
        ),
        (
            Needs::Right(Right::BackUp),
            OpenApiRouter::new().routes(routes!(backup::make)).merge(
                // A backup is longer than anything else that comes in, and is read as it comes.
                OpenApiRouter::new().routes(routes!(backup::restore)).layer(DefaultBodyLimit::disable()),
            ),
        ),
    ]
}

fn people() -> OpenApiRouter<Arc<Agent>> {
    OpenApiRouter::new()
        .routes(routes!(users::list, users::make))
        .routes(routes!(users::show, users::change, users::remove))
        .routes(routes!(users::reset_password))
        .routes(routes!(users::reset_second_factor))
        .routes(routes!(users::end_sessions))
        .routes(routes!(users::tokens))
        .routes(routes!(users::revoke_token))
        .routes(routes!(access::list_groups, access::make_group))
        .routes(routes!(access::show_group, access::change_group, access::remove_group))
        .routes(routes!(access::add_member, access::take_member))
        .routes(routes!(access::make_role))
        .routes(routes!(access::change_role, access::remove_role))
        .routes(routes!(access::list, access::give))
        .routes(routes!(access::take))
}

fn settings() -> OpenApiRouter<Arc<Agent>> {
    OpenApiRouter::new()
        .routes(routes!(settings::show_syslog, settings::set_syslog, settings::remove_syslog))
        .routes(routes!(settings::test_syslog))
        .routes(routes!(provider::show, provider::set, provider::remove))
        .routes(routes!(provider::test))
}

fn routes(agent: Arc<Agent>) -> Router {
    let mut router = OpenApiRouter::new();
    for (needs, section) in sections() {
        let check = middleware::from_fn_with_state((Arc::clone(&agent), needs), person::check);
        let once = middleware::from_fn_with_state(Arc::clone(&agent), once::done_once);
        // The outer layer comes first: who may not ask is refused, whatever was answered before.
        router = router.merge(section.route_layer(once).route_layer(check));
    }
    let (router, _) = router.split_for_parts();
    router
        // No part of the API, and so not of its document.
        .route(PAGES_CERTIFICATE_PATH, get(pages::certificate))
        .fallback(async || {
            answer::Failure(Problem::new(ProblemCode::NotFound, "There is nothing at this path."))
        })
        .method_not_allowed_fallback(async || {
            answer::Failure(Problem::new(
                ProblemCode::MethodNotAllowed,
                "This path does not take this method.",
            ))
        })
        .layer(middleware::map_response(answer::refused_alike))
        .layer(middleware::from_fn_with_state(Arc::clone(&agent), forward::to_leader))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(rest::read_to_end))
        .with_state(agent)
}
