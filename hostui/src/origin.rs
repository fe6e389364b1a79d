//! Did this form come from our own page? A browser says where a form was; one that was elsewhere is refused, even
//! though the cookie would not have come along anyway.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use quantix_api::connection::asks_for_change;

use crate::problem::Page;

/// Lets through what only reads, and what was sent from our own page.
pub(crate) async fn own_pages_only(request: Request, next: Next) -> Response {
    // Of a WebSocket a browser only says where the page was that opened it.
    let reads =
        [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) && !asks_for_change(&request);
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if reads || is_own(request.headers(), host.as_deref()) {
        next.run(request).await
    } else {
        Page::foreign_form().into_response()
    }
}

/// HTTP/2 has the host in the address, HTTP/1 in a header.
fn is_own(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let host = authority.or_else(|| text(header::HOST));
    if let Some(origin) = text(header::ORIGIN) {
        return host.is_some_and(|host| origin.strip_prefix("https://") == Some(host));
    }
    // Browsers send at least one of the two; a program that sends neither brings no cookie of somebody else's.
    matches!(headers.get("sec-fetch-site").map(|site| site.as_bytes()), None | Some(b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        is_own(&headers, None)
    }

    #[test]
    fn a_form_of_our_own_page_is_taken() {
        assert!(check(&[("host", "192.0.2.7"), ("origin", "https://192.0.2.7")]));
        assert!(check(&[("host", "h:8443"), ("origin", "https://h:8443")]));
        assert!(check(&[("host", "h"), ("sec-fetch-site", "same-origin")]));
        assert!(check(&[("host", "h")]));
    }

    #[test]
    fn a_form_from_elsewhere_is_refused() {
        assert!(!check(&[("host", "h"), ("origin", "https://evil.example")]));
        assert!(!check(&[("host", "h"), ("origin", "http://h")]));
        assert!(!check(&[("host", "h"), ("origin", "null")]));
        assert!(!check(&[("host", "h"), ("origin", "https://h.evil.example")]));
        assert!(!check(&[("host", "h"), ("sec-fetch-site", "cross-site")]));
        assert!(!check(&[("origin", "https://h")]));
    }
}
