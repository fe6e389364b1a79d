//! Images in a pool that is a directory: a file comes in pieces or from elsewhere, is looked at, unpacked, and kept as a disk
//! that QEMU's own tools wrote here, or as a CD.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use quantix_host::filter;

use super::directory::{Directory, in_files, qemu_img, qemu_img_at_length, remove};
use crate::model::{
    content::{Content, DiskFormat, HEAD, LARGEST, Packing, recognise},
    id::VolumeId,
    pool::Failed,
};

const PIECE: usize = 1 << 20;

/// Told how many bytes of how many are done, and says whether to go on.
pub trait Going: Fn(u64, Option<u64>) -> bool + Send + Sync {}
impl<T: Fn(u64, Option<u64>) -> bool + Send + Sync> Going for T {}

/// What an image is, once it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether it is a CD, and not a disk.
    pub is_iso: bool,
    /// How it came.
    pub format: &'static str,
    /// How big it is for whoever uses it, in bytes.
    pub bytes: u64,
    /// What it takes, in bytes.
    pub used: u64,
}

/// What has come, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// A disk.
    Disk(PathBuf, DiskFormat),
    /// A CD.
    Cd(PathBuf),
    /// An archive, as machines come in.
    Archive(PathBuf),
}

pub(super) fn stopped() -> Failed {
    Failed::Other("It was stopped".to_owned())
}

impl Directory {
    pub(super) fn images_dir(&self) -> PathBuf {
        self.root().join("images")
    }

    /// An image that is a disk.
    pub fn disk_image(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.qcow2"))
    }

    /// An image that is a CD.
    pub fn iso_image(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.iso"))
    }

    /// Whether it is kept already, as a disk or as a CD.
    pub async fn has_image(&self, id: VolumeId) -> Result<bool, Failed> {
        Ok(self.kept_image(id, "kept").await?.is_some())
    }

    /// Where what has come is unpacked.
    pub(super) fn unpacked(&self, id: VolumeId) -> PathBuf {
        self.images_dir().join(format!("{id}.unpacked"))
    }

    /// Looks at what has come, and unpacks it; nothing, if all was made of it before. `most` is how much room there may be
    /// taken.
    pub async fn came(&self, id: VolumeId, most: u64, going: impl Going) -> Result<Option<Came>, Failed> {
        self.room().await?;
        let (part, unpacked) = (self.arriving(id), self.unpacked(id));
        if !tokio::fs::try_exists(&part).await.unwrap_or(false) {
            return Ok(None);
        }
        let (path, content) = match look(part.clone()).await? {
            Content::Packed(packing) => {
                unpack(&part, packing, &unpacked, most, &going).await?;
                (unpacked.clone(), look(unpacked).await?)
            }
            content => (part, content),
        };
        Ok(Some(match content {
            Content::Disk(format) => Came::Disk(path, format),
            Content::Iso => Came::Cd(path),
            Content::Archive => Came::Archive(path),
            Content::Packed(_) => {
                let sentence = "What is packed in this file is packed once more. Unpack it first";
                return Err(Failed::Other(sentence.to_owned()));
            }
        }))
    }

    /// Makes an image of a disk that has come: writes it as it is kept.
    pub async fn keep_disk(
        &self,
        id: VolumeId,
        from: &Path,
        format: DiskFormat,
        most: u64,
        going: impl Going,
    ) -> Result<Kept, Failed> {
        let beside = self.images_dir().join(format!("{id}.new"));
        let source = ["-f".to_owned(), format.driver().to_owned(), from.display().to_string()];
        convert(&source, &beside, most, &going).await?;
        self.named(beside, self.disk_image(id)).await?;
        self.forget_arrived(id).await?;
        self.kept(id, format.name()).await
    }

    /// Makes an image of a CD that has come.
    pub async fn keep_cd(&self, id: VolumeId, from: PathBuf) -> Result<Kept, Failed> {
        self.named(from, self.iso_image(id)).await?;
        self.forget_arrived(id).await?;
        self.kept(id, "iso").await
    }

    /// An image that was made before whoever made it could tell.
    pub async fn kept_before(&self, id: VolumeId) -> Result<Kept, Failed> {
        self.kept(id, "kept").await
    }

    pub(super) async fn kept(&self, id: VolumeId, format: &'static str) -> Result<Kept, Failed> {
        let kept = self.kept_image(id, format).await?;
        kept.ok_or_else(|| Failed::Other("The image is not there".to_owned()))
    }

