//! The routes, and what every answer carries.

use std::{net::IpAddr, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post, put},
};
use quantix_api::{AgentClient, MAX_BODY_BYTES, calls};
use tower_http::{
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
    timeout::TimeoutLayer,
};

use crate::{
    account, activity, api, assets, backup, certificate, cluster, consoles, dev, events, find, groups,
    health, hosts, live, next,
    options::Options,
    origin, overview, power,
    problem::{self, Page},
    provider, reader, reference, roles, session, settings,
    storage::{self, files},
    syslog, tasks, users, vms,
};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What the pages share.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(crate) agent: AgentClient,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// The referrer policy is not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
/// Script comes from our own files only: none in a page, none made of text; no frame, nothing from elsewhere. Pictures may be
/// in a page's own words, as the pointers are that a guest draws. HSTS is left out on purpose: with the certificate a host makes for
/// itself it would lock out everybody who has to accept that certificate by hand.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// All pages, over the agent behind its socket.
pub(crate) fn router(options: &Options) -> Router {
    let mut router = Router::new();
    if options.dev {
        router = router.route("/dev/components", get(dev::page));
    }
    router
        .route("/", get(async || Redirect::to("/overview")))
        .route("/overview", get(overview::page))
        .route("/find", get(find::page))
        .route("/settings", get(settings::page))
        .merge(certificate::routes())
        .route("/settings/sign-in", get(provider::page).post(provider::save))
        .route("/settings/sign-in/{deed}", post(provider::deed))
        .route("/settings/syslog", get(syslog::page).post(syslog::save))
        .route("/settings/syslog/{deed}", post(syslog::deed))
        .route("/theme", post(reader::choose))
        .route("/users", get(users::page).post(users::make))
        .route("/users/{name}", get(users::user_page))
        .route("/users/{name}/{deed}", post(users::deed))
        .route("/groups", get(groups::page).post(groups::make))
        .route("/groups/{name}", get(groups::group_page))
        .route("/groups/{name}/{deed}", post(groups::deed))
        .route("/reference", get(reference::page))
        .route("/roles", get(roles::page).post(roles::make))
        .route("/roles/new", get(roles::new_page))
        .route("/roles/{name}", get(roles::role_page))
        .route("/roles/{name}/{deed}", post(roles::deed))
        .route("/account", get(account::page))
        .route("/account/{deed}", post(account::deed))
        .route("/activity", get(activity::page))
        .route("/activity/tasks", get(tasks::page))
        .route("/activity/tasks/{id}", get(tasks::task_page))
        .route("/activity/tasks/{id}/file", get(tasks::file))
        .route("/activity/tasks/{id}/{deed}", post(tasks::deed))
        .route("/activity/events", get(events::page))
        .route("/activity/events/{id}/{deed}", post(events::deed))
        .route("/tray", get(tasks::tray))
        .route("/alarms", get(events::alarms))
        .route("/cluster/hosts/{id}/power/{deed}", get(power::page).post(power::begin))
        .route("/cluster/hosts/{id}/support-bundle", post(power::bundle))
        .route("/vms", get(vms::page))
        .route("/vms/new", get(vms::new_page).post(vms::make))
        .route("/vms/new/check", post(vms::check))
        .route("/vms/ssh-keys", post(vms::fetch_keys))
        .route("/vms/found", get(vms::found_page))
        .route("/vms/found/{host}/{vm}", get(vms::import_page).post(vms::import))
        .route("/vms/many", post(vms::many))
        .route("/vms/{id}", get(vms::vm_page))
        .route("/vms/{id}/edit", get(vms::edit_page).post(vms::edit))
        .route("/vms/{id}/cloud-init", get(vms::cloud_init_page).post(vms::set_cloud_init))
        .route("/vms/{id}/cloud-init/remove", post(vms::remove_cloud_init))
        .route("/console", get(consoles::page))
        .route("/vms/{id}/picture", get(consoles::picture))
        .route("/vms/{id}/console", post(consoles::open))
        .route("/vms/{id}/console/power/{action}", post(consoles::power))
        .route("/vms/{id}/remove", get(vms::remove_page).post(vms::remove))
        .route("/vms/{id}/password", get(vms::password_page).post(vms::set_password))
        .route("/vms/{id}/clone", get(vms::clone_page).post(vms::clone))
        .route("/vms/{id}/snapshots", get(vms::snapshots_page).post(vms::make_snapshot))
        .route("/vms/{id}/snapshots/{snapshot}", get(vms::snapshot_page).post(vms::change_snapshot))
        .route("/vms/{id}/snapshots/{snapshot}/revert", get(vms::revert_page).post(vms::revert))
        .route("/vms/{id}/snapshots/{snapshot}/remove", get(vms::drop_page).post(vms::drop_snapshot))
        .route("/vms/{id}/schedules", post(vms::make_schedule))
        .route("/vms/{id}/schedules/{schedule}/remove", post(vms::remove_schedule))
        .route("/vms/{id}/disks", post(vms::add_disk))
        .route("/vms/{id}/disks/{volume}/let-go", get(vms::let_go_page).post(vms::let_go))
        .route("/vms/{id}/power/{action}", post(vms::power))
        .route("/vms/{id}/{deed}", post(vms::deed))
        .route("/storage", get(storage::page))
        .route("/storage/pools/new", get(storage::pool::new_page).post(storage::pool::make))
        .route("/storage/pools/{id}", get(storage::pool::pool_page).post(storage::pool::change_pool))
        .route("/storage/pools/{id}/disks", get(storage::pool::disks_page).post(storage::pool::add_disks))
        .route("/storage/pools/{id}/remove", get(storage::pool::remove_page).post(storage::pool::remove))
        .route("/storage/pools/{id}/files/{host}", get(files::files_page))
        .route("/storage/pools/{id}/files/{host}/adopt", get(files::adopt_page).post(files::adopt))
        .route("/storage/pools/{id}/files/{host}/remove", get(files::remove_page).post(files::remove))
        .route("/storage/images", get(storage::images::list).post(storage::images::begin))
        .route("/storage/images/fetch", post(storage::images::fetch))
        .route("/storage/images/catalogue", get(storage::catalogue::page).post(storage::catalogue::set))
        .route("/storage/images/catalogue/reset", post(storage::catalogue::reset))
        .route("/storage/images/{id}", get(storage::images::tell))
        .route("/storage/images/{id}/finish", post(storage::images::finish))
        .route("/storage/images/{id}/edit", get(storage::image::edit_page).post(storage::image::edit))
        .route("/storage/images/{id}/remove", get(storage::images::remove_page).post(storage::images::remove))
        .route("/storage/volumes/new", get(storage::new_page).post(storage::make))
        .route("/storage/volumes/{id}", get(storage::volume_page))
        .route("/storage/volumes/{id}/remove", get(storage::remove_page).post(storage::remove))
        .route("/storage/volumes/{id}/{deed}", post(storage::deed))
        .route("/folders", post(vms::make_folder))
        .route("/folders/{id}/{deed}", post(vms::folder))
        .route("/hosts", get(hosts::page))
        .route("/hosts/{id}", get(hosts::summary))
        .route("/hosts/{id}/hardware", get(hosts::hardware))
        .route("/hosts/{id}/services", get(hosts::services))
        .route("/cluster", get(cluster::page))
        .route("/cluster/add", get(cluster::add_page))
        .route("/cluster/tokens", post(cluster::make_token))
        .route("/cluster/tokens/{id}/revoke", post(cluster::revoke_token))
        .route("/cluster/leader", post(cluster::move_lead))
        .route("/cluster/voters", post(cluster::set_voters))
        .route("/cluster/hosts/{id}/remove", get(cluster::remove_page).post(cluster::remove))
        .route("/cluster/join", get(cluster::join_page).post(cluster::join))
        .route("/cluster/recover", get(cluster::recover_page).post(cluster::recover))
        .route("/cluster/leave", get(cluster::leave_page).post(cluster::leave))
        .route("/sign-in", get(session::sign_in_page).post(session::sign_in))
        .route("/sign-in/oidc", get(provider::go))
        .route("/sign-in/oidc/callback", get(provider::back))
        .route("/sign-in/code", get(session::code_page).post(session::give_code))
        .route("/sign-out", post(session::sign_out))
        .route("/password", get(session::password_page).post(session::change_password))
        .route("/api/v1/{*path}", any(api::pass_on))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(api::counters))
        .route("/assets/{version}/{*name}", get(assets::asset))
        .fallback(async || Page::not_found())
        .method_not_allowed_fallback(async || Page::wrong_method())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN))
        // Files that come and go take as long as they take; the agent gives up one that does not move.
        .route("/cluster/backup", get(backup::make_page).post(backup::make))
        .route("/cluster/restore", get(backup::restore_page).post(backup::restore))
        .route("/live", get(live::stream))
        .route("/api/v1/cluster/hosts/{host}/consoles/{ticket}", get(consoles::pass_through))
        .route(calls::BACKUP_PATH, post(api::pass_on))
        .route(calls::RESTORE_PATH, post(api::stream))
        .route("/api/v1/images/{image}/content", any(api::content))
        .route("/storage/images/{id}/content", put(storage::images::bring))
        .layer(middleware::from_fn(next::leads_back))
        .layer(middleware::from_fn(origin::own_pages_only))
        .layer(middleware::from_fn(every_answer))
        .layer(middleware::from_fn(reader::remember))
        .layer(CompressionLayer::new().compress_when(worth_compressing()))
        .with_state(Web { agent: AgentClient::new(&options.agent) })
}

