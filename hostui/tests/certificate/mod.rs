//! Certificates of the pages, as openssl, curl and an authority see them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod acme;
mod swap;

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use quantix_api::{Secret, SignIn, calls};

use crate::framework::{PASSWORD, Pages};

/// A name of the host.
const NAME: &str = "qx-01.lab.example";

/// Somebody who may change the certificate.
struct Operator {
    pages: Pages,
    session: Secret,
    host: String,
}

impl Operator {
    async fn start() -> Self {
        let pages = Pages::start().await;
        let cookie = pages.settled().await;
        let session = Secret::new(cookie.split_once('=').unwrap().1);
        let cluster = pages.client().call(&calls::cluster().as_session(&session)).await.unwrap();
        Self { pages, session, host: cluster.this_host }
    }

    /// Begins another session, as soon as that is possible.
    async fn sign_in_again(&mut self) {
        let body = SignIn { username: "admin".into(), password: Secret::new(PASSWORD) };
        let start = Instant::now();
        loop {
            match self.pages.client().call(&calls::sign_in(&body)).await {
                Ok(session) => {
                    self.session = session.token;
                    return;
                }
                Err(error) => assert!(start.elapsed() < Duration::from_secs(30), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What openssl is shown: the fingerprint of the first certificate, and how many there are.
    fn openssl(&self) -> (String, usize) {
        let address = format!("127.0.0.1:{}", self.pages.port());
        let shown =
            run("openssl", &["s_client", "-connect", &address, "-servername", NAME, "-showcerts"], "");
        let said = run("openssl", &["x509", "-noout", "-fingerprint", "-sha256"], &shown);
        let fingerprint = said.trim().rsplit('=').next().unwrap_or_default().to_owned();
        (fingerprint, shown.matches("-----BEGIN CERTIFICATE-----").count())
    }
}

#[expect(clippy::disallowed_methods, reason = "the witness is a process")]
fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that has seen enough does not read the rest.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
