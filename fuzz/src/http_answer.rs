//! What the agent, or another host, answers over a connection: read within its limit, whatever it is.

use std::cell::RefCell;

use http::{Method, Request};
use http_body_util::Full;
use quantix_api::{calls, connection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
};

const LIMIT: usize = 4096;

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

pub(crate) fn run(bytes: &[u8]) {
    RUNTIME.with_borrow_mut(|kept| {
        let runtime = kept.get_or_insert_with(|| {
            let built = tokio::runtime::Builder::new_current_thread().build();
            built.unwrap_or_else(|error| unreachable!("{error}"))
        });
        runtime.block_on(answered(bytes));
    });
}

async fn answered(bytes: &[u8]) {
    let (here, mut there) = tokio::io::duplex(64 * 1024);
    let said = bytes.get(..64 * 1024).unwrap_or(bytes).to_vec();
    let other = async move {
        // Whoever answers before it was asked is not listened to.
        drop(there.read(&mut [0; 256]).await);
        // The end of what it says is the end of the connection.
        drop(there.write_all(&said).await);
        drop(there.shutdown().await);
        there
    };
    let request = Request::builder().method(Method::GET).uri("/").header("host", "agent");
    let Ok(request) = request.body(Full::new(bytes::Bytes::new())) else { return };
    let asked = async {
        let response = connection::send(here, request).await?;
        connection::collect(response, LIMIT).await
    };
    let (answer, _there) = tokio::join!(asked, other);
    if let Ok(answer) = answer {
        assert!(answer.body().len() <= LIMIT, "more was read than allowed");
        // Whatever it is, it is an answer or a problem.
        drop(calls::cluster().read(&answer));
        drop(calls::session().read(&answer));
        drop(calls::ready().read(&answer));
    }
}
