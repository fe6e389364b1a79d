//! What somebody may call a machine and what belongs to it, to do harm to whoever looks at it.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use quantix_api::{
    Cache, ChangePool, NewDisk, NewFolder, NewImage, NewSnapshot, NewVm, NewVolume, Secret, Task, TaskState,
    VmPolicy, VmSpec, calls,
};
use quantix_browser::{Desk, Host, LOOKS, until};

use crate::{hostile::wrong, machines::has_pool};

/// Markup that runs if it is taken for markup, letters that turn around and that stand above others, and a word that ends
/// nowhere. None is longer than a name may be.
const NAMES: [&str; 3] = [
    "\"><img src=x onerror=alert(1)>' onfocus='a {{1337*1337}} & co",
    "שלום 🧨👩\u{200d}👩\u{200d}👧\u{200d}👦 Z̸̢̙a̵̜l̶̰g̴̼o̶͖ ${1337*1337} <%= 1337*1337 %>",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
];

async fn done(host: &Host, session: &Secret, task: Task) -> String {
    until(&task.title, async || {
        let task = host.agent().call(&calls::task(task.id).as_session(session)).await.unwrap();
        assert!(!task.state.is_end() || task.state == TaskState::Done, "{task:?}");
        task.state.is_end()
    })
    .await;
    task.object.rsplit('/').next().unwrap().to_owned()
}

/// One of everything that is called so.
struct Called {
    name: &'static str,
    folder: i64,
    vm: String,
    snapshot: String,
    volume: String,
    image: String,
}

async fn called(host: &Host, session: &Secret, name: &'static str) -> Called {
    let client = host.agent();
    let new = NewFolder { name: name.into(), parent: None };
    let folder = client.call(&calls::make_folder(&new).as_session(session)).await.unwrap().id;
    let mut spec = VmSpec::named(name);
    spec.memory.mib = 64;
    spec.description = format!("{name}\n{}", name.repeat(15).chars().take(900).collect::<String>());
    let labels = [("team".to_owned(), name.to_owned())].into();
    let policy = VmPolicy { owner: name.into(), labels, ..VmPolicy::default() };
    let cache = Cache::default();
    let disk = NewDisk { pool: "local".into(), bytes: 1 << 20, image: None, linked: false, bus: None, cache };
    let new = NewVm { folder: Some(folder), policy, disks: vec![disk], ..NewVm::usual(spec) };
    let task = client.call(&calls::make_vm(&new).as_session(session)).await.unwrap();
    let vm = done(host, session, task).await;
    let new = NewSnapshot { name: name.into(), description: name.repeat(10), memory: false, freeze: false };
    let task = client.call(&calls::make_snapshot(&vm, &new).as_session(session)).await.unwrap();
    done(host, session, task).await;
    let snapshot = client.call(&calls::snapshots(&vm).as_session(session)).await.unwrap().items[0].id.clone();
    let new = NewVolume { name: name.into(), pool: "local".into(), host: None, bytes: 1 << 20 };
    let task = client.call(&calls::make_volume(&new).as_session(session)).await.unwrap();
    let volume = done(host, session, task).await;
    let mut content = vec![0; 1 << 20];
    content[510..512].copy_from_slice(b"\x55\xaa");
    let (pool, length) = ("local".to_owned(), content.len() as u64);
    let new = NewImage { name: name.into(), file: format!("{name}.raw"), pool, length, sha256: None };
    let image = client.call(&calls::make_image(&new).as_session(session)).await.unwrap().id;
    client.call(&calls::bring_image(&image, 0, content).as_session(session)).await.unwrap();
    let task = client.call(&calls::finish_image(&image).as_session(session)).await.unwrap();
    done(host, session, task).await;
    Called { name, folder, vm, snapshot, volume, image }
}

/// A file that nobody knows, and a machine that nobody keeps: what stands there is what somebody wrote on the host. Gives the
/// id of the machine.
fn lies_on_the_host(host: &Host, name: &str) -> String {
    let path = host.dir().join("quantix-pools/local").join(format!("{name}.raw"));
    fs::write(&path, vec![7; 3 << 20]).unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(path).unwrap().set_modified(an_hour_ago).unwrap();
    let escaped = name.replace('&', "&amp;").replace('<', "&lt;");
    let daemon = host.machines.as_ref().unwrap();
    daemon.define(&format!(
        "<domain type='qemu'><name>old</name><title>{escaped}</title><description>{escaped}</description>
         <memory unit='MiB'>64</memory><vcpu>1</vcpu>
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices/></domain>"
    ));
    daemon.virsh(&["domuuid", "old"]).trim().to_owned()
}

