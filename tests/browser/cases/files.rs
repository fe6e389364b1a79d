//! A file that lies in a pool and that nobody knows.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use quantix_api::calls;
use quantix_browser::{Desk, Host};

use crate::machines::has_pool;

/// Puts a disk into the pool, as somebody did an hour ago.
pub(crate) fn has_file(host: &Host) {
    let path = host.dir().join("quantix-pools/local/old server.raw");
    fs::write(&path, vec![7; 3 << 20]).unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(path).unwrap().set_modified(an_hour_ago).unwrap();
}

#[tokio::test]
async fn a_file_that_nobody_knows_becomes_a_volume_and_goes() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let session = host.session().await;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.follow("Storage").await;
    desk.follow("local").await;
    desk.follow("Files on qx-01").await;
    desk.sees("Every file belongs to something").await;
    has_file(&host);
    let this = host.agent().call(&calls::cluster().as_session(&session)).await.unwrap().this_host;
    desk.open(&format!("/storage/pools/local/files/{this}")).await;
    desk.follow("Adopt…").await;
    desk.heading("Adopt a file").await;
    desk.fill("Name", "a/b").await;
    desk.press("Adopt it").await;
    desk.sees("A name is one line").await;
    desk.fill("Name", "server").await;
    desk.press("Adopt it").await;
    desk.sees("server is being made.").await;
    desk.sees("The volume is made.").await;
    desk.open(&format!("/storage/pools/local/files/{this}")).await;
    desk.sees("the volume server").await;
    desk.follow("Remove…").await;
    desk.fill("To go on, type old server.raw", "another").await;
    desk.press("Remove").await;
    desk.sees("To remove this file, type its name").await;
    desk.fill("To go on, type old server.raw", "old server.raw").await;
    desk.press("Remove").await;
    desk.sees("The file is removed.").await;
    desk.open(&format!("/storage/pools/local/files/{this}")).await;
    desk.sees("Every file belongs to something").await;
}
