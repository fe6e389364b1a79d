//! The certificate that is shown, and what authorities look at. The agent tells both, at the start and with every
//! change; a new certificate is for new connections, and those that are open go on.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use axum::http::{Request, header};
use http_body_util::{BodyExt, Empty};
use quantix_api::{AgentClient, PAGES_CERTIFICATE_PATH, Secret, ToShow, connection::Broken};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What authorities speak that look at a certificate (RFC 8737).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";
/// The longest line of the agent's.
const LONGEST: usize = 512 * 1024;
/// How long until an agent that is gone is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// What is shown now.
#[derive(Clone)]
pub(crate) struct Shown(watch::Receiver<Option<Arc<Now>>>);

struct Now {
    tls: TlsAcceptor,
    files: HashMap<String, String>,
}

impl Shown {
    /// Nothing yet; the other half fills it.
    pub(crate) fn new(agent: &Path) -> (Self, Follower) {
        let (sender, receiver) = watch::channel(None);
        (Self(receiver), Follower { agent: AgentClient::new(agent), now: sender })
    }

    /// Waits until there is a certificate.
    pub(crate) async fn first(&self) {
        // Without a follower there will never be one.
        if self.0.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What takes a new connection.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.0.borrow().as_ref().map(|now| now.tls.clone())
    }

    /// A file that an authority fetches.
    pub(crate) fn file(&self, token: &str) -> Option<String> {
        self.0.borrow().as_ref()?.files.get(token).cloned()
    }
}

/// What listens to the agent.
pub(crate) struct Follower {
    agent: AgentClient,
    now: watch::Sender<Option<Arc<Now>>>,
}

impl Follower {
    /// Does what the agent says, for ever. While it is gone what is shown stays.
    pub(crate) async fn follow(self) {
        let mut is_told = false;
        loop {
            match self.listen().await {
                Ok(()) => is_told = false,
                // Once is enough: the agent may be away for a while.
                Err(why) if !is_told => {
                    log::warn!("The agent does not say which certificate to show: {why}");
                    is_told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn listen(&self) -> Result<(), Broken> {
        let request = Request::builder()
            .uri(PAGES_CERTIFICATE_PATH)
            .header(header::HOST, "agent")
            .body(Empty::<axum::body::Bytes>::new())?;
        let answer = self.agent.begin(request).await?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()).into());
        }
        let (mut body, mut read) = (answer.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            read.extend_from_slice(&data);
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = read.drain(..=end).collect();
                self.show(&line)?;
            }
            if read.len() > LONGEST {
                return Err("it says more than fits".into());
            }
        }
        Ok(())
    }

    fn show(&self, line: &[u8]) -> Result<(), Broken> {
        // What serde says could quote the key.
        let told: ToShow = serde_json::from_slice(line).map_err(|_| "it says what is not understood")?;
        let now = Now {
            tls: TlsAcceptor::from(Arc::new(tls(&told)?)),
            files: told.files.into_iter().map(|file| (file.token, file.content)).collect(),
        };
        self.now.send_replace(Some(Arc::new(now)));
        Ok(())
    }
}

/// Each certificate has a configuration of its own, and so none of the sessions that were begun with another: whoever
/// comes again sees the new one.
fn tls(told: &ToShow) -> Result<ServerConfig, Broken> {
    let proofs: HashMap<_, _> = told
        .proofs
        .iter()
        .map(|proof| {
            let (chain, key) = (chain(&proof.certificate)?, key(&proof.key)?);
            // Not looked at further: what it says to authorities is for nobody else to understand.
            let signing = aws_lc_rs::sign::any_supported_type(&key)?;
            Ok((proof.name.to_ascii_lowercase(), Arc::new(CertifiedKey::new(chain, signing))))
        })
        .collect::<Result<_, Broken>>()?;
    let mut protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if !proofs.is_empty() {
        protocols.push(ACME_TLS.to_vec());
    }
    let choice = Choice { pages: certified(&told.chain, &told.key)?, proofs };
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(choice));
    config.alpn_protocols = protocols;
    Ok(config)
}

fn certified(certificates: &str, private: &Secret) -> Result<Arc<CertifiedKey>, Broken> {
    let pair = CertifiedKey::from_der(chain(certificates)?, key(private)?, &aws_lc_rs::default_provider())?;
    Ok(Arc::new(pair))
}

fn chain(certificates: &str) -> Result<Vec<CertificateDer<'static>>, Broken> {
    let found = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect::<Result<_, _>>();
    found.map_err(|error| format!("its certificate cannot be read: {error}").into())
}

fn key(private: &Secret) -> Result<PrivateKeyDer<'static>, Broken> {
    PrivateKeyDer::from_pem_slice(private.expose().as_bytes()).map_err(|_| "its key cannot be read".into())
}

/// Which certificate for whom.
#[derive(Debug)]
struct Choice {
    pages: Arc<CertifiedKey>,
    /// By name, for authorities.
    proofs: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_authority =
            hello.alpn().is_some_and(|mut protocols| protocols.all(|protocol| protocol == ACME_TLS));
        if is_authority {
            // One that asks when nothing is to be proven gets nothing.
            return self.proofs.get(&hello.server_name()?.to_ascii_lowercase()).cloned();
        }
        Some(Arc::clone(&self.pages))
    }
}
