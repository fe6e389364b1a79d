//! Connections that only read.

use std::{path::PathBuf, sync::Mutex};

use rusqlite::{Connection, OpenFlags};

/// Connections that wait to be used again.
const IDLE: usize = 4;

#[derive(Debug)]
pub(crate) struct Readers(Mutex<Pool>);

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    /// Connections are of one replacement of the database and are not used after the next.
    replaced: u64,
    idle: Vec<Connection>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Mutex::new(Pool { path, replaced: 0, idle: Vec::new() }))
    }

    /// Reads one consistent state of the database.
    pub(crate) fn read<R, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, E>,
    ) -> Result<R, E> {
        let (connection, replaced) = self.take()?;
        let transaction = connection.unchecked_transaction()?;
        let result = work(&transaction);
        transaction.finish()?;
        let mut pool = crate::lock(&self.0);
        if pool.replaced == replaced && pool.idle.len() < IDLE {
            pool.idle.push(connection);
        }
        result
    }

    pub(super) fn path(&self) -> PathBuf {
        crate::lock(&self.0).path.clone()
    }

    /// A connection of the caller's own.
    pub(crate) fn connect(&self) -> Result<Connection, rusqlite::Error> {
        connect(&self.path())
    }

    pub(super) fn replace(&self, path: PathBuf) {
        let mut pool = crate::lock(&self.0);
        pool.path = path;
        pool.replaced += 1;
        pool.idle.clear();
    }

    fn take(&self) -> Result<(Connection, u64), rusqlite::Error> {
        let mut pool = crate::lock(&self.0);
        let replaced = pool.replaced;
        if let Some(connection) = pool.idle.pop() {
            return Ok((connection, replaced));
        }
        let path = pool.path.clone();
        drop(pool);
        Ok((connect(&path)?, replaced))
    }
}

fn connect(path: &std::path::Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
