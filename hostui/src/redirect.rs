//! Port 80: sends a browser on to the same host's pages over TLS, and gives authorities the files by which they see
//! that a name is this host's. Nothing else is here.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};

use crate::shown::Shown;

const HEADERS: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(20);
const HTTPS_PORT: u16 = 443;
/// Where authorities look (RFC 8555, section 8.3). What is behind it is the name of a file that the agent has told, or
/// of none: nothing is looked up on any disk.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Answers what comes on one connection, for a short while.
pub(crate) async fn connection(stream: TcpStream, https_port: u16, shown: Shown) {
    let service = service_fn(move |request: Request<Incoming>| {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let path = path(request.uri());
        if let Some(token) = path.strip_prefix(CHALLENGES) {
            return std::future::ready(Ok(file(shown.file(token))));
        }
        std::future::ready(Ok::<_, Infallible>(answer(host, path, https_port)))
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false).max_buf_size(16 * 1024);
    let _ = timeout(WHOLE, server.serve_connection(TokioIo::new(stream), service)).await;
}

/// What of an address goes into another: a path, and not the `*` that a request about the whole server has in its place.
/// Browsers write it in ASCII; what does not is led to the first page.
pub(crate) fn path(asked: &Uri) -> &str {
    let path = asked.path_and_query().map(|path| path.as_str());
    path.filter(|path| path.starts_with('/') && path.is_ascii()).unwrap_or("/")
}

fn file(content: Option<String>) -> Response<String> {
    let is_there = content.is_some();
    let mut response = Response::new(content.unwrap_or_default());
    if is_there {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

pub(crate) fn answer(host: Option<&str>, path: &str, https_port: u16) -> Response<String> {
    let location = host.and_then(host_name).and_then(|host| {
        let port = if https_port == HTTPS_PORT { String::new() } else { format!(":{https_port}") };
        HeaderValue::from_str(&format!("https://{host}{port}{path}")).ok()
    });
    let mut response = Response::new(String::new());
    match location {
        Some(location) => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, location);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// The name in a Host header without its port, if it is a name or an address: what goes into a Location header must
/// not be anything else.
fn host_name(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let port_only = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return (matches!(address.parse(), Ok(IpAddr::V6(_))) && port_only)
            .then(|| &host[..address.len() + 2]);
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return None,
        None => host,
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(host: &str, path: &str, port: u16) -> Option<String> {
        let response = answer(Some(host), path, port);
        response.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_browser_is_sent_to_the_same_host_and_path() {
        assert_eq!(location("qx-01.lab", "/overview?a=b", 443).unwrap(), "https://qx-01.lab/overview?a=b");
        assert_eq!(location("192.0.2.7:80", "/", 8443).unwrap(), "https://192.0.2.7:8443/");
        assert_eq!(location("[2001:db8::1]:80", "/", 443).unwrap(), "https://[2001:db8::1]/");
    }

    #[test]
    fn only_a_path_is_put_behind_a_host() {
        let cases = ["*", "/a?b", "http://evil.example/c", "evil.example:443", "/\u{5da}"];
        assert_eq!(
            cases.map(|asked| path(&asked.parse().unwrap()).to_owned()),
            ["/", "/a?b", "/c", "/", "/"]
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            "a b",
            "evil.example/@",
            "user@host",
            "a..b",
            "[::1",
            "[x]",
            "h:x",
            "[::1]x",
            "a:1:2",
            "ä.example",
        ] {
            assert_eq!(location(host, "/", 443), None, "{host}");
        }
        assert_eq!(answer(None, "/", 443).status(), StatusCode::BAD_REQUEST);
    }

    proptest! {
        #[test]
        fn a_location_never_leaves_the_host_that_was_asked(host in "\\PC{0,40}", path in "/[a-z/?=&%@:.]{0,30}") {
            if let Some(location) = location(&host, &path, 443) {
                let rest = location.strip_prefix("https://").unwrap();
                let name = host_name(&host).unwrap();
                prop_assert!(rest.starts_with(name) && rest[name.len()..].starts_with('/'));
            }
        }
    }
}
