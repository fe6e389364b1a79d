//! One host of the store: other members on one port, clients on the next. Links are plain TCP and hosts are believed;
//! proving who they are is the agent's part.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quantix_store::{
    Address, Dial, Dialled, Failure, HostId, Link, Migration, Role, RowChange, Seen, Store, WriteError,
};
use rusqlite::{Connection, OptionalExtension, params, types::Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use crate::wire::{self, Answer, Ask, Client, Standing};

const SCHEMA: &[Migration] = &[Migration {
    name: "everything",
    sql: "CREATE TABLE kept (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
          CREATE TABLE element (value INTEGER PRIMARY KEY) STRICT;
          CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0)) STRICT;
          WITH RECURSIVE id (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM id WHERE n < 9)
              INSERT INTO account SELECT n, 100 FROM id;
          CREATE TABLE filling (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT",
}];

/// The port for clients is so far above the one for members.
pub const CLIENTS: u16 = 1000;

/// How long a member that shall end waits for another to lead.
const HAND_OVER: Duration = Duration::from_secs(5);

struct Plain(Arc<OnceLock<HostId>>);

impl Dial for Plain {
    fn dial(&self, host: HostId, address: &Address) -> Dialled {
        let (me, address) = (self.0.get().copied().unwrap_or_default(), address.0.clone());
        Box::pin(async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(me.0).await?;
            stream.write_u64(host.0).await?;
            Ok(Box::new(stream) as Box<dyn Link>)
        })
    }
}

struct Member {
    store: Arc<Store>,
    seen: Mutex<Vec<u64>>,
}

/// Runs a member until the process ends.
pub async fn run(folder: &Path, ip: &str, port: u16) -> io::Result<()> {
    let id = Arc::new(OnceLock::new());
    let store =
        Store::open(folder, SCHEMA, Box::new(Plain(Arc::clone(&id)))).await.map_err(io::Error::other)?;
    // It is set once.
    let _ = id.set(store.id());
    let member = Arc::new(Member { store: Arc::new(store), seen: Mutex::default() });
    let members = TcpListener::bind((ip, port)).await?;
    let clients = TcpListener::bind((ip, port + CLIENTS)).await?;
    tokio::spawn(watch(Arc::clone(&member)));
    let mut asked_to_end = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = asked_to_end.recv() => {
                drop(tokio::time::timeout(HAND_OVER, member.store.hand_over()).await);
                return Ok(());
            }
            Ok((mut stream, _)) = members.accept() => {
                let store = Arc::clone(&member.store);
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    let peer = HostId(stream.read_u64().await?);
                    let wanted = HostId(stream.read_u64().await?);
                    if wanted != store.id() {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    store.serve(peer, stream).await
                });
            }
            Ok((stream, _)) = clients.accept() => {
                tokio::spawn(serve(Arc::clone(&member), stream, format!("{ip}:{port}")));
            }
            why = member.store.stopped() => return Err(io::Error::other(why)),
        }
    }
}

async fn serve(member: Arc<Member>, mut stream: TcpStream, address: String) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut leader: Option<(HostId, Client)> = None;
    while let Ok(ask) = wire::receive::<Ask>(&mut stream).await {
        let mut answer = member.answer(&ask, &address).await;
        if answer.is_none() {
            answer = forward(&member.store, &mut leader, &ask).await;
        }
        let answer = answer.unwrap_or_else(|| Answer::Not("nobody leads".into()));
        wire::send(&mut stream, &answer).await?;
    }
    Ok(())
}

