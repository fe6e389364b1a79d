//! A pool on a disk of its own, with the LVM and the kernel of the image: made of a disk on which something was, volumes that
//! share what they have in common, snapshots of machines that are on and off, faults, a restart of the host, and gone again.

use std::time::{Duration, Instant};

use quantix_qemu::{
    BOOT_BOUND, Browser, Machine, SavedMachine, fail, note, pages, poll_until, spawn::tool, wait_until,
};
use serde_json::{Value, json};

use crate::count;

/// An emulated processor is in no hurry.
const SOON: Duration = Duration::from_secs(300);
const PASSWORD: &str = "a password of my own";
const MIB: u64 = 1 << 20;

/// The API, as a program uses it.
struct Api {
    browser: Browser,
    token: String,
}

impl Api {
    fn sign_in(mut browser: Browser) -> Self {
        let body = json!({ "username": pages::ADMIN, "password": PASSWORD }).to_string();
        let kind = [("Content-Type", "application/json")];
        let session = browser.request("POST", "/api/v1/session", &kind, body.as_bytes()).unwrap();
        let session: Value = serde_json::from_str(&session.text()).unwrap();
        Self { browser, token: session["token"].as_str().unwrap().to_owned() }
    }

    /// What is answered, with its status.
    fn ask(&mut self, method: &str, path: &str, body: Value) -> Option<(u16, Value)> {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Content-Type", "application/json"), ("Authorization", &authorization)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/api/v1{path}");
        let answer = self.browser.request(method, &path, &headers, body.as_bytes()).ok()?;
        Some((answer.status, serde_json::from_str(&answer.text()).unwrap_or(Value::Null)))
    }

    #[track_caller]
    fn get(&mut self, path: &str) -> Value {
        let (status, told) = self.ask("GET", path, Value::Null).unwrap();
        assert_eq!(status, 200, "{path}: {told}");
        told
    }

    /// Begins a task and waits for its end: whether it was done, and what it is about or why it was not.
    #[track_caller]
    fn task(&mut self, method: &str, path: &str, body: Value) -> (bool, String) {
        let (status, task) = self.ask(method, path, body).unwrap();
        assert_eq!(status, 202, "{path}: {task}");
        self.ended(&task["id"].to_string())
    }

    #[track_caller]
    fn ended(&mut self, id: &str) -> (bool, String) {
        let ended = wait_until("the task to end", SOON, || {
            let (_, task) = self.ask("GET", &format!("/tasks/{id}"), Value::Null)?;
            (!task["ended_at"].is_null()).then_some(task)
        });
        let is_done = ended["state"] == "done";
        let text = if is_done { &ended["object"] } else { &ended["outcome"] };
        (is_done, text.as_str().unwrap_or_default().to_owned())
    }

    #[track_caller]
    fn does(&mut self, method: &str, path: &str, body: Value) -> String {
        let (is_done, text) = self.task(method, path, body);
        assert!(is_done, "{method} {path}: {text}");
        text.split_once('/').map(|(_, id)| id.to_owned()).unwrap_or_default()
    }

    /// Brings an image of so many MiB that begins with an `i`.
    fn image(&mut self, machine: &Machine, mib: u64) -> String {
        let file = machine.folder().join("brought.qcow2").display().to_string();
        tool(&["qemu-img", "create", "-q", "-f", "qcow2", &file, &format!("{mib}M")]);
        tool(&["qemu-io", "-f", "qcow2", "-c", "write -P 105 0 1M", &file]);
        let content = std::fs::read(file).unwrap();
        let new = json!({ "name": "small", "file": "small.qcow2", "pool": "local", "length": content.len() });
        let (status, image) = self.ask("POST", "/images", new).unwrap();
        assert_eq!(status, 201, "{image}");
        let id = image["id"].as_str().unwrap().to_owned();
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str())];
        let path = format!("/api/v1/images/{id}/content?at=0");
        let brought = self.browser.request("PUT", &path, &headers, &content).unwrap();
        assert_eq!(brought.status, 200, "{}", brought.text());
        self.does("POST", &format!("/images/{id}/finish"), Value::Null);
        id
    }

    fn disk(&mut self, host: &str, serial: &str) -> Value {
        let disks = self.get(&format!("/cluster/hosts/{host}/disks"));
        let items = disks["items"].as_array().unwrap();
        items.iter().find(|disk| disk["serial"] == serial).cloned().unwrap_or(Value::Null)
    }
}

