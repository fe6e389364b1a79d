//! Certificates from Pebble, the ACME server of Let's Encrypt for tests, as a process with a name server beside it; and
//! from authorities that are gone, lie, or send this host elsewhere.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use quantix_api::{
    AcmeBinding, AcmeChallenge, AcmeState, CallError, CertificateSource, PageCertificate, ProblemCode,
    Secret, SetAcme, calls,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{NAME, Operator, run, until};
use crate::framework::{Pages, free_port};

/// Ninety days, as public authorities give.
const LIFE: u64 = 90 * 24 * 60 * 60;

/// What the servers in these tests are trusted by, and what they show.
struct Trust {
    root: String,
    certificate: String,
    key: String,
}

impl Trust {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Directory root");
        let root_key = KeyPair::generate().unwrap();
        let root = params.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(params, root_key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = own.signed_by(&key, &issuer).unwrap().pem();
        Self { root, certificate, key: key.serialize_pem() }
    }
}

/// Pebble and its name server, which says that every name is here.
struct Pebble {
    children: Vec<Child>,
    directory: String,
    trust: Trust,
}

impl Pebble {
    fn start(pages: &Pages, account_key: Option<&str>) -> Self {
        let trust = Trust::new();
        let file = |name: &str, content: &str| {
            let path = pages.dir().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (certificate, key) = (file("pebble.pem", &trust.certificate), file("pebble.key", &trust.key));
        let (port, management, names, names_management) =
            (free_port(), free_port(), free_port(), free_port());
        let keys: serde_json::Value =
            account_key.map(|key| serde_json::json!({ "kid-1": key })).unwrap_or_default();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": pages.http(),
            "tlsPort": pages.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": account_key.is_some(),
            "externalAccountMACKeys": keys,
            "certificateValidityPeriod": LIFE,
        }});
        let config = file("pebble.json", &config.to_string());
        let listen = format!("127.0.0.1:{names}");
        let names = [
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-dns01",
            &listen,
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &format!("127.0.0.1:{names_management}"),
        ];
        let names = process("pebble-challtestsrv", &names);
        let pebble = process("pebble", &["-config", config.to_str().unwrap(), "-dnsserver", &listen]);
        until("Pebble answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { children: vec![pebble, names], directory: format!("https://127.0.0.1:{port}/dir"), trust }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the authority is a process")]
fn process(program: &str, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .env("PEBBLE_VA_NOSLEEP", "1")
        // It refuses good nonces now and then, as any authority may.
        .env("PEBBLE_WFE_NONCEREJECT", "5")
        .env("PEBBLE_AUTHZREUSE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}, of the Debian package pebble, cannot be started: {error}"))
}

impl Operator {
    async fn set(
        &self,
        directory: &str,
        root: &str,
        change: impl FnOnce(&mut SetAcme),
    ) -> Result<PageCertificate, CallError> {
        let mut body = SetAcme {
            directory: directory.to_owned(),
            authority: Some(root.to_owned()),
            contact: Some("operations@lab.example".into()),
            names: vec![NAME.into()],
            challenge: AcmeChallenge::Http,
            terms_agreed: true,
            binding: None,
        };
        change(&mut body);
        self.pages.client().call(&calls::set_acme(&self.host, &body).as_session(&self.session)).await
    }

    async fn show(&self) -> Result<PageCertificate, CallError> {
        self.pages.client().call(&calls::certificate(&self.host).as_session(&self.session)).await
    }

