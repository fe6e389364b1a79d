//! A page server with an agent of its own, and a client that trusts its certificate.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod wire;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use quantix_api::{AgentClient, ConsoleView, Secret, calls};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The host's name.
const NAME: &str = "qx-01";
/// What gives a process another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A password the agent accepts.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Both programs and the folder they keep their state in.
#[derive(Debug)]
pub(crate) struct Pages {
    agent: Child,
    server: Child,
    port: u16,
    http: u16,
    first_password: Secret,
    dir: tempfile::TempDir,
}

/// What a page answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) location: String,
    /// The cookie as it is sent back, and the rules it came with.
    pub(crate) cookie: String,
    pub(crate) cookie_rules: String,
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Pages {
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--dev"]).await
    }

    /// With options that a host does not have, or without.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        let server = Path::new(env!("CARGO_BIN_EXE_quantix-hostui"));
        let quantixd = server.with_file_name("quantixd");
        assert!(quantixd.exists(), "build the agent first: cargo build -p quantixd");
        let hosts = PathBuf::from("127.0.0.1:0");
        let name = PathBuf::from(NAME);
        let told = [("--state-dir", &state), ("--run-dir", &run), ("--hosts", &hosts), ("--name", &name)];
        let agent = spawn(&quantixd, &told, &[]);
        let start = Instant::now();
        // The agent makes these one after the other, and each appears whole.
        let client = AgentClient::new(run.join("api.sock"));
        let first_password = loop {
            if let Ok(ConsoleView { first_password: Some(password), .. }) =
                client.call(&calls::console()).await
            {
                break password;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "quantixd did not come up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let anywhere = PathBuf::from("127.0.0.1:0");
        let agent_socket = run.join("api.sock");
        let http = free_port();
        let plain = PathBuf::from(format!("127.0.0.1:{http}"));
        let told = [("--https", &anywhere), ("--http", &plain), ("--agent", &agent_socket)];
        let mut server = spawn(server, &told, options);
        let said = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = said.filter_map(|line| line.rsplit_once("on port ")?.1.parse().ok()).next().unwrap();
        Self { agent, server, port, http, first_password, dir }
    }

    pub(crate) fn first_password(&self) -> String {
        self.first_password.expose().to_owned()
    }

    /// Where pages are served.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where the redirect is.
    pub(crate) fn http(&self) -> u16 {
        self.http
    }

    /// A client of the agent.
    pub(crate) fn client(&self) -> AgentClient {
        AgentClient::new(self.dir.path().join("run/api.sock"))
    }

    /// A folder that ends with the test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the agent again, by another clock.
    pub(crate) fn restart_agent(&mut self, clock: &str) {
        self.kill_agent();
        let quantixd = Path::new(env!("CARGO_BIN_EXE_quantix-hostui")).with_file_name("quantixd");
        let mut command = command(
            &quantixd,
            &[
                ("--state-dir", &self.dir.path().join("state")),
                ("--run-dir", &self.dir.path().join("run")),
                ("--hosts", &PathBuf::from("127.0.0.1:0")),
                ("--name", &PathBuf::from(NAME)),
            ],
            &[],
        );
        if !clock.is_empty() {
            assert!(Path::new(FAKETIME).exists(), "the package libfaketime is missing");
            command
                .env("LD_PRELOAD", FAKETIME)
                .env("FAKETIME", clock)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        self.agent = command.spawn().unwrap();
    }

    pub(crate) fn kill_agent(&mut self) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
    }

    pub(crate) async fn get(&self, path: &str, cookie: &str) -> Answer {
        let request = Request::builder().uri(path).header(header::HOST, "localhost");
        self.send(request.header(header::COOKIE, cookie).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, cookie: &str, form: &str) -> Answer {
        self.send_form(path, cookie, "application/x-www-form-urlencoded", form.to_owned().into_bytes()).await
    }

    pub(crate) async fn send_form(&self, path: &str, cookie: &str, kind: &str, form: Vec<u8>) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ORIGIN, "https://localhost")
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_LENGTH, form.len());
        self.send(request.body(Body::from(form)).unwrap()).await
    }

    /// A form with a file.
    pub(crate) async fn upload(
        &self,
        path: &str,
        cookie: &str,
        name: &str,
        passphrase: &str,
        file: &[u8],
    ) -> Answer {
        let mut form = Vec::new();
        let fields = [("name", name.as_bytes()), ("passphrase", passphrase.as_bytes()), ("backup", file)];
        for (field, value) in fields {
            let head = format!("--line\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n");
            form.extend([head.as_bytes(), value, b"\r\n"].concat());
        }
        form.extend(b"--line--\r\n");
        self.send_form(path, cookie, "multipart/form-data; boundary=line", form).await
    }

    /// Whoever opens this page without having signed in does so first, and is led back.
    pub(crate) async fn wants_a_session(&self, path: &str) {
        let back = format!("/sign-in?next={}", path.replace('/', "%2F"));
        assert_eq!(self.get(path, "").await.location, back);
    }

    pub(crate) async fn sign_in(&self, username: &str, password: &str) -> Answer {
        self.post("/sign-in", "", &format!("username={username}&password={password}")).await
    }

    pub(crate) async fn change_password(
        &self,
        cookie: &str,
        current: &str,
        new: &str,
        again: &str,
    ) -> Answer {
        let (new, again) = (new.replace(' ', "+"), again.replace(' ', "+"));
        self.post("/password", cookie, &format!("current={current}&new={new}&again={again}")).await
    }

    /// A session with a password of one's own.
    pub(crate) async fn settled(&self) -> String {
        let first = self.first_password();
        let cookie = self.sign_in("admin", &first).await.cookie;
        self.change_password(&cookie, &first, PASSWORD, PASSWORD).await;
        cookie
    }

    /// Signs in from another address of this machine; gives the cookie.
    pub(crate) async fn sign_in_from(&self, from: u8, username: &str, password: &str) -> String {
        let form = format!("username={username}&password={password}");
        let request = Request::builder()
            .method(Method::POST)
            .uri("/sign-in")
            .header(header::HOST, "localhost")
            .header(header::ORIGIN, "https://localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::CONTENT_LENGTH, form.len());
        let answer = self.send_from(from, request.body(Body::from(form)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.cookie
    }

    /// Begins to listen as a page does.
    pub(crate) async fn listen(&self, from: u8, cookie: &str) -> Listening {
        let stream = self.connect(from).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request =
            Request::builder().uri("/live").header(header::HOST, "localhost").header(header::COOKIE, cookie);
        let answer = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut listening = Listening { body: answer.into_body(), text: String::new(), driver };
        listening.until("id: ").await;
        listening
    }

    /// What the page server holds in memory.
    pub(crate) fn server_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) async fn connect(&self, from: u8) -> tokio_rustls::client::TlsStream<TcpStream> {
        let pem = std::fs::read(self.dir.path().join("state/tls/cert.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, from], 0).into()).unwrap();
        let stream = socket.connect(([127, 0, 0, 1], self.port).into()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from(1, request).await
    }

    async fn send_from(&self, from: u8, request: Request<Body>) -> Answer {
        let stream = self.connect(from).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        let text =
            |name: HeaderName| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let cookie_rules = text(header::SET_COOKIE);
        Answer {
            status: parts.status,
            location: text(header::LOCATION),
            cookie: cookie_rules.split(';').next().unwrap_or_default().to_owned(),
            cookie_rules,
            body: String::from_utf8_lossy(&body).into_owned(),
            bytes: body.into(),
            headers: parts.headers,
        }
    }
}

/// A page that listens.
#[derive(Debug)]
pub(crate) struct Listening {
    body: hyper::body::Incoming,
    text: String,
    driver: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Listening {
    /// Waits until it has heard this.
    pub(crate) async fn until(&mut self, part: &str) {
        while !self.text.contains(part) {
            let frame = self.body.frame().await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
        self.text.clear();
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.agent] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(program: &Path, args: &[(&str, &PathBuf)], options: &[&str]) -> Child {
    command(program, args, options).spawn().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the programs under test are processes")]
fn command(program: &Path, args: &[(&str, &PathBuf)], options: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(options);
    for (name, value) in args {
        command.arg(name).arg(value);
    }
    command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").stderr(Stdio::piped());
    command
}
