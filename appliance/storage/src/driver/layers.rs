//! Layers: files of one volume that lie on each other. The upper one holds what was written since it was laid there, and
//! what lies below is not written to any more. A layer that nobody needs is taken out by writing the one above it into it,
//! and giving it that one's name: what lies on top of both finds what it found before.
//!
//! As with volumes, whatever is begun here may be begun again.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, in_files, qemu_img, qemu_img_at_length, remove},
    image::{Going, stopped},
};
use crate::model::{id::VolumeId, pool::Failed};

/// The longest name that is kept in a header.
const LONGEST_NAME: u32 = 1023;

/// What a layer lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Another layer.
    Layer(VolumeId),
    /// An image.
    Image(VolumeId),
}

impl Below {
    /// As it stands in the header of what lies on it: pools can be moved.
    fn name(self) -> String {
        match self {
            Self::Layer(id) => format!("{id}.qcow2"),
            Self::Image(id) => format!("../images/{id}.qcow2"),
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        let id = |name: &str| name.strip_suffix(".qcow2")?.parse().ok();
        match name.strip_prefix("../images/") {
            Some(name) => id(name).map(Self::Image),
            None => id(name).map(Self::Layer),
        }
    }
}

impl Directory {
    /// Where something is on which layers lie.
    pub(super) fn place(&self, below: Below) -> PathBuf {
        match below {
            Below::Layer(id) => self.path(id),
            Below::Image(id) => self.disk_image(id),
        }
    }

