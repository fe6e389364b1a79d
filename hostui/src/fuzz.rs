//! What the fuzz targets reach: everything that a browser, or whoever calls itself one, can send. Whatever it is, it gets
//! an answer that carries what every answer does, and no answer is a defect.

use std::{cell::RefCell, net::IpAddr};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Uri, header},
};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::{options::Options, redirect, session, web};

/// What no page may show as it came: the beginning of a tag, in a word that no page has.
const TAG: &str = "<quantix-fuzz";

struct Server {
    runtime: Runtime,
    router: Router,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// A request to the pages of a host whose agent does not answer: a line with method and path, a line for each header,
/// an empty line, and a body.
pub fn request(bytes: &[u8]) {
    let Some(request) = read(bytes) else { return };
    let head = request.method() == Method::HEAD;
    SERVER.with_borrow_mut(|kept| {
        let Server { runtime, router } = kept.get_or_insert_with(|| {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = built.unwrap_or_else(|error| unreachable!("{error}"));
            let line = ["--agent", "/nonexistent/api.sock", "--dev"].map(ToOwned::to_owned);
            let options = Options::from_args(line.into_iter()).unwrap_or_else(|why| unreachable!("{why}"));
            Server { runtime, router: web::router(&options) }
        });
        runtime.block_on(async {
            let Ok(response) = router.clone().oneshot(request).await;
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            assert!(status != 500, "a defect: {parts:?}");
            assert_eq!(parts.headers.get(header::X_FRAME_OPTIONS), Some(&HeaderValue::from_static("DENY")));
            assert!(parts.headers.contains_key(header::CONTENT_SECURITY_POLICY));
            assert_eq!(parts.headers.get_all(header::CACHE_CONTROL).iter().count(), 1);
            if let Some(location) = parts.headers.get(header::LOCATION) {
                let location = location.to_str().unwrap_or("//");
                assert!(
                    location.starts_with('/') && !location.starts_with("//"),
                    "it leads away: {location}"
                );
            }
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let is_page = parts
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/html")));
            if is_page && !head {
                let page = std::str::from_utf8(&body).unwrap_or(TAG);
                assert!(!page.to_ascii_lowercase().contains(TAG), "what was sent is shown as it came");
            }
        });
    });
}

fn read(bytes: &[u8]) -> Option<Request> {
    let mut rest = bytes;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        Some(line)
    };
    let first = line()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let mut request = Request::builder().method(method).uri(Uri::try_from(&first[space + 1..]).ok()?);
    while let Some(header) = line() {
        let Some(colon) = header.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&header[..colon]).ok()?;
        request = request.header(name, HeaderValue::from_bytes(header[colon + 1..].trim_ascii()).ok()?);
    }
    let mut request = request.body(Body::from(rest.to_vec())).ok()?;
    request.extensions_mut().insert(web::ClientAddress(IpAddr::from([192, 0, 2, 1])));
    Some(request)
}

/// Headers that are read by hand. The first byte says which.
pub fn headers(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, cookie)) => cookies(cookie),
        Some((_, asked)) => redirect(asked),
        None => {}
    }
}

/// A request to port 80: the host that was asked for, and the path. Nobody is sent to another host.
fn redirect(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (host, target) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(target) = target.parse::<Uri>() else { return };
    let response = redirect::answer(Some(host), redirect::path(&target), 443);
    let Some(location) = response.headers().get(header::LOCATION) else { return };
    let location = location.to_str().unwrap_or_default();
    let led_to = location.parse::<Uri>();
    let led_to = led_to.unwrap_or_else(|error| unreachable!("{location:?} is no address: {error}"));
    assert_eq!(led_to.scheme_str(), Some("https"));
    let name = led_to.authority().map(|authority| authority.as_str()).unwrap_or_default();
    assert!(!name.is_empty() && host.starts_with(name), "{host:?} leads to {name:?}");
}

/// Cookies, as browsers send them. What is taken for a token is one.
fn cookies(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    if let Some(token) = session::token(&[(header::COOKIE, value)].into_iter().collect()) {
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
