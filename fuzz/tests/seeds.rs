//! Every seed, and everything that was once found, goes through its target.

use std::{collections::BTreeSet, fs, path::Path};

use quantix_fuzz::TARGETS;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn every_target_takes_its_seeds_and_what_was_found() {
    for (name, run) in TARGETS {
        let mut files = 0;
        for entry in fs::read_dir(folder("seeds").join(name)).expect(name) {
            run(&fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 0, "{name} has no seeds");
    }
}

#[test]
fn every_target_has_a_program_and_nothing_is_left_over() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let listed = |path: &str, end: &str| -> BTreeSet<String> {
        fs::read_dir(folder(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(end).to_owned())
            .collect()
    };
    assert_eq!(listed("fuzz_targets", ".rs"), names);
    assert_eq!(listed("seeds", ""), names);
}

/// A message that a version of ours would send is a seed; `QUANTIX_WRITE_SEEDS=1` writes them anew.
#[test]
fn seeds_are_what_this_version_says() {
    let temporary = tempfile::tempdir().unwrap();
    for (target, name, bytes) in quantix_store::fuzz::seeds(temporary.path()) {
        let path = folder("seeds").join(target).join(name);
        assert!(!bytes.is_empty(), "{target}/{name}");
        if std::env::var_os("QUANTIX_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        } else {
            assert!(fs::read(&path).unwrap_or_default() == bytes, "{target}/{name} is of another version");
        }
    }
}
