//! What holds for every page: its parts, its policy, its size; and what stands round it.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::io::Read;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};

use crate::framework::{Answer, PASSWORD, Pages};

/// A page with what it holds, compressed.
const LARGEST_PAGE: usize = 50_000;

const PAGES: &[&str] = &[
    "/overview",
    "/hosts",
    "/hosts?state=lost&sort=-name",
    "/cluster",
    "/cluster/add",
    "/cluster/join",
    "/cluster/backup",
    "/cluster/restore",
    "/cluster/recover",
    "/cluster/leave",
    "/activity",
    "/activity?text=nothing%20of%20the%20kind",
    "/settings",
    "/users",
    "/users/admin",
    "/find",
    "/find?text=%3Cimg%3E",
    "/password",
    "/sign-in",
    "/nowhere",
    "/dev/components",
];

async fn asked(pages: &Pages, path: &str, cookie: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request =
        Request::builder().uri(path).header(header::HOST, "localhost").header(header::COOKIE, cookie);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    pages.send(request.body(Body::empty()).unwrap()).await
}

/// The start tags of a page.
fn tags(html: &str) -> impl Iterator<Item = &str> {
    html.split('<')
        .skip(1)
        .filter(|tag| tag.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|tag| tag.split('>').next())
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

#[tokio::test]
async fn every_page_has_its_parts_and_no_script_or_style_of_its_own() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    for path in PAGES {
        let page = pages.get(path, &cookie).await;
        let html = page.body;
        let count =
            |start: &str| tags(&html).filter(|tag| tag.split([' ', '\n']).next() == Some(start)).count();
        assert_eq!((count("h1"), count("main"), count("title")), (1, 1, 1), "{path}: {html}");
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{path}");
        let mut ids: Vec<_> = tags(&html).filter_map(|tag| attribute(tag, "id")).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{path}: two things have the same id: {html}");
        for tag in tags(&html) {
            let name = tag.split(' ').next().unwrap();
            assert!(name != "style" && attribute(tag, "style").is_none(), "{path}: <{tag}>");
            assert!(name != "script" || attribute(tag, "src").is_some(), "{path}: <{tag}>");
            let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
            assert!(!tag.split(' ').any(is_handler), "{path}: <{tag}>");
            if ["input", "select", "textarea"].contains(&name)
                && !tag.contains("type=\"hidden\"")
                && !tag.contains("aria-hidden")
            {
                let id = attribute(tag, "id").unwrap_or_else(|| panic!("{path}: <{tag}>"));
                assert!(html.contains(&format!("for=\"{id}\"")), "{path}: nothing says what <{tag}> is");
            }
        }
        assert!(html.contains("class=\"door\"") || html.contains("<nav id=\"areas\""), "{path}");
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn pages_and_assets_come_compressed_and_stay_small() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let gzip = [("accept-encoding", "gzip, br")];
    let mut assets = Vec::new();
    for path in PAGES {
        let page = asked(&pages, path, &cookie, &gzip).await;
        assert!(page.bytes.len() <= LARGEST_PAGE, "{path}: {}", page.bytes.len());
        assert_eq!(page.headers[header::CONTENT_ENCODING], "gzip", "{path}");
        let mut html = String::new();
        flate2::read::GzDecoder::new(page.bytes.as_slice()).read_to_string(&mut html).unwrap();
        assets.extend(
            html.split('"')
                .filter(|part| part.starts_with("/assets/"))
                .map(|part| part.split('#').next().unwrap().to_owned()),
        );
    }
    assets.sort();
    assets.dedup();
    assert!(assets.len() >= 6, "{assets:?}");
    for path in assets {
        let asset = asked(&pages, &path, "", &gzip).await;
        assert_eq!(asset.status, StatusCode::OK, "{path}");
        assert_eq!(asset.headers[header::CONTENT_ENCODING], "gzip", "{path}");
        assert!(asset.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"), "{path}");
        let plain = asked(&pages, &path, "", &[]).await;
        assert!(
            !plain.headers.contains_key(header::CONTENT_ENCODING) && plain.bytes.len() > asset.bytes.len()
        );
        let (_, rest) = path.strip_prefix("/assets/").unwrap().split_once('/').unwrap();
        let old = asked(&pages, &format!("/assets/000000000000/{rest}"), "", &[]).await;
        assert_eq!(old.status, StatusCode::NOT_FOUND, "an address without its hash leads nowhere");
    }
    for path in ["/assets/x/../../etc/passwd", "/assets/x/%2e%2e%2f%2e%2e%2fetc%2fpasswd"] {
        assert_eq!(pages.get(path, "").await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_theme_stays_and_leads_back_to_where_it_was_chosen() {
    let pages = Pages::start().await;
    let chosen = pages.post("/theme", "", "theme=dark&back=%2Fsign-in%3Fended%3D1").await;
    assert_eq!((chosen.status, chosen.location.as_str()), (StatusCode::SEE_OTHER, "/sign-in?ended=1"));
    for rule in ["Secure", "HttpOnly", "SameSite=Strict", "Max-Age=31536000"] {
        assert!(chosen.cookie_rules.contains(rule), "{}", chosen.cookie_rules);
    }
    assert!(
        pages.get("/sign-in", &chosen.cookie).await.body.contains(r#"<html lang="en" data-theme="dark">"#)
    );
    assert!(pages.get("/nowhere", &chosen.cookie).await.body.contains(r#"data-theme="dark""#));
    let strange = pages.get("/sign-in", "__Host-theme=\"><script>").await.body;
    assert!(strange.contains(r#"<html lang="en">"#), "{strange}");
    for back in
        ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "%2Fa%0d%0aSet-Cookie:x"]
    {
        let led = pages.post("/theme", "", &format!("theme=light&back={back}")).await;
        assert_eq!(led.location, "/overview", "{back}");
    }
    assert_eq!(pages.post("/theme", "", "theme=pink").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_was_done_is_said_once_on_the_next_page() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let saved = pages.post("/cluster/voters", &cookie, "wanted=3").await;
    assert_eq!(saved.location, "/cluster");
    let both = format!("{cookie}; {}", saved.cookie);
    let page = pages.get("/cluster", &both).await;
    assert!(
        page.body.contains(r#"<p class="toast">"#) && page.body.contains("Saved. Votes"),
        "{}",
        page.body
    );
    assert!(page.cookie_rules.contains("__Host-said=;") && page.cookie_rules.contains("Max-Age=0"));
    let hostile: String = "<img src=x onerror=alert(1)>".bytes().map(|byte| format!("{byte:02x}")).collect();
    let page = pages.get("/cluster", &format!("{cookie}; __Host-said={hostile}")).await.body;
    assert!(page.contains("&#60;img src=x") && !page.contains("<img"), "{page}");
}

#[tokio::test]
async fn a_block_is_the_same_as_in_the_page_and_an_ended_session_takes_the_page_along() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let htmx = [("hx-request", "true")];
    for (path, block) in [
        ("/activity", "lines"),
        ("/cluster", "state"),
        ("/find", "found"),
        ("/hosts", "hosts"),
        ("/overview", "all"),
    ] {
        let part = asked(&pages, &format!("{path}?block={block}"), &cookie, &htmx).await.body;
        assert!(part.contains(&format!(r#"id="{block}""#)), "{path}: {part}");
        assert!(!part.contains("<main") && !part.contains("class=\"bar\""), "{path}: {part}");
        let link = format!("{path}?block={block}");
        assert!(pages.get(path, &cookie).await.body.contains(&link), "{path} does not ask for {link}");
    }
    let dialog = asked(&pages, "/cluster/leave?block=dialog", &cookie, &htmx).await.body;
    assert!(dialog.contains("dialog-title") && dialog.contains(r#"action="/cluster/leave""#), "{dialog}");
    assert!(!dialog.contains("<main"), "{dialog}");
    // What is no block of a page is the page.
    assert!(pages.get("/cluster?block=nothing", &cookie).await.body.contains("<main"));

    pages.post("/sign-out", &cookie, "").await;
    let ended = asked(&pages, "/cluster?block=state", &cookie, &htmx).await;
    assert_eq!(
        (ended.status, &ended.headers["hx-redirect"]),
        (StatusCode::NO_CONTENT, &"/sign-in?ended=1".parse().unwrap())
    );
    assert!(ended.cookie_rules.contains("Max-Age=0"), "{}", ended.cookie_rules);
}

#[tokio::test]
async fn everything_is_found_that_one_may_use_and_nothing_else() {
    let pages = Pages::start().await;
    pages.wants_a_session("/find").await;
    let cookie = pages.settled().await;
    let made = pages.post("/users", &cookie, "username=ada&role=viewer").await.body;
    let password = made.split("id=\"password\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let found = pages.get("/find?text=ada", &cookie).await.body;
    assert!(found.contains(r#"href="/users/ada""#) && !found.contains("Back up the cluster"), "{found}");
    let nothing = pages.get("/find?text=%3Cimg%3E", &cookie).await.body;
    assert!(nothing.contains("Nothing here is called “&#60;img&#62;”"), "{nothing}");

    let ada = pages.sign_in("ada", &password).await.cookie;
    pages.change_password(&ada, &password, PASSWORD, PASSWORD).await;
    let all = pages.get("/find", &ada).await.body;
    assert!(all.contains("Sign out") && all.contains(r#"href="/cluster""#), "{all}");
    for hidden in ["/cluster/add", "/users", "/activity", "/settings", "/cluster/backup"] {
        assert!(!all.contains(&format!("href=\"{hidden}\"")), "{hidden}");
    }
    assert_eq!(pages.get("/settings", &ada).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_host_has_no_page_of_components() {
    let pages = Pages::start_with(&[]).await;
    let cookie = pages.settled().await;
    assert_eq!(pages.get("/dev/components", &cookie).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_host_has_pages_of_its_own_and_is_found_in_the_list() {
    let pages = Pages::start().await;
    pages.wants_a_session("/hosts").await;
    let cookie = pages.settled().await;
    let list = pages.get("/hosts", &cookie).await.body;
    let host = list.split('"').find(|part| part.starts_with("/hosts/")).unwrap().to_owned();
    for (tab, says) in
        [("", "Machine id"), ("/hardware", "Network interfaces"), ("/services", "Open vSwitch")]
    {
        let page = pages.get(&format!("{host}{tab}"), &cookie).await;
        assert_eq!(page.status, StatusCode::OK, "{tab}");
        assert!(page.body.contains(says), "{tab}: {}", page.body);
        assert!(
            page.body.contains(&format!("href=\"{host}{tab}\" aria-current=\"page\"")),
            "{tab}: {}",
            page.body
        );
        let block = pages.get(&format!("{host}{tab}?block=host"), &cookie).await.body;
        assert!(block.contains(says) && !block.contains("<main"), "{tab}: {block}");
    }
    let none = pages.get("/hosts?text=%3Cimg%3E", &cookie).await.body;
    assert!(none.contains("No host is like that") && !none.contains("<img"), "{none}");
    assert!(pages.get("/hosts?state=lost", &cookie).await.body.contains("No host is like that"));
    for path in ["/hosts/0123456789abcdef", "/hosts/..%2f..%2fx", "/hosts/x/services"] {
        assert_eq!(pages.get(path, &cookie).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
