//! The stream of a group: its head, then frames, each a small head and its payload, then the end.
//!
//! Times are coded against what is expected of a regular stream, so that a frame's head has about
//! five bytes. Not here: whether a group is wanted (`intake`), which is sent next (`feed`).

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_media::{
    ClockRate, DiscontinuitySeq, Epoch, Frame, GroupHeader, GroupSeq, MediaDuration, MediaTime,
    WallTime,
};

use super::config::{put_config, read_config};
use super::input::{put_option, put_run};
use super::{
    CONFIG_BYTES_MAX, FRAME_HEAD_BYTES_MAX, GROUP_HEAD_BYTES_MAX, Input, WireError, put_uint,
    zigzag,
};

/// What a group's stream answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// A subscription's track. `order` counts the streams of this track from 0, so that the
    /// receiver knows which one comes next whatever order they arrive in.
    Subscription {
        /// The subscription.
        id: u64,
        /// The track's number in the subscription's list.
        track: u64,
        /// The place among the track's streams.
        order: u64,
    },
    /// A fetch.
    Fetch {
        /// The fetch.
        id: u64,
    },
}

/// The head of a group's stream.
#[derive(Clone, Debug)]
pub struct GroupHead {
    /// What it answers.
    pub kind: StreamKind,
    /// The group's own header.
    pub header: GroupHeader,
    /// The place of the first frame that follows; above 0 after a resume.
    pub first_frame: u32,
    /// Groups that the sender held and left out before this one.
    pub skipped: u64,
}

const FLAG_INDEPENDENT: u8 = 1;
const KIND_SUBSCRIPTION: u8 = 1;
const KIND_FETCH: u8 = 2;

/// Writes the head of a group's stream.
///
/// # Errors
/// The track's configuration is over [`CONFIG_BYTES_MAX`].
pub fn encode_group_head(head: &GroupHead) -> Result<Bytes, WireError> {
    let header = &head.header;
    let mut config = BytesMut::new();
    put_config(&mut config, &header.config);
    if config.len() > CONFIG_BYTES_MAX {
        return Err(too_long("configuration", config.len(), CONFIG_BYTES_MAX));
    }
    let mut body = BytesMut::with_capacity(config.len() + 96);
    match head.kind {
        StreamKind::Subscription { id, track, order } => {
            body.put_u8(KIND_SUBSCRIPTION);
            put_uint(&mut body, id);
            put_uint(&mut body, track);
            put_uint(&mut body, order);
        }
        StreamKind::Fetch { id } => {
            body.put_u8(KIND_FETCH);
            put_uint(&mut body, id);
        }
    }
    put_uint(&mut body, head.first_frame.into());
    put_uint(&mut body, head.skipped);
    put_uint(&mut body, header.seq.0);
    put_uint(&mut body, header.epoch.0);
    put_uint(&mut body, header.discontinuity.0);
    put_uint(&mut body, zigzag(header.start.to_rate(header.config.rate).ticks()));
    put_uint(&mut body, zigzag(header.wall.0));
    body.put_u8(if header.independent { FLAG_INDEPENDENT } else { 0 });
    put_option(&mut body, header.expected_frames, |out, count| put_uint(out, count.into()));
    put_option(&mut body, header.target_duration_s, |out, seconds| put_uint(out, seconds.into()));
    put_run(&mut body, &config);
    let mut out = BytesMut::with_capacity(body.len() + 4);
    put_run(&mut out, &body);
    Ok(out.freeze())
}

fn too_long(what: &'static str, size: usize, limit: usize) -> WireError {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    WireError::TooLong { what, size: number(size), limit: number(limit) }
}

fn read_group_head(input: &mut Input<'_>) -> Result<GroupHead, WireError> {
    let body = input.run("group head", GROUP_HEAD_BYTES_MAX)?;
    // A body that is cut short within its own length is malformed, not late.
    read_group_body(&mut Input::new(body)).map_err(|error| match error {
        WireError::Truncated => WireError::Text("group head"),
        other => other,
    })
}

