//! Disks that somebody else put on the host, and that become volumes of a pool that is a directory: copies of them, or, if
//! they lie in the pool as volumes do, they themselves.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, in_files, qemu_img_at_length},
    image::{Going, size, stopped},
    layers::{Below, named_below},
};
use crate::model::{
    content::{DiskFormat, HEAD},
    id::VolumeId,
    pool::Failed,
    qcow2,
};

/// More layers than any disk has.
const MOST_LAYERS: usize = 256;

/// A file that is a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// How big it is for whoever uses it, in bytes.
    pub bytes: u64,
    /// What it takes, with all that it lies on.
    pub used: u64,
    /// The volume that it is, if it lies in the pool as one and stands by itself.
    pub volume: Option<VolumeId>,
    /// Volumes that it lies on, itself among them.
    pub layers: Vec<VolumeId>,
}

/// By this a file is known again that nobody wrote to.
#[derive(PartialEq, Eq)]
struct Face(u64, u64, u64, i64, i64);

impl Face {
    fn of(about: &Metadata) -> Self {
        Self(about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec())
    }
}

impl Directory {
    /// Looks at a file that somebody says is a disk: what it is is not guessed, for a guest can write to its disk whatever
    /// it likes.
    pub async fn look_at_foreign(&self, path: &Path, format: DiskFormat) -> Result<Foreign, Failed> {
        let (pool, path) = (self.clone(), path.to_owned());
        let looked = in_files("It cannot be read", move || look(&pool, &path, format)).await?;
        looked.map_err(Failed::Other)
    }

    /// Makes a volume that is what is in a file. One that is there stays as it is. If it is the volume already, there is
    /// nothing to be made.
    pub async fn make_from_foreign(
        &self,
        id: VolumeId,
        path: &Path,
        format: DiskFormat,
        going: impl Going,
    ) -> Result<(), Failed> {
        let about = self.look_at_foreign(path, format).await?;
        if about.volume == Some(id) {
            return Ok(());
        }
        let Some(beside) = self.begin(id).await? else { return Ok(()) };
        let face = face(path).await?;
        let real = real(path).await?.display().to_string();
        let to = beside.display().to_string();
        let args = ["convert", "-q", "-f", format.driver(), "-O", "qcow2", &real, &to];
        let goes_on = || {
            let so_far = fs::metadata(&beside).map_or(0, |about| about.blocks().saturating_mul(512));
            if going(so_far, Some(about.used)) { Ok(()) } else { Err(stopped()) }
        };
        let mut made = qemu_img_at_length(&args, goes_on).await;
        if made.is_ok() && self::face(path).await? != face {
            made = Err(Failed::Other(format!("Somebody wrote to {} meanwhile", path.display())));
        }
        self.finish(id, beside, made).await
    }
}

async fn real(path: &Path) -> Result<PathBuf, Failed> {
    let path = path.to_owned();
    in_files("It cannot be read", move || fs::canonicalize(path)).await
}

async fn face(path: &Path) -> Result<Face, Failed> {
    let path = path.to_owned();
    in_files("It cannot be read", move || Ok(Face::of(&fs::metadata(path)?))).await
}

fn look(pool: &Directory, path: &Path, format: DiskFormat) -> io::Result<Result<Foreign, String>> {
    let real = fs::canonicalize(path)?;
    let about = fs::metadata(&real)?;
    // A pipe would keep whoever opens it waiting.
    if !about.is_file() {
        return Ok(Err(format!("{} is no file", path.display())));
    }
    let used = about.blocks().saturating_mul(512);
    match format {
        DiskFormat::Raw => {
            // What is left of the last sector is filled up.
            let bytes = about.len().next_multiple_of(512);
            Ok(Ok(Foreign { bytes, used, volume: None, layers: Vec::new() }))
        }
        DiskFormat::Qcow2 => {
            let own = volume_at(pool, &real);
            let mut foreign = Foreign { bytes: 0, used: 0, volume: None, layers: Vec::new() };
            let mut next = real;
            for _ in 0..MOST_LAYERS {
                let head = head(&next)?;
                // Only what lies in the pool was written there by nobody but us.
                let checked = if own.is_some() { qcow2::check_layer(&head) } else { qcow2::check(&head) };
                if let Err(unfit) = checked {
                    return Ok(Err(unfit.to_string().trim_end_matches('.').to_owned()));
                }
                if foreign.bytes == 0 {
                    foreign.bytes = size(&next)?;
                }
                foreign.used += fs::metadata(&next)?.blocks().saturating_mul(512);
                foreign.layers.extend(volume_at(pool, &next));
                let Some(below) = named_below(&next)? else {
                    foreign.volume = own.filter(|_| foreign.layers.len() == 1);
                    return Ok(Ok(foreign));
                };
                let Some(below) = Below::of(&below) else {
                    return Ok(Err(format!("It lies on {below}, which is no volume of the pool")));
                };
                next = fs::canonicalize(pool.place(below))?;
            }
            Ok(Err("It lies on more layers than can be".to_owned()))
        }
        other => Ok(Err(format!("It is a {}: only raw and qcow2 are taken over", other.name()))),
    }
}

