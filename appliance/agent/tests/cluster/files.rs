//! Files that lie in a pool: to what they belong, and what becomes of those that nobody knows.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use quantix_api::{
    AdoptFile, CallError, FileBecomes, ImageState, NewDisk, PoolFile, ProblemCode, RemoveFile, Task,
    TaskState, VolumeQuery, calls,
};

use crate::{
    hosts::problem,
    import::{content, qemu_img},
    place::{Place, new},
};

const MIB: u64 = 1 << 20;
const LOST: &str = "0190c6f4-7a10-7cc0-b2aa-0123456789ab";

impl Place {
    fn in_pool(&self, path: &str) -> PathBuf {
        self.host.dir().join("quantix-pools/local").join(path)
    }

    /// Puts a file there, or takes one that is there, as somebody left it an hour ago.
    fn lies_there(&self, path: &str, bytes: Option<&[u8]>) -> PathBuf {
        let file = self.in_pool(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if let Some(bytes) = bytes {
            fs::write(&file, bytes).unwrap();
        }
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&file).unwrap().set_modified(an_hour_ago).unwrap();
        file
    }

    async fn lying(&self) -> Vec<PoolFile> {
        let call = calls::pool_files(&self.here().await, "local").as_session(&self.session);
        self.host.client().call(&call).await.unwrap().items
    }

    async fn file(&self, path: &str) -> PoolFile {
        self.lying().await.into_iter().find(|file| file.path == path).unwrap()
    }

    async fn adopts(&self, path: &str, name: &str, becomes: FileBecomes) -> Result<Task, CallError> {
        let body = AdoptFile { path: path.into(), name: name.into(), becomes };
        let call = calls::adopt_file(&self.here().await, "local", &body).as_session(&self.session);
        let task = self.host.client().call(&call).await?;
        Ok(self.ended(task.id).await)
    }

    async fn removes(&self, path: &str) -> Result<Task, CallError> {
        let call = calls::remove_file(&self.here().await, "local", &RemoveFile { path: path.into() });
        let task = self.host.client().call(&call.as_session(&self.session)).await?;
        Ok(self.ended(task.id).await)
    }

    async fn volume_names(&self) -> Vec<String> {
        let call = calls::volumes(&VolumeQuery::default()).as_session(&self.session);
        let volumes = self.host.client().call(&call).await.unwrap().items;
        volumes.into_iter().map(|volume| volume.name).collect()
    }
}

