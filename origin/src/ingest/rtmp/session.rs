//! One publisher's RTMP connection as a state machine: bytes in; events and bytes to send out.
//!
//! The caller's contract: give what the socket brings to [`Session::handle`] until it returns
//! `None`, send [`Session::take_output`] after every call, and answer [`Event::Publish`] by
//! [`Session::accept`] or [`Session::refuse`] before the next call.
//! Not here: FLV tags (`flv`), sockets and time-outs (`server`), who may publish.

use bytes::{Bytes, BytesMut};
use headwater_media::StreamName;

use super::amf0::{self, Value};
use super::chunk::{ChunkLimits, ChunkReader, Message};
use super::error::RtmpError;
use super::handshake::Handshake;
use super::reply::{Replies, kind, user_control};
use super::target;

/// Most `createStream` commands on a connection: an encoder needs one.
const STREAMS_MAX: u32 = 16;
/// Most commands on a connection: an encoder sends about ten.
const COMMANDS_MAX: u32 = 256;
/// Longest command or metadata, and longest message before a publish is accepted: encoders send
/// less than 2 KiB.
const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of incomplete messages before a publish is accepted.
const COMMAND_BUFFERED_BYTES_MAX: usize = 256 * 1024;
/// Acknowledge after this many bytes where the client does not say.
const ACK_WINDOW_DEFAULT: u32 = 2_500_000;
/// Smallest window that is honoured: an acknowledgement of 16 bytes each 2 KiB at most.
const ACK_WINDOW_MIN: u32 = 4_096;

/// Bounds of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest message, in bytes, once a publish is accepted.
    pub message_bytes: usize,
    /// Most bytes of incomplete messages over all chunk streams.
    pub buffered_bytes: usize,
    /// Most chunk streams.
    pub chunk_streams: usize,
}

/// A request to publish, to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// `{app}/{key}`.
    pub name: StreamName,
    /// The token in the URL, if there is one.
    pub token: Option<String>,
}

/// Why a publish is refused; each has a status code that encoders show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The name is taken or is no stream name: `NetStream.Publish.BadName`.
    BadName,
    /// The client may not publish it: `NetStream.Publish.Denied`.
    Denied,
    /// The server has no room: `NetStream.Publish.Failed`.
    Unavailable,
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::BadName => "NetStream.Publish.BadName",
            Self::Denied => "NetStream.Publish.Denied",
            Self::Unavailable => "NetStream.Publish.Failed",
        }
    }
}

/// What the client did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It asks to publish. Answer before the next call of [`Session::handle`].
    Publish(PublishRequest),
    /// `onMetaData`: an object.
    Metadata(Value),
    /// A video tag's body and its time in milliseconds, wrapping at 2^32.
    Video(u32, Bytes),
    /// An audio tag's body and its time in milliseconds, wrapping at 2^32.
    Audio(u32, Bytes),
    /// It has ended its stream, and may publish another.
    Unpublished,
    /// It was refused with a status and the connection is to be closed; says why.
    Close(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `connect`.
    New,
    /// Nothing is published. Whether anything was: media may still trail in then.
    Idle { published: bool },
    /// A publish on this message stream waits for its answer.
    Pending(u32),
    /// Publishing on this message stream.
    Live(u32),
    /// Closed by a status.
    Closed,
}

/// The connection.
#[derive(Debug)]
pub struct Session {
    handshake: Option<Handshake>,
    reader: ChunkReader,
    replies: Replies,
    limits: SessionLimits,
    state: State,
    app: String,
    tc_url: String,
    streams: u32,
    commands: u32,
    aggregate: Option<Aggregate>,
    received: u32,
    unacknowledged: u32,
    ack_window: u32,
}

/// An aggregate message being taken apart.
#[derive(Debug)]
struct Aggregate {
    rest: Bytes,
    /// What to add to a tag's own time stamp.
    offset: u32,
}

impl Session {
    /// A session before its handshake. `seed` fills the handshake and need not be secret.
    #[must_use]
    pub fn new(limits: SessionLimits, seed: u64) -> Self {
        Self {
            handshake: Some(Handshake::new(seed)),
            reader: ChunkReader::new(before_publish(&limits)),
            replies: Replies::default(),
            limits,
            state: State::New,
            app: String::new(),
            tc_url: String::new(),
            streams: 0,
            commands: 0,
            aggregate: None,
            received: 0,
            unacknowledged: 0,
            ack_window: ACK_WINDOW_DEFAULT,
        }
    }

