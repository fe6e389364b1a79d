//! Disks that are full in the middle of something: people are told why it failed, nothing is left of it, and with more room it
//! can be done.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use quantix_api::{
    ImageState, ImportVm, MAX_PIECE_BYTES, NewDisk, NewImage, NewVm, ProblemCode, Task, TaskState, calls,
};
use quantix_libvirt::Daemon;
use sha2::{Digest, Sha256};

use crate::{
    hosts::{Host, problem, until},
    lies::{Server, says},
    place::{Place, disk, new},
};

const MIB: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn ran(program: &str, args: &[&str]) -> Vec<u8> {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// A folder in which there is only so much room.
pub(crate) struct Small(pub(crate) PathBuf);

impl Small {
    fn at(folder: &Path, mib: u64) -> Self {
        fs::create_dir_all(folder).unwrap();
        let size = format!("size={mib}m");
        ran("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &folder.display().to_string()]);
        Self(folder.to_owned())
    }

    pub(crate) fn grows(&self, mib: u64) {
        ran("mount", &["-o", &format!("remount,size={mib}m"), &self.0.display().to_string()]);
    }

    pub(crate) fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }

    /// What is taken of its room, in KiB.
    pub(crate) fn used(&self) -> u64 {
        let told = ran("df", &["--output=used", &self.0.display().to_string()]);
        String::from_utf8(told).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        ran("umount", &["-l", &self.0.display().to_string()]);
    }
}

impl Place {
    /// One whose pool has so little room, in all or in one of its folders. libvirt sees what was mounted before it was started.
    pub(crate) async fn with_small_pool(folder: &str, mib: u64) -> (Self, Small) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let pool = Small::at(&dir.path().join("quantix-pools/local").join(folder), mib);
        let daemon = Daemon::start();
        let host = Host::start_in(dir, &daemon);
        let session = host.settled().await;
        (Self { host, session, daemon }.with_pool().await, pool)
    }
}

