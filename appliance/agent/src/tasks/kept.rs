//! Tasks as they are kept, as SQL. Every change goes through the rules, in the transaction that reads what it changes.

use jiff::Timestamp;
use quantix_api::{Page, Problem, ProblemCode, Scope, Task, TaskKind, TaskQuery, TaskState};
use quantix_compute::VmId;
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value as Sql};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    kinds::{Doer, Kind},
    plan::{CannotCancel, Report, Standing},
};
use crate::{
    cluster::Refused,
    events::{self, Happened},
    list::{self, Asked, Table},
    vms::folders,
};

/// So many that have ended are kept.
const MOST_ENDED: i64 = 10_000;
/// And for so long.
const LONGEST_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// A clock that was wrong for a moment does not take all history along.
const FORGOTTEN_AT_ONCE: i64 = 50;
/// So many are open at a time.
const MOST_OPEN: i64 = 500;

const COLUMNS: &str = "id, kind, object, object_name, params, owner, state, steps, progress, outcome, file, memo, \
                       actor, address, made_at, started_at, ended_at, cancelled_by, attempt, retry_of, retried, version";

pub(crate) const TABLE: Table = Table {
    columns: COLUMNS,
    from: "task",
    key: "id",
    searched: "concat_ws(char(10), id, title, actor, address, outcome)",
    sorts: &[("id", "id")],
    newest_first: true,
};

/// A task that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewTask {
    pub(crate) kind: TaskKind,
    pub(crate) object: Scope,
    pub(crate) object_name: String,
    /// The host that does it, unless whichever leads does.
    pub(crate) host: Option<HostId>,
    pub(crate) params: Value,
    pub(crate) actor: String,
    pub(crate) address: String,
}

/// A task as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: i64,
    pub(crate) kind: TaskKind,
    pub(crate) object: String,
    pub(crate) object_name: String,
    pub(crate) params: Value,
    /// Nothing: whichever host has the vDC role.
    pub(crate) owner: Option<HostId>,
    pub(crate) standing: Standing,
    pub(crate) actor: String,
    address: String,
    /// Milliseconds since 1970, as all times here.
    pub(crate) made_at: i64,
    pub(crate) started_at: Option<i64>,
    pub(crate) ended_at: Option<i64>,
    cancelled_by: Option<String>,
    attempt: u32,
    retry_of: Option<i64>,
    retried: bool,
    version: u64,
}

impl Kept {
    pub(crate) fn rules(&self) -> &'static Kind {
        Kind::of(self.kind)
    }

    pub(crate) fn title(&self) -> String {
        self.rules().title(&self.object_name, &self.params)
    }

    /// The id of the host it is about.
    pub(crate) fn host(&self) -> Option<HostId> {
        let id = self.object.strip_prefix("host/")?;
        u64::from_str_radix(id, 16).ok().map(HostId)
    }

    /// The id of the virtual machine it is about.
    pub(crate) fn vm(&self) -> Option<VmId> {
        self.object.strip_prefix("vm/")?.parse().ok()
    }

    /// What it is done to, as far as rights are concerned.
    pub(crate) fn scope(&self) -> Scope {
        self.object.parse().unwrap_or(Scope::Datacenter)
    }

    fn can_retry(&self) -> bool {
        let failed = matches!(self.standing.state, TaskState::Failed | TaskState::Cancelled);
        failed && self.rules().can_retry && !self.retried
    }

    /// The task as people see it.
    pub(crate) fn shown(self) -> Task {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
        let rules = self.rules();
        Task {
            id: self.id,
            kind: self.kind,
            title: self.title(),
            owner: self.owner.map(|owner| owner.to_string()),
            can_cancel: self.standing.may_be_cancelled(rules.cancel_until),
            can_retry: self.can_retry(),
            object: self.object,
            object_name: self.object_name,
            state: self.standing.state,
            steps: self.standing.steps,
            progress: self.standing.progress,
            actor: self.actor,
            address: self.address,
            made_at: at(self.made_at),
            started_at: self.started_at.map(at),
            ended_at: self.ended_at.map(at),
            outcome: self.standing.outcome,
            cancelled_by: self.cancelled_by,
            attempt: self.attempt,
            retry_of: self.retry_of,
            file: self.standing.file,
            version: self.version,
        }
    }
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: Option<String> = row.get(column)?;
    let read = serde_json::from_str(text.as_deref().unwrap_or("null"));
    read.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