/// Only the leader writes.
async fn forward(store: &Store, leader: &mut Option<(HostId, Client)>, ask: &Ask) -> Option<Answer> {
    let status = store.status();
    let id = status.leader.filter(|leader| *leader != status.id)?;
    if leader.as_ref().is_none_or(|(known, _)| *known != id) {
        let address = status.members.into_iter().find(|member| member.id == id)?.address.0;
        let (ip, port) = address.rsplit_once(':')?;
        let client = Client::connect(&format!("{ip}:{}", port.parse::<u16>().ok()? + CLIENTS)).await.ok()?;
        *leader = Some((id, client));
    }
    let (_, client) = leader.as_mut()?;
    match tokio::time::timeout(Duration::from_secs(10), client.ask(ask)).await {
        Ok(Ok(answer)) => Some(answer),
        _ => {
            *leader = None;
            Some(Answer::Unknown("the leader was lost".into()))
        }
    }
}

impl Member {
    /// The answer, or nothing if the leader has to be asked.
    async fn answer(&self, ask: &Ask, address: &str) -> Option<Answer> {
        let store = &self.store;
        let done = |result: Result<(), Failure>| match result {
            Ok(()) => Answer::Done(None),
            Err(failure) => Answer::Not(failure.to_string()),
        };
        Some(match ask.clone() {
            Ask::Found => done(store.found(Address(address.into())).await),
            Ask::Id => Answer::Figures(vec![store.id().0]),
            Ask::Add(id, address) => match store.add(HostId(id), Address(address)).await {
                Err(Failure::NotLeader) => return None,
                result => done(result),
            },
            Ask::Remove(id) => match store.remove(HostId(id)).await {
                Err(Failure::NotLeader) => return None,
                result => done(result),
            },
            Ask::Status => Answer::Status(self.standing()),
            Ask::Put(name, value) => {
                return self.write(move |connection| put(connection, &name, value)).await;
            }
            Ask::Swap(name, from, to) => {
                return self.write(move |connection| swap(connection, &name, from, to)).await;
            }
            Ask::Add1(name) => return self.write(move |connection| add1(connection, &name)).await,
            Ask::Insert(value) => return self.write(move |connection| insert(connection, value)).await,
            Ask::Transfer(from, to, amount) => {
                return self.write(move |connection| transfer(connection, from, to, amount)).await;
            }
            Ask::Fill(rows, bytes) => return self.fill(rows, bytes).await,
            Ask::Get(name) => match store.catch_up().await {
                Ok(()) => read(store, |connection| get(connection, &name)),
                Err(failure) => Answer::Not(failure.to_string()),
            },
            Ask::Here(name) => read(store, |connection| get(connection, &name)),
            Ask::ReadOften(times) => {
                let start = Instant::now();
                for _ in 0..times {
                    drop(store.read(|connection| get(connection, "read often")));
                }
                Answer::Figures(vec![
                    u64::try_from(start.elapsed().as_nanos()).unwrap_or_default() / u64::from(times),
                ])
            }
            Ask::Dump => match store.catch_up().await {
                Ok(()) => store.read(dump).map_or_else(|error| Answer::Not(error.to_string()), Answer::Text),
                Err(failure) => Answer::Not(failure.to_string()),
            },
            Ask::Seen => {
                let mut seen = self.seen.lock().unwrap().clone();
                seen.sort_unstable();
                Answer::Figures(seen)
            }
        })
    }

    async fn write(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<Option<i64>> + Send + 'static,
    ) -> Option<Answer> {
        match self.store.write(work).await {
            Ok(written) => Some(Answer::Done(written.value)),
            Err(WriteError::Refused(error)) => Some(Answer::Not(error.to_string())),
            Err(WriteError::Failed(Failure::NotLeader)) => None,
            Err(WriteError::Failed(Failure::Unknown(why))) => Some(Answer::Unknown(why)),
            Err(WriteError::Failed(failure)) => Some(Answer::Not(failure.to_string())),
        }
    }

