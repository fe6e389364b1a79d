//! Who may do what: every route, asked by everybody.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use quantix_api::{ChangePassword, NewUser, Problem, Role, Secret, SignIn, calls};

use crate::hosts::{Host, PASSWORD};

/// Who is let through to what a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Anybody,
    /// Somebody signed in, also one who must choose a password first.
    Session,
    Viewer,
    Administrator,
}

/// Every route but the one of the machine's own screen. What is asked for does no harm when it is let through.
fn routes() -> Vec<(&'static str, String, &'static str, Who)> {
    use Who::{Administrator, Anybody, Session, Viewer};
    let under = |path: &str, rest: &str| format!("{path}/{rest}");
    vec![
        ("GET", calls::READY_PATH.into(), "", Anybody),
        ("POST", calls::SESSION_PATH.into(), "{}", Anybody),
        ("GET", calls::SESSION_PATH.into(), "", Session),
        ("PUT", calls::SESSION_PATH.into(), "", Session),
        ("PUT", calls::PASSWORD_PATH.into(), r#"{"current":"wrong","new":"short"}"#, Session),
        ("GET", calls::HOST_PATH.into(), "", Viewer),
        ("GET", calls::CLUSTER_PATH.into(), "", Viewer),
        ("GET", calls::USERS_PATH.into(), "", Administrator),
        ("POST", calls::USERS_PATH.into(), r#"{"username":"../x","role":"viewer"}"#, Administrator),
        ("PATCH", under(calls::USERS_PATH, "nobody"), r#"{"locked":true}"#, Administrator),
        ("DELETE", under(calls::USERS_PATH, "nobody"), "", Administrator),
        ("POST", under(calls::USERS_PATH, "nobody/password"), "", Administrator),
        ("DELETE", under(calls::USERS_PATH, "nobody/sessions"), "", Administrator),
        ("GET", calls::AUDIT_PATH.into(), "", Administrator),
        ("POST", calls::JOIN_PATH.into(), r#"{"address":"127.0.0.1","token":"hello"}"#, Administrator),
        ("POST", calls::LEAVE_PATH.into(), "", Administrator),
        ("POST", calls::RECOVER_PATH.into(), r#"{"name":"nobody"}"#, Administrator),
        ("POST", calls::BACKUP_PATH.into(), r#"{"passphrase":"short"}"#, Administrator),
        ("POST", calls::RESTORE_PATH.into(), "--line--\r\n", Administrator),
        ("GET", calls::TOKENS_PATH.into(), "", Administrator),
        ("POST", calls::TOKENS_PATH.into(), r#"{"purpose":"","hours":1,"uses":1}"#, Administrator),
        ("DELETE", under(calls::TOKENS_PATH, "0123456789abcdef"), "", Administrator),
        ("PUT", calls::LEADER_PATH.into(), r#"{"host":"0123456789abcdef"}"#, Administrator),
        ("PUT", calls::VOTERS_PATH.into(), r#"{"wanted":2}"#, Administrator),
        ("DELETE", under(calls::HOSTS_PATH, "0123456789abcdef"), r#"{"name":"nobody"}"#, Administrator),
    ]
}

async fn asked(host: &Host, method: &str, path: &str, body: &str, session: Option<&Secret>) -> (u16, String) {
    let kind =
        if path == calls::RESTORE_PATH { "multipart/form-data; boundary=line" } else { "application/json" };
    let mut request = axum::http::Request::builder().method(method).uri(path).header("content-type", kind);
    if let Some(session) = session {
        request = request.header("authorization", format!("Bearer {}", session.expose()));
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let answer = host.client().begin(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: Option<Problem> = serde_json::from_slice(&body).ok();
    (status, problem.map(|problem| problem.detail).unwrap_or_default())
}

/// A user of a role with a session, and one who must choose a password first.
async fn user(host: &Host, admin: &Secret, name: &str, role: Role) -> (Secret, Secret) {
    let new = NewUser { username: name.into(), role };
    let made = host.client().call(&calls::make_user(&new).as_session(admin)).await.unwrap();
    let sign_in = |password: Secret| SignIn { username: name.into(), password };
    let first = host.client().call(&calls::sign_in(&sign_in(made.password.clone()))).await.unwrap();
    assert!(first.info.must_change_password && first.info.role == role);
    let change = ChangePassword { current: made.password.clone(), new: Secret::new(PASSWORD) };
    host.client().call(&calls::change_password(&change).as_session(&first.token)).await.unwrap();
    let made = host.client().call(&calls::reset_password(name).as_session(admin)).await.unwrap();
    let again = host.client().call(&calls::sign_in(&sign_in(made.password.clone()))).await.unwrap();
    let change = ChangePassword { current: made.password, new: Secret::new(PASSWORD) };
    let new = NewUser { username: format!("{name}-new"), role };
    let fresh = host.client().call(&calls::make_user(&new).as_session(admin)).await.unwrap();
    host.client().call(&calls::change_password(&change).as_session(&again.token)).await.unwrap();
    let fresh = SignIn { username: new.username, password: fresh.password };
    let fresh = host.client().call(&calls::sign_in(&fresh)).await.unwrap();
    (again.token, fresh.token)
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_they_may_and_nothing_else() {
    let host = Host::start("qx-0");
    let admin = host.settled().await;
    let (viewer, fresh_viewer) = user(&host, &admin, "ada", Role::Viewer).await;
    let (other_admin, fresh_admin) = user(&host, &admin, "ben", Role::Administrator).await;
    let guessed = Secret::new("0".repeat(64));
    let people = [
        ("nobody", None, Who::Anybody),
        ("somebody who guesses", Some(&guessed), Who::Anybody),
        ("a new viewer", Some(&fresh_viewer), Who::Session),
        ("a new administrator", Some(&fresh_admin), Who::Session),
        ("a viewer", Some(&viewer), Who::Viewer),
        ("an administrator", Some(&other_admin), Who::Administrator),
        ("the first administrator", Some(&admin), Who::Administrator),
    ];
    for (method, path, body, needs) in routes() {
        for (who, session, is) in people {
            let (status, detail) = asked(&host, method, &path, body, session).await;
            // Joining is for a host whose first password was not even changed; only its role counts.
            let joins_early = path == calls::JOIN_PATH && who == "a new administrator";
            let is_let_through = is >= needs || joins_early;
            let refused = match is {
                Who::Anybody => 401,
                _ => 403,
            };
            assert_eq!(
                status != refused,
                is_let_through,
                "{who}: {method} {path} was answered {status} {detail}"
            );
            // Without libvirt and the rest the host itself is not ready.
            assert!(status < 500 || path == calls::READY_PATH, "{method} {path}: {status} {detail}");
        }
    }
    let session = host.client().call(&calls::session().as_session(&admin)).await.unwrap();
    assert_eq!(session.role, Role::Administrator);
}

#[test]
fn no_route_is_missing() {
    let source = include_str!("../../src/api/mod.rs");
    let mut paths: Vec<_> = routes()
        .into_iter()
        .map(|(_, path, _, _)| path.replace("nobody", "{}").replace("0123456789abcdef", "{}"))
        .collect();
    paths.sort_unstable();
    paths.dedup();
    // The machine's own screen asks one more, which no session opens.
    assert_eq!(source.matches(".route(").count(), paths.len() + 1, "{paths:#?}");
}
