//! What changes, as it changes: one reader of the store's feed translates for all who listen, so that a change is
//! looked at once however many pages are open. What is kept for whoever is late is bounded, and so is who may listen.

mod model;
mod stream;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use quantix_api::{ChangeOperation, Place, Scope};
use quantix_store::{Changes, HostId, Operation, Role, RowChange, Seen, Store};
use rusqlite::{Connection, OptionalExtension, types::Value};
use tokio::sync::broadcast;

pub(crate) use model::{Kind, Told};
pub(crate) use stream::{Listener, listen};

use crate::{api::Agent, events::LOST_AFTER, lock, sessions::TokenHash, vms::folders};

/// Changes that are kept for whoever comes back; whoever was away for longer reads everything again.
const KEPT: usize = 2048;
/// Changes a listener may be behind before it is let go.
const BEHIND: usize = 512;
/// One entry of the log with more rows than this is told as "anything may have changed".
const MOST_AT_ONCE: usize = 200;
/// How often hosts are looked at that nobody writes about: whether they answer, and who leads.
const LOOK: Duration = Duration::from_millis(500);
/// Listeners on this host, and in one session.
const LISTENERS: usize = 1000;
const OF_ONE_SESSION: usize = 16;
/// Objects of which it is remembered to whom or where they belong, so that their end can be told.
const OWNERS: usize = 4096;

/// What came with one entry of the log, or with none.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Counts what was told on this host.
    number: u64,
    index: Option<u64>,
    what: What,
    /// Whose rights may be others now.
    touches: Touches,
}

#[derive(Debug)]
enum What {
    Told(Vec<(Told, String)>),
    /// Anything may have changed.
    Resync,
}

/// Who must be looked at again.
#[derive(Debug, Default)]
struct Touches {
    everybody: bool,
    sessions: Vec<TokenHash>,
    people: Vec<String>,
}

/// What is told on this host, and to how many.
#[derive(Debug)]
pub(crate) struct Hub {
    sender: broadcast::Sender<Arc<Batch>>,
    kept: Mutex<Kept>,
    seats: Arc<Mutex<HashMap<TokenHash, usize>>>,
    ends: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Kept {
    newest: VecDeque<Arc<Batch>>,
    /// Everything after this entry of the log is kept.
    after: u64,
    /// The last entry that was told of.
    index: u64,
    number: u64,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(BEHIND),
            kept: Mutex::default(),
            seats: Arc::default(),
            ends: tokio::sync::watch::Sender::new(false),
        }
    }
}

/// A seat that one listener holds.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Mutex<HashMap<TokenHash, usize>>>,
    session: TokenHash,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        if let Some(held) = seats.get_mut(&self.session) {
            *held -= 1;
            if *held == 0 {
                seats.remove(&self.session);
            }
        }
    }
}

impl Hub {
    fn seat(&self, session: TokenHash) -> Option<Seat> {
        let mut seats = lock(&self.seats);
        let all: usize = seats.values().sum();
        let held = seats.entry(session).or_default();
        if *held >= OF_ONE_SESSION || all >= LISTENERS {
            if *held == 0 {
                seats.remove(&session);
            }
            return None;
        }
        *held += 1;
        Some(Seat { seats: Arc::clone(&self.seats), session })
    }

    /// Lets all listeners go: the program ends.
    pub(crate) fn end(&self) {
        self.ends.send_replace(true);
    }

    fn tell(&self, index: Option<u64>, what: What, touches: Touches) {
        let mut kept = lock(&self.kept);
        kept.number += 1;
        let batch = Arc::new(Batch { number: kept.number, index, what, touches });
        if let Some(index) = index {
            kept.index = index;
            if matches!(batch.what, What::Resync) {
                kept.newest.clear();
                kept.after = index;
            }
        }
        kept.newest.push_back(Arc::clone(&batch));
        while kept.newest.len() > KEPT {
            if let Some(index) = kept.newest.pop_front().and_then(|oldest| oldest.index) {
                kept.after = index;
            }
        }
        // Under the lock, so that whoever begins to listen misses nothing and hears nothing twice.
        drop(self.sender.send(batch));
    }

    /// Begins to listen after an entry: what is kept from there on, or that too much was missed.
    fn subscribe(&self, after: Option<u64>) -> (broadcast::Receiver<Arc<Batch>>, Vec<Arc<Batch>>, bool, u64) {
        let kept = lock(&self.kept);
        let receiver = self.sender.subscribe();
        let Some(after) = after else { return (receiver, Vec::new(), false, kept.index) };
        if after < kept.after {
            return (receiver, Vec::new(), true, kept.index);
        }
        let missed = kept.newest.iter().filter(|batch| batch.index.is_some_and(|index| index > after));
        (receiver, missed.cloned().collect(), false, kept.index)
    }
}

