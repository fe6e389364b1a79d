//! Every page there is, by its address.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A page.
pub(crate) struct Page {
    /// As the product writes it.
    pub(crate) route: &'static str,
    /// As somebody types it; `{this}` and `{other}` are the ids of two hosts, `{vm}` of a machine, `{snapshot}` of its
    /// snapshot, `{volume}` of its disk, `{image}` of an image,
    /// `{found}` a machine that nobody keeps.
    pub(crate) address: &'static str,
    /// Whether one has to be signed in.
    pub(crate) signed_in: bool,
}

const fn page(route: &'static str, address: &'static str) -> Page {
    Page { route, address, signed_in: true }
}

const fn open(route: &'static str, address: &'static str) -> Page {
    Page { route, address, signed_in: false }
}

/// All of them. A route that is missing here is missed by a test below.
pub(crate) const PAGES: &[Page] = &[
    open("/sign-in", "/sign-in"),
    open("/sign-in", "/sign-in?ended=1"),
    open("/sign-in/oidc/callback", "/sign-in/oidc/callback?error=access_denied"),
    open("", "/nowhere"),
    page("/overview", "/overview"),
    page("/sign-in/code", "/sign-in/code"),
    page("/cluster", "/cluster"),
    page("/cluster/add", "/cluster/add"),
    page("/cluster/hosts/{id}/remove", "/cluster/hosts/{other}/remove"),
    page("/cluster/join", "/cluster/join"),
    page("/cluster/recover", "/cluster/recover"),
    page("/cluster/leave", "/cluster/leave"),
    page("/cluster/backup", "/cluster/backup"),
    page("/cluster/restore", "/cluster/restore"),
    page("/activity", "/activity"),
    page("/activity", "/activity?text=grace"),
    page("/activity", "/activity?text=nothing+has+this+in+it"),
    page("/activity/tasks", "/activity/tasks"),
    page("/activity/tasks/{id}", "/activity/tasks/nothing"),
    page("/activity/events", "/activity/events"),
    page("/cluster/hosts/{id}/power/{deed}", "/cluster/hosts/{other}/power/restart"),
    page("/vms", "/vms"),
    page("/vms", "/vms?folder=1"),
    page("/vms", "/vms?text=nothing+has+this+in+it"),
    page("/vms/new", "/vms/new?folder=1"),
    page("/vms/found", "/vms/found"),
    page("/vms/found/{host}/{vm}", "/vms/found/{this}/{found}"),
    page("/vms/{id}", "/vms/{vm}"),
    page("/vms/{id}/edit", "/vms/{vm}/edit"),
    page("/vms/{id}/cloud-init", "/vms/{vm}/cloud-init"),
    page("/vms/{id}/remove", "/vms/{vm}/remove"),
    page("/vms/{id}/disks/{volume}/let-go", "/vms/{vm}/disks/{volume}/let-go"),
    page("/vms/{id}/password", "/vms/{vm}/password"),
    page("/vms/{id}/clone", "/vms/{vm}/clone"),
    page("/vms/{id}/snapshots", "/vms/{vm}/snapshots"),
    page("/vms/{id}/snapshots/{snapshot}", "/vms/{vm}/snapshots/{snapshot}"),
    page("/vms/{id}/snapshots/{snapshot}/revert", "/vms/{vm}/snapshots/{snapshot}/revert"),
    page("/vms/{id}/snapshots/{snapshot}/remove", "/vms/{vm}/snapshots/{snapshot}/remove"),
    page("/console", "/console?vm={vm}"),
    page("/storage", "/storage"),
    page("/storage", "/storage?text=nothing+has+this+in+it"),
    page("/storage/images/catalogue", "/storage/images/catalogue"),
    page("/storage/pools/new", "/storage/pools/new"),
    page("/storage/pools/{id}", "/storage/pools/local"),
    page("/storage/pools/{id}/disks", "/storage/pools/local/disks"),
    page("/storage/pools/{id}/remove", "/storage/pools/local/remove"),
    page("/storage/pools/{id}/files/{host}", "/storage/pools/local/files/{this}"),
    page(
        "/storage/pools/{id}/files/{host}/adopt",
        "/storage/pools/local/files/{this}/adopt?path=old+server.raw",
    ),
    page(
        "/storage/pools/{id}/files/{host}/remove",
        "/storage/pools/local/files/{this}/remove?path=old+server.raw",
    ),
    page("/storage/images", "/storage/images"),
    page("/storage/images/{id}/edit", "/storage/images/{image}/edit"),
    page("/storage/images/{id}/remove", "/storage/images/{image}/remove"),
    page("/storage/volumes/new", "/storage/volumes/new"),
    page("/storage/volumes/{id}", "/storage/volumes/{volume}"),
    page("/storage/volumes/{id}/remove", "/storage/volumes/{volume}/remove"),
    page("/hosts", "/hosts"),
    page("/hosts/{id}", "/hosts/{other}"),
    page("/hosts/{id}/hardware", "/hosts/{other}/hardware"),
    page("/hosts/{id}/services", "/hosts/{other}/services"),
    page("/users", "/users"),
    page("/users/{name}", "/users/admin"),
    page("/users/{name}", "/users/grace"),
    page("/users/{name}", "/users/nobody"),
    page("/password", "/password"),
    page("/find", "/find"),
    page("/find", "/find?text=user"),
    page("/settings", "/settings"),
    page("/settings/certificate", "/settings/certificate"),
    page("/settings/certificate/{host}", "/settings/certificate/{this}"),
    page("/settings/certificate/{host}/upload", "/settings/certificate/{this}/upload"),
    page("/settings/certificate/{host}/acme", "/settings/certificate/{this}/acme"),
    page("/settings/certificate/{host}/request", "/settings/certificate/{this}/request"),
    page("/settings/certificate/{host}/reset", "/settings/certificate/{this}/reset"),
    page("/settings/sign-in", "/settings/sign-in"),
    page("/settings/syslog", "/settings/syslog"),
    page("/groups", "/groups"),
    page("/groups/{name}", "/groups/night-shift"),
    page("/reference", "/reference"),
    page("/roles", "/roles"),
    page("/roles/new", "/roles/new"),
    page("/roles/{name}", "/roles/viewer"),
    page("/account", "/account"),
    page("/dev/components", "/dev/components"),
];

