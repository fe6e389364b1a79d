//! CD drives of machines, and the images that are in them.

use quantix_api::{
    Cache, ChangeVm, DiskLimit, Image, NewDisk, NewVm, ProblemCode, RemoveImage, TaskState, VmAction, VmCd,
    VmDisk, VmSpec, VmState, calls,
};

use crate::{
    hosts::{problem, until},
    place::{Place, new, spec},
};

impl Place {
    /// An image of a CD with nothing on it.
    async fn with_cd(&self, name: &str) -> Image {
        let mut content = vec![0; 1 << 20];
        content[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        let client = self.host.client();
        let image = self.brought(name, "debian-13-netinst.iso", &content).await;
        let task = client.call(&calls::finish_image(&image.id).as_session(&self.session)).await.unwrap();
        assert_eq!(self.ended(task.id).await.state, TaskState::Done);
        client.call(&calls::image(&image.id).as_session(&self.session)).await.unwrap()
    }

    async fn changed(&self, id: &str, spec: VmSpec) {
        let change = ChangeVm { spec: Some(spec), ..ChangeVm::default() };
        self.host.client().call(&calls::change_vm(id, &change).as_session(&self.session)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cd_is_in_a_drive_until_it_is_taken_out() {
    let place = Place::start().await.with_pool().await;
    let client = place.host.client();
    let image = place.with_cd("Debian 13").await;
    assert!(image.is_cd() && image.bytes == Some(1 << 20), "{image:?}");
    let drives = vec![VmCd { image: Some(image.id.clone()) }, VmCd::default()];
    let wanted = VmSpec { cds: drives, ..spec("web-01") };
    let id = place.make(&NewVm { spec: wanted.clone(), start: true, ..new("web-01") }).await;
    place.becomes(&id, VmState::Running).await;
    let running = place.daemon.virsh(&["dumpxml", &id]);
    assert!(running.contains(&format!("images/{}.iso", image.id)), "{running}");
    assert_eq!(running.matches("device='cdrom'").count(), 2, "{running}");
    assert_eq!(place.vm(&id).await.drift, Vec::<String>::new());

    // What is in a drive is not removed, and is no disk.
    let call = calls::remove_image(&image.id, &RemoveImage { name: image.name.clone() });
    let refused = problem(client.call(&call.as_session(&place.session)).await);
    assert_eq!(
        (refused.code, refused.detail.contains("in a drive of web-01")),
        (ProblemCode::Conflict, true)
    );
    let disk = NewDisk {
        pool: "local".into(),
        bytes: 1 << 30,
        image: Some(image.id.clone()),
        linked: false,
        bus: None,
        cache: Cache::default(),
    };
    let call = calls::make_vm(&NewVm { disks: vec![disk], ..new("web-02") }).as_session(&place.session);
    assert!(problem(client.call(&call).await).detail.contains("is a CD"));
    for cds in [vec![VmCd { image: Some("nothing".into()) }], vec![VmCd::default(); 3]] {
        let wanted = VmSpec { cds, ..spec("web-02") };
        let call = calls::make_vm(&NewVm { spec: wanted, ..new("web-02") }).as_session(&place.session);
        assert_eq!(problem(client.call(&call).await).code, ProblemCode::Invalid);
    }

    // It is put into the other drive, and taken out, at once.
    let file = format!("images/{}.iso", image.id);
    let running = async || place.daemon.virsh(&["dumpxml", &id]);
    let other = vec![VmCd::default(), VmCd { image: Some(image.id.clone()) }];
    place.changed(&id, VmSpec { cds: other, ..wanted.clone() }).await;
    until("it is in the other drive", async || {
        let now = running().await;
        let behind =
            now.split("dev='sdy'").next().unwrap().contains(&file) && now.matches(&file).count() == 1;
        behind && !place.vm(&id).await.waits_for_restart
    })
    .await;
    place.changed(&id, VmSpec { cds: vec![VmCd::default(); 2], ..wanted.clone() }).await;
    until("it is out", async || !running().await.contains(".iso")).await;
    until("nothing waits", async || !place.vm(&id).await.waits_for_restart).await;
    assert!(place.vm(&id).await.drift.is_empty());
    // A drive that is not there yet comes with the next start.
    place.changed(&id, VmSpec { cds: vec![VmCd::default()], ..wanted.clone() }).await;
    until("that waits", async || place.vm(&id).await.waits_for_restart).await;
    // Somebody who takes it out on the host is seen.
    place.does(&id, VmAction::ForceStop).await;
    place.changed(&id, wanted).await;
    until("it is in again", async || place.daemon.virsh(&["dumpxml", &id]).contains(".iso")).await;
    place.daemon.virsh(&["change-media", &id, "sdx", "--eject", "--config"]);
    until("that is seen", async || {
        place.vm(&id).await.drift.iter().any(|said| said.starts_with("CD drive 1 is empty"))
    })
    .await;
    assert!(!place.vm(&id).await.can_adopt);
    place.remove(&id).await;
    let call = calls::remove_image(&image.id, &RemoveImage { name: image.name }).as_session(&place.session);
    let task = client.call(&call).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn drives_and_disks_of_one_controller_do_not_get_into_each_other_s_way() {
    let place = Place::start().await.with_pool().await;
    let sata = |volume: &str| VmDisk {
        volume: volume.into(),
        bus: Some(quantix_api::Bus::Sata),
        cache: Cache::default(),
        discard: true,
        limit: DiskLimit::default(),
    };
    let disk = |_| NewDisk {
        pool: "local".into(),
        bytes: 1 << 30,
        image: None,
        linked: false,
        bus: Some(quantix_api::Bus::Sata),
        cache: Cache::default(),
    };
    let wanted = VmSpec { cds: vec![VmCd::default(); 2], ..spec("web-01") };
    let new_vm =
        NewVm { spec: wanted.clone(), disks: (0..4).map(disk).collect(), start: true, ..new("web-01") };
    let id = place.make(&new_vm).await;
    place.becomes(&id, VmState::Running).await;
    let many = VmSpec { disks: (0..5).map(|at| sata(&format!("volume-{at}"))).collect(), ..wanted };
    let change = ChangeVm { spec: Some(many), ..ChangeVm::default() };
    let call = calls::change_vm(&id, &change).as_session(&place.session);
    assert_eq!(problem(place.host.client().call(&call).await).field.as_deref(), Some("spec.cds"));
}
