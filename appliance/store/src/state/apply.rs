//! Applying what was recorded elsewhere. The rows go in as they came out; foreign keys and triggers are off, because
//! their effects are already among the rows.

use std::{collections::HashMap, sync::Arc};

use fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{
    Connection, ErrorCode, ToSql,
    hooks::Action,
    params_from_iter,
    session::{ChangesetItem, ChangesetIter},
    types::{ToSqlOutput, Value, ValueRef},
};

use crate::feed::{Operation, RowChange};

/// Why changes cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// This host's data is not what the change was recorded on.
    #[error("the data of this host differs from the cluster's: {0}")]
    Diverged(String),
    /// The cluster is ahead of this version.
    #[error(
        "the cluster's data is at step {0} of the schema, which this version does not know; update this host"
    )]
    TooOld(u32),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What is known about the tables, read once for each schema.
#[derive(Debug, Default)]
pub(crate) struct Tables(HashMap<String, Arc<Table>>);

#[derive(Debug)]
struct Table {
    name: Arc<str>,
    columns: Vec<Arc<str>>,
    /// Where the columns of the primary key stand.
    key: Vec<usize>,
    insert: String,
    delete: String,
    select: String,
}

impl Tables {
    fn get(&mut self, connection: &Connection, name: &str) -> Result<Arc<Table>, ApplyError> {
        if let Some(table) = self.0.get(name) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(Table::read(connection, name)?);
        self.0.insert(name.to_owned(), Arc::clone(&table));
        Ok(table)
    }
}

impl Table {
    fn read(connection: &Connection, name: &str) -> Result<Self, ApplyError> {
        let described: Vec<(String, usize)> = connection
            .prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        if described.is_empty() {
            return Err(ApplyError::Diverged(format!("there is no table {name}")));
        }
        let key: Vec<_> = (0..described.len()).filter(|at| described[*at].1 > 0).collect();
        let names: Vec<_> = described.iter().map(|(name, _)| quoted(name)).collect();
        let table = quoted(name);
        let by_key = by_key(key.iter().map(|at| names[*at].as_str()), 1);
        Ok(Self {
            name: name.into(),
            insert: format!(
                "INSERT OR ABORT INTO {table} ({}) VALUES ({})",
                names.join(", "),
                vec!["?"; names.len()].join(", ")
            ),
            delete: format!("DELETE FROM {table} WHERE {by_key}"),
            select: format!("SELECT {} FROM {table} WHERE {by_key}", names.join(", ")),
            columns: described.into_iter().map(|(name, _)| name.into()).collect(),
            key,
        })
    }

