//! The pages over TLS, as a browser uses them, with the real agent behind them.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use framework::{Answer, PASSWORD, Pages};

mod framework;

#[tokio::test]
async fn a_person_signs_in_chooses_a_password_sees_the_host_and_signs_out() {
    let pages = Pages::start().await;
    let first = pages.first_password();
    let answer = pages.sign_in("admin", &first).await;
    assert_eq!((answer.status, answer.location.as_str()), (StatusCode::SEE_OTHER, "/password"));
    assert!(answer.cookie_rules.contains("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{answer:?}");
    let cookie = answer.cookie;
    assert_eq!(pages.get("/overview", &cookie).await.location, "/password");
    let answer = pages.change_password(&cookie, &first, PASSWORD, PASSWORD).await;
    assert_eq!((answer.status, answer.location.as_str()), (StatusCode::SEE_OTHER, "/overview"));
    let answer = pages.get("/overview", &cookie).await;
    assert_eq!(answer.status, StatusCode::OK);
    let token = cookie.split_once('=').unwrap().1;
    assert!(answer.body.contains("Needs attention") && !answer.body.contains(token));
    assert!(!answer.body.contains("style=") && !answer.body.contains("<script"), "the policy would block it");
    assert_eq!(pages.post("/sign-out", &cookie, "").await.location, "/sign-in");
    assert!(pages.get("/overview", &cookie).await.location.starts_with("/sign-in"));
}

#[tokio::test]
async fn a_wrong_password_keeps_the_name_and_many_say_how_long_to_wait() {
    let pages = Pages::start().await;
    let answer = pages.sign_in("admin", "wrong").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains(r#"value="admin""#) && answer.body.contains(r#"role="alert""#));
    for _ in 0..20 {
        let answer = pages.sign_in("admin", "wrong").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
            return;
        }
    }
    panic!("twenty wrong passwords were not slowed down");
}

#[tokio::test]
async fn a_password_that_is_refused_says_why_beside_its_field() {
    let pages = Pages::start().await;
    let first = pages.first_password();
    let cookie = pages.sign_in("admin", &first).await.cookie;
    for (new, again, field) in [("short", "short", "new-error"), (PASSWORD, "another one", "again-error")] {
        let answer = pages.change_password(&cookie, &first, new, again).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.body.contains(&format!(r#"id="{field}""#)), "{}", answer.body);
    }
}

/// What browsers send with a form of our own page depends on the referrer policy; with `no-referrer` they hide the
/// origin and nobody could sign in.
#[tokio::test]
async fn the_policy_lets_a_browser_say_where_our_forms_come_from() {
    let answer = Pages::start().await.get("/sign-in", "").await;
    assert_eq!(answer.headers[header::REFERRER_POLICY], "same-origin");
}

#[tokio::test]
async fn a_form_from_elsewhere_is_refused_and_one_that_is_too_large_as_well() {
    let pages = Pages::start().await;
    let post = || Request::builder().method(Method::POST).uri("/sign-in").header(header::HOST, "localhost");
    let foreign = post().header(header::ORIGIN, "https://evil.example").body(Body::empty()).unwrap();
    assert_eq!(pages.send(foreign).await.status, StatusCode::FORBIDDEN);
    let large = pages.post("/sign-in", "", &format!("username={}&password=x", "a".repeat(70_000))).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_host_whose_agent_is_gone_says_so_in_its_pages() {
    let mut pages = Pages::start().await;
    pages.kill_agent();
    assert_eq!(pages.get("/healthz", "").await.status, StatusCode::OK);
    let Answer { status, body, .. } = pages.get("/readyz", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""name":"agent""#), "{body}");
    let answer = pages.sign_in("admin", "x").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains("does not answer"), "{}", answer.body);
}

#[tokio::test]
async fn a_program_is_told_in_json_what_a_person_is_told_in_a_page() {
    let pages = Pages::start().await;
    let get =
        |accept| Request::builder().uri("/nowhere").header(header::HOST, "h").header(header::ACCEPT, accept);
    let program = pages.send(get("application/json").body(Body::empty()).unwrap()).await;
    assert_eq!(program.headers[header::CONTENT_TYPE], "application/problem+json");
    assert!(program.body.contains(r#""code":"not-found""#), "{}", program.body);
    assert!(program.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    let person = pages.send(get("text/html,application/json").body(Body::empty()).unwrap()).await;
    assert_eq!((program.status, person.status), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
    assert!(person.body.contains("<!doctype html>"));
}

#[tokio::test]
async fn whatever_the_address_brings_along_the_sign_in_page_is_shown() {
    let pages = Pages::start().await;
    for query in ["", "?ended=1", "?ended=1&ended=2", "?%ff=%", "?next=https://evil.example"] {
        let answer = pages.get(&format!("/sign-in{query}"), "").await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
        assert!(!answer.body.contains("evil"));
    }
}
