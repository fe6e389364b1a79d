//! The only place that starts processes: tools of the builder root, QEMU among them.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{OrFail, fail, poll_until, project};

/// A process in a group of its own that does not outlive its owner.
#[derive(Debug)]
pub struct Owned {
    child: Child,
}

impl Owned {
    /// Starts a program of the builder root. Its output goes to `log`.
    ///
    /// `setpriv --pdeathsig` ends it also when this process is killed. The signal is tied to the *thread* that
    /// starts it, so a machine belongs to the thread of its case.
    pub fn start(arguments: &[OsString], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).or_fail("Opening the log of QEMU");
        let errors = log.try_clone().or_fail("Sharing the log of QEMU");
        let child = builder_command("setpriv", &["--pdeathsig".into(), "KILL".into()])
            .arg(project::root().join("tools/builder"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .or_fail("Starting QEMU in the builder root");
        Self { child }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends the whole group at once, as a power cut ends a machine.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            if let Ok(group) = i32::try_from(self.child.id()) {
                // It may have ended between the question and the signal; then there is nobody to hear it.
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, bound: Duration) -> Option<ExitStatus> {
        poll_until(bound, || self.ended())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a tool of the builder root to its end and returns what it printed.
#[track_caller]
pub fn tool(arguments: &[&str]) -> String {
    let output = builder_command("timeout", &["120".into()])
        .arg(project::root().join("tools/builder"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .or_fail("Starting a tool of the builder root");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        fail(format!("`{}` failed ({}): {}", arguments.join(" "), output.status, said.trim()));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program of this machine, such as `git`, and returns what it printed; nothing if it is not there.
pub fn local(program: &str, arguments: &[&str]) -> Option<String> {
    let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
    let output = builder_command(program, &arguments).current_dir(project::root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "no runtime to block here: cases are plain threads")]
fn builder_command(program: &str, arguments: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
