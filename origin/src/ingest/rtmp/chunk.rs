//! RTMP's chunk streams: messages cut into chunks and put together again (RTMP 1.0 §5.3).
//!
//! A payload is copied once, from the read buffer into its message's own buffer.
//! Not here: what messages mean (`session`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::RtmpError;

/// The chunk size of both sides until they announce another (RTMP 1.0 §5.4.1).
pub const CHUNK_BYTES_DEFAULT: usize = 128;
/// Room made for a message at its first chunk; more only as bytes come, whatever its header says.
const MESSAGE_BYTES_RESERVED: usize = 256 * 1024;
/// In the 24-bit field: the time stamp follows in 32 bits.
const EXTENDED: u32 = 0x00ff_ffff;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type id.
    pub kind: u8,
    /// Message stream id; 0 is the connection itself.
    pub stream: u32,
    /// Milliseconds, wrapping at 2^32.
    pub timestamp: u32,
    /// What it carries.
    pub payload: Bytes,
}

/// Bounds on what a connection may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Most chunk streams.
    pub streams: usize,
    /// Longest message, in bytes.
    pub message_bytes: usize,
    /// Most bytes of incomplete messages, over all chunk streams.
    pub buffered_bytes: usize,
}

/// What the last headers of a chunk stream said, and its incomplete message.
#[derive(Debug, Default)]
struct ChunkStream {
    timestamp: u32,
    /// The last header's time stamp field: what a header without one repeats.
    field: u32,
    /// Whether that field was extended.
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    partial: Option<BytesMut>,
}

/// A chunk's header as read, and what its chunk stream becomes by it.
struct Header {
    id: u32,
    bytes: usize,
    timestamp: u32,
    field: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    continues: bool,
}

/// Puts messages together.
#[derive(Debug)]
pub struct ChunkReader {
    limits: ChunkLimits,
    chunk_bytes: usize,
    streams: HashMap<u32, ChunkStream>,
    buffered: usize,
    /// The chunk being read: its stream and the bytes still to come.
    open: Option<(u32, usize)>,
}