    /// Bytes to send, in order.
    pub fn take_output(&mut self) -> Bytes {
        self.replies.take()
    }

    /// Whether a publish is accepted and not over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    /// Tells how many bytes the socket brought, for acknowledgements (RTMP 1.0 §5.4.3). Call it
    /// once a read, before [`Self::handle`].
    pub fn received(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.received = self.received.wrapping_add(bytes);
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
        // At half the window, so that a strict sender never stalls on the last byte.
        if self.handshake.is_none() && self.unacknowledged >= self.ack_window / 2 {
            self.unacknowledged = 0;
            self.replies.acknowledge(self.received);
        }
    }

    /// Takes bytes from `input` until there is an event; `None` means that more input is needed.
    /// What is then left in `input` is at most a handshake packet or a chunk header.
    ///
    /// # Errors
    /// When the client breaks the protocol: close the connection.
    pub fn handle(&mut self, input: &mut BytesMut) -> Result<Option<Event>, RtmpError> {
        if let Some(handshake) = &mut self.handshake {
            if !handshake.handle(input, self.replies.raw())? {
                return Ok(None);
            }
            self.handshake = None;
        }
        loop {
            if matches!(self.state, State::Pending(_) | State::Closed) {
                return Ok(None);
            }
            if let Some(event) = self.next_of_aggregate()? {
                return Ok(Some(event));
            }
            let Some(message) = self.reader.read(input)? else { return Ok(None) };
            if let Some(event) = self.message(message)? {
                return Ok(Some(event));
            }
        }
    }

    /// Lets the pending publish go ahead.
    pub fn accept(&mut self) {
        let State::Pending(stream) = self.state else { return };
        self.state = State::Live(stream);
        self.reader.set_limits(publishing(&self.limits));
        self.replies.user_control(user_control::STREAM_BEGIN, stream.to_be_bytes());
        let code = "NetStream.Publish.Start";
        self.replies.status(stream, "status", code, "The stream is being published.");
    }

    /// Refuses the pending publish. Send the output, then close.
    pub fn refuse(&mut self, refusal: Refusal, why: &str) {
        let State::Pending(stream) = self.state else { return };
        self.state = State::Closed;
        self.replies.status(stream, "error", refusal.code(), why);
    }

    /// Ends a live publish from the server's side. Send the output, then close.
    pub fn end(&mut self, refusal: Option<Refusal>, why: &str) {
        let State::Live(stream) = self.state else { return };
        self.state = State::Closed;
        match refusal {
            Some(refusal) => self.replies.status(stream, "error", refusal.code(), why),
            None => {
                self.replies.status(stream, "status", "NetStream.Unpublish.Success", why);
            }
        }
    }

    fn message(&mut self, message: Message) -> Result<Option<Event>, RtmpError> {
        let Message { kind, stream, timestamp, payload } = message;
        match kind {
            kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(number(kind, &payload)?)?,
            kind::ABORT => self.reader.abort(number(kind, &payload)?),
            kind::WINDOW_ACK_SIZE => {
                self.ack_window = number(kind, &payload)?.max(ACK_WINDOW_MIN);
            }
            kind::ACKNOWLEDGEMENT | kind::SET_PEER_BANDWIDTH => drop(number(kind, &payload)?),
            kind::USER_CONTROL => self.user_control(&payload)?,
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => {
                return self.media(kind, timestamp, payload);
            }
            kind::DATA_AMF0 | kind::DATA_AMF3 => return Ok(self.data(kind, &payload)),
            kind::COMMAND_AMF0 => return self.command(stream, &payload),
            kind::COMMAND_AMF3 => return self.command(stream, without_wrapper(&payload)),
            // Shared objects and types yet unknown: nothing that ingest needs.
            _ => {}
        }
        Ok(None)
    }

    fn user_control(&mut self, payload: &[u8]) -> Result<(), RtmpError> {
        let Some((event, rest)) = payload.split_first_chunk::<2>() else {
            return Err(RtmpError::ShortMessage(kind::USER_CONTROL));
        };
        if u16::from_be_bytes(*event) == user_control::PING_REQUEST {
            let Some(value) = rest.first_chunk::<4>() else {
                return Err(RtmpError::ShortMessage(kind::USER_CONTROL));
            };
            self.replies.user_control(user_control::PING_RESPONSE, *value);
        }
        Ok(())
    }

