//! A machine that came as one file, an OVA: an archive with a description and the files of its disks. Nothing is taken out of
//! the archive: a disk is read where it lies in the archive, and what files are called in it is compared, and never a path.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    arriving::{Further, sums},
    directory::{Directory, in_files},
    image::{Going, Kept, convert, look_at, stopped},
};
use crate::model::{
    content::{Content, DiskFormat},
    id::VolumeId,
    pool::Failed,
};

const MOST_MEMBERS: usize = 100;
const LONGEST_TEXT: u64 = 1 << 20;
const NO_OVA: &str = "This is an archive, not a disk or a CD. Unpack it, and give what is in it";

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called there.
    pub name: String,
    begin: u64,
    length: u64,
    /// Its SHA-256 or SHA-512, if the archive says it.
    sum: Option<String>,
}

/// What an OVA consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appliance {
    /// The description of the machine.
    pub ovf: String,
    /// The files.
    pub members: Vec<Member>,
    /// The archive in which they lie.
    pub file: PathBuf,
}

impl Directory {
    /// Reads what a machine that came consists of.
    pub async fn appliance(&self, file: PathBuf) -> Result<Appliance, Failed> {
        let found = in_files("The archive cannot be read", move || open(file)).await?;
        found.map_err(|why| Failed::Other(why.to_owned()))
    }

    /// Makes an image of a disk that lies in an archive that came.
    pub async fn keep_member(
        &self,
        id: VolumeId,
        file: &Path,
        member: &Member,
        most: u64,
        going: impl Going + 'static,
    ) -> Result<Kept, Failed> {
        let (going, name) = (Arc::new(going), &member.name);
        let looked = look_at(file.to_owned(), member.begin, member.length).await?;
        let Content::Disk(format) = looked else {
            return Err(Failed::Other(format!("{name} is no disk that can be read")));
        };
        if let Some(kept) = self.kept_image(id, format.name()).await? {
            return Ok(kept);
        }
        if let Some(wanted) = &member.sum {
            let (path, member, further) = (file.to_owned(), member.clone(), Further::for_sum(wanted));
            let heard = Arc::clone(&going);
            let read = in_files("The archive cannot be read", move || {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(member.begin))?;
                sums(file.take(member.length), member.length, further, &*heard)
            });
            if !read.await?.ok_or_else(stopped)?.has(wanted) {
                return Err(Failed::Other(format!(
                    "{name} is not what the OVA says it is: it was spoilt on its way"
                )));
            }
        }
        let beside = self.images_dir().join(format!("{id}.new"));
        convert(&source(file, format, member), &beside, most, &*going).await?;
        self.named(beside, self.disk_image(id)).await?;
        self.kept(id, format.name()).await
    }
}

/// Reads what lies in an archive: the description, and where the other files are.
fn open(file: PathBuf) -> io::Result<Result<Appliance, &'static str>> {
    let mut archive = tar::Archive::new(File::open(&file)?);
    let (mut ovf, mut wanted, mut members) = (None, HashMap::new(), Vec::new());
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if members.len() == MOST_MEMBERS {
            return Ok(Err("There are more files in this OVA than anybody needs"));
        }
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
        if ending == "ovf" || ending == "mf" {
            let mut text = String::new();
            (&mut entry).take(LONGEST_TEXT + 1).read_to_string(&mut text)?;
            match ending.as_str() {
                "ovf" if ovf.is_none() => ovf = Some((name.clone(), text)),
                "mf" => wanted.extend(manifest(&text)),
                _ => {}
            }
        }
        let (begin, length) = (entry.raw_file_position(), entry.size());
        members.push(Member { name, begin, length, sum: None });
    }
    let Some((name, ovf)) = ovf else { return Ok(Err(NO_OVA)) };
    let sum_of_ovf = wanted.get(&name);
    let further = sum_of_ovf.and_then(|sum| Further::for_sum(sum));
    let is = sums(ovf.as_bytes(), ovf.len() as u64, further, &|_, _| true)?;
    if sum_of_ovf.is_some_and(|sum| is.is_none_or(|is| !is.has(sum))) {
        return Ok(Err(
            "The description in this OVA is not what the OVA says it is: it was changed, or spoilt",
        ));
    }
    for member in &mut members {
        member.sum = wanted.remove(&member.name);
    }
    Ok(Ok(Appliance { ovf, members, file }))
}

