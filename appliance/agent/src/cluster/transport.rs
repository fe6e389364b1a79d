//! Links between hosts: TLS on which each proves with its key which host it is.

use std::{
    io,
    sync::{Arc, RwLock},
    time::Duration,
};

use quantix_store::{Address, Dial, Dialled, HostId, Link};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::authority::{self, WHEN};

/// What the stores say to each other.
pub(super) const STORE: &[u8] = b"quantix-store/1";
/// Everything else.
pub(super) const HTTP: &[u8] = b"http/1.1";

/// Reaching a host and shaking hands.
const REACH: Duration = Duration::from_secs(5);
/// Both ends of a connection know this and nobody else does; a proof of knowing the join token is bound to it.
const BINDING: &[u8] = b"EXPORTER-quantix-join";

/// By what a connection differs from all others.
pub(super) type Binding = [u8; 32];

/// What proves which host this is.
pub(super) struct Identity {
    accept: TlsAcceptor,
    store: TlsConnector,
    http: TlsConnector,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) host: HostId,
    pub(super) key_hash: [u8; 32],
}

impl Identity {
    /// From the host's key, its certificate, and the authority's, as PEM.
    pub(super) fn new(key: &str, certificate: &str, authority: &str) -> Result<Self, String> {
        let sentence = |error: &dyn std::fmt::Display| error.to_string();
        let der =
            |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| sentence(&error));
        let (certificate, authority) = (der(certificate)?, der(authority)?);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| sentence(&error))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(|error| sentence(&error))?;
        let (roots, provider) = (Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));

        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| sentence(&error))?;
        let mut accept = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| sentence(&error))?
            .with_client_cert_verifier(Arc::new(AnyTime(clients)))
            .with_single_cert(vec![certificate.clone()], key.clone_key())
            .map_err(|error| sentence(&error))?;
        accept.alpn_protocols = vec![STORE.to_vec(), HTTP.to_vec()];

        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| sentence(&error))?;
        let connect = |protocol: &[u8]| {
            let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&TLS13])
                .map_err(|error| sentence(&error))?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyTime(Arc::clone(&servers))))
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key());
            let mut config = config.map_err(|error| sentence(&error))?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok::<_, String>(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self { accept: TlsAcceptor::from(Arc::new(accept)), store: connect(STORE)?, http: connect(HTTP)? })
    }

    /// Lets somebody in, and says who shows which key, if any. A stranger may only ask to join.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(server::TlsStream<TcpStream>, Option<Shown>)> {
        let stream = timeout(REACH, self.accept.accept(stream)).await.map_err(io::Error::other)??;
        let shown =
            stream.get_ref().1.peer_certificates().and_then(|chain| authority::host_of(chain.first()?));
        Ok((stream, shown.map(|(host, key_hash)| Shown { host, key_hash })))
    }

    /// Reaches a host and no other, for requests.
    pub(super) async fn reach(
        &self,
        host: HostId,
        address: &str,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        reach(&self.http, host, address).await
    }
}

async fn reach(
    connector: &TlsConnector,
    host: HostId,
    address: &str,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(authority::name_of(host)).map_err(io::Error::other)?;
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connector.connect(name, stream).await
    };
    timeout(REACH, connect).await.map_err(io::Error::other)?
}

/// Reaches whoever answers at an address, to join its cluster. Who that is shows by its knowing the token.
pub(super) async fn reach_stranger(address: &str) -> io::Result<(client::TlsStream<TcpStream>, Binding)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP.to_vec()];
    let name = ServerName::try_from("join.quantix.internal").map_err(io::Error::other)?;
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let stream = timeout(REACH, connect).await.map_err(io::Error::other)??;
    let binding = stream.get_ref().1.export_keying_material([0; 32], BINDING, None);
    Ok((stream, binding.map_err(io::Error::other)?))
}

/// What the one who let a stranger in knows of the connection.
pub(super) fn binding(stream: &server::TlsStream<TcpStream>) -> io::Result<Binding> {
    stream.get_ref().1.export_keying_material([0; 32], BINDING, None).map_err(io::Error::other)
}

/// How the store reaches other hosts: as this host, as soon as it has proof of being it.
#[derive(Clone, Default)]
pub(super) struct Dialler(Arc<RwLock<Option<Arc<Identity>>>>);

impl Dialler {
    pub(super) fn set(&self, identity: Arc<Identity>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(identity);
    }

    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Dial for Dialler {
    fn dial(&self, host: HostId, address: &Address) -> Dialled {
        let (identity, address) = (self.identity(), address.0.clone());
        Box::pin(async move {
            let identity = identity.ok_or_else(|| io::Error::other("this host has no certificate yet"))?;
            let stream = reach(&identity.store, host, &address).await?;
            Ok(Box::new(stream) as Box<dyn Link>)
        })
    }
}

/// Looks at certificates as they are at one fixed moment, whatever the clock says.
#[derive(Debug)]
struct AnyTime<V: ?Sized>(Arc<V>);

impl ClientCertVerifier for AnyTime<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(certificate, between, WHEN)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl ServerCertVerifier for AnyTime<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        status: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(certificate, between, name, status, WHEN)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes every certificate, but not every signature: the connection is with whoever has the key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

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
        Err(Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
