//! Abuse of HTTP/2, frame by frame: streams that are reset at once, headers that go on for ever, pings nobody needs,
//! more streams than are allowed, answers nobody reads. The host ends such a connection or bears it; others notice
//! nothing, and memory stays bounded.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::framework::Pages;

const MOST_MEMORY_MIB: u64 = 128;
const HONEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 7, 1));

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET https://h/sign-in`, with the fields of the static table where there are some.
const GET_SIGN_IN: &[u8] = b"\x82\x87\x04\x08/sign-in\x01\x01h";
/// `POST https://h/sign-in`
const POST_SIGN_IN: &[u8] = b"\x83\x87\x04\x08/sign-in\x01\x01h";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn connect(pages: &Pages) -> TlsStream<TcpStream> {
    let mut stream = pages.secure(ATTACKER, "h2").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends all of it, or as much as the host takes, reading what it says meanwhile; the kinds of frames it sent.
async fn exchange(stream: TlsStream<TcpStream>, bytes: Vec<u8>) -> Vec<(u8, u32, Vec<u8>)> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        let _ = timeout(Duration::from_secs(10), writer.write_all(&bytes)).await;
        writer
    });
    let mut said = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while said.len() < 32 * 1024 * 1024 {
        match timeout(Duration::from_secs(2), reader.read(&mut buffer)).await {
            Ok(Ok(length @ 1..)) => said.extend(&buffer[..length]),
            _ => break,
        }
    }
    let _ = sending.await;
    frames(&said)
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, kind, _flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        found.push((*kind, u32::from_be_bytes([*s0, *s1, *s2, *s3]) & 0x7fff_ffff, payload.to_vec()));
        bytes = &rest[length..];
    }
    found
}

/// Others are served, and nothing piled up.
async fn is_unmoved(pages: &Pages, by: &str) {
    assert!(pages.honest(HONEST).await.unwrap().contains("200"), "after {by}");
    let (now, most) = pages.memory_mib();
    println!("{by}: {now} MiB, at most {most} MiB");
    assert!(most < MOST_MEMORY_MIB, "{by}: {most} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let pages = Pages::start().await;
    let mut attack = Vec::new();
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        attack.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, GET_SIGN_IN));
        attack.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let said = exchange(connect(&pages).await, attack).await;
    assert!(said.iter().any(|(kind, ..)| *kind == GOAWAY), "the host bore it all");
    is_unmoved(&pages, "20,000 streams reset at once").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_go_on_for_ever_end_the_connection() {
    let pages = Pages::start().await;
    // A field that is not kept in the table, with a value of 16,000 letters, over and over.
    let mut field = b"\x00\x01x\x7f\x81\x7c".to_vec();
    field.extend([b'a'; 16_000]);
    let mut attack = frame(HEADERS, END_STREAM, 1, GET_SIGN_IN);
    for _ in 0..1_000 {
        attack.extend(frame(CONTINUATION, 0, 1, &field));
    }
    exchange(connect(&pages).await, attack).await;
    is_unmoved(&pages, "headers of 16 MB").await;
    let mut attack = frame(HEADERS, END_STREAM, 1, GET_SIGN_IN);
    for _ in 0..100_000 {
        attack.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    let said = exchange(connect(&pages).await, attack).await;
    assert!(said.iter().any(|(kind, ..)| *kind == GOAWAY), "the host bore it all");
    is_unmoved(&pages, "100,000 empty continuations").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_do_not_pile_up() {
    let pages = Pages::start().await;
    for (by, kind, payload) in [("pings", PING, &[0; 8][..]), ("settings", SETTINGS, &[])] {
        let mut attack = Vec::new();
        for _ in 0..100_000 {
            attack.extend(frame(kind, 0, 0, payload));
        }
        // Nobody reads the answers.
        let mut stream = connect(&pages).await;
        let _ = timeout(Duration::from_secs(3), stream.write_all(&attack)).await;
        is_unmoved(&pages, &format!("100,000 {by}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_are_allowed_are_refused() {
    let pages = Pages::start().await;
    let mut attack = Vec::new();
    for number in 0..1_000 {
        attack.extend(frame(HEADERS, END_HEADERS, 2 * number + 1, POST_SIGN_IN));
    }
    let said = exchange(connect(&pages).await, attack).await;
    let refused = said.iter().filter(|(kind, ..)| *kind == RST_STREAM || *kind == GOAWAY).count();
    assert!(refused > 0, "all were taken");
    is_unmoved(&pages, "1,000 streams").await;
}

/// Windows of nothing: the host has answers and may not send them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_do_not_pile_up() {
    let pages = Arc::new(Pages::start().await);
    let css = pages.get("/sign-in", "").await.body;
    let css = css
        .split('"')
        .find(|part| part.starts_with("/assets/") && part.ends_with(".css"))
        .unwrap()
        .to_owned();
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(&pages).await;
        let mut ask = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for number in 0..60 {
            let mut get = b"\x82\x87\x04".to_vec();
            get.push(u8::try_from(css.len()).unwrap());
            get.extend(css.as_bytes());
            get.extend(b"\x01\x01h");
            ask.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &get));
        }
        let _ = timeout(Duration::from_secs(2), stream.write_all(&ask)).await;
        held.push(stream);
    }
    is_unmoved(&pages, "6,000 answers that nobody reads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_make_no_sense_end_the_connection() {
    let pages = Pages::start().await;
    let with_connection = [GET_SIGN_IN, b"\x00\x0aconnection\x05close"].concat();
    let with_coding = [GET_SIGN_IN, b"\x00\x11transfer-encoding\x07chunked"].concat();
    let with_line_end = [GET_SIGN_IN, b"\x00\x01x\x05a\r\nb:"].concat();
    let two_paths = [GET_SIGN_IN, b"\x04\x07/sneaky"].concat();
    for (what, bytes) in [
        ("an even stream", frame(HEADERS, END_HEADERS | END_STREAM, 2, GET_SIGN_IN)),
        ("stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, GET_SIGN_IN)),
        ("a connection header", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with_connection)),
        ("a transfer coding", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with_coding)),
        ("a line end in a value", frame(HEADERS, END_HEADERS | END_STREAM, 1, &with_line_end)),
        ("two paths", frame(HEADERS, END_HEADERS | END_STREAM, 1, &two_paths)),
        ("a table index from nowhere", frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\x7f")),
        ("a frame of 16 MB", vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        ("not HTTP/2 at all", b"\x00".repeat(4_096)),
    ] {
        let said = exchange(connect(&pages).await, bytes).await;
        let is_answered = said
            .iter()
            .any(|(kind, ..)| *kind == HEADERS && !said.iter().any(|(kind, ..)| *kind == RST_STREAM));
        let is_good =
            said.iter().any(|(kind, _, payload)| *kind == HEADERS && payload.first() == Some(&0x88));
        assert!(!is_good, "{what} was answered as if it were fine ({is_answered})");
        is_unmoved(&pages, what).await;
    }
}
