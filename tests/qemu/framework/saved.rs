//! A machine that has booted once, kept as it was: a case that starts from it begins a second later.
//!
//! Kept in `out/test-state/<image>`, shared by all test processes, made by the first that needs it while the others
//! wait for its lock. States of other images are removed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Builder, Machine, OrFail, Segment,
    disk::{self, DiskFiles},
    machine::BOOT_BOUND,
    note,
    options::Options,
    pages, poll_until, project,
};

/// Raised when a change of the machine makes states from before unusable.
const FORMAT: u32 = 7;
const READY_BOUND: Duration = Duration::from_secs(120);

/// What was seen while the state was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// From power-on to the first time `/readyz` said ready; not set if it never did, which is for a case to judge.
    pub seconds_to_ready: Option<f64>,
    /// From power-on to the first time the sign-in page was answered.
    pub seconds_to_first_page: f64,
    /// The first password.
    pub first_password: String,
    /// The certificate's fingerprint.
    pub fingerprint: String,
}

/// A saved machine.
#[derive(Clone, Debug)]
pub struct SavedMachine {
    folder: PathBuf,
    /// What was seen while it was made.
    pub about: About,
}

impl SavedMachine {
    /// The image just after its first boot: ready, nobody has signed in yet.
    #[track_caller]
    pub fn fresh() -> Self {
        let image = project::image();
        let states = project::out("test-state");
        let key = format!("{}-{FORMAT}", project::fingerprint(&image));
        let lock = File::create(states.join("lock")).or_fail("Opening the lock of the saved states");
        lock.lock().or_fail("Waiting for the lock of the saved states");
        let folder = states.join(&key).join("fresh");
        if !folder.join("about.json").exists() {
            remove_others(&states, &key);
            make_fresh(&folder);
        }
        let about = fs::read(folder.join("about.json")).or_fail("Reading what is known of the saved state");
        let about = serde_json::from_slice(&about).or_fail("Reading what is known of the saved state");
        Self { folder, about }
    }

    /// A machine that goes on from here, with a disk of its own.
    #[track_caller]
    pub fn restore(&self) -> Machine {
        self.restore_changed(|_| {})
    }

    /// The same, after something was done to its disk behind its back.
    #[track_caller]
    pub fn restore_changed(&self, change: impl FnOnce(&DiskFiles)) -> Machine {
        let begun = Instant::now();
        let mut machine = self.unplugged();
        change(&machine.files);
        let serial = fs::read(self.folder.join("serial.log")).or_fail("Reading the saved serial line");
        machine.resume(&self.folder.join("memory"), &serial);
        note(format!("A saved machine goes on ({:.1} s).", begun.elapsed().as_secs_f64()));
        machine
    }

    /// A machine with this disk that is off, as after a power cut at this moment.
    #[track_caller]
    pub fn unplugged(&self) -> Machine {
        let machine = plugged(Builder::with(options())).assemble();
        let kept = DiskFiles::in_folder(&self.folder);
        disk::overlay(&machine.files.disk, &kept.disk, "qcow2", None);
        fs::copy(&kept.variables, &machine.files.variables).or_fail("Copying the firmware's variables");
        machine
    }
}

/// Every saved machine is plugged into one segment, so that a case can stand beside it.
fn plugged(builder: Builder) -> Builder {
    builder.nic(&Segment::new())
}

fn options() -> Options {
    Options::default()
}

fn make_fresh(folder: &Path) {
    note("Booting the image once, to start cases from there.");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).or_fail("Making the folder of the saved state");
    let mut machine = plugged(Builder::with(options())).start();
    let first_page = pages::wait_first_page(&mut machine, BOOT_BOUND);
    let ready = poll_until(READY_BOUND, || machine.readiness().filter(|readiness| readiness.ready));
    let ready = ready.map(|_| machine.uptime().as_secs_f64());
    let first_password = pages::first_password(&mut machine);
    let mut browser = machine.https();
    let alive = browser.get("/healthz").status == 200;
    let seen = browser.seen_certificate().filter(|_| alive).or_fail("/healthz does not answer 200.");
    let about = About {
        seconds_to_ready: ready,
        seconds_to_first_page: first_page.as_secs_f64(),
        first_password,
        fingerprint: seen.to_string(),
    };
    machine.wait_settled(Duration::from_secs(180));
    // The console asks every few seconds; whether it comes to this is for a case to judge.
    let _ = machine.console().wait_for_text("Everything works.", Duration::from_secs(30));
    machine.run("sync");
    let carried = machine.freeze(&folder.join("memory"));
    let kept = DiskFiles::in_folder(folder);
    fs::rename(&machine.files.disk, &kept.disk).or_fail("Keeping the disk");
    fs::write(folder.join("serial.log"), carried).or_fail("Keeping the serial line");
    fs::rename(&machine.files.variables, &kept.variables).or_fail("Keeping the firmware's variables");
    let about = serde_json::to_vec_pretty(&about).or_fail("Writing down what was seen");
    fs::write(folder.join("about.json"), about).or_fail("Writing down what was seen");
    note(format!("The saved state is in {}.", folder.display()));
}

fn remove_others(states: &Path, key: &str) {
    let Ok(entries) = fs::read_dir(states) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir() && entry.file_name() != *key) {
        let _ = fs::remove_dir_all(entry.path());
    }
}
