//! The certificate of the pages, on the real program: put in place, told to the page server and to nobody else, and
//! whole after whatever happens.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use axum::http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use quantix_api::{
    AgentClient, CLIENT_ADDRESS_HEADER, CallError, CertificateSource, ChangePassword, CheckState,
    NewCertificateRequest, PAGES_CERTIFICATE_PATH, PageCertificate, ProblemCode, Secret, SignIn, ToShow,
    UploadCertificate, calls, connection::Arriving,
};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, Issuer, KeyPair};

const PASSWORD: &str = "correct horse battery";

struct Agent {
    child: Child,
    dir: tempfile::TempDir,
    session: Secret,
    id: String,
}

impl Agent {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let child = spawn(&dir);
        let mut agent = Self { child, dir, session: Secret::new(""), id: String::new() };
        agent.ready().await;
        let first = agent.client().call(&calls::console()).await.unwrap().first_password.unwrap();
        let body = SignIn { username: "admin".into(), password: first.clone() };
        agent.session = agent.client().call(&calls::sign_in(&body)).await.unwrap().token;
        let change = ChangePassword { current: first, new: Secret::new(PASSWORD) };
        agent.client().call(&calls::change_password(&change).as_session(&agent.session)).await.unwrap();
        let cluster = agent.client().call(&calls::cluster().as_session(&agent.session)).await.unwrap();
        agent.id = cluster.this_host;
        agent
    }

    fn client(&self) -> AgentClient {
        AgentClient::new(self.dir.path().join("run/api.sock"))
    }

    async fn ready(&self) {
        let start = Instant::now();
        loop {
            if let Ok(readiness) = self.client().call(&calls::ready()).await
                && ["store", "account"].iter().all(|name| {
                    readiness.checks.iter().any(|check| check.name == *name && check.state == CheckState::Ok)
                })
            {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "quantixd did not come up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.dir);
        self.ready().await;
    }

    fn tls(&self, file: &str) -> PathBuf {
        self.dir.path().join("state/tls").join(file)
    }

    async fn show(&self) -> PageCertificate {
        self.client().call(&calls::certificate(&self.id).as_session(&self.session)).await.unwrap()
    }

    async fn upload(&self, body: &UploadCertificate) -> Result<PageCertificate, CallError> {
        self.client().call(&calls::upload_certificate(&self.id, body).as_session(&self.session)).await
    }

    /// What the page server asks for, with more headers.
    async fn ask_as_pages(&self, headers: &[(&str, &str)]) -> Response<Arriving> {
        let mut request = Request::get(PAGES_CERTIFICATE_PATH).header(header::HOST, "agent");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client().begin(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }

    async fn check(&self) -> (CheckState, String) {
        let readiness = self.client().call(&calls::ready()).await.unwrap();
        let check = readiness.checks.into_iter().find(|check| check.name == "certificate").unwrap();
        (check.state, check.detail)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the program under test is a process")]
fn spawn(dir: &tempfile::TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_quantixd"))
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .arg("--run-dir")
        .arg(dir.path().join("run"))
        .args(["--hosts", "127.0.0.1:0", "--name", "qx-01"])
        .spawn()
        .unwrap()
}

/// The next line of a stream.
async fn told(answer: &mut Response<Arriving>) -> ToShow {
    let frame = tokio::time::timeout(Duration::from_secs(10), answer.body_mut().frame()).await.unwrap();
    serde_json::from_slice(&frame.unwrap().unwrap().into_data().unwrap()).unwrap()
}

struct Lab(Issuer<'static, KeyPair>);

impl Lab {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Lab");
        Self(Issuer::new(params, KeyPair::generate().unwrap()))
    }

    fn sign(&self, name: &str, years: (i32, i32)) -> UploadCertificate {
        self.sign_until(name, years.0, (years.1, 1, 1))
    }

    fn sign_until(&self, name: &str, from: i32, (year, month, day): (i32, u8, u8)) -> UploadCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        UploadCertificate { chain, key: Some(Secret::new(key.serialize_pem())), accept_warnings: false }
    }
}

#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, CallError>) -> (ProblemCode, Option<String>) {
    match result.unwrap_err() {
        CallError::Problem(problem) => (problem.code, problem.field),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_uploaded_is_shown_at_once_and_after_a_kill_and_taken_back() {
    let mut agent = Agent::start().await;
    let own = agent.show().await;
    assert_eq!((own.source, own.host_name.as_str()), (CertificateSource::SelfSigned, "qx-01"));
    let mut pages = agent.ask_as_pages(&[]).await;
    assert_eq!(pages.status(), StatusCode::OK);
    let first = told(&mut pages).await;

    let upload = Lab::new().sign("qx-01.lab.example", (2020, 2100));
    let shown = agent.upload(&upload).await.unwrap();
    assert_eq!(shown.source, CertificateSource::Uploaded);
    assert_eq!(shown.shown.names, ["qx-01.lab.example"]);
    let second = told(&mut pages).await;
    assert!(second != first && second.key.expose().contains("PRIVATE KEY"));
    let console = agent.client().call(&calls::console()).await.unwrap();
    assert_eq!(console.certificate_fingerprint, shown.shown.fingerprint);
    let mode = std::fs::metadata(agent.tls("pages.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    agent.restart().await;
    let mut pages = agent.ask_as_pages(&[]).await;
    assert_eq!(told(&mut pages).await, second);
    assert_eq!(agent.show().await.shown, shown.shown);
    let reset = calls::reset_certificate(&agent.id).as_session(&agent.session);
    let back = agent.client().call(&reset).await.unwrap();
    assert_eq!(back.shown.fingerprint, own.shown.fingerprint);
    assert_eq!(told(&mut pages).await, first);
    assert!(!agent.tls("pages.json").exists());
}

#[tokio::test]
async fn the_key_is_told_to_the_page_server_alone_and_for_nobody() {
    let agent = Agent::start().await;
    let bearer = format!("Bearer {}", agent.session.expose());
    for headers in [(CLIENT_ADDRESS_HEADER, "192.0.2.1"), ("authorization", bearer.as_str())] {
        let refused = agent.ask_as_pages(&[headers]).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("PRIVATE"));
    }
    // What people see has no key.
    let shown = serde_json::to_string(&agent.show().await).unwrap();
    assert!(!shown.contains("PRIVATE"), "{shown}");
    let audit =
        agent.client().call(&calls::audit(&Default::default()).as_session(&agent.session)).await.unwrap();
    assert!(!serde_json::to_string(&audit).unwrap().contains("PRIVATE"));
}

#[tokio::test]
async fn a_certificate_is_whole_whenever_the_agent_is_killed() {
    let mut agent = Agent::start().await;
    let lab = Lab::new();
    let uploads: Vec<_> = (0..6).map(|_| lab.sign("qx-01", (2020, 2100))).collect();
    for (number, upload) in uploads.iter().enumerate() {
        let before = agent.show().await.shown.fingerprint;
        let (client, id, session, body) =
            (agent.client(), agent.id.clone(), agent.session.clone(), upload.clone());
        let asked = tokio::spawn(async move {
            client.call(&calls::upload_certificate(&id, &body).as_session(&session)).await
        });
        tokio::time::sleep(Duration::from_micros(u64::try_from(number).unwrap() * 1500)).await;
        agent.restart().await;
        let answered = asked.await.unwrap();
        let after = agent.show().await;
        let is_new = after.shown.fingerprint != before;
        // Whoever heard that it was done finds it done.
        assert!(is_new || answered.is_err());
        assert!(after.trouble.is_none(), "{:?}", after.trouble);
        let mut pages = agent.ask_as_pages(&[]).await;
        let told = told(&mut pages).await;
        assert!(told.key.expose().contains("PRIVATE KEY") && told.chain.contains("CERTIFICATE"));
    }
}

#[tokio::test]
async fn a_damaged_file_leaves_the_host_s_own_certificate_and_says_so() {
    let mut agent = Agent::start().await;
    let own = agent.show().await.shown.fingerprint;
    agent.upload(&Lab::new().sign("qx-01", (2020, 2100))).await.unwrap();
    agent.kill();
    let file = agent.tls("pages.json");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    agent.child = spawn(&agent.dir);
    agent.ready().await;
    assert_eq!(agent.show().await.shown.fingerprint, own);
    let (state, detail) = agent.check().await;
    assert_eq!(state, CheckState::Warn);
    assert!(detail.contains("Upload it again"), "{detail}");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_leaves_everything_as_it_was() {
    let agent = Agent::start().await;
    let lab = Lab::new();
    let shown = agent.upload(&lab.sign("qx-01", (2020, 2100))).await.unwrap();
    // A folder where the new file is written beside the old one: not even root can write there.
    std::fs::create_dir_all(agent.tls("pages.json.new/x")).unwrap();
    let refused = agent.upload(&lab.sign("qx-01", (2020, 2100))).await;
    assert_eq!(problem(refused).0, ProblemCode::StorageUnavailable);
    assert_eq!(agent.show().await.shown, shown.shown);
}

#[tokio::test]
async fn two_people_at_once_leave_one_of_their_certificates_whole() {
    let agent = Agent::start().await;
    let lab = Lab::new();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, id, session) = (agent.client(), agent.id.clone(), agent.session.clone());
        let body = lab.sign("qx-01", (2020, 2100));
        asked.spawn(async move {
            client
                .call(&calls::upload_certificate(&id, &body).as_session(&session))
                .await
                .unwrap()
                .shown
                .fingerprint
        });
    }
    let fingerprints = asked.join_all().await;
    let shown = agent.show().await.shown.fingerprint;
    assert!(fingerprints.contains(&shown));
    let kept = std::fs::read_to_string(agent.tls("pages.json")).unwrap();
    let mut pages = agent.ask_as_pages(&[]).await;
    let told = told(&mut pages).await;
    assert!(kept.contains(&told.chain.replace('\n', "\\n")));
}

#[tokio::test]
async fn a_request_is_answered_by_its_certificate_without_a_key() {
    let mut agent = Agent::start().await;
    let body =
        NewCertificateRequest { names: vec!["qx-01.lab.example".into()], organization: Some("Lab".into()) };
    let call = calls::make_certificate_request(&agent.id, &body).as_session(&agent.session);
    let made = agent.client().call(&call).await.unwrap().request.unwrap();
    agent.restart().await;
    assert_eq!(agent.show().await.request.as_ref(), Some(&made));

    let lab = Lab::new();
    let wrong = UploadCertificate { key: None, ..lab.sign("qx-01", (2020, 2100)) };
    assert_eq!(problem(agent.upload(&wrong).await), (ProblemCode::Invalid, Some("chain".into())));
    let request = CertificateSigningRequestParams::from_pem(&made.pem).unwrap();
    let chain = request.signed_by(&lab.0).unwrap().pem();
    let right = UploadCertificate { chain, key: None, accept_warnings: false };
    let shown = agent.upload(&right).await.unwrap();
    assert_eq!((shown.source, shown.request), (CertificateSource::Uploaded, None));
    assert!(!agent.tls("request.json").exists());
}

#[tokio::test]
async fn a_certificate_that_ends_soon_or_has_ended_is_told() {
    let agent = Agent::start().await;
    let lab = Lab::new();
    assert_eq!(
        problem(agent.upload(&lab.sign("qx-01", (2020, 2021))).await),
        (ProblemCode::Invalid, Some("chain".into()))
    );
    assert_eq!(
        problem(agent.upload(&lab.sign("www.example.org", (2020, 2100))).await),
        (ProblemCode::Invalid, Some("accept_warnings".into()))
    );
    let soon = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .saturating_add(jiff::Span::new().days(10));
    let soon = (i32::from(soon.year()), soon.month().unsigned_abs(), soon.day().unsigned_abs());
    let shown = agent.upload(&lab.sign_until("qx-01", 2020, soon)).await.unwrap();
    let (state, detail) = agent.check().await;
    assert_eq!(state, CheckState::Warn);
    assert!(detail.contains("expires on") && detail.contains("Upload another"), "{detail}");
    assert_eq!(shown.trouble, Some(detail));
    agent.upload(&lab.sign("qx-01", (2020, 2100))).await.unwrap();
    assert_eq!(agent.check().await.0, CheckState::Ok);
}

#[tokio::test]
async fn another_host_s_certificate_is_not_made_up_here() {
    let agent = Agent::start().await;
    for host in ["0123456789abcdef", "..", "x"] {
        let call = calls::certificate(host).as_session(&agent.session);
        assert_eq!(problem(agent.client().call(&call).await).0, ProblemCode::NotFound, "{host}");
    }
}
