//! Every page in every look: a picture is kept, nothing is wider than the screen, axe-core finds nothing, and the
//! browser has nothing to complain about.

use std::sync::Arc;

use quantix_api::{
    Cache, NewDisk, NewFolder, NewGroup, NewUser, NewVm, Secret, TaskState, VmPolicy, VmSpec, VmState,
    built_in, calls,
};
use quantix_browser::{Desk, Host, LOOKS, Look, cluster_of, until};

use crate::addresses::{PAGES, Page};

#[tokio::test]
async fn every_page_is_in_order_in_every_look() {
    let hosts = cluster_of(2).await;
    let session = hosts[0].session().await;
    has_history(&hosts[0], &session).await;
    let cluster = hosts[0].agent().call(&calls::cluster().as_session(&session)).await.unwrap();
    let other = cluster.hosts.iter().find(|host| host.id != cluster.this_host).unwrap().id.to_string();
    let ids = [("{other}", other), ("{this}", cluster.this_host)];
    all_in_order(&hosts[0], &ids, |page| !is_of_machines(page)).await;
}

#[tokio::test]
async fn every_page_of_machines_is_in_order_in_every_look() {
    let host = Host::with_machines("qx-01").await;
    let session = host.session().await;
    let vm = has_machines(&host, &session).await;
    let its = host.agent().call(&calls::vm(&vm).as_session(&session)).await.unwrap();
    let volume = its.spec.disks[0].volume.clone();
    let image = crate::machines::has_image(&host, &session).await;
    let snapshot = crate::snapshots::has_snapshots(&host, &session, &vm).await;
    is_changed_there(&host, &session, &vm).await;
    let found = crate::found::has_found(&host);
    crate::files::has_file(&host);
    let this = host.agent().call(&calls::cluster().as_session(&session)).await.unwrap().this_host;
    let ids = [
        ("{vm}", vm),
        ("{volume}", volume),
        ("{image}", image),
        ("{snapshot}", snapshot),
        ("{found}", found),
        ("{this}", this),
    ];
    all_in_order(&host, &ids, is_of_machines).await;
}

fn is_of_machines(page: &Page) -> bool {
    page.route.starts_with("/vms") || page.route.starts_with("/storage")
}

