//! A publisher's RTMP connection as a state machine: bytes in, bytes out, no socket.
//!
//! Handshake (RTMP 1.0 §5.2), `connect`, `createStream`, `publish`, then FLV tags as messages.
//! Not here: when frames are due, the socket (the parent).

use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::h264::H264Config;

use super::amf0::{self, Value};
use super::chunk::{self, Malformed, Message, Reader};
use crate::source::AccessUnit;

/// Bytes of C1, S1, C2 and S2.
const HANDSHAKE_BYTES: usize = 1_536;
const VERSION: u8 = 3;
/// Chunks that this side sends: a frame in one or a few.
const CHUNK_BYTES: usize = 65_536;

const SET_CHUNK_SIZE: u8 = 1;
const USER_CONTROL: u8 = 4;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const DATA_AMF0: u8 = 18;
const COMMAND_AMF0: u8 = 20;
/// User control events (§7.1.7).
const PING_REQUEST: [u8; 2] = [0, 6];
const PING_RESPONSE: [u8; 2] = [0, 7];

/// Chunk streams by use.
const ID_CONTROL: u8 = 2;
const ID_COMMAND: u8 = 3;
const ID_AUDIO: u8 = 4;
const ID_VIDEO: u8 = 6;

const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server said no, in its words.
    #[error("the server refuses: {0}")]
    Refused(String),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    Publishing,
    Live,
}

/// See the module.
pub(super) struct Session {
    state: State,
    app: String,
    key: String,
    url: String,
    stream: u32,
    sent_chunk: usize,
    handshake: Vec<u8>,
    reader: Reader,
    out: Vec<u8>,
}

impl Session {
    /// A session that publishes `key` of `app`; `url` is what the server is told (`tcUrl`).
    pub(super) fn new(app: &str, key: &str, url: &str) -> Self {
        let mut out = vec![VERSION];
        out.resize(1 + HANDSHAKE_BYTES, 0);
        Self {
            state: State::Handshake,
            app: app.to_owned(),
            key: key.to_owned(),
            url: url.to_owned(),
            stream: 0,
            sent_chunk: 128,
            handshake: Vec::new(),
            reader: Reader::default(),
            out,
        }
    }

    /// Whether media may be sent.
    pub(super) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Takes what the server sent.
    ///
    /// # Errors
    /// It is no RTMP, or a refusal.
    pub(super) fn handle(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        if self.state == State::Handshake {
            self.handshake.extend_from_slice(bytes);
            let answer = 1 + 2 * HANDSHAKE_BYTES;
            let Some((answer, rest)) = self.handshake.split_at_checked(answer) else {
                return Ok(());
            };
            if answer.first() != Some(&VERSION) {
                return Err(Malformed.into());
            }
            // C2 repeats S1.
            self.out.extend_from_slice(answer.get(1..=HANDSHAKE_BYTES).unwrap_or_default());
            self.reader.push(rest);
            self.handshake = Vec::new();
            self.connect();
        } else {
            self.reader.push(bytes);
        }
        while let Some(message) = self.reader.next_message()? {
            self.message(&message)?;
        }
        Ok(())
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        let bytes = CHUNK_BYTES as u32;
        self.send(ID_CONTROL, SET_CHUNK_SIZE, 0, 0, bytes.to_be_bytes().to_vec());
        self.sent_chunk = CHUNK_BYTES;
        let object = Value::object([
            ("app", Value::string(&self.app)),
            ("type", Value::string("nonprivate")),
            ("flashVer", Value::string("FMLE/3.0 (compatible; headwater-loadtest)")),
            ("tcUrl", Value::string(&self.url)),
        ]);
        self.command(0, &[Value::string("connect"), Value::Number(CONNECT), object]);
    }