fn read_group_body(input: &mut Input<'_>) -> Result<GroupHead, WireError> {
    let kind = match input.byte()? {
        KIND_SUBSCRIPTION => StreamKind::Subscription {
            id: input.uint()?,
            track: input.uint()?,
            order: input.uint()?,
        },
        KIND_FETCH => StreamKind::Fetch { id: input.uint()? },
        other => return Err(WireError::Invalid { what: "stream kind", value: other.into() }),
    };
    let first_frame = input.small("first frame")?;
    let skipped = input.uint()?;
    let (seq, epoch) = (GroupSeq(input.uint()?), Epoch(input.uint()?));
    let discontinuity = DiscontinuitySeq(input.uint()?);
    // Numbers are counted on from: none is the last there is.
    for number in [seq.0, epoch.0, discontinuity.0] {
        if number == u64::MAX {
            return Err(WireError::Invalid { what: "group number", value: number });
        }
    }
    let (start, wall) = (input.int()?, WallTime(input.int()?));
    plausible("start", start, -TICKS_MAX, TICKS_MAX)?;
    plausible("wall time", wall.0, -WALL_MICROS_MAX, WALL_MICROS_MAX)?;
    let independent = input.byte()? & FLAG_INDEPENDENT != 0;
    let expected_frames = input.option("expected frames", |input| input.small("frames"))?;
    let target_duration_s = input.option("target duration", |input| input.small("seconds"))?;
    let config = read_config(&mut Input::new(input.run("configuration", CONFIG_BYTES_MAX)?))?;
    let start = MediaTime::new(start, config.rate);
    let config = Arc::new(config);
    let header = GroupHeader {
        seq,
        epoch,
        discontinuity,
        start,
        wall,
        independent,
        expected_frames,
        target_duration_s,
        config,
    };
    Ok(GroupHead { kind, header, first_frame, skipped })
}

/// Ticks from a timeline's zero at most, either way: three thousand years at 90 kHz. Whoever adds
/// and scales times need not fear for 64 bits.
const TICKS_MAX: i64 = 1 << 53;
/// Ticks of a frame's duration, and between its decoding and presentation: half a day at 90 kHz.
const FRAME_TICKS_MAX: i64 = (1 << 32) - 1;
/// Microseconds from 1970 at most, either way.
const WALL_MICROS_MAX: i64 = 1 << 58;

fn plausible(what: &'static str, value: i64, least: i64, most: i64) -> Result<(), WireError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(WireError::Invalid { what, value: zigzag(value) })
}

const FRAME_KEY: u8 = 1;
const FRAME_DTS: u8 = 1 << 1;
const FRAME_DURATION: u8 = 1 << 2;
const FRAME_OFFSET: u8 = 1 << 3;
const FRAME_CAPTURE: u8 = 1 << 4;
const FRAME_KNOWN: u8 = 0x1f;
const GROUP_END: u8 = 0x80;

/// What is expected of a group's next frame; the same on both ends.
#[derive(Clone, Debug)]
pub struct FrameCoder {
    rate: ClockRate,
    dts: i64,
    duration: i64,
    /// `pts - dts`.
    offset: i64,
    capture: i64,
}

impl FrameCoder {
    /// For the frames of a group.
    #[must_use]
    pub fn new(header: &GroupHeader) -> Self {
        Self {
            rate: header.config.rate,
            dts: header.start.to_rate(header.config.rate).ticks(),
            duration: header.config.parts.frame_ticks.into(),
            offset: 0,
            capture: header.wall.0,
        }
    }

