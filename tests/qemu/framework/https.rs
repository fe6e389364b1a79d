//! A browser without a screen: HTTP/1.1 over TLS to one machine, with a pinned certificate and cookies.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{
    OrFail,
    certificate::{Fingerprint, Pinned},
};

/// How long an answer of a machine that has booted may take.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Two-way bytes, from wherever the client sits.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Opens a connection to the machine's port 443.
pub type Connect = Arc<dyn Fn() -> std::io::Result<Box<dyn Stream>> + Send + Sync>;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body, with transfer encoding undone.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Where it sends the browser.
    pub fn location(&self) -> &str {
        self.header("location").unwrap_or_default()
    }
}

/// A browser with its cookies, looking at one machine.
#[derive(Clone)]
pub struct Browser {
    connect: Connect,
    config: Arc<ClientConfig>,
    pinned: Arc<Pinned>,
    host: String,
    cookies: BTreeMap<String, String>,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Browser {
    /// A browser on this machine that reaches the appliance through a forwarded port. It accepts the certificate
    /// with the fingerprint, or, without one, remembers which it saw.
    pub fn through_port(port: u16, fingerprint: Option<Fingerprint>, patience: Duration) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let connect: Connect = Arc::new(move || {
            let stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        });
        Self::over(connect, &format!("127.0.0.1:{port}"), fingerprint)
    }

    /// A browser that reaches the appliance in a way of its own.
    pub fn over(connect: Connect, host: &str, fingerprint: Option<Fingerprint>) -> Self {
        let pinned = Arc::new(Pinned::new(fingerprint));
        let config = Arc::new(pinned.client_config());
        Self { connect, config, pinned, host: host.to_owned(), cookies: BTreeMap::new() }
    }

    /// The fingerprint of the certificate that was seen last.
    pub fn seen_certificate(&self) -> Option<Fingerprint> {
        self.pinned.seen()
    }

    /// The cookies it holds, by name.
    pub fn cookies(&self) -> &BTreeMap<String, String> {
        &self.cookies
    }

    /// Opens a page.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], b"").or_fail(format!("Opening {path}"))
    }

    /// Sends a form.
    #[track_caller]
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let body = form(fields);
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        self.request("POST", path, &kind, body.as_bytes()).or_fail(format!("Sending the form to {path}"))
    }

    /// Sends a request and reads the answer; cookies it sets are kept.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, String> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("origin")) && method != "GET" {
            head += &format!("Origin: https://{}\r\n", self.host);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        if !body.is_empty() || method != "GET" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        let response = self.send_raw(&bytes)?;
        self.keep_cookies(&response);
        Ok(response)
    }

    /// Sends bytes as they are, right or wrong, and reads whatever answer comes before the connection ends.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<Response, String> {
        let name = ServerName::try_from("quantix").map_err(|error| error.to_string())?;
        let tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| error.to_string())?;
        let stream = (self.connect)().map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(tls, stream);
        // The other end may answer and hang up before it has read everything; then its answer is what counts.
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        let answer = read_answer(&mut stream);
        answer.map_err(|error| written.err().map_or(error.clone(), |first| format!("{error} ({first})")))
    }

    /// Opens a WebSocket, sends one message, and gives what has come once the expected is in it.
    pub fn talk(&self, path: &str, message: &str, expected: &str, bound: Duration) -> Result<String, String> {
        let name = ServerName::try_from("quantix").map_err(|error| error.to_string())?;
        let tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| error.to_string())?;
        let stream = (self.connect)().map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(tls, stream);
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.host
        );
        // One frame of bytes, masked with zeros: it is short.
        let length = u8::try_from(message.len()).ok().filter(|length| *length < 126);
        let mut frame = vec![0x82, 0x80 | length.ok_or("This is too long for one frame.")?, 0, 0, 0, 0];
        frame.extend_from_slice(message.as_bytes());
        stream.write_all(asked.as_bytes()).map_err(|error| error.to_string())?;
        let (begun, mut heard, mut is_open) = (std::time::Instant::now(), Vec::new(), false);
        let (mut piece, mut spoke) = ([0; 16384], std::time::Instant::now());
        loop {
            // Whoever says nothing for long is taken for gone.
            if is_open && spoke.elapsed() > Duration::from_secs(10) {
                stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).map_err(|error| error.to_string())?;
                spoke = std::time::Instant::now();
            }
            if !is_open && let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
                if !heard.starts_with(b"HTTP/1.1 101") {
                    return Err(format!("No WebSocket was opened: {}", String::from_utf8_lossy(&heard)));
                }
                heard.drain(..end + 4);
                is_open = true;
                stream.write_all(&frame).map_err(|error| error.to_string())?;
            }
            let text = if is_open { messages(&heard) } else { String::new() };
            if is_open && text.contains(expected) {
                return Ok(text);
            }
            if begun.elapsed() > bound {
                return Err(format!("{expected:?} did not come, but this: {text}"));
            }
            match stream.read(&mut piece) {
                Ok(0) => return Err(format!("It ended before {expected:?} came: {text}")),
                Ok(count) => heard.extend_from_slice(&piece[..count]),
                // Nothing for a while.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(format!("{error} before {expected:?} came: {text}")),
            }
        }
    }

    fn keep_cookies(&mut self, response: &Response) {
        for (_, value) in response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
        {
            let mut parts = value.split(';').map(str::trim);
            let Some((name, content)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let ended = parts.any(|part| part.eq_ignore_ascii_case("max-age=0"));
            if ended || content.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), content.to_owned());
            }
        }
    }
}