    fn update(&self, changed: &[usize]) -> String {
        let set: Vec<_> = changed.iter().map(|at| format!("{} = ?", quoted(&self.columns[*at]))).collect();
        let names: Vec<_> = self.key.iter().map(|at| quoted(&self.columns[*at])).collect();
        let by_key = by_key(names.iter().map(String::as_str), changed.len() + 1);
        format!("UPDATE OR ABORT {} SET {} WHERE {by_key}", quoted(&self.name), set.join(", "))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn by_key<'a>(names: impl Iterator<Item = &'a str>, first: usize) -> String {
    let terms: Vec<_> = names.enumerate().map(|(at, name)| format!("{name} = ?{}", at + first)).collect();
    terms.join(" AND ")
}

/// Applies a changeset inside the transaction that is open, and tells which rows changed. Rows go before rows come, so
/// that a value that must be unique can move from one to another in one step.
pub(crate) fn apply(
    connection: &Connection,
    tables: &mut Tables,
    changeset: &[u8],
) -> Result<Vec<RowChange>, ApplyError> {
    let mut changes = Vec::new();
    each(changeset, |item| {
        let table = tables.get(connection, item.op()?.table_name())?;
        let change = describe(&table, item)?;
        if change.operation == Operation::Delete {
            run(connection, &table.delete, key_of(&table, item)?, &table)?;
        }
        changes.push(change);
        Ok(())
    })?;
    let mut to_come = Vec::new();
    if changes.iter().any(|change| change.operation == Operation::Update) {
        each(changeset, |item| match item.op()?.code() {
            Action::SQLITE_UPDATE => {
                update(connection, &*tables.get(connection, item.op()?.table_name())?, item, &mut to_come)
            }
            _ => Ok(()),
        })?;
    }
    for (insert, row) in to_come {
        connection.prepare_cached(&insert)?.execute(params_from_iter(row))?;
    }
    if changes.iter().any(|change| change.operation == Operation::Insert) {
        each(changeset, |item| {
            if item.op()?.code() != Action::SQLITE_INSERT {
                return Ok(());
            }
            let table = tables.get(connection, item.op()?.table_name())?;
            let row = (0..table.columns.len())
                .map(|at| item.new_value(at).map(ToSqlOutput::Borrowed))
                .collect::<Result<Vec<_>, _>>()?;
            run(connection, &table.insert, row, &table)
        })?;
    }
    Ok(changes)
}

fn each(
    changeset: &[u8],
    mut with: impl FnMut(&ChangesetItem) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let mut bytes = changeset;
    let input: &mut dyn std::io::Read = &mut bytes;
    let mut items = ChangesetIter::start_strm(&input)?;
    while let Some(item) = items.next()? {
        with(item)?;
    }
    Ok(())
}

fn run<'a>(
    connection: &Connection,
    sql: &str,
    values: impl IntoIterator<Item = ToSqlOutput<'a>>,
    table: &Table,
) -> Result<(), ApplyError> {
    match connection.prepare_cached(sql)?.execute(params_from_iter(values)) {
        Ok(1) => Ok(()),
        Ok(_) => Err(ApplyError::Diverged(format!("a row of {} is not there", table.name))),
        Err(error) if is_constraint(&error) => {
            Err(ApplyError::Diverged(format!("a row of {} does not fit: {error}", table.name)))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// The values of the primary key before the change.
fn key_of<'a>(table: &Table, item: &'a ChangesetItem) -> Result<Vec<ToSqlOutput<'a>>, rusqlite::Error> {
    table.key.iter().map(|at| item.old_value(*at).map(ToSqlOutput::Borrowed)).collect()
}

/// Updates a row. If another row still holds a value that must be unique, the row is taken out, and comes back in its
/// new form when all the others have changed.
fn update(
    connection: &Connection,
    table: &Table,
    item: &ChangesetItem,
    to_come: &mut Vec<(String, Vec<Cell>)>,
) -> Result<(), ApplyError> {
    let changed: Vec<_> = (0..table.columns.len()).filter(|at| item.new_value(*at).is_ok()).collect();
    let mut values = changed
        .iter()
        .map(|at| item.new_value(*at).map(ToSqlOutput::Borrowed))
        .collect::<Result<Vec<_>, _>>()?;
    values.extend(key_of(table, item)?);
    match connection.prepare_cached(&table.update(&changed))?.execute(params_from_iter(values)) {
        Ok(1) => return Ok(()),
        Ok(_) => return Err(ApplyError::Diverged(format!("a row of {} is not there", table.name))),
        Err(error) if is_constraint(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let mut row = connection.prepare_cached(&table.select)?.query_row(
        params_from_iter(key_of(table, item)?),
        |row| {
            (0..table.columns.len()).map(|at| row.get_ref(at).map(Cell::from)).collect::<Result<Vec<_>, _>>()
        },
    )?;
    run(connection, &table.delete, key_of(table, item)?, table)?;
    for at in changed {
        row[at] = item.new_value(at)?.into();
    }
    to_come.push((table.insert.clone(), row));
    Ok(())
}

fn describe(table: &Table, item: &ChangesetItem) -> Result<RowChange, ApplyError> {
    let operation = match item.op()?.code() {
        Action::SQLITE_INSERT => Operation::Insert,
        Action::SQLITE_UPDATE => Operation::Update,
        _ => Operation::Delete,
    };
    let key = table
        .key
        .iter()
        .map(|at| {
            let value =
                if operation == Operation::Insert { item.new_value(*at) } else { item.old_value(*at) };
            value.map(shown)
        })
        .collect::<Result<_, _>>()?;
    let columns = if operation == Operation::Update {
        let changed = (0..table.columns.len()).filter(|at| item.new_value(*at).is_ok());
        changed.map(|at| Arc::clone(&table.columns[at])).collect()
    } else {
        Vec::new()
    };
    Ok(RowChange { table: Arc::clone(&table.name), operation, key, columns })
}

fn shown(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_owned()),
    }
}

/// A value with its bytes as they are: text in SQLite need not be UTF-8.
enum Cell {
    Value(Value),
    Text(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Text(text) => Self::Text(text.to_owned()),
            other => Self::Value(shown(other)),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Value(value) => value.to_sql(),
            Self::Text(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text))),
        }
    }
}
