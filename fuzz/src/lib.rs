//! Every parser that faces the network, as targets of cargo-fuzz (`tools/fuzz`). A target is a function that takes any
//! bytes; what must hold whatever they are, it asserts. Ordinary tests run the seeds, and what was once found, through
//! the same functions.

mod http_answer;
mod ovsdb;

use std::{path::Path, process::ExitCode, sync::OnceLock};

use quantix_storage::{Content, DiskFormat, HEAD, recognise};

/// What is run, with the bytes to run it on.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("api_request", quantixd::fuzz::request),
    ("backup_file", backup),
    ("certificate", quantixd::fuzz::upload),
    ("http_answer", http_answer::run),
    ("identity_provider", quantixd::fuzz::answer),
    ("image_header", image_header),
    ("join", quantixd::fuzz::joining),
    ("ovsdb_messages", ovsdb::messages),
    ("pages_headers", quantix_hostui::fuzz::headers),
    ("pages_request", quantix_hostui::fuzz::request),
    ("store_changeset", quantix_store::fuzz::changeset),
    ("store_database", database),
    ("store_messages", quantix_store::fuzz::messages),
];

/// Whatever is taken names no other file.
fn image_header(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(HEAD)];
    let tail = &bytes[bytes.len().saturating_sub(512)..];
    if recognise(head, tail, bytes.len() as u64) == Ok(Content::Disk(DiskFormat::Qcow2)) {
        assert_eq!(head[8..16], [0; 8], "a backing file");
        assert!(head[7] == 2 || head[79] & 4 == 0, "a data file");
    }
}

fn backup(bytes: &[u8]) {
    quantixd::fuzz::backup(folder(), bytes);
}

fn database(bytes: &[u8]) {
    quantix_store::fuzz::database(folder(), bytes);
}

/// A folder of this process for what has to be a file.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap_or_else(|error| unreachable!("{error}"))).path()
}

/// Runs one target.
pub fn run(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.unwrap_or_else(|| unreachable!("no target {target}")).1(bytes);
}

/// Runs a target on files, as a debugger wants it.
pub fn run_files(target: &str) -> ExitCode {
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(bytes) => run(target, &bytes),
            Err(_) => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}

/// A target's program: driven by libFuzzer when cargo-fuzz builds it, and else by the files on its command line.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::run($name, bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::run_files($name)
        }
    };
}
