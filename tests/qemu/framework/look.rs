//! Looking at a machine that is on: its shell, its console, its pages.

use std::time::Duration;

use quantix_api::Readiness;

use crate::{Browser, Console, Fingerprint, Machine, OrFail, Output, fail, https, poll_until, wait_until};

const COMMAND_BOUND: Duration = Duration::from_secs(60);
/// The user network takes a connection before the machine can; one that was opened too early hangs.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

impl Machine {
    /// Runs a command as root in the machine.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Output {
        self.run_within(command, COMMAND_BOUND)
    }

    /// The same with a bound of one's own.
    #[track_caller]
    pub fn run_within(&mut self, command: &str, bound: Duration) -> Output {
        self.try_run(command, bound)
            .or_fail(format!("The machine's shell did not answer within {} s: {command}", bound.as_secs()))
    }

    /// The same when there may be no answer.
    #[track_caller]
    pub fn try_run(&mut self, command: &str, bound: Duration) -> Option<Output> {
        let running = self.on();
        // What a shell before a reboot left unanswered is no reason to wait for it in vain.
        if !running.shell.answers(bound) {
            return None;
        }
        running.shell.run(command, bound)
    }

    /// The serial console.
    #[track_caller]
    pub fn console(&mut self) -> &Console {
        &self.on().console
    }

    /// What the console shows.
    #[track_caller]
    pub fn console_screen(&mut self) -> String {
        self.console().text()
    }

    /// Waits for a text on the console and returns the screen.
    #[track_caller]
    pub fn wait_for_text(&mut self, text: &str, bound: Duration) -> String {
        let found = self.console().wait_for_text(text, bound);
        let screen = self.console_screen();
        found.or_fail(format!("The console does not show {text:?} after {} s but\n{screen}", bound.as_secs()))
    }

    /// A browser that trusts the certificate the console shows.
    #[track_caller]
    pub fn https(&mut self) -> Browser {
        let port = self.wires.https;
        self.https_through(port)
    }

    /// The same through a port of 127.0.0.1 that leads to the machine.
    #[track_caller]
    pub fn https_through(&mut self, port: u16) -> Browser {
        let shown =
            wait_until("the certificate's fingerprint on the console", Duration::from_secs(60), || {
                Fingerprint::find(&self.console_screen())
            });
        Browser::through_port(port, Some(shown), https::BOUND)
    }

    /// A browser that trusts whatever it sees and gives up soon: for asking again and again until a machine answers.
    pub fn trusting_browser(&self) -> Browser {
        Browser::through_port(self.wires.https, None, PROBE_PATIENCE)
    }

    /// The port of 127.0.0.1 that leads to the machine's port 80.
    pub fn http_port(&self) -> u16 {
        self.wires.http
    }

    /// The port of 127.0.0.1 that leads to the machine's port 443.
    pub fn https_port(&self) -> u16 {
        self.wires.https
    }

    /// Asks the machine what works; `None` when it does not answer.
    pub fn readiness(&self) -> Option<Readiness> {
        let mut browser = Browser::through_port(self.wires.https, None, https::BOUND);
        let answer = browser.request("GET", "/readyz", &[], b"").ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// Waits until the machine says that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self, bound: Duration) -> Readiness {
        let mut last = None;
        let ready = poll_until(bound, || {
            if !self.is_on() {
                fail("QEMU ended while the machine was booting.");
            }
            self.trusting_browser().request("GET", "/healthz", &[], b"").ok()?;
            last = self.readiness().or(last.take());
            last.clone().filter(|readiness| readiness.ready)
        });
        match (ready, last) {
            (Some(ready), _) => ready,
            (None, Some(last)) => fail(format!("Not ready after {} s: {last:#?}", bound.as_secs())),
            (None, None) => fail(format!("/readyz did not answer within {} s.", bound.as_secs())),
        }
    }

    /// Waits until systemd has nothing left to start, so that what follows measures no boot.
    #[track_caller]
    pub fn wait_settled(&mut self, bound: Duration) -> String {
        self.run_within("systemctl is-system-running --wait", bound).text
    }

    /// The kernel's name for this boot.
    #[track_caller]
    pub fn boot_id(&mut self) -> String {
        self.run("cat /proc/sys/kernel/random/boot_id").ok()
    }
}
