//! What a browser brings along besides the session: the theme its reader chose, and the sentence about what was just
//! done. Every template can ask for them while a request is answered, the page that says something is wrong too.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use crate::problem::Filled;

const THEME: &str = "__Host-theme";
const SAID: &str = "__Host-said";
const RULES: &str = "; Path=/; Secure; HttpOnly; SameSite=Strict";
const A_YEAR: &str = "; Max-Age=31536000";
/// Long enough for the next page to come.
const A_MOMENT: &str = "; Max-Age=30";
/// Bytes of a sentence that is passed on to the next page.
const LONGEST_SAID: usize = 400;

tokio::task_local! {
    static READER: Reader;
}

/// The reader of the page that is being made.
#[derive(Clone, Debug, Default)]
struct Reader {
    theme: Theme,
    said: Option<String>,
}

/// Light, dark, or as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Theme {
    /// As the system has it.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub(crate) const ALL: [(Self, &str); 3] =
        [(Self::System, "System"), (Self::Light, "Light"), (Self::Dark, "Dark")];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The theme of whoever reads the page that is being made.
pub(crate) fn theme() -> Theme {
    READER.try_with(|reader| reader.theme).unwrap_or_default()
}

/// What was done a moment ago, to be said on this page.
pub(crate) fn said() -> Option<String> {
    READER.try_with(|reader| reader.said.clone()).ok().flatten()
}

/// Reads the cookies before a page is made; what was said is said once.
pub(crate) async fn remember(request: Request, next: Next) -> Response {
    let is_whole_page = !request.headers().contains_key("hx-request");
    let reader = Reader {
        theme: theme_in(request.headers()),
        said: is_whole_page.then(|| said_in(request.headers())).flatten(),
    };
    let has_said = reader.said.is_some();
    let mut response = READER.scope(reader, next.run(request)).await;
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if has_said && is_page {
        append(response.headers_mut(), format!("{SAID}={RULES}; Max-Age=0"));
    }
    response
}

/// Goes to another page, where `sentence` says what was done.
pub(crate) fn done(path: &str, sentence: &str) -> Response {
    let mut response = Redirect::to(path).into_response();
    let end = sentence.floor_char_boundary(LONGEST_SAID);
    let hexadecimal: String = sentence[..end].bytes().map(|byte| format!("{byte:02x}")).collect();
    append(response.headers_mut(), format!("{SAID}={hexadecimal}{RULES}{A_MOMENT}"));
    response
}

/// A theme, and the page it was chosen on.
#[derive(Debug, Deserialize)]
pub(crate) struct ThemeForm {
    theme: Theme,
    #[serde(default)]
    back: String,
}

/// `POST /theme`
pub(crate) async fn choose(Filled(form): Filled<ThemeForm>) -> Response {
    let mut response = Redirect::to(own_path(&form.back)).into_response();
    let age = if form.theme == Theme::System { "; Max-Age=0" } else { A_YEAR };
    append(response.headers_mut(), format!("{THEME}={}{RULES}{age}", form.theme.name()));
    response
}

/// A path on this host: whatever else a form says leads to the overview.
pub(crate) fn own_path(path: &str) -> &str {
    let mut bytes = path.bytes();
    let is_own = bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    if is_own { path } else { "/overview" }
}

fn append(headers: &mut HeaderMap, cookie: String) {
    if let Ok(value) = HeaderValue::try_from(cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// The value of one of our cookies.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn theme_in(headers: &HeaderMap) -> Theme {
    match cookie(headers, THEME) {
        Some("light") => Theme::Light,
        Some("dark") => Theme::Dark,
        _ => Theme::System,
    }
}

fn said_in(headers: &HeaderMap) -> Option<String> {
    let hexadecimal = cookie(headers, SAID)?.as_bytes();
    if hexadecimal.is_empty() || hexadecimal.len() > 2 * LONGEST_SAID {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = hexadecimal.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())])
    }

    #[test]
    fn a_theme_is_one_of_three() {
        let check = |cookie: &str| theme_in(&with_cookie(cookie)).name();
        assert_eq!(check("x=1; __Host-theme=dark"), "dark");
        assert_eq!(check("__Host-theme=light"), "light");
        assert_eq!(check("__Host-theme=\"><script>"), "system");
    }

    #[test]
    fn what_was_said_comes_back_whole() {
        let response = done("/cluster", "“qx-02” <b>has</b> the vDC role.");
        let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
        let said = said_in(&with_cookie(cookie.split(';').next().unwrap()));
        assert_eq!(said.as_deref(), Some("“qx-02” <b>has</b> the vDC role."));
    }

    #[test]
    fn what_cannot_be_a_sentence_is_none() {
        for cookie in ["__Host-said=zz", "__Host-said=ff", "__Host-said=4", "__Host-said="] {
            assert!(said_in(&with_cookie(cookie)).is_none_or(|said| said == "\u{4}"), "{cookie}");
        }
        assert_eq!(said_in(&with_cookie(&format!("__Host-said={}", "61".repeat(401)))), None);
    }

    #[test]
    fn a_form_leads_nowhere_else() {
        for path in ["//evil.example", "/\\evil.example", "https://evil.example", "", "evil", "/a\r\nb"] {
            assert_eq!(own_path(path), "/overview", "{path}");
        }
        assert_eq!(own_path("/hosts?sort=-name"), "/hosts?sort=-name");
    }
}
