//! Every seed, and everything that was once found, goes through its target; and so does what they become by chance. That
//! finds less than `tools/fuzz`, which sees what an input reaches, and takes seconds.

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use quantix_fuzz::TARGETS;
use rand::{Rng, rngs::ThreadRng};

/// How long each target is fed.
const LONG: Duration = Duration::from_secs(2);
/// Bytes where numbers and texts turn into something else.
const WEAK: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'%'];

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

#[test]
fn every_target_stands_what_its_seeds_become_by_chance() {
    let mut random = rand::rng();
    for (name, run) in TARGETS {
        let entries = fs::read_dir(folder("seeds").join(name)).expect(name);
        let seeds: Vec<Vec<u8>> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        let begin = Instant::now();
        while begin.elapsed() < LONG {
            let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
            for _ in 0..random.random_range(1..6) {
                change(&mut bytes, &seeds, &mut random);
            }
            if catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err() {
                let found = folder("../out/fuzz/found");
                fs::create_dir_all(&found).unwrap();
                let file = found.join(format!("{name}-by-chance"));
                fs::write(&file, &bytes).unwrap();
                panic!(
                    "{name} broke on {}. Mend it, and put the file into fuzz/seeds/{name}.",
                    file.display()
                );
            }
        }
    }
}

/// One change of those that parsers are weak at.
fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut ThreadRng) {
    let at = random.random_range(0..=bytes.len());
    let end = bytes.len().min(at + random.random_range(0..=16));
    match random.random_range(0..6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
        3 => bytes[at..end].fill(WEAK[random.random_range(0..WEAK.len())]),
        4 => drop(bytes.splice(at..at, bytes[at..end].repeat(random.random_range(1..200)))),
        _ => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
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
