//! Restarting a host and switching it off.

use std::time::Duration;

use quantix_host::{blocking, run};

use crate::{api::Agent, tasks::runner::Did};

const ASK: Duration = Duration::from_secs(30);
/// How long the machine may take until it is really off.
const GOES_WITHIN: Duration = Duration::from_secs(5 * 60);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What tells one start of the machine from the next.
pub(crate) async fn boot() -> String {
    let read = blocking(|| std::fs::read_to_string(BOOT_ID)).await;
    read.and_then(Result::ok).map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// What Quantix-OS runs on is its own; any other machine belongs to somebody.
pub(super) async fn must_be_ours(agent: &Agent) -> Result<(), String> {
    if agent.host.facts().await.is_image() {
        return Ok(());
    }
    Err("This machine does not run Quantix-OS: its services and its power are somebody else's.".to_owned())
}

/// Ends this start of the machine, if it is still the one in which the task began.
pub(super) async fn end_with(agent: &Agent, verb: &str, began_in: &str) -> Result<Did, String> {
    must_be_ours(agent).await?;
    let now = boot().await;
    if began_in.is_empty() || now.is_empty() {
        return Err("The machine does not say in which start it is.".to_owned());
    }
    if now != began_in {
        return Ok(Did::Done);
    }
    systemctl(&["--no-wall", verb], ASK).await?;
    tokio::time::sleep(GOES_WITHIN).await;
    Err(format!("It is still running {} minutes after it was told.", GOES_WITHIN.as_secs() / 60))
}

/// Asks the system's manager for something.
pub(super) async fn systemctl(args: &[&str], limit: Duration) -> Result<(), String> {
    let args: Vec<_> = ["--no-ask-password"].iter().chain(args).copied().collect();
    let finished = run("systemctl", &args, limit).await.map_err(|error| format!("{error}."))?;
    if finished.code == Some(0) {
        return Ok(());
    }
    let said =
        finished.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
    Err(format!("The system's manager refused: {}.", said.trim().trim_end_matches('.')))
}
