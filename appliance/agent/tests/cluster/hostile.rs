//! What reaches the port for hosts and should not, and clocks that are wrong: nothing changes, and the audit log says so.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use quantix_api::{CheckState, Cluster, HostRole, Secret, calls};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::hosts::{Host, cluster_of, problem, until};

const STORE: &[u8] = b"quantix-store/1";
const HTTP: &[u8] = b"http/1.1";
const DAY: i64 = 24 * 60 * 60;

/// Reaches a host and shows a certificate, or none.
async fn reach(to: SocketAddr, shows: Option<&Host>, protocol: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match shows.map(Host::member) {
        Some(member) => {
            let pem = |name: &str| member[name].as_str().unwrap().to_owned();
            let certificate = CertificateDer::from_pem_slice(pem("certificate").as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pem("key").as_bytes()).unwrap();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(to).await?;
    TlsConnector::from(Arc::new(config)).connect("somebody".try_into().unwrap(), stream).await
}

/// Asks for something over HTTP, and gives all of the answer.
async fn request(mut stream: TlsStream<TcpStream>, head: &str) -> io::Result<String> {
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // Whoever refuses a request may close before all of it was sent.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).map_err(io::Error::other)
}

/// What must be as it was.
async fn standing(host: &Host, session: &Secret) -> (Option<String>, u64, Vec<(String, HostRole)>) {
    let Cluster { leader, term, hosts, .. } = host.cluster(session).await.unwrap();
    (leader, term, hosts.into_iter().map(|host| (host.id, host.role)).collect())
}

async fn is_noted(host: &Host, sentence: &str) {
    until(&format!("the audit log says: {sentence}"), async || {
        host.outcomes().iter().any(|outcome| outcome.contains(sentence))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_of_the_cluster_is_refused() {
    let (hosts, session) = cluster_of(3).await;
    let before = standing(&hosts[0], &session).await;
    let stranger = Host::start("qx-foreign");
    stranger.settled().await;

    // A host of another cluster, at a host that leads and at one that does not.
    for member in &hosts[..2] {
        for protocol in [STORE, HTTP] {
            let reached = reach(member.hosts, Some(&stranger), protocol).await;
            // The client may have its part of the handshake done before it hears that it is refused.
            if let Ok(mut stream) = reached {
                let mut byte = [0];
                assert!(stream.read(&mut byte).await.is_err(), "something was answered");
            }
        }
    }
    is_noted(&hosts[0], "Its certificate is not of this cluster.").await;

    // Somebody without one may ask to join, and nothing else.
    let anybody = reach(hosts[1].hosts, None, HTTP).await.unwrap();
    let leave = "POST /node/v1/leave HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}";
    let refused = request(anybody, leave).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    is_noted(&hosts[0], "It asked for what only hosts of this cluster may ask.").await;
    let anybody = reach(hosts[1].hosts, None, STORE).await.unwrap();
    assert_eq!(request(anybody, "\0\0\0\x04what").await.unwrap_or_default(), "");

    assert_eq!(standing(&hosts[0], &session).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_is_refused_before_it_is_sent() {
    let (hosts, session) = cluster_of(2).await;
    let before = standing(&hosts[0], &session).await;
    for (shows, path) in [(None, "/node/v1/join"), (Some(&hosts[1]), "/node/v1/note")] {
        let stream = reach(hosts[0].hosts, shows, HTTP).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n"
        );
        let refused = request(stream, &head).await.unwrap();
        assert!(refused.starts_with("HTTP/1.1 413 ") && refused.contains("larger than"), "{refused}");
    }
    is_noted(&hosts[0], "Its request was too large.").await;

    // One that says that its message is as long as that.
    let mut stream = reach(hosts[0].hosts, Some(&hosts[1]), STORE).await.unwrap();
    stream.write_u32(u32::MAX).await.unwrap();
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte).await, Ok(1)), "it waits for four gigabytes");
    assert_eq!(standing(&hosts[0], &session).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_on_the_way_or_sent_again_changes_nothing() {
    let (hosts, session) = cluster_of(2).await;
    let before = standing(&hosts[0], &session).await;
    let wire = Wire::to(hosts[0].hosts).await;
    let ask = "GET /api/v1/cluster HTTP/1.1\r\nhost: h\r\n\r\n";

    let stream = reach(wire.address, Some(&hosts[1]), HTTP).await.unwrap();
    let answered = request(stream, ask).await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 401 "), "{answered}");
    let sent = wire.sent.lock().unwrap().clone();

    let stream = reach(wire.address, Some(&hosts[1]), HTTP).await.unwrap();
    *wire.alter.lock().unwrap() = true;
    assert_eq!(request(stream, ask).await.unwrap_or_default(), "");
    let altered = "What it sent was altered on the way, or had been sent before.";
    is_noted(&hosts[0], altered).await;

    // The same bytes again: the handshake alone is another each time.
    let mut again = TcpStream::connect(hosts[0].hosts).await.unwrap();
    again.write_all(&sent).await.unwrap();
    let mut answer = Vec::new();
    drop(again.read_to_end(&mut answer).await);
    assert!(!answer.windows(8).any(|window| window == b"HTTP/1.1"));
    assert_eq!(standing(&hosts[0], &session).await, before);
}

/// A wire to a host on which somebody sits.
struct Wire {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
    alter: Arc<Mutex<bool>>,
}

impl Wire {
    async fn to(host: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Self { address, sent: Arc::default(), alter: Arc::default() };
        let (sent, alter) = (Arc::clone(&wire.sent), Arc::clone(&wire.alter));
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (mut from_near, mut to_near) = near.into_split();
                let (mut from_far, mut to_far) = TcpStream::connect(host).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
                let (sent, alter) = (Arc::clone(&sent), Arc::clone(&alter));
                tokio::spawn(async move {
                    let mut piece = [0; 4096];
                    while let Ok(read @ 1..) = from_near.read(&mut piece).await {
                        sent.lock().unwrap().extend(&piece[..read]);
                        if *alter.lock().unwrap() {
                            piece[read - 1] ^= 1;
                        }
                        if to_far.write_all(&piece[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        wire
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_off_until_its_certificate_expired_comes_back_and_renews_it() {
    let (mut hosts, session) = cluster_of(3).await;
    let until_when = hosts[2].member()["renew_at"].as_i64().unwrap();
    hosts[2].kill();
    // Five years later its certificate, which is good for two, has long ended.
    hosts[2].clock = 5 * 365 * DAY;
    hosts[2].start_again();
    hosts[2].ready().await;
    until("it has everything", async || {
        let Ok(cluster) = hosts[0].cluster(&session).await else { return false };
        cluster.writable && cluster.hosts.iter().all(|host| host.lag == Some(0))
    })
    .await;
    until("it has a new certificate", async || {
        hosts[2].member()["renew_at"].as_i64().unwrap() > until_when + 4 * 365 * DAY
    })
    .await;
    // And when all were off for so long.
    for host in &mut hosts {
        host.kill();
        host.clock = 5 * 365 * DAY;
    }
    for host in &mut hosts {
        host.start_again();
    }
    for host in &hosts {
        host.ready().await;
    }
    let session = hosts[1].sign_in().await;
    hosts[1].make_token(&session, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_ten_minutes_apart_do_not_matter() {
    let hosts = [Host::start_at("qx-fast", 600), Host::start("qx-right"), Host::start_at("qx-slow", -600)];
    let session = hosts[0].settled().await;
    let made = hosts[0].make_token(&session, 2).await;
    for host in &hosts[1..] {
        let own = host.settled().await;
        host.join(&own, &hosts[0], &made.token).await.unwrap();
    }
    for leader in [2, 0, 1] {
        let mut cluster = None;
        until("three vote", async || {
            cluster = hosts[leader].cluster(&session).await.ok();
            cluster.as_ref().is_some_and(|cluster| {
                cluster.hosts.iter().all(|host| matches!(host.role, HostRole::Leader | HostRole::Voter))
            })
        })
        .await;
        let named = |name: &str| cluster.as_ref().unwrap().hosts.iter().find(|host| host.name == name);
        let id = named(["qx-fast", "qx-right", "qx-slow"][leader]).unwrap().id.clone();
        let to = quantix_api::MoveLead { host: id };
        until("the role is to move", async || {
            hosts[1].client().call(&calls::move_lead(&to).as_session(&session)).await.is_ok()
        })
        .await;
        until("the role has moved", async || {
            let now = hosts[1].cluster(&session).await;
            now.is_ok_and(|now| now.writable && now.leader.as_ref() == Some(&to.host))
        })
        .await;
        // Sessions that one host opened hold on all, and what is made is there.
        for host in &hosts {
            let own = host.sign_in().await;
            host.make_token(&own, 1).await;
            for other in &hosts {
                assert!(other.cluster(&own).await.is_ok(), "a session does not hold on {}", other.name);
            }
        }
    }
    let readiness = hosts[2].client().call(&calls::ready()).await.unwrap();
    let store = readiness.checks.iter().find(|check| check.name == "store").unwrap();
    assert_eq!(store.state, CheckState::Ok, "{}", store.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_and_an_address_that_is_taken_let_nobody_in() {
    let (mut hosts, session) = cluster_of(2).await;
    let hour = hosts[0].make_token(&session, 5).await;
    let other = Host::start("qx-other");
    let own = other.settled().await;
    hosts[0].kill();
    hosts[0].clock = 2 * 60 * 60;
    hosts[0].start_again();
    hosts[0].ready().await;
    let session = hosts[0].sign_in().await;
    let refused = problem(other.join(&own, &hosts[0], &hour.token).await);
    assert!(refused.detail.contains("has expired"), "{refused}");
    is_noted(&hosts[0], "This join token has expired.").await;

    // Where a host was that the cluster has not forgotten.
    let made = hosts[0].make_token(&session, 5).await;
    hosts[1].kill();
    let twin = Host::start_on("qx-twin", hosts[1].hosts);
    let own = twin.settled().await;
    let refused = problem(twin.join(&own, &hosts[0], &made.token).await);
    assert!(refused.detail.contains("already"), "{refused}");
    is_noted(&hosts[0], &refused.detail).await;
    assert_eq!(hosts[0].cluster(&session).await.unwrap().hosts.len(), 2);
}

/// Takes every certificate; only the host's judgement is looked at here.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
