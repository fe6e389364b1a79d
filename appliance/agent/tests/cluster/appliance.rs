//! Machines that come as one file from elsewhere.

use std::{fs, process::Command, time::Duration};

use quantix_api::{
    Firmware, ImageState, NewDisk, NewVm, TaskState, VmAction, VmState, VolumeQuery, calls, in_whole_gib,
};

use crate::place::Place;

const OVF: &str = r#"<Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:href="one.vmdk" ovf:id="f1"/><File ovf:href="../../two.vmdk" ovf:id="f2"/></References>
  <DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1"/><Disk ovf:diskId="d2" ovf:fileRef="f2"/></DiskSection>
  <VirtualSystem ovf:id="shop"><Name>shop &amp; more</Name><VirtualHardwareSection>
    <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
    <Item><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
    <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>ovf:/disk/d1</rasd:HostResource></Item>
    <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>ovf:/disk/d2</rasd:HostResource></Item>
  </VirtualHardwareSection></VirtualSystem></Envelope>"#;

#[expect(clippy::disallowed_methods, reason = "tests prepare what the product finds")]
fn ran(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An OVA of a machine with two disks, on which these letters stand.
fn ova(letters: [u8; 2]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, disk) = (dir.path().join("raw"), dir.path().join("disk.vmdk"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
    };
    add("shop.ovf", OVF.as_bytes());
    for (name, letter) in ["one.vmdk", "../../two.vmdk"].into_iter().zip(letters) {
        fs::write(&raw, vec![letter; 8 << 20]).unwrap();
        let (from, to) = (raw.display().to_string(), disk.display().to_string());
        ran(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", &from, &to],
        );
        add(name, &fs::read(&disk).unwrap());
    }
    archive.into_inner().unwrap()
}

fn packed(content: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.ova");
    fs::write(&path, content).unwrap();
    ran("gzip", &[&path.display().to_string()]);
    fs::read(path.with_extension("ova.gz")).unwrap()
}

impl Place {
    fn images_there(&self) -> Vec<String> {
        let files = fs::read_dir(self.host.dir().join("quantix-pools/local/images")).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_came_as_one_file_is_made_with_all_its_disks() {
    let mut place = Place::start().await.with_pool().await;
    let content = ova([7, 9]);
    let contents = [packed(&content), content];
    // Whenever the agent is killed meanwhile, the images are there once and nothing else is, packed or not.
    for (round, pause) in [0, 30, 80, 160].into_iter().enumerate() {
        let image = place.brought(&format!("Shop {round}"), "shop.ova", &contents[round % 2]).await;
        let finish = calls::finish_image(&image.id).as_session(&place.session);
        let task = place.host.client().call(&finish).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        place.host.kill();
        place.host.start_again();
        place.host.ready().await;
        let task = place.ended(task.id).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }
    let images = place.all_images().await;
    let named: Vec<_> = images.iter().map(|image| image.name.as_str()).take(4).collect();
    assert_eq!(named, ["Shop 0", "Shop 0, disk 2", "Shop 1", "Shop 1, disk 2"]);
    assert!(images.len() == 8 && images.iter().all(|image| image.state == ImageState::Ready));
    assert_eq!(place.images_there().len(), 8);

    let first = &images[0];
    let draft = first.draft.clone().unwrap();
    assert_eq!(draft.disks, [images[0].id.clone(), images[1].id.clone()]);
    assert!(images[1].draft.is_none());
    assert_eq!((draft.name.as_str(), draft.cpus, draft.memory_mib), ("shop & more", 2, 64));
    let disk = NewDisk {
        pool: first.pool.clone(),
        bytes: in_whole_gib(first.bytes.unwrap()),
        image: Some(first.id.clone()),
        linked: false,
        bus: None,
        cache: quantix_api::Cache::default(),
    };
    let disks = std::iter::once(disk).chain(draft.further_disks(&images, true)).collect();
    let new = NewVm { disks, start: true, ..NewVm::usual(draft.spec("br-int")) };
    let id = place.make(&new).await;
    place.becomes(&id, VmState::Running).await;
    place.does(&id, VmAction::ForceStop).await;
    let vm = place.vm(&id).await;
    assert_eq!((vm.spec.firmware, vm.spec.cpu.count()), (Firmware::Bios, 2));
    let query = VolumeQuery { vm: Some(id), ..VolumeQuery::default() };
    let volumes = place.host.client().call(&calls::volumes(&query).as_session(&place.session)).await.unwrap();
    assert_eq!(volumes.items.len(), 2);
    let listed = place.daemon.virsh(&["domblklist", &vm.id, "--inactive"]);
    for (target, letter) in [("vda", 7), ("vdb", 9)] {
        let line = listed.lines().find(|line| line.trim().starts_with(target)).unwrap();
        let path = line.split_whitespace().nth(1).unwrap();
        ran("qemu-io", &["-f", "qcow2", "-c", &format!("read -P {letter} 0 8M"), path]);
    }
    place.all_is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_taken_leaves_nothing() {
    let place = Place::start().await.with_pool().await;
    let fails = async |content: &[u8], why: &str| {
        let image = place.brought("Shop", "shop.ova", content).await;
        let finish = calls::finish_image(&image.id).as_session(&place.session);
        let task = place.ended(place.host.client().call(&finish).await.unwrap().id).await;
        assert_eq!(task.state, TaskState::Failed, "{task:?}");
        assert!(task.outcome.contains(why), "{}", task.outcome);
        assert!(place.all_images().await.is_empty());
        assert_eq!(place.images_there(), Vec::<String>::new());
    };
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(OVF.as_bytes()).replace(from, to);
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_path("shop.ovf").unwrap();
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
        archive.into_inner().unwrap()
    };
    fails(&changed("shop", "shop"), "names the disk one.vmdk, which is not in the OVA").await;
    fails(&changed("VirtualSystem", "VirtualSystemCollection"), "several machines").await;
    fails(&changed("</Envelope>", ""), "cannot be read").await;
    // The second disk is no disk: the first one had been written already.
    let mut content = ova([7, 9]);
    let at = content.windows(4).rposition(|bytes| bytes == b"KDMV").unwrap();
    content[at..at + 4].copy_from_slice(b"nope");
    fails(&content, "neither a disk").await;
}
