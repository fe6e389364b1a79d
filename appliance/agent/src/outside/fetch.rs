//! Files that are fetched from an address that somebody gave: over HTTPS, through a few redirections, and never from where this
//! host can reach what others cannot, unless that was said.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header},
};
use http_body_util::{BodyExt, Collected, Empty, Limited};
use quantix_api::{
    Problem, ProblemCode,
    connection::{self, Arriving},
};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Place, REACH};

const MOST_REDIRECTIONS: usize = 5;
const LONGEST_ADDRESS: usize = 2000;
/// Until the head of an answer is there.
const HEAD: Duration = Duration::from_secs(30);
/// A line on which nothing comes for so long is cut.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// Where a file is fetched from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) address: String,
    /// Whether it may be where only machines of one's own are reached.
    pub(crate) may_be_private: bool,
    /// Whether it may come as anybody on the way can change it, because its sum is known.
    pub(crate) may_be_plain: bool,
    pub(crate) trust: Arc<ClientConfig>,
}

/// Why nothing comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NothingComes {
    /// It will not come later either.
    Ever(String),
    /// It may come if it is asked for again.
    Now(String),
}

/// Whether it is an address that a file can be fetched from; the error is a sentence.
pub(crate) fn check(address: &str, may_be_plain: bool) -> Result<(), String> {
    target(address, may_be_plain).map(drop)
}

/// The name of the file at an address.
pub(crate) fn file_name(address: &str) -> &str {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default()
}

struct Target {
    uri: Uri,
    place: Place,
    is_tls: bool,
}

fn target(address: &str, may_be_plain: bool) -> Result<Target, String> {
    let wrong = || "This is no address of a file. It begins with https://".to_owned();
    if address.len() > LONGEST_ADDRESS {
        return Err(format!("An address has at most {LONGEST_ADDRESS} characters."));
    }
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let authority =
        uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
    let (is_tls, port) = match uri.scheme_str() {
        Some("https") => (true, 443),
        Some("http") if may_be_plain => (false, 80),
        Some("http") => {
            return Err(
                "Over http anybody on the way can change a file. Use https, or give its checksum.".to_owned()
            );
        }
        _ => return Err(wrong()),
    };
    let place = Place::read(authority.as_str(), port).ok_or_else(wrong)?;
    Ok(Target { uri, place, is_tls })
}

/// Asks for a file, wherever that leads: the answer, of which the head is there.
pub(crate) async fn get(
    source: &Source,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Response<Arriving>, NothingComes> {
    let mut address = source.address.clone();
    for _ in 0..=MOST_REDIRECTIONS {
        let target = target(&address, source.may_be_plain).map_err(NothingComes::Ever)?;
        let answer = ask(source, &target, headers).await?;
        if !is_redirection(answer.status()) {
            return Ok(answer);
        }
        let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
        let next = place.and_then(|place| resolve(&target.uri, place));
        address = next.ok_or_else(|| NothingComes::Ever(format!("{} leads nowhere.", target.place)))?;
    }
    Err(NothingComes::Ever(format!("The address leads on and on: {MOST_REDIRECTIONS} times at least.")))
}

/// Whether the answer may be another one a little later.
pub(crate) fn passes(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Fetches a file that is small: all of it.
pub(crate) async fn whole(source: &Source, longest: usize) -> Result<Bytes, NothingComes> {
    let answer = get(source, &[]).await?;
    match answer.status() {
        StatusCode::OK => {}
        status if passes(status) => return Err(NothingComes::Now(format!("The answer was {status}."))),
        status => return Err(NothingComes::Ever(format!("The answer was {status}."))),
    }
    let body = Limited::new(answer.into_body(), longest).collect();
    let body = timeout(SILENCE, body).await;
    let body = body.map_err(|_| NothingComes::Now("It does not end.".to_owned()))?;
    body.map(Collected::to_bytes).map_err(|error| NothingComes::Now(format!("{error}.")))
}

/// The same for somebody who waits for it; what is wrong is told beside the field that it is about.
pub(crate) async fn whole_for(
    address: &str,
    may_be_private: bool,
    authority: &str,
    longest: usize,
) -> Result<Bytes, Problem> {
    let wrong = |field: &str, why: String| Problem::new(ProblemCode::Invalid, why).in_field(field);
    check(address, false).map_err(|why| wrong("url", why))?;
    let trust = super::trust_one_or_everybodys(authority).await;
    let trust = trust.map_err(|why| wrong("authority", why))?;
    let source = Source { address: address.to_owned(), may_be_private, may_be_plain: false, trust };
    whole(&source, longest).await.map_err(|nothing| match nothing {
        NothingComes::Ever(why) | NothingComes::Now(why) => {
            wrong("url", format!("It could not be fetched. {why}"))
        }
    })
}

fn is_redirection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where an answer leads, seen from where it came from.
fn resolve(from: &Uri, place: &str) -> Option<String> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    // In what is behind the question mark there may be an address as well.
    let is_whole = |(scheme, _): (&str, &str)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if place.split_once("://").is_some_and(is_whole) {
        Some(place.to_owned())
    } else if place.starts_with("//") {
        Some(format!("{scheme}:{place}"))
    } else if place.starts_with('/') {
        Some(format!("{scheme}://{authority}{place}"))
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(format!("{scheme}://{authority}{folder}/{place}"))
    }
}

async fn ask(
    source: &Source,
    target: &Target,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Response<Arriving>, NothingComes> {
    let now = |why: String| NothingComes::Now(why);
    let place = &target.place;
    let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = target.uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "Quantix")
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| now(format!("{error}.")))?;
    let stream = connect(source, place).await?;
    let asked = async {
        if target.is_tls {
            let stream =
                TlsConnector::from(Arc::clone(&source.trust)).connect(place.name.clone(), stream).await;
            let stream = stream.map_err(|error| format!("{place} cannot be trusted: {error}."))?;
            connection::send(stream, request).await
        } else {
            connection::send(stream, request).await
        }
        .map_err(|error| format!("{place} did not answer: {error}."))
    };
    match timeout(HEAD, asked).await {
        Ok(answer) => answer.map_err(now),
        Err(_) => Err(now(format!("{place} did not answer within {} seconds.", HEAD.as_secs()))),
    }
}