    /// Writes a frame's head; its payload follows.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        let dts = frame.dts.to_rate(self.rate).ticks();
        let duration = frame.duration.to_rate(self.rate).ticks();
        let offset = frame.pts.to_rate(self.rate).ticks().wrapping_sub(dts);
        let fields = [
            (FRAME_DTS, dts.wrapping_sub(self.dts)),
            (FRAME_DURATION, duration.wrapping_sub(self.duration)),
            (FRAME_OFFSET, offset.wrapping_sub(self.offset)),
            (FRAME_CAPTURE, frame.capture.0.wrapping_sub(self.capture)),
        ];
        let present = |(bit, delta): &(u8, i64)| if *delta == 0 { 0 } else { *bit };
        let key = if frame.keyframe { FRAME_KEY } else { 0 };
        out.put_u8(fields.iter().map(present).fold(key, |flags, bit| flags | bit));
        for (_, delta) in fields.iter().filter(|(_, delta)| *delta != 0) {
            put_uint(out, zigzag(*delta));
        }
        put_uint(out, u64::try_from(frame.payload.len()).unwrap_or(u64::MAX));
        self.expect_after(dts, duration, offset, frame.capture.0);
    }

    fn expect_after(&mut self, dts: i64, duration: i64, offset: i64, capture: i64) {
        let micros = MediaDuration::new(duration, self.rate).micros();
        self.dts = dts.wrapping_add(duration);
        self.duration = duration;
        self.offset = offset;
        self.capture = capture.wrapping_add(micros);
    }

    /// Reads a frame's head, or the group's end.
    fn decode(&self, input: &mut Input<'_>, frame_bytes: usize) -> Result<Head, WireError> {
        let flags = input.byte()?;
        if flags == GROUP_END {
            return Ok(Head::End(input.small("final frame count")?));
        }
        if flags & !FRAME_KNOWN != 0 {
            return Err(WireError::Invalid { what: "frame flags", value: flags.into() });
        }
        let mut field = |bit: u8, expected: i64| -> Result<i64, WireError> {
            let delta = if flags & bit == 0 { 0 } else { input.int()? };
            Ok(expected.wrapping_add(delta))
        };
        let dts = field(FRAME_DTS, self.dts)?;
        let duration = field(FRAME_DURATION, self.duration)?;
        let offset = field(FRAME_OFFSET, self.offset)?;
        let capture = field(FRAME_CAPTURE, self.capture)?;
        let size = input.count("frame", frame_bytes)?;
        plausible("time", dts, -TICKS_MAX, TICKS_MAX)?;
        plausible("presentation offset", offset, -FRAME_TICKS_MAX, FRAME_TICKS_MAX)?;
        plausible("duration", duration, 0, FRAME_TICKS_MAX)?;
        plausible("capture time", capture, -WALL_MICROS_MAX, WALL_MICROS_MAX)?;
        let keyframe = flags & FRAME_KEY != 0;
        Ok(Head::Frame(FrameHead { dts, duration, offset, capture, keyframe, size }))
    }
}

#[derive(Clone, Copy)]
struct FrameHead {
    dts: i64,
    duration: i64,
    offset: i64,
    capture: i64,
    keyframe: bool,
    size: usize,
}

enum Head {
    Frame(FrameHead),
    End(u32),
}

/// Writes the end of a group that has `frames` frames in all; the stream is finished after it.
pub fn encode_group_end(frames: u32, out: &mut BytesMut) {
    out.put_u8(GROUP_END);
    put_uint(out, frames.into());
}

/// What a group's stream brings, in order.
#[derive(Clone, Debug)]
pub enum GroupEvent {
    /// The head, first and once.
    Head(Box<GroupHead>),
    /// A frame.
    Frame(Frame),
    /// The end: the group has so many frames in all.
    End(u32),
}

/// Capacity that a frame's stated length alone may claim; a longer one must have sent this much
/// before the rest is set aside. Longer than all but the largest keyframes.
const PAYLOAD_TRUSTED_BYTES: usize = 1 << 20;

enum State {
    Head,
    Frames,
    Payload(FrameHead, Vec<u8>),
    Ended,
}

/// Takes a group's stream apart as it arrives. Feed a chunk, then take events until there is none.
///
/// A payload is copied once, out of the datagrams that brought it.
pub struct GroupDecoder {
    state: State,
    coder: Option<FrameCoder>,
    chunk: Bytes,
    /// A head that began in an earlier chunk.
    begun: Vec<u8>,
    frame_bytes: usize,
}

impl GroupDecoder {
    /// For a stream with frames of at most `frame_bytes` bytes (`[limits] frame_bytes`).
    #[must_use]
    pub fn new(frame_bytes: usize) -> Self {
        let (chunk, begun) = (Bytes::new(), Vec::new());
        Self { state: State::Head, coder: None, chunk, begun, frame_bytes }
    }

