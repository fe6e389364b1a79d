//! Files in a pool of this host that is a directory: to what each belongs, and what one that nobody knows can become.

use jiff::Timestamp;
use quantix_api::{AdoptFile, NewImage, PoolFile, PoolFiles, Problem, ProblemCode};
use quantix_storage::{DiskFormat, Lying, VolumeId};
use quantix_store::HostId;
use rusqlite::{Connection, OptionalExtension};

use super::{
    layers, pools,
    volumes::{self, FromFile, ToMake},
};
use crate::{api::Agent, cluster::Refused, sessions::now_ms};

/// More are not looked into at once.
const MOST_LOOKED_INTO: usize = 200;
/// Whoever has written to a file so short a time ago may be doing so still.
const IS_WRITTEN_MS: i64 = 60_000;

/// To what a file belongs: in words, and by what that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    words: String,
    object: Option<String>,
}

impl Owner {
    fn new(words: impl Into<String>, object: Option<String>) -> Self {
        Self { words: words.into(), object }
    }
}

/// To what some files belong, in their order; nothing for one that nobody knows.
fn owners(
    connection: &Connection,
    host: HostId,
    files: &[Lying],
    now_ms: i64,
) -> rusqlite::Result<Vec<Option<Owner>>> {
    let under_way: String = connection
        .prepare_cached(
            "SELECT coalesce(group_concat(object || ' ' || params, ' '), '') FROM task
             WHERE owner = ?1 AND ended_at IS NULL",
        )?
        .query_row([host.0], |row| row.get(0))?;
    files
        .iter()
        .map(|file| {
            if let Some(owner) = owner(connection, host, &file.path)? {
                return Ok(Some(owner));
            }
            let stem = stem(&file.path);
            // An id is long enough not to be a part of anything else.
            if stem.parse::<VolumeId>().is_ok() && under_way.contains(stem) {
                return Ok(Some(Owner::new("a task that is under way", None)));
            }
            let is_written = file.changed_ms > now_ms.saturating_sub(IS_WRITTEN_MS);
            Ok(is_written.then(|| Owner::new("nobody yet: it was written to just now", None)))
        })
        .collect()
}

/// What is in front of the first dot of its name.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split('.').next().unwrap_or_default()
}

/// To what a file belongs by its name.
fn owner(connection: &Connection, host: HostId, path: &str) -> rusqlite::Result<Option<Owner>> {
    let Some((folder, name)) = path.split_once('/') else {
        return Ok((path == "quantix-pool").then(|| Owner::new("the pool: it says that this is one", None)));
    };
    if name.contains('/') {
        return Ok(None);
    }
    let id = stem(path);
    let named = |query: &str, what: &str, kind: &str| {
        let found: Option<(Option<String>, Option<String>)> = connection
            .prepare_cached(query)?
            .query_row((id, host.0), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found.map(|(name, id)| match name.zip(id) {
            Some((name, id)) => Owner::new(format!("{what} {name}"), Some(format!("{kind}/{id}"))),
            None => Owner::new("disks that lie on it", None),
        }))
    };
    match folder {
        "volumes" => named(
            "SELECT volume.name, volume.id FROM layer LEFT JOIN volume ON volume.id = layer.volume
             WHERE layer.id = ?1 AND layer.host = ?2",
            "the volume",
            "volume",
        ),
        "images" => named(
            "SELECT name, id FROM image WHERE id = ?1
                 AND (host = ?2 OR EXISTS (SELECT 1 FROM image_copy WHERE image = image.id AND image_copy.host = ?2))",
            "the image",
            "image",
        ),
        "memory" => named(
            "SELECT vm.name || ', for its snapshot ' || snapshot.name, vm.id FROM snapshot JOIN vm ON vm.id = snapshot.vm
             WHERE snapshot.id = ?1 AND vm.host = ?2",
            "the machine",
            "vm",
        ),
        "seeds" => named("SELECT name, id FROM vm WHERE id = ?1 AND host = ?2", "the machine", "vm"),
        _ => Ok(None),
    }
}

