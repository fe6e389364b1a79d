//! The cluster's one source of truth: a SQLite database that every host has, changed by one of them at a time.
//!
//! What a writer does to rows is recorded on the leader, agreed on by the voters' logs, and applied to every host's
//! database. A writer may use any SQL, the clock and chance; a reader reads its own host's database.

mod elections;
mod feed;
mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod log;
mod members;
mod network;
mod peers;
mod raft;
mod recover;
mod serve;
mod shared;
mod state;
mod store;
mod trouble;
mod voters;
mod writers;

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use feed::{Changes, Operation, RowChange, Seen, Watch};
pub use frame::Link;
pub use peers::{Dial, Dialled};
pub use raft::{Address, HostId};
pub use recover::{RecoverError, recover, restore};
pub use state::{Failure, Migration, SchemaError};
pub use store::{Member, OpenError, Role, Status, Store, WriteError, Written};
pub use voters::Wanted;

/// A panic elsewhere does not make what a lock guards wrong: every change under one is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what blocks in a thread of its own.
async fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, wait) = tokio::sync::oneshot::channel();
    // Who no longer waits does not need the answer.
    std::thread::Builder::new().name(name.into()).spawn(move || drop(done.send(work())))?;
    wait.await.map_err(|_| io::Error::other(format!("{name} ended early")))
}