fn pattern(mib: u64) -> Vec<u8> {
    (0..mib * MIB / 8).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_becomes_a_volume_or_an_image() {
    let place = Place::start().await.with_pool().await;
    let disk = NewDisk {
        pool: "local".into(),
        bytes: 4 * MIB,
        image: None,
        linked: false,
        bus: None,
        cache: Default::default(),
    };
    let vm = quantix_api::NewVm { disks: vec![disk], ..new("web-01") };
    let vm = place.make(&vm).await;
    let own = place.vm(&vm).await.spec.disks[0].volume.clone();
    let bytes = pattern(8);
    let raw = place.lies_there("old disks/mail, server.raw", Some(&bytes));
    let lost = place.in_pool(&format!("volumes/{LOST}.qcow2"));
    qemu_img(&["convert", "-O", "qcow2", &raw.display().to_string(), &lost.display().to_string()]);
    place.lies_there(&format!("volumes/{LOST}.qcow2"), None);
    let before = fs::metadata(&lost).unwrap().ino();
    let its = place.file(&format!("volumes/{own}.qcow2")).await;
    assert_eq!(its.belongs_to.as_deref(), Some("the volume web-01-disk-1"));
    assert_eq!(its.object, Some(format!("volume/{own}")));
    let found = place.file("old disks/mail, server.raw").await;
    assert_eq!((found.belongs_to, found.disk_bytes, found.volume), (None, Some(8 * MIB), None));
    let found = place.file(&format!("volumes/{LOST}.qcow2")).await;
    assert_eq!((found.belongs_to, found.disk_bytes), (None, Some(8 * MIB)));
    assert_eq!(found.volume.as_deref(), Some(LOST));

    let task = place.adopts(&format!("volumes/{LOST}.qcow2"), "lost", FileBecomes::Volume).await.unwrap();
    assert_eq!((task.state, task.object), (TaskState::Done, format!("volume/{LOST}")));
    assert_eq!(fs::metadata(&lost).unwrap().ino(), before);
    let task = place.adopts("old disks/mail, server.raw", "mail", FileBecomes::Volume).await.unwrap();
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    let mail = task.object.strip_prefix("volume/").unwrap().to_owned();
    assert!(content(&place.in_pool(&format!("volumes/{mail}.qcow2"))) == bytes);
    // It is there as before, and can be removed.
    assert!(fs::read(&raw).unwrap() == bytes);
    assert_eq!(place.removes("old disks/mail, server.raw").await.unwrap().state, TaskState::Done);
    assert!(!raw.exists());
    let mut names = place.volume_names().await;
    names.sort_unstable();
    assert_eq!(names, ["lost", "mail", "web-01-disk-1"]);

    // A CD, and a disk as an image.
    let mut cd = vec![0; 1 << 20];
    cd[0x8000..0x8006].copy_from_slice(b"\x01CD001");
    for (path, bytes, format) in [("debian-13.iso", &cd, "iso"), ("debian-12.raw", &bytes, "raw")] {
        let mut bytes = bytes.clone();
        if format == "raw" {
            // What is in front of its first partition.
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        }
        let file = place.lies_there(path, Some(&bytes));
        let task = place.adopts(path, path, FileBecomes::Image).await.unwrap();
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        let id = task.object.strip_prefix("image/").unwrap();
        let image = place.host.client().call(&calls::image(id).as_session(&place.session)).await.unwrap();
        assert_eq!(
            (image.state, image.format.as_deref().unwrap_or_default(), image.os.as_str()),
            (ImageState::Ready, format, "debian")
        );
        assert!(fs::read(&file).unwrap() == bytes);
        assert_eq!(place.removes(path).await.unwrap().state, TaskState::Done);
        let image = place.host.client().call(&calls::image(id).as_session(&place.session)).await.unwrap();
        assert_eq!(image.state, ImageState::Ready);
    }
    assert!(place.lying().await.iter().all(|file| file.belongs_to.is_some()), "{:?}", place.lying().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_something_or_leads_elsewhere_is_refused() {
    let place = Place::start().await.with_pool().await;
    let secret = place.host.dir().join("secret");
    fs::write(&secret, "secret").unwrap();
    let evil = place.in_pool("evil.qcow2");
    let there = evil.display().to_string();
    qemu_img(&["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", &there, "1M"]);
    place.lies_there("evil.qcow2", None);
    symlink(place.host.dir(), place.in_pool("out")).unwrap();
    symlink("/etc/shadow", place.in_pool("shadow.raw")).unwrap();
    fs::write(place.in_pool("young.raw"), "x").unwrap();
    let found = place.file("evil.qcow2").await;
    assert!(found.disk_bytes.is_none() && found.why_not.contains("names"), "{found:?}");
    let refused = problem(place.adopts("evil.qcow2", "evil", FileBecomes::Volume).await);
    assert!(refused.code == ProblemCode::Conflict && refused.detail.contains("names"), "{refused:?}");
    // As an image it is looked at as one that was brought.
    let task = place.adopts("evil.qcow2", "evil", FileBecomes::Image).await.unwrap();
    assert!(task.state == TaskState::Failed && task.outcome.contains("names"), "{task:?}");
    assert!(evil.exists() && place.lying().await.iter().all(|file| !file.path.starts_with("images/")));
    for (path, expected) in [
        ("quantix-pool", ProblemCode::Conflict),
        ("young.raw", ProblemCode::Conflict),
        ("../secret", ProblemCode::Invalid),
        ("out/secret", ProblemCode::Invalid),
        ("/etc/shadow", ProblemCode::Invalid),
        ("nowhere", ProblemCode::Invalid),
    ] {
        assert_eq!(problem(place.removes(path).await).code, expected, "{path}");
        assert_eq!(problem(place.adopts(path, "a", FileBecomes::Volume).await).code, expected, "{path}");
    }
    // Nobody follows a link.
    let links = place.lying().await.into_iter().filter(|file| !file.is_file);
    assert_eq!(
        links.map(|file| (file.path, file.disk_bytes)).collect::<Vec<_>>(),
        [("out".to_owned(), None), ("shadow.raw".to_owned(), None)]
    );
    assert!(place.adopts("shadow.raw", "shadow", FileBecomes::Volume).await.is_err());
    assert!(secret.exists() && fs::metadata("/etc/shadow").is_ok());
    assert!(place.volume_names().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_while_a_file_is_adopted_it_is_there_once_and_whole() {
    let mut place = Place::start().await.with_pool().await;
    let bytes = pattern(64);
    let raw = place.lies_there("big.raw", Some(&bytes));
    for (wait, becomes) in [(20, FileBecomes::Volume), (150, FileBecomes::Volume)] {
        let name = format!("after {wait}");
        let body = AdoptFile { path: "big.raw".into(), name: name.clone(), becomes };
        let call = calls::adopt_file(&place.here().await, "local", &body).as_session(&place.session);
        let task = place.host.client().call(&call).await.unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        let id = task.object.strip_prefix("volume/").unwrap();
        assert!(content(&place.in_pool(&format!("volumes/{id}.qcow2"))) == bytes);
        assert!(fs::read(&raw).unwrap() == bytes);
    }
    assert_eq!(place.volume_names().await.len(), 2);
    let volumes = fs::read_dir(place.in_pool("volumes")).unwrap().count();
    assert_eq!(volumes, 2);
}