fn named<T>(row: &Row<'_>, column: &str, of: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    let unknown = || format!("{name} is not a {column} that this version knows");
    of(&name).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, unknown().into())
    })
}

pub(crate) fn of_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let kind = named(row, "kind", TaskKind::of)?;
    Ok(Kept {
        id: row.get("id")?,
        kind,
        object: row.get("object")?,
        object_name: row.get("object_name")?,
        params: json(row, "params")?,
        owner: row.get::<_, Option<u64>>("owner")?.map(HostId),
        standing: Standing {
            state: named(row, "state", TaskState::of)?,
            steps: json(row, "steps")?,
            progress: json(row, "progress")?,
            outcome: row.get("outcome")?,
            file: json(row, "file")?,
            memo: json(row, "memo")?,
            stays: Kind::of(kind).stays,
        },
        actor: row.get("actor")?,
        address: row.get("address")?,
        made_at: row.get("made_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        cancelled_by: row.get("cancelled_by")?,
        attempt: row.get("attempt")?,
        retry_of: row.get("retry_of")?,
        retried: row.get("retried")?,
        version: row.get("version")?,
    })
}

fn text(value: &impl serde::Serialize) -> String {
    // What is kept of a task always has a form in JSON.
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) fn conflict(sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Conflict, sentence)
}

/// Adds a task, if nothing else is being done that it would disturb.
pub(crate) fn add(connection: &Connection, new: &NewTask, now_ms: i64) -> Result<Kept, Refused> {
    must_not_disturb(connection, new)?;
    add_attempt(connection, new, 1, None, now_ms)
}

/// The same for what is to be done next with what it is about, whatever is being done now.
pub(crate) fn add_next(connection: &Connection, new: &NewTask, now_ms: i64) -> Result<Kept, Refused> {
    add_attempt(connection, new, 1, None, now_ms)
}

fn must_not_disturb(connection: &Connection, new: &NewTask) -> Result<(), Refused> {
    let (rules, object) = (Kind::of(new.kind), new.object.to_string());
    for other in open(connection)? {
        let is_same = other.kind == new.kind && (other.object == object || new.kind == TaskKind::MoveVdcRole);
        // A host that is gone for good may be in the middle of something.
        let is_exclusive =
            rules.is_exclusive && other.rules().is_exclusive && new.kind != TaskKind::RemoveHost;
        // A guest that does not end is switched off while it is waited for.
        let helps = new.kind == TaskKind::ForceStopVm && other.kind == TaskKind::ShutDownVm;
        if is_same || (is_exclusive && other.object == object && !helps) {
            let sentence =
                format!("Something is being done there already: {} (task {}).", other.title(), other.id);
            return Err(conflict(sentence).into());
        }
    }
    Ok(())
}

fn add_attempt(
    connection: &Connection,
    new: &NewTask,
    attempt: u32,
    retry_of: Option<i64>,
    now_ms: i64,
) -> Result<Kept, Refused> {
    let rules = Kind::of(new.kind);
    let open: i64 =
        connection.query_row("SELECT count(*) FROM task WHERE ended_at IS NULL", [], |row| row.get(0))?;
    if open >= MOST_OPEN {
        let sentence = format!("{MOST_OPEN} tasks are open. Wait until some have ended, or cancel some.");
        return Err(Problem::new(ProblemCode::Unavailable, sentence).retry_after(10).into());
    }
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM task", [], |row| row.get(0))?;
    let id = newest.unwrap_or_default() + 1;
    let owner = match rules.doer {
        Doer::Leader => None,
        Doer::Host => new.host.map(|host| host.0),
    };
    let standing = Standing::new(&rules.steps(&new.params), rules.stays);
    connection.execute(
        "INSERT INTO task (id, kind, title, object, object_name, params, owner, state, steps, outcome, memo, actor,
                           address, made_at, attempt, retry_of)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, '', 'null', ?10, ?11, ?12, ?13, ?14)",
        params![
            id,
            new.kind.name(),
            rules.title(&new.object_name, &new.params),
            new.object.to_string(),
            new.object_name,
            text(&new.params),
            owner,
            standing.state.name(),
            text(&standing.steps),
            new.actor,
            new.address,
            now_ms,
            attempt,
            retry_of
        ],
    )?;
    forget_old(connection, id, now_ms)?;
    one(connection, id)
}