impl Agent {
    /// Follows the store's feed, and what no feed tells, for as long as the program runs.
    pub(crate) async fn tell_changes(self: Arc<Self>) {
        let store = self.cluster.opened().await;
        let from = store.applied();
        {
            let mut kept = lock(&self.changes.kept);
            (kept.after, kept.index) = (from, from);
        }
        tokio::join!(self.follow_feed(&store, from), self.follow_hosts(&store));
    }

    async fn follow_feed(&self, store: &Store, from: u64) {
        let mut watch = store.watch(from);
        let mut known = Known::default();
        loop {
            let (index, what, touches) = match watch.next().await {
                Seen::Resync(index) => {
                    known = Known::default();
                    (index, What::Resync, Touches { everybody: true, ..Touches::default() })
                }
                Seen::Changes(changes) => {
                    let touches = touches(&changes);
                    if changes.rows.len() > MOST_AT_ONCE {
                        (changes.index, What::Resync, Touches { everybody: true, ..touches })
                    } else {
                        let told = self.translate(&changes, &mut known).await;
                        (changes.index, What::Told(told), touches)
                    }
                }
            };
            self.changes.tell(Some(index), what, touches);
        }
    }

    async fn translate(&self, changes: &Changes, known: &mut Known) -> Vec<(Told, String)> {
        let rows: Vec<RowChange> =
            changes.rows.iter().filter(|row| Kind::of_table(&row.table).is_some()).cloned().collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let looked_up = rows.clone();
        // Only what belongs to some must be looked up; the rest is in the change.
        let found = if rows.iter().any(|row| BELONGS.contains(&&*row.table)) {
            self.cluster
                .read(move |connection| looked_up.iter().map(|row| look_up(connection, row)).collect())
                .await
        } else {
            Ok(vec![None; rows.len()])
        };
        let found: Vec<Option<Found>> = found.unwrap_or_else(|_| vec![None; rows.len()]);
        let mut told: Vec<Told> = Vec::with_capacity(rows.len());
        for (row, found) in rows.iter().zip(found) {
            for one in tell(row, found, known) {
                if !told.contains(&one) {
                    told.push(one);
                }
            }
        }
        told.into_iter().map(|told| (told.clone(), told.text())).collect()
    }

    async fn follow_hosts(&self, store: &Store) {
        let mut seen = None;
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let now = standing(store);
            let Some(before) = seen.replace(now.clone()) else { continue };
            let mut told: Vec<_> = now
                .1
                .iter()
                .filter(|host| !before.1.contains(host))
                .map(|(host, ..)| {
                    let scope = Scope::Host(host.to_string());
                    Told::new(Kind::Host, scope, host.to_string(), ChangeOperation::Changed)
                })
                .collect();
            if now != before {
                told.push(Told::new(
                    Kind::Cluster,
                    Scope::Datacenter,
                    String::new(),
                    ChangeOperation::Changed,
                ));
                let told = told.into_iter().map(|told| (told.clone(), told.text())).collect();
                self.changes.tell(None, What::Told(told), Touches::default());
            }
        }
    }
}

/// Who leads, and whether anything can be changed.
type Leading = (Option<HostId>, bool);

/// What pages show of hosts that is in no table: who leads, who votes, who answers.
fn standing(store: &Store) -> (Leading, Vec<(HostId, Role, bool)>) {
    let status = store.status();
    let is_lost = |silent: Option<Duration>| silent.is_none_or(|silent| silent >= LOST_AFTER);
    let hosts =
        status.members.iter().map(|member| (member.id, member.role, is_lost(member.silent))).collect();
    ((status.leader, status.writable), hosts)
}

/// To whom a row belongs, or where what it is about is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Owner(String),
    Place(Place),
}

/// The tables whose rows belong somewhere.
const BELONGS: [&str; 7] = ["task", "event", "session", "vm", "vm_seen", "folder", "volume"];

/// What was found before, so that the end of something can be told to those who saw it.
#[derive(Debug, Default)]
struct Known {
    owners: HashMap<TokenHash, String>,
    places: HashMap<Scope, Place>,
}

impl Known {
    /// Where else something was until now, and where it is.
    fn moves(&mut self, scope: Scope, found: Option<Place>) -> (Option<Place>, Place) {
        let before = self.places.remove(&scope);
        let Some(now) = found else { return (None, before.unwrap_or(scope.into())) };
        if self.places.len() >= OWNERS {
            self.places.clear();
        }
        self.places.insert(scope, now.clone());
        (before.filter(|before| *before != now), now)
    }
}

