//! JSON objects one after another, in whatever pieces they come.

use openvswitch_ovsdb::{FrameError, MessageReader};

/// The longest message in this target; the first byte says how the rest is cut.
const LIMIT: usize = 256;

pub(crate) fn messages(bytes: &[u8]) {
    let Some((cut, wire)) = bytes.split_first() else { return };
    let (whole, pieces) = (read(wire, wire.len().max(1)), read(wire, usize::from(*cut).max(1)));
    assert_eq!(whole, pieces, "what is read depends on how it was cut");
    for message in whole.0 {
        assert!(message.len() <= LIMIT && message.starts_with(b"{") && message.ends_with(b"}"));
    }
}

fn read(wire: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut reader, mut messages) = (MessageReader::new(LIMIT), Vec::new());
    for piece in wire.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
