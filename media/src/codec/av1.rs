//! AV1 headers (AV1 Bitstream & Decoding Process Specification; AV1 in ISOBMFF).
//!
//! Not here: RTP aggregation.

use bytes::Bytes;

use super::{FrameRate, Resolution};

/// The sequence header and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Av1Config {
    /// The sequence header OBU, with size field.
    pub sequence_header: Bytes,
    /// `seq_profile`.
    pub profile: u8,
    /// `seq_level_idx[0]`.
    pub level: u8,
    /// `seq_tier[0]`: 0 main, 1 high.
    pub tier: u8,
    /// 8, 10 or 12.
    pub bit_depth: u8,
    /// `mono_chrome`.
    pub monochrome: bool,
    /// `subsampling_x`.
    pub subsampling_x: bool,
    /// `subsampling_y`.
    pub subsampling_y: bool,
    /// `chroma_sample_position`.
    pub chroma_sample_position: u8,
    /// `max_frame_width_minus_1 + 1` and height.
    pub resolution: Resolution,
    /// From `timing_info`.
    pub frame_rate: Option<FrameRate>,
}

impl Av1Config {
    /// `av01.P.LLT.DD`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        let tier = if self.tier == 0 { 'M' } else { 'H' };
        format!("av01.{}.{:02}{}.{:02}", self.profile, self.level, tier, self.bit_depth)
    }
}