    /// Waits until an attempt has ended after `since`, and shows what came of it.
    async fn tried(&self, since: Option<jiff::Timestamp>) -> PageCertificate {
        let start = Instant::now();
        loop {
            if let Ok(certificate) = self.show().await {
                let acme = certificate.acme.as_ref().unwrap();
                let is_done = matches!(acme.state, AcmeState::Obtained | AcmeState::Failed);
                if is_done && acme.last_attempt > since {
                    return certificate;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the attempt did not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kept(&self) -> PathBuf {
        self.pages.dir().join("state/tls/acme.json")
    }
}

#[track_caller]
fn is_shown(operator: &Operator, certificate: &PageCertificate) {
    until("openssl sees it", || operator.openssl() == (certificate.shown.fingerprint.clone(), 2));
}

#[tokio::test]
async fn a_certificate_is_got_over_port_80_and_renewed_with_the_same_account() {
    let mut operator = Operator::start().await;
    let pebble = Pebble::start(&operator.pages, None);
    operator.set(&pebble.directory, &pebble.trust.root, |_| {}).await.unwrap();
    let first = operator.tried(None).await;
    let acme = first.acme.as_ref().unwrap();
    assert_eq!((first.source, acme.state), (CertificateSource::Acme, AcmeState::Obtained), "{acme:?}");
    assert_eq!((first.shown.names.as_slice(), first.shown.chain), (&[NAME.to_owned()][..], 2));
    is_shown(&operator, &first);
    // Two thirds of ninety days, and a little.
    let days = acme.next_attempt.unwrap().duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((59..=65).contains(&days), "{days}");
    // What was to be fetched is there no more.
    let gone = format!("http://127.0.0.1:{}/.well-known/acme-challenge/x", operator.pages.http());
    assert_eq!(run("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", &gone], ""), "404");
    let account = |operator: &Operator| {
        let kept: serde_json::Value =
            serde_json::from_slice(&std::fs::read(operator.kept()).unwrap()).unwrap();
        kept["account"].as_str().unwrap().to_owned()
    };
    let before = account(&operator);

    operator.pages.restart_agent("+70d");
    operator.sign_in_again().await;
    let second = operator.tried(acme.last_attempt).await;
    assert_eq!(second.acme.as_ref().unwrap().state, AcmeState::Obtained, "{:?}", second.acme);
    assert_ne!(second.shown.fingerprint, first.shown.fingerprint);
    assert_eq!(account(&operator), before);
    is_shown(&operator, &second);
}

#[tokio::test]
async fn a_certificate_is_got_over_port_443_with_an_account_that_was_made_elsewhere() {
    let operator = Operator::start().await;
    let account_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let pebble = Pebble::start(&operator.pages, Some(account_key));
    let with = |key: &str| AcmeBinding { key_id: "kid-1".into(), key: Secret::new(key) };
    let wrong = operator.set(&pebble.directory, &pebble.trust.root, |body| body.binding = Some(with("AAAA")));
    wrong.await.unwrap();
    let failed = operator.tried(None).await.acme.unwrap();
    assert_eq!(failed.state, AcmeState::Failed);
    assert!(failed.last_error.as_ref().unwrap().contains("the authority says"), "{failed:?}");

    let right = operator.set(&pebble.directory, &pebble.trust.root, |body| {
        body.challenge = AcmeChallenge::TlsAlpn;
        body.binding = Some(with(account_key));
    });
    right.await.unwrap();
    let got = operator.tried(failed.last_attempt).await;
    assert_eq!(got.acme.as_ref().unwrap().state, AcmeState::Obtained, "{:?}", got.acme);
    is_shown(&operator, &got);
    // The key of the binding and that of the account are told to nobody.
    let text = serde_json::to_string(&got).unwrap();
    assert!(!text.contains(account_key) && !text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn an_authority_that_cannot_see_the_host_is_quoted_and_the_certificate_stays() {
    let operator = Operator::start().await;
    let before = operator.show().await.unwrap();
    let mut pebble = Pebble::start(&operator.pages, None);
    // Without its name server no name leads here.
    pebble.children[1].kill().unwrap();
    pebble.children[1].wait().unwrap();
    operator.set(&pebble.directory, &pebble.trust.root, |_| {}).await.unwrap();
    let after = operator.tried(None).await;
    let acme = after.acme.unwrap();
    let why = acme.last_error.unwrap();
    assert!(why.contains(&format!("did not see that {NAME} is this host’s")), "{why}");
    assert_eq!(after.shown, before.shown);
    assert!(after.trouble.unwrap().contains("it is tried again"));
    // Five minutes, and up to a fifth more.
    let wait = acme.next_attempt.unwrap().duration_since(acme.last_attempt.unwrap()).as_secs();
    assert!((300..=361).contains(&wait), "{wait}");
}

#[tokio::test]
async fn an_authority_that_is_gone_or_not_trusted_is_named_and_people_cannot_try_without_end() {
    let operator = Operator::start().await;
    let trust = Trust::new();
    let nowhere = format!("https://127.0.0.1:{}/dir", free_port());
    operator.set(&nowhere, &trust.root, |_| {}).await.unwrap();
    let failed = operator.tried(None).await.acme.unwrap();
    assert!(failed.last_error.unwrap().contains("cannot be reached or is not trusted"));
    let renew = calls::renew_certificate(&operator.host).as_session(&operator.session);
    let refused = loop {
        if let Err(error) = operator.pages.client().call(&renew).await {
            break error;
        }
    };
    let CallError::Problem(problem) = refused else { panic!("{refused}") };
    assert_eq!(problem.code, ProblemCode::TooManyAttempts);
    assert!(problem.retry_after_seconds.is_some_and(|seconds| seconds > 3000), "{problem:?}");
}

/// A server that answers every request with the same bytes.
async fn liar(trust: &Trust, answer: Vec<u8>) -> String {
    let chain = vec![CertificateDer::from_pem_slice(trust.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(trust.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("https://127.0.0.1:{port}/dir")
}

#[tokio::test]
async fn an_authority_that_lies_gets_nowhere() {
    let operator = Operator::start().await;
    let before = operator.show().await.unwrap().shown;
    let trust = Trust::new();
    let answer = |head: &str, body: &str| {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    let elsewhere = format!("https://127.0.0.1:{}/secret", free_port());
    let directory =
        serde_json::json!({ "newNonce": elsewhere, "newAccount": elsewhere, "newOrder": elsewhere });
    let huge = answer("200 OK", &"x".repeat(2 * 1024 * 1024));
    let cases = [
        (huge, "too long"),
        (answer("302 Found\r\nLocation: https://127.0.0.1/", ""), "sends this host elsewhere"),
        (answer("200 OK", "<html>"), "not what ACME asks for"),
        (answer("200 OK", &directory.to_string()), "not where its directory is"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "cut short or is too long"),
    ];
    let mut since = None;
    for (answer, says) in cases {
        let directory = liar(&trust, answer).await;
        operator.set(&directory, &trust.root, |_| {}).await.unwrap();
        let tried = operator.tried(since).await;
        let acme = tried.acme.unwrap();
        let why = acme.last_error.unwrap();
        assert!(why.contains(says), "{says}: {why}");
        assert!(why.chars().count() < 500 && !why.contains('\u{1b}'), "{why}");
        assert_eq!(tried.shown, before);
        since = acme.last_attempt;
    }
    assert!(operator.kept().exists());
}
