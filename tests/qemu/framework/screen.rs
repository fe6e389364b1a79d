//! The text screen a person sees on the serial line: a VT100 of 80 columns and 24 lines.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{OrFail, poll_until};

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
const CURSOR_QUERY: &[u8] = b"\x1b[6n";

/// A terminal that reads bytes and can say where its cursor is.
struct Terminal {
    parser: vt100::Parser,
    tail: Vec<u8>,
    log: Vec<u8>,
}

impl Terminal {
    fn new() -> Self {
        Self { parser: vt100::Parser::new(ROWS, COLUMNS, 0), tail: Vec::new(), log: Vec::new() }
    }

    /// Takes bytes in and returns what a terminal answers: where the cursor is, for each time that was asked.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.log.extend_from_slice(bytes);
        let mut answer = Vec::new();
        for byte in bytes {
            self.parser.process(&[*byte]);
            self.tail.push(*byte);
            if self.tail.ends_with(CURSOR_QUERY) {
                let (row, column) = self.parser.screen().cursor_position();
                answer.extend_from_slice(format!("\x1b[{};{}R", row + 1, column + 1).as_bytes());
            }
            if self.tail.len() > CURSOR_QUERY.len() {
                self.tail.remove(0);
            }
        }
        answer
    }
}

/// The serial console of a machine, read by a thread that ends with the machine.
#[derive(Clone)]
pub struct Console {
    terminal: Arc<Mutex<Terminal>>,
    line: Arc<UnixStream>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

impl Console {
    /// Connects to the serial line of a machine; the terminal already shows what the line carried `before`.
    pub(crate) fn connect(socket: &Path, before: &[u8]) -> Self {
        let line = UnixStream::connect(socket).or_fail("Connecting to the serial line");
        let mut terminal = Terminal::new();
        // Questions of the past have had their answers.
        let _ = terminal.take(before);
        let terminal = Arc::new(Mutex::new(terminal));
        let console = Self { terminal: Arc::clone(&terminal), line: Arc::new(line) };
        let reader = Arc::clone(&console.line);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = (&*reader).read(&mut buffer) {
                let answer = terminal.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..count]);
                if (&*reader).write_all(&answer).is_err() {
                    break;
                }
            }
        });
        console
    }

    /// What the screen shows now, a line a row, without trailing blanks.
    pub fn text(&self) -> String {
        self.with(|terminal| terminal.parser.screen().contents())
    }

    /// Everything the line has carried since the machine started, without escape sequences.
    pub fn log(&self) -> String {
        self.with(|terminal| plain(&terminal.log))
    }

    /// The same, byte by byte. QEMU's own log of the line has a byte twice that it could not send at once.
    pub(crate) fn carried(&self) -> Vec<u8> {
        self.with(|terminal| terminal.log.clone())
    }

    /// Waits until the screen shows a text and returns the whole screen.
    pub fn wait_for_text(&self, text: &str, bound: Duration) -> Option<String> {
        poll_until(bound, || Some(self.text()).filter(|screen| screen.contains(text)))
    }

    /// Types keys at the console.
    #[track_caller]
    pub fn keys(&self, keys: &str) {
        (&*self.line).write_all(keys.as_bytes()).or_fail("Typing at the console");
    }

    fn with<T>(&self, look: impl FnOnce(&Terminal) -> T) -> T {
        look(&self.terminal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The reader holds the other reference to the line; closing it is what ends the thread.
        if Arc::strong_count(&self.line) <= 2 {
            let _ = self.line.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Text without escape sequences.
fn plain(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            0x1b => match rest.next() {
                Some(b'[') => drop(rest.find(|byte| (0x40..=0x7e).contains(*byte))),
                // A command to the terminal ends with a bell or with ESC and a backslash.
                Some(b']' | b'P') => drop(rest.find(|byte| matches!(byte, 0x07 | b'\\'))),
                _ => {}
            },
            b'\r' => {}
            _ => text.push(*byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_says_where_its_cursor_is_when_asked() {
        let mut terminal = Terminal::new();
        assert_eq!(terminal.take(b"\x1b[32766;32766H\x1b[6"), b"");
        assert_eq!(terminal.take(b"n"), b"\x1b[24;80R");
    }

    #[test]
    fn a_screen_that_is_drawn_over_shows_the_last_drawing() {
        let mut terminal = Terminal::new();
        terminal.take(b"\x1b[2J\x1b[1;1Hhttps://10.0.2.1/\x1b[1;1Hno network       \x1b[K");
        assert_eq!(terminal.parser.screen().contents().trim_end(), "no network");
    }

    #[test]
    fn a_log_has_no_escape_sequences() {
        assert_eq!(plain(b"\x1b]104\x1b\\a\x1b]0;title\x07b\x1b[?7hc"), "abc");
        assert_eq!(plain(b"[\x1b[0;32m  OK  \x1b[0m] Started\r\n"), "[  OK  ] Started\n");
    }
}
