//! Requests that are sent again because their answer was lost.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use quantix_api::{AgentClient, ListQuery, Secret, calls};

use crate::hosts::{Host, cluster_of};

async fn make_user(client: AgentClient, session: &Secret, key: &str, name: &str) -> (u16, Vec<u8>) {
    let request = axum::http::Request::post(calls::USERS_PATH)
        .header("authorization", format!("Bearer {}", session.expose()))
        .header("idempotency-key", key)
        .body(Full::new(Bytes::from(format!(r#"{{"username":"{name}","role":"viewer"}}"#))));
    let answer = client.begin(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_is_done_once_on_any_host() {
    let (hosts, session) = cluster_of(2).await;
    let first = make_user(hosts[0].client(), &session, "one", "ada").await;
    assert_eq!(first.0, 201);
    // The password is shown once, and again to nobody but who did not hear it.
    assert_eq!(make_user(hosts[1].client(), &session, "one", "ada").await, first);
    assert_eq!(
        make_user(hosts[0].client(), &session, "one", "ben").await.0,
        409,
        "another request with the same key"
    );
    assert_eq!(make_user(hosts[0].client(), &session, "two", "ada").await.0, 422, "ada is there");
    // What was refused has used no key.
    assert_eq!(make_user(hosts[0].client(), &session, "two", "cem").await.0, 201);
    let users =
        hosts[0].client().call(&calls::users(&ListQuery::default()).as_session(&session)).await.unwrap();
    let names: Vec<_> = users.items.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(names, ["ada", "admin", "cem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_many_times_at_once_is_done_once() {
    let host = Host::start("qx-0");
    let session = host.settled().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, session) = (host.client(), session.clone());
        asking.spawn(async move { make_user(client, &session, "one", "ada").await.0 });
    }
    let answers = asking.join_all().await;
    assert!(answers.contains(&201), "{answers:?}");
    // One comes too late, or finds the line in front of the hash full.
    assert!(answers.iter().all(|status| [201, 409, 503].contains(status)), "{answers:?}");
    let users = host.client().call(&calls::users(&ListQuery::default()).as_session(&session)).await.unwrap();
    assert_eq!(users.items.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_without_end_is_told_to_wait_and_nobody_else_is() {
    let host = Host::start("qx-0");
    let session = host.settled().await;
    let guess = Secret::new("0".repeat(64));
    let ask = async |from: &str, session: &Secret| {
        let request = axum::http::Request::get(calls::CLUSTER_PATH)
            .header("authorization", format!("Bearer {}", session.expose()))
            .header(quantix_api::CLIENT_ADDRESS_HEADER, from)
            .body(Full::new(Bytes::new()));
        host.client().begin(request.unwrap()).await.unwrap().status().as_u16()
    };
    let mut answers = Vec::new();
    for _ in 0..400 {
        answers.push(ask("192.0.2.1", &guess).await);
    }
    assert_eq!(answers.first(), Some(&401));
    assert!(answers.contains(&429), "a stranger is not slowed down");
    assert_eq!(ask("192.0.2.2", &guess).await, 401, "another stranger");
    assert_eq!(ask("192.0.2.2", &session).await, 200);
}