    /// Makes an image of what has come whole from another host, which wrote it as it is kept.
    pub async fn keep_copy(&self, id: VolumeId, is_iso: bool) -> Result<(), Failed> {
        self.room().await?;
        let to = if is_iso { self.iso_image(id) } else { self.disk_image(id) };
        self.named(self.arriving(id), to).await?;
        self.forget_arrived(id).await
    }

    /// A piece of the file of an image, and how long that is; nothing if it is not there.
    pub async fn piece_of_image(
        &self,
        id: VolumeId,
        at: u64,
        most: u64,
    ) -> Result<Option<(Vec<u8>, u64)>, Failed> {
        self.room().await?;
        let files = [self.disk_image(id), self.iso_image(id)];
        in_files("The image cannot be read", move || {
            for path in files {
                let file = match File::open(path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let length = file.metadata()?.len();
                let count = usize::try_from(length.saturating_sub(at).min(most)).unwrap_or_default();
                let mut bytes = vec![0; count];
                file.read_exact_at(&mut bytes, at)?;
                return Ok(Some((bytes, length)));
            }
            Ok(None)
        })
        .await
    }

    /// Gives a file that is whole its name.
    pub(super) async fn named(&self, from: PathBuf, to: PathBuf) -> Result<(), Failed> {
        let dir = self.images_dir();
        in_files("The image could not be finished", move || {
            fs::set_permissions(&from, Permissions::from_mode(0o600))?;
            File::open(&from)?.sync_all()?;
            fs::rename(&from, &to)?;
            File::open(&dir)?.sync_all()
        })
        .await
    }

    /// The image as it is kept, if it is.
    pub(super) async fn kept_image(
        &self,
        id: VolumeId,
        format: &'static str,
    ) -> Result<Option<Kept>, Failed> {
        let (disk, iso) = (self.disk_image(id), self.iso_image(id));
        let about = |path: PathBuf| {
            in_files("The image cannot be looked at", move || match fs::metadata(path) {
                Ok(about) => Ok(Some(about)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            })
        };
        if let Some(about) = about(iso).await? {
            let used = about.blocks().saturating_mul(512);
            return Ok(Some(Kept { is_iso: true, format: "iso", bytes: about.len(), used }));
        }
        let Some(about) = about(disk.clone()).await? else { return Ok(None) };
        let bytes = in_files("The image cannot be looked at", move || size(&disk)).await?;
        Ok(Some(Kept { is_iso: false, format, bytes, used: about.blocks().saturating_mul(512) }))
    }

    /// Removes an image, and whatever has come of one.
    pub async fn remove_image(&self, id: VolumeId) -> Result<(), Failed> {
        self.room().await?;
        let dir = self.images_dir();
        in_files("The image could not be removed", move || {
            for kind in ["part", "from", "safe", "unpacked", "new", "qcow2", "iso"] {
                remove(&dir.join(format!("{id}.{kind}")))?;
            }
            match File::open(&dir) {
                Ok(dir) => dir.sync_all(),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Makes a volume that begins as a copy of an image. One that is there stays as it is.
    pub async fn make_from(
        &self,
        id: VolumeId,
        image: VolumeId,
        bytes: u64,
        going: impl Going + 'static,
    ) -> Result<(), Failed> {
        let Some(beside) = self.begin(id).await? else { return Ok(()) };
        let (from, to) = (self.disk_image(image), beside.clone());
        let copied = in_files("The image could not be copied", move || copy(&from, &to, &going)).await;
        let made = match copied {
            Ok(true) => {
                let path = beside.display().to_string();
                qemu_img(&["resize", "-q", "-f", "qcow2", &path, &bytes.to_string()]).await
            }
            Ok(false) => Err(stopped()),
            Err(failed) => Err(failed),
        };
        self.finish(id, beside, made).await
    }
}

/// How big the disk is that a file holds which was written here.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open(path)?.read_exact_at(&mut bytes, 24)?;
    Ok(u64::from_be_bytes(bytes))
}

/// What a file is.
pub(super) async fn look(path: PathBuf) -> Result<Content, Failed> {
    look_at(path, 0, u64::MAX).await
}

/// What a part of a file is.
pub(super) async fn look_at(path: PathBuf, begin: u64, length: u64) -> Result<Content, Failed> {
    let found = in_files("The image cannot be read", move || {
        let mut file = File::open(path)?;
        let length = length.min(file.metadata()?.len().saturating_sub(begin));
        let mut part = |from: u64, length: u64| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(begin + from))?;
            (&file).take(length).read_to_end(&mut bytes)?;
            io::Result::Ok(bytes)
        };
        let head = part(0, length.min(HEAD as u64))?;
        let tail = part(length.saturating_sub(512), length.min(512))?;
        Ok(recognise(&head, &tail, length))
    });
    found.await?.map_err(|unfit| Failed::Other(unfit.to_string().trim_end_matches('.').to_owned()))
}

/// Copies a file; where the file system can, both share what they have in common. Whether it was not stopped.
fn copy(from: &Path, to: &Path, going: &impl Going) -> io::Result<bool> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    let (whole, mut done) = (from.metadata()?.len(), 0);
    while done < whole {
        let count = io::copy(&mut (&from).take(64 << 20), &mut &to)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it is shorter than it was"));
        }
        done += count;
        if !going(done, Some(whole)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether nothing but zeros is in it.
fn is_empty(piece: &[u8]) -> bool {
    piece.iter().all(|byte| *byte == 0)
}

/// Unpacks a file with a program of its own, which sees nothing but that file. What is empty takes no room.
async fn unpack(
    part: &Path,
    packing: Packing,
    to: &Path,
    most: u64,
    going: &impl Going,
) -> Result<(), Failed> {
    use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
    let program: &[&str] = match packing {
        Packing::Gzip => &["gzip", "-dc"],
        Packing::Xz => &["xz", "-dc", "--memlimit-decompress=256MiB"],
        Packing::Zstd => &["zstd", "-dcq", "--memory=256MiB"],
        Packing::Bzip2 => &["bzip2", "-dc"],
    };
    let failed = |error: &io::Error| Failed::of("The image could not be unpacked", error);
    let from = File::open(part).map_err(|error| failed(&error))?;
    let packed = from.try_clone().map_err(|error| failed(&error))?;
    let whole = from.metadata().map(|about| about.len()).ok();
    let mut child = filter(program[0], &program[1..], from).map_err(|error| failed(&error))?;
    let Some(mut out) = child.stdout.take() else {
        return Err(Failed::Other("The image could not be unpacked".to_owned()));
    };
    let mut file = tokio::fs::File::create(to).await.map_err(|error| failed(&error))?;
    let (mut length, mut written) = (0_u64, 0_u64);
    let mut piece = vec![0; PIECE];
    loop {
        let mut count = 0;
        while count < piece.len() {
            match out.read(&mut piece[count..]).await.map_err(|error| failed(&error))? {
                0 => break,
                more => count += more,
            }
        }
        if count == 0 {
            break;
        }
        let bytes = &piece[..count];
        length += count as u64;
        if is_empty(bytes) {
            file.seek(SeekFrom::Start(length)).await.map_err(|error| failed(&error))?;
        } else {
            written += count as u64;
            file.write_all(bytes).await.map_err(|error| failed(&error))?;
        }
        if written > most || length > LARGEST {
            return Err(Failed::Other(
                "Unpacked it needs more room than the pool may give. Remove something, or choose another pool"
                    .to_owned(),
            ));
        }
        // How far the program has read is where its file stands.
        let done = nix::unistd::lseek(&packed, 0, nix::unistd::Whence::SeekCur).unwrap_or_default();
        if !going(u64::try_from(done).unwrap_or_default(), whole) {
            return Err(stopped());
        }
    }
    let status = child.wait().await.map_err(|error| failed(&error))?;
    if !status.success() {
        let sentence =
            "It cannot be unpacked: it is spoilt, was cut off, or would take more than 256 MiB of memory";
        return Err(Failed::Other(sentence.to_owned()));
    }
    file.flush().await.map_err(|error| failed(&error))?;
    file.set_len(length).await.map_err(|error| failed(&error))
}

/// Writes a disk as it is kept.
pub(super) async fn convert(from: &[String], to: &Path, most: u64, going: &impl Going) -> Result<(), Failed> {
    let path = to.display().to_string();
    let mut args = vec!["convert", "-q", "-O", "qcow2"];
    args.extend(from.iter().map(String::as_str));
    args.push(&path);
    let goes_on = || {
        let written = fs::metadata(to).map_or(0, |about| about.blocks().saturating_mul(512));
        if written > most {
            return Err(Failed::Full);
        }
        if going(written, None) { Ok(()) } else { Err(stopped()) }
    };
    qemu_img_at_length(&args, goes_on).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::arriving::Further;

    const MOST: u64 = 1 << 30;

    async fn pool() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let pool = Directory::at(dir.path().join("local"));
        pool.prepare().await.unwrap();
        (dir, pool)
    }

    async fn does(program: &str, args: &[&str]) {
        let finished = quantix_host::run(program, args, std::time::Duration::from_secs(60)).await.unwrap();
        assert_eq!(finished.code, Some(0), "{program} {args:?}: {}", finished.stderr);
    }

    /// A disk of 8 MiB with something on it, in a format.
    async fn disk(dir: &Path, format: &str, more: &[&str]) -> PathBuf {
        let (raw, path) = (dir.join("disk.raw"), dir.join(format!("disk.{format}")));
        let mut bytes = vec![0; 8 << 20];
        bytes[510..512].copy_from_slice(b"\x55\xaa");
        bytes[4 << 20..(4 << 20) + 5].copy_from_slice(b"hello");
        fs::write(&raw, bytes).unwrap();
        if format != "raw" {
            let (from, to) = (raw.display().to_string(), path.display().to_string());
            let args = [&["convert", "-f", "raw", "-O", format], more, &[&from, &to]].concat();
            does("qemu-img", &args).await;
        }
        path
    }

    async fn kept(pool: &Directory, file: &Path, most: u64) -> (VolumeId, Result<Kept, Failed>) {
        let id = VolumeId::new();
        let bytes = fs::read(file).unwrap();
        let half = bytes.len() / 2;
        pool.take_piece(id, half as u64, vec![bytes[half..].to_vec()]).await.unwrap();
        pool.take_piece(id, 0, vec![bytes[..half].to_vec()]).await.unwrap();
        assert_eq!(pool.arrived(id).await.unwrap(), bytes.len() as u64);
        (id, keep(pool, id, most).await)
    }

    async fn keep(pool: &Directory, id: VolumeId, most: u64) -> Result<Kept, Failed> {
        match pool.came(id, most, |_, _| true).await? {
            Some(Came::Disk(path, format)) => pool.keep_disk(id, &path, format, most, |_, _| true).await,
            Some(Came::Cd(path)) => pool.keep_cd(id, path).await,
            Some(Came::Archive(path)) => panic!("{} is an archive", path.display()),
            None => pool.kept_before(id).await,
        }
    }

    async fn holds_hello(path: &Path) {
        let raw = path.with_extension("raw");
        let (from, to) = (path.display().to_string(), raw.display().to_string());
        does("qemu-img", &["check", "-q", &from]).await;
        does("qemu-img", &["convert", "-O", "raw", &from, &to]).await;
        assert_eq!(&fs::read(&raw).unwrap()[4 << 20..][..5], b"hello");
        fs::remove_file(raw).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_of_any_format_is_kept_and_volumes_begin_as_copies_of_it() {
        let (dir, pool) = pool().await;
        for (format, more) in [
            ("raw", &[][..]),
            ("qcow2", &["-c"]),
            ("vmdk", &["-o", "subformat=streamOptimized"]),
            ("vmdk", &[]),
            ("vhdx", &[]),
            ("vpc", &["-o", "subformat=dynamic,force_size=on"]),
            ("vpc", &["-o", "subformat=fixed,force_size=on"]),
        ] {
            let file = disk(dir.path(), format, more).await;
            let (id, kept) = kept(&pool, &file, MOST).await;
            let kept = kept.unwrap();
            assert_eq!((kept.is_iso, kept.bytes), (false, 8 << 20), "{format}");
            holds_hello(&pool.disk_image(id)).await;
            // Done once more after a crash, it is the same.
            assert_eq!(keep(&pool, id, MOST).await.unwrap().bytes, 8 << 20);
            let volume = VolumeId::new();
            for _ in 0..2 {
                pool.make_from(volume, id, 64 << 20, |_, _| true).await.unwrap();
                assert_eq!(size(&pool.path(volume)).unwrap(), 64 << 20);
            }
            holds_hello(&pool.path(volume)).await;
            pool.remove_image(id).await.unwrap();
            pool.remove_image(id).await.unwrap();
            holds_hello(&pool.path(volume)).await;
        }
        assert_eq!(fs::read_dir(pool.images_dir()).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_packed_is_unpacked_and_a_bomb_does_not_go_off() {
        let (dir, pool) = pool().await;
        let file = disk(dir.path(), "raw", &[]).await;
        for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")] {
            let packed = file.with_extension(format!("raw.{suffix}"));
            does(program, &["-k", "-f", &file.display().to_string()]).await;
            let (id, kept) = kept(&pool, &packed, MOST).await;
            assert_eq!(kept.unwrap().bytes, 8 << 20, "{program}");
            holds_hello(&pool.disk_image(id)).await;
            assert!(!pool.images_dir().join(format!("{id}.unpacked")).exists());
            // Cut off, and stopped by somebody.
            let whole = fs::read(&packed).unwrap();
            fs::write(&packed, &whole[..whole.len() - 8]).unwrap();
            let (_, cut) = self::kept(&pool, &packed, MOST).await;
            assert!(cut.unwrap_err().to_string().contains("cut off"), "{program}");
        }
        // What is no zeros takes room: no more than may be taken.
        let bomb = dir.path().join("bomb");
        fs::write(&bomb, vec![7; 64 << 20]).unwrap();
        does("gzip", &[&bomb.display().to_string()]).await;
        let (id, exploded) = kept(&pool, &bomb.with_extension("gz"), 16 << 20).await;
        assert!(exploded.unwrap_err().to_string().contains("more room"));
        let left = pool.images_dir().join(format!("{id}.unpacked"));
        assert!(fs::metadata(&left).unwrap().len() <= 17 << 20);
        pool.remove_image(id).await.unwrap();
        assert!(!left.exists());
        let twice = dir.path().join("disk.raw.gz");
        let twice_packed = dir.path().join("twice.bz2");
        does("gzip", &["-f", &file.display().to_string()]).await;
        fs::rename(&twice, dir.path().join("twice")).unwrap();
        does("bzip2", &[&dir.path().join("twice").display().to_string()]).await;
        let (_, twice) = kept(&pool, &twice_packed, MOST).await;
        assert!(twice.unwrap_err().to_string().contains("once more"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_names_others_is_refused_before_anybody_opens_it() {
        let (dir, pool) = pool().await;
        let base = disk(dir.path(), "qcow2", &[]).await;
        let overlay = dir.path().join("overlay.qcow2").display().to_string();
        does(
            "qemu-img",
            &["create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", &overlay, "8M"],
        )
        .await;
        let outside = dir.path().join("outside.qcow2").display().to_string();
        let data = format!("data_file={}", dir.path().join("outside.data").display());
        does("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data, &outside, "8M"]).await;
        let snapshot = dir.path().join("snapshot.qcow2");
        fs::copy(&base, &snapshot).unwrap();
        does("qemu-img", &["snapshot", "-c", "one", &snapshot.display().to_string()]).await;
        let vmdk = dir.path().join("flat.vmdk").display().to_string();
        does("qemu-img", &["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", &vmdk, "8M"])
            .await;
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        for (file, why) in [
            (Path::new(&overlay), "differs from another file"),
            (Path::new(&outside), "its data"),
            (&snapshot, "snapshots"),
            (Path::new(&vmdk), "other files"),
            (&script, "neither"),
        ] {
            let (id, refused) = kept(&pool, file, MOST).await;
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
            assert!(!pool.disk_image(id).exists());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_stops_it_leaves_nothing_that_looks_whole() {
        let (dir, pool) = pool().await;
        let file = disk(dir.path(), "raw", &[]).await;
        does("gzip", &["-k", &file.display().to_string()]).await;
        let id = VolumeId::new();
        pool.take_piece(id, 0, vec![fs::read(dir.path().join("disk.raw.gz")).unwrap()]).await.unwrap();
        let stopped = pool.came(id, MOST, |_, _| false).await;
        assert_eq!(stopped.unwrap_err().to_string(), "It was stopped.");
        assert!(!pool.disk_image(id).exists());
        assert_eq!(keep(&pool, id, MOST).await.unwrap().bytes, 8 << 20);
        let volume = VolumeId::new();
        assert!(pool.make_from(volume, id, 8 << 20, |_, _| false).await.is_err());
        assert_eq!(pool.volumes().await.unwrap(), []);
        // The sum is that of what came.
        let id = VolumeId::new();
        pool.take_piece(id, 0, vec![b"abc"]).await.unwrap();
        let sums = pool.sum(id, None, |_, _| true).await.unwrap();
        assert_eq!(sums.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sums.further, None);
        let sha1 = pool.sum(id, Some(Further::Sha1), |_, _| true).await.unwrap().further.unwrap();
        assert_eq!(sha1, "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha512 = pool.sum(id, Some(Further::Sha512), |_, _| true).await.unwrap().further.unwrap();
        assert!(sha512.starts_with("ddaf35a193617abacc417349ae204131") && sha512.len() == 128);
        // What comes anew leaves nothing of what came before.
        pool.keep_origin(id, b"that one".to_vec()).await.unwrap();
        assert_eq!(pool.origin(id).await.unwrap().unwrap(), b"that one");
        pool.forget_arrived(id).await.unwrap();
        assert_eq!((pool.arrived(id).await.unwrap(), pool.origin(id).await.unwrap()), (0, None));
    }
}
