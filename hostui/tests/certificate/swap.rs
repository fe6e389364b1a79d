//! Another certificate while the pages are in use: seen by openssl and curl, which are not ours, and by connections that
//! were open before.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quantix_api::{PageCertificate, Secret, UploadCertificate, calls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{NAME, Operator, run, until};

/// An authority in the test.
struct Lab {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Lab {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Lab");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for the host, as it is uploaded.
    fn sign(&self) -> UploadCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let own = params.signed_by(&key, &self.issuer).unwrap().pem();
        let chain = format!("{own}{}", self.certificate);
        UploadCertificate { chain, key: Some(Secret::new(key.serialize_pem())), accept_warnings: false }
    }

    /// Takes certificates of the host's own and of this authority.
    fn connector(&self, own: &str, protocol: &[u8]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for pem in [own, &self.certificate] {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

impl Operator {
    async fn upload(&self, body: &UploadCertificate) -> PageCertificate {
        let call = calls::upload_certificate(&self.host, body).as_session(&self.session);
        self.pages.client().call(&call).await.unwrap()
    }

    fn own(&self) -> String {
        std::fs::read_to_string(self.pages.dir().join("state/tls/cert.pem")).unwrap()
    }

    /// A connection, and the SHA-256 of the certificate it was shown.
    async fn connect(&self, connector: &TlsConnector, name: &str) -> (TlsStream<TcpStream>, String) {
        let stream = TcpStream::connect(("127.0.0.1", self.pages.port())).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let shown = fingerprint(&stream.get_ref().1.peer_certificates().unwrap()[0]);
        (stream, shown)
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

async fn http2(stream: TlsStream<TcpStream>) -> hyper::client::conn::http2::SendRequest<Body> {
    // What is not read here is not sent there: a download stands still in its midst.
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4096)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("https://localhost{path}")).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_download_that_runs_while_the_certificate_changes_is_finished_on_its_connection() {
    let (operator, lab) = (Operator::start().await, Lab::new());
    let connector = lab.connector(&operator.own(), b"h2");
    let (stream, old) = operator.connect(&connector, "localhost").await;
    assert_eq!(operator.openssl(), (old.clone(), 1));
    let mut sender = http2(stream).await;
    let page = sender.send_request(get("/sign-in")).await.unwrap();
    let page = page.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let style = page.split('"').find(|part| part.ends_with("quantix.css")).unwrap();
    let font = style.replace("quantix.css", "fonts/inter.woff2");
    let mut download = sender.send_request(get(&font)).await.unwrap();
    assert_eq!(download.status(), StatusCode::OK);
    let mut bytes = download.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    assert!(bytes.len() <= 4096);

    let shown = operator.upload(&lab.sign()).await.shown;
    until("openssl sees it", || operator.openssl() == (shown.fingerprint.clone(), 2));
    assert_ne!(shown.fingerprint, old);
    // The rest comes over the connection that was shown the old one, and so does another page.
    bytes.extend_from_slice(&download.into_body().collect().await.unwrap().to_bytes());
    let asset = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/fonts/inter.woff2");
    assert_eq!(bytes, std::fs::read(asset).unwrap());
    assert_eq!(sender.send_request(get("/sign-in")).await.unwrap().status(), StatusCode::OK);

    let (_, new) = operator.connect(&connector, NAME).await;
    assert_eq!(new, shown.fingerprint);
    // A client that is not ours, and trusts the authority and nothing else.
    let root = operator.pages.dir().join("root.pem");
    std::fs::write(&root, &lab.certificate).unwrap();
    let (port, root) = (operator.pages.port(), root.to_str().unwrap().to_owned());
    let resolve = format!("{NAME}:{port}:127.0.0.1");
    let address = format!("https://{NAME}:{port}/healthz");
    let said =
        run("curl", &["-s", "--cacert", &root, "--resolve", &resolve, "-w", "%{http_version}", &address], "");
    assert_eq!(said, "{\"alive\":true}2");
}

#[tokio::test]
async fn whoever_shakes_hands_while_it_changes_gets_the_one_or_the_other() {
    let (operator, lab) = (Arc::new(Operator::start().await), Lab::new());
    let first = operator.upload(&lab.sign()).await.shown.fingerprint;
    until("openssl sees it", || operator.openssl().0 == first);
    let connector = lab.connector(&operator.own(), b"http/1.1");
    let mut hands = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (operator, connector) = (Arc::clone(&operator), connector.clone());
        hands.spawn(async move { operator.connect(&connector, NAME).await.1 });
    }
    let mut known = vec![first];
    for _ in 0..5 {
        known.push(operator.upload(&lab.sign()).await.shown.fingerprint);
    }
    let seen = hands.join_all().await;
    assert!(seen.iter().all(|shown| known.contains(shown)), "{seen:?}");
    until("openssl sees it", || operator.openssl().0 == known[5]);
}

#[tokio::test]
async fn whoever_comes_again_sees_the_new_one_and_resumes_nothing_of_the_old() {
    let (operator, lab) = (Operator::start().await, Lab::new());
    let first = operator.upload(&lab.sign()).await.shown.fingerprint;
    until("openssl sees it", || operator.openssl().0 == first);
    let connector = lab.connector(&operator.own(), b"http/1.1");
    for _ in 0..2 {
        let (stream, _) = operator.connect(&connector, NAME).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/healthz").header(header::HOST, NAME).body(Body::empty()).unwrap();
        sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    }
    let second = operator.upload(&lab.sign()).await.shown.fingerprint;
    until("openssl sees it", || operator.openssl().0 == second);
    assert_eq!(operator.connect(&connector, NAME).await.1, second);
}

#[tokio::test]
async fn an_agent_that_is_gone_takes_no_certificate_with_it_and_tells_it_again_when_it_is_back() {
    let (mut operator, lab) = (Operator::start().await, Lab::new());
    let shown = operator.upload(&lab.sign()).await.shown.fingerprint;
    until("openssl sees it", || operator.openssl().0 == shown);
    operator.pages.kill_agent();
    assert_eq!(operator.openssl().0, shown);
    operator.pages.restart_agent("");
    let mut changed = None;
    while changed.is_none() {
        let call = calls::reset_certificate(&operator.host).as_session(&operator.session);
        changed = operator.pages.client().call(&call).await.ok();
    }
    let own = changed.unwrap().shown.fingerprint;
    until("openssl sees it", || operator.openssl().0 == own);
}

#[tokio::test]
async fn nobody_gets_the_key_through_the_pages() {
    let operator = Operator::start().await;
    let cookie = format!("__Host-quantix={}", operator.session.expose());
    for path in [
        "/pages/v1/certificate",
        "/api/v1/../../pages/v1/certificate",
        "/api/v1/..%2f..%2fpages/v1/certificate",
        "/api/v1/%2e%2e/%2e%2e/pages/v1/certificate",
        "/api/v1//pages/v1/certificate",
    ] {
        let answer = operator.pages.get(path, &cookie).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.body.contains("PRIVATE KEY"), "{path}");
    }
}

/// A form with texts, as a browser sends it.
fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, value) in fields {
        let head = format!("--line\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        form.extend([head.as_bytes(), value.as_bytes(), b"\r\n"].concat());
    }
    form.extend(b"--line--\r\n");
    form
}

#[tokio::test]
async fn the_pages_lead_through_every_way_to_another_certificate_without_script() {
    let operator = Operator::start().await;
    let (pages, host) = (&operator.pages, operator.host.as_str());
    let cookie = format!("__Host-quantix={}", operator.session.expose());
    pages.wants_a_session("/settings/certificate").await;
    let path = format!("/settings/certificate/{host}");
    let page = pages.get("/settings/certificate", &cookie).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let own = pages.client().call(&calls::console()).await.unwrap().certificate_fingerprint;
    assert!(page.body.contains(&own) && page.body.contains("The host made it for itself"), "{}", page.body);
    for rest in ["upload", "acme", "request", "reset"] {
        assert_eq!(pages.get(&format!("{path}/{rest}"), &cookie).await.status, StatusCode::OK, "{rest}");
    }
    for host in ["..%2f..%2fusers", "0123456789abcdef", "x"] {
        let page = pages.get(&format!("/settings/certificate/{host}"), &cookie).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{host}");
    }

    // A name that is none is said beside its field, and nothing that was typed is lost.
    let refused = pages.post(&format!("{path}/request"), &cookie, "names=%3Cb%3E+x&organization=Lab").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains(r#"id="names-error""#) && refused.body.contains("value=\"Lab\""));
    assert!(!refused.body.contains("<b> x"));
    let made = pages.post(&format!("{path}/request"), &cookie, "names=qx-01.lab.example&organization=").await;
    assert_eq!(made.location, path);
    let file = pages.get(&format!("{path}/request.pem"), &cookie).await;
    assert!(file.body.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{}", file.body);
    assert_eq!(pages.post(&format!("{path}/request/drop"), &cookie, "").await.location, path);

    // A key that does not belong is not sent back; the certificates are.
    let (upload, other) = (Lab::new().sign(), KeyPair::generate().unwrap().serialize_pem());
    let multipart = "multipart/form-data; boundary=line";
    let to = format!("{path}/upload");
    let wrong = form(&[("chain", &upload.chain), ("chain", ""), ("key", &other), ("key", "")]);
    let refused = pages.send_form(&to, &cookie, multipart, wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains(r#"id="key-error""#) && refused.body.contains("BEGIN CERTIFICATE-----"));
    assert!(!refused.body.contains(other.lines().nth(1).unwrap()));
    let right = form(&[("chain", &upload.chain), ("key", upload.key.as_ref().unwrap().expose())]);
    assert_eq!(pages.send_form(&to, &cookie, multipart, right).await.location, path);
    let shown = pages.client().call(&calls::console()).await.unwrap().certificate_fingerprint;
    assert_ne!(shown, own);
    until("openssl sees it", || operator.openssl().0 == shown);
}