/// Text of some length. Files that are compressed already come as they are, and events at once.
///
/// What a stranger could put into a page never stands in it beside a secret that they could guess from its length: our
/// cookies are not sent with requests from elsewhere, and secrets are shown once, in answer to a form.
fn worth_compressing() -> impl Predicate {
    SizeAbove::new(1024)
        .and(NotForContentType::new("text/event-stream"))
        .and(NotForContentType::new("application/octet-stream"))
        .and(NotForContentType::new("application/zstd"))
        .and(NotForContentType::new("font/"))
}

/// A block that leads elsewhere, to the sign-in above all, takes the whole page along.
fn whole_page_goes(response: &Response) -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    for value in response.headers().get_all(header::SET_COOKIE) {
        answer.headers_mut().append(header::SET_COOKIE, value.clone());
    }
    if let Some(location) = response.headers().get(header::LOCATION) {
        answer.headers_mut().insert("hx-redirect", location.clone());
    }
    answer
}

fn is_plain_text(response: &Response) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

async fn every_answer(request: Request, next: Next) -> Response {
    let accept =
        request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let program_asks = accept.contains("json") && !accept.contains("text/html");
    let wants_block = request.headers().contains_key("hx-request");
    let mut response = next.run(request).await;
    if wants_block && response.status().is_redirection() {
        response = whole_page_goes(&response);
    }
    if response.status() == StatusCode::BAD_REQUEST && is_plain_text(&response) {
        // A word where an address has a number, refused before any page of ours was asked.
        response = Page::not_found().into_response();
    }
    if response.status() == StatusCode::GATEWAY_TIMEOUT {
        response = Page::too_slow().into_response();
    }
    if program_asks && let Some(problem) = problem::for_a_program(&response) {
        response = problem;
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
