//! The schema and its steps.

use rusqlite::{Connection, OptionalExtension};

/// One step of the schema. It runs on every host by itself, so it may use neither time nor chance.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// What it is for, in a word or two.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

/// Why a schema cannot be replicated.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A step does not run.
    #[error("step {0} of the schema fails: {1}")]
    Step(usize, rusqlite::Error),
    /// A table is of a kind that would not be the same on every host.
    #[error("the table {table} {why}")]
    Table {
        /// Its name.
        table: String,
        /// What about it.
        why: &'static str,
    },
    /// SQLite cannot even be asked.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Runs all steps on an empty database and looks at the tables they make.
pub(crate) fn check(migrations: &[Migration]) -> Result<(), SchemaError> {
    let connection = Connection::open_in_memory()?;
    for (at, step) in migrations.iter().enumerate() {
        connection.execute_batch(step.sql).map_err(|error| SchemaError::Step(at + 1, error))?;
    }
    let mut tables =
        connection.prepare("SELECT name, wr, type, strict FROM pragma_table_list WHERE schema = 'main'")?;
    let mut rows = tables.query([])?;
    while let Some(row) = rows.next()? {
        let (table, without_rowid, kind): (String, bool, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let is_strict: bool = row.get(3)?;
        if table.starts_with("sqlite_") && table != "sqlite_sequence" || kind == "view" {
            continue;
        }
        if let Some(why) = what_is_wrong(&connection, &table, without_rowid, is_strict, &kind)? {
            return Err(SchemaError::Table { table, why });
        }
    }
    Ok(())
}

fn what_is_wrong(
    connection: &Connection,
    table: &str,
    without_rowid: bool,
    is_strict: bool,
    kind: &str,
) -> Result<Option<&'static str>, rusqlite::Error> {
    if table == "sqlite_sequence" {
        return Ok(Some("is there because of AUTOINCREMENT, which is not replicated"));
    }
    if kind != "table" {
        return Ok(Some("is no ordinary table"));
    }
    if !is_strict {
        return Ok(Some("is not STRICT"));
    }
    let ask = |sql: &str| connection.query_row(sql, [table], |row| row.get::<_, u32>(0));
    if ask("SELECT count(*) FROM pragma_table_xinfo(?1) WHERE hidden <> 0")? > 0 {
        return Ok(Some("has a generated column, which is not replicated"));
    }
    let keys = ask("SELECT count(*) FROM pragma_table_info(?1) WHERE pk > 0")?;
    if keys == 0 {
        return Ok(Some("has no primary key, so nothing of it would be replicated"));
    }
    let row_number = "SELECT count(*) FROM pragma_table_info(?1) WHERE pk > 0 AND upper(type) = 'INTEGER'";
    let is_ordered = without_rowid || keys == 1 && ask(row_number)? == 1;
    if !is_ordered {
        return Ok(Some(
            "needs an INTEGER PRIMARY KEY or WITHOUT ROWID, so that its order is the same everywhere",
        ));
    }
    // The recording tells rows apart by the bytes of their keys: what SQLite takes for equal must be the same bytes.
    if ask(
        "SELECT count(*) FROM pragma_table_info(?1) WHERE pk > 0 AND upper(type) NOT IN ('INTEGER', 'TEXT', 'BLOB')",
    )? > 0
    {
        return Ok(Some("has a primary key that is not INTEGER, TEXT or BLOB"));
    }
    let collated = "SELECT count(*) FROM pragma_index_list(?1) AS list, pragma_index_xinfo(list.name) AS part
                    WHERE list.origin = 'pk' AND part.key AND part.coll <> 'BINARY'";
    if ask(collated)? > 0 {
        return Ok(Some("has a primary key that is compared in another way than by its bytes"));
    }
    let deferred = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = ?1 AND sql LIKE '%DEFERRABLE%'", [table], |_| {
            Ok(())
        })
        .optional()?;
    Ok(deferred.map(|()| "has a deferrable foreign key, which would be checked for several writers at once"))
}
