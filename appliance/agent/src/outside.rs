//! What is reached outside of the cluster because somebody has set it: over TLS, where an authority that was given
//! vouches for whoever answers, and within bounds.

pub(crate) mod fetch;

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    http::{Request, Response, Uri, header},
};
use http_body_util::Full;
use quantix_api::connection;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Reaching a place and shaking hands.
const REACH: Duration = Duration::from_secs(10);
/// The longest text of certificates.
const LONGEST_PEM: usize = 32 * 1024;
const MOST_CERTIFICATES: usize = 20;
/// A whole request and its answer.
const ANSWER: Duration = Duration::from_secs(15);
const LONGEST_ANSWER: usize = 256 * 1024;
/// Whom everybody trusts, as the image brings it.
const EVERYBODYS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    name: ServerName<'static>,
    host: String,
    port: u16,
}

impl Place {
    /// Reads `name`, `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
    pub(crate) fn read(text: &str, usual_port: u16) -> Option<Self> {
        let text = text.trim();
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None if text.matches(':').count() > 1 => (text, Some("")),
            None => text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = match port? {
            "" if !text.ends_with(':') || text.ends_with("::") => usual_port,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            _ => return None,
        };
        let name = ServerName::try_from(host.to_owned()).ok().filter(|_| port != 0)?;
        Some(Self { name, host: host.to_owned(), port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Whom an authority vouches for, or several do, as PEM; the error is a sentence.
pub(crate) fn trust(authorities: &str) -> Result<Arc<ClientConfig>, String> {
    if authorities.len() > LONGEST_PEM {
        return Err(format!("Certificates are at most {LONGEST_PEM} bytes long."));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let certificate = certificate.map_err(|_| "This is not a certificate in PEM form.".to_owned())?;
        roots.add(certificate).map_err(|_| "One of the certificates cannot be read.".to_owned())?;
    }
    if !(1..=MOST_CERTIFICATES).contains(&roots.len()) {
        let sentence = "Give the certificate of the authority: it begins with -----BEGIN CERTIFICATE-----.";
        return Err(sentence.to_owned());
    }
    config(roots)
}

/// Whom everybody trusts; blocking.
pub(crate) fn trust_everybodys() -> Result<Arc<ClientConfig>, String> {
    let text = std::fs::read(EVERYBODYS).map_err(|error| format!("{EVERYBODYS} cannot be read: {error}."))?;
    let mut roots = RootCertStore::empty();
    // One that is not understood vouches for nobody.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
    config(roots)
}

/// Whom an authority vouches for, if one is given, and else whom everybody trusts.
pub(crate) async fn trust_one_or_everybodys(authority: &str) -> Result<Arc<ClientConfig>, String> {
    if !authority.is_empty() {
        return trust(authority);
    }
    let trusted = quantix_host::blocking(trust_everybodys).await;
    trusted.unwrap_or_else(|| Err("Whom everybody trusts could not be read.".to_owned()))
}

/// The place of an address, which is `https` and names nobody.
pub(crate) fn https(address: &str) -> Option<(Uri, Place)> {
    let uri: Uri = address.parse().ok()?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"))?.as_str().to_owned();
    let place = Place::read(&authority, 443).filter(|_| !authority.contains('@'))?;
    Some((uri, place))
}

/// Asks for something over HTTPS. Wherever the answer wants to lead, nobody follows.
pub(crate) async fn ask(
    address: &str,
    config: Arc<ClientConfig>,
    request: axum::http::request::Builder,
    body: String,
) -> Result<Response<Bytes>, String> {
    let (uri, place) = https(address).ok_or_else(|| format!("{address} is no https address."))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = request.uri(path).header(header::HOST, host).header(header::ACCEPT, "application/json");
    let request: Request<Full<Bytes>> =
        request.body(Full::new(body.into())).map_err(|error| format!("{error}."))?;
    let asked = async {
        let stream =
            reach(&place, config).await.map_err(|error| format!("{place} cannot be reached: {error}."))?;
        let answer = connection::send(stream, request).await;
        let answer = answer.map_err(|error| format!("{place} did not answer: {error}."))?;
        let answer = connection::collect(answer, LONGEST_ANSWER).await;
        answer.map_err(|error| format!("The answer of {place} could not be read: {error}."))
    };
    match timeout(ANSWER, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{place} did not answer within {} seconds.", ANSWER.as_secs())),
    }
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{error}."))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Reaches a place, and nobody else there.
pub(crate) async fn reach(place: &Place, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let connect = async {
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(place.name.clone(), stream).await
    };
    match timeout(REACH, connect).await {
        Ok(reached) => reached,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_name_and_a_port() {
        let read = |text: &str| Place::read(text, 6514).map(|place| place.to_string());
        for (typed, is) in [
            ("logs.example", "logs.example:6514"),
            (" logs.example:10514 ", "logs.example:10514"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
            ("[2001:db8::1]", "[2001:db8::1]:6514"),
            ("2001:db8::1", "[2001:db8::1]:6514"),
            ("::", "[::]:6514"),
        ] {
            assert_eq!(read(typed).as_deref(), Some(is), "{typed}");
        }
        for wrong in ["", ":1", "a:", "a:0", "a:+1", "a:65536", "a b", "a/b", "user@a", "[::1", "[::1]1", "ä"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_https_and_nobody_in_front_of_it() {
        assert_eq!(https("https://id.example/realms/x").unwrap().1.to_string(), "id.example:443");
        assert_eq!(https("https://[::1]:8443/").unwrap().1.to_string(), "[::1]:8443");
        for wrong in
            ["http://id.example", "ftp://id.example", "/x", "id.example", "https://a@id.example/", "https://"]
        {
            assert!(https(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_authority_is_said() {
        for wrong in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &"a".repeat(40_000),
        ] {
            assert!(trust(wrong).is_err(), "{wrong}");
        }
    }
}
