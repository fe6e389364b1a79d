//! Requests that no honest client sends: made-up addresses, headers that end early, two lengths, files elsewhere.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};

use crate::framework::{PASSWORD, Pages};

/// The cookie of a session, and what a person would have to have signed in with.
#[tokio::test]
async fn a_form_that_a_foreign_page_sends_does_nothing() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let attempts: &[(&str, &str)] = &[
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost"),
        ("origin", "https://localhost.evil.example"),
        ("origin", "https://localhost@evil.example"),
        ("origin", "https://localhost:8443"),
        ("origin", ""),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "made-up"),
    ];
    for (name, value) in attempts {
        for path in ["/users", "/sign-out", "/cluster/leave", "/users/admin/lock"] {
            let request = Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(header::HOST, "localhost")
                .header(header::COOKIE, &cookie)
                .header(*name, *value)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from("username=mallory&role=administrator&name=qx"))
                .unwrap();
            let answer = pages.send(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value} at {path}");
        }
    }
    let users = pages.get("/users", &cookie).await;
    assert!(users.status.is_success() && !users.body.contains("mallory"));
}

/// A link or a picture on a foreign page asks with GET, whatever it says it asks with.
#[tokio::test]
async fn what_changes_something_cannot_be_asked_for_with_get() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    for path in
        ["/sign-out", "/cluster/tokens", "/cluster/leader", "/users/admin/sign-out", "/users/admin/lock"]
    {
        for name in ["x-http-method-override", "x-method-override", "x-http-method"] {
            let request = Request::builder()
                .uri(format!("{path}?_method=POST"))
                .header(header::HOST, "localhost")
                .header(header::COOKIE, &cookie)
                .header(name, "POST")
                .body(Body::empty())
                .unwrap();
            assert_eq!(pages.send(request).await.status, StatusCode::METHOD_NOT_ALLOWED, "{path} {name}");
        }
    }
    assert!(pages.get("/overview", &cookie).await.status.is_success(), "the session was ended");
}

#[tokio::test]
async fn nothing_in_an_address_leads_to_another_site() {
    let pages = Pages::start().await;
    let first = pages.first_password();
    let cookie = pages.sign_in("admin", &first).await.cookie;
    pages.change_password(&cookie, &first, PASSWORD, PASSWORD).await;
    let elsewhere = [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "%0d%0a//evil.example",
        "",
    ];
    for next in elsewhere {
        let form = format!("username=admin&password={}&next={next}", PASSWORD.replace(' ', "+"));
        assert_eq!(pages.post("/sign-in", "", &form).await.location, "/overview", "{next}");
        let page = pages.get(&format!("/sign-in?next={next}"), "").await;
        assert!(!page.body.contains("evil"), "{next}: {}", page.body);
    }
    let form = format!("username=admin&password={}&next=%2Factivity%3Ftext%3Da", PASSWORD.replace(' ', "+"));
    assert_eq!(pages.post("/sign-in", "", &form).await.location, "/activity?text=a");
    // A host is called what its certificate says, not what a request says.
    let foreign =
        Request::builder().uri("/cluster").header(header::HOST, "evil.example").body(Body::empty()).unwrap();
    assert_eq!(pages.send(foreign).await.location, "/sign-in?next=%2Fcluster");
}

#[tokio::test]
async fn no_line_end_in_an_address_becomes_a_header() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let ends = ["%0d%0aSet-Cookie:%20a=b", "%0aSet-Cookie:%20a=b", "%E5%98%8A%E5%98%8DSet-Cookie:a=b", "%00"];
    for end in ends {
        for path in ["/users/", "/activity?text=", "/sign-in?next=/", "/assets/x/", "/cluster/hosts/", "/"] {
            for cookie in ["", &cookie] {
                let answer = pages.get(&format!("{path}{end}"), cookie).await;
                let injected = answer.headers.get_all(header::SET_COOKIE).iter().any(|value| value == "a=b");
                assert!(!injected, "{path}{end}: {:?}", answer.headers);
                assert!(answer.status.as_u16() < 500, "{path}{end}: {}", answer.status);
            }
        }
    }
}