fn forget_old(connection: &Connection, newest: i64, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .execute(
            "DELETE FROM task WHERE ended_at IS NOT NULL AND (id <= ?1 OR id IN
                 (SELECT id FROM task WHERE ended_at < ?2 ORDER BY id LIMIT ?3))",
            params![newest - MOST_ENDED, now_ms - LONGEST_MS, FORGOTTEN_AT_ONCE],
        )
        .map(drop)
}

/// One task.
pub(crate) fn one(connection: &Connection, id: i64) -> Result<Kept, Refused> {
    find(connection, id)?.ok_or_else(|| not_there().into())
}

pub(crate) fn not_there() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such task, or it ended long ago.")
}

pub(crate) fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM task WHERE id = ?1"))?
        .query_row([id], of_row)
        .optional()
}

/// All that have not ended, the oldest first.
pub(crate) fn open(connection: &Connection) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM task WHERE ended_at IS NULL ORDER BY id"))?
        .query_map([], of_row)?
        .collect()
}

/// Those that made a file which is still there.
pub(crate) fn with_file(connection: &Connection) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM task WHERE file IS NOT NULL ORDER BY id"))?
        .query_map([], of_row)?
        .collect()
}

/// A part of the list. Whoever may not see everything sees what is done to `seen`.
pub(crate) fn list(
    connection: &Connection,
    asked: &Asked,
    query: &TaskQuery,
    seen: Option<&[Scope]>,
) -> rusqlite::Result<Page<Task>> {
    let mut filters: Vec<(String, Sql)> = Vec::new();
    match query.state.as_deref() {
        Some("open") => filters.push(("ended_at IS NULL AND ?".into(), Sql::Integer(1))),
        Some("ended") => filters.push(("ended_at IS NOT NULL AND ?".into(), Sql::Integer(1))),
        Some(state) => filters.push(("state = ?".into(), Sql::Text(state.into()))),
        None => {}
    }
    for (column, value) in [("kind", &query.kind), ("object", &query.object)] {
        if let Some(value) = value {
            filters.push((format!("{column} = ?"), Sql::Text(value.clone())));
        }
    }
    if let Some(seen) = seen {
        let (about, value) = folders::about(connection, seen)?;
        filters.push((about.into(), value));
    }
    let filters: Vec<_> = filters.iter().map(|(filter, value)| (filter.as_str(), value.clone())).collect();
    list::read(connection, &TABLE, asked, &filters, |row| of_row(row).map(Kept::shown))
}

/// Takes in what an owner tells of its task. `owner` is who tells it; nothing, if it is whoever leads.
pub(crate) fn report(
    connection: &Connection,
    owner: Option<HostId>,
    id: i64,
    report: Report,
    now_ms: i64,
) -> Result<Standing, Refused> {
    let mut kept = one(connection, id)?;
    if kept.owner != owner {
        return Err(Problem::new(ProblemCode::Forbidden, "Another host does this task.").into());
    }
    let taken = kept.standing.take(report);
    match taken {
        Ok(true) => keep(connection, &kept, now_ms)?,
        Ok(false) => {}
        Err(refusal) => return Err(conflict(refusal.to_string()).into()),
    }
    Ok(kept.standing)
}

