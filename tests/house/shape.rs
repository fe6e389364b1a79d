//! The shape of the house: which crate may depend on which, what the rooms `model` and `plan` may not touch, and how
//! long a file may grow. Whoever has a reason to change a rule changes it here, in sight.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo and git are asked about the workspace; nothing waits beside them"
)]
#![expect(clippy::unwrap_used, reason = "what cannot be asked about cannot be checked")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every dependency between crates of the workspace that programs are made of; those of tests are free.
const MAY_USE: &[(&str, &[&str])] = &[
    ("openvswitch-ovsdb", &[]),
    ("quantix-api", &[]),
    ("quantix-compute", &["quantix-api", "quantix-host"]),
    ("quantix-disks", &["quantix-host", "quantix-service", "quantix-storage"]),
    ("quantix-service", &[]),
    ("quantix-storage", &["quantix-host"]),
    ("quantix-store", &[]),
    ("quantix-host", &["openvswitch-ovsdb", "quantix-api"]),
    (
        "quantixd",
        &[
            "quantix-api",
            "quantix-compute",
            "quantix-host",
            "quantix-service",
            "quantix-storage",
            "quantix-store",
        ],
    ),
    ("quantix-hostui", &["quantix-api", "quantix-service"]),
    ("qx", &["quantix-api"]),
    ("quantix-firstboot", &["quantix-api", "quantix-host", "quantix-service"]),
    ("quantix-browser", &["quantix-api", "quantix-libvirt"]),
    ("quantix-qemu", &["quantix-api"]),
    (
        "quantix-fuzz",
        &[
            "openvswitch-ovsdb",
            "quantix-api",
            "quantix-hostui",
            "quantix-storage",
            "quantix-store",
            "quantixd",
        ],
    ),
    ("quantix-house", &[]),
    ("quantix-libvirt", &[]),
    ("quantix-load", &["quantix-api", "quantix-compute", "quantix-libvirt"]),
    ("quantix-torture", &["quantix-store"]),
];

/// What code that only thinks has no business with.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "UnixStream",
    "TcpListener",
    "std::process",
    "std::thread",
    "std::env",
    "tokio",
    "nix::",
    "rusqlite",
    "log::",
    "crate::driver",
];

/// Lines of a source file, tests included.
const LONGEST_FILE: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources() -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success());
    String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from).collect()
}

#[test]
fn crates_use_only_what_they_may() {
    let asked = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let mut found = Vec::new();
    for package in packages {
        let uses: BTreeSet<_> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|name| ours.contains(name))
            .collect();
        found.push((package["name"].as_str().unwrap(), uses));
    }
    found.sort();
    let mut allowed: Vec<_> =
        MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    allowed.sort();
    assert_eq!(found, allowed);
}

#[test]
fn models_and_plans_touch_nothing_outside() {
    let mut broken = Vec::new();
    for file in sources() {
        let rooms = file.components().any(|part| matches!(part.as_os_str().to_str(), Some("model" | "plan")));
        if !rooms && !file.ends_with("model.rs") && !file.ends_with("plan.rs") {
            continue;
        }
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in OUTSIDE.iter().filter(|word| code.contains(**word)) {
            broken.push(format!("{}: {word}", file.display()));
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// Where a C interface is spoken to. Whoever adds a place explains each block of it, and has it read by another.
const MAY_BE_UNSAFE: &[&str] = &[
    "appliance/compute/src/driver/console.rs",
    "appliance/compute/src/driver/events.rs",
    "appliance/compute/src/driver/guest.rs",
    "appliance/compute/src/driver/layers.rs",
    "appliance/compute/src/driver/load.rs",
    "appliance/compute/src/driver/params.rs",
];

#[test]
fn only_what_speaks_to_c_is_unsafe() {
    // In two parts, or this file would be one of them.
    let word = concat!("unsafe", "_code");
    let lets = |file: &PathBuf| fs::read_to_string(root().join(file)).unwrap().contains(word);
    let found: Vec<_> = sources().into_iter().filter(lets).collect();
    assert_eq!(found, MAY_BE_UNSAFE.iter().map(PathBuf::from).collect::<Vec<_>>());
}

/// What is asked by others than people at a command line.
const NOT_FOR_QX: &[&str] = &[
    // A browser that comes and goes.
    "back_from_provider",
    "begin_at_provider",
    "ways_in",
    // The screen at the machine itself; of this host and all others qx asks in one way.
    "console",
    "host",
    // Programs that read what the API is, and monitoring.
    "document",
    "ready",
];

/// Whatever the API does, the command line does.
#[test]
fn qx_makes_every_call_there_is() {
    let text = |folder: &str| -> String {
        let files = sources().into_iter().filter(|file| file.starts_with(folder));
        files.map(|file| fs::read_to_string(root().join(file)).unwrap()).collect()
    };
    let calls: BTreeSet<String> = text("appliance/api/src/calls")
        .split("pub fn ")
        .skip(1)
        .filter(|call| call.split('{').next().is_some_and(|head| head.contains("-> Call<")))
        .map(|call| call.split('(').next().unwrap().split('<').next().unwrap().to_owned())
        .collect();
    assert!(calls.len() > 50, "the calls were not found: {calls:?}");
    let cli = text("cli/src");
    let made = |call: &String| cli.contains(&format!("calls::{call}("));
    let missing: Vec<_> = calls.iter().filter(|call| !made(call)).map(String::as_str).collect();
    let mut not_for_qx = NOT_FOR_QX.to_vec();
    not_for_qx.sort_unstable();
    assert_eq!(missing, not_for_qx);
}

#[test]
fn no_file_outgrows_one_idea() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|file| fs::read_to_string(root().join(file)).unwrap().lines().count() > LONGEST_FILE)
        .collect();
    assert_eq!(long, Vec::<PathBuf>::new());
}
