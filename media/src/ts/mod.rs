//! MPEG-TS (ISO/IEC 13818-1): a demultiplexer for what SRT publishers send and a multiplexer for
//! those who read by SRT. Both are values without I/O.
//!
//! Carried: H.264, H.265, AAC in ADTS, Opus. Not here: splitting access units into NAL units or
//! ADTS frames (`codec`), mending of time stamps (the publisher), SRT.

mod continuity;
mod demux;
mod event;
mod mux;
mod opus;
mod packet;
mod pes;
mod psi;
#[cfg(test)]
mod tests;

pub use demux::Demuxer;
pub use event::{DemuxOptions, DemuxStats, Event, LostReason};
pub use mux::{MuxError, Muxer, TIME_OFFSET_TICKS};
pub use opus::{OpusUnitError, OpusUnits};
pub use pes::Pes;

/// Bytes of a transport packet.
pub const PACKET_BYTES: usize = 188;
/// Bytes of seven packets, the payload that SRT carries in one datagram.
pub const CHUNK_BYTES: usize = 7 * PACKET_BYTES;

const SYNC_BYTE: u8 = 0x47;
const PID_PAT: u16 = 0;
const PID_NULL: u16 = 0x1fff;
/// PIDs below are for tables of the system.
const PID_FIRST: u16 = 0x10;

/// What an elementary stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamCodec {
    /// H.264 as Annex B byte stream; a PES is an access unit.
    H264,
    /// H.265 as Annex B byte stream; a PES is an access unit.
    H265,
    /// AAC in ADTS; a PES is one frame or more.
    AacAdts,
    /// Opus with control headers; a PES is one packet or more: see [`OpusUnits`].
    Opus {
        /// 1 or 2.
        channels: u8,
    },
}

impl StreamCodec {
    /// Whether it is video.
    #[must_use]
    pub fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }
}

/// The descriptors of an elementary stream.
struct Descriptors<'a>(&'a [u8]);
