//! Images as they are kept, as SQL.

use jiff::Timestamp;
use quantix_api::{
    ChangeImage, FetchImage, Held, Image, ImageState, NewImage, Problem, ProblemCode, Scope, VmDraft,
    text::is_line,
};
use quantix_storage::{KeptImage, Os, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{catalogue::is_checksum, copies, pools, volumes::check_name};
use crate::{
    cluster::Refused,
    outside::{self, fetch},
    version::Version,
    vms::folders,
};

/// What an image's format is called that is a CD.
const CD: &str = "iso";
const MOST: i64 = 500;
const LONGEST_FILE: usize = 255;
const LONGEST_VERSION: usize = 16;
/// What whoever uploads may want at most.
const LONGEST: u64 = 1 << 40;

const SELECT: &str = "SELECT image.id, image.name, image.file, image.os, image.os_version, image.pool,
        coalesce(pool.name, '') AS pool_name, image.host, coalesce(host.name, '') AS host_name, image.length,
        image.sha256, image.format, image.bytes, image.used, image.draft, image.made_at, image.made_by, image.version, task.id AS task,
        (SELECT json_group_array(name) FROM (
            SELECT other.name FROM image_copy JOIN host AS other ON other.id = image_copy.host
            WHERE image_copy.image = image.id ORDER BY other.name)) AS also_on,
        CASE WHEN host.id IS NULL OR host.lost_at IS NOT NULL THEN 'unknown'
             WHEN image.state = 'arriving' AND task.id IS NOT NULL THEN 'making'
             ELSE image.state END AS state
    FROM image
    LEFT JOIN pool ON pool.id = image.pool
    LEFT JOIN host ON host.id = image.host
    LEFT JOIN task ON task.id = (SELECT min(open.id) FROM task AS open
                                 WHERE open.object = 'image/' || image.id AND open.ended_at IS NULL)";

/// What an image turned out to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    format: String,
    bytes: u64,
    used: u64,
}

/// A machine that came as one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) draft: VmDraft,
    /// The images of its further disks.
    pub(crate) others: Vec<(String, Facts)>,
}

impl From<KeptImage> for Facts {
    fn from(kept: KeptImage) -> Self {
        Self { format: kept.format.to_owned(), bytes: kept.bytes, used: kept.used }
    }
}

/// An image as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: VolumeId,
    pub(crate) host: HostId,
    pub(crate) shown: Image,
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let id: String = row.get("id")?;
    let (host, os) = (HostId(row.get("host")?), row.get::<_, String>("os")?);
    Ok(Kept {
        id: id.parse().map_err(|error: quantix_storage::NoId| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
        })?,
        host,
        shown: Image {
            id,
            name: row.get("name")?,
            file: row.get("file")?,
            user: Os::of(&os).map_or("", |os| os.user).to_owned(),
            os,
            os_version: row.get("os_version")?,
            pool: row.get("pool")?,
            pool_name: row.get("pool_name")?,
            host: host.to_string(),
            host_name: row.get("host_name")?,
            also_on: serde_json::from_str(&row.get::<_, String>("also_on")?).unwrap_or_default(),
            // What a later version calls a state is none that is known here.
            state: ImageState::of(&row.get::<_, String>("state")?).unwrap_or(ImageState::Unknown),
            length: row.get("length")?,
            sha256: row.get("sha256")?,
            format: row.get("format")?,
            bytes: row.get("bytes")?,
            used: row.get("used")?,
            // What a later version says of a machine is nothing that is known here.
            draft: row.get::<_, Option<String>>("draft")?.and_then(|draft| serde_json::from_str(&draft).ok()),
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
        Scope::Image(self.shown.id.clone())
    }

    /// The image as somebody sees it.
    pub(crate) fn shown(self, roles: &[Held]) -> Image {
        Image { rights: folders::rights_at(roles, &Scope::Datacenter.into()), ..self.shown }
    }
}

