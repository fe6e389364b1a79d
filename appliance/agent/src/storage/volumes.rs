//! Volumes as they are kept, as SQL.

use jiff::Timestamp;
use quantix_api::{
    ChangeVolume, Held, Page, Problem, ProblemCode, Scope, VmDisk, Volume, VolumeQuery, VolumeState,
    text::is_line,
};
use quantix_storage::{Below, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value as Sql};
use serde::{Deserialize, Serialize};

use super::{layers, pools};
use crate::{
    cluster::Refused,
    list::{self, Asked, Table},
    version::Version,
    vms::folders,
};

const MOST: i64 = 50_000;
const LONGEST_NAME: usize = 63;
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 64 << 40;

const COLUMNS: &str =
    "volume.id, volume.name, volume.pool, coalesce(pool.name, '') AS pool_name, volume.host,
     coalesce(volume.layer, volume.id) AS layer, coalesce(host.name, '') AS host_name, volume.bytes, volume.used, volume.vm, vm.name AS vm_name,
     volume.made_at, volume.made_by, volume.version, task.id AS task,
     CASE WHEN host.id IS NULL OR host.lost_at IS NOT NULL THEN 'unknown' ELSE volume.state END AS state";

const FROM: &str = "volume
    LEFT JOIN pool ON pool.id = volume.pool
    LEFT JOIN host ON host.id = volume.host
    LEFT JOIN vm ON vm.id = volume.vm
    LEFT JOIN task ON task.id = (SELECT min(open.id) FROM task AS open
                                 WHERE open.object = 'volume/' || volume.id AND open.ended_at IS NULL)";

pub(crate) const TABLE: Table = Table {
    columns: COLUMNS,
    from: FROM,
    key: "volume.id",
    searched: "concat_ws(char(10), volume.name, volume.id, vm.name, host.name)",
    sorts: &[
        ("name", "volume.name COLLATE NOCASE"),
        ("size", "volume.bytes"),
        ("used", "coalesce(volume.used, 0)"),
        ("host", "coalesce(host.name, '')"),
        ("vm", "coalesce(vm.name, '')"),
        ("made", "volume.made_at"),
    ],
    newest_first: false,
};

/// A volume that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToMake {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) pool: String,
    pub(crate) bytes: u64,
    /// What it begins as: an image, or a layer of another volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<String>,
    /// The file that it is, or is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FromFile>,
    /// Whether it goes on lying on that, instead of being a whole copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) linked: bool,
    /// How the machine has it for which it is made by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<VmDisk>,
}

/// A file of the host that becomes a volume: a disk of a machine that was not among the machines, or one that lies in the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromFile {
    /// From the root of the host on, or from that of the pool.
    pub(crate) path: String,
    /// Whether it is kept sector by sector, and not as a qcow2.
    pub(crate) is_raw: bool,
    /// Whether it lies in the pool as a volume does, and is not copied.
    pub(crate) stays: bool,
}

/// A volume as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: VolumeId,
    pub(crate) host: HostId,
    /// The layer in which it is written to.
    pub(crate) layer: VolumeId,
    pub(crate) shown: Volume,
}

impl ToMake {
    /// An empty one.
    pub(crate) fn empty(id: String, name: String, pool: String, bytes: u64) -> Self {
        Self { id, name, pool, bytes, image: None, layer: None, file: None, linked: false, disk: None }
    }

    /// What it begins as.
    pub(crate) fn begins_as(&self) -> Option<Below> {
        let id = |id: &Option<String>| id.as_ref()?.parse().ok();
        id(&self.layer).map(Below::Layer).or_else(|| id(&self.image).map(Below::Image))
    }

    /// What keeps what it begins as from going: for good if it is linked, and else until it is made.
    fn lies_on(&self) -> Option<Below> {
        // A copy of an image is made of one file, which whoever copies it has open.
        self.begins_as().filter(|below| self.linked || matches!(below, Below::Layer(_)))
    }
}

