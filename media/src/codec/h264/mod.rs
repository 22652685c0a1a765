//! H.264 headers (ITU-T H.264, ISO/IEC 14496-15).
//!
//! Not here: splitting of byte streams (`nal`), RTP payloads.

mod access_units;
mod sets;
mod slice;
mod sps;
#[cfg(test)]
mod tests;
mod vui;

pub use access_units::{AccessUnits, begins_its_picture, is_keyframe};
pub use sets::ParameterSets;
pub use sps::Sps;

use bytes::Bytes;

use super::{CodecError, FrameRate, Resolution};

/// `nal_unit_type` (ITU-T H.264 Table 7-1), as far as this server looks at it.
pub mod nal_type {
    /// A slice of a picture that is not IDR.
    pub const SLICE: u8 = 1;
    /// Data partition A.
    pub const PARTITION_A: u8 = 2;
    /// A slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    /// Filler data.
    pub const FILLER: u8 = 12;
}

/// The `nal_unit_type` of a unit; 0 (unspecified) for an empty one.
#[must_use]
pub fn unit_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |byte| byte & 0x1f)
}

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

    /// Whether the headers leave open how many frames are reordered: [`Self::reorder_frames`] is
    /// then the most that the level allows (§E.2.1), and the stream need not reorder any.
    #[must_use]
    pub fn reorder_is_open(&self) -> bool {
        let sps = self.sps.first().and_then(|set| Sps::parse(set).ok());
        self.reorder_frames > 0 && sps.is_some_and(|sps| !sps.reorder_declared)
    }

    /// The configuration of these parameter sets (NAL units without start codes); the first SPS
    /// gives profile, size and rate.
    ///
    /// # Errors
    /// A set is malformed, there is none of a kind, or there are more than an `avcC` box holds.
    pub fn from_parameter_sets(sps: Vec<Bytes>, pps: Vec<Bytes>) -> Result<Self, CodecError> {
        let mut sets = ParameterSets::default();
        for set in sps.into_iter().chain(pps) {
            sets.insert(set)?;
        }
        sets.config().unwrap_or(Err(CodecError::Truncated("set of H.264 parameter sets")))
    }

    /// Reads an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1): the configuration
    /// and the bytes of a length prefix (1, 2 or 4).
    ///
    /// # Errors
    /// The record or a set in it is malformed.
    pub fn from_avcc(record: &[u8]) -> Result<(Self, u8), CodecError> {
        let mut sets = ParameterSets::default();
        let length_size = sets.insert_avcc(record)?;
        let config = sets.config().unwrap_or(Err(CodecError::Truncated("avcC")))?;
        Ok((config, length_size))
    }

    /// The `AVCDecoderConfigurationRecord` with 4-byte length prefixes.
    #[must_use]
    pub fn to_avcc(&self) -> Vec<u8> {
        let mut out = vec![1, self.profile, self.constraints, self.level, 0xff];
        let put = |out: &mut Vec<u8>, count_bits: u8, sets: &[Bytes], max: usize| {
            let sets = sets.get(..max).unwrap_or(sets);
            out.push(count_bits | u8::try_from(sets.len()).unwrap_or(0));
            for set in sets {
                let length = u16::try_from(set.len()).unwrap_or(u16::MAX);
                out.extend(length.to_be_bytes());
                out.extend(set.iter().take(length.into()));
            }
        };
        put(&mut out, 0xe0, &self.sps, AVCC_SPS_MAX);
        put(&mut out, 0, &self.pps, AVCC_PPS_MAX);
        let sps = self.sps.first().and_then(|set| Sps::parse(set).ok());
        if let Some(sps) = sps.filter(|_| matches!(self.profile, 100 | 110 | 122 | 144)) {
            out.push(0xfc | sps.chroma_format);
            out.push(0xf8 | (sps.bit_depth_luma - 8));
            out.push(0xf8 | (sps.bit_depth_chroma - 8));
            out.push(0);
        }
        out
    }
}

/// Sequence parameter sets in an `avcC`: a count of five bits.
const AVCC_SPS_MAX: usize = 31;
/// Picture parameter sets in an `avcC`: a count of eight bits.
const AVCC_PPS_MAX: usize = 255;
