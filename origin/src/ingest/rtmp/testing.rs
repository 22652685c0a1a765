//! A client for tests: makes the bytes that encoders send and reads the server's answers.
//!
//! Not here: sockets. Tests put these bytes into a session or onto a socket themselves.

use bytes::{Buf, Bytes, BytesMut};

use super::amf0::{self, Value};
use super::chunk::{ChunkLimits, ChunkReader, ChunkWriter, Message};
use super::reply::kind;
use super::session::{Event, Session, SessionLimits};

const HANDSHAKE_ANSWER_BYTES: usize = 1 + 2 * 1_536;

/// The order in which an encoder goes about publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `releaseStream`, `FCPublish`, `createStream` (OBS, ffmpeg, FMLE).
    ReleaseFirst,
    /// `createStream` first, then the others (GStreamer, XSplit-like).
    CreateFirst,
    /// `createStream` alone.
    CreateOnly,
}

/// Writes what a client sends.
#[derive(Default)]
pub(crate) struct ClientBytes {
    writer: ChunkWriter,
    pub(crate) out: BytesMut,
    transaction: f64,
}

impl ClientBytes {
    /// A client that has begun with C0, C1 and C2 at once.
    pub(crate) fn new() -> Self {
        let mut client = Self::default();
        client.out.extend_from_slice(&[3]);
        client.out.extend_from_slice(&[0; 2 * 1_536]);
        client
    }

    pub(crate) fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    pub(crate) fn message(&mut self, kind: u8, stream: u32, timestamp: u32, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let id = match kind {
            kind::AUDIO => 4,
            kind::VIDEO => 6,
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => 3,
            _ => 2,
        };
        self.writer.write(id, &Message { kind, stream, timestamp, payload }, &mut self.out);
    }

    pub(crate) fn chunk_size(&mut self, bytes: u32) {
        self.message(kind::SET_CHUNK_SIZE, 0, 0, &bytes.to_be_bytes());
        self.writer.set_chunk_size(bytes);
    }

    pub(crate) fn command(&mut self, stream: u32, name: &str, arguments: &[Value]) {
        self.transaction += 1.0;
        let mut payload = BytesMut::new();
        amf0::encode(&Value::text(name), &mut payload);
        amf0::encode(&Value::Number(self.transaction), &mut payload);
        arguments.iter().for_each(|value| amf0::encode(value, &mut payload));
        self.message(kind::COMMAND_AMF0, stream, 0, &payload);
    }

    pub(crate) fn connect(&mut self, app: &str) {
        let url = format!("rtmp://127.0.0.1/{app}");
        let object = Value::object([("app", Value::text(app)), ("tcUrl", Value::String(url))]);
        self.command(0, "connect", &[object]);
    }

    /// Everything from C0 to `publish` of `app` and `key`.
    pub(crate) fn publishing(app: &str, key: &str, order: Order) -> Self {
        let mut client = Self::new();
        client.connect(app);
        let named = [Value::Null, Value::text(key)];
        if order == Order::ReleaseFirst {
            client.command(0, "releaseStream", &named);
            client.command(0, "FCPublish", &named);
        }
        client.command(0, "createStream", &[Value::Null]);
        if order == Order::CreateFirst {
            client.command(0, "_checkbw", &[Value::Null]);
            client.command(0, "releaseStream", &named);
            client.command(0, "FCPublish", &named);
            client.command(0, "getStreamLength", &named);
        }
        client.command(1, "publish", &[Value::Null, Value::text(key), Value::text("live")]);
        client
    }

    pub(crate) fn metadata(&mut self, properties: Value) {
        let mut payload = BytesMut::new();
        for value in [Value::text("@setDataFrame"), Value::text("onMetaData"), properties] {
            amf0::encode(&value, &mut payload);
        }
        self.message(kind::DATA_AMF0, 1, 0, &payload);
    }
}

/// Reads what the server answers.
pub(crate) struct Answers {
    reader: ChunkReader,
    input: BytesMut,
    handshake: bool,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let limits = ChunkLimits { streams: 8, message_bytes: 100_000, buffered_bytes: 100_000 };
        Self { reader: ChunkReader::new(limits), input: BytesMut::new(), handshake: true }
    }

    /// The messages that are whole with these bytes.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.input.extend_from_slice(bytes);
        if self.handshake {
            if self.input.len() < HANDSHAKE_ANSWER_BYTES {
                return Vec::new();
            }
            self.input.advance(HANDSHAKE_ANSWER_BYTES);
            self.handshake = false;
        }
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut self.input).unwrap() {
            if message.kind == kind::SET_CHUNK_SIZE {
                let size = message.payload.first_chunk().unwrap();
                self.reader.set_chunk_size(u32::from_be_bytes(*size)).unwrap();
            }
            messages.push(message);
        }
        messages
    }

    /// The status and error codes among the answers in `bytes`, and names of other commands.
    pub(crate) fn codes(&mut self, bytes: &[u8]) -> Vec<String> {
        let commands = self.read(bytes).into_iter().filter(|m| m.kind == kind::COMMAND_AMF0);
        commands
            .map(|message| {
                let values = amf0::decode_all(&message.payload).unwrap();
                let code =
                    values.iter().find_map(|value| value.get("code")).and_then(Value::as_str);
                code.or(values[0].as_str()).unwrap().to_owned()
            })
            .collect()
    }
}

/// Everything that ffmpeg 5.1 sent to publish 2 s of H.264 (96x64, 15 frames a second, 2 B-frames
/// in a row) and AAC (44.1 kHz) as `live/cam?token=abc`, up to its end.
pub(crate) const RECORDED: &[u8] = include_bytes!("fixtures/ffmpeg-h264-aac.rtmp");

/// The same of ffmpeg 9 and Enhanced RTMP: 1.5 s of H.265 (96x64, 10 frames a second, 2 B-frames)
/// and Opus.
pub(crate) const RECORDED_H265: &[u8] = include_bytes!("fixtures/ffmpeg-hevc-opus.rtmp");

/// The same with 1 s of AV1 and Opus.
pub(crate) const RECORDED_AV1: &[u8] = include_bytes!("fixtures/ffmpeg-av1-opus.rtmp");

/// What a session makes of a recording.
pub(crate) fn recorded_events(recording: &[u8]) -> Vec<Event> {
    let limits =
        SessionLimits { message_bytes: 100_000, buffered_bytes: 100_000, chunk_streams: 16 };
    let mut session = Session::new(limits, 1);
    let mut input = BytesMut::from(recording);
    let mut events = Vec::new();
    while let Some(event) = session.handle(&mut input).unwrap() {
        if matches!(event, Event::Publish(_)) {
            session.accept();
        }
        events.push(event);
    }
    events
}