pub(crate) fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let id: String = row.get("id")?;
    let host = HostId(row.get("host")?);
    Ok(Kept {
        id: id.parse().map_err(unreadable)?,
        host,
        layer: row.get::<_, String>("layer")?.parse().map_err(unreadable)?,
        shown: Volume {
            id,
            name: row.get("name")?,
            pool: row.get("pool")?,
            pool_name: row.get("pool_name")?,
            host: host.to_string(),
            host_name: row.get("host_name")?,
            bytes: row.get("bytes")?,
            used: row.get("used")?,
            // What a later version calls a state is none that is known here.
            state: VolumeState::of(&row.get::<_, String>("state")?).unwrap_or(VolumeState::Unknown),
            vm: row.get("vm")?,
            vm_name: row.get("vm_name")?,
            task: row.get("task")?,
            made_at: Timestamp::from_millisecond(row.get("made_at")?).unwrap_or_default(),
            made_by: row.get("made_by")?,
            version: row.get("version")?,
            rights: [].into(),
        },
    })
}

impl Kept {
    pub(crate) fn scope(&self) -> Scope {
        Scope::Volume(self.shown.id.clone())
    }

    /// The volume as somebody sees it.
    pub(crate) fn shown(self, connection: &Connection, roles: &[Held]) -> rusqlite::Result<Volume> {
        let place = folders::place(connection, &self.scope())?;
        Ok(Volume { rights: folders::rights_at(roles, &place), ..self.shown })
    }
}

fn not_there() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such volume.")
}

/// One volume, if it is there.
pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE volume.id = ?1"))?
        .query_row([id], of_row)
        .optional()
}

/// One volume.
pub(crate) fn one(connection: &Connection, id: &str) -> Result<Kept, Refused> {
    find(connection, id)?.ok_or_else(|| not_there().into())
}

/// Those that a machine has.
pub(crate) fn of_vm(connection: &Connection, vm: &str) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE volume.vm = ?1 ORDER BY volume.id"))?
        .query_map([vm], of_row)?
        .collect()
}

/// A part of the list. Whoever may not see everything sees those of the machines in `seen`.
pub(crate) fn list(
    connection: &Connection,
    asked: &Asked,
    query: &VolumeQuery,
    seen: Option<&[Scope]>,
    roles: &[Held],
) -> rusqlite::Result<Page<Volume>> {
    let mut filters: Vec<(String, Sql)> = Vec::new();
    let texts = [
        ("volume.pool = ?", &query.pool),
        ("printf('%016x', volume.host) = ?", &query.host),
        ("volume.vm = ?", &query.vm),
    ];
    for (filter, value) in texts {
        filters.extend(value.clone().map(|value| (filter.to_owned(), Sql::Text(value))));
    }
    filters.extend(query.used.map(|used| ("(volume.vm IS NOT NULL) = ?".into(), Sql::Integer(used.into()))));
    if let Some(seen) = seen {
        let (is_seen, value) = folders::of_vms(connection, seen)?;
        filters.push((is_seen.into(), value));
    }
    let filters: Vec<_> = filters.iter().map(|(filter, value)| (filter.as_str(), value.clone())).collect();
    let page = list::read(connection, &TABLE, asked, &filters, of_row)?;
    let items =
        page.items.into_iter().map(|volume| volume.shown(connection, roles)).collect::<Result<_, _>>()?;
    Ok(Page { items, next: page.next })
}

fn invalid(field: impl AsRef<str>, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field.as_ref())
}

fn conflict(sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Conflict, sentence)
}

pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    if name.trim() != name || name.is_empty() || name.contains('/') || !is_line(name, LONGEST_NAME) {
        let sentence = format!(
            "A name is one line of at most {LONGEST_NAME} characters, without / and without spaces around it."
        );
        return Err(invalid("name", sentence));
    }
    Ok(())
}

/// Checks how big a volume shall be.
pub(crate) fn check_size(bytes: u64, field: &str) -> Result<(), Problem> {
    if !(SMALLEST..=LARGEST).contains(&bytes) {
        return Err(invalid(field, "A volume has 1 MiB to 64 TiB."));
    }
    if !bytes.is_multiple_of(512) {
        return Err(invalid(
            field,
            "A volume consists of whole sectors: the size is a multiple of 512 bytes.",
        ));
    }
    Ok(())
}