/// Where a disk of a machine is.
fn device(machine: &mut Machine, vm: &str, disk: &str) -> String {
    let found =
        machine.run(&format!("virsh domblklist --inactive {vm} | awk '/{disk}/ {{ print $2 }}'")).ok();
    found.trim().to_owned()
}

/// Writes a letter at the beginning of a disk.
fn write(machine: &mut Machine, device: &str, letter: char) {
    let pattern =
        format!("head -c 1M /dev/zero | tr '\\0' {letter} | dd of={device} bs=1M oflag=direct status=none");
    machine.run(&pattern).ok();
}

fn read(machine: &mut Machine, device: &str) -> String {
    machine.run(&format!("dd if={device} bs=4k count=1 iflag=direct status=none | head -c 1")).ok()
}

/// What there is in the pool but what all share.
fn volumes(machine: &mut Machine) -> Vec<String> {
    let listed = machine.run("lvs --noheadings -o lv_name -S 'vg_name=~^quantix-' | tr -d ' ' | sort").ok();
    listed
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "shared")
        .map(str::to_owned)
        .collect()
}

/// A further disk goes into a pool, on which something was, and whatever ends meanwhile.
fn grows(machine: &mut Machine, browser: &mut Browser, api: &mut Api, host: &str, pool: &str) {
    machine.add_disk(1, "lab-2", 4);
    let disk = wait_until("the disk to be there", SOON, || {
        let disk = api.disk(host, "lab-2");
        (disk["usage"] == "free").then_some(disk)
    });
    let (id, path) = (disk["id"].as_str().unwrap(), disk["path"].as_str().unwrap());
    machine.run(&format!("mkfs.xfs -q {path} && udevadm settle")).ok();
    let (at, disks) = (format!("/pools/{pool}/disks"), json!({ "disks": [id] }));
    let (is_done, why) = api.task("POST", &at, disks);
    assert!(!is_done && why.contains("xfs"), "{why}");
    let made_of = |api: &mut Api| api.get(&format!("/pools/{pool}"))["disks"].as_array().unwrap().len();
    assert_eq!(made_of(api), 1);
    machine.run(&format!("blkid {path}")).ok();

    // Whoever ends in the middle: it is in the pool, or it is as it was and can be taken the next time.
    let ends = [(1500, "quantix-disks"), (500, "quantixd"), (3000, "quantix-disks"), (800, "quantix-disks")];
    for (at_ms, victim) in ends.into_iter().take(count(1, 4)) {
        if made_of(api) > 1 {
            break;
        }
        let (status, task) = api.ask("POST", &at, json!({ "disks": [id], "erase": true })).unwrap();
        assert_eq!(status, 202, "{task}");
        std::thread::sleep(Duration::from_millis(at_ms));
        machine.run(&format!("systemctl kill -s KILL {victim}.service || true")).ok();
        let (is_done, why) = api.ended(&task["id"].to_string());
        note(format!("{victim} after {at_ms} ms: {}", if is_done { "the pool has grown" } else { &why }));
        let of = made_of(api);
        let group = machine.run(&format!("pvs --noheadings -o vg_name {path} 2>/dev/null || true")).ok();
        note(format!("The pool is said to be made of {of}, and {path} is of {}.", group.trim()));
        assert_eq!(of == 2, group.contains(pool), "{of}: {group}");
        assert!(of == 2 || !is_done);
    }
    if made_of(api) == 1 {
        let shown = browser.get(&format!("/storage/pools/{pool}/disks")).text();
        assert!(shown.contains(id) && shown.contains("Add the disks"), "{shown}");
        let form = [("disk", id), ("erase", "true")];
        let added = browser.post(&format!("/storage/pools/{pool}/disks"), &form);
        let (is_done, why) = api.ended(added.location().rsplit('/').next().unwrap());
        assert!(is_done, "{why}");
    }
    wait_until("the pool to have grown", SOON, || {
        let there = api.get(&format!("/pools/{pool}"))["hosts"][0].clone();
        (there["capacity"].as_u64()? > 7 << 30).then_some(())
    });
    assert_eq!(api.disk(host, "lab-2")["usage"], "in-use");
    // Whoever asks for it again changes nothing.
    api.does("POST", &at, json!({ "disks": [id], "erase": true }));
    assert_eq!(made_of(api), 2);
}

