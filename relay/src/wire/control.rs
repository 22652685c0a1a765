//! The messages of the control stream: a type, a length, a body.
//!
//! A receiver passes over types that it does not know, and bytes at a body's end that it does not
//! know, so that a newer node can say more. Not here: which message may come when (`parent`,
//! `child`).

use bytes::{BufMut, Bytes, BytesMut};
use headwater_media::{
    BroadcastState, Epoch, GroupSeq, MediaKind, StreamName, TrackName, WallTime,
};

use crate::route::{ROUTE_NODES_MAX, Route};

use super::input::{put_len, put_option, put_run};
use super::{
    Input, MESSAGE_BYTES_MAX, TEXT_BYTES_MAX, TRACKS_MAX, WireError, put_text, put_uint, zigzag,
};

/// How busy a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Of all cores, in thousandths.
    pub cpu_permille: u16,
    /// Children that it serves now.
    pub children: u32,
    /// Bytes a second that it sends, all protocols together.
    pub sent_bytes_per_s: u64,
}

/// A stream that a parent has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announced {
    /// Its name.
    pub stream: StreamName,
    /// The epoch that the parent follows.
    pub epoch: Epoch,
    /// Whether it has a publisher.
    pub state: BroadcastState,
}

/// The next frame that a child wants of a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The track.
    pub track: TrackName,
    /// The epoch of that group, or of the last one where the group has not begun.
    pub epoch: Epoch,
    /// The group.
    pub group: GroupSeq,
    /// The frame in it.
    pub frame: u32,
}

/// Where a subscription begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// At the first frame of each track's newest independent group, or of the whole group before it.
    Newest,
    /// At these places; tracks that are not listed begin as with `Newest`.
    Positions(Vec<Position>),
}

/// Why a subscription or a fetch cannot be served, or no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RefusalCode {
    /// The parent knows of no such stream, track or group.
    NotFound,
    /// It neither owns the stream nor takes it from elsewhere; a hint may say who does.
    NotOwner,
    /// The child follows a higher epoch than the parent.
    EpochTooOld,
    /// A limit of the parent is reached.
    Limit,
    /// The parent shuts down or gives the stream up.
    GoingAway,
    /// A code that this version does not know.
    Other(u8),
}

impl RefusalCode {
    fn number(self) -> u8 {
        match self {
            Self::NotFound => 1,
            Self::NotOwner => 2,
            Self::EpochTooOld => 3,
            Self::Limit => 4,
            Self::GoingAway => 5,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::NotFound,
            2 => Self::NotOwner,
            3 => Self::EpochTooOld,
            4 => Self::Limit,
            5 => Self::GoingAway,
            other => Self::Other(other),
        }
    }

    /// A short name for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NotOwner => "not-owner",
            Self::EpochTooOld => "epoch-too-old",
            Self::Limit => "limit",
            Self::GoingAway => "going-away",
            Self::Other(_) => "other",
        }
    }
}

/// A track in a subscription's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackEntry {
    /// Its number within the subscription; never used for another track.
    pub id: u64,
    /// Its name.
    pub name: TrackName,
    /// Video or audio.
    pub kind: MediaKind,
    /// Once it has ended for good: how many group streams it had in this subscription.
    pub finished: Option<u64>,
}

