//! A root shell in the machine under test, which has none: its unit is handed in from outside, as a credential in
//! the machine's SMBIOS tables, and speaks over a virtio port. The image is not changed for it.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::{OrFail, fail};

/// The name of the virtio port.
pub(crate) const PORT: &str = "quantix.test";

/// The unit of the shell. It starts early and stays through emergency mode, where it is needed most.
const UNIT: &str = "[Unit]
Description=Shell for tests
DefaultDependencies=no
IgnoreOnIsolate=yes
ConditionPathExists=!/etc/initrd-release
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'until [ -e /dev/virtio-ports/quantix.test ]; do sleep 0.2; done; exec 0<>/dev/virtio-ports/quantix.test 1>&0 2>/dev/null; exec /bin/sh'
StandardError=null
Restart=always
RestartSec=200ms
OOMScoreAdjust=-900
";

const WANT: &str = "[Unit]\nWants=quantix-test-shell.service\n";

/// The QEMU options that hand the unit to systemd.
pub(crate) fn smbios_credentials() -> Vec<String> {
    let credential = |name: &str, text: &str| {
        let value = BASE64.encode(text);
        format!("type=11,value=io.systemd.credential.binary:{name}={value}")
    };
    vec![
        credential("systemd.extra-unit.quantix-test-shell.service", UNIT),
        credential("systemd.unit-dropin.sysinit.target~quantix-test-shell", WANT),
    ]
}

/// What a command in the machine said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit status.
    pub status: i32,
    /// Standard output and standard error together, without the last line's end.
    pub text: String,
}

impl Output {
    /// Ends the case unless the command succeeded; returns what it said.
    #[track_caller]
    pub fn ok(self) -> String {
        if self.status != 0 {
            fail(format!("A command in the machine failed with status {}: {}", self.status, self.text));
        }
        self.text
    }

    /// Whether the command succeeded.
    pub fn succeeded(&self) -> bool {
        self.status == 0
    }
}

/// A connection to the shell.
#[derive(Debug)]
pub(crate) struct Shell {
    stream: UnixStream,
    number: u64,
}

impl Shell {
    /// Connects to the host's end of the port; the shell may not be there yet.
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).or_fail("Connecting to the shell's port");
        Self { stream, number: 0 }
    }

    /// Runs a command; `None` when no answer came in time.
    pub(crate) fn run(&mut self, command: &str, bound: Duration) -> Option<Output> {
        let seconds = bound.as_secs().max(1);
        let script = BASE64.encode(command);
        let invocation = format!(
            "timeout -k 5 {seconds} /bin/sh -c \"$(printf %s {script} | base64 -d)\" </dev/null 2>&1"
        );
        self.exchange(&invocation, bound + Duration::from_secs(10))
    }

    /// Waits until a shell answers.
    pub(crate) fn answers(&mut self, bound: Duration) -> bool {
        let end = Instant::now() + bound;
        while Instant::now() < end {
            if self.exchange(":", Duration::from_secs(4)).is_some() {
                return true;
            }
        }
        false
    }

    fn exchange(&mut self, invocation: &str, bound: Duration) -> Option<Output> {
        self.number += 1;
        let id = format!("@@{}.{}@@", std::process::id(), self.number);
        // The marks are put together in the machine, so that nothing that echoes the line can be taken for them.
        let line =
            format!("printf '\\n%s%s\\n' '{id}' begin; {invocation}; printf '\\n%s%s%d\\n' '{id}' end $?\n");
        self.stream.write_all(line.as_bytes()).ok()?;
        self.read_answer(&id, bound)
    }

    fn read_answer(&mut self, id: &str, bound: Duration) -> Option<Output> {
        let end = Instant::now() + bound;
        let mut heard = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            if let Some(output) = answer(&heard, id) {
                return Some(output);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).ok()?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// Finds the answer between its marks; whatever an earlier command left before them is passed over.
fn answer(heard: &[u8], id: &str) -> Option<Output> {
    let heard = String::from_utf8_lossy(heard);
    let begin = format!("\n{id}begin\n");
    let text = &heard[heard.find(&begin)? + begin.len()..];
    let mark = format!("\n{id}end");
    // A command without output leaves the mark's own line feed first.
    let (text, rest) =
        text.split_once(&mark).or_else(|| text.strip_prefix(&mark[1..]).map(|rest| ("", rest)))?;
    let status = rest.split_once('\n')?.0.trim().parse().ok()?;
    Some(Output { status, text: text.strip_suffix('\n').unwrap_or(text).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(heard: &str, expected: Option<(i32, &str)>) {
        let expected = expected.map(|(status, text)| Output { status, text: text.to_owned() });
        assert_eq!(answer(heard.as_bytes(), "@@7.1@@"), expected);
    }

    #[test]
    fn an_answer_is_what_lies_between_its_marks() {
        check("\n@@7.1@@begin\nhello\n\n@@7.1@@end0\n", Some((0, "hello")));
        check("\n@@7.1@@begin\nno end of line\n@@7.1@@end3\n", Some((3, "no end of line")));
        check("\n@@7.1@@begin\n\n@@7.1@@end1\n", Some((1, "")));
    }

    #[test]
    fn an_answer_is_complete_or_not_there() {
        check("\n@@7.1@@begin\nhello\n\n@@7.1@@end", None);
        check("\n@@7.1@@begin\nhello\n", None);
    }

    #[test]
    fn what_an_earlier_command_left_is_passed_over() {
        check("late\n\n@@7.0@@end0\n\n@@7.1@@begin\nmine\n\n@@7.1@@end0\n", Some((0, "mine")));
    }
}
