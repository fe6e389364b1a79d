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

/// What it had sent and not written in its old term must not be followed by something else of the same term.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_led_and_starts_again_leads_in_a_new_term() {
    for hosts in [1, 3] {
        let mut cluster = Cluster::of(hosts).await;
        if hosts > 1 {
            cluster = cluster.with_all_voting().await;
        }
        cluster.write(count).await;
        let leader = cluster.leader().await;
        let before = cluster.hosts[leader].store.status().term;
        cluster.kill(leader).await;
        cluster.restart(leader).await;
        cluster.write(count).await;
        let after = cluster.leader().await;
        assert!(cluster.hosts[after].store.status().term > before);
        cluster.assert_equal().await;
    }
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
