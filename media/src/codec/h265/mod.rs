//! H.265 headers (ITU-T H.265, ISO/IEC 14496-15).
//!
//! Not here: splitting of byte streams (`nal`).

mod access_units;
mod sets;
mod sps;
#[cfg(test)]
mod tests;

pub use access_units::{AccessUnits, is_keyframe};
pub use sets::ParameterSets;
pub use sps::Sps;

use bytes::Bytes;

use super::{CodecError, FrameRate, Resolution};

/// `nal_unit_type` (ITU-T H.265 Table 7-1), as far as this server looks at it.
pub mod nal_type {
    /// The first type of an intra random access point: BLA, IDR and CRA are 16 to 21.
    pub const IRAP_FIRST: u8 = 16;
    /// The last type of an intra random access point, reserved ones included.
    pub const IRAP_LAST: u8 = 23;
    /// The last type of a slice.
    pub const SLICE_LAST: u8 = 31;
    /// Video parameter set.
    pub const VPS: u8 = 32;
    /// Sequence parameter set.
    pub const SPS: u8 = 33;
    /// Picture parameter set.
    pub const PPS: u8 = 34;
    /// Access unit delimiter.
    pub const AUD: u8 = 35;
    /// Filler data.
    pub const FILLER: u8 = 38;
}

/// The `nal_unit_type` of a unit; 63 (unspecified) for an empty one.
#[must_use]
pub fn unit_type(unit: &[u8]) -> u8 {
    unit.first().map_or(63, |byte| byte >> 1 & 0x3f)
}

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
    /// `hvc1.A.B.LN.C…` by ISO/IEC 14496-15 Annex E: profile, compatibility flags in reverse bit
    /// order, tier and level, constraint bytes without the zeros at their end.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        let [head, f0, f1, f2, f3, constraints @ .., level] = self.profile_tier_level;
        let space = ["", "A", "B", "C"][usize::from(head >> 6)];
        let tier = if head & 0x20 == 0 { 'L' } else { 'H' };
        let flags = u32::from_be_bytes([f0, f1, f2, f3]).reverse_bits();
        let mut out = format!("hvc1.{space}{}.{flags:X}.{tier}{level}", head & 0x1f);
        let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in constraints.iter().take(used) {
            out.push_str(&format!(".{byte:X}"));
        }
        out
    }

    /// The configuration of these parameter sets (NAL units without start codes); the first SPS
    /// gives profile and size.
    ///
    /// # Errors
    /// A set is malformed or there is none of a kind.
    pub fn from_parameter_sets(
        vps: Vec<Bytes>,
        sps: Vec<Bytes>,
        pps: Vec<Bytes>,
    ) -> Result<Self, CodecError> {
        let mut sets = ParameterSets::default();
        for set in vps.into_iter().chain(sps).chain(pps) {
            sets.insert(set)?;
        }
        sets.config().unwrap_or(Err(CodecError::Truncated("set of H.265 parameter sets")))
    }

    /// Reads an `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1): the configuration
    /// and the bytes of a length prefix (1, 2 or 4).
    ///
    /// # Errors
    /// The record or a set in it is malformed.
    pub fn from_hvcc(record: &[u8]) -> Result<(Self, u8), CodecError> {
        let mut sets = ParameterSets::default();
        let length_size = sets.insert_hvcc(record)?;
        let config = sets.config().unwrap_or(Err(CodecError::Truncated("hvcC")))?;
        Ok((config, length_size))
    }

    /// The `HEVCDecoderConfigurationRecord` with 4-byte length prefixes.
    #[must_use]
    pub fn to_hvcc(&self) -> Vec<u8> {
        let said = self.sps.first().and_then(|set| Sps::parse(set).ok());
        let (layers, nested) = said.map_or((1, true), |sps| (sps.layers, sps.nested));
        let mut out = vec![1];
        out.extend(self.profile_tier_level);
        // No spatial segmentation and no parallelism declared.
        out.extend([0xf0, 0, 0xfc, 0xfc | self.chroma_format]);
        out.push(0xf8 | self.bit_depth_luma.saturating_sub(8));
        out.push(0xf8 | self.bit_depth_chroma.saturating_sub(8));
        // Average frame rate unknown; layers; nesting; length size.
        out.extend([0, 0, layers << 3 | u8::from(nested) << 2 | 3, 3]);
        let arrays =
            [(nal_type::VPS, &self.vps), (nal_type::SPS, &self.sps), (nal_type::PPS, &self.pps)];
        for (kind, sets) in arrays {
            // All sets are here, none in the stream.
            out.push(0x80 | kind);
            out.extend(u16::try_from(sets.len()).unwrap_or(0).to_be_bytes());
            for set in sets {
                let length = u16::try_from(set.len()).unwrap_or(u16::MAX);
                out.extend(length.to_be_bytes());
                out.extend(set.iter().take(length.into()));
            }
        }
        out
    }
}
