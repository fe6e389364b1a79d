//! LVM's tools, and the system's own for disks.

use std::time::Duration;

use quantix_host::run;
use quantix_storage::{
    Failed,
    thin::{self, Disk, Listed, ThinPool},
};

const LIMIT: Duration = Duration::from_secs(120);
/// Copies in `/etc` would be gone with the next start, how full a pool is is looked at by whoever asks, and what is wrong is
/// said where the others say it. Whoever writes to a full pool is told so at once: QEMU lets its guest stand still then.
const CONFIG: &str = "backup/backup=0 backup/archive=0 activation/monitoring=0 activation/error_when_full=1 log/report_command_log=0";

/// What one of LVM's tools printed.
pub(crate) async fn lvm(tool: &str, args: &[&str]) -> Result<String, Failed> {
    let all: Vec<&str> = ["--config", CONFIG].into_iter().chain(args.iter().copied()).collect();
    system(tool, &all).await
}

/// What a tool printed.
pub(crate) async fn system(tool: &str, args: &[&str]) -> Result<String, Failed> {
    let finished = run(tool, args, LIMIT).await.map_err(|error| Failed::Other(error.to_string()))?;
    if finished.code == Some(0) {
        return Ok(finished.stdout);
    }
    if finished.stderr.contains("Volume group \"") && finished.stderr.contains("\" not found") {
        return Err(Failed::Missing("its disks are not there".to_owned()));
    }
    // The last that is no hint and no warning.
    let is_reason =
        |line: &&str| !line.is_empty() && !line.starts_with("Run `") && !line.starts_with("WARNING");
    let said = finished.stderr.lines().map(str::trim).rfind(is_reason).unwrap_or("It ended without a word");
    log::warn!("{tool} {}: {}", args.join(" "), finished.stderr.trim());
    Err(Failed::Other(format!("{tool}: {}", said.trim_end_matches('.'))))
}

fn unreadable(error: impl std::fmt::Display) -> Failed {
    Failed::Other(format!("What is there cannot be read: {error}"))
}

/// The volumes of a pool, its shared one among them.
pub(crate) async fn volumes(pool: ThinPool) -> Result<Vec<Listed>, Failed> {
    let group = pool.group();
    let args = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o", thin::VOLUME_COLUMNS, &group];
    thin::listed(&lvm("lvs", &args).await?).map_err(unreadable)
}

/// The host's disks.
pub(crate) async fn disks() -> Result<Vec<Disk>, Failed> {
    let args = ["--json", "--bytes", "--tree", "-o", thin::DEVICE_COLUMNS];
    thin::disks(&system("lsblk", &args).await?).map_err(unreadable)
}