/// A message of the control stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Both, first: who speaks.
    Hello {
        /// The program's version.
        version: String,
        /// The node's id or name.
        node: String,
        /// The sender's wall clock.
        time: WallTime,
        /// From a child: whether it wants announcements.
        announcements: bool,
    },
    /// Parent: it has a stream, or the stream's state or epoch changed.
    Announce(Announced),
    /// Parent: it no longer has a stream.
    Unannounce(StreamName),
    /// Child: send a stream.
    Subscribe {
        /// Chosen by the child; never used twice on a connection.
        id: u64,
        /// Which stream.
        stream: StreamName,
        /// One track; all of them where absent.
        track: Option<TrackName>,
        /// The highest epoch that the child knows of the stream.
        epoch: Epoch,
        /// From where.
        start: StartAt,
        /// Higher goes first; 128 is usual.
        priority: u8,
        /// How far a group may lag behind the newest before it is given up, in milliseconds.
        max_age_ms: u32,
    },
    /// Child: another priority or greatest age.
    SubscribeUpdate {
        /// The subscription.
        id: u64,
        /// As in `Subscribe`.
        priority: u8,
        /// As in `Subscribe`.
        max_age_ms: u32,
    },
    /// Child: no more of it.
    Unsubscribe {
        /// The subscription.
        id: u64,
    },
    /// Parent: the subscription's tracks in the broadcast's order, its state and epoch; the answer
    /// to `Subscribe`, and again with every change.
    Tracks {
        /// The subscription.
        id: u64,
        /// The highest epoch that the parent knows of the stream.
        epoch: Epoch,
        /// The broadcast's state; `Ended` ends the subscription.
        state: BroadcastState,
        /// The tracks.
        tracks: Vec<TrackEntry>,
        /// How the stream comes to the child: the parent is the last node on the way.
        route: Route,
    },
    /// Parent: the subscription or fetch is refused, or ends early.
    Refused {
        /// The subscription or fetch.
        id: u64,
        /// Why.
        code: RefusalCode,
        /// The highest epoch that the parent knows of the stream.
        epoch: Epoch,
        /// The node that may have it.
        hint: Option<String>,
    },
    /// Parent: a group's stream was given up, if it came to the child at all.
    Dropped {
        /// The subscription.
        id: u64,
        /// The track's number.
        track: u64,
        /// The stream's place among the track's.
        order: u64,
    },
    /// Child: a viewer needs a keyframe of this track.
    KeyframeWish {
        /// The subscription.
        id: u64,
        /// The track's number.
        track: u64,
    },
    /// Child: send one group of the window again, from this frame on, on a stream of its own.
    Fetch {
        /// From the same numbers as subscriptions.
        id: u64,
        /// Which stream.
        stream: StreamName,
        /// Which track.
        track: TrackName,
        /// Which group.
        group: GroupSeq,
        /// From which frame on.
        frame: u32,
    },
    /// Both: the sender shuts down; go elsewhere, the connection stays for now.
    Goaway {
        /// Why, for people.
        reason: String,
    },
    /// Both: a question for the time.
    Ping {
        /// Comes back in the answer.
        sent: WallTime,
        /// The sender's load.
        load: Load,
    },
    /// Both: the answer.
    Pong {
        /// From the question.
        sent: WallTime,
        /// The answerer's wall clock when the question came.
        received: WallTime,
        /// The answerer's load.
        load: Load,
    },
}

const HELLO: u64 = 1;
const ANNOUNCE: u64 = 2;
const UNANNOUNCE: u64 = 3;
const SUBSCRIBE: u64 = 4;
const SUBSCRIBE_UPDATE: u64 = 5;
const UNSUBSCRIBE: u64 = 6;
const TRACKS: u64 = 7;
const REFUSED: u64 = 8;
const DROPPED: u64 = 9;
const KEYFRAME_WISH: u64 = 10;
const FETCH: u64 = 11;
const GOAWAY: u64 = 12;
const PING: u64 = 13;
const PONG: u64 = 14;

/// Writes a message with its type and length.
#[must_use]
pub fn encode_message(message: &Message) -> Bytes {
    let mut body = BytesMut::with_capacity(64);
    let kind = put_body(&mut body, message);
    let mut out = BytesMut::with_capacity(body.len() + 6);
    put_uint(&mut out, kind);
    put_run(&mut out, &body);
    out.freeze()
}

