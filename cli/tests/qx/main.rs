//! qx as a person runs it, against a real host: agent and page server.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "programs are run, and what goes wrong ends the test"
)]

mod consoles;
mod host;
mod machines;

use std::{os::unix::fs::PermissionsExt, process::Command};

use host::{Host, start_agent, until};

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
