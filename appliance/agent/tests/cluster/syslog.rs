//! The audit log, sent to a real receiver (rsyslogd, over TLS) and to one that breaks off.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use quantix_api::{AuditQuery, CheckState, NewRole, Right, Secret, SetSyslog, Syslog, calls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hosts::{Host, cluster_of, problem, until};

/// An authority made for a test, and what it vouches for.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for a name, and its key.
    pub(crate) fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// rsyslogd with a configuration of its own.
struct Receiver {
    authority: Authority,
    address: SocketAddr,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Receiver {
    fn new() -> Self {
        let (authority, dir, address) = (Authority::new(), tempfile::tempdir().unwrap(), free_address());
        let (certificate, key) = authority.certify("127.0.0.1");
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("ca.pem"), &authority.certificate).unwrap();
        std::fs::write(file("cert.pem"), certificate).unwrap();
        std::fs::write(file("key.pem"), key).unwrap();
        let path = |name: &str| file(name).display().to_string();
        let config = format!(
            r#"global(workDirectory="{}" maxMessageSize="16k" defaultNetstreamDriverCAFile="{}"
                defaultNetstreamDriverCertFile="{}" defaultNetstreamDriverKeyFile="{}")
            module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
            template(name="whole" type="string" string="%rawmsg%\n")
            input(type="imtcp" address="127.0.0.1" port="{}" ruleset="keep")
            ruleset(name="keep") {{ action(type="omfile" file="{}" template="whole") }}
            action(type="omfile" file="{}")
            "#,
            dir.path().display(),
            path("ca.pem"),
            path("cert.pem"),
            path("key.pem"),
            address.port(),
            path("arrived"),
            path("own"),
        );
        std::fs::write(file("rsyslog.conf"), config).unwrap();
        Self { authority, address, dir, child: None }
    }

    #[expect(clippy::disallowed_methods, reason = "the receiver is a process")]
    fn start(&mut self) {
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(self.dir.path().join("rsyslog.conf"));
        command.arg("-i").arg(self.dir.path().join("pid"));
        self.child = Some(command.spawn().unwrap());
    }

    /// Asks it to end, as systemd does.
    #[expect(clippy::disallowed_methods, reason = "signals are sent by a program")]
    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        child.wait().unwrap();
    }

    fn arrived(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("arrived")).unwrap_or_default()
    }

    fn set(&self) -> SetSyslog {
        SetSyslog {
            on: true,
            address: self.address.to_string(),
            certificate: self.authority.certificate.clone(),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The numbers of the lines that came, in the order they came in.
fn numbers(text: &str) -> Vec<i64> {
    let after = text.split("number=\"").skip(1);
    after.map(|rest| rest.split_once('"').unwrap().0.parse().unwrap()).filter(|number| *number > 0).collect()
}

/// Writes a line into the audit log.
async fn make_role(host: &Host, session: &Secret, name: &str) {
    let role = NewRole { name: name.into(), purpose: String::new(), rights: [Right::See].into() };
    until("a role is made", async || {
        match host.client().call(&calls::make_role(&role).as_session(session)).await {
            Ok(_) => true,
            // A leader that was lost may have made it.
            Err(error) => error.to_string().contains("already"),
        }
    })
    .await;
}

async fn shown(host: &Host, session: &Secret) -> Syslog {
    host.client().call(&calls::syslog().as_session(session)).await.unwrap()
}

/// The numbers of all lines there are from one on.
async fn written(host: &Host, session: &Secret, from: i64) -> Vec<i64> {
    let query = AuditQuery { limit: Some(1000), oldest_first: true, ..AuditQuery::default() };
    let lines = host.client().call(&calls::audit(&query).as_session(session)).await.unwrap().items;
    lines.into_iter().map(|line| line.id).filter(|number| *number >= from).collect()
}

async fn all_arrive(host: &Host, session: &Secret) {
    until("everything has arrived", async || {
        host.client().call(&calls::syslog().as_session(session)).await.is_ok_and(|set| set.waiting == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_whole_and_none_is_lost_while_the_receiver_is_away() {
    let host = Host::start("qx-0");
    let session = host.settled().await;
    let mut receiver = Receiver::new();
    receiver.start();
    let client = host.client();
    let refused = client.call(&calls::test_syslog().as_session(&session)).await;
    assert_eq!(problem(refused).code, quantix_api::ProblemCode::NotFound);
    client.call(&calls::set_syslog(&receiver.set()).as_session(&session)).await.unwrap();
    all_arrive(&host, &session).await;
    let tried = client.call(&calls::test_syslog().as_session(&session)).await.unwrap();
    assert!(tried.works, "{}", tried.detail);
    let first = shown(&host, &session).await.sent;
    // What a stranger may write somewhere: a name that would end the value, the data and the message.
    let hostile = "x\"] [evil@1 a=\"\\\n<0>1 ä 😀";
    let removed = client.call(&calls::remove_role(hostile).as_session(&session)).await;
    assert!(removed.is_err());
    let purpose =
        NewRole { name: "some".into(), purpose: hostile.replace('\n', ""), rights: [Right::See].into() };
    client.call(&calls::make_role(&purpose).as_session(&session)).await.unwrap();
    make_role(&host, &session, "more").await;
    all_arrive(&host, &session).await;
    receiver.stop();
    // The settings say that it is gone, and what is done now waits.
    make_role(&host, &session, "while-away").await;
    host.says("wait to be sent").await;
    for number in 0..40 {
        make_role(&host, &session, &format!("away-{number}")).await;
    }
    let readiness = client.call(&calls::ready()).await.unwrap();
    let check = readiness.checks.iter().find(|check| check.name == "syslog").unwrap();
    assert_eq!(check.state, CheckState::Warn, "{}", check.detail);
    assert!(shown(&host, &session).await.waiting >= 41);
    receiver.start();
    all_arrive(&host, &session).await;
    receiver.stop();
    let arrived = receiver.arrived();
    let expected = written(&host, &session, *numbers(&arrived).first().unwrap()).await;
    assert_eq!(numbers(&arrived), expected);
    assert!(
        first > 0 && arrived.contains("action=\"test syslog\"") && arrived.contains("object=\"away-39\"")
    );
    assert!(
        arrived.lines().all(|line| line.starts_with("<110>1 ") || line.starts_with("<108>1 ")),
        "{arrived}"
    );
}

/// A receiver that takes so many bytes of what comes on each connection and breaks off; then one that takes everything.
async fn breaks_off(authority: &Authority, address: SocketAddr, takes: Vec<usize>) -> String {
    let (certificate, key) = authority.certify("127.0.0.1");
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    for takes in takes {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut taken = vec![0; takes];
        stream.read_exact(&mut taken).await.unwrap();
        // Closing with bytes that were not read resets the connection, as the death of a process does.
        let (stream, _) = stream.into_inner();
        stream.set_zero_linger().unwrap();
    }
    let mut arrived = String::new();
    loop {
        let Ok(accepted) = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await else {
            break;
        };
        let mut stream = acceptor.accept(accepted.unwrap().0).await.unwrap();
        stream.read_to_string(&mut arrived).await.unwrap();
        stream.shutdown().await.unwrap();
        if arrived.contains("the-last") {
            break;
        }
    }
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_sent_again_and_a_stranger_gets_nothing() {
    let host = Host::start("qx-0");
    let session = host.settled().await;
    let (authority, address) = (Authority::new(), free_address());
    let set =
        SetSyslog { on: true, address: address.to_string(), certificate: authority.certificate.clone() };
    host.client().call(&calls::set_syslog(&set).as_session(&session)).await.unwrap();
    make_role(&host, &session, "a-role").await;
    // Somebody else at that address cannot read along.
    let stranger = Authority::new();
    let acceptor = tokio::spawn(async move {
        let (certificate, key) = stranger.certify("127.0.0.1");
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        match tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            Ok(mut stream) => stream.read_u8().await.is_err(),
            Err(_) => true,
        }
    });
    assert!(acceptor.await.unwrap(), "a stranger was told something");
    host.says("did not take it").await;
    let receiver = tokio::spawn(async move { breaks_off(&authority, address, vec![1, 40, 250]).await });
    make_role(&host, &session, "the-last").await;
    let arrived = receiver.await.unwrap();
    all_arrive(&host, &session).await;
    let numbers = numbers(&arrived);
    assert_eq!(numbers, written(&host, &session, numbers[0]).await);
    assert!(arrived.contains("action=\"set syslog\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_next_goes_on_where_the_one_before_has_ended() {
    let (mut hosts, session) = cluster_of(3).await;
    let mut receiver = Receiver::new();
    receiver.start();
    hosts[0].client().call(&calls::set_syslog(&receiver.set()).as_session(&session)).await.unwrap();
    all_arrive(&hosts[0], &session).await;
    receiver.stop();
    for number in 0..10 {
        make_role(&hosts[0], &session, &format!("before-{number}")).await;
    }
    let cluster = hosts[0].cluster(&session).await.unwrap();
    let leader =
        cluster.hosts.iter().find(|host| Some(&host.id) == cluster.leader.as_ref()).unwrap().name.clone();
    let led = hosts.iter().position(|host| host.name == leader).unwrap();
    hosts[led].kill();
    let left = &hosts[(led + 1) % 3];
    for number in 0..10 {
        make_role(left, &session, &format!("after-{number}")).await;
    }
    receiver.start();
    all_arrive(left, &session).await;
    receiver.stop();
    let arrived = numbers(&receiver.arrived());
    let mut once = arrived.clone();
    once.dedup();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once, written(left, &session, once[0]).await);
}

#[test]
fn the_receiver_is_there() {
    for file in ["/usr/sbin/rsyslogd", "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so"] {
        assert!(PathBuf::from(file).exists(), "{file} is missing: run tools/setup");
    }
}