/// A disk goes into another pool and back, with its machine off and on, and whatever ends meanwhile.
fn moves(machine: &mut Machine, browser: &mut Browser, api: &mut Api, thin: &str, vm: &str) {
    let spec = api.get(&format!("/vms/{vm}"))["spec"].clone();
    let volume = spec["disks"][1]["volume"].as_str().unwrap().to_owned();
    let path = format!("/volumes/{volume}/move");
    let is_in = |api: &mut Api| api.get(&format!("/volumes/{volume}"))["pool"].as_str().unwrap().to_owned();
    let all = |machine: &mut Machine| {
        let files = machine.run("ls /var/lib/quantix-pools/local/volumes").ok();
        files.lines().filter(|line| !line.is_empty()).count() + volumes(machine).len()
    };
    // As its guest does.
    let guest_writes = |machine: &mut Machine, letter: u8| {
        let disk = "/machine/peripheral/virtio-disk1/virtio-backend";
        let write = format!("qemu-io -d {disk} \\\"write -P {letter} 2M 4k\\\"");
        let told = machine.run(&format!("virsh qemu-monitor-command {vm} --hmp \"{write}\"")).ok();
        assert_eq!(told.trim(), "");
    };
    let holds = |machine: &mut Machine, letter: u8| {
        let device = device(machine, vm, "vdb");
        assert_eq!(read(machine, &device), "i");
        let read = format!("dd if={device} bs=4k skip=512 count=1 iflag=direct status=none | head -c 1");
        assert_eq!(machine.run(&read).ok().as_bytes(), [letter]);
    };
    let there = all(machine);
    assert_eq!(api.ask("POST", &path, json!({ "pool": thin })).unwrap().0, 422);

    let page = format!("/storage/volumes/{volume}");
    assert!(browser.get(&page).text().contains("Another pool"));
    let refused = browser.post(&format!("{page}/move"), &[("pool", thin)]);
    assert!(
        refused.status == 422 && refused.text().contains("in the pool fast already"),
        "{}",
        refused.text()
    );
    let begin = Instant::now();
    assert_eq!(browser.post(&format!("{page}/move"), &[("pool", "local")]).status, 303);
    wait_until("the disk to be moved", SOON, || {
        (is_in(api) == "local" && api.get(&format!("/vms/{vm}"))["task"].is_null()).then_some(())
    });
    note(format!("Moved while off in {} ms.", begin.elapsed().as_millis()));
    assert_eq!((is_in(api).as_str(), all(machine)), ("local", there));
    let file = device(machine, vm, "vdb");
    assert!(file.starts_with("/var/lib/quantix-pools/local/volumes/"), "{file}");
    machine.run(&format!("qemu-img check -q {file}")).ok();

    // Its guest goes on writing until it has gone over, and after.
    api.does("POST", &format!("/vms/{vm}/power"), json!({ "action": "start" }));
    let (status, task) = api.ask("POST", &path, json!({ "pool": thin })).unwrap();
    assert_eq!(status, 202, "{task}");
    let mut letter = b'a';
    let begin = Instant::now();
    loop {
        let (_, now) = api.ask("GET", &format!("/tasks/{}", task["id"]), Value::Null).unwrap();
        letter = if letter == b'z' { b'a' } else { letter + 1 };
        guest_writes(machine, letter);
        if !now["ended_at"].is_null() {
            assert_eq!(now["state"], "done", "{now}");
            break;
        }
    }
    note(format!("Moved while on in {} ms.", begin.elapsed().as_millis()));
    assert_eq!((is_in(api).as_str(), all(machine)), (thin, there));
    assert_eq!(machine.run(&format!("virsh domstate {vm}")).ok().trim(), "running");
    let seen = machine.run(&format!("virsh domblklist {vm} | awk '/vdb/ {{ print $2 }}'")).ok();
    assert_eq!(seen, device(machine, vm, "vdb"));
    assert!(seen.starts_with("/dev/quantix-thin-"), "{seen}");

    // Whatever ends in the middle: it is in one of the two, whole, and nothing is left over.
    let ends = [(700, "quantixd"), (300, "quantix-disks"), (0, "quantixd"), (1500, "quantixd")];
    for (at, victim) in ends.into_iter().take(count(1, 4)) {
        let before = is_in(api);
        let to = if before == thin { "local" } else { thin };
        let (status, task) = api.ask("POST", &path, json!({ "pool": to })).unwrap();
        assert_eq!(status, 202, "{task}");
        std::thread::sleep(Duration::from_millis(at));
        machine.run(&format!("systemctl kill -s KILL {victim}.service || true")).ok();
        letter = if letter == b'z' { b'a' } else { letter + 1 };
        guest_writes(machine, letter);
        let (is_done, why) = api.ended(&task["id"].to_string());
        note(format!("{victim} after {at} ms: {}", if is_done { "moved" } else { &why }));
        assert_eq!(is_in(api), if is_done { to } else { before.as_str() });
        wait_until("nothing to be left over", SOON, || (all(machine) == there).then_some(()));
    }
    // Somebody thinks better of it.
    let to = if is_in(api) == thin { "local" } else { thin };
    let (_, task) = api.ask("POST", &path, json!({ "pool": to })).unwrap();
    api.ask("POST", &format!("/tasks/{}/cancel", task["id"]), Value::Null);
    api.ended(&task["id"].to_string());
    guest_writes(machine, b'!');
    wait_until("nothing to be left over", SOON, || (all(machine) == there).then_some(()));
    api.does("POST", &format!("/vms/{vm}/power"), json!({ "action": "force-stop" }));
    if is_in(api) == thin {
        holds(machine, b'!');
        api.does("POST", &path, json!({ "pool": "local" }));
    }
    api.does("POST", &path, json!({ "pool": thin }));
    holds(machine, b'!');
    assert_eq!(all(machine), there);
}

