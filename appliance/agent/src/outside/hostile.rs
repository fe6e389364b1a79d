//! Places that mean no good, or are broken: whatever they answer, it ends, and a sentence says why.

use std::net::SocketAddr;

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A place that sends this to whoever asks, as often as it says, and what vouches for it.
async fn place(answer: &'static [u8], times: usize) -> (SocketAddr, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let acceptor = TlsAcceptor::from(Arc::new(config.clone()));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                for _ in 0..times {
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, trust(&made.cert.pem()).unwrap())
}

async fn asked(answer: &'static [u8], times: usize) -> Result<Response<Bytes>, String> {
    let (address, trust) = place(answer, times).await;
    ask(&format!("https://{address}/x"), trust, Request::get("/"), String::new()).await
}

#[tokio::test]
async fn an_honest_answer_is_taken() {
    let answer = asked(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 1).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"{}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let endless = asked(b"HTTP/1.1 200 OK\r\n\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", usize::MAX).await;
    assert!(endless.unwrap_err().contains("could not be read"));
    // Heads too.
    let endless = asked(b"HTTP/1.1 100 Continue\r\n\r\n", usize::MAX);
    let told = timeout(ANSWER + REACH, endless).await.unwrap().unwrap_err();
    assert!(told.contains("did not answer"), "{told}");
}

#[tokio::test]
async fn what_is_no_answer_or_half_of_one_is_said() {
    for broken in [
        &b""[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nx: \x01\x02",
    ] {
        let told = asked(broken, 1).await.unwrap_err();
        assert!(told.contains("did not answer") || told.contains("could not be read"), "{told}");
    }
}

/// Whoever asks sees that it is no success; nobody goes where it points.
#[tokio::test]
async fn nobody_is_led_elsewhere() {
    let answer =
        asked(b"HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 1);
    assert_eq!(answer.await.unwrap().status(), 302);
}

#[tokio::test]
async fn somebody_else_in_its_place_is_told_nothing() {
    let (address, _) = place(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 1).await;
    let (_, other) = place(b"", 1).await;
    let told = ask(&format!("https://{address}/x"), other, Request::get("/"), String::new()).await;
    assert!(told.unwrap_err().contains("cannot be reached"));
}
