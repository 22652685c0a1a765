//! RTMP's chunk streams (RTMP 1.0 §5.3): messages written as chunks, a server's chunks read.
//!
//! Not here: what messages mean (`session`).

use std::collections::HashMap;

/// The chunk size of both sides until they announce another.
const CHUNK_BYTES_DEFAULT: usize = 128;
/// In the 24-bit field: the time stamp follows in 32 bits.
const EXTENDED: u32 = 0x00ff_ffff;
/// A server's longest message that is taken: its answers have less than 2 KB.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// A server's chunk streams: it uses two or three.
const STREAMS_MAX: usize = 16;

/// A whole message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Message stream id; 0 is the connection itself.
    pub(super) stream: u32,
    pub(super) timestamp_ms: u32,
    pub(super) payload: Vec<u8>,
}

/// Writes a message as chunks of this size: a full header, then continuations.
pub(super) fn write(id: u8, message: &Message, chunk_bytes: usize, out: &mut Vec<u8>) {
    let time = message.timestamp_ms;
    let field = time.min(EXTENDED);
    // Messages of ours are far shorter than 24 bits say.
    let length = u32::try_from(message.payload.len()).unwrap_or(EXTENDED);
    out.push(id & 0x3f);
    out.extend(field.to_be_bytes().iter().skip(1));
    out.extend(length.to_be_bytes().iter().skip(1));
    out.push(message.kind);
    out.extend(message.stream.to_le_bytes());
    let extended = |out: &mut Vec<u8>| {
        if field == EXTENDED {
            out.extend(time.to_be_bytes());
        }
    };
    extended(out);
    for (index, chunk) in message.payload.chunks(chunk_bytes.max(1)).enumerate() {
        if index > 0 {
            out.push(0xc0 | id & 0x3f);
            extended(out);
        }
        out.extend_from_slice(chunk);
    }
}

/// Puts a server's messages together.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) chunk_bytes: usize,
    bytes: Vec<u8>,
    streams: HashMap<u8, (Message, usize)>,
}

/// Bytes that are no RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent what is not RTMP")]
pub(super) struct Malformed;

impl Default for Reader {
    fn default() -> Self {
        Self { chunk_bytes: CHUNK_BYTES_DEFAULT, bytes: Vec::new(), streams: HashMap::new() }
    }
}

impl Reader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Malformed> {
        while let Some((used, message)) = self.chunk()? {
            self.bytes.drain(..used);
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// One chunk from the front: its length, and the message that it completes.
    #[allow(clippy::type_complexity, reason = "an inner step of `next_message`")]
    fn chunk(&mut self) -> Result<Option<(usize, Option<Message>)>, Malformed> {
        let Some((basic, rest)) = self.bytes.split_first() else { return Ok(None) };
        let (format, id) = (basic >> 6, basic & 0x3f);
        // Ids of two and three bytes: no server needs them for its answers.
        if id < 2 {
            return Err(Malformed);
        }
        let header = [11, 7, 3, 0].get(usize::from(format)).copied().unwrap_or(0);
        let Some((header, mut rest)) = rest.split_at_checked(header) else { return Ok(None) };
        let known = self.streams.get(&id);
        let (mut message, mut length) = match known {
            Some((message, length)) => (message.clone(), *length),
            None if format == 0 && self.streams.len() < STREAMS_MAX => (Message::default(), 0),
            None => return Err(Malformed),
        };
        let mut field = 0;
        if let [a, b, c, ..] = header {
            field = u32::from_be_bytes([0, *a, *b, *c]);
            message.timestamp_ms = field;
        }
        if let [_, _, _, a, b, c, kind, ..] = header {
            length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            message.kind = *kind;
        }
        if let [.., a, b, c, d] = header
            && format == 0
        {
            message.stream = u32::from_le_bytes([*a, *b, *c, *d]);
        }
        if length > MESSAGE_BYTES_MAX {
            return Err(Malformed);
        }
        let mut used = 1 + header.len();
        if field == EXTENDED {
            let Some((_, after)) = rest.split_at_checked(4) else { return Ok(None) };
            rest = after;
            used += 4;
        }
        let wanted = length.saturating_sub(message.payload.len()).min(self.chunk_bytes);
        let Some((body, _)) = rest.split_at_checked(wanted) else { return Ok(None) };
        message.payload.extend_from_slice(body);
        used += wanted;
        let whole = message.payload.len() >= length;
        let next = Message { payload: Vec::new(), ..message.clone() };
        self.streams.insert(id, (if whole { next } else { message.clone() }, length));
        Ok(Some((used, whole.then_some(message))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize, timestamp_ms: u32) -> Message {
        Message { kind: 9, stream: 1, timestamp_ms, payload: vec![7; bytes] }
    }

    #[test]
    fn messages_are_read_as_written_however_they_are_cut() {
        let messages = [message(10, 0), message(128, 5), message(1_000, 16_000_000)];
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| write(4, message, CHUNK_BYTES_DEFAULT, &mut bytes));
        for step in [1, 7, 100, bytes.len()] {
            let (mut reader, mut got) = (Reader::default(), Vec::new());
            for piece in bytes.chunks(step) {
                reader.push(piece);
                while let Some(message) = reader.next_message().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, messages, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_time_beyond_24_bits_is_extended_in_every_chunk() {
        let mut bytes = Vec::new();
        write(6, &message(300, 0x0100_0000), 128, &mut bytes);
        assert_eq!(bytes.len(), 12 + 4 + 300 + 2 * (1 + 4));
    }

    #[test]
    fn what_is_no_rtmp_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            &[0; 64],
            &[0x03, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0],
        ] {
            let mut reader = Reader::default();
            reader.push(bytes);
            assert_eq!(reader.next_message(), Err(Malformed), "{bytes:?}");
        }
    }
}
