//! What stays of a case that failed: serial log, console screen, screenshot, journal, QEMU's log. What stays of one
//! that passed: nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Machine, OrFail, disk::DiskFiles, note, project};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A machine's folder below `out/test-runs`, named after the case.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Sockets have paths of at most 107 bytes, so they are elsewhere.
    sockets: TempDir,
    kept: Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Removed with the machine.
    Not,
    /// What a person can read of it is kept.
    Artefacts,
    /// The folder is somebody's who runs this machine again.
    Everything,
}

impl Folder {
    #[track_caller]
    pub(crate) fn new() -> Self {
        let thread = std::thread::current();
        let case = thread.name().unwrap_or("machine").replace("::", "-");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let runs = project::out("test-runs");
        remove_disks_of_the_dead(&runs);
        let path = runs.join(format!("{case}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).or_fail("Making the folder of the machine");
        let kept = if std::env::var_os("QUANTIX_KEEP").is_some() { Kept::Artefacts } else { Kept::Not };
        Self { path, sockets: sockets(), kept }
    }

    /// A folder that outlives the machine.
    pub(crate) fn lasting(path: &Path) -> Self {
        Self { path: path.to_owned(), sockets: sockets(), kept: Kept::Everything }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.sockets.path().to_owned()
    }

    pub(crate) fn keep(&mut self) {
        if self.kept == Kept::Not {
            self.kept = Kept::Artefacts;
        }
    }

    /// Removes everything, or, if the artefacts are wanted, what is too big to be read by anybody.
    pub(crate) fn close(&self, files: &DiskFiles) {
        match self.kept {
            Kept::Not => drop(fs::remove_dir_all(&self.path)),
            Kept::Artefacts => {
                let _ = fs::remove_file(&files.disk);
                note(format!("Artefacts: {}", self.path.display()));
            }
            Kept::Everything => {}
        }
    }
}

/// A test process that was killed could not remove its machines' disks.
fn remove_disks_of_the_dead(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.rsplit('-').nth(1).filter(|process| process.parse::<u32>().is_ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_file(entry.path().join("disk.qcow2"));
        }
    }
}

#[track_caller]
fn sockets() -> TempDir {
    tempfile::Builder::new().prefix("quantix-").tempdir_in("/tmp").or_fail("Making a folder for sockets")
}

/// Collects what a running machine can tell about a failure. Nothing here may fail: the case has failed already.
pub(crate) fn collect(machine: &mut Machine) {
    if !machine.is_on() {
        return;
    }
    let folder = machine.folder();
    let _ = fs::write(folder.join("console.txt"), machine.console_screen());
    let _ = machine.screenshot(&folder.join("screen.png"));
    let told = [
        ("journal.txt", "journalctl --no-pager -o short-monotonic -b | tail -n 4000"),
        ("units.txt", "systemctl list-units --all --no-pager; systemctl list-jobs --no-pager"),
    ];
    for (file, command) in told {
        if let Some(output) = machine.try_run(command, Duration::from_secs(30)) {
            let _ = fs::write(folder.join(file), output.text);
        } else {
            break;
        }
    }
}