/// The volume whose file it is.
fn volume_at(pool: &Directory, real: &Path) -> Option<VolumeId> {
    let id = real.file_name()?.to_str()?.strip_suffix(".qcow2")?.parse().ok()?;
    (fs::canonicalize(pool.path(id)).ok()? == real).then_some(id)
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quantix_host::run;

    use super::*;

    const SIZE: u64 = 8 << 20;

    async fn pool() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("lo,cal"));
        pool.prepare().await.unwrap();
        (dir, pool)
    }

    async fn does(args: &[&str]) {
        let finished = run("qemu-img", args, Duration::from_secs(60)).await.unwrap();
        assert_eq!(finished.code, Some(0), "{args:?}: {}", finished.stderr);
    }

    /// A raw disk with a word in its middle, and the same as qcow2.
    async fn disks(dir: &Path) -> (PathBuf, PathBuf) {
        let (raw, qcow2) = (dir.join("a, b.raw"), dir.join("disk.qcow2"));
        let mut bytes = vec![0; SIZE as usize];
        bytes[4 << 20..(4 << 20) + 5].copy_from_slice(b"hello");
        fs::write(&raw, bytes).unwrap();
        let (from, to) = (raw.display().to_string(), qcow2.display().to_string());
        does(&["convert", "-f", "raw", "-O", "qcow2", &from, &to]).await;
        (raw, qcow2)
    }

    async fn holds_hello(pool: &Directory, id: VolumeId) {
        let (volume, raw) = (pool.path(id).display().to_string(), pool.path(id).with_extension("raw"));
        does(&["check", "-q", &volume]).await;
        does(&["convert", "-f", "qcow2", "-O", "raw", &volume, &raw.display().to_string()]).await;
        assert_eq!(&fs::read(&raw).unwrap()[4 << 20..][..5], b"hello");
        fs::remove_file(raw).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_of_others_is_copied_and_stays_as_it_was() {
        let (dir, pool) = pool().await;
        let (raw, qcow2) = disks(dir.path()).await;
        for (path, format) in [(&raw, DiskFormat::Raw), (&qcow2, DiskFormat::Qcow2)] {
            let before = fs::read(path).unwrap();
            let about = pool.look_at_foreign(path, format).await.unwrap();
            assert_eq!((about.bytes, about.volume, about.layers.len()), (SIZE, None, 0));
            let id = VolumeId::new();
            for _ in 0..2 {
                pool.make_from_foreign(id, path, format, |_, _| true).await.unwrap();
            }
            holds_hello(&pool, id).await;
            assert!(fs::read(path).unwrap() == before);
            // Stopped in the middle, it is not there.
            let id = VolumeId::new();
            let stopped = pool.make_from_foreign(id, path, format, |_, _| false).await;
            assert_eq!(stopped.is_err(), !pool.path(id).exists());
        }
        // A few bytes more than whole sectors.
        fs::write(&raw, vec![7; 1_000_001]).unwrap();
        let id = VolumeId::new();
        let about = pool.look_at_foreign(&raw, DiskFormat::Raw).await.unwrap();
        pool.make_from_foreign(id, &raw, DiskFormat::Raw, |_, _| true).await.unwrap();
        assert_eq!(about.bytes, size(&pool.path(id)).unwrap());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_that_writes_a_header_on_its_disk_reads_no_file_of_the_host() {
        let (dir, pool) = pool().await;
        let (raw, _) = disks(dir.path()).await;
        let evil = dir.path().join("evil.qcow2").display().to_string();
        does(&["create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", &evil, "8M"]).await;
        let mut bytes = fs::read(&raw).unwrap();
        let header = fs::read(&evil).unwrap();
        bytes[..header.len().min(65536)].copy_from_slice(&header[..header.len().min(65536)]);
        fs::write(&raw, &bytes).unwrap();
        let id = VolumeId::new();
        pool.make_from_foreign(id, &raw, DiskFormat::Raw, |_, _| true).await.unwrap();
        let out = dir.path().join("out.raw");
        let volume = pool.path(id).display().to_string();
        does(&["convert", "-f", "qcow2", "-O", "raw", &volume, &out.display().to_string()]).await;
        assert!(fs::read(out).unwrap() == bytes, "it is copied as it is");
        // The same as what it says it is.
        let said = pool.look_at_foreign(Path::new(&evil), DiskFormat::Qcow2).await.unwrap_err();
        assert!(said.to_string().contains("differs from another file"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lies_in_the_pool_is_a_volume_already_and_layers_are_written_out() {
        let (dir, pool) = pool().await;
        let (_, qcow2) = disks(dir.path()).await;
        let (below, above) = (VolumeId::new(), VolumeId::new());
        fs::copy(&qcow2, pool.path(below)).unwrap();
        let path = pool.path(below);
        let about = pool.look_at_foreign(&path, DiskFormat::Qcow2).await.unwrap();
        assert_eq!((about.volume, about.layers), (Some(below), vec![below]));
        pool.make_from_foreign(below, &path, DiskFormat::Qcow2, |_, _| true).await.unwrap();
        pool.lay(above, Below::Layer(below), None).await.unwrap();
        let about = pool.look_at_foreign(&pool.path(above), DiskFormat::Qcow2).await.unwrap();
        assert_eq!((about.bytes, about.volume, about.layers), (SIZE, None, vec![above, below]));
        let whole = VolumeId::new();
        pool.make_from_foreign(whole, &pool.path(above), DiskFormat::Qcow2, |_, _| true).await.unwrap();
        assert_eq!(pool.below(whole).await.unwrap(), None);
        holds_hello(&pool, whole).await;
        // What lies in the pool and names something else.
        let evil = pool.path(VolumeId::new());
        let text = evil.display().to_string();
        for named in ["/etc/shadow", "../../../../etc/shadow", "json:{\"driver\":\"null-co\"}"] {
            does(&["create", "-q", "-u", "-f", "qcow2", "-b", named, "-F", "raw", &text, "8M"]).await;
            let said = pool.look_at_foreign(&evil, DiskFormat::Qcow2).await.unwrap_err().to_string();
            assert!(said.contains("which is no volume of the pool"), "{said}");
        }
        // On itself.
        let own = evil.file_name().unwrap().to_str().unwrap();
        does(&["create", "-q", "-u", "-f", "qcow2", "-b", own, "-F", "qcow2", &text, "8M"]).await;
        let said = pool.look_at_foreign(&evil, DiskFormat::Qcow2).await.unwrap_err().to_string();
        assert!(said.contains("more layers"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_file_or_is_written_to_meanwhile_is_refused() {
        let (dir, pool) = pool().await;
        let (raw, _) = disks(dir.path()).await;
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for wrong in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
            let said = pool.look_at_foreign(wrong, DiskFormat::Raw).await.unwrap_err().to_string();
            assert!(said.contains("is no file"), "{said}");
        }
        assert!(pool.look_at_foreign(&dir.path().join("none"), DiskFormat::Raw).await.is_err());
        let id = VolumeId::new();
        let written = raw.clone();
        let grows = move |_: u64, _: Option<u64>| {
            let file = fs::OpenOptions::new().append(true).open(&written);
            file.and_then(|mut file| io::Write::write_all(&mut file, b"more")).is_ok()
        };
        // Small disks are copied before anybody asks how far it is.
        File::options().write(true).open(&raw).unwrap().set_len(2 << 30).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&raw).unwrap();
        for _ in 0..600 {
            io::Write::write_all(&mut file, &vec![9; 1 << 20]).unwrap();
        }
        let said = pool.make_from_foreign(id, &raw, DiskFormat::Raw, grows).await.unwrap_err().to_string();
        assert!(said.contains("Somebody wrote"), "{said}");
        assert!(!pool.path(id).exists());
    }
}