/// To whom or to what a row belongs.
fn look_up(connection: &Connection, row: &RowChange) -> rusqlite::Result<Option<Found>> {
    let sql = match &*row.table {
        "task" => "SELECT object FROM task WHERE id = ?1",
        "event" => "SELECT object FROM event WHERE id = ?1",
        "session" => "SELECT username FROM session WHERE token_hash = ?1",
        "vm" | "vm_seen" => "SELECT 'vm/' || id FROM vm WHERE id = ?1",
        "folder" => "SELECT 'folder/' || id FROM folder WHERE id = ?1",
        "volume" => "SELECT 'volume/' || id FROM volume WHERE id = ?1",
        _ => return Ok(None),
    };
    let Some(key) = row.key.first() else { return Ok(None) };
    let found: Option<String> =
        connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
    let Some(found) = found else { return Ok(None) };
    if &*row.table == "session" {
        return Ok(Some(Found::Owner(found)));
    }
    let scope = found.parse().unwrap_or(Scope::Datacenter);
    Ok(Some(Found::Place(folders::place(connection, &scope)?)))
}

fn key_text(row: &RowChange) -> String {
    match (&*row.table, row.key.first()) {
        // A host's number is its id in figures; what sessions and tokens are known by is nobody's business.
        ("host", Some(Value::Integer(id))) => HostId(id.cast_unsigned()).to_string(),
        ("task" | "event" | "audit" | "folder", Some(Value::Integer(id))) => id.to_string(),
        ("vm" | "vm_seen" | "volume" | "pool" | "pool_seen", Some(Value::Text(id))) => id.clone(),
        ("account" | "role" | "user_group" | "second_factor", Some(Value::Text(name))) => name.clone(),
        _ => String::new(),
    }
}

fn tell(row: &RowChange, found: Option<Found>, known: &mut Known) -> Vec<Told> {
    let Some(kind) = Kind::of_table(&row.table) else { return Vec::new() };
    let operation = match (row.operation, &*row.table) {
        // How a machine or a pool is seen comes and goes with it.
        (_, "vm_seen" | "pool_seen") | (Operation::Update, _) => ChangeOperation::Changed,
        (Operation::Insert, _) => ChangeOperation::Added,
        (Operation::Delete, _) => ChangeOperation::Removed,
    };
    let key = key_text(row);
    let (owner, place) = match found {
        Some(Found::Owner(owner)) => (Some(owner), None),
        Some(Found::Place(place)) => (None, Some(place)),
        None => (None, None),
    };
    let about = |place: Place| Told::new(kind, place, key.clone(), operation);
    match kind {
        Kind::Session => {
            let Some(hash) = token_hash(row) else { return Vec::new() };
            let owner = match owner {
                Some(owner) => {
                    if known.owners.len() >= OWNERS {
                        known.owners.clear();
                    }
                    known.owners.insert(hash, owner.clone());
                    Some(owner)
                }
                None => known.owners.remove(&hash),
            };
            let Some(owner) = owner else { return Vec::new() };
            vec![Told { person: Some(owner), ..about(Scope::Datacenter.into()) }]
        }
        Kind::Host => {
            vec![about(format!("host/{key}").parse().unwrap_or(Scope::Datacenter).into())]
        }
        Kind::Vm | Kind::Folder | Kind::Volume => {
            let scope = format!("{}/{key}", kind.name()).parse().unwrap_or(Scope::Datacenter);
            let (before, now) = known.moves(scope, place);
            // Whoever saw it where it was is told as well.
            before.into_iter().chain([now]).map(about).collect()
        }
        _ => {
            let place = place.unwrap_or(Scope::Datacenter.into());
            let mut all = vec![about(place.clone())];
            // Whether a host or a machine has trouble is shown with it, and nothing else tells the other hosts' pages.
            let shown_with = match &place.scope {
                Scope::Host(id) if kind == Kind::Event => Some((Kind::Host, id.clone())),
                Scope::Vm(id) if matches!(kind, Kind::Event | Kind::Task) => Some((Kind::Vm, id.clone())),
                _ => None,
            };
            all.extend(shown_with.map(|(kind, id)| Told::new(kind, place, id, ChangeOperation::Changed)));
            all
        }
    }
}

fn token_hash(row: &RowChange) -> Option<TokenHash> {
    match row.key.first() {
        Some(Value::Blob(hash)) => hash.as_slice().try_into().ok(),
        _ => None,
    }
}

fn touches(changes: &Changes) -> Touches {
    let mut touches = Touches::default();
    for row in &changes.rows {
        match &*row.table {
            // That it was used changes nothing for it.
            "session" | "api_token" if row.operation == Operation::Update && is_only_use(row) => {}
            "session" | "api_token" => touches.sessions.extend(token_hash(row)),
            "account" | "second_factor" => {
                if let Some(Value::Text(name)) = row.key.first() {
                    touches.people.push(name.clone());
                }
            }
            "role" | "user_group" | "membership" | "access" => touches.everybody = true,
            _ => {}
        }
    }
    touches
}