/// Connects to one of the addresses of a name, each of which was looked at: what a name stands for may be another address the
/// next time.
async fn connect(source: &Source, place: &Place) -> Result<TcpStream, NothingComes> {
    let unreachable =
        |why: &dyn std::fmt::Display| NothingComes::Now(format!("{place} cannot be reached: {why}."));
    let found = timeout(REACH, tokio::net::lookup_host((place.host.as_str(), place.port))).await;
    let found: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&"nobody says where it is")),
    };
    if !source.may_be_private && found.iter().any(|address| !is_public(address.ip())) {
        return Err(NothingComes::Ever(format!(
            "{place} is in a private network, from which files are fetched only if that is allowed."
        )));
    }
    let mut why = "it has no address".to_owned();
    for address in found {
        match timeout(REACH, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => "it does not answer".clone_into(&mut why),
        }
    }
    Err(unreachable(&why))
}

/// Whether everybody reaches the same there, and not each their own.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public4(ip),
        IpAddr::V6(ip) => is_public6(ip),
    }
}

fn is_public4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b));
    !is_special
}

fn is_public6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    if let Some(inner) = ip.to_ipv4_mapped() {
        return is_public4(inner);
    }
    let last = || {
        let [.., a, b, c, d] = ip.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match first {
        // Translated, and 6to4: an address of the old kind is in it.
        0x64 if second == 0xff9b => is_public4(last()),
        0x2002 => {
            let [_, _, a, b, c, d, ..] = ip.octets();
            is_public4(Ipv4Addr::new(a, b, c, d))
        }
        0x2001 if second == 0xdb8 || second < 0x200 => false,
        _ => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_told_from_what_is_not() {
        for public in ["1.1.1.1", "151.101.2.132", "2a04:4e42::644", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.170",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn addresses_are_read_and_lead_on() {
        assert!(check("https://cloud.debian.org/images/x.qcow2", false).is_ok());
        assert!(check("http://mirror.example/x", true).is_ok());
        for wrong in ["http://mirror.example/x", "ftp://a/b", "https://a@b/c", "file:///etc/shadow", "x", ""]
        {
            assert!(check(wrong, false).is_err(), "{wrong}");
        }
        assert!(check(&format!("https://a/{}", "x".repeat(3000)), false).is_err());
        let from: Uri = "https://a.example:1/b/c?d".parse().unwrap();
        for (place, leads) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "https://x/y"),
            ("/y", "https://a.example:1/y"),
            ("/y?z=https://x/y", "https://a.example:1/y?z=https://x/y"),
            ("y", "https://a.example:1/b/y"),
        ] {
            assert_eq!(resolve(&from, place).as_deref(), Some(leads));
        }
        assert_eq!(file_name("https://a/b/c.qcow2?x=/y#z"), "c.qcow2");
        assert_eq!(file_name("https://a"), "");
    }
}
