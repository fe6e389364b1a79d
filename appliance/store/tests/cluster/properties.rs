//! Whatever writers do, and in whatever order they come, all hosts have the same, and it is what SQLite alone would
//! have made of it.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use quantix_store::{Failure, WriteError};
use rusqlite::{Connection, params, types::Value};

use crate::hosts::{Cluster, SCHEMA, contents, first_difference};

#[derive(Clone, Debug)]
enum Act {
    Add { id: i64, name: String },
    Rename { id: i64, name: String },
    Renumber { id: i64, to: i64 },
    Remove { id: i64 },
    Swap { one: i64, other: i64 },
    Note { id: i64, note: Cell, seen: Cell },
    AddPet { id: i64, owner: i64, name: Cell },
    GiveAway { id: i64, to: i64 },
    RemovePet { id: i64 },
    Widen { key: Vec<u8>, value: Cell },
    Clear,
}

/// A value with bytes of every kind.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    /// Text that is not UTF-8.
    Bytes(Vec<u8>),
    Blob(Vec<u8>),
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Integer(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Real(value) => ToSqlOutput::Owned(Value::Real(*value)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

#[derive(Clone, Debug)]
struct Transaction {
    acts: Vec<Act>,
    fails: bool,
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::Null),
        any::<i64>().prop_map(Cell::Integer),
        (0..5_i64).prop_map(Cell::Integer),
        any::<f64>()
            .prop_filter("SQLite has no NaN, and zero without a sign", |real| !real.is_nan() && *real != 0.0)
            .prop_map(Cell::Real),
        ".{0,12}".prop_map(Cell::Text),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Cell::Bytes),
        prop::collection::vec(any::<u8>(), 0..3000).prop_map(Cell::Blob),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let id = || 0..8_i64;
    let name = || "[a-e]";
    prop_oneof![
        4 => (id(), name()).prop_map(|(id, name)| Act::Add { id, name }),
        1 => (id(), name()).prop_map(|(id, name)| Act::Rename { id, name }),
        1 => (id(), id()).prop_map(|(id, to)| Act::Renumber { id, to }),
        1 => (id()).prop_map(|id| Act::Remove { id }),
        2 => (id(), id()).prop_map(|(one, other)| Act::Swap { one, other }),
        2 => (id(), cell(), cell()).prop_map(|(id, note, seen)| Act::Note { id, note, seen }),
        4 => (id(), id(), cell()).prop_map(|(id, owner, name)| Act::AddPet { id, owner, name }),
        1 => (id(), id()).prop_map(|(id, to)| Act::GiveAway { id, to }),
        1 => id().prop_map(|id| Act::RemovePet { id }),
        2 => (prop::collection::vec(0..3_u8, 0..3), cell()).prop_map(|(key, value)| Act::Widen { key, value }),
        1 => Just(Act::Clear),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    (prop::collection::vec(act(), 0..8), prop::bool::weighted(0.2))
        .prop_map(|(acts, fails)| Transaction { acts, fails })
}

/// Does what can be done; what breaks a rule of the schema is left out.
fn run(connection: &Connection, transaction: &Transaction) -> Result<(), rusqlite::Error> {
    for act in &transaction.acts {
        if let Err(error) = run_act(connection, act)
            && error.sqlite_error_code() != Some(rusqlite::ErrorCode::ConstraintViolation)
        {
            return Err(error);
        }
    }
    if transaction.fails { Err(rusqlite::Error::QueryReturnedNoRows) } else { Ok(()) }
}

fn run_act(connection: &Connection, act: &Act) -> Result<(), rusqlite::Error> {
    let done = match act {
        Act::Add { id, name } => {
            connection.execute("INSERT INTO person (id, name) VALUES (?1, ?2)", params![id, name])
        }
        Act::Rename { id, name } => {
            connection.execute("UPDATE OR REPLACE person SET name = ?2 WHERE id = ?1", params![id, name])
        }
        Act::Renumber { id, to } => {
            connection.execute("UPDATE person SET id = ?2 WHERE id = ?1", params![id, to])
        }
        Act::Remove { id } => connection.execute("DELETE FROM person WHERE id = ?1", [id]),
        Act::Swap { one, other } => {
            let name = "SELECT name FROM person WHERE id = ?1";
            let names = (
                connection.query_row(name, [one], |row| row.get::<_, String>(0)),
                connection.query_row(name, [other], |row| row.get::<_, String>(0)),
            );
            let (Ok(first), Ok(second)) = names else { return Ok(()) };
            let rename = "UPDATE person SET name = ?2 WHERE id = ?1";
            connection.execute(rename, params![one, "nobody"])?;
            connection.execute(rename, params![other, first])?;
            connection.execute(rename, params![one, second])
        }
        Act::Note { id, note, seen } => connection
            .execute("UPDATE person SET note = ?2, seen = ?3 WHERE id = ?1", params![id, note, seen]),
        Act::AddPet { id, owner, name } => {
            connection.execute("INSERT INTO pet VALUES (?1, ?2, ?3)", params![id, owner, name])
        }
        Act::GiveAway { id, to } => {
            connection.execute("UPDATE pet SET owner = ?2 WHERE id = ?1", params![id, to])
        }
        Act::RemovePet { id } => connection.execute("DELETE FROM pet WHERE id = ?1", [id]),
        Act::Widen { key, value } => connection.execute(
            "INSERT OR REPLACE INTO wide (c, t1, a, m, z, s1) VALUES (?1, 1, ?2, ?2, ?2, ?2)",
            params![key, value],
        ),
        Act::Clear => connection.execute("DELETE FROM wide WHERE length(c) < 2", []),
    };
    done.map(drop)
}

fn alone() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    for step in SCHEMA {
        connection.execute_batch(step.sql).unwrap();
    }
    connection
}