    /// Lays a layer on what is there, of the same size unless another is said. One that is there stays as it is.
    pub async fn lay(&self, id: VolumeId, below: Below, bytes: Option<u64>) -> Result<(), Failed> {
        let Some(beside) = self.begin(id).await? else { return Ok(()) };
        let (path, below) = (beside.display().to_string(), below.name());
        let bytes = bytes.map(|bytes| bytes.to_string());
        let mut args = vec!["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &below, &path];
        args.extend(bytes.as_deref());
        let made = qemu_img(&args).await;
        self.finish(id, beside, made).await
    }

    /// What a layer lies on, as its file says.
    pub async fn below(&self, id: VolumeId) -> Result<Option<Below>, Failed> {
        let path = self.path(id);
        in_files("The volume cannot be read", move || {
            let Some(name) = named_below(&path)? else { return Ok(None) };
            match Below::of(&name) {
                Some(below) => Ok(Some(below)),
                None => Err(io::Error::other(format!("it lies on {name}, which is no layer"))),
            }
        })
        .await
    }

    /// Says on what a layer lies that no machine has open: the same, by another name.
    pub async fn say_below(&self, id: VolumeId, below: Below) -> Result<(), Failed> {
        if self.below(id).await? == Some(below) {
            return Ok(());
        }
        let (path, below) = (self.path(id).display().to_string(), below.name());
        qemu_img(&["rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &below, &path]).await
    }

    /// Writes what is in a layer into the one below it. No machine has either of them open.
    pub async fn merge(&self, upper: VolumeId, going: impl Going) -> Result<(), Failed> {
        let path = self.path(upper).display().to_string();
        // What was written stays in the upper one, too, until it has no name any more.
        let args = ["commit", "-q", "-d", "-f", "qcow2", &path];
        qemu_img_at_length(&args, || if going(0, None) { Ok(()) } else { Err(stopped()) }).await
    }

    /// Gives the lower of two layers, into which the upper was written, the name of the upper; if so, it keeps its own
    /// besides, for a machine that knows it by that.
    pub async fn take_name(&self, lower: VolumeId, upper: VolumeId, keeps: bool) -> Result<(), Failed> {
        let (from, to) = (self.path(lower), self.path(upper));
        let dir = from.parent().map(Path::to_owned);
        in_files("The layers cannot be put together", move || {
            // Done before: there is one file left, or it has both names.
            let Ok(about) = fs::metadata(&from) else { return fs::metadata(&to).map(drop) };
            if about.ino() != fs::metadata(&to).map_or(0, |about| about.ino()) {
                let beside = to.with_extension("new");
                remove(&beside)?;
                fs::hard_link(&from, &beside)?;
                File::open(&beside)?.sync_all()?;
                fs::rename(&beside, &to)?;
            }
            if !keeps {
                remove(&from)?;
            }
            dir.map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        })
        .await
    }

    /// Whether two files of a pool are one.
    pub async fn is_file_of(&self, id: VolumeId, path: PathBuf) -> bool {
        is_same(self.path(id), path).await
    }

    /// Whether a machine that is on writes to a layer: QEMU locks what it writes to.
    pub async fn is_written_to(&self, id: VolumeId) -> Result<bool, Failed> {
        let path = self.path(id).display().to_string();
        match qemu_img(&["info", "-f", "qcow2", &path]).await {
            Ok(()) => Ok(false),
            Err(Failed::Other(why)) if why.contains("Is another process using the image") => Ok(true),
            Err(failed) => Err(failed),
        }
    }

    /// Makes a volume that begins as a whole copy of a layer with all that lies below it. One that is there stays as it is.
    pub async fn write_out(
        &self,
        id: VolumeId,
        from: VolumeId,
        bytes: u64,
        going: impl Going,
    ) -> Result<(), Failed> {
        let Some(beside) = self.begin(id).await? else { return Ok(()) };
        let (from, to) = (self.path(from).display().to_string(), beside.display().to_string());
        // It may be below what a machine writes to.
        let args = ["convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2", &from, &to];
        let goes_on = || {
            let so_far = fs::metadata(&beside).map_or(0, |about| about.blocks().saturating_mul(512));
            if going(so_far, None) { Ok(()) } else { Err(stopped()) }
        };
        let made = qemu_img_at_length(&args, goes_on).await;
        let made = match made {
            Ok(()) => qemu_img(&["resize", "-q", "-f", "qcow2", &to, &bytes.to_string()]).await,
            failed => failed,
        };
        self.finish(id, beside, made).await
    }

    fn memories_dir(&self) -> PathBuf {
        self.root().join("memory")
    }

    /// Where the memory of a machine is kept that was held at a moment.
    pub fn memory(&self, id: VolumeId) -> PathBuf {
        self.memories_dir().join(format!("{id}.memory"))
    }

    /// Where it is written.
    pub async fn memory_arriving(&self, id: VolumeId) -> Result<PathBuf, Failed> {
        self.room().await?;
        let (dir, part) = (self.memories_dir(), self.memory(id).with_extension("part"));
        in_files("There is no place for the memory", move || {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
            remove(&part)?;
            Ok(part)
        })
        .await
    }

    /// Keeps memory that was written whole: how much it takes.
    pub async fn keep_memory(&self, id: VolumeId) -> Result<u64, Failed> {
        let (dir, kept) = (self.memories_dir(), self.memory(id));
        in_files("The memory cannot be kept", move || {
            let part = kept.with_extension("part");
            if part.try_exists()? {
                fs::set_permissions(&part, Permissions::from_mode(0o600))?;
                File::open(&part)?.sync_all()?;
                fs::rename(&part, &kept)?;
                File::open(dir)?.sync_all()?;
            }
            Ok(fs::metadata(&kept)?.blocks().saturating_mul(512))
        })
        .await
    }

    /// Removes memory that was kept, or came in part. What is not there is removed.
    pub async fn remove_memory(&self, id: VolumeId) -> Result<(), Failed> {
        self.room().await?;
        let kept = self.memory(id);
        in_files("The memory cannot be removed", move || {
            remove(&kept.with_extension("part"))?;
            remove(&kept)
        })
        .await
    }
}

/// Whether two files, or two devices, are one.
pub async fn is_same(one: PathBuf, other: PathBuf) -> bool {
    let same = in_files("", move || {
        let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
        if one.file_type().is_block_device() && other.file_type().is_block_device() {
            return Ok(one.rdev() == other.rdev());
        }
        Ok(one.dev() == other.dev() && one.ino() == other.ino())
    });
    same.await.unwrap_or(false)
}

/// What the header of a qcow2 names as what it lies on.
pub(super) fn named_below(path: &Path) -> io::Result<Option<String>> {
    let file = File::open(path)?;
    let mut head = [0; 20];
    file.read_exact_at(&mut head, 0)?;
    let place = head[8..16].try_into().map_or(0, u64::from_be_bytes);
    let length = head[16..].try_into().map_or(0, u32::from_be_bytes);
    if place == 0 || length == 0 {
        return Ok(None);
    }
    if length > LONGEST_NAME {
        return Err(io::Error::new(ErrorKind::InvalidData, "its header is spoilt"));
    }
    let mut name = vec![0; length as usize];
    file.read_exact_at(&mut name, place)?;
    String::from_utf8(name)
        .map(Some)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "its header is spoilt"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quantix_host::run;

    use super::*;

    const SIZE: u64 = 8 << 20;

    async fn pool() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("local"));
        pool.prepare().await.unwrap();
        (dir, pool)
    }

    async fn io(pool: &Directory, id: VolumeId, command: &str) -> String {
        let path = pool.path(id).display().to_string();
        let done =
            run("qemu-io", &["-f", "qcow2", "-c", command, &path], Duration::from_secs(20)).await.unwrap();
        assert!(!done.stdout.contains("failed"), "{command}: {}", done.stdout);
        assert_eq!(done.code, Some(0), "{command}: {} {}", done.stdout, done.stderr);
        done.stdout
    }

    /// Writes a letter over a part of a layer.
    async fn write(pool: &Directory, id: VolumeId, mib: u64, letter: u8) {
        io(pool, id, &format!("write -P {letter} {mib}M 1M")).await;
    }

    async fn holds(pool: &Directory, id: VolumeId, letters: &[u8]) {
        for (mib, letter) in letters.iter().enumerate() {
            io(pool, id, &format!("read -P {letter} {mib}M 1M")).await;
        }
        let path = pool.path(id).display().to_string();
        qemu_img(&["check", "-q", &path]).await.unwrap();
    }

    #[tokio::test]
    async fn a_layer_that_nobody_needs_is_taken_out_and_everything_above_reads_as_before() {
        let (_dir, pool) = pool().await;
        let [root, middle, side, head] = [(); 4].map(|()| VolumeId::new());
        pool.make(root, SIZE).await.unwrap();
        write(&pool, root, 0, 1).await;
        write(&pool, root, 1, 1).await;
        for _ in 0..2 {
            pool.lay(middle, Below::Layer(root), None).await.unwrap();
        }
        write(&pool, middle, 1, 2).await;
        pool.lay(side, Below::Layer(middle), None).await.unwrap();
        pool.lay(head, Below::Layer(middle), Some(2 * SIZE)).await.unwrap();
        write(&pool, side, 2, 4).await;
        write(&pool, head, 2, 3).await;
        assert_eq!(pool.below(head).await.unwrap(), Some(Below::Layer(middle)));
        assert_eq!(pool.below(root).await.unwrap(), None);
        // The root goes: what is in the middle is written into it.
        for _ in 0..2 {
            pool.merge(middle, |_, _| true).await.unwrap();
        }
        holds(&pool, head, &[1, 2, 3]).await;
        for _ in 0..2 {
            pool.take_name(root, middle, false).await.unwrap();
            assert!(!pool.path(root).exists());
        }
        assert_eq!(pool.below(middle).await.unwrap(), None);
        holds(&pool, head, &[1, 2, 3]).await;
        holds(&pool, side, &[1, 2, 4]).await;
        assert_eq!(pool.volumes().await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_layer_can_have_two_names_for_a_while() {
        let (_dir, pool) = pool().await;
        let [root, head] = [(); 2].map(|()| VolumeId::new());
        pool.make(root, SIZE).await.unwrap();
        pool.lay(head, Below::Layer(root), None).await.unwrap();
        write(&pool, head, 0, 1).await;
        assert!(!pool.is_file_of(head, pool.path(root)).await);
        pool.merge(head, |_, _| true).await.unwrap();
        for _ in 0..2 {
            pool.take_name(root, head, true).await.unwrap();
            assert!(pool.is_file_of(head, pool.path(root)).await);
        }
        pool.remove(root).await.unwrap();
        holds(&pool, head, &[1]).await;
        // What lies on it may have known it by the other name.
        let above = VolumeId::new();
        pool.lay(above, Below::Layer(head), None).await.unwrap();
        fs::copy(pool.path(head), pool.path(root)).unwrap();
        pool.say_below(above, Below::Layer(root)).await.unwrap();
        assert_eq!(pool.below(above).await.unwrap(), Some(Below::Layer(root)));
        holds(&pool, above, &[1]).await;
    }

    #[tokio::test]
    async fn a_whole_copy_lies_on_nothing_and_one_that_is_stopped_is_not_there() {
        let (_dir, pool) = pool().await;
        let [root, head, copy] = [(); 3].map(|()| VolumeId::new());
        pool.make(root, SIZE).await.unwrap();
        write(&pool, root, 0, 1).await;
        pool.lay(head, Below::Layer(root), None).await.unwrap();
        write(&pool, head, 1, 2).await;
        pool.write_out(copy, head, 2 * SIZE, |_, _| true).await.unwrap();
        assert_eq!(pool.below(copy).await.unwrap(), None);
        for id in [head, root] {
            pool.remove(id).await.unwrap();
        }
        holds(&pool, copy, &[1, 2]).await;
        // What lies on something that is no layer was not made here.
        fs::copy(pool.path(copy), pool.path(root)).unwrap();
        let (above, path) = (pool.path(head).display().to_string(), pool.path(root).display().to_string());
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &path, &above]).await.unwrap();
        assert!(pool.below(head).await.is_err());
    }

    #[tokio::test]
    async fn memory_is_there_when_it_is_whole() {
        let (_dir, pool) = pool().await;
        let id = VolumeId::new();
        let part = pool.memory_arriving(id).await.unwrap();
        fs::write(&part, vec![1; 8192]).unwrap();
        assert!(!pool.memory(id).exists());
        for _ in 0..2 {
            assert!(pool.keep_memory(id).await.unwrap() >= 8192);
            assert!(pool.memory(id).exists() && !part.exists());
        }
        for _ in 0..2 {
            pool.remove_memory(id).await.unwrap();
            assert!(!pool.memory(id).exists());
        }
    }
}
