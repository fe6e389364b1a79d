//! A pool that is a directory: volumes are files in QEMU's own format.
//!
//! Whatever is begun here may be begun again: the first time may have ended with the program, or with the power. A file has
//! its name only when it is whole.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use quantix_host::{Finished, RunError, blocking, run};

use crate::model::{
    id::VolumeId,
    pool::{Failed, Found, Room},
};

/// What says that a directory is the pool and not just the place where it would be.
const MARK: &str = "quantix-pool";
/// How long qemu-img may take for what is done at once.
const LIMIT: Duration = Duration::from_secs(120);
/// Whoever writes a whole disk may take so long, and is looked at so often.
const AT_LENGTH: Duration = Duration::from_secs(6 * 3600);
const LOOK: Duration = Duration::from_millis(200);

/// A pool that is a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The pool at a path, whether it is there or not.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn volumes_dir(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The file of a volume.
    pub fn path(&self, id: VolumeId) -> PathBuf {
        self.volumes_dir().join(format!("{id}.qcow2"))
    }

    /// What a volume is called that is not whole yet.
    pub fn unfinished(&self, id: VolumeId) -> PathBuf {
        self.path(id).with_extension("new")
    }

    /// Makes the directory a pool, if it is none yet.
    pub async fn prepare(&self) -> Result<(), Failed> {
        let pool = self.clone();
        in_files("The pool could not be made", move || {
            // Guests are run by a user who goes through here to their own files, and sees no others.
            for dir in [pool.root.clone(), pool.volumes_dir()] {
                fs::create_dir_all(&dir)?;
                fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
            }
            fs::write(pool.root.join(MARK), "")?;
            File::open(&pool.root)?.sync_all()
        })
        .await
    }

    /// How much room there is; an error if the pool is not there.
    pub async fn room(&self) -> Result<Room, Failed> {
        let pool = self.clone();
        let look = move || {
            pool.must_be_there()?;
            let stat = nix::sys::statvfs::statvfs(&pool.root)
                .map_err(|error| Failed::of("Its room cannot be read", &error.into()))?;
            let unit = stat.fragment_size();
            // What is kept back for root is no room for anybody here.
            let free = stat.blocks_available().saturating_mul(unit);
            let used = stat.blocks().saturating_sub(stat.blocks_free()).saturating_mul(unit);
            Ok(Room { capacity: used.saturating_add(free), used })
        };
        blocking(look).await.unwrap_or_else(|| Err(Failed::Other("It could not be looked at".to_owned())))
    }

    fn must_be_there(&self) -> Result<(), Failed> {
        match fs::symlink_metadata(self.root.join(MARK)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Failed::Missing(format!("{} holds no pool", self.root.display())))
            }
            Err(error) => Err(Failed::Missing(error.to_string())),
        }
    }

    /// The volumes that are there.
    pub async fn volumes(&self) -> Result<Vec<Found>, Failed> {
        let pool = self.clone();
        in_files("The volumes cannot be listed", move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(pool.volumes_dir())? {
                let entry = entry?;
                let name = entry.file_name();
                let id = name.to_str().and_then(|name| name.strip_suffix(".qcow2")?.parse().ok());
                // One that was removed just now has no size.
                if let (Some(id), Ok(about)) = (id, entry.metadata())
                    && about.is_file()
                {
                    found.push(Found { id, used: about.blocks().saturating_mul(512) });
                }
            }
            Ok(found)
        })
        .await
    }

    /// Makes an empty volume. One that is there stays as it is.
    pub async fn make(&self, id: VolumeId, bytes: u64) -> Result<(), Failed> {
        let beside = self.begin(id).await?;
        let Some(beside) = beside else { return Ok(()) };
        let path = beside.display().to_string();
        let made = qemu_img(&["create", "-q", "-f", "qcow2", &path, &bytes.to_string()]).await;
        self.finish(id, beside, made).await
    }

    /// The name under which a volume is made; nothing if it is there.
    pub(super) async fn begin(&self, id: VolumeId) -> Result<Option<PathBuf>, Failed> {
        self.room().await?;
        let (path, beside) = (self.path(id), self.unfinished(id));
        in_files("The volume cannot be made", move || {
            if path.try_exists()? {
                return Ok(None);
            }
            remove(&beside)?;
            Ok(Some(beside))
        })
        .await
    }

    /// Gives a volume its name, or takes away what there is of one that was not made.
    pub(super) async fn finish(
        &self,
        id: VolumeId,
        beside: PathBuf,
        made: Result<(), Failed>,
    ) -> Result<(), Failed> {
        let (path, dir) = (self.path(id), self.volumes_dir());
        let is_made = made.is_ok();
        let finished = in_files("The volume could not be finished", move || {
            let finished = (|| {
                if !is_made {
                    return Ok(());
                }
                fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
                File::open(&beside)?.sync_all()?;
                fs::rename(&beside, &path)?;
                File::open(&dir)?.sync_all()
            })();
            if !is_made || finished.is_err() {
                remove(&beside)?;
            }
            finished
        })
        .await;
        made.and(finished)
    }

    /// Makes a volume bigger that no machine has open.
    pub async fn grow(&self, id: VolumeId, bytes: u64) -> Result<(), Failed> {
        self.room().await?;
        let path = self.path(id).display().to_string();
        qemu_img(&["resize", "-q", "-f", "qcow2", &path, &bytes.to_string()]).await
    }

    /// Removes a volume with all that is on it. One that is not there is removed.
    pub async fn remove(&self, id: VolumeId) -> Result<(), Failed> {
        self.room().await?;
        let (path, dir) = (self.path(id), self.volumes_dir());
        in_files("The volume could not be removed", move || {
            remove(&path.with_extension("new"))?;
            remove(&path)?;
            File::open(&dir)?.sync_all()
        })
        .await
    }
}