fn is_taken(
    connection: &Connection,
    pool: &str,
    host: HostId,
    name: &str,
    but: &str,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM volume WHERE host = ?1 AND pool = ?2 AND name = ?3 COLLATE NOCASE AND id <> ?4",
        )?
        .exists(params![host.0, pool, name, but])
}

pub(super) fn must_be_free(
    connection: &Connection,
    pool: &str,
    host: HostId,
    name: &str,
    but: &str,
) -> Result<(), Refused> {
    if is_taken(connection, pool, host, name, but)? {
        return Err(invalid("name", format!("There is a volume named {name} in this pool already.")).into());
    }
    Ok(())
}

/// A name for a disk of a machine that no other volume has.
pub(crate) fn free_name(
    connection: &Connection,
    pool: &str,
    host: HostId,
    vm: &str,
    taken: &[ToMake],
) -> rusqlite::Result<String> {
    // A machine's name can be as long as a volume's.
    let vm: String = vm.chars().take(LONGEST_NAME - 8).collect();
    let mut number = 1;
    loop {
        let name = format!("{}-disk-{number}", vm.trim().replace('/', "-"));
        let is_new = taken.iter().any(|other| other.pool == pool && other.name.eq_ignore_ascii_case(&name));
        if !is_new && !is_taken(connection, pool, host, &name, "")? {
            return Ok(name);
        }
        number += 1;
    }
}

/// Takes a place for a volume that is to be made. What is taken already for this one stays.
pub(crate) fn add(
    connection: &Connection,
    new: &ToMake,
    host: HostId,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    if let Some(there) = find(connection, &new.id)? {
        return Ok(there);
    }
    check_name(&new.name)?;
    check_size(new.bytes, "bytes")?;
    let bytes = pools::whole(&new.pool, new.bytes);
    let pool = pools::one(connection, &new.pool).map_err(|_| invalid("pool", "There is no such pool."))?;
    if let Some(why) = pools::is_closed(&pool, host) {
        return Err(conflict(why).in_field("pool").into());
    }
    must_be_free(connection, &new.pool, host, &new.name, &new.id)?;
    let count: i64 = connection.query_row("SELECT count(*) FROM volume", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(conflict(format!("There are {MOST} volumes already.")).into());
    }
    connection.execute(
        "INSERT INTO volume (id, layer, name, pool, host, bytes, state, made_at, made_by)
         VALUES (?1, ?1, ?2, ?3, ?4, ?5, 'making', ?6, ?7)",
        params![new.id, new.name, new.pool, host.0, bytes, now_ms, by],
    )?;
    let (id, below) = (new.id.as_str(), new.lies_on());
    layers::add(connection, layers::New { id, volume: Some(id), pool: &new.pool, host, below, bytes })?;
    one(connection, &new.id)
}

/// Notes that a volume is there; if so, on what it began as.
pub(crate) fn is_made(connection: &Connection, host: HostId, id: &str, linked: bool) -> rusqlite::Result<()> {
    if !linked {
        layers::stands_alone(connection, host, id)?;
    }
    connection
        .execute("UPDATE volume SET state = 'ready' WHERE id = ?1 AND host = ?2", params![id, host.0])
        .map(drop)
}

/// Notes that a volume has grown.
pub(crate) fn has_grown(connection: &Connection, host: HostId, id: &str, bytes: u64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE volume SET bytes = ?3 WHERE id = ?1 AND host = ?2 AND bytes < ?3",
        params![id, host.0, bytes],
    )?;
    connection
        .execute(
            "UPDATE layer SET bytes = max(bytes, ?2) WHERE id = (SELECT layer FROM volume WHERE id = ?1)",
            params![id, bytes],
        )
        .map(drop)
}