/// All images.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(&format!("{SELECT} ORDER BY image.name COLLATE NOCASE"))?
        .query_map([], of_row)?
        .collect()
}

/// One image, if it is there.
pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Kept>> {
    connection.prepare_cached(&format!("{SELECT} WHERE image.id = ?1"))?.query_row([id], of_row).optional()
}

/// One image.
pub(crate) fn one(connection: &Connection, id: &str) -> Result<Kept, Refused> {
    find(connection, id)?.ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no such image.").into())
}

/// Begins to bring an image to a host: whoever began with the same one before goes on there.
pub(crate) fn begin(
    connection: &Connection,
    id: &str,
    new: &NewImage,
    host: HostId,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    check_length(new)?;
    match begun(connection, new, host, by)? {
        Some(begun) => Ok(begun),
        None => place(connection, id, new, host, by, now_ms),
    }
}

fn check_length(new: &NewImage) -> Result<(), Refused> {
    if (1..=LONGEST).contains(&new.length) {
        return Ok(());
    }
    Err(invalid("length", "A file of 1 byte to 1 TiB is taken."))
}

fn begun(connection: &Connection, new: &NewImage, host: HostId, by: &str) -> rusqlite::Result<Option<Kept>> {
    let sha256 = new.sha256.as_deref().map(str::to_ascii_lowercase);
    let found = connection
        .prepare_cached(&format!(
            "{SELECT} WHERE image.state = 'arriving' AND image.name = ?1 AND image.file = ?2 AND image.length = ?3
                 AND image.pool = ?4 AND image.host = ?5 AND image.made_by = ?6 AND image.sha256 IS ?7"
        ))?
        .query_row(params![new.name, new.file, new.length, new.pool, host.0, by, sha256], of_row)
        .optional()?;
    // With one that is looked at already, or fetched, somebody else has to do.
    Ok(found.filter(|found| found.shown.task.is_none()))
}

fn invalid(field: &str, sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field).into()
}

fn conflict(sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Conflict, sentence)
}

/// Takes a place for an image whose file comes next.
pub(crate) fn add(
    connection: &Connection,
    id: &str,
    new: &NewImage,
    host: HostId,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    check_length(new)?;
    place(connection, id, new, host, by, now_ms)
}

fn place(
    connection: &Connection,
    id: &str,
    new: &NewImage,
    host: HostId,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    check_name(&new.name)?;
    if !new.file.is_empty() && !is_line(&new.file, LONGEST_FILE) {
        return Err(invalid(
            "file",
            format!("A file's name is one line of at most {LONGEST_FILE} characters."),
        ));
    }
    let sha256 = new.sha256.as_deref().map(str::to_ascii_lowercase);
    if sha256
        .as_deref()
        .is_some_and(|sum| sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(invalid("sha256", "A SHA-256 has 64 hexadecimal digits."));
    }
    let pool = pools::one(connection, &new.pool).map_err(|_| invalid("pool", "There is no such pool."))?;
    if let Some(why) = pools::is_closed(&pool, host) {
        return Err(conflict(why).in_field("pool").into());
    }
    let room = pools::on_host(&pool, host).map_or(0, |there| there.capacity.saturating_sub(there.used));
    if new.length > room {
        return Err(conflict("There is not so much room in this pool.").in_field("length").into());
    }
    name_must_be_free(connection, &new.name, id)?;
    let count: i64 = connection.query_row("SELECT count(*) FROM image", [], |row| row.get(0))?;
    if count >= MOST {
        return Err(conflict(format!("There are {MOST} images already.")).into());
    }
    // Of its file and its name, the one that says more.
    let guesses = [&new.name, &new.file].into_iter().filter_map(|text| Os::guess(text));
    let guess = guesses.max_by_key(|(_, version)| !version.is_empty());
    let (os, version) = guess.map(|(os, version)| (os.distribution, version)).unwrap_or_default();
    connection.execute(
        "INSERT INTO image (id, name, file, os, os_version, pool, host, length, sha256, state, made_at, made_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'arriving', ?10, ?11)",
        params![id, new.name, new.file, os, version, new.pool, host.0, new.length, sha256, now_ms, by],
    )?;
    one(connection, id)
}

