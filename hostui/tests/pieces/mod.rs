//! Pieces of images: the page server writes them to where the agent says, and everything that goes wrong is said by the agent.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::time::{Duration, Instant};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request, StatusCode, header},
};
use tokio::io::AsyncWriteExt;

use crate::framework::{Answer, Pages};

const MIB: usize = 1 << 20;

/// An image of three MiB that comes to the host.
struct Coming {
    pages: Pages,
    cookie: String,
    id: String,
}

impl Coming {
    async fn start() -> Self {
        let pages = Pages::start().await;
        let cookie = pages.settled().await;
        let form = format!("name=debian&file=debian.raw&pool=local&length={}", 3 * MIB);
        let begin = Instant::now();
        let made = loop {
            let made = pages.post("/storage/images", &cookie, &form).await;
            if made.status == StatusCode::OK {
                break made;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{made:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let id = made.body.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        Self { pages, cookie, id }
    }

    fn path(&self, at: usize) -> String {
        format!("/storage/images/{}/content?at={at}", self.id)
    }

    async fn bring(&self, at: usize, piece: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(self.path(at))
            .header(header::HOST, "localhost")
            .header(header::COOKIE, &self.cookie)
            .header(header::ORIGIN, "https://localhost")
            .body(piece.into());
        self.pages.send(request.unwrap()).await
    }

    fn file(&self) -> Vec<u8> {
        let pools = self.pages.dir().join("quantix-pools/local/images");
        std::fs::read(pools.join(format!("{}.part", self.id))).unwrap_or_default()
    }

    /// How much has come, as the agent says.
    async fn come(&self) -> usize {
        let again = self.bring(3 * MIB, Bytes::new()).await;
        let said = again.body.split(" bytes have come").next().unwrap();
        said.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_where_it_belongs_and_what_is_wrong_is_said() {
    let coming = Coming::start().await;
    let all = content(3 * MIB);
    let first = coming.bring(0, all[..MIB + 5].to_vec()).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.body, format!("{{\"bytes\":{},\"length\":{}}}", MIB + 5, 3 * MIB));
    assert_eq!(coming.file(), all[..MIB + 5]);
    // What has come may come again, and nothing is left out.
    let gap = coming.bring(2 * MIB, all[2 * MIB..].to_vec()).await;
    assert_eq!(gap.status, StatusCode::CONFLICT, "{gap:?}");
    assert!(gap.body.contains("1048581 bytes have come: go on there."), "{gap:?}");
    // More than was said: as much as there is room for has come, and whoever sends all of it hears why no more.
    let long = coming.bring(MIB, content(4 * MIB)).await;
    assert_eq!(long.status, StatusCode::UNPROCESSABLE_ENTITY, "{long:?}");
    assert!(long.body.contains("was said to have 3145728 bytes"), "{long:?}");
    let far = coming.bring(0, vec![0; 65 * MIB]).await;
    assert!(far.status.is_client_error() && far.body.contains("bytes"), "{far:?}");
    assert!(coming.file().len() <= 3 * MIB);
    let last = coming.bring(0, all.clone()).await;
    assert_eq!(last.status, StatusCode::OK, "{last:?}");
    assert_eq!(coming.file(), all);
    // Whoever is not signed in brings nothing.
    let nobody =
        Request::put(coming.path(0)).header(header::HOST, "localhost").body(Body::from("a piece")).unwrap();
    assert_ne!(coming.pages.send(nobody).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_come_of_a_piece_that_was_cut_off_has_come() {
    let mut coming = Coming::start().await;
    let mut stream = coming.pages.connect(1).await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://localhost\r\nCookie: {}\r\nContent-Length: {}\r\n\r\n",
        coming.path(0),
        coming.cookie,
        3 * MIB
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&content(2 * MIB)).await.unwrap();
    stream.shutdown().await.unwrap();
    let begin = Instant::now();
    while coming.come().await < 2 * MIB - 64 * 1024 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} have come", coming.come().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let come = coming.come().await;
    assert!(come <= 2 * MIB && coming.file()[..come] == content(3 * MIB)[..come]);
    // When the agent is gone somebody says so, and the piece can come again.
    coming.pages.kill_agent();
    let gone = coming.bring(0, "a piece").await;
    assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE, "{gone:?}");
}
