//! Connections as they come: from any address, with bytes that no honest client sends.

use std::net::{IpAddr, SocketAddr};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Duration, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Pages;

/// Nothing that is answered at all takes longer.
const ANSWER: Duration = Duration::from_secs(20);

impl Pages {
    /// Where the pages are.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What the page server holds in memory now and has held at most, in MiB.
    pub(crate) fn memory_mib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
        };
        (figure("VmRSS"), figure("VmHWM"))
    }

    /// How many files and connections the page server has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.server.id())).unwrap().count()
    }

    /// A connection without TLS, from an address of this machine.
    pub(crate) async fn dial(&self, from: IpAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(self.address()).await
    }

    /// What a client needs to speak TLS with this host.
    pub(crate) fn trust(&self, protocol: &str) -> TlsConnector {
        let pem = std::fs::read(self.dir.path().join("state/tls/cert.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        TlsConnector::from(std::sync::Arc::new(config))
    }

    /// A connection with TLS, from an address of this machine.
    pub(crate) async fn secure(&self, from: IpAddr, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = self.dial(from).await?;
        self.trust(protocol).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// Sends bytes as they are, and gives everything that came until the host closed or nothing came any more.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.secure([127, 0, 0, 1].into(), "http/1.1").await.unwrap();
        // A host that has heard enough closes before everything is sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for a page over a connection of its own, as an honest person does; its status line.
    pub(crate) async fn honest(&self, from: IpAddr) -> std::io::Result<String> {
        let ask = async {
            let mut stream = self.secure(from, "http/1.1").await?;
            stream
                .write_all(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            let answer = String::from_utf8_lossy(&answer);
            Ok(answer.lines().next().unwrap_or_default().to_owned())
        };
        timeout(ANSWER, ask).await?
    }
}
