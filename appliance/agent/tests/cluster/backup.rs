//! A cluster's data that leaves as a file, and hosts that begin again from it.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use quantix_api::{CheckState, MakeBackup, Problem, ProblemCode, Secret, calls};

use crate::hosts::{Host, cluster_of, until};

const PASSPHRASE: &str = "correct horse battery staple";

async fn backup(host: &Host, session: &Secret, passphrase: &str) -> Result<Bytes, Problem> {
    let call = calls::backup(&MakeBackup { passphrase: Secret::new(passphrase) }).as_session(session);
    let request = call.request().unwrap().map(Full::new);
    let answer = host.client().begin(request).await.unwrap();
    let is_made = answer.status().is_success();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    if is_made { Ok(body) } else { Err(serde_json::from_slice(&body).unwrap()) }
}

async fn restore(
    host: &Host,
    session: &Secret,
    name: &str,
    passphrase: &str,
    file: &[u8],
) -> Result<(), Problem> {
    let mut form = Vec::new();
    for (field, value) in [("name", name.as_bytes()), ("passphrase", passphrase.as_bytes()), ("backup", file)]
    {
        form.extend(
            format!("--line\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n").into_bytes(),
        );
        form.extend(value);
        form.extend(b"\r\n");
    }
    form.extend(b"--line--\r\n");
    let request = axum::http::Request::builder()
        .method("POST")
        .uri(calls::RESTORE_PATH)
        .header("authorization", format!("Bearer {}", session.expose()))
        .header("content-type", "multipart/form-data; boundary=line")
        .body(Full::new(Bytes::from(form)))
        .unwrap();
    let answer = host.client().begin(request).await.unwrap();
    let is_done = answer.status().is_success();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    if is_done { Ok(()) } else { Err(serde_json::from_slice(&body).unwrap()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_host_begins_again_with_what_a_cluster_had() {
    let (mut hosts, session) = cluster_of(3).await;
    let made = hosts[0].make_token(&session, 5).await;
    let short = backup(&hosts[1], &session, "short").await.unwrap_err();
    assert_eq!(short.field.as_deref(), Some("passphrase"));
    // Any host gives it, also one that hears no others.
    let file = backup(&hosts[1], &session, PASSPHRASE).await.unwrap();
    assert!(hosts[0].outcomes().len() > 2);
    let refused = restore(&hosts[1], &session, "qx-1", PASSPHRASE, &file).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::Forbidden, "{refused}");
    hosts.iter_mut().for_each(Host::kill);

    // The name of a host that was in it is no obstacle.
    let fresh = Host::start("qx-1");
    let own = fresh.settled().await;
    let id = fresh.cluster(&own).await.unwrap().this_host;
    let cut = &file[..file.len() / 2];
    for (name, passphrase, file, field) in [
        ("qx-0", PASSPHRASE, &file[..], "name"),
        ("qx-1", "wrong horse battery", &file[..], "passphrase"),
        ("qx-1", PASSPHRASE, cut, "backup"),
        ("qx-1", PASSPHRASE, &b"SQLite format 3\0"[..], "backup"),
    ] {
        let refused = restore(&fresh, &own, name, passphrase, file).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field), "{refused}");
        assert_eq!(fresh.cluster(&own).await.unwrap().this_host, id);
    }
    restore(&fresh, &own, "qx-1", PASSPHRASE, &file).await.unwrap();
    until("it is another host", async || {
        let Ok(cluster) = fresh.cluster(&session).await else { return false };
        cluster.writable && cluster.this_host != id && cluster.hosts.len() == 1
    })
    .await;
    let session = fresh.sign_in().await;
    let tokens = fresh.client().call(&calls::join_tokens().as_session(&session)).await.unwrap();
    assert!(tokens.items.iter().any(|token| token.id == made.kept.id));
    until("the old hosts are forgotten", async || {
        fresh.cluster(&session).await.is_ok_and(|cluster| cluster.hosts[0].name == "qx-1")
    })
    .await;

    // Others join it, with a token of the old cluster as well.
    let another = Host::start("qx-2");
    let own = another.settled().await;
    another.join(&own, &fresh, &made.token).await.unwrap();
    until("it is in", async || another.cluster(&session).await.is_ok_and(|now| now.hosts.len() == 2)).await;
    let readiness = another.client().call(&calls::ready()).await.unwrap();
    assert!(readiness.checks.iter().any(|check| check.name == "store" && check.state == CheckState::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_lost_the_others_gives_what_it_has() {
    let (mut hosts, session) = cluster_of(3).await;
    hosts[0].kill();
    hosts[1].kill();
    hosts[2].hears_too_few(&session).await;
    let own = hosts[2].sign_in().await;
    let file = backup(&hosts[2], &own, PASSPHRASE).await.unwrap();
    assert!(file.starts_with(b"age-encryption.org/v1\n"));
}