/// Works on files, beside what waits.
pub(super) async fn in_files<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failed> {
    let done = blocking(work).await.unwrap_or_else(|| Err(io::Error::other("it was interrupted")));
    done.map_err(|error| Failed::of(doing, &error))
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets QEMU's tool work for long; whether it goes on is asked again and again.
pub(super) async fn qemu_img_at_length(
    args: &[&str],
    goes_on: impl Fn() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut worked = std::pin::pin!(run("qemu-img", args, AT_LENGTH));
    loop {
        tokio::select! {
            done = &mut worked => return qemu_img_ended(done),
            () = tokio::time::sleep(LOOK) => {}
        }
        goes_on()?;
    }
}

pub(super) async fn qemu_img(args: &[&str]) -> Result<(), Failed> {
    qemu_img_ended(run("qemu-img", args, LIMIT).await)
}

/// What came of QEMU's tool.
pub fn qemu_img_ended(finished: Result<Finished, RunError>) -> Result<(), Failed> {
    let finished = finished.map_err(|error| Failed::Other(error.to_string()))?;
    if finished.code == Some(0) {
        return Ok(());
    }
    let said = finished.stderr.lines().last().unwrap_or("qemu-img ended without a word").trim();
    if said.ends_with("No space left on device") {
        return Err(Failed::Full);
    }
    Err(Failed::Other(said.trim_start_matches("qemu-img: ").trim_end_matches('.').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pool() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("local"));
        pool.prepare().await.unwrap();
        (dir, pool)
    }

    async fn size(pool: &Directory, id: VolumeId) -> u64 {
        let path = pool.path(id).display().to_string();
        let told = run("qemu-img", &["info", "--output=json", &path], LIMIT).await.unwrap().stdout;
        let size = told.split("\"virtual-size\":").nth(1).unwrap().trim_start();
        size.split(',').next().unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn a_volume_is_made_grows_and_goes_and_each_can_be_done_twice() {
        let (_dir, pool) = pool().await;
        let id = VolumeId::new();
        for _ in 0..2 {
            pool.make(id, 1 << 30).await.unwrap();
            let found = pool.volumes().await.unwrap();
            assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [id]);
            assert!(found[0].used < 1 << 20);
        }
        assert_eq!(size(&pool, id).await, 1 << 30);
        assert_eq!(fs::metadata(pool.path(id)).unwrap().permissions().mode() & 0o777, 0o600);
        for _ in 0..2 {
            pool.grow(id, 3 << 30).await.unwrap();
            assert_eq!(size(&pool, id).await, 3 << 30);
        }
        // Not smaller, whoever asks.
        assert!(pool.grow(id, 1 << 30).await.is_err());
        for _ in 0..2 {
            pool.remove(id).await.unwrap();
            assert_eq!(pool.volumes().await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn what_was_cut_off_is_no_volume_and_not_in_the_way() {
        let (_dir, pool) = pool().await;
        let id = VolumeId::new();
        let beside = pool.path(id).with_extension("new");
        fs::write(&beside, "half of it").unwrap();
        assert_eq!(pool.volumes().await.unwrap(), []);
        pool.make(id, 1 << 20).await.unwrap();
        assert!(!beside.exists());
        assert_eq!(pool.volumes().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_done_in_the_place_of_a_pool_that_is_not_there() {
        let (dir, pool) = pool().await;
        let (id, there) = (VolumeId::new(), dir.path().join("elsewhere"));
        pool.make(id, 1 << 20).await.unwrap();
        fs::rename(dir.path().join("local"), &there).unwrap();
        // As a file system is that is not mounted.
        fs::create_dir_all(dir.path().join("local/volumes")).unwrap();
        assert!(matches!(pool.room().await, Err(Failed::Missing(_))));
        assert!(matches!(pool.make(VolumeId::new(), 1 << 20).await, Err(Failed::Missing(_))));
        assert!(matches!(pool.remove(id).await, Err(Failed::Missing(_))));
        assert!(!pool.path(id).exists());
    }

    #[tokio::test]
    async fn there_is_room_where_files_are() {
        let (_dir, pool) = pool().await;
        let room = pool.room().await.unwrap();
        assert!(room.capacity > 0 && room.used <= room.capacity);
    }
}
