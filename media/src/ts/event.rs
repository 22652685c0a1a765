//! What a demultiplexer is given and gives: limits, events, counters.
//!
//! Not here: how it comes to them (`demux`).

use super::StreamCodec;
use super::pes::Pes;

/// Limits of a demultiplexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemuxOptions {
    /// Bytes of one PES at most (16 MiB, as `[limits] frame_bytes`); a larger one is dropped.
    pub pes_bytes_max: usize,
    /// Bytes of all PES under way at most (32 MiB): many streams at once cannot each take the
    /// most that one may.
    pub buffered_bytes_max: usize,
}

impl Default for DemuxOptions {
    fn default() -> Self {
        Self { pes_bytes_max: 16 << 20, buffered_bytes_max: 32 << 20 }
    }
}

/// What a demultiplexer finds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An elementary stream that is carried; its PES follow.
    Track {
        /// Its PID.
        pid: u16,
        /// What it is.
        codec: StreamCodec,
    },
    /// The program no longer has that stream.
    TrackEnded {
        /// Its PID.
        pid: u16,
    },
    /// A whole PES of a track.
    Pes(Pes),
    /// Something was damaged and dropped.
    Lost {
        /// Of which PID; none when packets cannot be told apart.
        pid: Option<u16>,
        /// Why.
        reason: LostReason,
    },
    /// An elementary stream that is not carried; said once.
    Unsupported {
        /// Its PID.
        pid: u16,
        /// `stream_type` of the PMT.
        stream_type: u8,
        /// What it is, for a warning.
        name: &'static str,
    },
}

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// Bytes are not where packets should be.
    Sync,
    /// Packets are missing by the continuity counter.
    Continuity,
    /// A packet is marked as damaged on its way.
    TransportError,
    /// A header contradicts itself.
    Malformed,
    /// A table's CRC is wrong, or it is too long.
    Table,
    /// A PES is shorter than it says.
    Truncated,
    /// A PES is larger than the limit.
    TooLarge,
    /// More of a PES came after stuffing had seemed to end it.
    EarlyEnd,
    /// A packet is encrypted.
    Scrambled,
}

impl LostReason {
    /// A short name for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Continuity => "continuity",
            Self::TransportError => "transport-error",
            Self::Malformed => "malformed",
            Self::Table => "table",
            Self::Truncated => "truncated",
            Self::TooLarge => "too-large",
            Self::EarlyEnd => "early-end",
            Self::Scrambled => "scrambled",
        }
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DemuxStats {
    /// Packets read.
    pub packets: u64,
    /// Packets that came twice and were ignored.
    pub duplicates: u64,
    /// [`Event::Lost`] given.
    pub lost: u64,
    /// Bytes passed over in search of packets.
    pub skipped_bytes: u64,
}
