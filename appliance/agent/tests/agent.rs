//! The real program on a socket of its own: what a person's sign-in goes through, and what a stranger tries.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

use std::{
    io::{Read, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use quantix_api::{
    AgentClient, CallError, ChangePassword, CheckState, ProblemCode, Secret, Session, SignIn, calls,
};

const PASSWORD: &str = "correct horse battery";

struct Agent {
    child: Child,
    dir: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        Self { child: spawn(&dir), dir }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.dir);
    }

    fn state(&self, file: &str) -> PathBuf {
        self.dir.path().join("state").join(file)
    }

    fn client(&self) -> AgentClient {
        AgentClient::new(self.dir.path().join("run/api.sock"))
    }

    async fn first_password(&self) -> Secret {
        self.ready().await;
        self.client().call(&calls::console()).await.unwrap().first_password.unwrap()
    }

    /// Waits until people can sign in and data can be changed.
    async fn ready(&self) {
        let start = Instant::now();
        loop {
            let readiness = self.client().call(&calls::ready()).await.unwrap();
            let works = |name: &str| {
                readiness.checks.iter().any(|check| check.name == name && check.state == CheckState::Ok)
            };
            if works("store") && works("account") {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{readiness:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn sign_in_from(&self, from: &str, password: &str) -> Result<Session, CallError> {
        let body = SignIn { username: "admin".into(), password: Secret::new(password) };
        let from: IpAddr = from.parse().unwrap();
        self.client().call(&calls::sign_in(&body).for_client(from)).await
    }

    async fn sign_in(&self, password: &str) -> Result<Session, CallError> {
        self.sign_in_from("192.0.2.10", password).await
    }

    /// Signs in with the first password and changes it to `PASSWORD`.
    async fn settled(&self) -> Session {
        let first = self.first_password().await;
        let session = self.sign_in(first.expose()).await.unwrap();
        let change = ChangePassword { current: first, new: Secret::new(PASSWORD) };
        self.client().call(&calls::change_password(&change).as_session(&session.token)).await.unwrap();
        session
    }

    /// A line of the process's memory as the kernel counts it.
    fn memory_mib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|text| text.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Sends bytes as they are and gives the status of the answer.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("run/api.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split_whitespace().nth(1).unwrap_or("no answer").to_owned()
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
    let child = Command::new(env!("CARGO_BIN_EXE_quantixd"))
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .arg("--run-dir")
        .arg(dir.path().join("run"))
        .args(["--hosts", "127.0.0.1:0"])
        .spawn()
        .unwrap();
    let start = Instant::now();
    while UnixStream::connect(dir.path().join("run/api.sock")).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "quantixd did not come up");
        std::thread::yield_now();
    }
    child
}

#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, CallError>) -> ProblemCode {
    match result.unwrap_err() {
        CallError::Problem(problem) => problem.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_first_password_must_be_changed_before_anything_else() {
    let agent = Agent::start();
    let first = agent.first_password().await;
    let session = agent.sign_in(first.expose()).await.unwrap();
    assert!(session.info.must_change_password);
    assert_eq!(
        problem(agent.client().call(&calls::host().as_session(&session.token)).await),
        ProblemCode::PasswordChangeNeeded
    );
    let session = agent.settled().await;
    assert!(agent.client().call(&calls::host().as_session(&session.token)).await.is_ok());
    assert!(agent.client().call(&calls::console()).await.unwrap().first_password.is_none());
    assert_eq!(problem(agent.sign_in(first.expose()).await), ProblemCode::WrongCredentials);
    assert!(!agent.sign_in(PASSWORD).await.unwrap().info.must_change_password);
}

#[tokio::test]
async fn a_session_ends_when_its_person_signs_out_or_changes_the_password_elsewhere() {
    let agent = Agent::start();
    let here = agent.settled().await;
    let elsewhere = agent.sign_in(PASSWORD).await.unwrap();
    let change = ChangePassword { current: Secret::new(PASSWORD), new: Secret::new("a better password") };
    agent.client().call(&calls::change_password(&change).as_session(&elsewhere.token)).await.unwrap();
    assert_eq!(
        problem(agent.client().call(&calls::session().as_session(&here.token)).await),
        ProblemCode::SignInNeeded
    );
    agent.client().call(&calls::sign_out().as_session(&elsewhere.token)).await.unwrap();
    assert_eq!(
        problem(agent.client().call(&calls::session().as_session(&elsewhere.token)).await),
        ProblemCode::SignInNeeded
    );
}

#[tokio::test]
async fn a_new_password_needs_the_present_one_and_must_be_a_good_one() {
    let agent = Agent::start();
    let session = agent.settled().await;
    for (current, new) in
        [("not the password", "a better password"), (PASSWORD, "short"), (PASSWORD, PASSWORD)]
    {
        let change = ChangePassword { current: Secret::new(current), new: Secret::new(new) };
        let result = agent.client().call(&calls::change_password(&change).as_session(&session.token)).await;
        assert_eq!(problem(result), ProblemCode::Invalid);
    }
    assert!(agent.sign_in(PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_slowed_down_and_keeps_nobody_else_out() {
    let agent = Agent::start();
    agent.settled().await;
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(problem(agent.sign_in_from("198.51.100.9", "wrong").await));
    }
    assert_eq!(answers[0], ProblemCode::WrongCredentials);
    assert_eq!(answers[7], ProblemCode::TooManyAttempts);
    assert_eq!(problem(agent.sign_in_from("198.51.100.9", PASSWORD).await), ProblemCode::TooManyAttempts);
    assert!(agent.sign_in_from("192.0.2.10", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_kill_loses_neither_password_nor_certificate() {
    let mut agent = Agent::start();
    agent.settled().await;
    let before = agent.client().call(&calls::console()).await.unwrap();
    agent.restart();
    agent.ready().await;
    let after = agent.client().call(&calls::console()).await.unwrap();
    assert_eq!(before.certificate_fingerprint, after.certificate_fingerprint);
    assert!(after.first_password.is_none());
    assert!(agent.sign_in(PASSWORD).await.is_ok());
}

#[tokio::test]
async fn damaged_data_lets_nobody_in_and_says_so() {
    let mut agent = Agent::start();
    agent.settled().await;
    agent.kill();
    let log = agent.state("cluster/store/log.db");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[..4096].fill(7);
    std::fs::write(&log, bytes).unwrap();
    agent.child = spawn(&agent.dir);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let readiness = agent.client().call(&calls::ready()).await.unwrap();
    assert!(!readiness.ready);
    let store = readiness.checks.iter().find(|check| check.name == "store").unwrap();
    assert!(store.detail.contains("cannot be used"), "{}", store.detail);
    assert_eq!(problem(agent.sign_in(PASSWORD).await), ProblemCode::StorageUnavailable);
}

#[tokio::test]
async fn what_is_not_a_request_gets_the_right_refusal_and_does_no_harm() {
    let agent = Agent::start();
    let post = |body: &str| {
        let length = body.len();
        format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    agent.ready().await;
    assert_eq!(agent.raw(post("{\"username\":\"admin\"").as_bytes()), "400");
    assert_eq!(agent.raw(post("{\"username\":1,\"password\":\"x\"}").as_bytes()), "400");
    assert_eq!(
        agent.raw(post("{\"username\":\"admin\",\"password\":\"x\",\"role\":\"root\"}").as_bytes()),
        "400"
    );
    assert_eq!(agent.raw(post(&"x".repeat(quantix_api::MAX_BODY_BYTES + 1)).as_bytes()), "413");
    // Who is refused before their request was read sends it to its end, and is told.
    for (method, refused) in [("PUT", "401"), ("OPTIONS", "405")] {
        let head =
            format!("{method} /api/v1/images/1/content?at=0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        let body = "x".repeat(quantix_api::MAX_PIECE_BYTES);
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(agent.raw(request.as_bytes()), refused, "{method}");
    }
    assert_eq!(agent.raw(b"GET /etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "404");
    assert_eq!(agent.raw(b"GET /api/v1/../../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "404");
    assert_eq!(agent.raw(b"PATCH /api/v1/session HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "405");
    assert_eq!(agent.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01"), "400");
    assert_eq!(agent.raw(b"GET /api/v1/host HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "401");
    assert_eq!(
        agent.raw(
            b"GET /api/v1/host HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer 00\r\nConnection: close\r\n\r\n"
        ),
        "401"
    );
    assert!(agent.sign_in(agent.first_password().await.expose()).await.is_ok());
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_said_and_the_agent_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the folder should be: not even root can write below it.
    std::fs::write(dir.path().join("state"), b"").unwrap();
    let agent = Agent { child: spawn(&dir), dir };
    let readiness = agent.client().call(&calls::ready()).await.unwrap();
    let failed =
        |name| readiness.checks.iter().any(|check| check.name == name && check.state == CheckState::Failed);
    assert!(!readiness.ready && failed("account") && failed("certificate"));
}

#[tokio::test]
async fn no_session_opened_with_the_old_password_outlives_its_change() {
    let agent = Agent::start();
    let session = agent.settled().await;
    let body = SignIn { username: "admin".into(), password: Secret::new(PASSWORD) };
    let mut intruders = tokio::task::JoinSet::new();
    for number in 0..6_u8 {
        let (client, call) =
            (agent.client(), calls::sign_in(&body).for_client([198, 51, 100, number].into()));
        intruders.spawn(async move {
            let mut opened = Vec::new();
            for _ in 0..6 {
                opened.extend(client.call(&call).await.ok());
            }
            opened
        });
    }
    let change = ChangePassword { current: Secret::new(PASSWORD), new: Secret::new("a better password") };
    let change = calls::change_password(&change).as_session(&session.token);
    // The intruders may fill the line; the person tries again, as the answer says.
    while let Err(error) = agent.client().call(&change).await {
        assert!(
            matches!(&error, CallError::Problem(problem) if problem.code == ProblemCode::Unavailable),
            "{error}"
        );
    }
    for opened in intruders.join_all().await.into_iter().flatten() {
        let session = agent.client().call(&calls::session().as_session(&opened.token)).await;
        assert_eq!(problem(session), ProblemCode::SignInNeeded);
    }
}

#[tokio::test]
async fn callers_that_hang_up_cost_little_memory_and_it_is_given_back() {
    let agent = Agent::start();
    let body = r#"{"username":"admin","password":"wrong"}"#;
    for number in 0..200 {
        let mut stream = UnixStream::connect(agent.dir.path().join("run/api.sock")).unwrap();
        let address = format!("X-Quantix-Client-Address: 198.51.100.{number}");
        let length = body.len();
        let head =
            format!("POST /api/v1/session HTTP/1.1\r\nHost: a\r\n{address}\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The line is full of those who left; once it has emptied an honest person gets in.
    let first = agent.first_password().await;
    while agent.sign_in(first.expose()).await.is_err() {}
    // Pages of the program itself, of which a fast one has few, are held by nobody.
    let (now, most) = (agent.memory_mib("RssAnon"), agent.memory_mib("VmHWM") - agent.memory_mib("RssFile"));
    assert!(now < 30, "{now} MiB are held");
    assert!(most < 50, "{most} MiB were held at most");
}