/// What is read by programs, is a part of a page, or sends a browser on.
const NO_PAGES: &[&str] = &[
    "/",
    "/api/v1/{*path}",
    "/healthz",
    "/metrics",
    "/readyz",
    "/api/v1/images/{image}/content",
    "/api/v1/cluster/hosts/{host}/consoles/{ticket}",
    "/vms/{id}/picture",
    "/storage/images/{id}",
    "/assets/{version}/{*name}",
    "/live",
    "/sign-in/oidc",
    "/tray",
    "/alarms",
    "/activity/tasks/{id}/file",
    "/settings/certificate/{host}/request.pem",
];

#[test]
fn no_page_is_missing_from_the_table() {
    let routes = routes();
    assert!(routes.len() > 10, "the routes were not found in the product: {routes:?}");
    let known: BTreeSet<_> = PAGES.iter().map(|page| page.route).chain(NO_PAGES.iter().copied()).collect();
    let missing: Vec<_> = routes.iter().filter(|route| !known.contains(route.as_str())).collect();
    assert!(missing.is_empty(), "add these to the table of pages: {missing:?}");
    let gone: Vec<_> =
        known.into_iter().filter(|route| !route.is_empty() && !routes.contains(*route)).collect();
    assert!(gone.is_empty(), "the product has these no longer: {gone:?}");
}

/// The routes of the product that answer GET, read from its source.
fn routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hostui/src")) {
        let text = fs::read_to_string(file).unwrap();
        for after in text.split(".route(").skip(1) {
            let call = until_closed(after);
            let (name, handlers) = call.split_once(", ").unwrap_or((call, ""));
            if handlers.contains("get(") || handlers.contains("any(") {
                found.insert(route(&text, name));
            }
        }
    }
    found
}

/// The route that an expression stands for: text, or text after what the part of the product begins with.
fn route(source: &str, expression: &str) -> String {
    let path = || source.split_once("const PATH: &str = \"").unwrap().1.split('"').next().unwrap();
    let quoted = expression.split('"').nth(1);
    match (expression.trim(), quoted) {
        ("PATH", _) => path().to_owned(),
        (call, Some(rest)) if call.starts_with("&of_host(") => format!("{}/{{host}}{rest}", path()),
        (_, Some(route)) => route.to_owned(),
        (call, None) => panic!("which route is {call}?"),
    }
}

/// What stands before the bracket that closes the one already open.
fn until_closed(text: &str) -> &str {
    let mut open = 1;
    for (at, letter) in text.char_indices() {
        open += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if open == 0 {
            return &text[..at];
        }
    }
    text
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}
