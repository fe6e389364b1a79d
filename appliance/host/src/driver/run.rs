//! The one runner of outside programs: an argument vector and never a shell, a time limit, bounded output, and an
//! error that shows the command and the last lines.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt, process::Command, time::timeout};

const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;

/// What a program that ended left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Why a program has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It is not there, or may not be run.
    #[error("{command} could not be started: {error}")]
    NotStarted {
        /// The command line.
        command: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It was stopped because it took too long.
    #[error("{command} did not end within {} seconds", limit.as_secs())]
    TimedOut {
        /// The command line.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
}

/// Starts a program that writes what it makes of a file. It has no environment but its path, and ends with whoever holds it.
#[expect(clippy::disallowed_methods, reason = "this is the runner")]
pub fn filter(program: &str, args: &[&str], from: std::fs::File) -> std::io::Result<tokio::process::Child> {
    Command::new(program)
        .args(args)
        .stdin(from)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .kill_on_drop(true)
        .spawn()
}

/// Runs a program to its end, or kills it when the time is over.
#[expect(clippy::disallowed_methods, reason = "this is the runner")]
pub async fn run<S: AsRef<OsStr>>(program: &str, args: &[S], limit: Duration) -> Result<Finished, RunError> {
    let command = std::iter::once(program.to_owned())
        .chain(args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ");
    let not_started = |error| RunError::NotStarted { command: command.clone(), error };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C")
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finish = async {
        let (stdout, stderr, status) = tokio::join!(text(stdout), text(stderr), child.wait());
        status.map(|status| Finished { code: status.code(), stdout, stderr })
    };
    match timeout(limit, finish).await {
        Ok(finished) => finished.map_err(not_started),
        Err(_) => Err(RunError::TimedOut { command, limit }),
    }
}

/// How often a program that writes into a file is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a program whose output goes into a file, for as long as `go_on` says so and the time allows. Whether it ended by
/// itself; what it wrote until then is there either way.
#[expect(clippy::disallowed_methods, reason = "this is the runner")]
pub async fn run_into_file<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    limit: Duration,
    file: std::fs::File,
    mut go_on: impl FnMut() -> bool,
) -> Result<bool, RunError> {
    let not_started = |error| RunError::NotStarted { command: program.to_owned(), error };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::from(file))
        .stderr(Stdio::null())
        .env("LC_ALL", "C")
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    let until = tokio::time::Instant::now() + limit;
    loop {
        match timeout(LOOK, child.wait()).await {
            Ok(ended) => {
                ended.map_err(not_started)?;
                // Its last lines count as well.
                go_on();
                return Ok(true);
            }
            Err(_) if !go_on() || tokio::time::Instant::now() >= until => {
                // It has ended by itself just now, or ends with this.
                drop(child.kill().await);
                return Ok(false);
            }
            Err(_) => {}
        }
    }
}

async fn text(pipe: Option<impl AsyncReadExt + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut bounded = pipe.take(MAX_OUTPUT_BYTES);
        // What was read until the pipe broke is what there is.
        let _ = bounded.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_and_exit_code_are_kept() {
        let finished =
            run("sh", &["-c", "echo out; echo err >&2; exit 3"], Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            (finished.code, finished.stdout.as_str(), finished.stderr.as_str()),
            (Some(3), "out\n", "err\n")
        );
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_stopped_and_named() {
        let error = run("sleep", &["600"], Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(&error, RunError::TimedOut { command, .. } if command == "sleep 600"), "{error}");
    }

    #[tokio::test]
    async fn what_goes_into_a_file_is_stopped_when_it_is_enough() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let length = || path.as_file().metadata().unwrap().len();
        let file = path.reopen().unwrap();
        let ended =
            run_into_file("sh", &["-c", "echo all of it"], Duration::from_secs(10), file, || true).await;
        assert!(ended.unwrap() && length() == 10);
        let file = path.reopen().unwrap();
        let ended =
            run_into_file("yes", &["more"], Duration::from_secs(60), file, || length() < 100_000).await;
        assert!(!ended.unwrap() && length() >= 100_000);
        let file = path.reopen().unwrap();
        let ended = run_into_file("sleep", &["600"], Duration::from_millis(50), file, || true).await;
        assert!(!ended.unwrap());
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let error = run::<&str>("no-such-program", &[], Duration::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().starts_with("no-such-program could not be started"), "{error}");
    }
}
