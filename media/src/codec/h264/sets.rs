//! The parameter sets of an H.264 stream, gathered from out-of-band records and from the stream.
//!
//! Not here: when a change takes effect (`access_units`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{AVCC_PPS_MAX, AVCC_SPS_MAX, H264Config, Sps, nal_type, unit_type};
use crate::codec::CodecError;
use crate::codec::bits::BitReader;
use crate::codec::nal::{PARAMETER_SET_BYTES_MAX, unescape};

/// Parameter sets by id: at most 32 sequence and 256 picture parameter sets (the ids' ranges) of
/// [`PARAMETER_SET_BYTES_MAX`] bytes each.
#[derive(Clone, Debug, Default)]
pub struct ParameterSets {
    sps: BTreeMap<u8, Bytes>,
    /// With the id of the SPS that each refers to.
    pps: BTreeMap<u8, (u8, Bytes)>,
}

impl ParameterSets {
    /// Takes a NAL unit from the stream; units that are not parameter sets are passed over. True
    /// when it is new or differs from the one of its id.
    ///
    /// # Errors
    /// A malformed parameter set, which is not taken.
    pub fn observe(&mut self, unit: &[u8]) -> Result<bool, CodecError> {
        match unit_type(unit) {
            nal_type::SPS | nal_type::PPS if self.holds(unit) => Ok(false),
            nal_type::SPS | nal_type::PPS => self.insert(Bytes::copy_from_slice(unit)),
            _ => Ok(false),
        }
    }

    /// Whether exactly this unit is among the sets.
    #[must_use]
    pub fn holds(&self, unit: &[u8]) -> bool {
        match unit_type(unit) {
            nal_type::SPS => self.sps.values().any(|set| set == unit),
            nal_type::PPS => self.pps.values().any(|(_, set)| set == unit),
            _ => false,
        }
    }

    pub(super) fn insert(&mut self, unit: Bytes) -> Result<bool, CodecError> {
        if unit_type(&unit) == nal_type::SPS {
            let id = Sps::parse(&unit)?.id;
            return Ok(self.sps.insert(id, unit.clone()) != Some(unit));
        }
        let (id, sps) = pps_ids(&unit)?;
        Ok(self.pps.insert(id, (sps, unit.clone())) != Some((sps, unit)))
    }

    /// Takes the sets of an `avcC` record; gives its length size.
    pub(super) fn insert_avcc(&mut self, record: &[u8]) -> Result<u8, CodecError> {
        const CUT: CodecError = CodecError::Truncated("avcC");
        let (head, mut rest) = record.split_at_checked(5).ok_or(CUT)?;
        let [1, _, _, _, sizes] = *head else {
            let value = head.first().copied().unwrap_or(0).into();
            return Err(CodecError::Invalid { what: "avcC version", value });
        };
        let length_size = (sizes & 3) + 1;
        if length_size == 3 {
            return Err(CodecError::Invalid { what: "NAL length size", value: 3 });
        }
        for (mask, expected) in [(0x1f, nal_type::SPS), (0xff, nal_type::PPS)] {
            let (count, mut sets) = rest.split_first().ok_or(CUT)?;
            for _ in 0..count & mask {
                let (length, after) = sets.split_first_chunk::<2>().ok_or(CUT)?;
                let length = usize::from(u16::from_be_bytes(*length));
                let (set, next) = after.split_at_checked(length).ok_or(CUT)?;
                if unit_type(set) != expected {
                    let value = unit_type(set).into();
                    return Err(CodecError::Invalid { what: "NAL unit type in avcC", value });
                }
                self.insert(Bytes::copy_from_slice(set))?;
                sets = next;
            }
            rest = sets;
        }
        Ok(length_size)
    }

    /// The configuration of all sets; none while there is no SPS or no PPS.
    #[must_use]
    pub fn config(&self) -> Option<Result<H264Config, CodecError>> {
        if self.sps.is_empty() || self.pps.is_empty() {
            return None;
        }
        let pps = self.pps.values().map(|(_, set)| set.clone()).collect();
        Some(config(self.sps.values().cloned().collect(), pps))
    }

    /// The sets that a picture uses whose slices name `pps`: the SPS it refers to, and every PPS of
    /// that SPS. None while one of them is missing.
    pub(super) fn active(&self, pps: u8) -> Option<(Bytes, Vec<Bytes>)> {
        let (active, _) = self.pps.get(&pps)?;
        let sps = self.sps.get(active)?.clone();
        let of_active = self.pps.values().filter(|(sps, _)| sps == active);
        Some((sps, of_active.map(|(_, set)| set.clone()).collect()))
    }
}

pub(super) fn config(sps: Vec<Bytes>, pps: Vec<Bytes>) -> Result<H264Config, CodecError> {
    for (what, count, max) in [
        ("number of H.264 SPS", sps.len(), AVCC_SPS_MAX),
        ("number of H.264 PPS", pps.len(), AVCC_PPS_MAX),
    ] {
        if count > max {
            return Err(CodecError::Invalid { what, value: count as u64 });
        }
    }
    let said = Sps::parse(sps.first().map_or(&[], |set| set))?;
    Ok(H264Config {
        sps,
        pps,
        profile: said.profile,
        constraints: said.constraints,
        level: said.level,
        resolution: said.resolution,
        frame_rate: said.frame_rate,
        reorder_frames: said.reorder_frames,
    })
}

/// A picture parameter set's own id and its SPS's (§7.3.2.2).
fn pps_ids(unit: &[u8]) -> Result<(u8, u8), CodecError> {
    if unit.len() > PARAMETER_SET_BYTES_MAX {
        let value = unit.len() as u64;
        return Err(CodecError::Invalid { what: "length of H.264 PPS", value });
    }
    if unit_type(unit) != nal_type::PPS {
        let value = unit_type(unit).into();
        return Err(CodecError::Invalid { what: "NAL unit type of H.264 PPS", value });
    }
    let rbsp = unescape(unit, 32);
    let mut r = BitReader::new(&rbsp, "H.264 PPS");
    r.skip(8)?;
    let id = r.ue_byte("pic_parameter_set_id", 255)?;
    Ok((id, r.ue_byte("seq_parameter_set_id", 31)?))
}
