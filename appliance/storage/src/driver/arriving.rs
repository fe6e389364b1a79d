//! The file of an image while it comes, in pieces or from elsewhere: what there is of it, what is known of it, and its sums.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{
    directory::{Directory, in_files, remove},
    image::{Going, stopped},
};
use crate::model::{id::VolumeId, pool::Failed};

const PIECE: usize = 1 << 20;

/// The sums of a file, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Its SHA-256.
    pub sha256: String,
    /// Another, if it was asked for.
    pub further: Option<String>,
}

/// A sum that is made beside the SHA-256, for whoever knows that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Further {
    /// It shows that something was spoilt, but not that somebody changed it.
    Sha1,
    /// As strong as the SHA-256.
    Sha512,
}

impl Further {
    /// What is asked for to compare with a sum.
    pub fn for_sum(sum: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha512].into_iter().find(|kind| kind.digits() == sum.len())
    }

    /// How many hexadecimal digits it has.
    pub(super) const fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha512 => 128,
        }
    }
}

impl Sums {
    /// Whether one of these is the sum that is meant.
    pub(super) fn has(&self, sum: &str) -> bool {
        self.sha256 == sum || self.further.as_deref() == Some(sum)
    }
}

const NOT_WRITTEN: &str = "The image cannot be written";
/// Of a file of which less is in memory alone nothing is brought to the disk while it comes.
const WORTH_IT: u64 = 64 << 20;
/// So long what has come waits for more before it is: a power cut costs seconds of a line, however fast that is.
const UNSAFE_FOR: Duration = Duration::from_secs(2);
/// What is just being brought to the disk.
static BEING_MADE_SAFE: Mutex<BTreeSet<VolumeId>> = Mutex::new(BTreeSet::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of a file that comes is on the disk for sure, as it was noted in one run of the host.
struct Safe {
    run: String,
    bytes: u64,
}

/// What tells one run of the host from the next.
fn this_run() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

impl Safe {
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // One that was cut off is none.
        let read = || {
            let (run, bytes) = text.strip_suffix('\n')?.split_once(' ')?;
            Some(Self { run: run.to_owned(), bytes: bytes.parse().ok()? })
        };
        Ok(read())
    }

    fn write(path: &Path, bytes: u64) -> io::Result<()> {
        fs::write(path, Self::note(bytes)?)
    }

    /// As long for every number: it is written over in place, and whoever reads meanwhile finds one or the other.
    fn note(bytes: u64) -> io::Result<String> {
        Ok(format!("{} {bytes:020}\n", this_run()?))
    }

    /// Notes something anew, if there is a note.
    fn update(path: &Path, bytes: u64) -> io::Result<()> {
        let note = Self::note(bytes)?;
        OpenOptions::new().write(true).open(path)?.write_all_at(note.as_bytes(), 0)
    }

    fn is_of_this_run(&self) -> bool {
        this_run().is_ok_and(|run| run == self.run)
    }
}