fn put_body(out: &mut BytesMut, message: &Message) -> u64 {
    match message {
        Message::Hello { version, node, time, announcements } => {
            put_text(out, version);
            put_text(out, node);
            put_uint(out, zigzag(time.0));
            out.put_u8((*announcements).into());
            HELLO
        }
        Message::Announce(announced) => {
            put_name(out, &announced.stream);
            put_uint(out, announced.epoch.0);
            out.put_u8(state_number(announced.state));
            ANNOUNCE
        }
        Message::Unannounce(stream) => {
            put_name(out, stream);
            UNANNOUNCE
        }
        Message::Subscribe { id, stream, track, epoch, start, priority, max_age_ms } => {
            put_uint(out, *id);
            put_name(out, stream);
            put_option(out, track.as_ref(), |out, track| put_text(out, track.as_str()));
            put_uint(out, epoch.0);
            put_start(out, start);
            out.put_u8(*priority);
            put_uint(out, (*max_age_ms).into());
            SUBSCRIBE
        }
        Message::SubscribeUpdate { id, priority, max_age_ms } => {
            put_uint(out, *id);
            out.put_u8(*priority);
            put_uint(out, (*max_age_ms).into());
            SUBSCRIBE_UPDATE
        }
        Message::Unsubscribe { id } => {
            put_uint(out, *id);
            UNSUBSCRIBE
        }
        Message::Tracks { id, epoch, state, tracks, route } => {
            put_uint(out, *id);
            put_uint(out, epoch.0);
            out.put_u8(state_number(*state));
            put_len(out, tracks.len());
            for track in tracks {
                put_uint(out, track.id);
                put_text(out, track.name.as_str());
                out.put_u8(u8::from(track.kind == MediaKind::Audio));
                put_option(out, track.finished, put_uint);
            }
            put_route(out, route);
            TRACKS
        }
        Message::Refused { id, code, epoch, hint } => {
            put_uint(out, *id);
            out.put_u8(code.number());
            put_uint(out, epoch.0);
            put_option(out, hint.as_deref(), put_text);
            REFUSED
        }
        Message::Dropped { id, track, order } => {
            put_uint(out, *id);
            put_uint(out, *track);
            put_uint(out, *order);
            DROPPED
        }
        Message::KeyframeWish { id, track } => {
            put_uint(out, *id);
            put_uint(out, *track);
            KEYFRAME_WISH
        }
        Message::Fetch { id, stream, track, group, frame } => {
            put_uint(out, *id);
            put_name(out, stream);
            put_text(out, track.as_str());
            put_uint(out, group.0);
            put_uint(out, (*frame).into());
            FETCH
        }
        Message::Goaway { reason } => {
            put_text(out, reason);
            GOAWAY
        }
        Message::Ping { sent, load } => {
            put_uint(out, zigzag(sent.0));
            put_load(out, *load);
            PING
        }
        Message::Pong { sent, received, load } => {
            put_uint(out, zigzag(sent.0));
            put_uint(out, zigzag(received.0));
            put_load(out, *load);
            PONG
        }
    }
}

fn put_name(out: &mut BytesMut, stream: &StreamName) {
    put_run(out, stream.as_str().as_bytes());
}

fn put_route(out: &mut BytesMut, route: &Route) {
    put_len(out, route.nodes.len());
    for node in &route.nodes {
        put_uint(out, *node);
    }
    out.put_u8(route.flowing.into());
    put_option(out, route.clock_micros, |out, micros| put_uint(out, zigzag(micros)));
}

fn put_load(out: &mut BytesMut, load: Load) {
    put_uint(out, load.cpu_permille.into());
    put_uint(out, load.children.into());
    put_uint(out, load.sent_bytes_per_s);
}

fn put_start(out: &mut BytesMut, start: &StartAt) {
    let positions = match start {
        StartAt::Newest => return out.put_u8(0),
        StartAt::Positions(positions) => positions,
    };
    out.put_u8(1);
    put_len(out, positions.len());
    for position in positions {
        put_text(out, position.track.as_str());
        put_uint(out, position.epoch.0);
        put_uint(out, position.group.0);
        put_uint(out, position.frame.into());
    }
}

fn state_number(state: BroadcastState) -> u8 {
    match state {
        BroadcastState::Live => 0,
        BroadcastState::Waiting => 1,
        BroadcastState::Ended => 2,
    }
}

/// Reads the message at the start of `bytes`: it, or none where the type is unknown, and the
/// bytes that it took.
///
/// # Errors
/// [`WireError::Truncated`] until it has come whole; anything else is the peer's fault.
pub fn decode_message(bytes: &[u8]) -> Result<(Option<Message>, usize), WireError> {
    let mut input = Input::new(bytes);
    let kind = input.uint()?;
    let body = input.run("message", MESSAGE_BYTES_MAX)?;
    let message = read_body(kind, &mut Input::new(body)).map_err(|error| match error {
        // Cut short within its own length: malformed, not late.
        WireError::Truncated => WireError::Text("message"),
        other => other,
    })?;
    Ok((message, input.consumed()))
}

