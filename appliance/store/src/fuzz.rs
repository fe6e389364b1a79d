//! What the fuzz targets reach: everything that this host reads from other hosts. Whatever comes, it is read or refused;
//! what was read is the same when it is sent on.

use std::{
    cell::RefCell,
    fs,
    path::Path,
    pin::pin,
    task::{Context, Poll, Waker},
};

use rusqlite::{Connection, session::Session};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Address, HostId,
    frame::{self, Introduction, LARGE, Request, Response, SMALL, Welcome},
    raft::{Change, Command, Entry, LogId, Vote},
    state::{self, apply},
};

/// Messages on a link, of the kind that the first byte stands for.
pub fn messages(bytes: &[u8]) {
    let Some((kind, link)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => every::<Introduction>(link, SMALL),
        1 => every::<Welcome>(link, SMALL),
        2 => every::<Request>(link, LARGE),
        _ => every::<Response>(link, LARGE),
    }
}

fn every<T: Serialize + DeserializeOwned>(mut link: &[u8], limit: usize) {
    while let Ok(message) = at_once(frame::receive::<T>(&mut link, limit)) {
        let sent = sent(&message);
        let arrived = at_once(frame::receive::<T>(&mut &sent[..], usize::MAX));
        assert!(arrived.is_ok_and(|arrived| self::sent(&arrived) == sent), "a message changes on its way");
    }
}

fn sent(message: &impl Serialize) -> Vec<u8> {
    let mut link = Vec::new();
    assert!(at_once(frame::send(&mut link, message)).is_ok(), "what was read cannot be sent");
    link
}

/// What is read from memory is there.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("memory has no more to wait for"),
    }
}

const TABLES: &str = "
    CREATE TABLE host (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, at INTEGER) STRICT;
    CREATE TABLE nic (host INTEGER NOT NULL REFERENCES host (id) ON DELETE CASCADE, name TEXT, speed REAL,
        PRIMARY KEY (host, name)) WITHOUT ROWID;
    INSERT INTO host VALUES (1, 'qx-01', 7), (2, 'qx-02', NULL);
    INSERT INTO nic VALUES (1, 'eth0', 1.5), (2, 'eth0', x'00');
";

thread_local! {
    static DATABASE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// Changes as the leader sends them, applied to a database.
pub fn changeset(bytes: &[u8]) {
    DATABASE.with_borrow_mut(|kept| {
        let connection = match kept.take() {
            Some(connection) => connection,
            None => database_in_memory().unwrap_or_else(|error| unreachable!("{error}")),
        };
        // What cannot be applied is undone, as it is with hosts.
        let applied = connection.unchecked_transaction().and_then(|transaction| {
            drop(apply::apply(&transaction, &mut apply::Tables::default(), bytes));
            transaction.rollback()
        });
        assert!(applied.is_ok(), "the database is stuck: {applied:?}");
        *kept = Some(connection);
    });
}

fn database_in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch("PRAGMA foreign_keys = off")?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

/// A database that arrived from the leader or in a backup, begun with in `folder`, which is removed again.
pub fn database(folder: &Path, bytes: &[u8]) {
    let (arrived, store) = (folder.join("arrived"), folder.join("store"));
    let written = fs::create_dir_all(&store).and_then(|()| fs::write(&arrived, bytes));
    assert!(written.is_ok(), "the folder cannot be written: {written:?}");
    // It may be refused; it may not take the process with it.
    drop(crate::restore(&store, &arrived, Address::default()));
    let removed = fs::remove_dir_all(&store);
    assert!(removed.is_ok(), "the folder cannot be emptied: {removed:?}");
}

/// Inputs to begin with: the target, a name, and the bytes. One of them is made as a file in `folder`.
pub fn seeds(folder: &Path) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let vote = Vote::new_committed(3, HostId(5));
    let log_id = |index| LogId::new(openraft::CommittedLeaderId::new(3, HostId(5)), index);
    let introduction = Introduction {
        form: frame::FORM,
        from: HostId(5),
        to: HostId(9),
        boots: 2,
        boot: 77,
        reached: (Some(vote), Some(log_id(4))),
        knows: 3,
        members_at: Some(log_id(1)),
    };
    let changes = changes().unwrap_or_default();
    let change = Change { term: 3, base: 4, mark: 11, changesets: vec![changes.clone().into()] };
    let append = openraft::raft::AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(4)),
        entries: vec![
            Entry { log_id: log_id(5), payload: openraft::EntryPayload::Normal(Command::Change(change)) },
            Entry { log_id: log_id(6), payload: openraft::EntryPayload::Normal(Command::Migrate { to: 4 }) },
        ],
        leader_commit: Some(log_id(4)),
    };
    let position = state::Position { applied: Some(log_id(6)), base: 5, schema: 3, ..Default::default() };
    let ask = openraft::raft::VoteRequest { vote, last_log_id: Some(log_id(6)) };
    let message = |kind: u8, message: &dyn Fn() -> Vec<u8>| [vec![kind], message()].concat();
    vec![
        ("store_messages", "introduction", message(0, &|| sent(&introduction))),
        ("store_messages", "welcome", message(1, &|| sent(&Welcome::Come(introduction.clone())))),
        (
            "store_messages",
            "refusal",
            message(1, &|| sent(&Welcome::No(frame::Refusal::NotAMember(Some(log_id(6)))))),
        ),
        ("store_messages", "append", message(2, &|| sent(&Request::Append(append.clone())))),
        (
            "store_messages",
            "vote",
            message(2, &|| [sent(&Request::Vote(ask.clone())), sent(&Request::Ping)].concat()),
        ),
        (
            "store_messages",
            "snapshot",
            message(2, &|| sent(&Request::Snapshot(vote, state::describe(&position), 4096))),
        ),
        ("store_messages", "read_index", message(3, &|| sent(&Response::ReadIndex(6)))),
        ("store_changeset", "rows", changes),
        ("store_database", "alone", database_of(&position, &folder.join("seed.db")).unwrap_or_default()),
    ]
}

/// One of everything that can happen to rows.
fn changes() -> rusqlite::Result<Vec<u8>> {
    let connection = database_in_memory()?;
    let mut changes = Vec::new();
    let mut session = Session::new(&connection)?;
    session.attach(None::<&str>)?;
    connection.execute_batch(
        "UPDATE host SET name = 'qx-03', at = 9 WHERE id = 1; DELETE FROM nic WHERE host = 2;
         INSERT INTO host VALUES (4, 'qx-01', 8); INSERT INTO nic VALUES (4, 'eth1', 2.5);",
    )?;
    session.changeset_strm(&mut changes)?;
    drop(session);
    Ok(changes)
}

fn database_of(position: &state::Position, path: &Path) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let connection = Connection::open(path)?;
    // Small pages, so that chance reaches all of it.
    connection.execute_batch("PRAGMA page_size = 512")?;
    connection.execute_batch(state::TABLE)?;
    state::write_position(&connection, position)?;
    drop(connection);
    let bytes = fs::read(path)?;
    fs::remove_file(path)?;
    Ok(bytes)
}
