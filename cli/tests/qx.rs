//! qx as a person runs it, against a real host: agent and page server.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "programs are run, and what goes wrong ends the test"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PASSWORD: &str = "correct horse battery";

fn beside(program: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_qx")).with_file_name(program)
}

fn start_agent(dir: &Path, name: &str) -> Child {
    Command::new(beside("quantixd"))
        .args(["--name", name, "--hosts", "127.0.0.1:0"])
        .arg("--state-dir")
        .arg(dir.join("state"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .spawn()
        .unwrap()
}

struct Host {
    agent: Child,
    pages: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Host {
    fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        assert!(beside("quantix-hostui").exists(), "build first: cargo build -p quantixd -p quantix-hostui");
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        std::fs::create_dir(&state).unwrap();
        let agent = start_agent(dir.path(), name);
        until(|| run.join("api.sock").exists());
        let mut pages = Command::new(beside("quantix-hostui"))
            .args(["--https", "127.0.0.1:0", "--agent"])
            .arg(run.join("api.sock"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(pages.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port: u16 = said.filter_map(|line| line.rsplit_once("on port ")?.1.parse().ok()).next().unwrap();
        Self { agent, pages, address: format!("127.0.0.1:{port}"), dir }
    }

    fn qx(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qx"))
            .args(arguments)
            .env("XDG_STATE_HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// One that goes on by itself.
    fn begun(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_qx"))
            .args(arguments)
            .env("XDG_STATE_HOME", self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.qx(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.qx(arguments, input);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// A file with something in it, by its path.
    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// The first password, as the console's program asks for it.
    fn first_password(&self) -> String {
        let socket = self.dir.path().join("run/api.sock");
        let mut found = None;
        until(|| {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            stream
                .write_all(b"GET /api/v1/console HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .unwrap();
            let answer = std::io::read_to_string(stream).unwrap();
            found = answer
                .split("\"first_password\":\"")
                .nth(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    /// Signed in with a password of one's own.
    fn settled(name: &str) -> Self {
        let host = Self::start(name);
        let first = host.first_password();
        let refusal = host.refused(&["sign-in", &host.address], &format!("{first}\n"));
        let fingerprint = refusal.trim().rsplit(' ').next().unwrap().to_owned();
        let sign_in = ["sign-in", &host.address, "--fingerprint", &fingerprint, "--new-password"];
        host.done(&sign_in, &format!("{first}\n{PASSWORD}\n"));
        host
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.pages] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_person_signs_in_looks_makes_a_token_and_signs_out() {
    let host = Host::settled("qx-01");
    let kept = host.dir.path().join("quantix/session.json");
    assert_eq!(std::fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);

    let status = host.done(&["cluster", "status"], "");
    assert!(status.contains("qx-01") && status.contains("vDC role"), "{status}");
    let json = host.done(&["--output", "json", "cluster", "status"], "");
    assert!(json.contains("\"writable\": true"), "{json}");

    let made = host.done(&["cluster", "token", "make", "Second host", "--uses", "2"], "");
    assert!(made.starts_with("QUANTIX-"), "{made}");
    let list = host.done(&["cluster", "token", "list"], "");
    assert!(list.contains("Second host") && !list.contains("QUANTIX-"), "{list}");
    let id = list.lines().nth(1).unwrap().split(' ').next().unwrap();
    host.done(&["cluster", "token", "revoke", id], "");
    assert!(host.done(&["cluster", "token", "list"], "").contains("taken back"));

    let audit = host.done(&["audit", "--text", "Second host"], "");
    assert!(audit.contains("make join token") && !audit.contains("sign in"), "{audit}");
    let json = host.done(&["-o", "json", "audit", "--limit", "1"], "");
    assert!(json.contains("revoke join token") && json.contains("\"next\": "), "{json}");
    assert!(host.refused(&["audit", "--limit", "0"], "").contains("1 to 1000"));

    host.done(&["sign-out"], "");
    assert!(host.refused(&["cluster", "status"], "").contains("nobody is signed in"));
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_done_unconfirmed() {
    let host = Host::settled("qx-01");
    let wrong = host.refused(&["sign-in", &host.address, "--fingerprint", "AA:BB"], "x\n");
    assert!(wrong.contains("another certificate"), "{wrong}");
    assert!(host.refused(&["cluster", "leave"], "").contains("--confirm qx-01"));
    assert!(host.refused(&["cluster", "leave", "--confirm", "qx-02"], "").contains("nothing was done"));
    assert!(host.refused(&["cluster", "leave", "--confirm", "qx-01"], "").contains("cluster of its own"));
    assert!(host.refused(&["cluster", "remove", "qx-09"], "").contains("no host qx-09"));
    assert!(host.refused(&["cluster", "voters", "2"], "").contains("One, three or five"));
    assert!(
        host.refused(&["cluster", "recover", "--confirm", "qx-01"], "").contains("nothing to recover from")
    );
    let join = host.refused(&["cluster", "join", "127.0.0.1:1"], "QUANTIX-0000-0000-0000-0000\n");
    assert!(join.contains("No member of a cluster answers"), "{join}");
    assert!(host.done(&["cluster", "voters", "auto"], "").contains("Saved"));
}

#[test]
fn roles_are_made_and_given_to_groups_and_programs_sign_in_with_tokens() {
    let host = Host::settled("qx-01");
    assert!(host.done(&["me", "show"], "").contains("admin: administrator"));
    host.done(&["role", "add", "night", "see", "operate-hosts", "--purpose", "Who is awake"], "");
    assert!(host.done(&["role", "list"], "").contains("see, operate-hosts"));
    assert!(host.done(&["role", "show", "night"], "").contains("Who is awake"));
    assert!(host.refused(&["role", "add", "day", "everything"], "").contains("known rights are see"));
    host.done(&["user", "add", "ada"], "");
    host.done(&["group", "add", "watch"], "");
    host.done(&["group", "put", "watch", "ada"], "");
    host.done(&["access", "give", "night", "group/watch"], "");
    assert!(host.done(&["user", "list"], "").contains("viewer, night"));
    let access = host.done(&["-o", "json", "access", "list"], "");
    let access: serde_json::Value = serde_json::from_str(&access).unwrap();
    let id =
        access["items"].as_array().unwrap().iter().find(|one| one["who"] == "group/watch").unwrap()["id"]
            .to_string();
    assert!(host.refused(&["role", "remove", "night"], "").contains("is given to"));
    host.done(&["access", "take", &id], "");
    host.done(&["role", "remove", "night"], "");
    host.done(&["group", "remove", "watch", "--confirm", "watch"], "");
    assert!(host.done(&["me", "sessions"], "").contains("this one"));
    assert!(host.done(&["audit", "--export"], "").lines().count() > 5);

    let made = host.done(&["token", "make", "a test"], "");
    let token = made.lines().next().unwrap().to_owned();
    assert!(host.done(&["token", "list"], "").contains("a test"));
    let again = host.done(&["sign-in", &host.address, "--token"], &format!("{token}\n"));
    assert!(again.contains("with a token of admin"), "{again}");
    assert!(host.done(&["cluster", "status"], "").contains("vDC role"));
    assert!(host.refused(&["user", "list"], "").contains("You may not"));
    assert!(host.refused(&["token", "list"], "").contains("Sign in and do it yourself"));
}

#[test]
fn users_are_looked_after() {
    let host = Host::settled("qx-01");
    let made = host.done(&["user", "add", "ada"], "");
    let password = made.lines().next().unwrap().to_owned();
    assert!(host.done(&["user", "list"], "").contains("has not chosen a password"));
    assert!(host.refused(&["user", "add", "ada"], "").contains("already"));
    assert!(host.refused(&["user", "role", "admin", "viewer"], "").contains("last administrator"));
    host.done(&["user", "role", "ada", "administrator"], "");
    host.done(&["user", "lock", "ada"], "");
    assert!(host.done(&["user", "list"], "").contains("locked"));
    host.done(&["user", "unlock", "ada"], "");
    assert_ne!(host.done(&["user", "reset-password", "ada"], "").lines().next(), Some(password.as_str()));
    host.done(&["user", "sign-out", "ada"], "");
    assert!(host.refused(&["user", "remove", "ada"], "").contains("--confirm ada"));
    host.done(&["user", "remove", "ada", "--confirm", "ada"], "");
    let json = host.done(&["-o", "json", "user", "list"], "");
    assert!(!json.contains("ada") && json.contains("\"role\": \"administrator\""), "{json}");
}

#[test]
fn a_backup_is_written_and_a_host_begins_again_from_it() {
    let mut host = Host::settled("qx-01");
    let file = host.dir.path().join("kept.age");
    let path = file.to_str().unwrap();
    assert!(host.refused(&["cluster", "backup", path], "short\n").contains("at least 12 characters"));
    assert!(!file.exists());
    let passphrase = "correct horse battery staple\n";
    host.done(&["cluster", "backup", path], passphrase);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // What is there already is not written over.
    assert!(host.refused(&["cluster", "backup", path], passphrase).contains("cannot be made"));

    host.done(&["cluster", "token", "make", "After the backup"], "");
    let restore = ["cluster", "restore", path, "--confirm", "qx-01"];
    assert!(host.refused(&restore, "wrong horse battery staple\n").contains("passphrase is wrong"));
    assert!(host.done(&["cluster", "token", "list"], "").contains("After the backup"));
    host.done(&restore, passphrase);
    assert!(host.agent.wait().unwrap().success());
    host.agent = start_agent(host.dir.path(), "qx-01");
    // The session was opened before the backup was made, so it is in it.
    until(|| host.qx(&["cluster", "token", "list"], "").status.success());
    assert!(!host.done(&["cluster", "token", "list"], "").contains("After the backup"));
}

#[test]
fn completion_knows_the_commands() {
    let output = Command::new(env!("CARGO_BIN_EXE_qx")).args(["completion", "bash"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("move-vdc"));
}

#[test]
fn tasks_are_waited_for_listed_and_tried_again() {
    let host = Host::settled("qx-one");
    let file = host.dir.path().join("bundle.tar.zst");
    let path = file.to_str().unwrap();
    let made = host.qx(&["host", "support-bundle", "qx-one", "--file", path], "");
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{told}");
    // Each step is said as it is done.
    assert!(told.contains("Support bundle of qx-one"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    // What is there already is not written over.
    assert!(host.refused(&["task", "download", "1", path], "").contains("cannot be made"));
    let shown = host.done(&["task", "show", "1"], "");
    assert!(shown.contains("Collect the journal") && shown.contains("done. The file is there"), "{shown}");
    assert!(host.refused(&["task", "cancel", "1"], "").contains("It has ended already"));

    // This machine is not ours to restart, which is the end of it and says so.
    let unconfirmed = host.refused(&["host", "restart", "qx-one"], "");
    assert!(unconfirmed.contains("--confirm qx-one"), "{unconfirmed}");
    let failed = host.refused(&["host", "restart", "qx-one", "--confirm", "qx-one"], "");
    assert!(failed.contains("does not run Quantix-OS"), "{failed}");
    assert!(host.refused(&["task", "retry", "2"], "").contains("does not run Quantix-OS"));
    assert!(host.refused(&["task", "retry", "2"], "").contains("already"));
    assert!(host.refused(&["task", "wait", "3"], "").contains("does not run Quantix-OS"));
    let begun = host.done(&["host", "shut-down", "qx-one", "--confirm", "qx-one", "--no-wait"], "");
    assert!(begun.contains("qx task show 4"), "{begun}");
    assert!(
        host.refused(&["host", "restart-services", "qx-one", "sshd"], "").contains("Name one or several")
    );

    let failed = host.done(&["task", "list", "--state", "failed", "--output", "json"], "");
    let failed: serde_json::Value = serde_json::from_str(&failed).unwrap();
    assert!(failed["items"].as_array().unwrap().iter().all(|task| task["state"] == "failed"), "{failed}");
    assert!(host.refused(&["task", "list", "--state", "strange"], "").contains("A state is one of"));
    assert!(host.refused(&["task", "show", "77"], "").contains("There is no such task"));

    // What failed is an alarm, until somebody says that it is over.
    let open = host.done(&["event", "list", "--open", "--component", "tasks"], "");
    assert!(open.contains("Restart qx-one failed"), "{open}");
    let number = open.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(host.done(&["event", "acknowledge", &number], "").contains("admin looks after it"));
    assert!(host.done(&["event", "clear", &number], "").contains("It is over."));
}

#[test]
fn a_host_says_what_it_is_made_of() {
    let host = Host::settled("qx-01");
    let shown = host.done(&["host", "show", "qx-01"], "");
    assert!(shown.contains("processor") && shown.contains("Open vSwitch"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&host.done(&["--output", "json", "host", "show", "qx-01"], "")).unwrap();
    assert!(json["memory"]["total_bytes"].as_u64().unwrap() > 0, "{json}");
}

#[test]
fn a_receiver_of_syslog_and_a_provider_are_set_turned_off_and_forgotten() {
    let host = Host::settled("qx-01");
    assert!(host.done(&["settings", "syslog", "show"], "").contains("No receiver is set"));
    assert!(host.refused(&["settings", "syslog", "set", "logs.example"], "").contains("certificate"));
    let certificate = host.dir.path().join("state/tls/cert.pem").display().to_string();
    host.done(&["settings", "syslog", "set", "127.0.0.1:1", "--certificate", &certificate, "--off"], "");
    assert!(host.done(&["settings", "syslog", "show"], "").contains("would be 127.0.0.1:1"));
    host.refused(&["settings", "syslog", "test"], "");
    host.done(&["settings", "syslog", "forget"], "");
    assert!(host.done(&["settings", "syslog", "show"], "").contains("No receiver is set"));

    assert!(host.done(&["settings", "sign-in", "show"], "").contains("No identity provider is set"));
    let set = ["settings", "sign-in", "set", "--issuer", "https://127.0.0.1:1", "--client-secret"];
    host.done(&[&set[..], &["--address", "https://here.example"]].concat(), "a secret\n");
    let shown = host.done(&["settings", "sign-in", "show"], "");
    assert!(shown.contains("https://127.0.0.1:1") && !shown.contains("a secret"), "{shown}");
    host.refused(&["settings", "sign-in", "test"], "");
    host.done(&["settings", "sign-in", "off"], "");
    assert!(host.done(&["settings", "sign-in", "show"], "").contains("no"));
    host.done(&["settings", "sign-in", "forget"], "");
    assert!(host.done(&["settings", "sign-in", "show"], "").contains("No identity provider is set"));
}

#[test]
fn machines_are_made_switched_put_into_folders_and_removed() {
    let host = Host::settled("qx-1");
    let daemon = quantix_libvirt::Daemon::start();
    // Where the agent looks for it.
    std::os::unix::fs::symlink(daemon.dir.path().join("run/libvirt"), host.dir.path().join("libvirt"))
        .unwrap();
    host.done(&["folder", "make", "Production"], "");
    host.done(&["folder", "make", "Production/Web"], "");
    until(|| host.done(&["pool", "list"], "").contains("ready"));
    let make =
        ["vm", "make", "web-01", "--cpus", "1", "--memory", "64", "--label", "team=web", "--disk", "1G"];
    let could = host.done(&[&make[..], &["--check"]].concat(), "");
    assert!(could.contains("It can be made like this."), "{could}");
    let refusal = host.refused(&["vm", "make", "a/b", "--check"], "");
    assert!(refusal.contains("A name is one line"), "{refusal}");
    assert!(!host.done(&["vm", "list"], "").contains("web-01"));
    let made = host.done(&[&make[..], &["--folder", "production/web", "--start"]].concat(), "");
    assert!(made.contains("web-01 is made."), "{made}");
    until(|| host.done(&["vm", "list", "--state", "running"], "").contains("web-01"));
    let counted = host.done(&["vm", "count"], "");
    let counted: Vec<_> = counted.split_whitespace().collect();
    assert_eq!(counted, "WHICH VMS all 1 on 1 off 0 attention 0 template 0".split(' ').collect::<Vec<_>>());
    assert!(host.done(&["vm", "list", "--state", "on"], "").contains("web-01"));
    assert!(!host.done(&["vm", "list", "--state", "attention"], "").contains("web-01"));
    let refusal = host.refused(&["vm", "remove", "web-01", "--confirm", "web-01"], "");
    assert!(refusal.contains("It is on. Shut it down or force it off first."), "{refusal}");
    host.done(&["vm", "change", "web-01", "--memory", "96", "--folder", "/"], "");
    until(|| host.done(&["vm", "show", "web-01"], "").contains("counts from its next start"));
    let off = host.done(&["vm", "force-stop", "web-01"], "");
    assert!(off.contains("web-01 is off."), "{off}");
    let shown: serde_json::Value =
        serde_json::from_str(&host.done(&["--output", "json", "vm", "show", "web-01"], "")).unwrap();
    assert_eq!((&shown["state"], &shown["spec"]["memory"]["mib"]), (&"stopped".into(), &96.into()));
    assert_eq!(shown["folder"], serde_json::Value::Null);
    host.done(&["folder", "move", "Production/Web", "/"], "");
    host.done(&["folder", "rename", "Web", "Pages"], "");
    host.done(&["folder", "remove", "Pages"], "");
    let refusal = host.refused(&["vm", "start", "web-02"], "");
    assert!(refusal.contains("there is no virtual machine web-02"), "{refusal}");
    // Its disks, and volumes by themselves.
    assert!(host.done(&["vm", "show", "web-01"], "").contains("web-01-disk-1, 1 GiB in local"));
    host.done(&["vm", "add-disk", "web-01", "2G"], "");
    host.done(&["volume", "make", "spare", "1G"], "");
    host.done(&["vm", "take-volume", "web-01", "spare"], "");
    host.done(&["vm", "let-go", "web-01", "web-01-disk-2"], "");
    host.done(&["volume", "grow", "spare", "3G"], "");
    host.done(&["volume", "rename", "spare", "data"], "");
    let refusal = host.refused(&["volume", "move", "data", "local"], "");
    assert!(refusal.contains("data is in the pool local already."), "{refusal}");
    assert!(host.done(&["pool", "files", "local"], "").contains("the volume data"));
    let shown_volume = host.done(&["volume", "show", "data"], "");
    assert!(shown_volume.contains("3 GiB") && shown_volume.contains("web-01"), "{shown_volume}");
    let refusal = host.refused(&["volume", "remove", "data", "--confirm", "data"], "");
    assert!(refusal.contains("web-01 has this volume"), "{refusal}");
    assert!(host.done(&["volume", "list", "--unused"], "").contains("web-01-disk-2"));
    host.done(&["volume", "remove", "web-01-disk-2", "--confirm", "web-01-disk-2"], "");
    // An image, and a machine whose disk begins as a copy of it.
    let file = host.file("debian-12.raw", &boot_sector(8 << 20));
    let sum = "--sha256=0000000000000000000000000000000000000000000000000000000000000000";
    let refusal = host.refused(&["image", "upload", &file, sum], "");
    assert!(refusal.contains("not the one that was meant"), "{refusal}");
    host.done(&["image", "upload", &file, "--name", "Debian 12"], "");
    let shown_image = host.done(&["image", "show", "debian 12"], "");
    assert!(shown_image.contains("8 MiB") && shown_image.contains("raw"), "{shown_image}");
    let changed = host.done(&["image", "change", "debian 12", "--os", "rocky", "--os-version", "9"], "");
    assert!(changed.contains("rocky 9"), "{changed}");
    assert!(
        host.refused(&["image", "change", "debian 12", "--os", "plan9"], "").contains("A system is one of")
    );
    host.done(&["vm", "make", "web-03", "--image", "debian 12"], "");
    assert!(host.done(&["vm", "show", "web-03"], "").contains("web-03-disk-1, 1 GiB in local"));
    host.done(&["image", "remove", "Debian 12", "--confirm", "Debian 12"], "");
    assert!(!host.done(&["image", "list"], "").contains("Debian 12"));
    host.done(&["vm", "remove", "web-03", "--confirm", "web-03"], "");
    // A machine that was exported elsewhere.
    let disk = |file: &str| {
        let what = format!("<rasd:HostResource>ovf:/file/{file}</rasd:HostResource>");
        format!("<Item><rasd:ResourceType>17</rasd:ResourceType>{what}</Item>")
    };
    let ovf = format!(
        "<Envelope><References><File ovf:id='a' ovf:href='a'/><File ovf:id='b' ovf:href='b'/></References>\
         <VirtualSystem ovf:id='shop'><VirtualHardwareSection>{}{}</VirtualHardwareSection></VirtualSystem></Envelope>",
        disk("a"),
        disk("b")
    );
    for (name, content) in
        [("shop.ovf", ovf.into_bytes()), ("a", boot_sector(1 << 20)), ("b", boot_sector(2 << 20))]
    {
        host.file(name, &content);
    }
    let (folder, ova) = (host.dir.path().display().to_string(), host.file("shop.ova", b""));
    let tar = ["--format=ustar", "-C", &folder, "-cf", &ova, "shop.ovf", "a", "b"];
    assert!(Command::new("tar").args(tar).status().unwrap().success());
    host.done(&["image", "upload", &ova, "--name", "Shop"], "");
    assert!(host.done(&["image", "list"], "").contains("Shop, disk 2"));
    host.done(&["vm", "make", "web-04", "--image", "shop", "--memory", "64", "--disk-bus", "sata"], "");
    let made = host.done(&["vm", "show", "web-04"], "");
    assert!(made.contains("web-04-disk-2, 1 GiB in local") && made.contains("64 MiB"), "{made}");
    host.done(&["vm", "remove", "web-04", "--confirm", "web-04"], "");
    for image in ["Shop", "Shop, disk 2"] {
        host.done(&["image", "remove", image, "--confirm", image], "");
    }
    host.done(&["pool", "change", "local", "--name", "disks", "--limit", "95"], "");
    assert!(host.done(&["pool", "show", "disks"], "").contains("95 %"));
    host.done(&["vm", "remove", shown["id"].as_str().unwrap(), "--confirm", "web-01", "--keep-disks"], "");
    assert_eq!(host.done(&["volume", "list", "--unused", "--pool", "disks"], "").lines().count(), 3);
    assert!(!host.done(&["vm", "list"], "").contains("web-01"));
    assert_eq!(daemon.virsh(&["list", "--all", "--name"]).trim(), "");
}

#[test]
fn who_gets_into_a_machine_is_said_and_its_consoles_are_used() {
    let host = Host::settled("qx-1");
    let daemon = quantix_libvirt::Daemon::start();
    std::os::unix::fs::symlink(daemon.dir.path().join("run/libvirt"), host.dir.path().join("libvirt"))
        .unwrap();
    until(|| host.done(&["pool", "list"], "").contains("ready"));
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB ada@desk\n";
    let key = host.file("id.pub", key.as_bytes());
    let make = ["vm", "make", "web-01", "--cpus", "1", "--memory", "64"];
    let refusal = host.refused(&[&make[..], &["--ssh-key", &key]].concat(), "");
    assert!(refusal.contains("Say as whom"), "{refusal}");
    host.done(&[&make[..], &["--ssh-key", &key, "--user", "ops"]].concat(), "");
    let told = host.done(&["vm", "cloud-init", "show", "web-01"], "");
    assert!(told.contains("ops") && told.contains("ada@desk") && told.contains("none"), "{told}");
    host.done(&["vm", "cloud-init", "set", "web-01", "--hostname", "shop", "--password"], "open sesame\n");
    let told = host.done(&["--output", "json", "vm", "cloud-init", "show", "web-01"], "");
    assert!(told.contains("\"keep_password\": true") && !told.contains("sesame"), "{told}");
    host.done(&["vm", "cloud-init", "remove", "web-01"], "");
    let refusal = host.refused(&["vm", "cloud-init", "show", "web-01"], "");
    assert!(refusal.contains("is told nothing"), "{refusal}");

    let refusal = host.refused(&["vm", "console", "web-01"], "");
    assert!(refusal.contains("web-01 is off."), "{refusal}");
    host.done(&["vm", "start", "web-01"], "");
    let viewer = host.dir.path().join("web-01.vv");
    let mut screen = host.begun(&["vm", "screen", "web-01", "--viewer", viewer.to_str().unwrap()]);
    let mut said = String::new();
    BufReader::new(screen.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let place = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap();
    let mut clients =
        [std::net::TcpStream::connect(place).unwrap(), std::net::TcpStream::connect(place).unwrap()];
    let port = place.rsplit(':').next().unwrap();
    let told = std::fs::read_to_string(&viewer).unwrap();
    assert!(told.starts_with("[virt-viewer]\ntype=vnc\nhost=127.0.0.1\n"), "{told}");
    assert!(told.contains(&format!("\nport={port}\n")) && told.contains("\ntitle=web-01\n"), "{told}");
    for client in &mut clients {
        let mut version = [0; 12];
        client.read_exact(&mut version).unwrap();
        assert_eq!(&version, b"RFB 003.008\n");
    }
    let picture = host.dir.path().join("web-01.png");
    host.done(&["vm", "picture", "web-01", picture.to_str().unwrap()], "");
    // What it uses, and its host.
    until(|| host.done(&["vm", "metrics", "web-01", "--span", "minutes"], "").contains("memory of its host"));
    assert!(host.done(&["host", "metrics", "qx-1"], "").contains("processors in use"));
    let all = host.done(&["metrics"], "");
    assert!(
        all.contains("quantix_host_processors{host=\"qx-1\"}") && all.contains("name=\"web-01\""),
        "{all}"
    );
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    let mut serial = host.begun(&["vm", "console", "web-01"]);
    let mut out = serial.stdout.take().unwrap();
    host.done(&["vm", "reset", "web-01"], "");
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("BdsDxe") {
        let mut piece = [0; 4096];
        let count = out.read(&mut piece).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend(&piece[..count]);
    }
    let refusal = host.refused(&["vm", "console", "web-01"], "");
    assert!(refusal.contains("Somebody else has the serial line"), "{refusal}");
    host.done(&["vm", "force-stop", "web-01"], "");
    assert!(!serial.wait().unwrap().success());
    let mut why = String::new();
    serial.stderr.take().unwrap().read_to_string(&mut why).unwrap();
    assert!(why.contains("web-01 is off."), "{why}");
    screen.kill().unwrap();
    screen.wait().unwrap();
    host.done(&["vm", "remove", "web-01", "--confirm", "web-01"], "");
}

#[test]
fn a_machine_is_held_taken_back_and_cloned() {
    let host = Host::settled("qx-1");
    let daemon = quantix_libvirt::Daemon::start();
    std::os::unix::fs::symlink(daemon.dir.path().join("run/libvirt"), host.dir.path().join("libvirt"))
        .unwrap();
    until(|| host.done(&["pool", "list"], "").contains("ready"));
    host.done(&["vm", "make", "web-01", "--cpus", "1", "--memory", "64", "--disk", "1G"], "");
    host.done(&["vm", "snapshot", "make", "web-01", "before", "--description", "the update"], "");
    host.done(&["vm", "start", "web-01"], "");
    host.done(&["vm", "snapshot", "make", "web-01", "with it", "--memory"], "");
    let refusal = host.refused(&["vm", "snapshot", "make", "web-01", "BEFORE"], "");
    assert!(refusal.contains("named BEFORE already"), "{refusal}");
    host.done(&["vm", "snapshot", "change", "web-01", "with it", "--name", "running"], "");
    let list = host.done(&["vm", "snapshot", "list", "web-01"], "");
    let line = list.lines().find(|line| line.starts_with("running")).unwrap();
    assert!(line.contains("before") && line.contains("kept") && line.contains("here"), "{list}");
    let refusal = host.refused(&["vm", "snapshot", "revert", "web-01", "before", "--confirm", "no"], "");
    assert!(refusal.contains("web-01"), "{refusal}");
    host.done(&["vm", "snapshot", "revert", "web-01", "before", "--confirm", "web-01"], "");
    host.done(&["vm", "clone", "web-01", "web-02", "--linked", "--snapshot", "running", "--start"], "");
    until(|| host.done(&["vm", "list", "--state", "running"], "").contains("web-02"));
    host.done(&["vm", "clone", "web-01", "golden"], "");
    host.done(&["vm", "change", "golden", "--template", "true"], "");
    let refusal = host.refused(&["vm", "start", "golden"], "");
    assert!(refusal.contains("is a template"), "{refusal}");
    until(|| !host.done(&["vm", "snapshot", "list", "web-01"], "").contains("For golden"));
    host.done(&["vm", "snapshot", "remove", "web-01", "before", "--children"], "");
    let list = host.done(&["--output", "json", "vm", "snapshot", "list", "web-01"], "");
    assert!(list.contains("\"items\": []"), "{list}");
    // What is made by itself.
    let refusal = host.refused(&["vm", "schedule", "make", "web-01", "--daily", "02:60"], "");
    assert!(refusal.contains("from 00:00 to 23:59"), "{refusal}");
    host.done(
        &["vm", "schedule", "make", "web-01", "--weekly", "sunday@02:30", "--keep", "3", "--at-once"],
        "",
    );
    until(|| host.done(&["vm", "snapshot", "list", "web-01"], "").contains("schedule 2"));
    assert!(host.done(&["vm", "schedule", "list", "web-01"], "").contains("Sundays at 02:30 UTC"));
    host.done(&["vm", "schedule", "remove", "web-01", "1"], "");
    assert!(!host.done(&["vm", "schedule", "list", "web-01"], "").contains("Sundays"));
}

/// A disk of so many bytes, with nothing but a boot sector.
fn boot_sector(bytes: usize) -> Vec<u8> {
    let mut disk = vec![0; bytes];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    disk
}
