//! Each host's certificate is its own, whichever host is asked about it.

use quantix_api::{AuditQuery, CertificateSource, ProblemCode, Secret, UploadCertificate, calls};
use rcgen::{CertificateParams, KeyPair};

use crate::hosts::{cluster_of, problem, until};

fn upload(name: &str) -> (UploadCertificate, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    // A line of the key that is nowhere else.
    let line = key.serialize_pem().lines().nth(1).unwrap().to_owned();
    (UploadCertificate { chain, key: Some(Secret::new(key.serialize_pem())), accept_warnings: false }, line)
}

#[tokio::test]
async fn a_certificate_goes_to_its_host_and_its_key_to_no_other() {
    let (hosts, session) = cluster_of(2).await;
    let mut ids = Vec::new();
    for host in &hosts {
        ids.push(host.cluster(&session).await.unwrap().this_host);
    }
    for (asked, about) in [(0, 1), (1, 0), (1, 1)] {
        let (body, key_line) = upload(&hosts[about].name);
        let call = calls::upload_certificate(&ids[about], &body).as_session(&session);
        let shown = hosts[asked].client().call(&call).await.unwrap();
        assert_eq!((shown.host.as_str(), shown.source), (ids[about].as_str(), CertificateSource::Uploaded));
        let console = hosts[about].client().call(&calls::console()).await.unwrap();
        assert_eq!(console.certificate_fingerprint, shown.shown.fingerprint);
        let other = hosts[1 - about].client().call(&calls::console()).await.unwrap();
        assert_ne!(other.certificate_fingerprint, shown.shown.fingerprint);
        let seen = calls::certificate(&ids[about]).as_session(&session);
        assert_eq!(hosts[asked].client().call(&seen).await.unwrap().shown, shown.shown);
        assert!(hosts[about].holds(&key_line));
        assert!(!hosts[1 - about].holds(&key_line));
    }
    // Whoever may not is refused by the host that is asked in the end.
    let call = calls::certificate(&ids[1]).as_session(&Secret::new("00".repeat(32)));
    assert_eq!(problem(hosts[0].client().call(&call).await).code, ProblemCode::SignInNeeded);
    let query = AuditQuery { text: Some("upload certificate".into()), ..AuditQuery::default() };
    until("who did it is written down", async || {
        let lines = hosts[0].client().call(&calls::audit(&query).as_session(&session)).await;
        lines.is_ok_and(|lines| lines.items.len() == 3)
    })
    .await;
}
