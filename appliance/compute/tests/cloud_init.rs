//! What a guest is told, read by the programs that guests have: cloud-init itself and its reader of YAML, mtools and fsck
//! out of the builder root, and ssh-keygen and openssl.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "programs are run, and nothing waits beside them")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use quantix_api::{KeyRefused, SshKey};
use quantix_compute::{
    Access, Address, Addressing, CardNetwork, CloudInit, PasswordHash, SshKeys, StaticAddresses, Texts,
    UserData, UserName, hash_password, seed,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// In the builder root, which sees `/tmp` as it is here.
fn builder(args: &[&str]) -> Output {
    Command::new(root().join("tools/builder")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("quantix-cloud-init-").tempdir_in("/tmp").unwrap()
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// Makes a key, and gives its public line.
fn generate(folder: &TempDir, name: &str, kind: &str, bits: &str) -> String {
    let file = path(folder, name);
    run("ssh-keygen", &["-q", "-t", kind, "-b", bits, "-N", "", "-C", "Zoë on a laptop", "-f", &file]);
    fs::read_to_string(format!("{file}.pub")).unwrap()
}

/// The same as `ssh-keygen -l` says of a key: bits, fingerprint, comment, and a name for its type.
fn is_as_ssh_keygen_says(folder: &TempDir, line: &str) -> SshKey {
    let file = path(folder, "listed.pub");
    fs::write(&file, line).unwrap();
    let listed = run("ssh-keygen", &["-l", "-f", &file]);
    let key = SshKey::parse(line).unwrap();
    let comment = if key.comment().is_empty() { "no comment" } else { key.comment() };
    let expected = format!("{} {} {comment} (", key.bits(), key.fingerprint());
    assert!(listed.starts_with(&expected), "{listed} is not {expected}");
    assert_eq!(key.to_string(), line.trim_end());
    key
}

#[test]
fn keys_of_every_type_are_read_as_ssh_keygen_reads_them() {
    let folder = folder();
    let kinds = [
        ("ed25519", "256"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
        ("rsa", "2048"),
        ("rsa", "3072"),
    ];
    let mut pasted = String::from("# Made by ssh-keygen\n");
    for (kind, bits) in kinds {
        let line = generate(&folder, &format!("{kind}-{bits}"), kind, bits);
        let key = is_as_ssh_keygen_says(&folder, &line);
        assert_eq!(key.bits().to_string(), bits);
        is_as_ssh_keygen_says(&folder, line.rsplitn(5, ' ').last().unwrap());
        pasted += &line;
    }
    // Security keys need a device; these hold the point of a key that needs none.
    for (kind, name) in
        [("ed25519-256", "sk-ssh-ed25519@openssh.com"), ("ecdsa-256", "sk-ecdsa-sha2-nistp256@openssh.com")]
    {
        let line = fs::read_to_string(folder.path().join(format!("{kind}.pub"))).unwrap();
        let data = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();
        let after_name = 4 + usize::try_from(u32::from_be_bytes(data[..4].try_into().unwrap())).unwrap();
        let string = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat();
        let data = [string(name.as_bytes()), data[after_name..].to_vec(), string(b"ssh:")].concat();
        let line = format!("{name} {} security-key\n", STANDARD.encode(data));
        is_as_ssh_keygen_says(&folder, &line);
        pasted += &line;
    }
    assert_eq!(SshKeys::parse_all(&pasted).unwrap().as_slice().len(), 8);
}

#[test]
fn what_ssh_keygen_makes_besides_is_refused_by_its_name() {
    let folder = folder();
    let refused = |text: &str| SshKey::parse(text).unwrap_err();
    let short = generate(&folder, "short", "rsa", "1024");
    assert_eq!(refused(&short), KeyRefused::TooFewBits { bits: 1024 });
    let line = generate(&folder, "key", "rsa", "2048");
    let key = path(&folder, "key");
    assert_eq!(refused(&fs::read_to_string(&key).unwrap()), KeyRefused::Private);
    let private = refused("-----BEGIN OPENSSH PRIVATE KEY-----").to_string();
    assert_eq!(private, "This is a private key. Paste the public one, from the file that ends in .pub.");
    for (format, why) in
        [("RFC4716", KeyRefused::Putty), ("PKCS8", KeyRefused::Pem), ("PEM", KeyRefused::Pem)]
    {
        let exported = run("ssh-keygen", &["-e", "-m", format, "-f", &key]);
        assert_eq!(refused(&exported), why, "{exported}");
    }
    let old = run("ssh-keygen", &["-p", "-q", "-N", "", "-m", "PEM", "-f", &key]);
    assert_eq!(refused(&fs::read_to_string(&key).unwrap()), KeyRefused::Private, "{old}");
    run("ssh-keygen", &["-q", "-s", &path(&folder, "short"), "-I", "me", "-n", "ops", &key]);
    let certificate = fs::read_to_string(format!("{key}-cert.pub")).unwrap();
    assert_eq!(refused(&certificate), KeyRefused::Certificate);
    assert_eq!(refused(&format!("restrict,command=\"a b\" {line}")), KeyRefused::Options);
    let (name, rest) = line.split_once(' ').unwrap();
    assert_eq!(name, "ssh-rsa");
    assert_eq!(refused(&format!("ssh-ed25519 {rest}")), KeyRefused::Damaged);
    for cut in 8..rest.find(' ').unwrap() {
        assert!(SshKey::parse(&format!("{name} {}", &rest[..cut])).is_err(), "{cut}");
    }
}

#[test]
fn a_password_is_hashed_as_openssl_hashes_it() {
    for password in ["a", "correct horse", "pässwörd 😀", "$6$'\"\\`", &"ä".repeat(128)] {
        let hash = hash_password(password).unwrap();
        let salt = hash.as_str().split('$').nth(2).unwrap();
        let expected = run("openssl", &["passwd", "-6", "-salt", salt, "--", password]);
        assert_eq!(hash.as_str(), expected.trim_end(), "{password}");
        assert_eq!(PasswordHash::parse(expected.trim_end()), Ok(hash));
    }
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB Zoë";

fn access(user: &str, password: bool, keys: bool) -> Access {
    Access {
        user: UserName::parse(user).unwrap(),
        password: password.then(|| hash_password("correct horse").unwrap()),
        ssh_keys: SshKeys::parse_all(if keys { KEY } else { "" }).unwrap(),
        sudo_without_password: !password,
    }
}

fn card(at: u8, addressing: Addressing) -> CardNetwork {
    CardNetwork { mac: format!("52:54:00:00:00:{at:02X}"), addressing }
}

fn addresses(list: &[&str]) -> StaticAddresses {
    let address = |text: &&str| {
        let (ip, prefix) = text.split_once('/').unwrap();
        Address { ip: ip.parse().unwrap(), prefix: prefix.parse().unwrap() }
    };
    StaticAddresses { addresses: list.iter().map(address).collect(), ..StaticAddresses::default() }
}

fn networks() -> Vec<Vec<CardNetwork>> {
    let both = StaticAddresses {
        gateway4: Some("10.0.0.1".parse().unwrap()),
        gateway6: Some("fe80::1".parse().unwrap()),
        name_servers: vec!["10.0.0.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
        search: vec!["example.com".into(), "lab".into()],
        ..addresses(&["10.0.0.5/24", "2001:db8::5/64"])
    };
    vec![
        vec![],
        vec![card(1, Addressing::Dhcp)],
        vec![card(0xab, Addressing::Static(both)), card(2, Addressing::Dhcp)],
        vec![card(1, Addressing::Static(addresses(&["192.0.2.7/32"])))],
        vec![card(1, Addressing::Static(addresses(&["2001:db8::7/127"])))],
    ]
}

fn machine() -> CloudInit {
    CloudInit {
        instance_id: "0190c6f4-7a10-7cc0-b2aa-0123456789ab-1".into(),
        hostname: "web-01".into(),
        domain: None,
        access: None,
        network: Vec::new(),
        install_guest_agent: false,
        package_update: false,
        user_data: None,
    }
}

fn machines() -> Vec<CloudInit> {
    let accesses = [
        None,
        Some(access("ops", false, true)),
        Some(access("ops", true, false)),
        Some(access("ops", true, true)),
        Some(access("root", false, true)),
        Some(access("root", true, true)),
    ];
    let with = |access: Option<Access>| CloudInit { access, ..machine() };
    let mut machines: Vec<_> = accesses.into_iter().map(with).collect();
    machines.extend(networks().into_iter().map(|network| CloudInit {
        network,
        domain: Some("lab.example.com".into()),
        install_guest_agent: true,
        ..machine()
    }));
    let text =
        "#cloud-config\npackages: [nginx]\nruncmd: [ls]\nusers: [default, {name: ops, shell: /bin/sh}]\n";
    machines.push(CloudInit {
        access: Some(access("ops", true, true)),
        install_guest_agent: true,
        package_update: true,
        user_data: Some(UserData::Merged(text.into())),
        ..machine()
    });
    machines
}

/// Asks cloud-init each of these, in one process, since it is long in starting: whether it succeeds, and what it says.
fn cloud_init(calls: &[Vec<String>]) -> Vec<(bool, String)> {
    let folder = folder();
    let file = path(&folder, "calls.json");
    fs::write(&file, serde_json::to_string(calls).unwrap()).unwrap();
    let script = r#"
import contextlib, io, json, sys
from cloudinit.cmd.main import main
told = []
for call in json.load(open(sys.argv[1])):
    said, is_done = io.StringIO(), True
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            is_done = not main(["cloud-init", *call])
        except SystemExit as exit:
            is_done = not exit.code
    told.append((is_done, said.getvalue()))
print(json.dumps(told))
"#;
    let output = builder(&["python3", "-c", script, &file]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether each of these is right after cloud-init's schema of this kind, and what it says of it.
fn judged(kind: &str, texts: &[&str]) -> Vec<(bool, String)> {
    let folder = folder();
    let call = |(at, text): (usize, &&str)| {
        let file = path(&folder, &at.to_string());
        fs::write(&file, text).unwrap();
        ["schema", "-t", kind, "-c", &file].map(str::to_owned).to_vec()
    };
    cloud_init(&texts.iter().enumerate().map(call).collect::<Vec<_>>())
}

/// What PyYAML makes of each of these, with which cloud-init reads.
fn as_pyyaml_reads(texts: &[&str]) -> Vec<Value> {
    let folder = folder();
    let file = path(&folder, "texts.json");
    fs::write(&file, serde_json::to_string(texts).unwrap()).unwrap();
    let script = "import json, sys, yaml\n\
        print(json.dumps([yaml.safe_load(text) for text in json.load(open(sys.argv[1]))], default=str))";
    let output = builder(&["python3", "-c", script, &file]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn cloud_init_accepts_whatever_is_told() {
    let drawn: Vec<Texts> = machines().iter().map(|machine| machine.draw().unwrap()).collect();
    let configs: Vec<&str> =
        drawn.iter().flat_map(|texts| [Some(texts.user_data()), texts.vendor_data()]).flatten().collect();
    let networks: Vec<&str> = drawn.iter().filter_map(Texts::network_config).collect();
    assert!(configs.len() > 15 && networks.len() == 4);
    for (kind, texts) in [("cloud-config", configs), ("network-config", networks)] {
        for ((is_valid, said), text) in judged(kind, &texts).into_iter().zip(texts) {
            assert!(is_valid && !said.contains("deprecated"), "{said}\n{text}");
        }
    }
}

/// Whatever the guest makes its network with.
#[test]
fn every_renderer_of_cloud_init_makes_a_network_of_it() {
    let told = CloudInit { network: networks().remove(2), ..machine() };
    let folder = folder();
    let file = path(&folder, "network-config");
    fs::write(&file, told.draw().unwrap().network_config().unwrap()).unwrap();
    let renderers = [
        ("eni", "debian"),
        ("netplan", "ubuntu"),
        ("networkd", "debian"),
        ("network-manager", "fedora"),
        ("sysconfig", "rhel"),
    ];
    let call = |(renderer, distro): &(&str, &str)| {
        let to = path(&folder, renderer);
        let args =
            ["devel", "net-convert", "-p", &file, "-k", "yaml", "-d", &to, "-D", distro, "-O", renderer];
        args.map(str::to_owned).to_vec()
    };
    let told = cloud_init(&renderers.iter().map(call).collect::<Vec<_>>());
    for ((renderer, _), (is_done, said)) in renderers.into_iter().zip(told) {
        assert!(is_done, "{renderer}: {said}");
        let to = path(&folder, renderer);
        let made = run("grep", &["-rhi", "", &to]).to_lowercase();
        for word in
            ["10.0.0.5", "10.0.0.1", "2001:db8::5", "fe80::1", "10.0.0.2", "example.com", "52:54:00:00:00:ab"]
        {
            assert!(made.contains(word), "{renderer} lost {word}: {made}");
        }
    }
}

#[test]
fn what_is_refused_cloud_init_refuses_too() {
    let texts = [
        "packages: [nginx]",
        "#cloud-config\npackages: nginx",
        "#cloud-config\npakages: [nginx]",
        "#cloud-config\n- packages",
        "#cloud-config\nusers: [{name: ops, shel: /bin/sh}]",
        "#cloud-config\nwrite_files: [{path: /a, permissions: 0644}]",
        "#cloud-config\nusers: [{name: ops, expiredate: soon}]",
        "#cloud-config\nruncmd: [!!python/object/apply:os.system [id]]",
        "#cloud-config\na: [",
        "#cloud-config\npackages: [a]\n---\npackages: [b]",
    ];
    for ((is_valid, said), text) in judged("cloud-config", &texts).into_iter().zip(texts) {
        assert!(UserData::Merged(text.into()).check().is_err(), "{text}");
        assert!(!is_valid, "{said}\n{text}");
    }
}

/// Those of its documentation, which use nearly all there is.
#[test]
fn the_examples_of_cloud_init_are_judged_and_read_as_by_itself() {
    let examples = root().join("out/builder/usr/share/doc/cloud-init/examples");
    let mut files: Vec<_> = fs::read_dir(examples).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let texts: Vec<String> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap_or_default())
        .filter(|text| text.lines().next() == Some("#cloud-config"))
        .collect();
    assert!(texts.len() > 20, "{files:?}");
    let mut differs = Vec::new();
    let mut taken = Vec::new();
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    for ((is_valid, said), text) in judged("cloud-config", &all).into_iter().zip(&texts) {
        let told = CloudInit { user_data: Some(UserData::Merged(text.clone())), ..machine() };
        match told.draw() {
            Ok(texts) if is_valid => taken.push((text.as_str(), texts.user_data().to_owned())),
            Err(flaw) if is_valid => differs.push(flaw.sentence),
            Ok(_) => panic!("cloud-init refuses this: {said}\n{text}"),
            Err(_) => {}
        }
    }
    // Passwords in plain text, and what only PyYAML reads.
    insta::assert_snapshot!(differs.join("\n"));
    let (before, after): (Vec<&str>, Vec<String>) = taken.into_iter().unzip();
    let after: Vec<&str> = after.iter().map(String::as_str).collect();
    for (written, told) in as_pyyaml_reads(&before).into_iter().zip(as_pyyaml_reads(&after)) {
        for (key, value) in written.as_object().into_iter().flatten() {
            assert_eq!(&told[key], value, "{key}");
        }
    }
}

#[test]
fn a_guest_reads_what_was_written() {
    let hostile = [
        "\"",
        "'",
        "\n",
        "\r\n",
        "\t",
        "${HOME}",
        "$(id)",
        "!!python/object/apply:os.system [id]",
        "&a",
        "*a",
        "{{ x }}",
        "\\",
        "\u{202e}",
        "\u{200f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{ffff}",
        "\u{7f}",
        "\0",
        "\u{1b}[2J",
        "😀",
        "#",
        "# cloud-config\nusers: []",
        "yes",
        "0644",
        "12:30",
        "2024-01-31",
        "1e3",
        "~",
        "",
        " a ",
        "%YAML 1.1",
        "--- a",
        "...",
        "- a",
        "a: b",
        "\"}]}\nusers: []",
        "<<",
        "=",
    ];
    let mut values: Vec<String> = hostile.into_iter().map(str::to_owned).collect();
    values.push("\u{85}x".repeat(2_000));
    let mut runner = TestRunner::deterministic();
    let mut any = |strategy: &str| strategy.new_tree(&mut runner).unwrap().current();
    for strategy in ["\\PC{0,30}", "[\\x00-\\x{ffff}]{0,30}"] {
        values.extend((0..100).map(|_| any(strategy)));
    }
    let told = |text: &String| {
        let theirs = json!({ "write_files": [{ "path": "/a", "content": text }], "final_message": text });
        let user_data = Some(UserData::Merged(format!("#cloud-config\n{}", ascii(&theirs))));
        CloudInit { user_data, access: Some(access("ops", false, true)), ..machine() }.draw().unwrap()
    };
    let drawn: Vec<Texts> = values.iter().map(told).collect();
    let read = as_pyyaml_reads(&drawn.iter().map(Texts::user_data).collect::<Vec<_>>());
    for (value, read) in values.iter().zip(read) {
        let expected = json!({
            "hostname": "web-01",
            "manage_etc_hosts": true,
            "users": [{
                "name": "ops",
                "groups": ["adm", "systemd-journal"],
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": true,
                "ssh_authorized_keys": [KEY],
            }],
            "ssh_pwauth": false,
            "write_files": [{ "path": "/a", "content": value }],
            "final_message": value,
        });
        assert_eq!(read, expected);
    }
}

/// JSON as other programs write it that take no risk with YAML.
fn ascii(value: &Value) -> String {
    let escaped = |letter: char| match u32::from(letter) {
        code @ 0x7f..=0xffff => format!("\\u{code:04x}"),
        _ => letter.to_string(),
    };
    value.to_string().chars().map(escaped).collect()
}

#[test]
fn the_volume_is_read_by_others() {
    let folder = folder();
    let image = path(&folder, "seed.img");
    let large = format!("#!/bin/sh\n# {}\n", "Zoë ".repeat(12_000));
    for user_data in [None, Some(UserData::Replacing(large))] {
        let network = networks().remove(2);
        let told = CloudInit { network, user_data, install_guest_agent: true, ..machine() };
        let texts = told.draw().unwrap();
        let volume = seed(&texts);
        assert_eq!(volume, seed(&told.draw().unwrap()));
        fs::write(&image, volume).unwrap();
        let checked = builder(&["fsck.vfat", "-n", "-v", &image]);
        assert!(checked.status.success(), "{}", said(&checked));
        assert!(
            said(&checked).contains("4 files") || said(&checked).contains("5 files"),
            "{}",
            said(&checked)
        );
        let probed = said(&builder(&["blkid", "-p", "-o", "export", &image]));
        for word in ["LABEL=CIDATA", "LABEL_FATBOOT=CIDATA", "TYPE=vfat", "VERSION=FAT12"] {
            assert!(probed.lines().any(|line| line == word), "{probed}");
        }
        let listed = said(&builder(&["mdir", "-b", "-i", &image]));
        assert_eq!(listed, "::/user-data\n::/meta-data\n::/network-config\n::/vendor-data\n");
        for (name, text) in [
            ("user-data", Some(texts.user_data())),
            ("meta-data", Some(texts.meta_data())),
            ("network-config", texts.network_config()),
            ("vendor-data", texts.vendor_data()),
        ] {
            let typed = builder(&["mtype", "-i", &image, &format!("::{name}")]);
            assert_eq!(String::from_utf8(typed.stdout).unwrap(), text.unwrap(), "{name}");
        }
    }
}