/// How a file is read as a disk. It says so itself by its name: what is in it may have been written by a guest.
fn format(path: &str) -> DiskFormat {
    if path.ends_with(".qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw }
}

impl Agent {
    /// The files of a pool of this host.
    pub(crate) async fn look_at_files(&self, pool: &str) -> Result<PoolFiles, Problem> {
        let unavailable =
            |failed: quantix_storage::Failed| Problem::new(ProblemCode::Unavailable, failed.to_string());
        let me = self.cluster.store()?.id();
        let dir = self.directory(pool);
        let (files, is_cut) = dir.files().await.map_err(unavailable)?;
        let (files, owners) = self
            .cluster
            .read(move |connection| {
                let owners = owners(connection, me, &files, now_ms())?;
                Ok::<_, rusqlite::Error>((files, owners))
            })
            .await?;
        let mut looked_into = 0;
        let mut items = Vec::with_capacity(files.len());
        for (file, owner) in files.into_iter().zip(owners) {
            let is_unknown = owner.is_none();
            let (belongs_to, object) = owner.map(|owner| (owner.words, owner.object)).unzip();
            let mut item = PoolFile {
                bytes: file.length,
                used: file.used,
                changed_at: Timestamp::from_millisecond(file.changed_ms).unwrap_or_default(),
                is_file: file.is_file,
                belongs_to,
                object: object.flatten(),
                volume: None,
                disk_bytes: None,
                why_not: String::new(),
                path: file.path,
            };
            if is_unknown && item.is_file && looked_into < MOST_LOOKED_INTO {
                looked_into += 1;
                self.look_into(pool, &mut item).await;
            }
            items.push(item);
        }
        Ok(PoolFiles { items, is_cut })
    }

    /// What a file could become.
    async fn look_into(&self, pool: &str, item: &mut PoolFile) {
        let dir = self.directory(pool);
        let Some(path) = dir.file(&item.path) else { return };
        match dir.look_at_foreign(&path, format(&item.path)).await {
            Ok(foreign) => {
                item.disk_bytes = Some(foreign.bytes);
                item.volume = foreign.volume.map(|volume| volume.to_string());
            }
            Err(failed) => item.why_not = failed.to_string(),
        }
    }

    /// Removes a file of a pool of this host that nobody knows.
    pub(crate) async fn remove_file(&self, pool: &str, path: &str) -> Result<(), String> {
        let me = self.cluster.store().map_err(|problem| problem.detail)?.id();
        self.cluster.catch_up().await.map_err(|problem| problem.detail)?;
        let dir = self.directory(pool);
        let found = dir.lying(path).await.map_err(|failed| failed.to_string())?;
        let Some(file) = found else { return Ok(()) };
        let owner = self
            .cluster
            .read(move |connection| owners(connection, me, &[file], now_ms()))
            .await
            .map_err(|problem| problem.detail)?;
        if let Some(Some(owner)) = owner.into_iter().next() {
            return Err(format!("It belongs to {}.", owner.words));
        }
        dir.remove_file(path).await.map_err(|failed| failed.to_string())?;
        self.pools_changed.notify_one();
        Ok(())
    }
}

fn conflict(sentence: impl Into<String>) -> Refused {
    Problem::new(ProblemCode::Conflict, sentence).into()
}

/// One of the files of a pool that nobody knows.
pub(crate) fn unknown(files: PoolFiles, path: &str) -> Result<PoolFile, Problem> {
    let file = files.items.into_iter().find(|file| file.path == path).ok_or_else(|| {
        Problem::new(ProblemCode::Invalid, "There is no such file in this pool.").in_field("path")
    })?;
    match &file.belongs_to {
        Some(owner) => {
            Err(Problem::new(ProblemCode::Conflict, format!("It belongs to {owner}.")).in_field("path"))
        }
        None => Ok(file),
    }
}

/// What is to be made of a file that becomes a volume.
pub(crate) fn plan_volume(
    connection: &Connection,
    pool: &str,
    file: &PoolFile,
    asked: &AdoptFile,
) -> Result<ToMake, Refused> {
    let Some(bytes) = file.disk_bytes else {
        let why = if file.why_not.is_empty() { "It is no disk." } else { file.why_not.as_str() };
        return Err(Problem::new(ProblemCode::Conflict, why).in_field("path").into());
    };
    if let Some(id) = &file.volume {
        let layer = id.parse().map_err(volumes::unreadable)?;
        if volumes::find(connection, id)?.is_some() || layers::owner(connection, layer)?.is_some() {
            return Err(conflict("It has become a volume already."));
        }
    }
    let (path, stays) = (file.path.clone(), file.volume.is_some());
    let from = FromFile { path, is_raw: format(&file.path) == DiskFormat::Raw, stays };
    let id = file.volume.clone().unwrap_or_else(|| VolumeId::new().to_string());
    Ok(ToMake { file: Some(from), ..ToMake::empty(id, asked.name.clone(), pool.to_owned(), bytes) })
}

/// The image that a file becomes.
pub(crate) fn plan_image(pool: &str, file: &PoolFile, asked: &AdoptFile) -> NewImage {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    NewImage {
        name: asked.name.clone(),
        file: name.chars().take(200).collect(),
        pool: pool.to_owned(),
        length: file.bytes,
        sha256: None,
    }
}

/// Where the files of a pool are on a host: it is a directory there.
pub(crate) fn must_have_files(connection: &Connection, pool: &str, host: HostId) -> Result<(), Refused> {
    let pool = pools::one(connection, pool)?;
    if pools::is_thin(&pool.id) {
        return Err(conflict(format!("What is in the pool {} are no files, but volumes of LVM.", pool.name)));
    }
    match pools::on_host(&pool, host) {
        Some(_) => Ok(()),
        None => Err(conflict(format!("The pool {} is not on this host.", pool.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::kept::tests::{HOST, with_host, with_pool};

    fn lying(path: &str, changed_ms: i64) -> Lying {
        Lying { path: path.to_owned(), length: 1 << 20, used: 4096, changed_ms, is_file: true }
    }

    fn with_volume() -> (Connection, String) {
        let connection = with_host();
        with_pool(&connection);
        let new = ToMake::empty(VolumeId::new().to_string(), "data".into(), "local".into(), 1 << 30);
        volumes::add(&connection, &new, HOST, "ada", 1000).unwrap();
        (connection, new.id)
    }

    fn words(connection: &Connection, host: HostId, path: &str) -> Option<String> {
        let owners = owners(connection, host, &[lying(path, 0)], 1_000_000).unwrap();
        owners.into_iter().next().unwrap().map(|owner| owner.words)
    }

    #[test]
    fn what_belongs_to_something_says_to_what() {
        let (connection, id) = with_volume();
        let image = VolumeId::new().to_string();
        connection
            .execute_batch(&format!(
                "INSERT INTO image (id, name, file, os, os_version, pool, host, length, state, made_at, made_by)
                     VALUES ('{image}', 'Debian 13', 'd', '', '', 'local', 77, 1, 'ready', 0, 'ada');
                 INSERT INTO image_copy (image, host) VALUES ('{image}', {0});
                 INSERT INTO layer (id, pool, host, bytes) VALUES ('{1}', 'local', {0}, 1);",
                HOST.0,
                VolumeId::new()
            ))
            .unwrap();
        let below: String =
            connection.query_row("SELECT id FROM layer WHERE volume IS NULL", [], |row| row.get(0)).unwrap();
        let of = |path: &str| words(&connection, HOST, path);
        assert_eq!(of(&format!("volumes/{id}.qcow2")).unwrap(), "the volume data");
        assert_eq!(of(&format!("volumes/{id}.new")).unwrap(), "the volume data");
        assert_eq!(of(&format!("volumes/{below}.qcow2")).unwrap(), "disks that lie on it");
        assert_eq!(of(&format!("images/{image}.qcow2")).unwrap(), "the image Debian 13");
        assert!(of("quantix-pool").is_some());
        // By the same name elsewhere it is something else, and on another host it is nobody's.
        for path in [format!("images/{id}.qcow2"), format!("volumes/a/{id}.qcow2"), "volumes/x.qcow2".into()]
        {
            assert_eq!(of(&path), None, "{path}");
        }
        assert_eq!(words(&connection, HostId(77), &format!("volumes/{id}.qcow2")), None);
        assert_eq!(words(&connection, HostId(78), &format!("images/{image}.qcow2")), None);
    }

    #[test]
    fn what_is_just_being_written_is_nobodys_to_remove() {
        let (connection, _) = with_volume();
        let id = VolumeId::new();
        let path = format!("volumes/{id}.new");
        assert_eq!(words(&connection, HOST, &path), None);
        let task = format!(
            "INSERT INTO task (kind, title, object, object_name, params, owner, state, steps, outcome, memo, actor, address, made_at, attempt)
             VALUES ('snapshot-vm', '', 'vm/x', '', '{{\"next\":\"{id}\"}}', {}, 'running', '[]', '', '', '', '', 0, 1)",
            HOST.0
        );
        connection.execute_batch(&task).unwrap();
        assert_eq!(words(&connection, HOST, &path).unwrap(), "a task that is under way");
        let young = owners(&connection, HOST, &[lying("a.raw", 999_000)], 1_000_000).unwrap();
        assert!(young[0].as_ref().unwrap().words.contains("just now"));
    }

    #[test]
    fn a_file_becomes_a_volume_once() {
        let (connection, id) = with_volume();
        let asked = AdoptFile {
            path: "volumes/x".into(),
            name: "old".into(),
            becomes: quantix_api::FileBecomes::Volume,
        };
        let file = |path: &str, volume: Option<String>, disk_bytes| PoolFile {
            path: path.to_owned(),
            bytes: 1 << 20,
            used: 4096,
            changed_at: Timestamp::UNIX_EPOCH,
            is_file: true,
            belongs_to: None,
            object: None,
            volume,
            disk_bytes,
            why_not: String::new(),
        };
        let there = VolumeId::new().to_string();
        let stays = file(&format!("volumes/{there}.qcow2"), Some(there.clone()), Some(1 << 30));
        let new = plan_volume(&connection, "local", &stays, &asked).unwrap();
        assert_eq!((new.id, new.bytes, new.file.unwrap().stays), (there, 1 << 30, true));
        let copied =
            plan_volume(&connection, "local", &file("old.raw", None, Some(1 << 20)), &asked).unwrap();
        let from = copied.file.unwrap();
        assert!(from.is_raw && !from.stays && from.path == "old.raw");
        let taken = file(&format!("volumes/{id}.qcow2"), Some(id), Some(1 << 30));
        assert!(plan_volume(&connection, "local", &taken, &asked).is_err());
        assert!(plan_volume(&connection, "local", &file("a.qcow2", None, None), &asked).is_err());
        let known = PoolFile { belongs_to: Some("the volume data".into()), ..stays };
        let files = PoolFiles { items: vec![known.clone()], is_cut: false };
        assert!(unknown(files.clone(), &known.path).unwrap_err().detail.contains("the volume data"));
        assert!(unknown(files, "nowhere").is_err());
    }
}
