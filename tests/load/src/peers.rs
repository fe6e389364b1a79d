//! Others who serve lists and pages over TLS on this machine, from Debian: etcd's JSON API and cockpit's pages; and nginx, which takes files. All use
//! the agent's certificate.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use crate::wire::{Question, Server};

const ETCD: u16 = 24_790;
const COCKPIT: u16 = 24_791;
const NGINX: u16 = 24_793;
const START: Duration = Duration::from_secs(20);

/// A program to compare with.
#[derive(Debug)]
pub struct Peer {
    program: Child,
    port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

impl Peer {
    /// Debian's etcd as a single member; nothing if it is not installed.
    pub async fn etcd(folder: &Path) -> Option<Self> {
        let (client, member) = (format!("https://127.0.0.1:{ETCD}"), "http://127.0.0.1:24792");
        let tls = folder.join("state/tls");
        let mut command = program("etcd");
        command.args(["--name", "m0", "--initial-cluster", &format!("m0={member}")]);
        command.arg("--data-dir").arg(folder.join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", member, "--initial-advertise-peer-urls", member]);
        command.arg("--cert-file").arg(tls.join("cert.pem")).arg("--key-file").arg(tls.join("key.pem"));
        command.args(["--logger", "zap", "--log-level", "error"]);
        let peer = Self { program: command.spawn().ok()?, port: ETCD };
        peer.wait(folder, "/health").await;
        Some(peer)
    }

    /// Debian's cockpit; nothing if it is not installed.
    pub async fn cockpit(folder: &Path) -> Option<Self> {
        let certificates = folder.join("etc/cockpit/ws-certs.d");
        fs::create_dir_all(&certificates).unwrap();
        for (ours, theirs) in [("cert.pem", "quantix.cert"), ("key.pem", "quantix.key")] {
            fs::copy(folder.join("state/tls").join(ours), certificates.join(theirs)).unwrap();
        }
        let mut command = program("/usr/lib/cockpit/cockpit-ws");
        command.args(["--port", &COCKPIT.to_string(), "--address", "127.0.0.1"]);
        command.env("XDG_CONFIG_DIRS", folder.join("etc")).env("RUNTIME_DIRECTORY", folder);
        let peer = Self { program: command.spawn().ok()?, port: COCKPIT };
        peer.wait(folder, "/ping").await;
        Some(peer)
    }

    /// Debian's nginx, which takes files; nothing if it is not installed.
    pub async fn nginx(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder.join("files")).unwrap();
        let (at, tls) = (folder.display(), folder.join("state/tls"));
        let (cert, key) = (tls.join("cert.pem"), tls.join("key.pem"));
        let says = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr;
             events {{ worker_connections 64; }}
             http {{ access_log off; client_max_body_size 0; client_body_temp_path {at}/files/part;
                 server {{ listen 127.0.0.1:{NGINX} ssl; ssl_certificate {}; ssl_certificate_key {};
                     root {at}/files; location / {{ dav_methods PUT; }} }} }}",
            cert.display(),
            key.display()
        );
        let settings = folder.join("nginx.conf");
        fs::write(&settings, says).unwrap();
        let mut command = program("/usr/sbin/nginx");
        command.arg("-p").arg(folder).arg("-c").arg(settings);
        let peer = Self { program: command.spawn().ok()?, port: NGINX };
        let start = Instant::now();
        while std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, NGINX)).is_err() {
            assert!(start.elapsed() < START, "nginx did not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(peer)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it answers.
    pub fn server(&self, folder: &Path) -> Server {
        let pem = fs::read(folder.join("state/tls/cert.pem")).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        Server::new(SocketAddr::from(([127, 0, 0, 1], self.port)), "localhost", certificate)
    }

    async fn wait(&self, folder: &Path, path: &str) {
        let start = Instant::now();
        let question = Question { path: path.to_owned(), headers: Vec::new(), body: Bytes::new() };
        loop {
            let answer = self.server(folder).ask_once(&question).await;
            if answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK) {
                return;
            }
            assert!(start.elapsed() < START, "a peer did not come up: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the peers are programs")]
fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Fills etcd with so many lines, each as long as one of the audit log.
pub async fn fill_etcd(server: &Server, lines: u32) {
    let mut connection = server.connect(crate::wire::Version::Http1, [127, 0, 0, 1].into()).await.unwrap();
    for number in 0..lines {
        let line = json!({
            "id": number, "at": "2025-10-09T08:53:20Z", "actor": "person-1", "address": "192.0.2.7",
            "action": "make join token", "object": "person-1", "outcome": "done",
        });
        let put = json!({ "key": base64(format!("/audit/{number:08}").as_bytes()), "value": base64(line.to_string().as_bytes()) });
        let answer = connection.ask(server, &json_question("/v3/kv/put", &put)).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
}

/// The newest fifty lines of etcd's.
pub fn etcd_list(number: u32) -> Question {
    let end = base64(b"/audit0");
    let range = json!({
        "key": base64(b"/audit/"), "range_end": end, "limit": number, "sort_order": "DESCEND",
        "sort_target": "KEY",
    });
    json_question("/v3/kv/range", &range)
}

/// The first fifty lines of etcd's, which it need not sort.
pub fn etcd_first(number: u32) -> Question {
    let range = json!({ "key": base64(b"/audit/"), "range_end": base64(b"/audit0"), "limit": number });
    json_question("/v3/kv/range", &range)
}

fn json_question(path: &str, body: &serde_json::Value) -> Question {
    let headers = vec![("content-type", "application/json".to_owned())];
    Question { path: path.to_owned(), headers, body: body.to_string().into() }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() as u32 { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_written_as_etcd_reads_them() {
        let cases = ["", "f", "fo", "foo", "foob"].map(|text| super::base64(text.as_bytes()));
        assert_eq!(cases, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