/// So many bytes of a disk that look different everywhere.
fn content(bytes: usize) -> Vec<u8> {
    let words = (0..bytes / 8).map(|at| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut content: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
    content[..510].fill(0);
    content[510..512].copy_from_slice(b"\x55\xaa");
    content
}

#[track_caller]
fn has_no_room(task: &Task) {
    assert_eq!(task.state, TaskState::Failed, "{task:?}");
    assert!(task.outcome.contains("There is no room left in the pool."), "{}", task.outcome);
}

#[track_caller]
fn is_done(task: &Task) {
    assert_eq!(task.state, TaskState::Done, "{task:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_to_a_full_disk_leaves_nothing_or_goes_on_where_it_was() {
    let (place, images) = Place::with_small_pool("images", 24).await;
    let client = place.host.client();
    let file = content(40 * MIB);
    let sum: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();

    // Fetched: nobody says how long it is.
    let sent = file.clone();
    let server = Server::start("127.0.0.1:0", move |_, _| says("200 OK", &sent)).await;
    let wanted = server.wanted("fetched", sum.clone());
    has_no_room(&place.ended(place.begins_to_fetch(&wanted).await.id).await);
    place.has_no_images().await;
    assert_eq!(images.used(), 0);
    images.grows(96);
    is_done(&place.ended(place.begins_to_fetch(&wanted).await.id).await);
    assert_eq!(place.all_images().await[0].sha256.as_deref(), Some(&*sum));
    place.removes_images().await;

    // Brought, in pieces: what has come stays until somebody thinks better of it, or makes room and goes on.
    images.grows(24);
    let piece = |at: u64| file[usize::try_from(at).unwrap()..].chunks(MAX_PIECE_BYTES.min(8 * MIB)).next();
    let new = NewImage {
        name: "brought".into(),
        file: "brought.raw".into(),
        pool: "local".into(),
        length: file.len() as u64,
        sha256: Some(sum),
    };
    let image = client.call(&calls::make_image(&new).as_session(&place.session)).await.unwrap();
    let bring = async |at| {
        let call = calls::bring_image(&image.id, at, piece(at).unwrap().to_vec());
        client.call(&call.as_session(&place.session)).await
    };
    let mut at = 0;
    let refused = loop {
        match bring(at).await {
            Ok(arrived) => at = arrived.bytes,
            refused => break problem(refused),
        }
    };
    assert_eq!(refused.code, ProblemCode::Conflict);
    assert!(refused.detail.contains("There is no room left in the pool."), "{}", refused.detail);
    // Whoever asks again is told the same, and nothing of what has come is spoilt.
    let arrived = calls::image_arrived(&image.id).as_session(&place.session);
    for _ in 0..2 {
        at = client.call(&arrived).await.unwrap().bytes;
        assert!((16 * MIB as u64..=24 * MIB as u64).contains(&at), "{at}");
        assert!(problem(bring(at).await).detail.contains("There is no room left in the pool."));
    }
    images.grows(96);
    while at < file.len() as u64 {
        at = bring(at).await.unwrap().bytes;
    }
    let finish = calls::finish_image(&image.id).as_session(&place.session);
    is_done(&place.ended(client.call(&finish).await.unwrap().id).await);
    assert_eq!(place.images_lie(), [format!("{}.qcow2", image.id)]);
    place.removes_images().await;

    images.grows(24);
    let image = client.call(&calls::make_image(&new).as_session(&place.session)).await.unwrap();
    let whole = calls::bring_image(&image.id, 0, file.clone()).as_session(&place.session);
    assert!(problem(client.call(&whole).await).detail.contains("There is no room left in the pool."));
    assert_eq!(place.all_images().await[0].state, ImageState::Arriving);
    place.removes_images().await;
    assert_eq!(images.used(), 0);
}

const OVF: &str = r#"<Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:href="one.vmdk" ovf:id="f1"/><File ovf:href="two.vmdk" ovf:id="f2"/></References>
  <DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1"/><Disk ovf:diskId="d2" ovf:fileRef="f2"/></DiskSection>
  <VirtualSystem ovf:id="shop"><Name>shop</Name><VirtualHardwareSection>
    <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
    <Item><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
    <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>ovf:/disk/d1</rasd:HostResource></Item>
    <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>ovf:/disk/d2</rasd:HostResource></Item>
  </VirtualHardwareSection></VirtualSystem></Envelope>"#;

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_small_until_it_is_unpacked_leaves_nothing_on_a_full_disk() {
    let (place, images) = Place::with_small_pool("images", 40).await;
    let dir = tempfile::tempdir().unwrap();
    let (raw, vmdk) = (dir.path().join("disk.raw"), dir.path().join("disk.vmdk"));
    let (raw, vmdk) = (raw.display().to_string(), vmdk.display().to_string());
    let mut bytes = vec![7; 24 * MIB];
    bytes[..512].copy_from_slice(&content(512));
    let as_vmdk = |bytes: &[u8]| {
        fs::write(&raw, bytes).unwrap();
        let options = ["-o", "subformat=streamOptimized", &raw, &vmdk];
        ran("qemu-img", &[&["convert", "-f", "raw", "-O", "vmdk"][..], &options].concat());
        fs::read(&vmdk).unwrap()
    };
    let one = as_vmdk(&bytes);
    let ova = archive(&[("shop.ovf", OVF.as_bytes()), ("one.vmdk", &one), ("two.vmdk", &one)]);
    bytes.extend(vec![9; 24 * MIB]);
    let disk = as_vmdk(&bytes);
    for (file, content, count) in [
        // What ends it: unpacking, writing it as it is kept, and writing the second of two disks.
        ("disk.raw.gz", ran("gzip", &["-c", &raw]), 1),
        ("disk.raw.xz", ran("xz", &["-c", "-1", &raw]), 1),
        ("disk.raw.zst", ran("zstd", &["-c", "-q", &raw]), 1),
        ("disk.vmdk", disk, 1),
        ("shop.ova", ova, 2),
    ] {
        assert!(content.len() < 8 * MIB, "{file}");
        has_no_room(&place.takes("disk", file, &content).await);
        place.has_no_images().await;
        assert_eq!(images.used(), 0, "{file}");
        images.grows(128);
        is_done(&place.takes("disk", file, &content).await);
        assert_eq!(place.images_lie().len(), count, "{file}");
        place.removes_images().await;
        images.grows(40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_copied_to_a_full_disk_leaves_nothing_and_is_copied_again() {
    let (place, volumes) = Place::with_small_pool("volumes", 24).await;
    let client = place.host.client();
    let file = content(40 * MIB);
    let retried = async |task: &Task| {
        let call = calls::retry_task(task.id).as_session(&place.session);
        place.ended(client.call(&call).await.unwrap().id).await
    };
    let has_nothing = async || {
        until("nothing of it is left", async || place.vms().await.is_empty() && volumes.files() == 0).await;
        let query = quantix_api::VolumeQuery::default();
        let left = client.call(&calls::volumes(&query).as_session(&place.session)).await.unwrap().items;
        assert_eq!((left, volumes.used()), (Vec::new(), 0));
    };

    // A disk that begins as a copy of an image.
    is_done(&place.takes("image", "image.raw", &file).await);
    let image = place.all_images().await.remove(0).id;
    let copy = NewDisk { image: Some(image), ..disk(1 << 30) };
    let made = NewVm { disks: vec![copy], ..new("web-01") };
    let task = client.call(&calls::make_vm(&made).as_session(&place.session)).await.unwrap();
    let task = place.ended(task.id).await;
    has_no_room(&task);
    has_nothing().await;
    assert!(place.domains().is_empty());
    volumes.grows(64);
    let again = retried(&task).await;
    is_done(&again);
    place.remove(again.object.strip_prefix("vm/").unwrap()).await;
    has_nothing().await;

    // A machine that libvirt has, with a disk that is copied into the pool.
    volumes.grows(24);
    let raw = place.host.dir().join("theirs.raw");
    fs::write(&raw, &file).unwrap();
    place.daemon.define(&format!(
        "<domain type='qemu'><name>theirs</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>
         <driver name='qemu' type='raw'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>
         </devices></domain>",
        raw.display()
    ));
    let vm = place.daemon.virsh(&["domuuid", "theirs"]).trim().to_owned();
    let described = || place.daemon.virsh(&["dumpxml", &vm, "--inactive"]);
    let before = described();
    let here = place.here().await;
    until("it is found", async || {
        let found = client.call(&calls::found_vms(&here).as_session(&place.session)).await.unwrap().items;
        found.iter().any(|found| found.id == vm)
    })
    .await;
    let import = ImportVm { host: here.clone(), vm: vm.clone(), name: None, folder: None };
    let task = client.call(&calls::import_vm(&import).as_session(&place.session)).await.unwrap();
    let task = place.ended(task.id).await;
    has_no_room(&task);
    has_nothing().await;
    assert_eq!((described(), fs::read(&raw).unwrap() == file), (before, true));
    volumes.grows(64);
    is_done(&retried(&task).await);
    assert!(!described().contains("theirs.raw") && raw.exists());
    assert_eq!(volumes.files(), 1);
}