    /// Takes the next bytes. Those of the chunk before must be used up.
    pub fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "events are taken before more is fed");
        self.chunk = chunk;
    }

    /// The next event that is complete.
    ///
    /// # Errors
    /// What the peer sent breaks the protocol or a limit; the stream is of no further use.
    pub fn poll(&mut self) -> Result<Option<GroupEvent>, WireError> {
        match &mut self.state {
            State::Head => {
                let Some(head) = self.take(read_group_head, GROUP_HEAD_BYTES_MAX + 3)? else {
                    return Ok(None);
                };
                self.coder = Some(FrameCoder::new(&head.header));
                self.state = State::Frames;
                Ok(Some(GroupEvent::Head(Box::new(head))))
            }
            State::Frames => {
                let (Some(coder), limit) = (self.coder.take(), self.frame_bytes) else {
                    return Err(WireError::Text("group"));
                };
                let taken = self.take(|input| coder.decode(input, limit), FRAME_HEAD_BYTES_MAX);
                self.coder = Some(coder);
                match taken? {
                    None => Ok(None),
                    Some(Head::End(frames)) => {
                        self.state = State::Ended;
                        Ok(Some(GroupEvent::End(frames)))
                    }
                    Some(Head::Frame(head)) => {
                        let room = head.size.min(PAYLOAD_TRUSTED_BYTES);
                        self.state = State::Payload(head, Vec::with_capacity(room));
                        self.poll()
                    }
                }
            }
            State::Payload(head, payload) => {
                let missing = head.size - payload.len();
                if payload.len() >= PAYLOAD_TRUSTED_BYTES {
                    payload.reserve_exact(missing);
                }
                let part = self.chunk.split_to(missing.min(self.chunk.len()));
                payload.extend_from_slice(&part);
                if payload.len() < head.size {
                    return Ok(None);
                }
                let (head, payload) = (*head, std::mem::take(payload));
                self.state = State::Frames;
                Ok(self.frame(head, payload.into()).map(GroupEvent::Frame))
            }
            State::Ended if self.chunk.is_empty() => Ok(None),
            State::Ended => Err(WireError::Text("stream after its group's end")),
        }
    }

    fn frame(&mut self, head: FrameHead, payload: Bytes) -> Option<Frame> {
        let coder = self.coder.as_mut()?;
        let FrameHead { dts, duration, offset, capture, keyframe, .. } = head;
        coder.expect_after(dts, duration, offset, capture);
        let rate = coder.rate;
        Some(Frame {
            pts: MediaTime::new(dts.wrapping_add(offset), rate),
            dts: MediaTime::new(dts, rate),
            duration: MediaDuration::new(duration, rate),
            keyframe,
            capture: WallTime(capture),
            payload,
        })
    }

    /// Reads one head from what is left of earlier chunks and this one.
    fn take<T>(
        &mut self,
        read: impl Fn(&mut Input<'_>) -> Result<T, WireError>,
        limit: usize,
    ) -> Result<Option<T>, WireError> {
        let before = self.begun.len();
        if before == 0 {
            let mut input = Input::new(&self.chunk);
            match read(&mut input) {
                Ok(value) => {
                    self.chunk.advance(input.consumed());
                    return Ok(Some(value));
                }
                Err(WireError::Truncated) => {}
                Err(error) => return Err(error),
            }
        }
        let more = self.chunk.len().min(limit.saturating_sub(before));
        self.begun.extend_from_slice(self.chunk.get(..more).unwrap_or_default());
        let mut input = Input::new(&self.begun);
        match read(&mut input) {
            Ok(value) => {
                self.chunk.advance(input.consumed().saturating_sub(before));
                self.begun.clear();
                Ok(Some(value))
            }
            Err(WireError::Truncated) if self.begun.len() >= limit => {
                Err(too_long("head", self.begun.len(), limit))
            }
            Err(WireError::Truncated) => {
                self.chunk.advance(more);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