/// The host starts anew without one of the two disks: people are told. With it the pool comes back by itself.
fn starts_anew_without(machine: &mut Machine, pool: &str, vm: &str, head: &str) {
    let begin = volumes(machine);
    machine.remove_disk("lab-1");
    machine.reboot();
    pages::wait_first_page(machine, BOOT_BOUND);
    machine.wait_ready(BOOT_BOUND);
    let mut api = Api::sign_in(machine.https());
    wait_until("the pool to be missed", SOON, || {
        let there = api.get(&format!("/pools/{pool}"))["hosts"][0].clone();
        (there["state"] == "missing").then_some(())
    });
    let told = api.get("/events").to_string();
    assert!(told.contains("The pool fast is missing: "), "{told}");
    let (is_done, why) = api.task("POST", &format!("/vms/{vm}/power"), json!({ "action": "start" }));
    assert!(!is_done && why.contains("The pool fast cannot be used."), "{why}");
    machine.add_disk(0, "lab-1", 4);
    let back = poll_until(SOON, || {
        let there = api.get(&format!("/pools/{pool}"))["hosts"][0].clone();
        (there["state"] == "ready").then_some(())
    });
    if back.is_none() {
        fail(api.get(&format!("/pools/{pool}")));
    }
    assert_eq!(volumes(machine), begin);
    assert_eq!(read(machine, head), "a");
    // Whoever starts first after the host does not wait for anybody's look.
    machine.run("vgchange -an $(vgs --noheadings -o vg_name)").ok();
    api.does("POST", &format!("/vms/{vm}/power"), json!({ "action": "start" }));
    api.does("POST", &format!("/vms/{vm}/power"), json!({ "action": "force-stop" }));
}

