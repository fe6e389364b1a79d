//! A host's API over TLS. The host's certificate is its own; what tells hosts apart is the fingerprint that was seen
//! when the person first signed in.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use quantix_api::{
    Answer, Call, Problem,
    connection::{self, Arriving, Broken},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Why a host gave no answer to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error("{address} does not answer ({error}).")]
    Unreachable { address: String, error: io::Error },
    #[error(
        "{address} shows another certificate than before: {seen}. Somebody may be in between. If the host was set up \
         anew, compare this with its screen and sign in again."
    )]
    OtherCertificate { address: String, seen: String },
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Name or address, with a port.
    pub(crate) address: String,
    /// The SHA-256 of its certificate.
    pub(crate) fingerprint: Option<String>,
}

impl Host {
    /// A host as it was typed.
    pub(crate) fn typed(typed: &str) -> Self {
        let bare = typed.trim().trim_start_matches("https://").trim_end_matches('/');
        let has_port = match bare.rsplit_once(':') {
            Some((name, port)) => port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')),
            None => false,
        };
        let address = match bare {
            bare if has_port => bare.to_owned(),
            bare if bare.contains(':') && !bare.starts_with('[') => format!("[{bare}]:443"),
            bare => format!("{bare}:443"),
        };
        Self { address, fingerprint: None }
    }

    /// The fingerprint it shows now.
    pub(crate) async fn look(&self) -> Result<String, CallError> {
        let unpinned = Self { fingerprint: None, ..self.clone() };
        unpinned.connect().await.map(|(_, seen)| seen)
    }

    /// Makes a call and waits for its answer.
    pub(crate) async fn call<T: Answer>(&self, call: &Call<T>) -> Result<T, CallError> {
        self.line().await?.call(call, Full::new).await
    }

    /// A connection over which one call follows another.
    pub(crate) async fn line<B>(&self) -> Result<Line<B>, CallError>
    where
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        let (stream, _) = self.connect().await?;
        let line = connection::Line::over(stream).await.map_err(|error| self.broken(&error))?;
        Ok(Line { host: self.clone(), line })
    }

    /// Sends a request that may be long, and gives the answer as it comes.
    pub(crate) async fn begin<B>(&self, mut request: Request<B>) -> Result<Response<Arriving>, CallError>
    where
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        self.name_in(&mut request);
        let (stream, _) = self.connect().await?;
        connection::send(stream, request).await.map_err(|error| self.broken(&error))
    }

    fn name_in<B>(&self, request: &mut Request<B>) {
        if let Ok(host) = self.address.parse() {
            request.headers_mut().insert(header::HOST, host);
        }
    }

    /// A connection to it.
    pub(crate) async fn open(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, CallError> {
        self.connect().await.map(|(stream, _)| stream)
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> CallError {
        self.unreachable(io::Error::other(error.to_string()))
    }

    async fn connect(&self) -> Result<(tokio_rustls::client::TlsStream<TcpStream>, String), CallError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pin = Arc::new(Pin {
            wanted: self.fingerprint.clone(),
            seen: Mutex::default(),
            provider: Arc::clone(&provider),
        });
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| self.unreachable(io::Error::other(error)))?;
        let config =
            config.dangerous().with_custom_certificate_verifier(Arc::clone(&pin) as _).with_no_client_auth();
        let connected = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let name = self.address.rsplit_once(':').map_or(self.address.as_str(), |(name, _)| name);
            let name =
                ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        };
        let connected = tokio::time::timeout(TIMEOUT, connected).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let seen = pin.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (connected, seen) {
            (Ok(stream), Some(seen)) => Ok((stream, seen)),
            (Err(_), Some(seen)) if self.fingerprint.as_ref().is_some_and(|wanted| *wanted != seen) => {
                Err(CallError::OtherCertificate { address: self.address.clone(), seen })
            }
            (Err(error), _) => Err(self.unreachable(error)),
            (Ok(_), None) => Err(self.unreachable(io::ErrorKind::InvalidData.into())),
        }
    }

    fn unreachable(&self, error: io::Error) -> CallError {
        CallError::Unreachable { address: self.address.clone(), error }
    }
}

/// A connection over which one call follows another.
#[derive(Debug)]
pub(crate) struct Line<B> {
    host: Host,
    line: connection::Line<B>,
}

impl<B> Line<B>
where
    B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
{
    /// Makes a call, with a body that is made of its own, and waits for its answer.
    pub(crate) async fn call<T: Answer>(
        &mut self,
        call: &Call<T>,
        body: impl FnOnce(Bytes) -> B,
    ) -> Result<T, CallError> {
        let mut request = call.request().map_err(|error| self.host.broken(&error))?.map(body);
        self.host.name_in(&mut request);
        let answer = tokio::time::timeout(TIMEOUT, self.line.ask(request, MAX_ANSWER_BYTES)).await;
        let answer = answer.map_err(|_| self.host.unreachable(io::ErrorKind::TimedOut.into()))?;
        Ok(call.read(&answer.map_err(|error| self.host.broken(&error))?)?)
    }
}

/// Takes the one certificate with this fingerprint, or any if there is none yet, and notes what it saw.
#[derive(Debug)]
struct Pin {
    wanted: Option<String>,
    seen: Mutex<Option<String>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pairs: Vec<_> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
        let seen = pairs.join(":");
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen.clone());
        if self.wanted.as_ref().is_none_or(|wanted| *wanted == seen) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("another certificate".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_people_type_them() {
        for (typed, address) in [
            ("192.0.2.7", "192.0.2.7:443"),
            ("https://qx-01/", "qx-01:443"),
            ("qx-01:8443", "qx-01:8443"),
            ("2001:db8::7", "[2001:db8::7]:443"),
            ("[2001:db8::7]:8443", "[2001:db8::7]:8443"),
        ] {
            assert_eq!(Host::typed(typed).address, address);
        }
    }
}
