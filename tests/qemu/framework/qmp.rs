//! QEMU's machine protocol: one JSON object a line over a unix socket.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{OrFail, poll_until};

const ANSWER_BOUND: Duration = Duration::from_secs(60);

/// A conversation with one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// Why QEMU did not do what was asked.
pub(crate) type QmpError = String;

impl Qmp {
    /// Connects and leaves the negotiation of capabilities behind.
    pub(crate) fn connect(socket: &Path) -> Result<Self, QmpError> {
        let writer = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        writer.set_read_timeout(Some(ANSWER_BOUND)).map_err(|error| error.to_string())?;
        let reader = BufReader::new(writer.try_clone().map_err(|error| error.to_string())?);
        let mut qmp = Self { reader, writer };
        qmp.next()?;
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Sends a command and returns its answer. Events in between are passed over: state is asked for, not followed.
    pub(crate) fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).map_err(|error| format!("QMP {command}: {error}"))?;
        loop {
            let mut message = self.next().map_err(|error| format!("QMP {command}: {error}"))?;
            if let Some(error) = message.get("error") {
                return Err(format!("QMP {command}: {error}"));
            }
            if message.get("return").is_some() {
                return Ok(message["return"].take());
            }
        }
    }

    /// Sends a command that must work.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str, arguments: Value) -> Value {
        self.ask(command, arguments).or_fail("QEMU refused")
    }

    /// Waits until a migration, out or in, has ended.
    pub(crate) fn migration_ended(&mut self, bound: Duration) -> Result<(), QmpError> {
        let status = poll_until(bound, || {
            let answer = self.ask("query-migrate", json!({})).unwrap_or_default();
            let status = answer["status"].as_str().unwrap_or_default().to_owned();
            ["completed", "failed", "cancelled"].contains(&status.as_str()).then_some((status, answer))
        });
        match status {
            Some((status, _)) if status == "completed" => Ok(()),
            Some((_, answer)) => Err(format!("The machine's state could not be moved: {answer}")),
            None => Err(format!("Moving the machine's state took longer than {} s.", bound.as_secs())),
        }
    }

    fn next(&mut self) -> Result<Value, QmpError> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err("QEMU has gone.".to_owned()),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("not JSON ({error}): {line}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixListener, thread};

    use super::*;

    #[test]
    fn events_before_an_answer_are_passed_over_and_errors_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"QMP\":{}}\n{\"return\":{}}\n").unwrap();
            stream.write_all(b"{\"event\":\"STOP\"}\n{\"return\":{\"status\":\"paused\"}}\n").unwrap();
            stream.write_all(b"{\"error\":{\"desc\":\"no such device\"}}\n").unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            heard
        });
        let mut qmp = Qmp::connect(&path).unwrap();
        assert_eq!(qmp.ask("query-status", json!({})).unwrap()["status"], "paused");
        assert!(
            qmp.ask("set_link", json!({"name": "x", "up": false})).unwrap_err().contains("no such device")
        );
        drop(qmp);
        assert_eq!(peer.join().unwrap().lines().count(), 3);
    }
}
