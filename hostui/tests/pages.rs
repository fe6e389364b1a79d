//! The pages over TLS, as a browser uses them, with the real agent behind them.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use framework::{Answer, PASSWORD, Pages};

mod attacks;
mod certificate;
mod framework;
mod live;
mod pieces;
mod shell;

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
    assert_eq!(pages.post("/sign-out", &cookie, "").await.location, "/sign-in");
    assert!(pages.get("/overview", &cookie).await.location.starts_with("/sign-in"));
}

#[tokio::test]
async fn a_join_token_is_made_shown_once_and_taken_back() {
    let pages = Pages::start().await;
    pages.wants_a_session("/cluster").await;
    let cookie = pages.settled().await;
    let page = pages.get("/cluster", &cookie).await;
    assert!(
        page.body.contains("a cluster of its own") && page.body.contains("No join tokens"),
        "{}",
        page.body
    );

    let refused = pages.post("/cluster/tokens", &cookie, "purpose=&hours=24&uses=1").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains(r#"id="purpose-error""#), "{}", refused.body);
    let made = pages.post("/cluster/tokens", &cookie, "purpose=%3Cimg+src%3Dx%3E&hours=24&uses=2").await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    assert!(made.body.contains("QUANTIX-") && made.body.contains("For 2 hosts"), "{}", made.body);

    let page = pages.get("/cluster", &cookie).await;
    assert!(page.body.contains("&#60;img src=x&#62;") && !page.body.contains("QUANTIX-"), "{}", page.body);
    let revoke = page.body.split('"').find(|part| part.ends_with("/revoke")).unwrap().to_owned();
    assert_eq!(pages.post(&revoke, &cookie, "").await.location, "/cluster");
    assert!(pages.get("/cluster", &cookie).await.body.contains("Taken back"));
    assert_eq!(
        pages.post("/cluster/tokens/..%2f..%2fx/revoke", &cookie, "").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_was_done_is_listed_and_found() {
    let pages = Pages::start().await;
    pages.wants_a_session("/activity").await;
    let cookie = pages.settled().await;
    pages.sign_in("admin", "wrong").await;
    pages.post("/cluster/tokens", &cookie, "purpose=%3Cimg+src%3Dx%3E&hours=24&uses=2").await;
    let page = loop {
        let page = pages.get("/activity", &cookie).await.body;
        // Who is refused does not wait for the log.
        if page.contains("The name or the password is wrong.") {
            break page;
        }
    };
    for says in ["make join token", "&#60;img src=x&#62;", "sign in", "change password", "127.0.0.1"] {
        assert!(page.contains(says), "{says}: {page}");
    }
    assert!(!page.contains("<img") && !page.contains(">Older<"), "{page}");

    let found = pages.get("/activity?text=JOIN%20TOKEN", &cookie).await.body;
    assert!(found.contains("make join token") && !found.contains("change password"), "{found}");
    let nothing = pages.get("/activity?text=%3Cb%3E", &cookie).await.body;
    assert!(nothing.contains("Nothing has “&#60;b&#62;” in it"), "{nothing}");
    for _ in 0..50 {
        pages.post("/cluster/voters", &cookie, "wanted=3").await;
    }
    let page = pages.get("/activity?text=voters", &cookie).await.body;
    assert!(!page.contains(">Newest<"), "{page}");
    let page = pages.get("/activity", &cookie).await.body;
    let older = page.split('"').find(|part| part.starts_with("/activity?after=")).unwrap();
    let page = pages.get(&older.replace("&#38;", "&"), &cookie).await.body;
    assert!(page.contains("change password") && page.contains(">Newest<"), "{page}");
    // An address that was mistyped shows the newest.
    assert_eq!(pages.get("/activity?after=x", &cookie).await.location, "/activity");
}

#[tokio::test]
async fn roles_are_made_and_given_to_groups() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    let refused = pages.post("/roles", &cookie, "name=night&purpose=").await;
    assert!(refused.body.contains("Choose at least one"), "{}", refused.body);
    let made =
        pages.post("/roles", &cookie, "name=night&purpose=&right-see=true&right-operate-hosts=true").await;
    assert_eq!(made.location, "/roles");
    assert!(pages.get("/roles", &cookie).await.body.contains("Restart hosts"));
    let page = pages.get("/roles/night", &cookie).await.body;
    let version =
        page.split("name=\"version\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let change = format!("version={version}&purpose=At+night&right-see=true");
    assert_eq!(pages.post("/roles/night/change", &cookie, &change).await.location, "/roles");
    let overtaken = pages.post("/roles/night/change", &cookie, &change).await;
    assert!(overtaken.body.contains("Somebody else has changed this"), "{}", overtaken.body);
    assert!(pages.get("/roles/viewer", &cookie).await.body.contains("stays as it is"));

    assert_eq!(pages.post("/groups", &cookie, "name=watch&purpose=Awake").await.location, "/groups/watch");
    assert_eq!(pages.post("/groups/watch/put", &cookie, "user=admin").await.location, "/groups/watch");
    let give = "role=night&place=datacenter";
    assert_eq!(pages.post("/groups/watch/give", &cookie, give).await.location, "/groups/watch");
    let user = pages.get("/users/admin", &cookie).await.body;
    assert!(user.contains("/groups/watch") && user.contains("night"), "{user}");
    assert!(pages.post("/roles/night/remove", &cookie, "").await.body.contains("is given to"));
    assert!(pages.post("/groups/watch/remove", &cookie, "name=wrong").await.body.contains("type the name"));
    assert_eq!(pages.post("/groups/watch/remove", &cookie, "name=watch").await.location, "/groups");
    assert_eq!(pages.post("/roles/night/remove", &cookie, "").await.location, "/roles");
    assert_eq!(pages.get("/groups/watch", &cookie).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_second_factor_is_set_up_and_asked_for_and_tokens_are_made() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    assert!(pages.get("/account", &cookie).await.body.contains("Set up a second factor"));
    let wrong = pages.post("/account/second-factor", &cookie, "password=wrong").await;
    assert!(wrong.body.contains("not the present password"), "{}", wrong.body);
    let password = "password=correct+horse+battery";
    let made = pages.post("/account/second-factor", &cookie, password).await.body;
    let hidden = |name: &str| {
        let value =
            made.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap().split('"').next().unwrap();
        value.replace("&#38;", "&").replace("&amp;", "&")
    };
    let (secret, address) = (hidden("secret"), hidden("address"));
    assert!(made.contains("class=\"qr\"") && address.starts_with("otpauth://"), "{address}");
    let form = |code: &str| {
        let fields = [("secret", secret.as_str()), ("address", address.as_str()), ("code", code)];
        serde_urlencoded::to_string(fields).unwrap()
    };
    let again = pages.post("/account/confirm", &cookie, &form("000 000")).await;
    assert!(again.body.contains(&secret) && again.body.contains("code-error"), "{}", again.body);
    let shared = totp_rs::Secret::try_from_base32(&secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(shared).with_account_name("x").build().unwrap();
    let codes =
        pages.post("/account/confirm", &cookie, &form(&totp.generate_current().to_string())).await.body;
    let recovery = codes.split("<li>").nth(1).unwrap().split('<').next().unwrap().to_owned();

    let began = pages.sign_in("admin", "correct+horse+battery").await;
    assert_eq!(began.location, "/sign-in/code");
    assert_eq!(pages.get("/overview", &began.cookie).await.location, "/sign-in/code");
    let wrong = pages.post("/sign-in/code", &began.cookie, "code=123456").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let entered = pages.post("/sign-in/code", &began.cookie, &format!("code={recovery}")).await;
    assert_eq!(entered.location, "/overview");
    assert_ne!(entered.cookie, began.cookie);

    let refused =
        pages.post("/account/token", &cookie, "purpose=&role=viewer&place=datacenter&days=30").await;
    assert!(refused.body.contains("purpose-error"), "{}", refused.body);
    let made =
        pages.post("/account/token", &cookie, "purpose=Backups&role=viewer&place=datacenter&days=30").await;
    assert!(made.body.contains("qxt_"));
    let page = pages.get("/account", &cookie).await.body;
    assert!(page.contains("Backups") && !page.contains("qxt_"));
}

#[tokio::test]
async fn users_are_made_changed_locked_and_removed() {
    let pages = Pages::start().await;
    pages.wants_a_session("/users").await;
    let cookie = pages.settled().await;
    let page = pages.get("/users", &cookie).await.body;
    assert!(page.contains("admin") && page.contains("Can sign in"), "{page}");

    let refused = pages.post("/users", &cookie, "username=%3Cb%3E&role=viewer").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains(r#"id="username-error""#) && !refused.body.contains("<b>\""));
    let made = pages.post("/users", &cookie, "username=ada&role=viewer").await.body;
    let password = made.split("id=\"password\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(pages.get("/users", &cookie).await.body.contains("Password not chosen yet"));

    // A viewer sees, and changes only a password.
    let ada = pages.sign_in("ada", &password).await;
    assert_eq!(ada.location, "/password");
    let ada = ada.cookie;
    pages.change_password(&ada, &password, PASSWORD, PASSWORD).await;
    let cluster = pages.get("/cluster", &ada).await;
    assert_eq!(cluster.status, StatusCode::OK);
    for hidden in ["Add a host", "Join a cluster", "Back up", "Join tokens"] {
        assert!(!cluster.body.contains(hidden), "{hidden}");
    }
    for path in ["/users", "/users/admin", "/activity", "/cluster/backup"] {
        let refused = pages.get(path, &ada).await;
        assert!(path == "/cluster/backup" || refused.status == StatusCode::FORBIDDEN, "{path}");
    }
    let refused = pages.post("/users/admin/lock", &ada, "").await;
    assert!(refused.status == StatusCode::FORBIDDEN && refused.body.contains("You may not"));

    // The last administrator stays; of two, one may go.
    let refused = pages.post("/users/admin/take", &cookie, "id=1").await;
    assert!(refused.body.contains("last administrator"), "{}", refused.body);
    let given = pages.post("/users/ada/give", &cookie, "role=administrator&place=datacenter").await;
    assert_eq!(given.location, "/users/ada");
    assert_eq!(pages.get("/users", &ada).await.status, StatusCode::OK);

    assert_eq!(pages.post("/users/ada/lock", &cookie, "").await.location, "/users/ada");
    assert!(pages.get("/overview", &ada).await.location.starts_with("/sign-in"));
    assert!(pages.sign_in("ada", "correct+horse+battery").await.body.contains("is locked"));
    assert_eq!(pages.post("/users/ada/unlock", &cookie, "").await.location, "/users/ada");
    let ada = pages.sign_in("ada", "correct+horse+battery").await.cookie;
    assert_eq!(pages.get("/overview", &ada).await.status, StatusCode::OK);
    pages.post("/users/ada/sign-out", &cookie, "").await;
    assert!(pages.get("/overview", &ada).await.location.starts_with("/sign-in"));

    let refused = pages.post("/users/ada/remove", &cookie, "name=somebody").await;
    assert!(refused.body.contains(r#"id="name-error""#), "{}", refused.body);
    assert_eq!(pages.post("/users/ada/remove", &cookie, "name=ada").await.location, "/users");
    assert_eq!(pages.get("/users/ada", &cookie).await.status, StatusCode::NOT_FOUND);
    for odd in ["/users/..%2fx/lock", "/users/ada/what", "/users/%C3%A4/lock"] {
        assert_eq!(pages.post(odd, &cookie, "").await.status, StatusCode::NOT_FOUND, "{odd}");
    }
    assert!(pages.get("/activity?text=remove%20user", &cookie).await.body.contains("ada"));
}

#[tokio::test]
async fn a_backup_is_downloaded_and_uploaded_again() {
    const PASSPHRASE: &str = "correct+horse+battery+staple";
    let pages = Pages::start().await;
    for path in ["/cluster/backup", "/cluster/restore"] {
        pages.wants_a_session(path).await;
        assert_eq!(pages.post(path, "", "").await.location, "/sign-in");
    }
    let cookie = pages.settled().await;
    for (form, says) in [
        (format!("passphrase={PASSPHRASE}&again=other"), r#"id="again-error""#),
        ("passphrase=short&again=short".to_owned(), r#"id="passphrase-error""#),
    ] {
        let refused = pages.post("/cluster/backup", &cookie, &form).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(says) && !refused.body.contains("short\""), "{}", refused.body);
    }
    let form = format!("passphrase={PASSPHRASE}&again={PASSPHRASE}");
    let made = pages.post("/cluster/backup", &cookie, &form).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    assert!(made.headers[header::CONTENT_DISPOSITION].to_str().unwrap().contains("filename=\"quantix-"));
    assert!(made.bytes.starts_with(b"age-encryption.org/v1\n"));

    let page = pages.get("/cluster/restore", &cookie).await.body;
    let name = page.split("<b class=\"mono\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    for (name, passphrase, file, says) in [
        ("somebody", "correct horse battery staple", &made.bytes[..], r#"id="name-error""#),
        (&name, "wrong horse battery staple", &made.bytes[..], r#"id="passphrase-error""#),
        (&name, "correct horse battery staple", &made.bytes[..300], r#"id="backup-error""#),
    ] {
        let refused = pages.upload("/cluster/restore", &cookie, name, passphrase, file).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(says), "{}", refused.body);
    }
    let done =
        pages.upload("/cluster/restore", &cookie, &name, "correct horse battery staple", &made.bytes).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.contains("begins again from the backup"), "{}", done.body);
}

#[tokio::test]
async fn what_cannot_be_done_with_the_cluster_is_said_beside_its_field() {
    let pages = Pages::start().await;
    let cookie = pages.settled().await;
    for (path, form, says) in [
        ("/cluster/join", "address=127.0.0.1%3A1&token=QUANTIX-0000-0000-0000-0000", r#"id="address-error""#),
        ("/cluster/join", "address=127.0.0.1&token=hello", r#"id="token-error""#),
        ("/cluster/leave", "name=somebody", "not the name of this host"),
        ("/cluster/voters", "wanted=2", "One, three or five"),
        ("/cluster/leader", "host=0123456789abcdef", "no such host"),
    ] {
        let answer = pages.post(path, &cookie, form).await;
        assert!(
            answer.status.is_client_error() || answer.status.is_server_error(),
            "{path} {}",
            answer.status
        );
        assert!(answer.body.contains(says), "{path}: {}", answer.body);
    }
    assert_eq!(
        pages.get("/cluster/hosts/0123456789abcdef/remove", &cookie).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(pages.post("/cluster/voters", &cookie, "wanted=3").await.location, "/cluster");
    assert!(pages.get("/cluster", &cookie).await.body.contains(r#"value="3" selected"#));
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
