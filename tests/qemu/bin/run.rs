//! `make run`: the image in QEMU, with a disk that is kept between runs, until Ctrl-C.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that a person watches")]

use std::{
    fs,
    io::{IsTerminal, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quantix_qemu::{
    Builder, Machine, OrFail, accelerator, disk, fail, options::Accelerator, pages, poll_until, project,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

const BOOT_BOUND: Duration = Duration::from_secs(600);
const READY_BOUND: Duration = Duration::from_secs(180);
const SHUTDOWN_BOUND: Duration = Duration::from_secs(60);
const DISK_GIB: u64 = 24;

fn main() {
    std::panic::set_hook(Box::new(|panic| eprintln!("\n{}", panic.payload_as_str().unwrap_or("It failed."))));
    let end = end_when_asked();
    let folder = project::out("run");
    prepare_disk(&folder);

    let accelerator = accelerator::find();
    if accelerator == Accelerator::Tcg {
        println!("KVM does not work here, so the machine is emulated: the boot takes one to two minutes.");
    }
    let (https, http) = (free_port(8443), free_port(8080));
    let mut machine = Builder::default()
        .accelerator(accelerator)
        .kept_in(&folder)
        .ports(https, http)
        .without_shell()
        .with_its_disk();
    machine.power_on();
    if boot(&mut machine, &end) {
        welcome(&mut machine, &end);
        while !end.load(Ordering::Relaxed) && machine.is_on() {
            poll_until(Duration::from_millis(200), || end.load(Ordering::Relaxed).then_some(()));
        }
    }
    if machine.is_on() {
        println!("\nShutting down, at most {} s. Ctrl-C again pulls the plug.", SHUTDOWN_BOUND.as_secs());
        if !machine.press_power_button(SHUTDOWN_BOUND) {
            println!("It did not switch itself off in time; the plug was pulled.");
        }
    } else {
        println!("The machine has switched itself off.");
    }
}

/// Set by the first Ctrl-C; the second ends this process, and QEMU with it.
fn end_when_asked() -> Arc<AtomicBool> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked)).or_fail("Listening for Ctrl-C");
        flag::register(signal, Arc::clone(&asked)).or_fail("Listening for Ctrl-C");
    }
    asked
}

/// A disk the image was written to. There are no updates yet, so a new image needs a new disk; the one before is kept
/// beside it, once.
fn prepare_disk(folder: &Path) {
    let image = project::image();
    let now = project::fingerprint(&image);
    let files = disk::DiskFiles::in_folder(folder);
    let mark = folder.join("image");
    if files.disk.exists() && files.variables.exists() {
        if fs::read_to_string(&mark).unwrap_or_default() == now {
            println!(
                "Going on with the disk of the last run, {}. Remove it to begin anew.",
                files.disk.display()
            );
            return;
        }
        let old = folder.join("disk.before.qcow2");
        fs::rename(&files.disk, &old).or_fail("Keeping the disk of the image before");
        println!(
            "The image has changed. It goes onto a new disk; the disk before is kept as {}.",
            old.display()
        );
    }
    println!("Writing the image to {}.", files.disk.display());
    let _ = fs::remove_file(&files.disk);
    disk::copy(&files.disk, &image, DISK_GIB);
    let variables = project::root().join("out/builder/usr/share/OVMF/OVMF_VARS_4M.fd");
    fs::copy(variables, &files.variables).or_fail("Copying the firmware's variables");
    fs::write(mark, now).or_fail("Writing down which image is on the disk");
}

/// Waits for the first page and shows how far the machine is. False when it was asked to end before.
fn boot(machine: &mut Machine, end: &AtomicBool) -> bool {
    let begun = Instant::now();
    let mut progress = Progress::default();
    let answered = poll_until(BOOT_BOUND, || {
        if end.load(Ordering::Relaxed) || !machine.is_on() {
            return Some(false);
        }
        progress.show(begun.elapsed(), &machine.console().log());
        let page = machine.trusting_browser().request("GET", "/sign-in", &[], b"").ok()?;
        (page.status == 200).then_some(true)
    });
    progress.done();
    answered.unwrap_or_else(|| {
        fail(format!(
            "The pages did not answer within {} s. The console shows:\n{}",
            BOOT_BOUND.as_secs(),
            machine.console_screen()
        ))
    })
}

/// One line that is written over on a terminal; elsewhere a line whenever something new is said.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn show(&mut self, elapsed: Duration, log: &str) {
        let stage = log.lines().rev().map(str::trim).find(|line| line.len() > 3).unwrap_or("switched on");
        let stage: String = stage.chars().filter(|c| !c.is_control()).take(64).collect();
        if std::io::stdout().is_terminal() {
            print!("\r\x1b[K{:4} s  {stage}", elapsed.as_secs());
            let _ = std::io::stdout().flush();
        } else if stage != self.last {
            println!("{:4} s  {stage}", elapsed.as_secs());
        }
        self.last = stage;
    }

    fn done(&self) {
        if std::io::stdout().is_terminal() {
            print!("\r\x1b[K");
        }
    }
}

fn welcome(machine: &mut Machine, end: &AtomicBool) {
    println!("The pages answer; waiting until everything behind them works.");
    let mut last = None;
    poll_until(READY_BOUND, || {
        last = machine.readiness().or(last.take());
        (end.load(Ordering::Relaxed) || last.as_ref().is_some_and(|readiness| readiness.ready)).then_some(())
    });
    if let Some(readiness) = last.filter(|readiness| !readiness.ready) {
        println!("Not everything works:");
        for check in readiness.checks.iter().filter(|check| check.state != quantix_api::CheckState::Ok) {
            println!("  {}: {}", check.name, check.detail);
        }
    }
    let mut browser = machine.trusting_browser();
    let _ = browser.request("GET", "/healthz", &[], b"");
    let fingerprint = browser.seen_certificate().map(|seen| seen.to_string()).unwrap_or_default();
    let password = poll_until(Duration::from_secs(20), || {
        let screen = machine.console_screen();
        let chosen = screen.contains("with the password you chose").then(|| "the one you chose".to_owned());
        pages::find_first_password(&screen).or(chosen)
    });
    println!("\n  Open in a browser    https://127.0.0.1:{}", machine.https_port());
    println!("  Certificate SHA-256  {fingerprint}");
    println!("  Sign in as           {}", pages::ADMIN);
    println!(
        "  Password             {}",
        password.as_deref().unwrap_or("see the console in out/run/serial.log")
    );
    println!("\nCtrl-C shuts it down.");
}

/// The first free port from here on.
fn free_port(from: u16) -> u16 {
    (from..from + 100)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .or_fail(format!("No port from {from} to {} is free on 127.0.0.1.", from + 99))
}
