//! H.264 headers (ITU-T H.264, ISO/IEC 14496-15).
//!
//! Not here: splitting of byte streams (`nal`), RTP payloads.

use bytes::Bytes;

use super::{FrameRate, Resolution};

/// Parameter sets and what they say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct H264Config {
    /// Sequence parameter sets as NAL units, ordered by id.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets as NAL units, ordered by id.
    pub pps: Vec<Bytes>,
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags' byte.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// After cropping.
    pub resolution: Resolution,
    /// From the VUI's timing information.
    pub frame_rate: Option<FrameRate>,
    /// Frames that may be reordered (`max_num_reorder_frames`, else by profile): 0 means that
    /// WebRTC can carry the stream.
    pub reorder_frames: u8,
}

impl H264Config {
    /// `avc1.PPCCLL`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}