impl ChunkReader {
    /// A reader at the default chunk size.
    #[must_use]
    pub fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            streams: HashMap::new(),
            buffered: 0,
            open: None,
        }
    }

    /// Changes the bounds. What is buffered already stays.
    pub fn set_limits(&mut self, limits: ChunkLimits) {
        self.limits = limits;
    }

    /// The peer's Set Chunk Size. Sizes above the longest message are all alike, so there is no
    /// upper bound but the protocol's.
    ///
    /// # Errors
    /// On 0 and on the reserved top bit.
    pub fn set_chunk_size(&mut self, bytes: u32) -> Result<(), RtmpError> {
        match usize::try_from(bytes) {
            Ok(size) if size > 0 && bytes <= 0x7fff_ffff => {
                self.chunk_bytes = size;
                Ok(())
            }
            _ => Err(RtmpError::ChunkSize(bytes)),
        }
    }

    /// The peer's Abort Message: forgets the incomplete message of chunk stream `id`.
    pub fn abort(&mut self, id: u32) {
        let partial = self.streams.get_mut(&id).and_then(|stream| stream.partial.take());
        self.buffered -= partial.map_or(0, |partial| partial.len());
    }

    /// Takes bytes from `input` until a message is whole (there may be more after it) or until
    /// more input is needed: what is then left in `input` is part of a header.
    ///
    /// # Errors
    /// When the input breaks the protocol or a limit; the reader is then of no more use.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, RtmpError> {
        loop {
            if self.open.is_none() {
                let Some(header) = self.header(input)? else { return Ok(None) };
                input.advance(header.bytes);
                self.begin(header)?;
            }
            let Some((id, remaining)) = self.open else { return Ok(None) };
            let taken = remaining.min(input.len());
            if self.buffered + taken > self.limits.buffered_bytes {
                return Err(RtmpError::TooMuchBuffered(self.limits.buffered_bytes));
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                return Err(RtmpError::NoHeader(id));
            };
            let partial = stream.partial.get_or_insert_default();
            partial.extend_from_slice(input.get(..taken).unwrap_or_default());
            input.advance(taken);
            self.buffered += taken;
            if taken < remaining {
                self.open = Some((id, remaining - taken));
                return Ok(None);
            }
            self.open = None;
            if partial.len() == stream.length {
                self.buffered -= stream.length;
                let payload = stream.partial.take().unwrap_or_default().freeze();
                let ChunkStream { kind, stream, timestamp, .. } = *stream;
                return Ok(Some(Message { kind, stream, timestamp, payload }));
            }
        }
    }

    /// Reads the header at the start of `input`; none while it is incomplete.
    fn header(&self, input: &[u8]) -> Result<Option<Header>, RtmpError> {
        let Some((format, id, basic)) = basic_header(input) else { return Ok(None) };
        let rest = input.get(basic..).unwrap_or_default();
        let message_header = match format {
            0 => 11,
            1 => 7,
            2 => 3,
            _ => 0,
        };
        let Some((fields, rest)) = rest.split_at_checked(message_header) else { return Ok(None) };
        let last = self.streams.get(&id);
        let continues = last.is_some_and(|stream| stream.partial.is_some());
        if continues && format != 3 {
            return Err(RtmpError::HeaderInsideMessage(id));
        }
        let fresh = ChunkStream::default();
        let last = match (last, format) {
            (Some(last), _) => last,
            // Some clients answer a ping with an abbreviated header on a chunk stream's first use.
            (None, 0 | 1) => &fresh,
            (None, _) => return Err(RtmpError::NoHeader(id)),
        };
        let mut header = Header {
            id,
            bytes: basic + message_header,
            timestamp: last.timestamp,
            field: last.field,
            extended: last.extended,
            length: last.length,
            kind: last.kind,
            stream: last.stream,
            continues,
        };
        if let [a, b, c, ..] = *fields {
            header.field = u32::from_be_bytes([0, a, b, c]);
            header.extended = header.field == EXTENDED;
        }
        if let [_, _, _, a, b, c, kind, ..] = *fields {
            let length = u32::from_be_bytes([0, a, b, c]);
            header.length = usize::try_from(length).unwrap_or(usize::MAX);
            header.kind = kind;
        }
        if let [.., a, b, c, d] = *fields
            && format == 0
        {
            header.stream = u32::from_le_bytes([a, b, c, d]);
        }
        if header.extended {
            match extended_timestamp(rest, (format == 3).then_some(last)) {
                Extension::Incomplete => return Ok(None),
                Extension::Absent => {}
                Extension::Present(field) => {
                    header.field = field;
                    header.bytes += 4;
                }
            }
        }
        if !continues {
            let base = if format == 0 { 0 } else { last.timestamp };
            header.timestamp = base.wrapping_add(header.field);
        }
        Ok(Some(header))
    }

    /// Opens the chunk that `header` announces.
    fn begin(&mut self, header: Header) -> Result<(), RtmpError> {
        let max = self.limits.message_bytes;
        if header.length > max && !header.continues {
            return Err(RtmpError::MessageTooLong { length: header.length, max });
        }
        let count = self.streams.len();
        let stream = match self.streams.entry(header.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if count >= self.limits.streams => {
                return Err(RtmpError::TooManyChunkStreams(self.limits.streams));
            }
            Entry::Vacant(entry) => entry.insert(ChunkStream::default()),
        };
        stream.timestamp = header.timestamp;
        stream.field = header.field;
        stream.extended = header.extended;
        stream.length = header.length;
        stream.kind = header.kind;
        stream.stream = header.stream;
        let partial = stream.partial.get_or_insert_with(|| {
            BytesMut::with_capacity(header.length.min(MESSAGE_BYTES_RESERVED))
        });
        let missing = stream.length.saturating_sub(partial.len());
        self.open = Some((header.id, missing.min(self.chunk_bytes)));
        Ok(())
    }
}

/// Format, chunk stream id and length of the basic header (RTMP 1.0 §5.3.1.1).
fn basic_header(input: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *input.first()?;
    let format = first >> 6;
    match first & 0x3f {
        0 => Some((format, 64 + u32::from(*input.get(1)?), 2)),
        1 => {
            let (low, high) = (*input.get(1)?, *input.get(2)?);
            Some((format, 64 + u32::from(u16::from_le_bytes([low, high])), 3))
        }
        id => Some((format, u32::from(id), 1)),
    }
}

enum Extension {
    Incomplete,
    Absent,
    Present(u32),
}

/// Reads the extended time stamp at the start of `rest`. Encoders disagree on whether a header of
/// format 3 repeats it (RTMP 1.0 §5.3.1.3 says yes): there it counts as present when the bytes
/// are `last`'s field or time stamp.
fn extended_timestamp(rest: &[u8], last: Option<&ChunkStream>) -> Extension {
    let found = rest.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let Some(last) = last else { return found.map_or(Extension::Incomplete, Extension::Present) };
    let matches = |expected: u32| {
        let expected = expected.to_be_bytes();
        let seen = rest.get(..4).unwrap_or(rest);
        expected.starts_with(seen)
    };
    match found {
        _ if !matches(last.field) && !matches(last.timestamp) => Extension::Absent,
        Some(_) => Extension::Present(last.field),
        None => Extension::Incomplete,
    }
}

/// Cuts messages into chunks.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_bytes: usize,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_bytes: CHUNK_BYTES_DEFAULT }
    }
}

