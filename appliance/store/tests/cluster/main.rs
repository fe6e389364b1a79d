//! Several hosts in one process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at what it did not expect")]

mod faults;
mod hosts;
mod properties;

use hosts::Cluster;

fn count(connection: &rusqlite::Connection) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO counter (name, value) VALUES ('a', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
        [],
    )?;
    connection.query_row("SELECT value FROM counter WHERE name = 'a'", [], |row| row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_alone_writes_and_reads() {
    let cluster = Cluster::of(1).await;
    let store = &cluster.hosts[0].store;
    for wanted in 1..=100 {
        let written = store.write(count).await.unwrap();
        assert_eq!(written.value, wanted);
    }
    assert_eq!(cluster.hosts[0].store.read(hosts::contents).unwrap(), "counter Text([97]) Integer(100)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_become_voters_and_have_the_same() {
    let cluster = Cluster::of(3).await.with_all_voting().await;
    for _ in 0..100 {
        cluster.write(count).await;
    }
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_catches_up() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    for wanted in 1..=50 {
        assert_eq!(cluster.write(count).await.value, wanted);
    }
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let start = std::time::Instant::now();
    for wanted in 51..=100 {
        assert_eq!(cluster.write(count).await.value, wanted);
        if wanted == 51 {
            println!("first write after {:?}", start.elapsed());
        }
    }
    cluster.restart(leader).await;
    cluster.assert_equal().await;
}