fn some(count: u32) -> (Vec<Transaction>, String) {
    let seed = std::env::var("QUANTIX_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let transactions = (0..count).map(|_| transaction().new_tree(&mut runner).unwrap().current()).collect();
    (transactions, format!("QUANTIX_SEED={seed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_gives_what_sqlite_alone_gives() {
    let cluster = Cluster::of(1).await;
    let model = alone();
    let (transactions, seed) = some(1500);
    println!("{seed}");
    for transaction in transactions {
        let expected = {
            let savepoint = model.unchecked_transaction().unwrap();
            let result = run(&savepoint, &transaction).map_err(|error| error.to_string());
            if result.is_ok() {
                savepoint.commit().unwrap();
            }
            result
        };
        let acts = transaction.clone();
        let written = cluster.hosts[0].store.write(move |connection| run(connection, &acts)).await;
        assert_eq!(
            written.map(drop).map_err(|error| error.to_string()),
            expected,
            "{seed}: {transaction:?} {:?}",
            cluster.hosts[0].store.status().trouble
        );
        let (ours, wanted) = (cluster.hosts[0].store.read(contents).unwrap(), contents(&model).unwrap());
        assert!(ours == wanted, "{seed}: {} after {transaction:?}", first_difference(&ours, &wanted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_gives_equal_hosts_that_keep_the_rules() {
    let cluster = Cluster::of(3).await;
    let (transactions, seed) = some(2000);
    println!("{seed}");
    for together in transactions.chunks(40) {
        let mut left = together.to_vec();
        while !left.is_empty() {
            let leader = cluster.leader().await;
            let mut writers = tokio::task::JoinSet::new();
            for transaction in left.drain(..) {
                let store = std::sync::Arc::clone(&cluster.hosts[leader].store);
                writers.spawn(async move {
                    let (fails, act) = (transaction.fails, transaction.clone());
                    let written = store.write(move |connection| run(connection, &act)).await;
                    if matches!(written, Err(WriteError::Failed(Failure::NotLeader))) {
                        // On a machine that is busy another may lead meanwhile: nothing of it was written.
                        return Some(transaction);
                    }
                    assert_eq!(written.is_err(), fails, "{written:?}");
                    None
                });
            }
            while let Some(done) = writers.join_next().await {
                left.extend(done.unwrap());
            }
        }
        cluster.assert_equal().await;
    }
    for host in &cluster.hosts {
        host.store
            .read(|connection| {
                let mut broken = connection.prepare("PRAGMA foreign_key_check")?;
                assert!(!broken.exists([])?, "{seed}: a foreign key points nowhere");
                let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
                assert_eq!(sound, "ok", "{seed}");
                let pets: i64 = connection.query_row("SELECT count(*) FROM pet", [], |row| row.get(0))?;
                let tally =
                    connection.query_row("SELECT count FROM tally WHERE what = 'pets'", [], |row| row.get(0));
                assert_eq!(tally.unwrap_or(0), pets, "{seed}");
                Ok::<_, rusqlite::Error>(())
            })
            .unwrap();
    }
}