impl ChunkWriter {
    /// The size of the chunks from here on (announce it first).
    pub fn set_chunk_size(&mut self, bytes: u32) {
        self.chunk_bytes = usize::try_from(bytes).unwrap_or(usize::MAX).max(1);
    }

    /// Appends a message on chunk stream `id` (2 to 63) to `out`. `payload` is at most
    /// 16,777,215 bytes: longer ones are cut.
    pub fn write(&self, id: u8, message: &Message, out: &mut BytesMut) {
        let id = id & 0x3f;
        let length = u32::try_from(message.payload.len()).unwrap_or(EXTENDED).min(EXTENDED);
        let extended = message.timestamp >= EXTENDED;
        out.put_u8(id);
        out.put_uint(u64::from(message.timestamp.min(EXTENDED)), 3);
        out.put_uint(u64::from(length), 3);
        out.put_u8(message.kind);
        out.put_u32_le(message.stream);
        if extended {
            out.put_u32(message.timestamp);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let payload = message.payload.get(..length).unwrap_or(&message.payload);
        for (at, chunk) in payload.chunks(self.chunk_bytes).enumerate() {
            if at > 0 {
                out.put_u8(0xc0 | id);
                if extended {
                    out.put_u32(message.timestamp);
                }
            }
            out.put_slice(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ChunkLimits =
        ChunkLimits { streams: 4, message_bytes: 1_000_000, buffered_bytes: 1_500_000 };

    fn message(kind: u8, timestamp: u32, length: usize) -> Message {
        let payload = (0..length).map(|at| (at % 253) as u8).collect::<Vec<_>>().into();
        Message { kind, stream: 1, timestamp, payload }
    }

    /// Feeds `bytes` in steps of `step` and collects the messages.
    fn read_all(bytes: &[u8], step: usize) -> Result<Vec<Message>, RtmpError> {
        let (mut reader, mut input) = (ChunkReader::new(LIMITS), BytesMut::new());
        let mut messages = Vec::new();
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(message) = reader.read(&mut input)? {
                messages.push(message);
            }
        }
        assert_eq!(
            reader.buffered,
            reader.streams.values().flat_map(|s| &s.partial).map(|p| p.len()).sum::<usize>()
        );
        Ok(messages)
    }

    #[test]
    fn messages_read_back_whatever_the_reads_sizes() {
        let messages = [
            message(8, 0, 0),
            message(9, 40, 1),
            message(9, EXTENDED - 1, 128),
            message(9, EXTENDED, 1_000),
            message(9, u32::MAX, 129),
        ];
        let mut bytes = BytesMut::new();
        for message in &messages {
            ChunkWriter::default().write(6, message, &mut bytes);
        }
        for step in [1, 2, 7, 128, 10_000] {
            assert_eq!(read_all(&bytes, step).unwrap(), messages, "steps of {step}");
        }
    }

    #[test]
    fn abbreviated_headers_take_the_rest_from_the_last() {
        let mut bytes = vec![0x04, 0, 0, 100, 0, 0, 2, 9, 1, 0, 0, 0, 1, 1];
        bytes.extend([0x44, 0, 0, 40, 0, 0, 1, 8, 2]); // length, type and delta
        bytes.extend([0x84, 0, 0, 10, 3]); // delta
        bytes.extend([0xc4, 4]); // the same delta
        let times: Vec<_> = read_all(&bytes, 3)
            .unwrap()
            .into_iter()
            .map(|m| (m.kind, m.timestamp, m.stream, m.payload.to_vec()))
            .collect();
        let expected = [
            (9, 100, 1, vec![1, 1]),
            (8, 140, 1, vec![2]),
            (8, 150, 1, vec![3]),
            (8, 160, 1, vec![4]),
        ];
        assert_eq!(times, expected);
    }

    #[test]
    fn a_delta_carries_the_time_stamp_over_its_wrap() {
        let mut bytes = vec![0x04, 0xff, 0xff, 0xff, 0, 0, 1, 9, 1, 0, 0, 0];
        bytes.extend([0xff, 0xff, 0xff, 0xf0, 1]);
        bytes.extend([0x84, 0, 0, 0x20, 2]);
        let times: Vec<_> = read_all(&bytes, 1).unwrap().iter().map(|m| m.timestamp).collect();
        assert_eq!(times, [0xffff_fff0, 0x10]);
    }

    #[test]
    fn continuations_may_leave_the_extended_time_stamp_out() {
        let body = [7u8; 200];
        for repeated in [true, false] {
            let mut bytes = vec![0x04, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0];
            bytes.extend([0x01, 0x02, 0x03, 0x04]);
            bytes.extend(&body[..128]);
            bytes.push(0xc4);
            if repeated {
                bytes.extend([0x01, 0x02, 0x03, 0x04]);
            }
            bytes.extend(&body[128..]);
            for step in [1, 500] {
                let messages = read_all(&bytes, step).unwrap();
                assert_eq!(messages.len(), 1, "repeated: {repeated}");
                assert_eq!(messages[0].timestamp, 0x0102_0304);
                assert_eq!(messages[0].payload, body.as_slice(), "repeated: {repeated}");
            }
        }
    }

    #[test]
    fn chunk_streams_interleave() {
        let (audio, video) = (message(8, 5, 130), message(9, 6, 260));
        let mut parts = [BytesMut::new(), BytesMut::new()];
        ChunkWriter::default().write(4, &audio, &mut parts[0]);
        ChunkWriter::default().write(6, &video, &mut parts[1]);
        let [a, v] = &parts;
        let mut bytes = v[..12 + 128].to_vec();
        bytes.extend(&a[..12 + 128]);
        bytes.extend(&v[12 + 128..12 + 128 + 129]);
        bytes.extend(&a[12 + 128..]);
        bytes.extend(&v[12 + 128 + 129..]);
        assert_eq!(read_all(&bytes, 11).unwrap(), [audio, video]);
    }

    #[test]
    fn long_chunk_stream_ids_are_read() {
        for (basic, id) in [(vec![0x00, 0], 64), (vec![0x01, 1, 1], 64 + 257)] {
            assert_eq!(basic_header(&basic), Some((0, id, basic.len())));
            assert_eq!(basic_header(&basic[..1]), None);
            let mut bytes = basic.clone();
            bytes.extend([0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 9]);
            assert_eq!(read_all(&bytes, 1).unwrap().len(), 1);
        }
    }

    #[test]
    fn an_abort_forgets_a_message_and_its_bytes() {
        let mut reader = ChunkReader::new(LIMITS);
        let mut input = BytesMut::new();
        ChunkWriter::default().write(4, &message(9, 0, 200), &mut input);
        input.truncate(12 + 128);
        assert_eq!(reader.read(&mut input), Ok(None));
        assert_eq!(reader.buffered, 128);
        reader.abort(4);
        reader.abort(99);
        assert_eq!(reader.buffered, 0);
        let next = message(8, 0, 10);
        ChunkWriter::default().write(4, &next, &mut input);
        assert_eq!(reader.read(&mut input), Ok(Some(next)));
    }

    #[test]
    fn a_chunk_size_of_any_allowed_number_works_and_others_are_refused() {
        for size in [1u32, 127, 4_096, 65_536, 0x00ff_ffff, 0x7fff_ffff] {
            let mut writer = ChunkWriter::default();
            writer.set_chunk_size(size);
            let (mut reader, mut input) = (ChunkReader::new(LIMITS), BytesMut::new());
            reader.set_chunk_size(size).unwrap();
            let sent = message(9, 1, 5_000);
            writer.write(4, &sent, &mut input);
            assert_eq!(reader.read(&mut input), Ok(Some(sent)), "chunks of {size}");
        }
        for size in [0, 0x8000_0000, u32::MAX] {
            let refused = ChunkReader::new(LIMITS).set_chunk_size(size);
            assert_eq!(refused, Err(RtmpError::ChunkSize(size)));
        }
    }

    #[test]
    fn bad_chunks_end_in_clear_errors() {
        let start = |id: u8, length: [u8; 3]| {
            let mut bytes = vec![id, 0, 0, 0];
            bytes.extend(length);
            bytes.extend([9, 1, 0, 0, 0]);
            bytes
        };
        let partial = |id| [start(id, [0, 1, 0]), vec![0; 128]].concat();
        let big = |id: u8| {
            let mut bytes = start(id, [0x0f, 0x42, 0x40]);
            for at in 0..7_000 {
                bytes.extend((at > 0).then_some(0xc0 | id));
                bytes.extend([0; 128]);
            }
            bytes
        };
        for (case, bytes, expected) in [
            ("a delta first", vec![0x85, 0, 0, 1], RtmpError::NoHeader(5)),
            ("a continuation first", vec![0xc5], RtmpError::NoHeader(5)),
            (
                "16 MB announced",
                start(3, [0xff; 3]),
                RtmpError::MessageTooLong { length: 0xff_ffff, max: 1_000_000 },
            ),
            (
                "a message in a message",
                [partial(3), start(3, [0, 0, 1])].concat(),
                RtmpError::HeaderInsideMessage(3),
            ),
            (
                "a flood of chunk streams",
                (3..=7).flat_map(partial).collect(),
                RtmpError::TooManyChunkStreams(4),
            ),
            (
                "large messages at once",
                [big(3), big(4)].concat(),
                RtmpError::TooMuchBuffered(1_500_000),
            ),
        ] {
            assert_eq!(read_all(&bytes, 4_096), Err(expected), "{case}");
        }
    }
}
