//! What the server says: control messages, command replies and statuses, as bytes.
//!
//! Not here: when to say it (`session`).

use bytes::{Bytes, BytesMut};

use super::amf0::{self, Value};
use super::chunk::{ChunkWriter, Message};

/// Protocol control and commands of the connection.
const CHUNK_STREAM_CONTROL: u8 = 2;
const CHUNK_STREAM_COMMAND: u8 = 3;

/// Message types (RTMP 1.0 §5.4, §7.1).
pub(super) mod kind {
    pub(in super::super) const SET_CHUNK_SIZE: u8 = 1;
    pub(in super::super) const ABORT: u8 = 2;
    pub(in super::super) const ACKNOWLEDGEMENT: u8 = 3;
    pub(in super::super) const USER_CONTROL: u8 = 4;
    pub(in super::super) const WINDOW_ACK_SIZE: u8 = 5;
    pub(in super::super) const SET_PEER_BANDWIDTH: u8 = 6;
    pub(in super::super) const AUDIO: u8 = 8;
    pub(in super::super) const VIDEO: u8 = 9;
    pub(in super::super) const DATA_AMF3: u8 = 15;
    pub(in super::super) const COMMAND_AMF3: u8 = 17;
    pub(in super::super) const DATA_AMF0: u8 = 18;
    pub(in super::super) const COMMAND_AMF0: u8 = 20;
    pub(in super::super) const AGGREGATE: u8 = 22;
}

/// User control event types (RTMP 1.0 §7.1.7).
pub(super) mod user_control {
    pub(in super::super) const STREAM_BEGIN: u16 = 0;
    pub(in super::super) const PING_REQUEST: u16 = 6;
    pub(in super::super) const PING_RESPONSE: u16 = 7;
}

/// Our chunk size: the longest reply fits one chunk.
const CHUNK_BYTES: u32 = 4_096;
/// After how many bytes the client shall acknowledge, and its bandwidth: what encoders are used
/// to be told.
const WINDOW_BYTES: u32 = 2_500_000;
/// "Dynamic": treat as hard if the last limit was hard (RTMP 1.0 §5.4.5).
const LIMIT_DYNAMIC: u8 = 2;

/// Enhanced RTMP v2: what the server takes. `ModEx` (4) and its nanosecond offsets (8).
const CAPS_EX: f64 = 12.0;
/// Enhanced RTMP v2: the server can forward the codec.
const CAN_FORWARD: f64 = 4.0;
/// The codecs by their FourCC.
const VIDEO_FOUR_CCS: [&str; 4] = ["avc1", "hvc1", "av01", "vp09"];
const AUDIO_FOUR_CCS: [&str; 2] = ["Opus", "mp4a"];

/// Writes replies into a buffer that the driver sends.
#[derive(Debug, Default)]
pub struct Replies {
    writer: ChunkWriter,
    out: BytesMut,
}

impl Replies {
    /// Takes the bytes to send.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// The raw buffer, for the handshake's answers.
    pub fn raw(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    fn control(&mut self, kind: u8, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let message = Message { kind, stream: 0, timestamp: 0, payload };
        self.writer.write(CHUNK_STREAM_CONTROL, &message, &mut self.out);
    }

    /// An acknowledgement of `received` bytes (modulo 2^32).
    pub fn acknowledge(&mut self, received: u32) {
        self.control(kind::ACKNOWLEDGEMENT, &received.to_be_bytes());
    }

    /// A user control event with one number.
    pub fn user_control(&mut self, event: u16, value: [u8; 4]) {
        let [a, b] = event.to_be_bytes();
        let [c, d, e, f] = value;
        self.control(kind::USER_CONTROL, &[a, b, c, d, e, f]);
    }

    /// A command or reply on message stream `stream`.
    pub fn command(&mut self, stream: u32, values: &[Value]) {
        let mut payload = BytesMut::new();
        values.iter().for_each(|value| amf0::encode(value, &mut payload));
        let message =
            Message { kind: kind::COMMAND_AMF0, stream, timestamp: 0, payload: payload.freeze() };
        self.writer.write(CHUNK_STREAM_COMMAND, &message, &mut self.out);
    }

    /// `_result` with one value.
    pub fn result(&mut self, transaction: f64, value: Value) {
        let values = [Value::text("_result"), Value::Number(transaction), Value::Null, value];
        self.command(0, &values);
    }

    /// `_error`.
    pub fn error(&mut self, transaction: f64, code: &str, description: &str) {
        let info = info("error", code, description);
        let values = [Value::text("_error"), Value::Number(transaction), Value::Null, info];
        self.command(0, &values);
    }

    /// `onStatus` on message stream `stream`; `level` is `status` or `error`.
    pub fn status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let info = info(level, code, description);
        let values = [Value::text("onStatus"), Value::Number(0.0), Value::Null, info];
        self.command(stream, &values);
    }

    /// The answer to a good `connect`: limits, chunk size, `_result`, `onBWDone`.
    pub fn connected(&mut self, transaction: f64) {
        self.control(kind::WINDOW_ACK_SIZE, &WINDOW_BYTES.to_be_bytes());
        let [a, b, c, d] = WINDOW_BYTES.to_be_bytes();
        self.control(kind::SET_PEER_BANDWIDTH, &[a, b, c, d, LIMIT_DYNAMIC]);
        self.control(kind::SET_CHUNK_SIZE, &CHUNK_BYTES.to_be_bytes());
        self.writer.set_chunk_size(CHUNK_BYTES);
        self.user_control(user_control::STREAM_BEGIN, [0; 4]);
        let properties = Value::object([
            // Encoders look for the prefix.
            ("fmsVer", Value::text("FMS/3,5,0,0")),
            ("capabilities", Value::Number(31.0)),
            ("mode", Value::Number(1.0)),
        ]);
        let names = VIDEO_FOUR_CCS.iter().chain(&AUDIO_FOUR_CCS);
        let codecs = names.map(|name| Value::text(name)).collect();
        let info = Value::object([
            ("level", Value::text("status")),
            ("code", Value::text("NetConnection.Connect.Success")),
            ("description", Value::text("Connected.")),
            ("objectEncoding", Value::Number(0.0)),
            ("fourCcList", Value::Array(codecs)),
            ("videoFourCcInfoMap", four_cc_map(&VIDEO_FOUR_CCS)),
            ("audioFourCcInfoMap", four_cc_map(&AUDIO_FOUR_CCS)),
            ("capsEx", Value::Number(CAPS_EX)),
        ]);
        let result = [Value::text("_result"), Value::Number(transaction), properties, info];
        self.command(0, &result);
        self.command(0, &[Value::text("onBWDone"), Value::Number(0.0), Value::Null]);
    }
}

fn four_cc_map(names: &[&str]) -> Value {
    Value::Object(
        names.iter().map(|name| ((*name).to_owned(), Value::Number(CAN_FORWARD))).collect(),
    )
}

/// The object that statuses and errors carry.
fn info(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", Value::text(level)),
        ("code", Value::text(code)),
        ("description", Value::text(description)),
    ])
}