fn is_only_use(row: &RowChange) -> bool {
    row.columns.iter().all(|column| matches!(&**column, "used_at" | "last_used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(indices: std::ops::Range<u64>) -> Hub {
        let hub = Hub::default();
        for index in indices {
            hub.tell(Some(index), What::Told(Vec::new()), Touches::default());
        }
        hub
    }

    fn missed(hub: &Hub, after: u64) -> Option<Vec<u64>> {
        let (_, missed, must_resync, _) = hub.subscribe(Some(after));
        (!must_resync).then(|| missed.iter().filter_map(|batch| batch.index).collect())
    }

    #[test]
    fn whoever_comes_back_gets_what_it_missed_and_nothing_twice() {
        let hub = hub(1..11);
        assert_eq!(missed(&hub, 7), Some(vec![8, 9, 10]));
        assert_eq!(missed(&hub, 10), Some(vec![]));
        // It has heard more on another host.
        assert_eq!(missed(&hub, 500), Some(vec![]));
    }

    #[test]
    fn whoever_was_away_too_long_reads_everything_again() {
        let many = KEPT as u64 + 100;
        let hub = hub(1..many + 1);
        assert_eq!(missed(&hub, 99), None);
        assert_eq!(missed(&hub, 100).map(|missed| missed.len()), Some(KEPT));
        hub.tell(Some(many + 1), What::Resync, Touches::default());
        assert_eq!(missed(&hub, many), None);
    }

    #[tokio::test]
    async fn whoever_takes_nothing_is_let_go_and_nothing_is_kept_for_them() {
        let hub = hub(1..2);
        let (mut slow, ..) = hub.subscribe(None);
        let first = Arc::downgrade(&lock(&hub.kept).newest[0]);
        for index in 2..3 + (KEPT + BEHIND) as u64 {
            hub.tell(Some(index), What::Told(Vec::new()), Touches::default());
        }
        assert!(matches!(slow.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
        assert!(first.upgrade().is_none());
        assert_eq!(lock(&hub.kept).newest.len(), KEPT);
    }

    #[test]
    fn seats_are_given_back() {
        let hub = Hub::default();
        let one: Vec<_> = (0..OF_ONE_SESSION + 5).filter_map(|_| hub.seat([1; 32])).collect();
        assert_eq!(one.len(), OF_ONE_SESSION);
        let mut others = Vec::new();
        for session in 0..LISTENERS {
            let mut hash = [2; 32];
            hash[..8].copy_from_slice(&(session as u64).to_be_bytes());
            others.extend(hub.seat(hash));
        }
        assert_eq!(one.len() + others.len(), LISTENERS);
        drop(one);
        assert!(hub.seat([1; 32]).is_some());
        drop(others);
        assert!(lock(&hub.seats).is_empty());
    }

    #[test]
    fn the_end_of_a_session_is_told_to_its_owner() {
        let mut known = Known::default();
        let row = |operation| RowChange {
            table: "session".into(),
            operation,
            key: vec![Value::Blob(vec![7; 32])],
            columns: vec![],
        };
        let told = tell(&row(Operation::Insert), Some(Found::Owner("ada".into())), &mut known);
        assert_eq!(told[0].person.as_deref(), Some("ada"));
        let told = tell(&row(Operation::Delete), None, &mut known);
        assert_eq!((told[0].person.as_deref(), told[0].change.key.as_str()), (Some("ada"), ""));
        // Of one that was opened before this host began to listen nobody is told.
        assert!(tell(&row(Operation::Delete), None, &mut known).is_empty());
    }

    #[test]
    fn who_saw_a_machine_hears_that_it_is_somewhere_else_or_gone() {
        let mut known = Known::default();
        let id = "019acd00-0000-7000-8000-00000000000a";
        let row = |operation| RowChange {
            table: "vm".into(),
            operation,
            key: vec![Value::Text(id.into())],
            columns: vec![],
        };
        let place = |folder| Place { scope: Scope::Vm(id.into()), inside: vec![Scope::Folder(folder)] };
        let hear = |told: Vec<Told>| -> Vec<_> {
            told.into_iter().map(|told| (told.place, told.change.operation)).collect()
        };
        let (here, there) = (place(1), place(2));
        let told = tell(&row(Operation::Insert), Some(Found::Place(here.clone())), &mut known);
        assert_eq!(hear(told), [(here.clone(), ChangeOperation::Added)]);
        let told = tell(&row(Operation::Update), Some(Found::Place(there.clone())), &mut known);
        assert_eq!(hear(told), [(here, ChangeOperation::Changed), (there.clone(), ChangeOperation::Changed)]);
        let told = tell(&row(Operation::Delete), None, &mut known);
        assert_eq!(hear(told), [(there, ChangeOperation::Removed)]);
    }
}
