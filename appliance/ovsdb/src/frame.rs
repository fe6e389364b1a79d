//! Messages on the wire: JSON objects one after another with nothing between them, so the end of one is found by
//! counting braces outside strings.

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message must be an object.
    #[error("a message does not start with an opening brace")]
    NotAnObject,
    /// Longer than we are ready to hold.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
}

/// Takes bytes as they come and gives whole messages.
#[derive(Debug)]
pub struct MessageReader {
    buffer: Vec<u8>,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    limit: usize,
}

impl MessageReader {
    /// A reader that holds at most `limit` bytes of one message.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), scanned: 0, depth: 0, in_string: false, escaped: false, limit }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it has arrived.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if self.scanned == 0 {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.drain(..blank);
            if self.buffer.first().is_some_and(|byte| *byte != b'{') {
                return Err(FrameError::NotAnObject);
            }
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.scanned > self.limit {
                return Err(FrameError::TooLong(self.limit));
            }
            if self.ends_message(byte) {
                let rest = self.buffer.split_off(self.scanned);
                self.scanned = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
        }
        Ok(None)
    }

    fn ends_message(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth += 1,
            b'}' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn object() -> impl Strategy<Value = Value> {
        (".*", any::<i64>(), prop::collection::vec(".*", 0..4)).prop_map(
            |(text, number, list)| json!({ text.clone(): number, "s": text, "l": list, "o": {"}": "{"} }),
        )
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_they_are_cut(
            objects in prop::collection::vec(object(), 1..5),
            cut in 1usize..40,
        ) {
            let wire: Vec<u8> = objects.iter().flat_map(|object| object.to_string().into_bytes()).collect();
            let mut reader = MessageReader::new(1 << 20);
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                reader.push(piece);
                while let Some(message) = reader.next_message().unwrap() {
                    seen.push(serde_json::from_slice::<Value>(&message).unwrap());
                }
            }
            prop_assert_eq!(seen, objects);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = MessageReader::new(64);
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_message() {}
        }
    }

    #[test]
    fn a_message_longer_than_the_limit_is_refused() {
        let mut reader = MessageReader::new(16);
        reader.push(br#"{"a":"0123456789"#);
        assert_eq!(reader.next_message(), Ok(None));
        reader.push(b"x");
        assert_eq!(reader.next_message(), Err(FrameError::TooLong(16)));
    }
}