/// Opens a page, on which these can be read, as text or in fields; gives what is wrong with it.
async fn reads(desk: &Desk, path: &str, names: &[&str]) -> Vec<String> {
    desk.open(path).await;
    let script = "
        const fields = [...document.querySelectorAll('input, textarea')].map((field) => tidy(field.value));
        const all = [tidy(document.body.textContent), ...fields];
        return [...arguments].filter((name) => !all.some((text) => text.includes(tidy(name)))).join(', ');";
    let mut found = wrong(desk, path, names[0]).await;
    let missing = desk.ask(script, names).await.unwrap();
    if missing != "" {
        found.push(format!("{path} does not have the name {missing}"));
    }
    found
}

#[tokio::test]
async fn whatever_a_machine_and_what_belongs_to_it_is_called_is_shown_as_text() {
    let host = Host::with_machines("qx-01").await;
    has_pool(&host).await;
    let (client, session) = (host.agent(), host.session().await);
    let mut all = Vec::new();
    for name in NAMES {
        all.push(called(&host, &session, name).await);
    }
    let found = lies_on_the_host(&host, NAMES[0]);
    let this = client.call(&calls::cluster().as_session(&session)).await.unwrap().this_host;
    let desk = Desk::at(&host).await;
    desk.sign_in().await;
    desk.look_as(LOOKS[2]).await;
    let mut found_wrong = Vec::new();
    let encoded = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    for (number, one) in all.iter().enumerate() {
        let Called { name, folder, vm, snapshot, volume, image } = one;
        let change = ChangePool { name: Some((*name).to_owned()), ..ChangePool::default() };
        client.call(&calls::change_pool("local", &change).as_session(&session)).await.unwrap();
        let mut paths = vec![
            format!("/vms?folder={folder}"),
            format!("/vms/{vm}"),
            format!("/vms/{vm}/edit"),
            format!("/vms/{vm}/snapshots"),
            format!("/vms/{vm}/snapshots/{snapshot}"),
            format!("/storage/images/{image}/edit"),
            format!("/storage/volumes/{volume}"),
            "/storage/pools/local".to_owned(),
        ];
        // Letters that turn around do so everywhere in the same way.
        if number != 1 {
            paths.extend([
                format!("/vms?text={}", encoded(name)),
                format!("/find?text={}", encoded(name)),
                format!("/vms/{vm}/cloud-init"),
                format!("/vms/{vm}/remove"),
                format!("/vms/{vm}/clone"),
                format!("/vms/{vm}/snapshots/{snapshot}/revert"),
                format!("/vms/{vm}/snapshots/{snapshot}/remove"),
                format!("/console?vm={vm}"),
                format!("/storage/images/{image}/remove"),
                format!("/storage/volumes/{volume}/remove"),
            ]);
        }
        for path in paths {
            found_wrong.extend(reads(&desk, &path, &[name]).await);
        }
    }
    for path in [
        "/vms",
        "/vms/new",
        "/storage",
        "/storage/images",
        "/storage/volumes/new",
        "/activity",
        "/activity/tasks",
    ] {
        let names: &[&str] = if path == "/storage/volumes/new" { &NAMES[2..] } else { &NAMES };
        found_wrong.extend(reads(&desk, path, names).await);
        desk.picture(&format!("hostile{}.phone", path.replace('/', "-"))).await;
    }
    let file = encoded(&format!("{}.raw", NAMES[0]));
    for path in [
        format!("/vms/found/{this}/{found}"),
        format!("/storage/pools/local/files/{this}"),
        format!("/storage/pools/local/files/{this}/adopt?path={file}"),
        format!("/storage/pools/local/files/{this}/remove?path={file}"),
    ] {
        found_wrong.extend(reads(&desk, &path, &NAMES[..1]).await);
    }

    // What is said when something was done, and what is opened over the page.
    desk.open(&format!("/vms/{}", all[0].vm)).await;
    desk.press("Start").await;
    desk.sees(&format!("{} is being started.", NAMES[0])).await;
    found_wrong.extend(wrong(&desk, "what was done", NAMES[0]).await);
    desk.sees("Running").await;
    desk.sees_no_longer("a task is under way").await;
    found_wrong.extend(wrong(&desk, "a machine that is on", NAMES[0]).await);
    desk.press("Force off").await;
    desk.shows("button", "Start").await;
    desk.follow("Remove…").await;
    desk.shows("dialog", &format!("Remove {}", NAMES[0])).await;
    found_wrong.extend(wrong(&desk, "a dialog", NAMES[0]).await);
    desk.look_as(LOOKS[0]).await;
    desk.open("/vms").await;
    found_wrong.extend(wrong(&desk, "/vms on a wide screen", NAMES[0]).await);
    desk.picture("hostile-vms.light").await;
    assert!(found_wrong.is_empty(), "{found_wrong:#?}");
}