    fn message(&mut self, message: &Message) -> Result<(), SessionError> {
        match (message.kind, message.payload.as_slice()) {
            (SET_CHUNK_SIZE, [a, b, c, d, ..]) => {
                let bytes = u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff;
                if bytes == 0 {
                    return Err(Malformed.into());
                }
                self.reader.chunk_bytes = bytes as usize;
            }
            (USER_CONTROL, payload) => {
                if let Some(stamp) = payload.strip_prefix(&PING_REQUEST) {
                    let answer = [&PING_RESPONSE[..], stamp].concat();
                    self.send(ID_CONTROL, USER_CONTROL, 0, 0, answer);
                }
            }
            (COMMAND_AMF0, payload) => self.answer(&amf0::read_all(payload))?,
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, values: &[Value]) -> Result<(), SessionError> {
        let refused = |info: Option<&Value>| {
            SessionError::Refused(info.map_or_else(|| "without a reason".to_owned(), amf0::status))
        };
        let [Value::String(name), rest @ ..] = values else { return Ok(()) };
        match (name.as_str(), rest) {
            ("_result", [Value::Number(CONNECT), ..]) if self.state == State::Connecting => {
                self.state = State::Creating;
                for (name, transaction) in [("releaseStream", 2.0), ("FCPublish", 3.0)] {
                    let key = Value::string(&self.key);
                    self.command(
                        0,
                        &[Value::string(name), Value::Number(transaction), Value::Null, key],
                    );
                }
                let create = [Value::string("createStream"), Value::Number(CREATE_STREAM)];
                self.command(0, &[&create[..], &[Value::Null]].concat());
            }
            ("_result", [Value::Number(CREATE_STREAM), _, Value::Number(stream), ..])
                if self.state == State::Creating =>
            {
                self.state = State::Publishing;
                // Message stream ids are small whole numbers.
                self.stream = *stream as u32;
                let publish = [
                    Value::string("publish"),
                    Value::Number(PUBLISH),
                    Value::Null,
                    Value::string(&self.key),
                    Value::string("live"),
                ];
                self.command(self.stream, &publish);
            }
            // Old commands that a server need not know.
            ("_error", [Value::Number(transaction), ..])
                if *transaction > CONNECT && *transaction < CREATE_STREAM => {}
            ("_error", [_, _, info, ..]) => return Err(refused(Some(info))),
            ("onStatus", [_, _, info, ..]) => match (info.text("level"), info.text("code")) {
                (_, Some("NetStream.Publish.Start")) => self.state = State::Live,
                (Some("error"), _) => return Err(refused(Some(info))),
                (_, Some(code)) if code.ends_with("BadName") || code.ends_with("Denied") => {
                    return Err(refused(Some(info)));
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// Describes the stream: metadata and both sequence headers, before the first frame.
    pub(super) fn describe(&mut self, video: &H264Config, audio: Option<&AacConfig>, fps: f64) {
        let metadata = Value::object([
            ("width", Value::Number(f64::from(video.resolution.width))),
            ("height", Value::Number(f64::from(video.resolution.height))),
            ("framerate", Value::Number(fps)),
            ("videocodecid", Value::Number(7.0)),
            ("audiocodecid", Value::Number(if audio.is_some() { 10.0 } else { 0.0 })),
        ]);
        let set = [Value::string("@setDataFrame"), Value::string("onMetaData"), metadata];
        self.send(ID_AUDIO, DATA_AMF0, self.stream, 0, amf0::write_all(&set));
        // Keyframe, AVC; sequence header; no composition offset.
        let header = [&[0x17, 0, 0, 0, 0][..], &video.to_avcc()].concat();
        self.send(ID_VIDEO, VIDEO, self.stream, 0, header);
        if let Some(audio) = audio {
            // AAC, as FLV always marks it; sequence header.
            let header = [&[0xaf, 0][..], &audio.to_asc()].concat();
            self.send(ID_AUDIO, AUDIO, self.stream, 0, header);
        }
    }

    /// Sends a picture.
    pub(super) fn video(&mut self, unit: &AccessUnit) {
        let (dts, pts) = (unit.dts / 90, unit.pts / 90);
        let offset = u32::try_from(pts.saturating_sub(dts)).unwrap_or(0);
        let picture = unit.picture();
        let mut payload = Vec::with_capacity(5 + picture.len());
        payload.extend([if unit.keyframe { 0x17 } else { 0x27 }, 1]);
        payload.extend(offset.to_be_bytes().iter().skip(1));
        payload.extend_from_slice(&picture);
        // Time stamps wrap at 2^32 by RTMP's own rule.
        self.send(ID_VIDEO, VIDEO, self.stream, dts as u32, payload);
    }

    /// Sends a packet of sound, due at this many milliseconds.
    pub(super) fn audio(&mut self, at_ms: u64, packet: &[u8]) {
        let payload = [&[0xaf, 1][..], packet].concat();
        self.send(ID_AUDIO, AUDIO, self.stream, at_ms as u32, payload);
    }

    /// Says goodbye.
    pub(super) fn end(&mut self) {
        if self.is_live() {
            let stream = Value::Number(f64::from(self.stream));
            let delete = [Value::string("deleteStream"), Value::Number(0.0), Value::Null, stream];
            self.command(0, &delete);
        }
    }

    fn command(&mut self, stream: u32, values: &[Value]) {
        self.send(ID_COMMAND, COMMAND_AMF0, stream, 0, amf0::write_all(values));
    }

    fn send(&mut self, id: u8, kind: u8, stream: u32, timestamp_ms: u32, payload: Vec<u8>) {
        let message = Message { kind, stream, timestamp_ms, payload };
        chunk::write(id, &message, self.sent_chunk, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session after the handshake, with what it sent.
    fn connected() -> (Session, Vec<Message>) {
        let mut session = Session::new("live", "key", "rtmp://h/live");
        assert_eq!(session.take_output().len(), 1 + HANDSHAKE_BYTES);
        let mut answer = vec![VERSION];
        answer.resize(1 + 2 * HANDSHAKE_BYTES, 5);
        session.handle(&answer).unwrap();
        let out = session.take_output();
        assert!(out[..HANDSHAKE_BYTES].iter().all(|byte| *byte == 5), "C2 repeats S1");
        let messages = messages(&out[HANDSHAKE_BYTES..]);
        (session, messages)
    }

    fn messages(bytes: &[u8]) -> Vec<Message> {
        let mut reader = Reader::default();
        reader.chunk_bytes = CHUNK_BYTES;
        reader.push(bytes);
        std::iter::from_fn(|| reader.next_message().unwrap()).collect()
    }

    fn answer(session: &mut Session, values: &[Value]) -> Result<Vec<Message>, SessionError> {
        let payload = amf0::write_all(values);
        let message = Message { kind: COMMAND_AMF0, stream: 0, timestamp_ms: 0, payload };
        let mut bytes = Vec::new();
        chunk::write(3, &message, 128, &mut bytes);
        session.handle(&bytes)?;
        Ok(messages(&session.take_output()))
    }

    fn names(messages: &[Message]) -> Vec<Value> {
        messages.iter().filter_map(|m| amf0::read_all(&m.payload).into_iter().next()).collect()
    }

    fn status(code: &str, level: &str) -> [Value; 4] {
        let info = Value::object([("level", Value::string(level)), ("code", Value::string(code))]);
        [Value::string("onStatus"), Value::Number(0.0), Value::Null, info]
    }

    #[test]
    fn a_stream_is_published_in_the_order_of_encoders() {
        let (mut session, sent) = connected();
        assert_eq!(sent[0].kind, SET_CHUNK_SIZE);
        assert_eq!(names(&sent[1..]), [Value::string("connect")]);
        let result = [Value::string("_result"), Value::Number(CONNECT), Value::Null, Value::Null];
        let sent = answer(&mut session, &result).unwrap();
        let expected = ["releaseStream", "FCPublish", "createStream"].map(Value::string);
        assert_eq!(names(&sent), expected);
        let created = [
            Value::string("_result"),
            Value::Number(CREATE_STREAM),
            Value::Null,
            Value::Number(3.0),
        ];
        let sent = answer(&mut session, &created).unwrap();
        assert_eq!((names(&sent), sent[0].stream), (vec![Value::string("publish")], 3));
        assert!(!session.is_live());
        answer(&mut session, &status("NetStream.Publish.Start", "status")).unwrap();
        assert!(session.is_live());
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let (mut session, _) = connected();
        let refusal = status("NetStream.Publish.BadName", "error");
        let error = answer(&mut session, &refusal).unwrap_err();
        assert_eq!(error.to_string(), "the server refuses: NetStream.Publish.BadName");
    }

    #[test]
    fn a_ping_is_answered() {
        let (mut session, _) = connected();
        let payload = vec![0, 6, 1, 2, 3, 4];
        let ping = Message { kind: USER_CONTROL, stream: 0, timestamp_ms: 0, payload };
        let mut bytes = Vec::new();
        chunk::write(2, &ping, 128, &mut bytes);
        session.handle(&bytes).unwrap();
        assert_eq!(messages(&session.take_output())[0].payload, [0, 7, 1, 2, 3, 4]);
    }

    #[test]
    fn a_server_of_another_protocol_is_recognized() {
        let mut session = Session::new("a", "b", "c");
        let other = vec![b'H'; 1 + 2 * HANDSHAKE_BYTES];
        assert_eq!(session.handle(&other), Err(Malformed.into()));
    }
}
