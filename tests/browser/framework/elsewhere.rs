//! A site of somebody else, who means no good: pages on another origin.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// Serves one page, whatever is asked for.
#[derive(Debug)]
pub struct Elsewhere {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Elsewhere {
    /// A site with this page.
    pub async fn with(page: &str) -> Self {
        let socket = TcpListener::bind("127.0.0.200:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let answer: Arc<str> = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        )
        .into();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, serving }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