#[tokio::test]
async fn assets_are_what_was_built_in_and_nothing_else() {
    let pages = Pages::start().await;
    let css = pages.get("/sign-in", "").await.body;
    let css = css
        .split('"')
        .find(|part| part.starts_with("/assets/") && part.ends_with(".css"))
        .unwrap()
        .to_owned();
    assert_eq!(pages.get(&css, "").await.status, StatusCode::OK);
    let version = css.split('/').nth(2).unwrap();
    for name in [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..\\..\\etc\\passwd",
        "/etc/passwd",
        "quantix.css/../../../Cargo.toml",
        "quantix.css%00.png",
        "....//....//etc/passwd",
        ".",
        "",
    ] {
        let request =
            format!("GET /assets/{version}/{name} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answer = pages.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        assert!(!answer.contains("root:"), "{name}");
    }
}

#[tokio::test]
async fn a_request_with_two_meanings_has_none() {
    let pages = Pages::start().await;
    let second = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = "POST /sign-in HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for (what, request) in [
        ("two lengths", format!("{head}Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde{second}")),
        ("a length that is a list", format!("{head}Content-Length: 5, 0\r\n\r\nabcde{second}")),
        ("a length with a sign", format!("{head}Content-Length: +5\r\n\r\nabcde{second}")),
        ("a coding nobody knows", format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{second}")),
        (
            "chunked, and then not",
            format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{second}"),
        ),
        ("a space before the colon", format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{second}")),
        ("a folded header", format!("{head}X: a\r\n b\r\n\r\n{second}")),
        ("a bare line end in a value", format!("{head}X: a\rb\r\n\r\n{second}")),
        ("a NUL in the path", "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
        (
            "a chunk as long as the world",
            format!("{head}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n"),
        ),
    ] {
        let answer = pages.raw(request.as_bytes()).await;
        let refused =
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501") || answer.is_empty();
        assert!(refused, "{what}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 200").count(),
            0,
            "{what}: the second request was answered: {answer}"
        );
    }
    // Length and chunks at once: the chunks count, and the connection does not go on to what follows.
    let both = format!("{head}Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}");
    let answer = pages.raw(both.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(answer.matches("HTTP/1.1").count() <= 1 || !answer.contains("\"ok\""), "smuggled: {answer}");
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let pages = Pages::start().await;
    let get = |more: &str| format!("GET /sign-in HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{more}\r\n");
    let long = get(&format!("X-Long: {}\r\n", "a".repeat(200_000)));
    let many = get(&(0..2_000).map(|number| format!("X-{number}: a\r\n")).collect::<String>());
    let address = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(200_000));
    for request in [long, many, address] {
        let answer = pages.raw(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.is_empty(),
            "{}",
            &answer[..answer.len().min(200)]
        );
    }
    assert!(pages.honest([127, 0, 0, 1].into()).await.unwrap().contains("200"));
}

#[tokio::test]
async fn what_is_only_for_one_person_is_kept_nowhere() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    for path in [
        "/overview",
        "/cluster",
        "/users",
        "/users/admin",
        "/activity",
        "/password",
        "/cluster/add",
        "/nowhere",
    ] {
        let answer = pages.get(path, &cookie).await;
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(answer.headers[header::X_FRAME_OPTIONS], "DENY", "{path}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert!(!answer.headers.contains_key(header::SERVER), "{path}");
    }
}

/// The agent refuses without reading what it would not use; whoever sent it hears the reason all the same.
#[tokio::test]
async fn a_long_body_of_somebody_who_is_refused_is_answered() {
    let pages = Pages::start().await;
    for _ in 0..50 {
        let body =
            format!("{{\"address\": \"a\", \"certificate\": \"{}\", \"on\": false}}", "a".repeat(60_000));
        let request = Request::builder()
            .method(Method::PUT)
            .uri("/api/v1/settings/syslog")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = pages.send(request).await;
        let is_refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&answer.status);
        assert!(is_refused, "{}: {}", answer.status, answer.body);
    }
}