    async fn fill(&self, rows: i64, bytes: usize) -> Option<Answer> {
        let together = i64::try_from((512 * 1024 / bytes.max(1)).clamp(1, 500)).unwrap_or(1);
        for first in (0..rows).step_by(usize::try_from(together).unwrap_or(1)) {
            let filled = self
                .write(move |connection| {
                    let mut insert =
                        connection.prepare_cached("INSERT OR REPLACE INTO filling VALUES (?1, ?2)")?;
                    for id in first..(first + together).min(rows) {
                        insert
                            .execute(params![id, vec![u8::try_from(id % 251).unwrap_or_default(); bytes]])?;
                    }
                    Ok(None)
                })
                .await?;
            if !matches!(filled, Answer::Done(_)) {
                return Some(filled);
            }
        }
        Some(Answer::Done(None))
    }

    fn standing(&self) -> Standing {
        let status = self.store.status();
        Standing {
            id: status.id.0,
            leads: self.store.leadership().borrow().is_some(),
            led: status.writable,
            voters: status.members.iter().filter(|member| member.role != Role::Learner).count(),
            members: status.members.len(),
            applied: status.applied,
            schema: status.schema,
            trouble: status.trouble,
        }
    }
}

/// Notes how long puts of a time take to be seen here.
async fn watch(member: Arc<Member>) {
    let mut watch = member.store.watch(member.store.applied());
    loop {
        let Seen::Changes(changes) = watch.next().await else { continue };
        let is_time = |row: &&RowChange| matches!(row.key.first(), Some(Value::Text(name)) if name == "time");
        if changes.rows.iter().any(|row| is_time(&row))
            && let Ok(Some(put)) = member.store.read(|connection| get(connection, "time"))
        {
            let late = micros().saturating_sub(u64::try_from(put).unwrap_or_default());
            member.seen.lock().unwrap().push(late);
        }
    }
}

/// Microseconds since 1970.
pub fn micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or_default())
}

fn read(store: &Store, work: impl FnOnce(&Connection) -> rusqlite::Result<Option<i64>>) -> Answer {
    store.read(work).map_or_else(|error| Answer::Not(error.to_string()), Answer::Done)
}

fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM kept WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn put(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("INSERT INTO kept VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
        .execute(params![name, value])?;
    Ok(Some(value))
}

fn swap(connection: &Connection, name: &str, from: i64, to: i64) -> rusqlite::Result<Option<i64>> {
    let changed = connection
        .prepare_cached("UPDATE kept SET value = ?3 WHERE name = ?1 AND value = ?2")?
        .execute(params![name, from, to])?;
    Ok(Some(i64::try_from(changed).unwrap_or_default()))
}

fn add1(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "INSERT INTO kept VALUES (?1, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
        )?
        .query_row([name], |row| row.get(0))
        .map(Some)
}

fn insert(connection: &Connection, value: i64) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("INSERT INTO element VALUES (?1)")?.execute([value])?;
    Ok(None)
}

fn transfer(connection: &Connection, from: i64, to: i64, amount: i64) -> rusqlite::Result<Option<i64>> {
    let mut add = connection.prepare_cached("UPDATE account SET balance = balance + ?2 WHERE id = ?1")?;
    add.execute(params![from, -amount])?;
    add.execute(params![to, amount])?;
    Ok(None)
}

/// Every row of every table of ours.
fn dump(connection: &Connection) -> rusqlite::Result<String> {
    let mut text = String::new();
    for table in ["kept", "element", "account"] {
        let mut rows = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            text.push_str(table);
            for at in 0..columns {
                match row.get::<_, Value>(at)? {
                    Value::Text(word) => text.push_str(&format!(" {word}")),
                    Value::Integer(number) => text.push_str(&format!(" {number}")),
                    other => panic!("{other:?} in a dump"),
                }
            }
            text.push('\n');
        }
    }
    let filled =
        connection.query_row("SELECT count(*), total(length(bytes) * id) FROM filling", [], |row| {
            Ok(format!("filling {} {}\n", row.get::<_, i64>(0)?, row.get::<_, f64>(1)?))
        })?;
    Ok(text + &filled)
}
