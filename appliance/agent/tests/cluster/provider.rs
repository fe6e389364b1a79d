//! Signing in with a real identity provider: a certified one, as a process of its own, over TLS.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
};

use axum::http::{Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;
use quantix_api::{
    AuditQuery, BackFromProvider, BeginAtProvider, CallError, ChangeUser, ListQuery, NewAccess, NewGroup,
    ProblemCode, Scope, Secret, Session, SetProvider, SignIn, Who, calls, connection,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::json;

use crate::{
    hosts::{Host, problem, until},
    syslog::{Authority, free_address},
};

const HERE: &str = "https://cluster.example";
const SECRET: &str = "a secret: with % signs";

fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../out/provider/node_modules")
}

/// The provider, and whoever stands before it.
struct Provider {
    authority: Authority,
    address: SocketAddr,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Provider {
    async fn start() -> Self {
        assert!(packages().join("oidc-provider").exists(), "the provider is missing: run tools/setup");
        let (authority, address, dir) = (Authority::new(), free_address(), tempfile::tempdir().unwrap());
        let (certificate, key) = authority.certify("127.0.0.1");
        std::fs::write(dir.path().join("cert.pem"), certificate).unwrap();
        std::fs::write(dir.path().join("key.pem"), key).unwrap();
        let mut provider = Self { authority, address, dir, child: None };
        provider.start_again().await;
        provider
    }

    /// Starts it with new keys; what it knew is forgotten.
    #[expect(clippy::disallowed_methods, reason = "the provider is a process")]
    async fn start_again(&mut self) {
        self.stop();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/provider/provider.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(packages()).arg(self.address.port().to_string());
        command.arg(self.dir.path().join("cert.pem")).arg(self.dir.path().join("key.pem"));
        command.arg(format!("{HERE}/sign-in/oidc/callback"));
        self.child = Some(command.spawn().unwrap());
        until("the provider answers", async || {
            self.ask(Request::get("/.well-known/openid-configuration"), "").await.is_some()
        })
        .await;
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn issuer(&self) -> String {
        format!("https://{}", self.address)
    }

    fn set(&self) -> SetProvider {
        SetProvider {
            on: true,
            title: "Example".into(),
            issuer: self.issuer(),
            client_id: "quantix".into(),
            client_secret: Secret::new(SECRET),
            scopes: vec!["profile".into(), "groups".into()],
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            certificate: self.authority.certificate.clone(),
            addresses: vec![HERE.into()],
        }
    }

    async fn ask(&self, request: axum::http::request::Builder, body: &str) -> Option<Response<Bytes>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let stream = tokio::net::TcpStream::connect(self.address).await.ok()?;
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.ok()?;
        let request = request.header(header::HOST, self.address.to_string());
        let answer =
            connection::send(stream, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
        connection::collect(answer.ok()?, 1 << 20).await.ok()
    }

    /// Who stands before it from now on.
    async fn person(&self, subject: &str, name: &str, groups: &[&str]) {
        let person = json!({"sub": subject, "preferred_username": name, "groups": groups}).to_string();
        assert!(self.ask(Request::post("/person"), &person).await.unwrap().status().is_success());
    }

    /// Follows the way there as a browser does, up to where it leads back; gives the parts of that address.
    async fn follow(&self, go_to: &str) -> BTreeMap<String, String> {
        let (mut at, mut cookies) = (go_to.parse::<Uri>().unwrap(), BTreeMap::new());
        for _ in 0..10 {
            let all: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let path = at.path_and_query().unwrap().as_str();
            let answer =
                self.ask(Request::get(path).header(header::COOKIE, all.join("; ")), "").await.unwrap();
            for cookie in answer.headers().get_all(header::SET_COOKIE) {
                let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
                cookies.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
            }
            let to = answer.headers().get(header::LOCATION).unwrap_or_else(|| panic!("{at}: {answer:?}"));
            let to = to.to_str().unwrap().to_owned();
            if let Some(query) = to.strip_prefix(&format!("{HERE}/sign-in/oidc/callback?")) {
                let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
                return pairs
                    .map(|(name, value)| (name.to_owned(), value.replace("%3A", ":").replace("%2F", "/")))
                    .collect();
            }
            at = to.parse().unwrap();
        }
        panic!("{go_to} leads nowhere");
    }

    /// Goes there and comes back with what is to be told.
    async fn visit(&self, host: &Host) -> BackFromProvider {
        let begun = host.client().call(&calls::begin_at_provider(&begin())).await.unwrap();
        let mut back = self.follow(&begun.go_to).await;
        BackFromProvider {
            ticket: begun.ticket,
            address: HERE.into(),
            state: back.remove("state").unwrap(),
            code: Secret::new(back.remove("code").unwrap()),
            issuer: back.remove("iss"),
        }
    }

    async fn sign_in(&self, host: &Host) -> Result<Session, CallError> {
        let back = self.visit(host).await;
        come_back(host, &back).await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

fn begin() -> BeginAtProvider {
    BeginAtProvider { address: HERE.into() }
}

/// From an address that nobody has used before: who is refused often waits.
async fn come_back(host: &Host, back: &BackFromProvider) -> Result<Session, CallError> {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    let last = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    host.client().call(&calls::back_from_provider(back).for_client([192, 0, 2, last].into())).await
}

/// A host where two groups are filled by the provider.
async fn host_with(provider: &Provider, clock: i64) -> (Host, Secret) {
    let host = Host::start_at("qx-0", clock);
    let admin = host.settled().await;
    let client = host.client();
    for (name, role) in [("lookers", "viewer"), ("doers", "operator")] {
        let group =
            NewGroup { name: name.into(), purpose: String::new(), provider_name: Some(format!("at {name}")) };
        client.call(&calls::make_group(&group).as_session(&admin)).await.unwrap();
        let access = NewAccess { who: Who::Group(name.into()), role: role.into(), scope: Scope::Datacenter };
        client.call(&calls::give_access(&access).as_session(&admin)).await.unwrap();
    }
    client.call(&calls::set_provider(&provider.set()).as_session(&admin)).await.unwrap();
    (host, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_with_the_provider_and_are_in_the_groups_it_names() {
    let provider = Provider::start().await;
    let (host, admin) = host_with(&provider, 0).await;
    let client = host.client();
    assert_eq!(client.call(&calls::ways_in()).await.unwrap().provider.as_deref(), Some("Example"));
    let tried = client.call(&calls::test_provider().as_session(&admin)).await.unwrap();
    assert!(tried.works && tried.detail.contains("2 keys"), "{}", tried.detail);
    provider.person("sub-1", "ada", &["at lookers", "at doers", "elsewhere"]).await;
    let session = provider.sign_in(&host).await.unwrap();
    assert_eq!(session.info.username, "ada");
    let user = client.call(&calls::user("ada").as_session(&admin)).await.unwrap();
    assert_eq!(user.groups, ["doers", "lookers"]);
    assert!(client.call(&calls::cluster().as_session(&session.token)).await.is_ok());
    // At the next sign-in the provider says something else.
    provider.person("sub-1", "ada", &["at lookers"]).await;
    provider.sign_in(&host).await.unwrap();
    let user = client.call(&calls::user("ada").as_session(&admin)).await.unwrap();
    assert_eq!(user.groups, ["lookers"]);
    provider.person("sub-1", "ada", &[]).await;
    assert_eq!(problem(provider.sign_in(&host).await).code, ProblemCode::Forbidden);
    assert!(
        client.call(&calls::session().as_session(&session.token)).await.is_err(),
        "a session outlived the groups"
    );
    // Nobody takes over an account, and none of these has a password.
    provider.person("sub-2", "admin", &["at doers"]).await;
    assert!(problem(provider.sign_in(&host).await).detail.contains("another user named admin"));
    let body = SignIn { username: "ada".into(), password: Secret::new("") };
    let refused = client.call(&calls::sign_in(&body).for_client([198, 51, 100, 1].into())).await;
    assert_eq!(problem(refused).code, ProblemCode::WrongCredentials);
    assert_eq!(
        problem(client.call(&calls::reset_password("ada").as_session(&admin)).await).code,
        ProblemCode::Forbidden
    );
    let lock = ChangeUser { role: None, locked: Some(true) };
    client.call(&calls::change_user("ada", &lock).as_session(&admin)).await.unwrap();
    provider.person("sub-1", "ada", &["at lookers"]).await;
    assert!(problem(provider.sign_in(&host).await).detail.contains("locked"));
    let query = AuditQuery { limit: Some(100), ..AuditQuery::default() };
    let audit = client.call(&calls::audit(&query).as_session(&admin)).await.unwrap();
    let text = serde_json::to_string(&audit).unwrap();
    for line in ["set sign-in", "set groups", "make user", "sign in with the identity provider"] {
        assert!(text.contains(line), "{line}");
    }
    assert!(!text.contains("with % signs"), "the client secret is in the audit log");
    let set = client.call(&calls::provider().as_session(&admin)).await.unwrap();
    assert!(set.has_secret && !serde_json::to_string(&set).unwrap().contains("with % signs"));
    assert_eq!(
        client.call(&calls::users(&ListQuery::default()).as_session(&admin)).await.unwrap().items.len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_open_once_and_for_the_browser_that_went() {
    let provider = Provider::start().await;
    let (host, _) = host_with(&provider, 0).await;
    provider.person("sub-1", "ada", &["at lookers"]).await;
    let (one, other) = (provider.visit(&host).await, provider.visit(&host).await);
    let refused = async |back: BackFromProvider| problem(come_back(&host, &back).await).code;
    // What belongs to another browser, to nobody, to another place, or comes from another provider.
    assert_eq!(
        refused(BackFromProvider { ticket: other.ticket.clone(), ..one.clone() }).await,
        ProblemCode::Forbidden
    );
    assert_eq!(
        refused(BackFromProvider { ticket: Secret::new(""), ..one.clone() }).await,
        ProblemCode::Forbidden
    );
    assert_eq!(
        refused(BackFromProvider { state: String::new(), ..one.clone() }).await,
        ProblemCode::Forbidden
    );
    assert_eq!(
        refused(BackFromProvider { address: "https://evil.example".into(), ..one.clone() }).await,
        ProblemCode::Forbidden
    );
    assert_eq!(
        refused(BackFromProvider { issuer: Some("https://evil.example".into()), ..one.clone() }).await,
        ProblemCode::Forbidden
    );
    // Another's code does not fit the verifier; the way in is used up by trying.
    assert_eq!(
        refused(BackFromProvider { code: other.code.clone(), ..one.clone() }).await,
        ProblemCode::Unavailable
    );
    assert_eq!(refused(one).await, ProblemCode::Forbidden);
    let again = provider.visit(&host).await;
    assert!(come_back(&host, &again).await.is_ok());
    assert_eq!(refused(again).await, ProblemCode::Forbidden);
    let elsewhere = BeginAtProvider { address: "https://evil.example".into() };
    let begun = host.client().call(&calls::begin_at_provider(&elsewhere)).await;
    assert!(problem(begun).detail.contains("works at https://cluster.example only"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_goes_or_changes_its_keys_keeps_no_local_user_out() {
    let mut provider = Provider::start().await;
    let (host, admin) = host_with(&provider, 0).await;
    provider.person("sub-1", "ada", &["at lookers"]).await;
    provider.sign_in(&host).await.unwrap();
    let in_the_middle = provider.visit(&host).await;
    provider.stop();
    let refused = problem(come_back(&host, &in_the_middle).await);
    assert!(
        refused.code == ProblemCode::Unavailable && refused.detail.contains("cannot be reached"),
        "{}",
        refused.detail
    );
    host.sign_in().await;
    // It comes back with other keys, which are asked for when a token names one that is not known.
    provider.start_again().await;
    provider.person("sub-1", "ada", &["at lookers"]).await;
    until("the new keys are known", async || provider.sign_in(&host).await.is_ok()).await;
    // One that is somebody else at the same address is not believed, and told nothing.
    let stranger = SetProvider { certificate: Authority::new().certificate, ..provider.set() };
    host.client().call(&calls::set_provider(&stranger).as_session(&admin)).await.unwrap();
    let tried = host.client().call(&calls::test_provider().as_session(&admin)).await.unwrap();
    assert!(!tried.works && tried.detail.contains("certificate"), "{}", tried.detail);
    let off = SetProvider { on: false, ..provider.set() };
    host.client().call(&calls::set_provider(&off).as_session(&admin)).await.unwrap();
    assert_eq!(host.client().call(&calls::ways_in()).await.unwrap().provider, None);
    assert_eq!(
        problem(host.client().call(&calls::begin_at_provider(&begin())).await).code,
        ProblemCode::Forbidden
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_hours_apart_are_named_as_the_reason() {
    let provider = Provider::start().await;
    provider.person("sub-1", "ada", &["at lookers"]).await;
    for clock in [3 * 60 * 60, -3 * 60 * 60] {
        let (host, _) = host_with(&provider, clock).await;
        let refused = problem(provider.sign_in(&host).await);
        assert!(refused.detail.contains("clocks"), "{}", refused.detail);
    }
}
