//! Against the real ovsdb-server, with a database of its own in a directory of its own.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use openvswitch_ovsdb::{Client, Error};
use serde_json::json;

struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the runner lives in a crate that stands on this one")]
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("conf.db");
        let schema = Path::new("/usr/share/openvswitch/vswitch.ovsschema");
        let made = Command::new("ovsdb-tool").arg("create").arg(&database).arg(schema).status().unwrap();
        assert!(made.success());
        let child = Command::new("ovsdb-server")
            .arg(&database)
            .arg(format!("--remote=punix:{}", dir.path().join("db.sock").display()))
            .arg(format!("--unixctl={}", dir.path().join("db.ctl").display()))
            .args(["--no-chdir", "-vconsole:off", "-vfile:off", "-vsyslog:off"])
            .spawn()
            .unwrap();
        let server = Self { child, dir };
        let start = Instant::now();
        // A socket is there a moment before anybody listens on it. One that answered is left alone: connections that
        // nobody takes yet would fill the line in front of it.
        let mut awaited = vec!["db.sock", "db.ctl"];
        loop {
            awaited.retain(|socket| UnixStream::connect(server.dir.path().join(socket)).is_err());
            if awaited.is_empty() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "ovsdb-server did not come up");
            std::thread::yield_now();
        }
        server
    }

    async fn client(&self, socket: &str) -> Client {
        Client::connect(self.dir.path().join(socket), Duration::from_secs(5)).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_row_is_written_and_read_back() {
    let server = Server::start();
    let mut client = server.client("db.sock").await;
    client
        .transact(
            "Open_vSwitch",
            vec![json!({"op": "insert", "table": "Open_vSwitch", "row": {"ovs_version": "3.5"}})],
        )
        .await
        .unwrap();
    let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["ovs_version"]});
    let rows = client.transact("Open_vSwitch", vec![select]).await.unwrap();
    assert_eq!(rows[0]["rows"][0]["ovs_version"], "3.5");
}

#[tokio::test]
async fn an_operation_that_fails_is_an_error_that_says_why() {
    let server = Server::start();
    let mut client = server.client("db.sock").await;
    let error = client
        .transact("Open_vSwitch", vec![json!({"op": "insert", "table": "NoSuchTable", "row": {}})])
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why.contains("NoSuchTable")), "{error}");
}

#[tokio::test]
async fn a_control_socket_answers_the_same_client() {
    let server = Server::start();
    let version = server.client("db.ctl").await.call("version", json!([])).await.unwrap();
    assert!(version.as_str().unwrap().contains("ovsdb-server"), "{version}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_so_and_does_not_hang() {
    let mut server = Server::start();
    let mut client = server.client("db.sock").await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let error = client.call("list_dbs", json!([])).await.unwrap_err();
    assert!(matches!(error, Error::Closed | Error::Io(_)), "{error}");
}