    fn media(&mut self, kind: u8, time: u32, body: Bytes) -> Result<Option<Event>, RtmpError> {
        match self.state {
            State::Live(_) => {}
            State::Idle { published: true } => return Ok(None),
            _ => return Err(RtmpError::WrongOrder { command: "media", needs: "publish" }),
        }
        match kind {
            // An empty tag keeps the connection alive and says nothing.
            _ if body.is_empty() => Ok(None),
            kind::VIDEO => Ok(Some(Event::Video(time, body))),
            kind::AUDIO => Ok(Some(Event::Audio(time, body))),
            _ => {
                let first = super::flv::tag_header(&body)
                    .ok_or(RtmpError::ShortMessage(kind::AGGREGATE))?;
                let offset = time.wrapping_sub(first.timestamp);
                self.aggregate = Some(Aggregate { rest: body, offset });
                self.next_of_aggregate()
            }
        }
    }

    /// The next audio or video tag of the aggregate message in hand (RTMP 1.0 §7.1.6).
    fn next_of_aggregate(&mut self) -> Result<Option<Event>, RtmpError> {
        while let Some(aggregate) = &mut self.aggregate {
            if aggregate.rest.is_empty() {
                self.aggregate = None;
                break;
            }
            let Some((tag, body)) = super::flv::split_tag(&mut aggregate.rest) else {
                return Err(RtmpError::ShortMessage(kind::AGGREGATE));
            };
            let time = tag.timestamp.wrapping_add(aggregate.offset);
            match tag.kind {
                kind::VIDEO | kind::AUDIO => {
                    if let Some(event) = self.media(tag.kind, time, body)? {
                        return Ok(Some(event));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Metadata is a hint: what cannot be read or is too long is passed over.
    fn data(&mut self, kind: u8, payload: &[u8]) -> Option<Event> {
        if !self.is_live() || payload.len() > COMMAND_BYTES_MAX {
            return None;
        }
        let payload = if kind == kind::DATA_AMF3 { without_wrapper(payload) } else { payload };
        let values = match amf0::decode_all(payload) {
            Ok(values) => values,
            Err(error) => {
                tracing::debug!(%error, "metadata that is not AMF0 was passed over");
                return None;
            }
        };
        let mut values = values.into_iter().skip_while(|v| v.as_str() == Some("@setDataFrame"));
        let is_metadata = values.next()?.as_str() == Some("onMetaData");
        values.next().filter(|_| is_metadata).map(Event::Metadata)
    }

    fn command(&mut self, stream: u32, payload: &[u8]) -> Result<Option<Event>, RtmpError> {
        self.commands += 1;
        if self.commands > COMMANDS_MAX {
            return Err(RtmpError::TooManyCommands(COMMANDS_MAX));
        }
        if payload.len() > COMMAND_BYTES_MAX {
            let (length, max) = (payload.len(), COMMAND_BYTES_MAX);
            return Err(RtmpError::MessageTooLong { length, max });
        }
        let values = amf0::decode_all(payload)?;
        let name = values.first().and_then(Value::as_str).unwrap_or_default();
        let transaction = values.get(1).and_then(Value::as_number).unwrap_or_default();
        let argument = values.get(3);
        if self.state == State::New && name != "connect" {
            return Err(RtmpError::WrongOrder { command: "a command", needs: "connect" });
        }
        match name {
            "connect" => return self.connect(transaction, values.get(2)),
            "createStream" => {
                self.streams += 1;
                if self.streams > STREAMS_MAX {
                    return Err(RtmpError::TooManyStreams(STREAMS_MAX));
                }
                self.replies.result(transaction, Value::Number(f64::from(self.streams)));
            }
            "releaseStream" | "_checkbw" => self.replies.result(transaction, Value::Null),
            "FCPublish" => {
                self.replies.result(transaction, Value::Null);
                self.flash_status("onFCPublish", "NetStream.Publish.Start", argument);
            }
            "getStreamLength" => self.replies.result(transaction, Value::Number(0.0)),
            "publish" => return self.publish(stream, argument),
            "FCUnpublish" => {
                self.replies.result(transaction, Value::Null);
                self.flash_status("onFCUnpublish", "NetStream.Unpublish.Success", argument);
                return Ok(self.unpublish());
            }
            "deleteStream" | "closeStream" => return Ok(self.unpublish()),
            "play" | "play2" => return Ok(Some(self.refuse_play(stream))),
            // Answers to what we never ask, and statuses.
            "_result" | "_error" | "onStatus" => {}
            _ if transaction != 0.0 => {
                let why = "This server takes publishers and knows no such command.";
                self.replies.error(transaction, "NetConnection.Call.Failed", why);
            }
            _ => {}
        }
        Ok(None)
    }

    fn connect(
        &mut self,
        transaction: f64,
        object: Option<&Value>,
    ) -> Result<Option<Event>, RtmpError> {
        if self.state != State::New {
            return Err(RtmpError::WrongOrder { command: "connect", needs: "a new connection" });
        }
        let text = |name| object.and_then(|object| object.get(name)).and_then(Value::as_str);
        let app = text("app").unwrap_or_default();
        let tc_url = text("tcUrl").unwrap_or_default();
        let refused = if app.len() > target::TEXT_BYTES_MAX || tc_url.len() > target::TEXT_BYTES_MAX
        {
            Some(format!("app and tcUrl have at most {} bytes", target::TEXT_BYTES_MAX))
        } else {
            target::check_app(app).err().map(|error| error.to_string())
        };
        if let Some(why) = refused {
            self.state = State::Closed;
            self.replies.error(transaction, "NetConnection.Connect.Rejected", &why);
            return Ok(Some(Event::Close(why)));
        }
        self.app = app.to_owned();
        self.tc_url = tc_url.to_owned();
        self.state = State::Idle { published: false };
        self.replies.connected(transaction);
        Ok(None)
    }

    fn publish(&mut self, stream: u32, key: Option<&Value>) -> Result<Option<Event>, RtmpError> {
        if self.is_live() {
            let why = "This connection publishes already: open another for a second stream.";
            self.replies.status(stream, "error", Refusal::BadName.code(), why);
            return Ok(None);
        }
        if stream == 0 || stream > self.streams {
            return Err(RtmpError::WrongOrder { command: "publish", needs: "createStream" });
        }
        self.state = State::Pending(stream);
        let key = key.and_then(Value::as_str).unwrap_or_default();
        let name = if key.len() > target::TEXT_BYTES_MAX {
            Err(format!("a stream key has at most {} bytes", target::TEXT_BYTES_MAX))
        } else {
            target::stream_name(&self.app, key).map_err(|error| error.to_string())
        };
        match name {
            Ok(name) => {
                let token = target::token(key, &self.app, &self.tc_url);
                Ok(Some(Event::Publish(PublishRequest { name, token })))
            }
            Err(why) => {
                self.refuse(Refusal::BadName, &why);
                Ok(Some(Event::Close(why)))
            }
        }
    }

    fn unpublish(&mut self) -> Option<Event> {
        let State::Live(stream) = self.state else { return None };
        self.state = State::Idle { published: true };
        self.aggregate = None;
        let code = "NetStream.Unpublish.Success";
        self.replies.status(stream, "status", code, "The stream has ended.");
        Some(Event::Unpublished)
    }

    fn refuse_play(&mut self, stream: u32) -> Event {
        self.state = State::Closed;
        let why = "This server does not play by RTMP: use WHEP (WebRTC) or HLS.";
        self.replies.status(stream, "error", "NetStream.Play.Failed", why);
        Event::Close(why.to_owned())
    }

    /// `onFCPublish` and `onFCUnpublish`, which some encoders wait for.
    fn flash_status(&mut self, command: &str, code: &str, key: Option<&Value>) {
        let shown: String =
            key.and_then(Value::as_str).unwrap_or_default().chars().take(64).collect();
        let shown = shown.split('?').next().unwrap_or_default();
        let info =
            Value::object([("code", Value::text(code)), ("description", Value::text(shown))]);
        self.replies.command(0, &[Value::text(command), Value::Number(0.0), Value::Null, info]);
    }
}

fn before_publish(limits: &SessionLimits) -> ChunkLimits {
    ChunkLimits {
        streams: limits.chunk_streams,
        message_bytes: limits.message_bytes.min(COMMAND_BYTES_MAX),
        buffered_bytes: limits.buffered_bytes.min(COMMAND_BUFFERED_BYTES_MAX),
    }
}

fn publishing(limits: &SessionLimits) -> ChunkLimits {
    ChunkLimits {
        streams: limits.chunk_streams,
        message_bytes: limits.message_bytes,
        buffered_bytes: limits.buffered_bytes,
    }
}

/// The number that a control message carries.
fn number(kind: u8, payload: &[u8]) -> Result<u32, RtmpError> {
    let bytes = payload.first_chunk::<4>().ok_or(RtmpError::ShortMessage(kind))?;
    Ok(u32::from_be_bytes(*bytes))
}

/// AMF3's command and data messages start with a format byte, 0 where AMF0 follows.
fn without_wrapper(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(&[0]).unwrap_or(payload)
}

#[cfg(test)]
mod tests;