/// Gives it another name, or says what is on it.
pub(crate) fn change(
    connection: &Connection,
    id: &str,
    change: &ChangeImage,
    seen: Version,
) -> Result<Kept, Refused> {
    let before = one(connection, id)?.shown;
    seen.must_be(before.version)?;
    let name = change.name.as_ref().unwrap_or(&before.name);
    check_name(name)?;
    name_must_be_free(connection, name, id)?;
    let os = change.os.as_ref().unwrap_or(&before.os);
    if !os.is_empty() && Os::of(os).is_none() {
        let known: Vec<_> = Os::all().map(|os| os.distribution).collect();
        return Err(invalid("os", format!("A system is one of {}, or nothing.", known.join(", "))));
    }
    let version = change.os_version.as_ref().unwrap_or(&before.os_version);
    if !version.is_empty() && !is_line(version, LONGEST_VERSION) {
        return Err(invalid("os_version", format!("A version has at most {LONGEST_VERSION} characters.")));
    }
    connection.execute(
        "UPDATE image SET name = ?2, os = ?3, os_version = ?4, version = version + 1 WHERE id = ?1",
        params![id, name, os, version],
    )?;
    one(connection, id)
}

fn name_must_be_free(connection: &Connection, name: &str, but: &str) -> Result<(), Refused> {
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM image WHERE name = ?1 COLLATE NOCASE AND id <> ?2")?
        .exists([name, but])?;
    if is_taken { Err(invalid("name", format!("There is an image named {name} already."))) } else { Ok(()) }
}

/// Notes how long its file is.
pub(crate) fn has_length(
    connection: &Connection,
    host: HostId,
    id: &str,
    length: u64,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE image SET length = ?3 WHERE id = ?1 AND host = ?2 AND length <> ?3",
            params![id, host.0, length],
        )
        .map(drop)
}

/// Takes a place for an image whose file is fetched: how long it is will be seen.
pub(crate) fn add_fetched(
    connection: &Connection,
    id: &str,
    wanted: &FetchImage,
    host: HostId,
    by: &str,
    now_ms: i64,
) -> Result<Kept, Refused> {
    let is_sum = |sum: &str| sum.is_empty() || is_checksum(sum);
    if !is_sum(&wanted.checksum) {
        return Err(invalid("checksum", "A SHA-256 has 64 hexadecimal digits, a SHA-512 has 128."));
    }
    fetch::check(&wanted.url, !wanted.checksum.is_empty()).map_err(|why| invalid("url", why))?;
    if !wanted.checksums.is_empty() {
        fetch::check(&wanted.checksums, false).map_err(|why| invalid("checksums", why))?;
    }
    if !wanted.authority.is_empty() {
        outside::trust(&wanted.authority).map_err(|why| invalid("authority", why))?;
    }
    let file = fetch::file_name(&wanted.url).to_owned();
    let name = if wanted.name.is_empty() { file.clone() } else { wanted.name.clone() };
    let new = NewImage { name, file, pool: wanted.pool.clone(), length: 0, sha256: None };
    place(connection, id, &new, host, by, now_ms)
}

/// Notes what the sum of its file is.
pub(crate) fn has_sum(connection: &Connection, host: HostId, id: &str, sum: &str) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE image SET sha256 = ?3 WHERE id = ?1 AND host = ?2", params![id, host.0, sum])
        .map(drop)
}