/// What a manifest says of files: `SHA256(disk.vmdk)= …`. Of several sums of one the longest counts.
fn manifest(text: &str) -> HashMap<String, String> {
    let line = |line: &str| {
        let (kind, rest) = line.split_once('(')?;
        let (name, sum) = rest.rsplit_once(')')?;
        let sum = sum.trim_start().strip_prefix('=')?.trim().to_ascii_lowercase();
        let digits = match kind.trim().to_ascii_uppercase().as_str() {
            "SHA1" => Further::Sha1.digits(),
            "SHA256" => 64,
            "SHA512" => Further::Sha512.digits(),
            _ => return None,
        };
        let is_sum = sum.len() == digits && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sum.then(|| (name.to_owned(), sum))
    };
    let mut sums: HashMap<String, String> = HashMap::new();
    for (name, sum) in text.lines().filter_map(line) {
        let known = sums.entry(name).or_default();
        if known.len() < sum.len() {
            *known = sum;
        }
    }
    sums
}

/// How `qemu-img` is told of a disk that lies in another file.
fn source(path: &Path, format: DiskFormat, member: &Member) -> [String; 2] {
    // In these options a comma stands for itself where there are two.
    let path = path.display().to_string().replace(',', ",,");
    let (driver, begin, length) = (format.driver(), member.begin, member.length);
    let options = match format {
        DiskFormat::Raw => {
            format!("driver=raw,offset={begin},size={length},file.driver=file,file.filename={path}")
        }
        _ => format!(
            "driver={driver},file.driver=raw,file.offset={begin},file.size={length},\
             file.file.driver=file,file.file.filename={path}"
        ),
    };
    ["--image-opts".to_owned(), options]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{arriving::Sums, image::Came};

    const MOST: u64 = 1 << 30;

    fn digest(bytes: &[u8], further: Option<Further>) -> Sums {
        sums(bytes, 0, further, &|_, _| true).unwrap().unwrap()
    }

    async fn does(program: &str, args: &[&str]) {
        let finished = quantix_host::run(program, args, std::time::Duration::from_secs(60)).await.unwrap();
        assert_eq!(finished.code, Some(0), "{program} {args:?}: {}", finished.stderr);
    }

    /// A disk of 4 MiB, as VMware gives disks away.
    async fn vmdk(dir: &Path, letter: u8) -> Vec<u8> {
        let (raw, path) = (dir.join("disk.raw"), dir.join("disk.vmdk"));
        std::fs::write(&raw, vec![letter; 4 << 20]).unwrap();
        let (raw, out) = (raw.display().to_string(), path.display().to_string());
        let options = ["-o", "subformat=streamOptimized"];
        does("qemu-img", &[&["convert", "-f", "raw", "-O", "vmdk"][..], &options, &[&raw, &out]].concat())
            .await;
        std::fs::read(path).unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            // As somebody writes it who means no good.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    async fn came(dir: &Path, content: &[u8]) -> (Directory, VolumeId) {
        let pool = Directory::at(dir.join("lo,cal"));
        pool.prepare().await.unwrap();
        let id = VolumeId::new();
        pool.take_piece(id, 0, vec![content.to_vec()]).await.unwrap();
        (pool, id)
    }

    async fn appliance(pool: &Directory, id: VolumeId) -> Result<Appliance, Failed> {
        match pool.came(id, MOST, |_, _| true).await? {
            Some(Came::Archive(file)) => pool.appliance(file).await,
            other => panic!("{other:?} is no archive"),
        }
    }

    async fn same(image: &Path, letter: u8, dir: &Path) {
        let raw: PathBuf = dir.join("again.raw");
        let (image, out) = (image.display().to_string(), raw.display().to_string());
        does("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &image, &out]).await;
        assert!(std::fs::read(&raw).unwrap() == vec![letter; 4 << 20]);
    }

    #[tokio::test]
    async fn each_disk_of_a_machine_that_came_is_an_image_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (vmdk(dir.path(), 1).await, vmdk(dir.path(), 2).await);
        let sums = format!(
            "SHA256(m.ovf)= {}\nSHA512(../two.vmdk) = {}\nSHA1(../two.vmdk)= {}\nSHA1(one.vmdk)= {}\n",
            digest(b"<ovf/>", None).sha256,
            digest(&two, Some(Further::Sha512)).further.unwrap(),
            "0".repeat(40),
            digest(&one, Some(Further::Sha1)).further.unwrap()
        );
        let files: [(&str, &[u8]); 4] =
            [("m.ovf", b"<ovf/>"), ("m.mf", sums.as_bytes()), ("one.vmdk", &one), ("../two.vmdk", &two)];
        let (pool, id) = came(dir.path(), &archive(&files)).await;
        let found = appliance(&pool, id).await.unwrap();
        assert_eq!(found.ovf, "<ovf/>");
        assert_eq!(found.members.len(), 4);
        let lengths = [2, 3].map(|at: usize| found.members[at].sum.as_ref().unwrap().len());
        assert_eq!(lengths, [40, 128]);
        for (number, letter) in [(2_u8, 1), (3, 2)] {
            let (to, member) = (id.beside(number), &found.members[usize::from(number)]);
            let kept = pool.keep_member(to, &found.file, member, MOST, |_, _| true).await.unwrap();
            assert_eq!((kept.format, kept.bytes), ("vmdk", 4 << 20));
            same(&pool.disk_image(to), letter, dir.path()).await;
            // Whoever goes on after a fault finds it.
            assert_eq!(pool.keep_member(to, &found.file, member, MOST, |_, _| true).await.unwrap(), kept);
        }
        pool.forget_arrived(id).await.unwrap();
        assert_eq!(pool.came(id, MOST, |_, _| true).await.unwrap(), None);
        assert!(!dir.path().join("two.vmdk").exists() && !dir.path().join("lo,cal/two.vmdk").exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_machine_may_come_packed() {
        let dir = tempfile::tempdir().unwrap();
        let one = vmdk(dir.path(), 1).await;
        let ova = dir.path().join("m.ova");
        std::fs::write(&ova, archive(&[("m.ovf", b"<ovf/>"), ("one.vmdk", &one)])).unwrap();
        does("gzip", &[&ova.display().to_string()]).await;
        let packed = std::fs::read(dir.path().join("m.ova.gz")).unwrap();
        let (pool, id) = came(dir.path(), &packed).await;
        // Whoever goes on after a fault unpacks it again.
        std::fs::write(pool.unpacked(id), "half of it").unwrap();
        let found = appliance(&pool, id).await.unwrap();
        let kept = pool.keep_member(id, &found.file, &found.members[1], MOST, |_, _| true).await.unwrap();
        assert_eq!((kept.format, kept.bytes), ("vmdk", 4 << 20));
        same(&pool.disk_image(id), 1, dir.path()).await;
        pool.forget_arrived(id).await.unwrap();
        let left: Vec<_> =
            std::fs::read_dir(pool.images_dir()).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(left.iter().all(|path| path.extension().is_some_and(|kind| kind != "unpacked")), "{left:?}");
    }

    #[tokio::test]
    async fn what_was_changed_or_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = vmdk(dir.path(), 1).await;
        let said = async |files: &[(&str, &[u8])]| {
            let (pool, id) = came(dir.path(), &archive(files)).await;
            match appliance(&pool, id).await {
                Ok(found) => {
                    let member = found.members.last().unwrap();
                    pool.keep_member(id.beside(1), &found.file, member, MOST, |_, _| true)
                        .await
                        .unwrap_err()
                        .to_string()
                }
                Err(failed) => failed.to_string(),
            }
        };
        let zeros = format!("SHA256(one.vmdk)= {}", "0".repeat(64));
        assert!(
            said(&[("m.ovf", b"x"), ("m.mf", zeros.as_bytes()), ("one.vmdk", &one)]).await.contains("spoilt")
        );
        let zeros = format!("SHA1(one.vmdk)= {}", "0".repeat(40));
        assert!(
            said(&[("m.ovf", b"x"), ("m.mf", zeros.as_bytes()), ("one.vmdk", &one)]).await.contains("spoilt")
        );
        let zeros = format!("SHA256(m.ovf)= {}", "0".repeat(64));
        assert!(said(&[("m.ovf", b"x"), ("m.mf", zeros.as_bytes())]).await.contains("changed, or spoilt"));
        assert!(said(&[("one.vmdk", &one)]).await.contains("This is an archive"));
        // A disk in it is looked at as any other is.
        let mut host = vec![0; 1024];
        host[..4].copy_from_slice(b"QFI\xfb");
        host[7] = 3;
        assert!(said(&[("m.ovf", b"x"), ("a.qcow2", &host)]).await.len() > 20);
        assert!(said(&[("m.ovf", b"x"), ("a.txt", b"hello")]).await.contains("neither a disk"));
        let many: Vec<_> = (0..MOST_MEMBERS + 1).map(|number| format!("{number}")).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert!(said(&many).await.contains("more files"));
        // It is stopped when somebody says so.
        let sums = format!("SHA256(one.vmdk)= {}", digest(&one, None).sha256);
        let files: [(&str, &[u8]); 3] = [("m.ovf", b"x"), ("m.mf", sums.as_bytes()), ("one.vmdk", &one)];
        let (pool, id) = came(dir.path(), &archive(&files)).await;
        let found = appliance(&pool, id).await.unwrap();
        let stopped =
            pool.keep_member(id.beside(1), &found.file, &found.members[2], MOST, |_, _| false).await;
        assert!(stopped.unwrap_err().to_string().contains("stopped"));
        assert!(!pool.disk_image(id.beside(1)).exists());
    }
}