/// How much of a file has come. What was only in memory when the power failed has not.
fn come(path: &Path, safe: &Path) -> io::Result<u64> {
    let length = match fs::metadata(path) {
        Ok(about) => about.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    Ok(match Safe::read(safe)? {
        Some(safe) if safe.is_of_this_run() => length,
        Some(safe) => length.min(safe.bytes),
        None => 0,
    })
}

impl Directory {
    /// What has come of an image so far.
    pub(super) fn arriving(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.part"))
    }

    /// How much of an image has come.
    pub async fn arrived(&self, id: VolumeId) -> Result<u64, Failed> {
        self.room().await?;
        let (path, safe) = (self.arriving(id), self.safe_of(id));
        in_files("What has come cannot be looked at", move || come(&path, &safe)).await
    }

    /// Opens the file of an image that comes, to write what comes to where it belongs.
    pub async fn open_arriving(&self, id: VolumeId) -> Result<File, Failed> {
        self.room().await?;
        let (dir, path, note) = (self.images_dir(), self.arriving(id), self.safe_of(id));
        in_files(NOT_WRITTEN, move || {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            let known = Safe::read(&note)?;
            if !known.as_ref().is_some_and(|known| known.is_of_this_run()) {
                // What is behind that may be zeros, whatever its length says.
                let bytes = known.map_or(0, |known| known.bytes);
                file.set_len(bytes.min(file.metadata()?.len()))?;
                Safe::write(&note, bytes)?;
            }
            Ok(file)
        })
        .await
    }

    /// Puts a piece where it belongs: behind what has come. What comes twice is written once.
    pub async fn take_piece<B: AsRef<[u8]> + Send + 'static>(
        &self,
        id: VolumeId,
        at: u64,
        piece: Vec<B>,
    ) -> Result<(), Failed> {
        let file = self.open_arriving(id).await?;
        in_files(NOT_WRITTEN, move || {
            let mut end = at;
            for part in &piece {
                file.write_all_at(part.as_ref(), end)?;
                end += part.as_ref().len() as u64;
            }
            Ok(())
        })
        .await?;
        self.has_come(id).await
    }

    /// Sees to it that what has come is on the disk some seconds later: whoever brings it does not wait for that, and after a
    /// power cut goes on behind what was.
    pub async fn has_come(&self, id: VolumeId) -> Result<(), Failed> {
        let (path, safe) = (self.arriving(id), self.safe_of(id));
        let (part, note) = (path.clone(), safe.clone());
        let is_much = in_files(NOT_WRITTEN, move || {
            let known = Safe::read(&note)?.map_or(0, |known| known.bytes);
            // Of one that was removed meanwhile nothing is there.
            Ok(fs::metadata(&part).map_or(0, |part| part.len()).saturating_sub(known) >= WORTH_IT)
        })
        .await?;
        if is_much && lock(&BEING_MADE_SAFE).insert(id) {
            tokio::spawn(async move {
                tokio::time::sleep(UNSAFE_FOR).await;
                let done = in_files(NOT_WRITTEN, move || {
                    let file = File::open(&path)?;
                    let bytes = file.metadata()?.len();
                    file.sync_data()?;
                    // Where it is gone meanwhile, nothing is noted of it.
                    Safe::update(&safe, bytes)
                });
                // Whoever goes on after a power cut goes on a little further back.
                drop(done.await);
                lock(&BEING_MADE_SAFE).remove(&id);
            });
        }
        Ok(())
    }

    /// Why somebody who was given the file could not write to it.
    pub fn not_written(why: i32) -> Failed {
        Failed::of(NOT_WRITTEN, &io::Error::from_raw_os_error(why))
    }

    /// Takes away what has come: all is made of it, or its file comes anew.
    pub async fn forget_arrived(&self, id: VolumeId) -> Result<(), Failed> {
        self.room().await?;
        let all = self.of_arriving(id);
        in_files("What has come cannot be removed", move || all.iter().try_for_each(|path| remove(path)))
            .await
    }

    /// All files of an image that comes: the last is the one that says that it does.
    pub(super) fn of_arriving(&self, id: VolumeId) -> [PathBuf; 4] {
        [self.unpacked(id), self.origin_of(id), self.safe_of(id), self.arriving(id)]
    }

    fn safe_of(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.safe"))
    }

    pub(super) fn origin_of(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.from"))
    }

    /// What was noted of the file that comes, by which it is known again.
    pub async fn origin(&self, id: VolumeId) -> Result<Option<Vec<u8>>, Failed> {
        let path = self.origin_of(id);
        in_files("What is known of the file cannot be read", move || match fs::read(&path) {
            Ok(origin) => Ok(Some(origin)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Notes something of the file that comes. It need not survive the power: without it the file comes anew.
    pub async fn keep_origin(&self, id: VolumeId, origin: Vec<u8>) -> Result<(), Failed> {
        self.room().await?;
        let (dir, path) = (self.images_dir(), self.origin_of(id));
        in_files("What is known of the file cannot be kept", move || {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
            fs::write(&path, origin)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))
        })
        .await
    }

    /// The sums of what has come.
    pub async fn sum(
        &self,
        id: VolumeId,
        further: Option<Further>,
        going: impl Going + 'static,
    ) -> Result<Sums, Failed> {
        self.room().await?;
        let path = self.arriving(id);
        let sum = in_files("The image cannot be read", move || {
            let file = File::open(&path)?;
            let whole = file.metadata()?.len();
            sums(file, whole, further, &going)
        });
        sum.await?.ok_or_else(stopped)
    }
}

/// The sums of what is read; nothing, if it was stopped.
pub(super) fn sums(
    mut from: impl Read,
    whole: u64,
    further: Option<Further>,
    going: &impl Going,
) -> io::Result<Option<Sums>> {
    let (mut sha256, mut sha1, mut sha512) = (Sha256::new(), Sha1::new(), Sha512::new());
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            let further = further.map(|kind| match kind {
                Further::Sha1 => hex(&sha1.finalize()),
                Further::Sha512 => hex(&sha512.finalize()),
            });
            return Ok(Some(Sums { sha256: hex(&sha256.finalize()), further }));
        }
        sha256.update(&piece[..count]);
        match further {
            Some(Further::Sha1) => sha1.update(&piece[..count]),
            Some(Further::Sha512) => sha512.update(&piece[..count]),
            None => {}
        }
        done += count as u64;
        if !going(done, Some(whole)) {
            return Ok(None);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_only_in_memory_when_the_power_failed_comes_anew() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("local"));
        pool.prepare().await.unwrap();
        let id = VolumeId::new();
        for at in 0..20 {
            pool.take_piece(id, at << 22, vec![vec![1; 1 << 22]]).await.unwrap();
        }
        // The program may end at any time: what has come has come.
        assert_eq!(pool.arrived(id).await.unwrap(), 20 << 22);
        // More than is left in memory is on the disk after a while.
        let noted = || Safe::read(&pool.safe_of(id)).unwrap().unwrap().bytes;
        while noted() == 0 || lock(&BEING_MADE_SAFE).contains(&id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let safe = noted();
        assert!((WORTH_IT..=20 << 22).contains(&safe), "{safe}");
        // As after another start of the host, which found zeros at the end of the file.
        fs::write(pool.safe_of(id), format!("another-run {safe}\n")).unwrap();
        fs::write(pool.arriving(id), vec![0; 21 << 22]).unwrap();
        assert_eq!(pool.arrived(id).await.unwrap(), safe);
        pool.take_piece(id, safe, vec![[2; 8]]).await.unwrap();
        assert_eq!(pool.arrived(id).await.unwrap(), safe + 8);
        // A note that was cut off, or is not there, is none.
        for note in ["", "another-run 12"] {
            fs::write(pool.safe_of(id), note).unwrap();
            assert_eq!(pool.arrived(id).await.unwrap(), 0, "{note}");
        }
        pool.forget_arrived(id).await.unwrap();
        assert!(pool.of_arriving(id).iter().all(|path| !path.exists()));
    }
}