/// Notes that it is ready.
pub(crate) fn is_ready(
    connection: &Connection,
    host: HostId,
    id: &str,
    facts: &Facts,
    machine: Option<&Machine>,
    now_ms: i64,
) -> rusqlite::Result<()> {
    // A form of JSON is there for all of it.
    let draft = machine.map(|machine| serde_json::to_string(&machine.draft).unwrap_or_default());
    // Told twice, it is as it was told first: whoever goes on after a fault may not see any more what it came as.
    connection.execute(
        "UPDATE image SET state = 'ready', format = ?3, bytes = ?4, used = ?5, draft = ?6, version = version + 1
         WHERE id = ?1 AND host = ?2 AND state <> 'ready'",
        params![id, host.0, facts.format, facts.bytes, facts.used, draft],
    )?;
    for (number, (other, facts)) in machine.iter().flat_map(|machine| (2..).zip(&machine.others)) {
        connection.execute(
            "INSERT INTO image (id, name, file, os, os_version, pool, host, length, format, bytes, used, state, made_at, made_by)
             SELECT ?2, iif(EXISTS (SELECT 1 FROM image AS same WHERE same.name = substr(image.name, 1, 50) || ', disk ' || ?3),
                            ?2, substr(image.name, 1, 50) || ', disk ' || ?3),
                 '', image.os, image.os_version, image.pool, image.host, ?6, ?4, ?5, ?6, 'ready', ?7, image.made_by
             FROM image WHERE id = ?1 AND host = ?8
             ON CONFLICT (id) DO NOTHING",
            params![id, other, number, facts.format, facts.bytes, facts.used, now_ms, host.0],
        )?;
    }
    Ok(())
}

/// Forgets it.
pub(crate) fn forget(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM image WHERE id = ?1", [id]).map(drop)
}

/// How many are on a host.
pub(crate) fn count_on(connection: &Connection, host: HostId) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM image WHERE host = ?1", [host.0], |row| row.get(0))
}

/// Checks that an image can be in a CD drive on a host.
pub(crate) fn check_cd(connection: &Connection, id: &str, host: HostId) -> Result<(), Problem> {
    let Some(found) = find(connection, id).ok().flatten() else {
        return Err(Problem::new(ProblemCode::Invalid, "There is no such image."));
    };
    let image = &found.shown;
    if image.format.as_deref() != Some(CD) && image.format.is_some() {
        let sentence = format!("{} is no CD: let a disk begin as a copy of it.", image.name);
        return Err(Problem::new(ProblemCode::Invalid, sentence));
    }
    copies::must_reach(connection, &found, host)
}

/// The machines in whose drives an image is.
pub(crate) fn in_drives_of(connection: &Connection, id: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT vm.name FROM vm, json_each(vm.spec, '$.cds') AS cd
             WHERE cd.value ->> 'image' = ?1 ORDER BY vm.name LIMIT 5",
        )?
        .query_map([id], |row| row.get(0))?
        .collect()
}

/// Checks that a disk can begin as a copy of an image on a host.
pub(crate) fn check_copy(
    connection: &Connection,
    id: &str,
    pool: &str,
    linked: bool,
    bytes: u64,
    host: HostId,
) -> Result<(), Problem> {
    let found = find(connection, id).ok().flatten();
    let Some(found) = found else {
        return Err(Problem::new(ProblemCode::Invalid, "There is no such image."));
    };
    let image = &found.shown;
    if linked && pools::is_thin(pool) {
        return Err(conflict("In this pool a disk cannot lie on an image. Make it a full copy."));
    }
    copies::must_reach(connection, &found, host)?;
    if image.pool != pool && !pools::is_thin(pool) {
        return Err(conflict(format!(
            "The image {} is in the pool {}, and the disk would be elsewhere.",
            image.name, image.pool_name
        )));
    }
    if image.format.as_deref() == Some(CD) {
        let sentence = format!("{} is a CD: put it into a drive, and begin with an empty disk.", image.name);
        return Err(Problem::new(ProblemCode::Invalid, sentence));
    }
    let least = image.bytes.unwrap_or_default();
    if bytes < least {
        let gib = least.div_ceil(1 << 30);
        let sentence =
            format!("The disk of the image {} has {least} bytes: ask for {gib} GiB or more.", image.name);
        return Err(Problem::new(ProblemCode::Invalid, sentence));
    }
    Ok(())
}