fn read_body(kind: u64, input: &mut Input<'_>) -> Result<Option<Message>, WireError> {
    Ok(Some(match kind {
        HELLO => Message::Hello {
            version: text(input, "version")?,
            node: text(input, "node")?,
            time: WallTime(input.int()?),
            announcements: input.flag("announcements")?,
        },
        ANNOUNCE => Message::Announce(Announced {
            stream: stream(input)?,
            epoch: epoch(input)?,
            state: state(input)?,
        }),
        UNANNOUNCE => Message::Unannounce(stream(input)?),
        SUBSCRIBE => Message::Subscribe {
            id: input.uint()?,
            stream: stream(input)?,
            track: input.option("track", track)?,
            epoch: epoch(input)?,
            start: read_start(input)?,
            priority: input.byte()?,
            max_age_ms: input.small("greatest age")?,
        },
        SUBSCRIBE_UPDATE => Message::SubscribeUpdate {
            id: input.uint()?,
            priority: input.byte()?,
            max_age_ms: input.small("greatest age")?,
        },
        UNSUBSCRIBE => Message::Unsubscribe { id: input.uint()? },
        TRACKS => Message::Tracks {
            id: input.uint()?,
            epoch: epoch(input)?,
            state: state(input)?,
            tracks: read_tracks(input)?,
            route: read_route(input)?,
        },
        REFUSED => Message::Refused {
            id: input.uint()?,
            code: RefusalCode::of(input.byte()?),
            epoch: epoch(input)?,
            hint: input.option("hint", |input| text(input, "hint"))?,
        },
        DROPPED => {
            Message::Dropped { id: input.uint()?, track: input.uint()?, order: input.uint()? }
        }
        KEYFRAME_WISH => Message::KeyframeWish { id: input.uint()?, track: input.uint()? },
        FETCH => Message::Fetch {
            id: input.uint()?,
            stream: stream(input)?,
            track: track(input)?,
            group: GroupSeq(input.uint()?),
            frame: input.small("frame")?,
        },
        GOAWAY => Message::Goaway { reason: text(input, "reason")? },
        PING => Message::Ping { sent: WallTime(input.int()?), load: read_load(input)? },
        PONG => Message::Pong {
            sent: WallTime(input.int()?),
            received: WallTime(input.int()?),
            load: read_load(input)?,
        },
        _ => return Ok(None),
    }))
}

fn text(input: &mut Input<'_>, what: &'static str) -> Result<String, WireError> {
    input.text(what, TEXT_BYTES_MAX).map(str::to_owned)
}

fn stream(input: &mut Input<'_>) -> Result<StreamName, WireError> {
    let name = input.text("stream name", STREAM_NAME_BYTES_MAX)?;
    StreamName::parse(name).map_err(|_| WireError::Text("stream name"))
}

/// Eight segments of 64 bytes and what joins them.
const STREAM_NAME_BYTES_MAX: usize = 8 * 64 + 7;

fn track(input: &mut Input<'_>) -> Result<TrackName, WireError> {
    let name = input.text("track name", TEXT_BYTES_MAX)?;
    TrackName::parse(name).map_err(|_| WireError::Text("track name"))
}

/// Epochs are counted on from: none is the last there is.
fn epoch(input: &mut Input<'_>) -> Result<Epoch, WireError> {
    match input.uint()? {
        u64::MAX => Err(WireError::Invalid { what: "epoch", value: u64::MAX }),
        number => Ok(Epoch(number)),
    }
}

fn state(input: &mut Input<'_>) -> Result<BroadcastState, WireError> {
    match input.byte()? {
        0 => Ok(BroadcastState::Live),
        1 => Ok(BroadcastState::Waiting),
        2 => Ok(BroadcastState::Ended),
        other => Err(WireError::Invalid { what: "state", value: other.into() }),
    }
}

fn read_start(input: &mut Input<'_>) -> Result<StartAt, WireError> {
    if !input.flag("start")? {
        return Ok(StartAt::Newest);
    }
    let count = input.count("positions", TRACKS_MAX)?;
    let mut positions = Vec::new();
    for _ in 0..count {
        positions.push(Position {
            track: track(input)?,
            epoch: epoch(input)?,
            group: GroupSeq(input.uint()?),
            frame: input.small("frame")?,
        });
    }
    Ok(StartAt::Positions(positions))
}

fn read_tracks(input: &mut Input<'_>) -> Result<Vec<TrackEntry>, WireError> {
    let count = input.count("tracks", TRACKS_MAX)?;
    let mut tracks = Vec::new();
    for _ in 0..count {
        tracks.push(TrackEntry {
            id: input.uint()?,
            name: track(input)?,
            kind: if input.flag("kind")? { MediaKind::Audio } else { MediaKind::Video },
            finished: input.option("finished", Input::uint)?,
        });
    }
    Ok(tracks)
}

fn read_route(input: &mut Input<'_>) -> Result<Route, WireError> {
    if input.is_empty() {
        // From a node of before there were routes.
        return Ok(Route { flowing: true, ..Route::default() });
    }
    let count = input.count("route", ROUTE_NODES_MAX + 1)?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(input.uint()?);
    }
    let flowing = input.flag("flowing")?;
    let clock_micros = input.option("clock", Input::int)?;
    Ok(Route { nodes, flowing, clock_micros })
}

fn read_load(input: &mut Input<'_>) -> Result<Load, WireError> {
    Ok(Load {
        cpu_permille: input.small("load")?,
        children: input.small("children")?,
        sent_bytes_per_s: input.uint()?,
    })
}
