//! What the guests of machines are told when they start for the first time.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use quantix_api::{
    AuditQuery, CardAddresses, ChangeVm, CloudInit, NewDisk, NewVm, Problem, ProblemCode, RemoveVm, Secret,
    TaskState, VmNic, VmSpec, VmState, calls,
};

use crate::{
    hosts::{problem, until},
    place::{Place, disk, new, spec},
};

const PASSWORD: &str = "a password of the guest";
pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB ada@desk";

fn told() -> CloudInit {
    CloudInit {
        user: "ops".into(),
        password: Some(Secret::new(PASSWORD)),
        ssh_keys: vec![KEY.into()],
        ..CloudInit::default()
    }
}

impl Place {
    fn seed(&self, id: &str) -> PathBuf {
        self.host.dir().join(format!("quantix-pools/local/seeds/{id}.img"))
    }

    /// What the guest would read.
    fn read(&self, id: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.seed(id)).unwrap()).into_owned()
    }

    async fn told(&self, id: &str) -> CloudInit {
        self.host.client().call(&calls::cloud_init(id).as_session(&self.session)).await.unwrap()
    }

    async fn tell(&self, id: &str, told: &CloudInit) -> Result<CloudInit, Problem> {
        let call = calls::set_cloud_init(id, told).as_session(&self.session);
        match self.host.client().call(&call).await {
            Ok(told) => Ok(told),
            failed => Err(problem(failed)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_who_gets_in_and_nobody_else_learns_the_password() {
    let mut place = Place::start().await;
    let id = place.make(&NewVm { cloud_init: Some(told()), start: true, ..new("Web 01") }).await;
    place.becomes(&id, VmState::Running).await;
    let vm = place.vm(&id).await;
    assert!(vm.has_cloud_init);
    assert_eq!((vm.drift, vm.trouble.as_str()), (Vec::new(), ""));
    let text = place.read(&id);
    assert!(text.contains("web-01") && text.contains("$6$") && text.contains(KEY) && text.contains(&id));
    assert_eq!(fs::metadata(place.seed(&id)).unwrap().permissions().mode() & 0o777, 0o600);
    let running = place.daemon.virsh(&["dumpxml", &id]);
    assert!(running.contains(&format!("seeds/{id}.img")) && running.contains("<readonly/>"), "{running}");

    // It is told back as it can be sent again, without what must not be seen.
    let shown = place.told(&id).await;
    assert_eq!(shown, CloudInit { password: None, keep_password: true, ..told() });
    assert_eq!(place.tell(&id, &shown).await.unwrap(), shown);
    until("it is written anew", async || place.read(&id).contains(&format!("{id}-2"))).await;
    assert!(place.read(&id).contains("$6$"));
    let query = AuditQuery::default();
    let audit = place.host.client().call(&calls::audit(&query).as_session(&place.session)).await.unwrap();
    let said = serde_json::to_string(&audit).unwrap();
    assert!(said.contains("change-cloud-init") && !said.contains("$6$") && !said.contains(PASSWORD));
    assert!(!place.host.holds(PASSWORD), "the password is kept");

    // Whoever saw it as it was before is told so.
    let old = calls::set_cloud_init(&id, &told()).as_session(&place.session).if_version(1);
    assert_eq!(problem(place.host.client().call(&old).await).code, ProblemCode::ChangedMeanwhile);
    let nobody = CloudInit { user: "ops".into(), ..CloudInit::default() };
    assert_eq!(place.tell(&id, &nobody).await.unwrap_err().field.as_deref(), Some("ssh_keys"));
    let hostile = CloudInit { user_data: "#cloud-config\nusers: [".into(), ..told() };
    assert_eq!(place.tell(&id, &hostile).await.unwrap_err().field.as_deref(), Some("user_data"));

    // A host that starts has it again, whatever happened to the file.
    place.host.kill();
    place.daemon.lose_everything();
    fs::remove_file(place.seed(&id)).unwrap();
    place.host.start_again();
    place.host.ready().await;
    until("it is described again", async || place.domains().len() == 1 && place.seed(&id).exists()).await;
    place.becomes(&id, VmState::Stopped).await;

    let call = calls::remove_cloud_init(&id).as_session(&place.session);
    place.host.client().call(&call).await.unwrap();
    until("nothing is left of it", async || !place.seed(&id).exists()).await;
    until("libvirt knows", async || !place.daemon.virsh(&["dumpxml", &id]).contains("seeds/")).await;
    let call = calls::cloud_init(&id).as_session(&place.session);
    assert_eq!(problem(place.host.client().call(&call).await).code, ProblemCode::NotFound);
    place.tell(&id, &told()).await.unwrap();
    until("it is there again", async || place.seed(&id).exists()).await;
    place.remove(&id).await;
    assert!(!place.seed(&id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_go_with_their_cards_and_what_cannot_be_told_is_refused_before_anything_is_made() {
    let place = Place::start().await;
    let nic = VmNic { bridge: "br-int".into(), mac: String::new(), model: None };
    let card = CardAddresses { addresses: vec!["192.0.2.10/24".into()], ..CardAddresses::default() };
    let wanted = NewVm {
        spec: VmSpec { nics: vec![nic], ..spec("web-01") },
        cloud_init: Some(CloudInit { network: vec![card.clone()], ..told() }),
        ..new("web-01")
    };
    let id = place.make(&wanted).await;
    let mac = place.vm(&id).await.spec.nics[0].mac.clone();
    let text = place.read(&id);
    assert!(text.contains("192.0.2.10/24") && text.contains(&mac), "{text}");
    // The card that has the address cannot go while it is told.
    let change = ChangeVm { spec: Some(spec("web-01")), ..ChangeVm::default() };
    let call = calls::change_vm(&id, &change).as_session(&place.session);
    assert_eq!(problem(place.host.client().call(&call).await).field.as_deref(), Some("cloud_init.network"));

    for (field, told) in [
        ("cloud_init.user", CloudInit { user: "root; rm".into(), ..told() }),
        ("cloud_init.user", CloudInit { user: String::new(), ..told() }),
        ("cloud_init.password", CloudInit { password: Some(Secret::new("a\nb")), ..told() }),
        ("cloud_init.ssh_keys", CloudInit { ssh_keys: vec!["ssh-rsa x".into()], ..told() }),
        ("cloud_init.hostname", CloudInit { hostname: "a b".into(), ..told() }),
        ("cloud_init.domain", CloudInit { domain: "..".into(), ..told() }),
        ("cloud_init.network", CloudInit { network: vec![card.clone()], ..told() }),
        ("cloud_init.user_data", CloudInit { user_data: "echo".into(), ..told() }),
    ] {
        let call = calls::make_vm(&NewVm { cloud_init: Some(told), ..new("web-02") });
        let refused = problem(place.host.client().call(&call.as_session(&place.session)).await);
        assert_eq!(refused.field.as_deref(), Some(field), "{refused:?}");
    }
    assert_eq!(place.vms().await.len(), 1);
    assert_eq!(fs::read_dir(place.seed(&id).parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_told_nothing_needs_no_pool() {
    let place = Place::start().await;
    let told = place.make(&NewVm { cloud_init: Some(told()), ..new("web-01") }).await;
    let pool = place.host.dir().join("quantix-pools/local");
    fs::rename(&pool, pool.with_extension("away")).unwrap();
    let id = place.make(&new("web-02")).await;
    place.remove(&id).await;
    // What was told to somebody is not left behind in a pool that comes back.
    let body = RemoveVm { name: "web-01".into(), keep_disks: false };
    let call = calls::remove_vm(&told, &body).as_session(&place.session);
    let task = place.host.client().call(&call).await.unwrap();
    let task = place.ended(task.id).await;
    assert!(task.outcome.contains("The pool is not there"), "{task:?}");
    fs::rename(pool.with_extension("away"), &pool).unwrap();
    place.remove(&told).await;
    assert!(!place.seed(&told).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_image_becomes_no_machine_into_which_nobody_gets() {
    let place = Place::start().await.with_pool().await;
    let mut content = vec![0; 1 << 20];
    content[510..512].copy_from_slice(b"\x55\xaa");
    let image = place.brought("Debian 13", "debian-13-generic.raw", &content).await;
    assert_eq!(image.user, "debian");
    let whole = calls::finish_image(&image.id).as_session(&place.session);
    let task = place.host.client().call(&whole).await.unwrap();
    assert_eq!(place.ended(task.id).await.state, TaskState::Done);
    let disk = NewDisk { image: Some(image.id.clone()), ..disk(1 << 30) };
    let new = NewVm { disks: vec![disk], ..new("web-01") };
    let making = async |new: &NewVm| {
        let call = calls::make_vm(new).as_session(&place.session);
        place.host.client().call(&call).await
    };
    let script = CloudInit { user_data: "#cloud-config\nusers: []\n".into(), ..CloudInit::default() };
    let named = CloudInit { hostname: "web".into(), ..CloudInit::default() };
    for refused in [None, Some(named)] {
        let refused = problem(making(&NewVm { cloud_init: refused, ..new.clone() }).await);
        assert_eq!(refused.field.as_deref(), Some("cloud_init.ssh_keys"), "{refused:?}");
        assert!(refused.detail.contains("Debian 13 is a cloud image"), "{}", refused.detail);
    }
    let checks = calls::check_vm(&new).as_session(&place.session);
    assert_eq!(problem(place.host.client().call(&checks).await).code, ProblemCode::Invalid);
    assert!(place.domains().is_empty());
    // Whoever says how somebody gets in, or that the image has its own way, means it.
    for (number, told) in [Some(told()), Some(script), None].into_iter().enumerate() {
        let has_way_in = told.is_none();
        let mut new = NewVm { cloud_init: told, has_way_in, ..new.clone() };
        new.spec.name = format!("web-{number}");
        place.make(&new).await;
    }
    assert_eq!(place.domains().len(), 3);
}