/// What is in the frames of a WebSocket, as far as they have come whole.
fn messages(mut frames: &[u8]) -> String {
    let mut all = Vec::new();
    while let [kind, length, rest @ ..] = frames {
        let (length, rest) = match (*length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            // Longer ones are not sent here.
            (126.., _) => break,
            (length, rest) => (usize::from(length), rest),
        };
        let Some(message) = rest.get(..length) else { break };
        if kind & 0x0f < 8 {
            all.extend_from_slice(message);
        }
        frames = &rest[length..];
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// An answer over a plain connection, as from port 80.
#[track_caller]
pub fn plain_get(port: u16, path: &str) -> Response {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, BOUND).or_fail("Connecting without TLS");
    stream.set_read_timeout(Some(BOUND)).or_fail("Setting a bound");
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).or_fail("Sending a request without TLS");
    read_answer(&mut stream).or_fail("Reading an answer without TLS")
}

/// Fields as a browser encodes a form.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

fn read_answer(stream: &mut impl Read) -> Result<Response, String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        if let Some(response) = parse(&bytes, false)? {
            return Ok(response);
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            // An end without TLS's goodbye is an end.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) if bytes.is_empty() => return Err(error.to_string()),
            Err(_) => break,
        }
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err("The answer is too long.".to_owned());
        }
    }
    parse(&bytes, true)?
        .ok_or_else(|| format!("The connection ended after {} bytes of an answer.", bytes.len()))
}

/// Reads an answer if it is complete; when the connection has `ended`, an answer without a length is, too.
fn parse(bytes: &[u8], ended: bool) -> Result<Option<Response>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes).map_err(|error| format!("not HTTP: {error}"))? {
        httparse::Status::Complete(start) => start,
        httparse::Status::Partial => return Ok(None),
    };
    let headers = head
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let mut response = Response { status: head.code.unwrap_or_default(), headers, body: Vec::new() };
    let rest = &bytes[start..];
    if response.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        let Some(body) = unchunk(rest)? else { return Ok(None) };
        response.body = body;
    } else if let Some(length) = response.header("content-length").and_then(|length| length.parse().ok()) {
        let Some(body) = rest.get(..length) else { return Ok(None) };
        response.body = body.to_vec();
    } else if ended || response.status == 204 || response.status == 304 {
        response.body = rest.to_vec();
    } else {
        return Ok(None);
    }
    Ok(Some(response))
}

fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(rest).map_err(|_| "a chunk without a size".to_owned())? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete((_, 0)) => return Ok(Some(body)),
            httparse::Status::Complete((start, size)) => {
                let Some(chunk) =
                    usize::try_from(size).ok().and_then(|size| rest.get(start..start + size + 2))
                else {
                    return Ok(None);
                };
                body.extend_from_slice(&chunk[..chunk.len() - 2]);
                rest = &rest[start + chunk.len()..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_chunks_is_put_together() {
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
        assert_eq!(parse(bytes, false).unwrap().unwrap().body, b"hello!");
        assert!(parse(&bytes[..bytes.len() - 6], false).unwrap().is_none());
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nall";
        assert!(parse(bytes, false).unwrap().is_none());
        assert_eq!(parse(bytes, true).unwrap().unwrap().body, b"all");
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(form(&[("a", "x y&z"), ("b", "ü")]), "a=x%20y%26z&b=%C3%BC");
    }
}