#[test]
fn a_pool_of_thin_volumes_is_made_keeps_what_it_should_and_goes() {
    let mut machine = SavedMachine::fresh().restore();
    let mut browser = pages::sign_in_first_time(&mut machine, PASSWORD);
    let mut api = Api::sign_in(machine.https());
    let host = api.get("/cluster")["this_host"].as_str().unwrap().to_owned();
    // The disk that the host runs from is not for anybody.
    let disks = api.get(&format!("/cluster/hosts/{host}/disks"));
    note(&disks);
    let own = disks["items"].as_array().unwrap();
    assert!(own.len() == 1 && own[0]["usage"] == "in-use", "{disks}");
    let own = own[0]["id"].clone();
    assert!(browser.get("/storage/pools/new").text().contains("No disk is free"));

    machine.add_disk(0, "lab-1", 4);
    let disk = wait_until("the disk to be there", SOON, || {
        let disk = api.disk(&host, "lab-1");
        (disk["usage"] == "free").then_some(disk)
    });
    let id = disk["id"].as_str().unwrap().to_owned();
    // Somebody's file system is on it.
    let path = disk["path"].as_str().unwrap().to_owned();
    machine.run(&format!("mkfs.xfs -q {path} && udevadm settle")).ok();
    let new = |disk: &Value, erase| json!({ "name": "fast", "host": host, "disks": [disk], "erase": erase });
    let (is_done, why) = api.task("POST", "/pools", new(&json!(id), false));
    assert!(!is_done && why.contains("xfs"), "{why}");
    let (is_done, why) = api.task("POST", "/pools", new(&own, true));
    assert!(!is_done && why.contains("cannot be taken"), "{why}");
    machine.run(&format!("blkid {path}")).ok();
    // What could not be made is nowhere.
    assert_eq!(api.get("/pools")["items"].as_array().unwrap().len(), 1);
    let shown = browser.get("/storage/pools/new").text();
    assert!(shown.contains("Something is on it") && shown.contains(&id), "{shown}");
    let made = browser
        .post("/storage/pools/new", &[("host", &host), ("name", "fast"), ("disk", &id), ("erase", "true")]);
    let task = made.location().rsplit('/').next().unwrap().to_owned();
    let (is_done, pool) = api.ended(&task);
    assert!(is_done, "{pool}");
    let pool = pool.trim_start_matches("pool/").to_owned();
    let there = wait_until("the pool to be seen", SOON, || {
        let there = api.get(&format!("/pools/{pool}"))["hosts"][0].clone();
        (there["state"] == "ready").then_some(there)
    });
    note(&there);
    assert!(there["capacity"].as_u64().unwrap() > 3 << 30);
    assert_eq!(api.disk(&host, "lab-1")["usage"], "in-use");
    // It is not made of that disk twice, and not removed by another name.
    assert_eq!(api.ask("POST", "/pools", new(&json!(id), true)).unwrap().0, 422);
    assert_eq!(api.ask("DELETE", &format!("/pools/{pool}"), json!({ "name": "slow" })).unwrap().0, 422);

    // A machine with a disk in it: what was there at a snapshot is there again.
    let vm = json!({
        "spec": { "name": "web-01", "guest": "linux", "cpu": { "sockets": 1, "cores": 1 }, "memory": { "mib": 128 }, "firmware": "bios" },
        "disks": [{ "pool": pool, "bytes": 64 * MIB + 512 }],
    });
    let vm = api.does("POST", "/vms", vm);
    let head = device(&mut machine, &vm, "vda");
    assert!(head.starts_with("/dev/quantix-thin-"), "{head}");
    assert_eq!(machine.run(&format!("blockdev --getsize64 {head}")).ok().trim(), (65 * MIB).to_string());
    write(&mut machine, &head, 'a');
    api.does("POST", &format!("/vms/{vm}/snapshots"), json!({ "name": "first" }));
    write(&mut machine, &head, 'b');
    assert_eq!(volumes(&mut machine).len(), 2);
    let first = api.get(&format!("/vms/{vm}/snapshots"))["items"][0]["id"].as_str().unwrap().to_owned();
    api.does("POST", &format!("/vms/{vm}/snapshots/{first}/revert"), json!({}));
    let head = device(&mut machine, &vm, "vda");
    assert_eq!(read(&mut machine, &head), "a");
    assert_eq!(volumes(&mut machine).len(), 2);
    grows(&mut machine, &mut browser, &mut api, &host, &pool);
    assert_eq!(read(&mut machine, &head), "a");

    // While it is on: with its memory and without, and it goes on. A clone has what it had.
    api.does("POST", &format!("/vms/{vm}/power"), json!({ "action": "start" }));
    let begin = Instant::now();
    api.does("POST", &format!("/vms/{vm}/snapshots"), json!({ "name": "second", "memory": true }));
    note(format!("A snapshot with 128 MiB of memory took {} ms.", begin.elapsed().as_millis()));
    let begin = Instant::now();
    api.does("POST", &format!("/vms/{vm}/snapshots"), json!({ "name": "third" }));
    note(format!("One without took {} ms.", begin.elapsed().as_millis()));
    assert_eq!(machine.run(&format!("virsh domstate {vm}")).ok().trim(), "running");
    let clone = api.does("POST", &format!("/vms/{vm}/clone"), json!({ "name": "web-02", "linked": true }));
    let cloned = device(&mut machine, &clone, "vda");
    assert_eq!(read(&mut machine, &cloned), "a");
    wait_until("what was made for the clone alone to be gone", SOON, || {
        (api.get(&format!("/vms/{vm}/snapshots"))["items"].as_array().unwrap().len() == 3).then_some(())
    });
    wait_until("the task to end", SOON, || api.get(&format!("/vms/{vm}"))["task"].is_null().then_some(()));
    assert_eq!(volumes(&mut machine).len(), 5);
    // Its guest sees at once that its disk has grown.
    let volume = api.get(&format!("/vms/{vm}"))["spec"]["disks"][0]["volume"].as_str().unwrap().to_owned();
    api.does("POST", &format!("/volumes/{volume}/grow"), json!({ "bytes": 100 * MIB }));
    let seen = machine.run(&format!("virsh domblkinfo {vm} vda | awk '/Capacity/ {{ print $2 }}'")).ok();
    assert_eq!(seen.trim(), (100 * MIB).to_string());
    let second = api.get(&format!("/vms/{vm}/snapshots"))["items"][1]["id"].as_str().unwrap().to_owned();
    write(&mut machine, &cloned, 'c');
    api.does("POST", &format!("/vms/{vm}/snapshots/{second}/revert"), json!({}));
    assert_eq!(machine.run(&format!("virsh domstate {vm}")).ok().trim(), "running");
    let head = device(&mut machine, &vm, "vda");
    assert_eq!((read(&mut machine, &head), read(&mut machine, &cloned)), ("a".to_owned(), "c".to_owned()));

    // Whatever ends in the middle of a snapshot: afterwards there is one or there is none, and the machine goes on.
    let ends = [
        (200, "quantix-disks"),
        (300, "quantixd"),
        (0, "quantixd"),
        (900, "quantixd"),
        (600, "quantix-disks"),
    ];
    for (at, victim) in ends.into_iter().take(count(1, 5)) {
        let name = format!("{victim} after {at}");
        let body = json!({ "name": name });
        let (status, task) = api.ask("POST", &format!("/vms/{vm}/snapshots"), body).unwrap();
        assert_eq!(status, 202, "{task}");
        std::thread::sleep(Duration::from_millis(at));
        machine.run(&format!("systemctl kill -s KILL {victim}.service || true")).ok();
        let (is_done, why) = api.ended(&task["id"].to_string());
        note(format!("{name}: {}", if is_done { "made" } else { &why }));
        wait_until("the machine to go on", SOON, || {
            (machine.run(&format!("virsh domstate {vm}")).ok().trim() == "running").then_some(())
        });
        let held = api.get(&format!("/vms/{vm}/snapshots"))["items"].as_array().unwrap().len();
        wait_until("nothing to be left over", SOON, || {
            (volumes(&mut machine).len() == held + 2).then_some(())
        });
    }

    // Its kernel was told to let it wait, and whoever told it is gone: it goes on.
    let name = machine.run(&format!("dmsetup info -c --noheadings -o name {head}")).ok();
    let name = name.trim();
    machine.run(&format!("dmsetup suspend {name}")).ok();
    wait_until("a volume that is stuck to go on", SOON, || {
        let state = machine.run(&format!("dmsetup info -c --noheadings -o suspended {name}")).ok();
        (state.trim() == "Active").then_some(())
    });

    // A disk begins as a copy of an image, which lies elsewhere, and takes only what is in that.
    let image = api.image(&machine, 64);
    let volumes_before = volumes(&mut machine).len();
    let linked = json!({ "pool": pool, "bytes": 64 * MIB, "image": image, "linked": true });
    assert_eq!(api.ask("POST", &format!("/vms/{clone}/disks"), linked).unwrap().0, 409);
    api.does(
        "POST",
        &format!("/vms/{clone}/disks"),
        json!({ "pool": pool, "bytes": 80 * MIB, "image": image }),
    );
    let copied = device(&mut machine, &clone, "vdb");
    assert_eq!(read(&mut machine, &copied), "i");
    let used = machine.run(&format!("lvs --noheadings -o data_percent {copied} | tr -d ' '")).ok();
    note(format!("A copy of 1 MiB in a volume of 80 MiB takes {} per cent.", used.trim()));
    assert!(used.trim().parse::<f64>().unwrap() < 5.0, "{used}");
    assert_eq!(volumes(&mut machine).len(), volumes_before + 1);
    moves(&mut machine, &mut browser, &mut api, &pool, &clone);
    // Of the other machine snapshots are kept.
    let kept = api.ask("POST", &format!("/volumes/{volume}/move"), json!({ "pool": "local" })).unwrap();
    assert!(kept.0 == 409 && kept.1.to_string().contains("snapshots"), "{kept:?}");

    api.does("POST", &format!("/vms/{vm}/power"), json!({ "action": "force-stop" }));
    if count(false, true) {
        starts_anew_without(&mut machine, &pool, &vm, &head);
        api = Api::sign_in(machine.https());
    }
    let (status, told) = api.ask("DELETE", &format!("/pools/{pool}"), json!({ "name": "fast" })).unwrap();
    assert!(status == 409 && told.to_string().contains("3 volumes"), "{told}");

    // With its machines all of it goes, and the disk is as new.
    for (vm, name) in [(&vm, "web-01"), (&clone, "web-02")] {
        api.does("DELETE", &format!("/vms/{vm}"), json!({ "name": name }));
    }
    assert_eq!(volumes(&mut machine), Vec::<String>::new());
    api.does("DELETE", &format!("/pools/{pool}"), json!({ "name": "fast" }));
    for serial in ["lab-1", "lab-2"] {
        assert_eq!(api.disk(&host, serial)["usage"], "free", "{serial}");
    }
    assert_eq!(api.get("/pools")["items"].as_array().unwrap().len(), 1);
}
