//! What publishers may do and how they are told otherwise: options, errors, reasons.
//!
//! Not here: the mending itself (`timeline`, `core`).

use std::time::Duration;

use bytes::Bytes;
use headwater_media::{MediaTime, WallTime};
use thiserror::Error;

/// The policy for all publishers of a node.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// Part duration aimed at (`[hls] part_target`, 200 ms): shorter means less delay and more
    /// requests.
    pub part_target: Duration,
    /// How often publishers that can be asked are asked for a keyframe, and the length of groups
    /// of streams without video (`[ingest] keyframe_interval`, 2 s).
    pub keyframe_interval: Duration,
    /// Longest group (`[media] max_group`, 10 s): where keyframes are farther apart, a group is
    /// cut and continued.
    pub max_group: Duration,
    /// Bits a second of one publisher, measured over two seconds (`[limits] publisher_bitrate`,
    /// 100 Mb/s).
    pub publisher_bitrate_bps: u64,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            part_target: Duration::from_millis(200),
            keyframe_interval: Duration::from_secs(2),
            max_group: Duration::from_secs(10),
            publisher_bitrate_bps: 100_000_000,
        }
    }
}

/// Names a track in the calls of one [`super::Publisher`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackId(pub(super) usize);

/// A frame as a protocol delivers it.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// When it is shown, on the publisher's timeline, which all its tracks share.
    pub pts: MediaTime,
    /// When it is decoded, on the same timeline.
    pub dts: MediaTime,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// When it was captured, by this node's clock, where the protocol tells.
    pub capture: Option<WallTime>,
    /// The access unit in the bus's form (see [`headwater_media::Frame`]).
    pub payload: Bytes,
}

/// Why a publisher's session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndReason {
    /// Another publisher took the stream over (`[ingest] policy = "replace"`).
    #[error("another publisher took over the stream")]
    Replaced,
    /// The cluster has given the stream to another node while this one was out of touch.
    #[error("the cluster has given the stream to another publisher, at another node")]
    Fenced,
    /// An operator removed the node from its cluster.
    #[error("this node was removed from its cluster: publish at another one")]
    Removed,
    /// An operator ended it.
    #[error("an operator ended the session")]
    Kicked,
    /// The node shuts down.
    #[error("the node is shutting down")]
    Draining,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The session is over.
    #[error("the session is over: {0}")]
    Ended(EndReason),
    /// The frame is over `[limits] frame_bytes`.
    #[error("a frame of {size} bytes is over the limit of {limit} (`[limits] frame_bytes`)")]
    FrameTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More than `[limits] publisher_bitrate`.
    #[error(
        "the publisher sends {bps} b/s, over the limit of {limit} (`[limits] publisher_bitrate`)"
    )]
    Bitrate {
        /// Measured, in bits a second.
        bps: u64,
        /// The limit, in bits a second.
        limit: u64,
    },
    /// Time stamps jump so often that no timeline can be made of them.
    #[error(
        "the publisher's time stamps jumped {0} times within a minute: no timeline can be made of them"
    )]
    TimestampsUnusable(u32),
    /// The broadcast has as many tracks as it may (`[limits] tracks`).
    #[error("the broadcast has {0} tracks, the limit (`[limits] tracks`)")]
    TooManyTracks(usize),
    /// No configuration is known for the track yet; the frame was dropped.
    #[error("the track's codec headers have not come yet")]
    NotConfigured,
    /// No such track in this session.
    #[error("no such track")]
    NoTrack,
}

impl PushError {
    /// Whether the session must end; otherwise the frame alone is lost.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Ended(_)
            | Self::FrameTooLarge { .. }
            | Self::Bitrate { .. }
            | Self::TimestampsUnusable(_) => true,
            Self::TooManyTracks(_) | Self::NotConfigured | Self::NoTrack => false,
        }
    }
}