/// Ends a task whose owner cannot.
pub(crate) fn give_up(
    connection: &Connection,
    id: i64,
    state: TaskState,
    outcome: String,
    now_ms: i64,
) -> Result<(), Refused> {
    let mut kept = one(connection, id)?;
    // It may have ended meanwhile.
    if let Ok(true) = kept.standing.take_from_outside(state, outcome) {
        keep(connection, &kept, now_ms)?;
    }
    Ok(())
}

/// Asks for the end of a task.
pub(crate) fn cancel(connection: &Connection, id: i64, by: &str, now_ms: i64) -> Result<Kept, Refused> {
    let mut kept = one(connection, id)?;
    match kept.standing.cancel(kept.rules().cancel_until) {
        Ok(true) => {
            kept.cancelled_by = Some(by.to_owned());
            keep(connection, &kept, now_ms)?;
            one(connection, id)
        }
        // Somebody has asked for it already.
        Ok(false) => Ok(kept),
        Err(CannotCancel::Ended) => {
            let outcome = &kept.standing.outcome;
            Err(conflict(format!("It has ended already: {outcome}")).into())
        }
        Err(CannotCancel::TooLate) => {
            Err(conflict("It cannot be cancelled any more; wait for its end.").into())
        }
    }
}

/// Makes the next attempt of a task that failed or was cancelled.
pub(crate) fn retry(
    connection: &Connection,
    id: i64,
    actor: &str,
    address: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    let kept = one(connection, id)?;
    if !kept.can_retry() {
        let sentence = match kept.standing.state {
            TaskState::Failed | TaskState::Cancelled if kept.retried => {
                "Somebody has tried it again already; look at the newer task.".to_owned()
            }
            TaskState::Failed | TaskState::Cancelled => "It cannot simply be done again.".to_owned(),
            TaskState::Done => format!("There is nothing to try again: {}", kept.standing.outcome),
            _ => "It has not ended yet.".to_owned(),
        };
        return Err(conflict(sentence).into());
    }
    let new = NewTask {
        kind: kept.kind,
        object: kept.scope(),
        object_name: kept.object_name.clone(),
        host: kept.owner,
        params: kept.params.clone(),
        actor: actor.to_owned(),
        address: address.to_owned(),
    };
    must_not_disturb(connection, &new)?;
    let made = add_attempt(connection, &new, kept.attempt + 1, Some(id), now_ms)?;
    connection.execute("UPDATE task SET retried = 1, version = version + 1 WHERE id = ?1", [id])?;
    events::clear(connection, &failed_key(id), now_ms)?;
    Ok(made)
}

fn failed_key(id: i64) -> String {
    format!("task-failed/{id}")
}

fn keep(connection: &Connection, kept: &Kept, now_ms: i64) -> Result<(), Refused> {
    let Standing { state, steps, progress, outcome, file, memo, stays: _ } = &kept.standing;
    let started = kept.started_at.or_else(|| (*state != TaskState::Waiting).then_some(now_ms));
    let ended = kept.ended_at.or_else(|| state.is_end().then_some(now_ms));
    connection.execute(
        "UPDATE task SET state = ?2, steps = ?3, progress = ?4, outcome = ?5, file = ?6, memo = ?7, started_at = ?8,
                         ended_at = ?9, cancelled_by = ?10, version = version + 1 WHERE id = ?1",
        params![
            kept.id,
            state.name(),
            text(steps),
            progress.as_ref().map(text),
            outcome,
            file.as_ref().map(text),
            text(memo),
            started,
            ended,
            kept.cancelled_by
        ],
    )?;
    if *state == TaskState::Failed && kept.ended_at.is_none() {
        let happened = Happened {
            key: failed_key(kept.id),
            severity: quantix_api::Severity::Warning,
            component: "tasks".to_owned(),
            object: kept.object.clone(),
            host: kept.object_name.clone(),
            sentence: format!("{} failed: {outcome}", kept.title()),
            is_lasting: false,
        };
        events::raise(connection, &happened, now_ms)?;
    }
    Ok(())
}
