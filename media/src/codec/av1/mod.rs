//! AV1 headers (AV1 Bitstream & Decoding Process Specification; AV1 in ISOBMFF).
//!
//! Not here: RTP aggregation.

mod obu;
mod sequence;
mod temporal_units;

pub use obu::{Obu, ObuType, Obus};
pub use temporal_units::{TemporalUnits, is_keyframe};

use bytes::Bytes;

use super::{CodecError, FrameRate, Resolution};

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

/// Sequence headers are some ten bytes; with every operating point below a few hundred.
const SEQUENCE_HEADER_BYTES_MAX: usize = 1_024;

impl Av1Config {
    /// `av01.P.LLT.DD`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        let tier = if self.tier == 0 { 'M' } else { 'H' };
        format!("av01.{}.{:02}{}.{:02}", self.profile, self.level, tier, self.bit_depth)
    }

    /// Reads a sequence header OBU, with or without size field.
    ///
    /// # Errors
    /// It is no sequence header, is cut short, or breaks the specification.
    pub fn from_sequence_header(unit: &[u8]) -> Result<Self, CodecError> {
        let first =
            Obus::new(unit).next().ok_or(CodecError::Truncated("AV1 sequence header"))??;
        if first.kind != ObuType::SequenceHeader {
            let value = u64::from(first.kind.number());
            return Err(CodecError::Invalid { what: "AV1 OBU type of sequence header", value });
        }
        if first.payload.len() > SEQUENCE_HEADER_BYTES_MAX {
            let value = first.payload.len() as u64;
            return Err(CodecError::Invalid { what: "size of AV1 sequence header", value });
        }
        let mut own = Vec::with_capacity(first.payload.len() + 2);
        first.write(&mut own);
        sequence::parse(first.payload, own.into())
    }

    /// Reads an `av1C` record (AV1 in ISOBMFF §2.3), whose `configOBUs` must hold the header.
    ///
    /// # Errors
    /// It is cut short, of another version, or without a sequence header.
    pub fn from_av1c(record: &[u8]) -> Result<Self, CodecError> {
        let (head, units) = record.split_at_checked(4).ok_or(CodecError::Truncated("av1C"))?;
        let version = head.first().copied().unwrap_or(0);
        if version != 0x81 {
            return Err(CodecError::Invalid { what: "av1C version", value: version.into() });
        }
        for unit in Obus::new(units) {
            let unit = unit?;
            if unit.kind == ObuType::SequenceHeader {
                let mut own = Vec::new();
                unit.write(&mut own);
                return Self::from_sequence_header(&own);
            }
        }
        Err(CodecError::Unsupported("an av1C without a sequence header"))
    }

    /// The `av1C` record (AV1 in ISOBMFF §2.3).
    #[must_use]
    pub fn to_av1c(&self) -> Vec<u8> {
        let flags = self.tier << 7
            | u8::from(self.bit_depth > 8) << 6
            | u8::from(self.bit_depth == 12) << 5
            | u8::from(self.monochrome) << 4
            | u8::from(self.subsampling_x) << 3
            | u8::from(self.subsampling_y) << 2
            | (self.chroma_sample_position & 3);
        let mut record = vec![0x81, self.profile << 5 | (self.level & 0x1f), flags, 0];
        record.extend_from_slice(&self.sequence_header);
        record
    }
}

#[cfg(test)]
mod tests;
