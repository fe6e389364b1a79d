//! Requests to an authority. They go to the host of its directory and nowhere else, whatever its answers say; they end
//! in time, and their answers are bounded.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Bytes, header};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use quantix_api::connection;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

const REACH: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// A directory or an order has a few thousand bytes, a chain of certificates ten thousand.
const LONGEST: usize = 256 * 1024;
const HTTPS: u16 = 443;

/// A way to one authority.
#[derive(Clone)]
pub(super) struct Authority {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Authority {
    /// The one whose directory is at `directory` and whose server is trusted by `roots`.
    pub(super) fn new(directory: &str, roots: RootCertStore) -> Result<Self, String> {
        let uri: Uri =
            directory.parse().map_err(|error| format!("the directory’s address is none ({error})."))?;
        let (host, port) = place(&uri).ok_or("the directory’s address does not begin with https://.")?;
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { host, port, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |sentence: String| Error::Other(sentence.into());
        if place(request.uri()) != Some((self.host.clone(), self.port)) {
            let sentence = format!(
                "the authority sends this host to {}, which is not where its directory is",
                request.uri()
            );
            return Err(other(sentence));
        }
        let reached = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
            self.tls.connect(name, stream).await
        };
        let at = format!("{}:{}", self.host, self.port);
        let stream = match timeout(REACH, reached).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(other(format!("{at} cannot be reached or is not trusted ({error})")));
            }
            Err(_) => return Err(other(format!("{at} does not answer"))),
        };
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        parts.uri = path.parse().map_err(Error::InvalidUri)?;
        if let Ok(host) = at.parse() {
            parts.headers.insert(header::HOST, host);
        }
        let answered = async {
            let response = connection::send(stream, Request::from_parts(parts, body)).await?;
            connection::collect(response, LONGEST).await
        };
        let response: Response<Bytes> = match timeout(ANSWER, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(other(format!("the answer of {at} was cut short or is too long ({error})")));
            }
            Err(_) => return Err(other(format!("{at} did not answer within {} seconds", ANSWER.as_secs()))),
        };
        if response.status().is_redirection() {
            return Err(other(format!("{at} sends this host elsewhere, which authorities do not")));
        }
        Ok(BytesResponse::from(response.map(Full::new)))
    }
}

impl HttpClient for Authority {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

fn place(uri: &Uri) -> Option<(String, u16)> {
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_ascii_lowercase(), uri.port_u16().unwrap_or(HTTPS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_authority_sends_this_host_nowhere_but_to_itself() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let authority = Authority::new("https://ca.lab.example:8443/dir", RootCertStore::empty()).unwrap();
        for elsewhere in [
            "https://169.254.169.254/latest",
            "https://ca.lab.example/dir",
            "http://ca.lab.example:8443/dir",
            "https://ca.lab.example.evil.example:8443/",
            "https://user@127.0.0.1:8443/",
            "/etc/shadow",
        ] {
            let request = Request::builder().uri(elsewhere).body(BodyWrapper::default()).unwrap();
            let error = authority.request(request).await.err().unwrap().to_string();
            assert!(error.contains("not where its directory is"), "{error}");
        }
    }
}
