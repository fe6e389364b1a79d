//! `quantix-bench-boot --runs 3 IMAGE…`: how long images take from power-on, and where the time goes, as a table.
//!
//! An image is measured to its first page if it has pages, else to its login prompt: once on a new disk, where it has
//! a file system, keys and a certificate to make, and once more after that. Images take turns, so that a machine that
//! grows slower while measuring does so for all of them.
#![expect(clippy::print_stdout, reason = "the table is what the command is for")]

use std::{path::PathBuf, time::Duration};

use quantix_qemu::{BOOT_BOUND, Machine, OrFail, fail, note, poll_until, spawn::local};

/// One boot, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Boot {
    before_kernel: f64,
    kernel: f64,
    initrd: f64,
    userspace: f64,
    total: f64,
    resident_mib: f64,
}

fn main() {
    let (runs, images) = arguments();
    let mut first: Vec<Vec<Boot>> = vec![Vec::new(); images.len()];
    let mut later = first.clone();
    for run in 1..=runs {
        for (at, image) in images.iter().enumerate() {
            let mut machine = Machine::builder().unplugged_image(image);
            for boots in [&mut first[at], &mut later[at]] {
                let boot = measure(&mut machine, image);
                note(format!("Run {run}, {}: {:.1} s.", image.display(), boot.total));
                boots.push(boot);
                machine.shutdown();
            }
        }
    }
    print_head(runs);
    print_rows("first", &images, &first);
    print_rows("later", &images, &later);
    let resident = later.iter().map(|boots| median(boots, |boot| boot.resident_mib)).fold(0.0, f64::max);
    println!("\nquantixd and quantix-hostui together, idle: {resident:.0} MiB resident.");
}

fn arguments() -> (usize, Vec<PathBuf>) {
    let mut runs = 3;
    let mut images = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--runs" {
            runs = arguments.next().and_then(|count| count.parse().ok()).or_fail("--runs needs a number.");
        } else {
            images.push(std::fs::canonicalize(&argument).or_fail(format!("Looking for {argument}")));
        }
    }
    if images.is_empty() || runs == 0 {
        fail("Usage: quantix-bench-boot [--runs N] IMAGE…");
    }
    (runs, images)
}

fn measure(machine: &mut Machine, image: &std::path::Path) -> Boot {
    machine.power_on();
    let has_pages = image.file_name().is_some_and(|name| name.to_string_lossy().contains("quantix"));
    let reached = poll_until(BOOT_BOUND, || {
        let there = if has_pages {
            let page = machine.trusting_browser().request("GET", "/sign-in", &[], b"");
            page.is_ok_and(|page| page.status == 200)
        } else {
            machine.console().log().contains("login:")
        };
        there.then(|| machine.uptime().as_secs_f64())
    });
    let total =
        reached.or_fail(format!("{} did not come up within {} s.", image.display(), BOOT_BOUND.as_secs()));
    let analysis = machine.run_within(
        "systemctl is-system-running --wait >/dev/null; systemd-analyze time | head -n 1",
        Duration::from_secs(180),
    );
    let kernel_age = machine.run("cut -d' ' -f1 /proc/uptime").ok();
    let before_kernel =
        machine.uptime().as_secs_f64() - kernel_age.parse::<f64>().or_fail("Reading /proc/uptime");
    let part = |name| phase(&analysis.text, name).unwrap_or_default();
    let (kernel, initrd) = (part("kernel"), part("initrd"));
    let resident = machine.run(
        "for name in quantixd quantix-hostui; do cat /proc/$(pidof $name)/status; done 2>/dev/null | awk '/VmRSS/ { kib += $2 } END { print kib / 1024 }'",
    );
    Boot {
        before_kernel,
        kernel,
        initrd,
        userspace: total - before_kernel - kernel - initrd,
        total,
        resident_mib: resident.text.trim().parse().unwrap_or_default(),
    }
}

/// The seconds of a phase in `Startup finished in 3.1s (kernel) + 1min 2.5s (userspace) = 1min 5.6s`.
fn phase(text: &str, name: &str) -> Option<f64> {
    let sum = text.split_once("finished in ")?.1.split(" = ").next()?;
    let words = sum.split(" + ").find_map(|part| part.trim().strip_suffix(&format!("({name})")))?;
    words
        .split_whitespace()
        .map(|word| {
            let number = |unit: &str| word.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
            number("min").map(|minutes| minutes * 60.0).or(number("ms").map(|ms| ms / 1000.0)).or(number("s"))
        })
        .sum()
}

fn median(boots: &[Boot], of: impl Fn(&Boot) -> f64) -> f64 {
    let mut values: Vec<f64> = boots.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print_head(runs: usize) {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let date = local("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default();
    let commit = local("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    println!(
        "Median of {runs} boots, emulated (TCG), 2 processors, 3 GiB. {date}, commit {commit}, {},",
        model.trim_start_matches([' ', '\t', ':'])
    );
    println!("{cores} cores. Seconds.\n");
    println!(
        "| image | boot | firmware and loader | kernel | initrd | userspace to first page or prompt | power-on to first page or prompt | ratio |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
}

/// Beside the last image, which is the one to be measured against.
fn print_rows(which: &str, images: &[PathBuf], boots: &[Vec<Boot>]) {
    let last = boots.last().map_or(1.0, |boots| median(boots, |boot| boot.total));
    for (image, boots) in images.iter().zip(boots) {
        let of = |of: fn(&Boot) -> f64| median(boots, of);
        println!(
            "| {} | {which} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} |",
            image.file_name().unwrap_or_default().to_string_lossy(),
            of(|boot| boot.before_kernel),
            of(|boot| boot.kernel),
            of(|boot| boot.initrd),
            of(|boot| boot.userspace),
            of(|boot| boot.total),
            of(|boot| boot.total) / last,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::phase;

    #[test]
    fn the_phases_of_a_boot_are_read_from_what_systemd_says() {
        let text =
            "Startup finished in 812ms (kernel) + 6.710s (initrd) + 1min 3.5s (userspace) = 1min 11.022s";
        assert_eq!(phase(text, "kernel"), Some(0.812));
        assert_eq!(phase(text, "initrd"), Some(6.71));
        assert_eq!(phase(text, "userspace"), Some(63.5));
        assert_eq!(phase(text, "loader"), None);
    }
}