/// Looks at pages in every look; `ids` is what stands for what in their addresses.
async fn all_in_order(host: &Arc<Host>, ids: &[(&str, String)], is_meant: impl Fn(&Page) -> bool) {
    let desk = Desk::at(host).await;
    let mut wrong = Vec::new();
    for signed_in in [false, true] {
        if signed_in {
            desk.sign_in().await;
        }
        for page in PAGES.iter().filter(|page| page.signed_in == signed_in && is_meant(page)) {
            let address =
                ids.iter().fold(page.address.to_owned(), |address, (id, is)| address.replace(id, is));
            desk.open(&address).await;
            for look in LOOKS {
                desk.look_as(look).await;
                wrong.extend(judged(&desk, look, page.address).await);
            }
            // Last, since it leaves the page with the keyboard somewhere.
            desk.look_as(LOOKS[0]).await;
            let missed = desk.out_of_reach().await.into_iter();
            wrong.extend(missed.map(|thing| format!("{}: {thing}", page.address)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What forms answer: what is shown once, and what was wrong.
#[tokio::test]
async fn what_forms_answer_is_in_order_in_every_look() {
    let desk = Desk::start().await;
    let mut wrong = Vec::new();
    for look in LOOKS {
        desk.look_as(look).await;
        desk.sign_in_as("nobody", "not the password").await;
        desk.sees("wrong").await;
        wrong.extend(judged(&desk, look, "sign-in-refused").await);
    }
    desk.sign_in().await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.open("/users").await;
        desk.fill("Name", "not a name").await;
        desk.press("Add").await;
        desk.sees("A name begins with a letter").await;
        wrong.extend(judged(&desk, look, "users-refused").await);
        desk.fill("Name", &format!("ada-{}", look.name)).await;
        desk.press("Add").await;
        desk.heading(&format!("ada-{} can sign in", look.name)).await;
        wrong.extend(judged(&desk, look, "users-made").await);
        desk.open("/cluster/add").await;
        desk.fill("What for", "Third host in rack 4").await;
        desk.press("Make a token").await;
        desk.heading("Join token").await;
        wrong.extend(judged(&desk, look, "token-made").await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A cluster in which something was done.
async fn has_history(host: &Host, session: &Secret) {
    for (name, role) in [("grace", built_in::VIEWER), ("linus", built_in::ADMINISTRATOR)] {
        let new = NewUser { username: name.into(), role: role.into() };
        host.agent().call(&calls::make_user(&new).as_session(session)).await.unwrap();
    }
    let group =
        NewGroup { name: "night-shift".into(), purpose: "Whoever is awake".into(), provider_name: None };
    host.agent().call(&calls::make_group(&group).as_session(session)).await.unwrap();
}

/// Machines in folders; gives the id of one that is on.
async fn has_machines(host: &Host, session: &Secret) -> String {
    for (name, parent) in [("Production", None), ("Web", Some(1)), ("Lab", None)] {
        let new = NewFolder { name: name.into(), parent };
        host.agent().call(&calls::make_folder(&new).as_session(session)).await.unwrap();
    }
    crate::machines::has_pool(host).await;
    let disk = NewDisk {
        pool: "local".into(),
        bytes: 20 << 30,
        image: None,
        linked: false,
        bus: None,
        cache: Cache::default(),
    };
    let mut id = String::new();
    for (name, folder, start) in
        [("db-01", Some(1), false), ("build-07", Some(3), false), ("web-01", Some(1), true)]
    {
        let mut spec = VmSpec::named(name);
        spec.memory.mib = 64;
        spec.description = "Answers for the shop".into();
        let labels = [("team".to_owned(), "web".to_owned())].into();
        let policy = VmPolicy { start_at_boot: true, labels, ..VmPolicy::default() };
        let new = NewVm { disks: vec![disk.clone()], policy, folder, start, ..NewVm::usual(spec) };
        let task = host.agent().call(&calls::make_vm(&new).as_session(session)).await.unwrap();
        until("the machine is made", async || {
            let task = host.agent().call(&calls::task(task.id).as_session(session)).await.unwrap();
            assert!(!task.state.is_end() || task.state == TaskState::Done, "{task:?}");
            task.state.is_end()
        })
        .await;
        id = task.object.trim_start_matches("vm/").to_owned();
    }
    until("it runs, and nothing is being done with it", async || {
        let vm = host.agent().call(&calls::vm(&id).as_session(session)).await.unwrap();
        vm.state == VmState::Running && vm.task.is_none()
    })
    .await;
    id
}

/// Somebody changes what libvirt has of a machine that is on.
async fn is_changed_there(host: &Host, session: &Secret, id: &str) {
    let daemon = host.machines.as_ref().unwrap();
    for change in ["setmaxmem", "setmem"] {
        daemon.virsh(&[change, id, "128M", "--config"]);
    }
    until("that is seen", async || {
        let vm = host.agent().call(&calls::vm(id).as_session(session)).await.unwrap();
        !vm.drift.is_empty()
    })
    .await;
}

/// What is found on the page that is open, with its picture's name in front.
async fn judged(desk: &Desk, look: Look, address: &str) -> Vec<String> {
    let name = address.trim_start_matches('/').replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let name = format!("{name}.{}", look.name);
    desk.picture(&name).await;
    // The browser complains about answers that refuse, pages though they are.
    let is_refused = |line: &String| line.contains("the server responded with a status of 4");
    let findings = desk.findings().await;
    findings.into_iter().filter(|line| !is_refused(line)).map(|line| format!("{name}: {line}")).collect()
}
