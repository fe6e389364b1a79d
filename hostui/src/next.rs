//! The way back: whoever opens an address before signing in is led there afterwards. An address can be made up by
//! anybody, so only one that stays on this host is followed.

use std::str::FromStr;

use askama::Template;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, Uri, header},
    middleware::Next as Rest,
    response::Response,
};
use serde::Deserialize;

use crate::problem::draw;

const LONGEST: usize = 1024;
const SIGN_IN: &str = "/sign-in";
/// What nobody wants to be led to.
const NO_PAGES: [&str; 7] = [SIGN_IN, "/sign-out", "/live", "/tray", "/alarms", "/assets/", "/api/"];
/// Where signing in leads by itself.
pub(crate) const AT_FIRST: &str = "/overview";

/// An address on this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Next(String);

/// It leads elsewhere, or is none.
#[derive(Debug, thiserror::Error)]
#[error("no address on this host")]
pub(crate) struct Elsewhere;

impl FromStr for Next {
    type Err = Elsewhere;

    /// A path and perhaps a query. Browsers drop tabs and line ends from addresses and take `\` for `/`, so `/⇥/x` and
    /// `/\x` lead to the host `x`.
    fn from_str(text: &str) -> Result<Self, Elsewhere> {
        let is_path = text.starts_with('/') && !text[1..].starts_with('/');
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let is_page = !NO_PAGES.iter().any(|no| text.starts_with(no));
        (is_path && is_plain && is_page && text.len() <= LONGEST)
            .then(|| Self(text.to_owned()))
            .ok_or(Elsewhere)
    }
}

impl TryFrom<String> for Next {
    type Error = Elsewhere;

    fn try_from(text: String) -> Result<Self, Elsewhere> {
        text.parse()
    }
}

impl Next {
    /// The one in the query of the sign-in page, if it is one.
    pub(crate) fn in_query(query: Option<&str>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Asked {
            next: Next,
        }
        serde_urlencoded::from_str::<Asked>(query?).ok().map(|asked| asked.next)
    }

    /// The address of another page, which leads here afterwards.
    pub(crate) fn after(&self, page: &str) -> String {
        let joined = if page.contains('?') { "&" } else { "?" };
        format!("{page}{joined}{}", serde_urlencoded::to_string([("next", &self.0)]).unwrap_or_default())
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Comes back to the same address by itself. A link on a foreign page leads here without the cookie, which is only
/// sent from our own pages; from this one it is.
#[derive(Debug, Template)]
#[template(path = "session/again.html")]
struct Again<'a> {
    address: &'a str,
}

/// Whoever is sent to sign in is told the way back from there.
pub(crate) async fn leads_back(request: Request, rest: Rest) -> Response {
    let reads = request.method() == Method::GET;
    let next = wanted(&request).filter(|_| reads);
    let from_elsewhere = is_followed_from_elsewhere(request.headers());
    let mut response = rest.run(request).await;
    let Some(next) = next else { return response };
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let Some(location) = location.filter(|location| is_sign_in(location)) else { return response };
    if from_elsewhere && location == SIGN_IN {
        return draw(&Again { address: next.as_str() });
    }
    if next.as_str() != AT_FIRST
        && let Ok(location) = HeaderValue::from_str(&next.after(location))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The address of the page: a block of a page says of which it is.
fn wanted(request: &Request) -> Option<Next> {
    let header = |name| request.headers().get(name);
    if header("hx-request").is_none() {
        return request.uri().path_and_query()?.as_str().parse().ok();
    }
    let page = header("hx-current-url")?.to_str().ok()?.parse::<Uri>().ok()?;
    page.path_and_query()?.as_str().parse().ok()
}

fn is_sign_in(location: &str) -> bool {
    let path = location.split('?').next().unwrap_or_default();
    path == SIGN_IN || path.strip_prefix(SIGN_IN).is_some_and(|rest| rest.starts_with('/'))
}

/// Browsers say so; what does not say it is no browser, or a very old one.
fn is_followed_from_elsewhere(headers: &HeaderMap) -> bool {
    let is = |name, value: &[u8]| headers.get(name).is_some_and(|said| said.as_bytes() == value);
    (is("sec-fetch-site", b"cross-site") || is("sec-fetch-site", b"same-site"))
        && is("sec-fetch-mode", b"navigate")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_of_this_host_is_followed() {
        for address in ["/cluster", "/activity?text=a%20b&before=3", "/users/grace", "/x//y"] {
            assert_eq!(address.parse::<Next>().unwrap().as_str(), address);
        }
    }

    #[test]
    fn an_address_elsewhere_is_not() {
        for address in [
            "",
            "cluster",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "javascript:alert(1)",
            "/é",
            "/a b",
            "/x\r\nSet-Cookie: a=b",
            "/sign-in",
            "/sign-out",
            "/api/v1/users",
        ] {
            assert!(address.parse::<Next>().is_err(), "{address:?}");
        }
        assert!(format!("/{}", "a".repeat(LONGEST)).parse::<Next>().is_err());
    }

    #[test]
    fn the_query_is_read_as_a_form_is() {
        let read = |query| Next::in_query(Some(query)).map(|next| next.0);
        assert_eq!(read("next=%2Fcluster%2Fadd").unwrap(), "/cluster/add");
        assert_eq!(read("ended=1&next=%2Factivity%3Ftext%3Da%2520b").unwrap(), "/activity?text=a%20b");
        for query in [
            "",
            "next=",
            "next=%2F%2Fevil.example",
            "next=%2Fa&next=%2Fb",
            "next=%00",
            "%ff=%",
            "next=%2F%09%2Fx",
        ] {
            assert_eq!(read(query), None, "{query}");
        }
    }

    proptest! {
        #[test]
        fn what_is_followed_never_names_a_host(text in "[/\\\\a-z.:@?#\t\r\n ]{0,20}") {
            if let Ok(next) = text.parse::<Next>() {
                // As a browser reads it.
                let read: String = next.0.chars().filter(|letter| !"\t\r\n".contains(*letter)).collect();
                prop_assert!(read.starts_with('/') && !read[1..].starts_with(['/', '\\']));
            }
        }
    }
}