/// Gives a volume another name.
pub(crate) fn change(
    connection: &Connection,
    id: &str,
    change: &ChangeVolume,
    seen: Version,
) -> Result<Kept, Refused> {
    let before = one(connection, id)?;
    seen.must_be(before.shown.version)?;
    let name = change.name.as_ref().unwrap_or(&before.shown.name);
    check_name(name)?;
    must_be_free(connection, &before.shown.pool, before.host, name, id)?;
    connection
        .execute("UPDATE volume SET name = ?2, version = version + 1 WHERE id = ?1", params![id, name])?;
    one(connection, id)
}

/// Refuses to remove what cannot be.
pub(crate) fn must_be_idle(volume: &Kept) -> Result<(), Problem> {
    match (&volume.shown.vm, volume.shown.state) {
        (Some(_), _) => Err(conflict(format!(
            "The virtual machine {} has this volume. Take it from there first, or remove the machine with its disks.",
            volume.shown.vm_name.as_deref().unwrap_or("that is being made")
        ))),
        (None, VolumeState::Making) => Err(conflict("It is just being made.")),
        (None, _) => Ok(()),
    }
}

/// Forgets a volume, with the layer in which it was written to: that is not there any more. What lies below is seen to by
/// its host.
pub(crate) fn forget(connection: &Connection, volume: &Kept, host_is_gone: bool) -> rusqlite::Result<()> {
    let (id, head) = (&volume.shown.id, volume.layer.to_string());
    connection.execute("DELETE FROM volume WHERE id = ?1", [id])?;
    layers::forget_volume(connection, id, host_is_gone)?;
    layers::is_gone(connection, volume.host, &head)
}

/// Checks the disks that a machine shall have.
pub(crate) fn check_disks(
    connection: &Connection,
    disks: &[VmDisk],
    vm: &str,
    host: HostId,
) -> Result<(), Refused> {
    for (at, disk) in disks.iter().enumerate() {
        let wrong = |sentence: String| Refused::from(invalid(format!("spec.disks.{at}.volume"), sentence));
        let Some(volume) = find(connection, &disk.volume)? else {
            return Err(wrong("There is no such volume.".to_owned()));
        };
        let name = &volume.shown.name;
        if disks[..at].iter().any(|other| other.volume == disk.volume) {
            return Err(wrong(format!("The volume {name} is named twice.")));
        }
        if volume.host != host {
            let sentence =
                format!("The volume {name} is on {}, and the machine is not.", volume.shown.host_name);
            return Err(wrong(sentence));
        }
        match &volume.shown.vm {
            Some(other) if other != vm => {
                let other = volume.shown.vm_name.as_deref().unwrap_or(other);
                return Err(wrong(format!("The virtual machine {other} has the volume {name}.")));
            }
            Some(_) => {}
            None if volume.shown.task.is_some() || volume.shown.state == VolumeState::Making => {
                return Err(wrong(format!(
                    "Something is being done with the volume {name}. Wait for its end."
                )));
            }
            None => {}
        }
    }
    Ok(())
}

/// Says which volumes a machine has: these, and no others.
pub(crate) fn give_to(connection: &Connection, vm: &str, disks: &[VmDisk]) -> rusqlite::Result<()> {
    let ids: Vec<_> = disks.iter().map(|disk| disk.volume.as_str()).collect();
    // Texts always have a form in JSON.
    let ids = serde_json::to_string(&ids).unwrap_or_default();
    connection
        .prepare_cached(
            "UPDATE volume SET vm = NULL WHERE vm = ?1 AND id NOT IN (SELECT value FROM json_each(?2))",
        )?
        .execute([vm, &ids])?;
    connection
        .prepare_cached(
            "UPDATE volume SET vm = ?1
             WHERE id IN (SELECT value FROM json_each(?2)) AND (vm IS NULL OR vm <> ?1)",
        )?
        .execute([vm, &ids])
        .map(drop)
}

/// How many are on a host.
pub(crate) fn count_on(connection: &Connection, host: HostId) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM volume WHERE host = ?1", [host.0], |row| row.get(0))
}
