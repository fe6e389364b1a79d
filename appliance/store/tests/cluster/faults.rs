//! What goes wrong, and what is still there afterwards.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use quantix_store::{Failure, Migration, OpenError, Role, WriteError, recover, restore};

use crate::{
    count,
    hosts::{Cluster, Network, SCHEMA, address, open, until},
};

fn total(connection: &rusqlite::Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(sum(value), 0) FROM counter", [], |row| row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_writes_nothing_and_another_takes_over() {
    let cluster = Cluster::of(3).await.with_all_voting().await;
    cluster.write(count).await;
    let old = cluster.leader().await;
    let old_store = &cluster.hosts[old].store;
    cluster.network.cut_off(old_store.id());
    until("it no longer leads", || old_store.leadership().borrow().is_none()).await;
    let refused = old_store.write(count).await;
    assert!(matches!(refused, Err(WriteError::Failed(Failure::NoQuorum))), "{refused:?}");
    assert!(old_store.catch_up().await.is_err());
    assert!(!old_store.status().writable);
    // It still shows what it has.
    assert_eq!(old_store.read(total).unwrap(), 1);
    assert_eq!(cluster.write(count).await.value, 2);
    cluster.network.heal();
    cluster.assert_equal().await;
    assert_eq!(old_store.read(total).unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_hosts_stop_at_once_and_have_everything_afterwards() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    for _ in 0..50 {
        cluster.write(count).await;
    }
    for number in 0..3 {
        cluster.kill(number).await;
    }
    for number in 0..3 {
        cluster.restart(number).await;
    }
    assert_eq!(cluster.write(count).await.value, 51);
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_away_gets_the_database_when_the_log_is_cut() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    let away = (cluster.leader().await + 1) % 3;
    cluster.kill(away).await;
    let purged = |cluster: &Cluster, at: usize| cluster.hosts[at].store.first_in_log();
    let leader = cluster.leader().await;
    // More than the log keeps.
    for number in 0..260 {
        let blob = vec![7_u8; 300_000];
        cluster
            .write(move |connection| {
                connection
                    .execute(
                        "INSERT INTO wide (c, t1, a) VALUES (?1, 'x', ?2)",
                        rusqlite::params![vec![number as u8 % 8], blob],
                    )
                    .or_else(|_| {
                        connection.execute(
                            "UPDATE wide SET a = ?2 WHERE c = ?1",
                            rusqlite::params![vec![number as u8 % 8], vec![number as u8; 300_000]],
                        )
                    })
            })
            .await;
    }
    until("the log was cut", || purged(&cluster, leader) > 20).await;
    cluster.restart(away).await;
    cluster.assert_equal().await;
    assert!(purged(&cluster, away) > 20, "it got the database, not the log");
    for _ in 0..10 {
        cluster.write(count).await;
    }
    cluster.assert_equal().await;
    // What it was sent is its own now.
    cluster.kill(away).await;
    cluster.restart(away).await;
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_host_is_told_so() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    let leader = cluster.leader().await;
    let gone = (leader + 1) % 3;
    let id = cluster.hosts[gone].store.id();
    cluster.kill(gone).await;
    cluster.hosts[leader].store.remove(id).await.unwrap();
    let store = &cluster.hosts[leader].store;
    until("the voters are odd", || {
        store.status().members.len() == 2
            && store.status().members.iter().filter(|m| m.role == Role::Voter).count() == 0
    })
    .await;
    cluster.write(count).await;
    cluster.restart(gone).await;
    let told = &cluster.hosts[gone].store;
    until("it knows", || told.status().trouble.iter().any(|sentence| sentence.contains("was removed"))).await;
    cluster.write(count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_put_back_to_an_old_disk_is_refused() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    cluster.write(count).await;
    let old = (cluster.leader().await + 1) % 3;
    cluster.kill(old).await;
    let folder = cluster.hosts[old].folder.clone();
    let image = folder.with_extension("image");
    copy_folder(&folder, &image);
    cluster.restart(old).await;
    for _ in 0..20 {
        cluster.write(count).await;
    }
    cluster.assert_equal().await;
    cluster.kill(old).await;
    fs::remove_dir_all(&folder).unwrap();
    copy_folder(&image, &folder);
    cluster.restart(old).await;
    let store = &cluster.hosts[old].store;
    until("it knows", || store.status().trouble.iter().any(|sentence| sentence.contains("earlier time")))
        .await;
    assert_eq!(cluster.write(count).await.value, 22);
    // It does not take part, not even to make up a majority.
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let third = 3 - leader - old;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(cluster.hosts[third].store.leadership().borrow().is_none());
    assert!(store_of(&cluster, old).leadership().borrow().is_none());
}

fn store_of(cluster: &Cluster, number: usize) -> &quantix_store::Store {
    &cluster.hosts[number].store
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_where_it_is_told_to() {
    let cluster = Cluster::of(3).await.with_all_voting().await;
    for to in [1, 2, 0] {
        let leader = cluster.leader().await;
        let id = cluster.hosts[to].store.id();
        cluster.hosts[leader].store.move_lead(id).await.unwrap();
        until("it leads", || cluster.hosts[to].store.leadership().borrow().is_some()).await;
        cluster.write(count).await;
    }
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_the_other_can_lead_too() {
    let cluster = Cluster::of(2).await;
    let id = cluster.hosts[1].store.id();
    cluster.hosts[0].store.move_lead(id).await.unwrap();
    until("it leads", || cluster.hosts[1].store.leadership().borrow().is_some()).await;
    cluster.write(count).await;
    cluster.assert_equal().await;
    let status = cluster.hosts[1].store.status();
    assert_eq!(status.members.iter().filter(|member| member.role != Role::Learner).count(), 1, "{status:?}");
}

const ONE_MORE: &[Migration] =
    &[SCHEMA[0], SCHEMA[1], Migration { name: "more", sql: "ALTER TABLE counter ADD COLUMN note TEXT" }];

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_waits_for_the_last_host() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    for number in [1, 2] {
        cluster.kill(number).await;
        cluster.restart_with(number, ONE_MORE).await;
        cluster.write(count).await;
    }
    // One host is dead and still of the old version: everything goes on at the old schema.
    cluster.kill(0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.write(count).await.value, 3);
    let leader = cluster.leader().await;
    assert_eq!(cluster.hosts[leader].store.status().schema, 2);
    // Without it they go on.
    let dead = cluster.first_id;
    cluster.hosts[leader].store.remove(dead).await.unwrap();
    until("the schema is newer", || {
        [1, 2].iter().all(|number| cluster.hosts[*number].store.status().schema == 3)
    })
    .await;
    cluster.write(count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_do_not_fit_say_so() {
    let mut cluster = Cluster::of(1).await;
    // A newer host may join: the cluster stays as it is until all are newer.
    let newer = cluster.start("newer", ONE_MORE).await;
    let id = cluster.hosts[newer].store.id();
    cluster.hosts[0].store.add(id, address(newer)).await.unwrap();
    cluster.wait_schema(newer, 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.hosts[0].store.status().schema, 2);
    cluster.kill(0).await;
    cluster.restart_with(0, ONE_MORE).await;
    cluster.wait_schema(0, 3).await;
    // An older one may not, and is told why; nor may an older version start on newer data.
    let older = cluster.start("older", SCHEMA).await;
    let id = cluster.hosts[older].store.id();
    let refused = cluster.hosts[0].store.add(id, address(older)).await.unwrap_err();
    assert!(refused.to_string().contains("update it first"), "{refused}");
    assert_eq!(cluster.hosts[0].store.status().members.len(), 2);
    cluster.kill(0).await;
    let folder = cluster.hosts[0].folder.clone();
    let refused = open(&cluster.network, &folder, SCHEMA).await.err().unwrap();
    assert!(refused.to_string().contains("start the newer version"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_alone() {
    let mut cluster = Cluster::of(3).await.with_all_voting().await;
    for _ in 0..20 {
        cluster.write(count).await;
    }
    let survivor = (cluster.leader().await + 1) % 3;
    cluster.assert_equal().await;
    for number in 0..3 {
        cluster.kill(number).await;
    }
    recover(&cluster.hosts[survivor].folder, address(survivor)).unwrap();
    cluster.restart(survivor).await;
    let store = &cluster.hosts[survivor].store;
    until("it leads", || store.leadership().borrow().is_some()).await;
    assert_eq!(store.write(count).await.unwrap().value, 21);
    assert_eq!(store.status().members.len(), 1);
    // The others are no longer members, and are told.
    let other = (survivor + 1) % 3;
    cluster.restart(other).await;
    let told = &cluster.hosts[other].store;
    until("it knows", || told.status().trouble.iter().any(|sentence| sentence.contains("was removed"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_a_cluster_again() {
    let mut cluster = Cluster::of(1).await;
    for _ in 0..20 {
        cluster.write(count).await;
    }
    let backup = cluster.root.path().join("backup");
    cluster.hosts[0].store.backup(backup.clone()).await.unwrap();
    for _ in 0..5 {
        cluster.write(count).await;
    }
    let mut other = Cluster::empty();
    let folder = other.root.path().join("host-0");
    restore(&folder, &backup, address(0)).unwrap();
    assert!(restore(&folder, &backup, address(0)).is_err(), "what is there is kept");
    other.start("host-0", SCHEMA).await;
    assert_eq!(other.write(count).await.value, 21);
    // A host that joins gets what was in the backup.
    other.start("host-1", SCHEMA).await;
    let id = other.hosts[1].store.id();
    other.hosts[0].store.add(id, address(1)).await.unwrap();
    other.assert_equal().await;
    cluster.kill(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_off_and_a_flipped_bit_is_not_accepted() {
    let mut cluster = Cluster::of(1).await;
    for _ in 0..50 {
        cluster.write(count).await;
    }
    // As a power cut leaves it: the write-ahead file is still there.
    let folder = cluster.hosts[0].folder.clone();
    let (torn, flipped, lost) =
        (folder.with_extension("torn"), folder.with_extension("flipped"), folder.with_extension("lost"));
    for copy in [&torn, &flipped, &lost] {
        copy_folder(&folder, copy);
    }
    cluster.kill(0).await;

    let write_ahead = fs::OpenOptions::new().write(true).open(torn.join("log.db-wal")).unwrap();
    let length = write_ahead.metadata().unwrap().len();
    write_ahead.set_len(length - 2000).unwrap();
    let store = open(&Network::default(), &torn, SCHEMA).await.unwrap();
    until("it leads", || store.leadership().borrow().is_some()).await;
    assert!(store.read(total).unwrap() >= 49);

    flip(&flipped.join("log.db-wal"), length / 2);
    let refused = open(&Network::default(), &flipped, SCHEMA).await;
    assert!(matches!(refused, Err(OpenError::Damaged(..))));

    for file in ["log.db", "log.db-wal", "log.db-shm"] {
        drop(fs::remove_file(lost.join(file)));
    }
    let refused = open(&Network::default(), &lost, SCHEMA).await;
    assert!(matches!(refused, Err(OpenError::Damaged(..))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_kept_log_is_found() {
    let mut cluster = Cluster::of(1).await;
    for _ in 0..50 {
        cluster.write(count).await;
    }
    cluster.kill(0).await;
    let path = cluster.hosts[0].folder.join("log.db");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).rposition(|window| window == b"counter").unwrap();
    flip(&path, at as u64);
    let refused = open(&Network::default(), &cluster.hosts[0].folder, SCHEMA).await;
    assert!(matches!(refused, Err(OpenError::Damaged(..))));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_folder_is_of_one_process() {
    let cluster = Cluster::of(1).await;
    let second = open(&Network::default(), &cluster.hosts[0].folder, SCHEMA).await;
    assert!(matches!(second, Err(OpenError::InUse(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_change_rows_and_nothing_else() {
    let cluster = Cluster::of(1).await;
    let store = &cluster.hosts[0].store;
    for sql in [
        "DROP TABLE counter",
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
        "UPDATE _store SET position = x''",
        "PRAGMA foreign_keys = off",
        "ATTACH 'elsewhere' AS other",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT mine",
        "VACUUM",
    ] {
        let refused = store.write(move |connection| connection.execute_batch(sql)).await;
        assert!(matches!(refused, Err(WriteError::Refused(_))), "{sql}: {refused:?}");
    }
    let blob = vec![0_u8; 2 << 20];
    let large = store
        .write(move |connection| {
            connection.execute("INSERT INTO wide (c, t1, a) VALUES (x'00', 'x', ?1)", [blob])
        })
        .await;
    assert!(matches!(large, Err(WriteError::Failed(Failure::TooLarge(_)))), "{large:?}");
    assert_eq!(store.write(count).await.unwrap().value, 1);
    let term = store.leadership().borrow().unwrap();
    assert!(store.write_in_term(term, count).await.is_ok());
    let fenced = store.write_in_term(term + 1, count).await;
    assert!(matches!(fenced, Err(WriteError::Failed(Failure::NotLeader))), "{fenced:?}");
}

fn flip(path: &Path, at: u64) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
