//! Debian's etcd, three members, as a peer to compare with.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// The ports of the first member, for clients and for members.
const FIRST: u16 = 23_790;

/// Three members on loopback.
#[derive(Debug)]
pub struct Etcd(Vec<Child>);

impl Etcd {
    /// Starts them with their data below a folder; nothing if etcd is not installed.
    #[expect(clippy::disallowed_methods, reason = "the peer is a program")]
    pub fn start(folder: &Path) -> Option<Self> {
        let url = |number: u16, kind: u16| format!("http://127.0.0.1:{}", FIRST + number * 10 + kind);
        let all: Vec<_> = (0..3).map(|number| format!("m{number}={}", url(number, 1))).collect();
        let mut members = Vec::new();
        for number in 0..3 {
            let log = std::fs::File::create(folder.join(format!("etcd-{number}.log"))).ok()?;
            let member = Command::new("etcd")
                .args(["--name", &format!("m{number}"), "--initial-cluster", &all.join(",")])
                .arg("--data-dir")
                .arg(folder.join(format!("etcd-{number}")))
                .args(["--listen-client-urls", &url(number, 0), "--advertise-client-urls", &url(number, 0)])
                .args([
                    "--listen-peer-urls",
                    &url(number, 1),
                    "--initial-advertise-peer-urls",
                    &url(number, 1),
                ])
                .args(["--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            members.push(member.ok()?);
        }
        Some(Self(members))
    }

    /// The address of a member for clients.
    pub fn address(number: u16) -> String {
        format!("127.0.0.1:{}", FIRST + number * 10)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.0 {
            drop(member.kill());
            drop(member.wait());
        }
    }
}

/// A connection over gRPC, as etcd's own clients have it.
#[derive(Debug)]
pub struct EtcdClient {
    sender: http2::SendRequest<Full<Bytes>>,
    address: String,
}

impl EtcdClient {
    /// Connects to a member.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, address: address.to_owned() })
    }

    /// Sets a key.
    pub async fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let answer = self.call("Put", &[(1, key.as_bytes()), (2, value)]).await?;
        drop(answer);
        Ok(())
    }

    /// Which member leads: whether it is the one that answers.
    pub async fn leads(&mut self) -> io::Result<bool> {
        let answer = self.call_at("/etcdserverpb.Maintenance/Status", &[]).await?;
        // Field 1 is the header with the member's id, field 4 the leader's id.
        let header = field(&answer, 1).ok_or(io::ErrorKind::InvalidData)?;
        let Field::Bytes(header) = header else { return Err(io::ErrorKind::InvalidData.into()) };
        Ok(
            matches!((field(&header, 2), field(&answer, 4)), (Some(Field::Number(me)), Some(Field::Number(leader))) if me == leader),
        )
    }

    async fn call(&mut self, method: &str, fields: &[(u8, &[u8])]) -> io::Result<Bytes> {
        self.call_at(&format!("/etcdserverpb.KV/{method}"), fields).await
    }

    async fn call_at(&mut self, path: &str, fields: &[(u8, &[u8])]) -> io::Result<Bytes> {
        let mut message = BytesMut::new();
        for (number, value) in fields {
            message.put_u8(number << 3 | 2);
            put_varint(&mut message, value.len() as u64);
            message.put_slice(value);
        }
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).map_err(io::Error::other)?);
        body.put_slice(&message);
        let request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        let response = self.sender.send_request(request).await.map_err(io::Error::other)?;
        let refused = |status: Option<&http::HeaderValue>| status.is_some_and(|status| status != "0");
        if refused(response.headers().get("grpc-status")) {
            return Err(io::Error::other("etcd refused"));
        }
        let body = response.into_body().collect().await.map_err(io::Error::other)?;
        if body.trailers().is_some_and(|trailers| refused(trailers.get("grpc-status"))) {
            return Err(io::Error::other("etcd refused"));
        }
        let bytes = body.to_bytes();
        Ok(if bytes.len() > 5 { bytes.slice(5..) } else { Bytes::new() })
    }
}

enum Field {
    Number(u64),
    Bytes(Bytes),
}

/// The first field of a number in a message; what a status needs, and no more of the format.
fn field(message: &Bytes, wanted: u64) -> Option<Field> {
    let mut at = 0;
    while at < message.len() {
        let tag = varint(message, &mut at)?;
        let found = match tag & 7 {
            0 => Field::Number(varint(message, &mut at)?),
            2 => {
                let length = usize::try_from(varint(message, &mut at)?).ok()?;
                let bytes = message.slice(at..at.checked_add(length).filter(|end| *end <= message.len())?);
                at += length;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn varint(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(message: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        message.put_u8(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    message.put_u8(u8::try_from(value).unwrap_or_default());
}
