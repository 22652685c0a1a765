//! What the node and the sessions hand to each other: a publisher's frames, a viewer's tracks.
//!
//! Not here: what becomes of a frame (the node's ingest gives it final times and puts it on the
//! bus).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use headwater_media::{MediaKind, MediaTime, Track, WallTime};

use crate::error::CloseReason;

/// Which of a publisher's encoded streams a frame belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TrackSlot {
    /// Video or audio.
    pub kind: MediaKind,
    /// Place of the m-line in the offer, from 0.
    pub line: usize,
    /// Simulcast layer (RFC 8851), where the publisher sends several.
    pub rid: Option<Arc<str>>,
}

/// The codec of an incoming frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IncomingCodec {
    /// H.264; the frame is an Annex B byte stream with 4-byte start codes.
    H264,
    /// VP8; the frame is one encoded frame.
    Vp8,
    /// VP9; the frame is one frame or superframe.
    Vp9,
    /// AV1; the frame is a temporal unit, each OBU with a size field, without temporal delimiter.
    Av1,
    /// Opus; the frame is one packet.
    Opus {
        /// 1 or 2, as negotiated.
        channels: u8,
    },
}

impl IncomingCodec {
    /// A short name, as [`headwater_media::Codec::name`] gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
            Self::Opus { .. } => "opus",
        }
    }
}

/// One encoded frame from a publisher, in decoding order within its track.
#[derive(Clone, Debug)]
pub struct IncomingFrame {
    /// Its encoded stream.
    pub track: TrackSlot,
    /// Its codec; may change from one frame to the next if the publisher wants.
    pub codec: IncomingCodec,
    /// The RTP time stamp, widened to 64 bits; its zero means nothing, and differs from track to
    /// track.
    pub time: MediaTime,
    /// When it was captured, by this machine's clock. All tracks of a session share this
    /// timeline (see [`Self::synced`]), so differences of `capture` between tracks are lip sync.
    pub capture: WallTime,
    /// Whether `capture` comes from the sender's own clock (RTCP sender reports or
    /// abs-capture-time). False in the first second or so, when arrival times stand in; the
    /// change from one to the other is slewed, never a jump.
    pub synced: bool,
    /// Whether decoding can start here, as far as the RTP payload tells.
    pub keyframe: bool,
    /// False when packets before this frame were lost for good: unless it is a keyframe, its
    /// picture may be broken. A keyframe has been asked for already.
    pub contiguous: bool,
    /// The encoded frame.
    pub data: Bytes,
    /// When its first packet came.
    pub received: Instant,
}

/// The tracks that a viewer is to get. The node chooses them (a layer, the Opus rendition of the
/// sound); what WebRTC or the player cannot take is left out with a warning.
#[derive(Clone, Debug, Default)]
pub struct PlayTracks {
    /// The picture.
    pub video: Option<Track>,
    /// The sound; should be Opus.
    pub audio: Option<Track>,
}

/// The stream takes no more frames; the session will be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SinkClosed;

/// Takes what a publisher sends. Called on a worker's thread: it must not block.
pub trait PublisherSink: Send {
    /// Takes a frame.
    ///
    /// # Errors
    /// [`SinkClosed`] ends the session.
    fn frame(&mut self, frame: IncomingFrame) -> Result<(), SinkClosed>;

    /// Whether somebody has wished for a keyframe since the last call; asked about every 50 ms.
    /// Wishes are coalesced to one request in `keyframe_spacing`.
    fn wants_keyframe(&mut self, now: Instant) -> bool;

    /// The publisher's media flows: ICE and DTLS are up.
    fn connected(&mut self) {}

    /// The session is over. Called once, last.
    fn closed(&mut self, reason: CloseReason);
}
