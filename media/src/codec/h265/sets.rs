//! The parameter sets of an H.265 stream, gathered from out-of-band records and from the stream.
//!
//! Not here: when a change takes effect (`access_units`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::sps::{parse_vps, rbsp};
use super::{H265Config, Sps, nal_type, unit_type};
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// Parameter sets by id: at most 16 video, 16 sequence and 64 picture parameter sets (the ids'
/// ranges) of [`crate::codec::nal::PARAMETER_SET_BYTES_MAX`] bytes each.
#[derive(Clone, Debug, Default)]
pub struct ParameterSets {
    vps: BTreeMap<u8, Bytes>,
    /// With the id of the VPS that each refers to.
    sps: BTreeMap<u8, (u8, Bytes)>,
    /// With the id of the SPS that each refers to.
    pps: BTreeMap<u8, (u8, Bytes)>,
}

/// The sets that a picture uses.
pub(super) struct Active {
    pub(super) vps: Bytes,
    pub(super) sps: Bytes,
    pub(super) pps: Vec<Bytes>,
}

pub(super) fn is_set(unit: &[u8]) -> bool {
    matches!(unit_type(unit), nal_type::VPS | nal_type::SPS | nal_type::PPS)
}

impl ParameterSets {
    /// Takes a NAL unit from the stream; units that are not parameter sets of the base layer are
    /// passed over. True when it is new or differs from the one of its id.
    ///
    /// # Errors
    /// A malformed parameter set, which is not taken.
    pub fn observe(&mut self, unit: &[u8]) -> Result<bool, CodecError> {
        if !is_set(unit) || !super::access_units::is_base(unit) || self.holds(unit) {
            return Ok(false);
        }
        self.insert(Bytes::copy_from_slice(unit))
    }

    /// Whether exactly this unit is among the sets.
    #[must_use]
    pub fn holds(&self, unit: &[u8]) -> bool {
        match unit_type(unit) {
            nal_type::VPS => self.vps.values().any(|set| set == unit),
            nal_type::SPS => self.sps.values().any(|(_, set)| set == unit),
            nal_type::PPS => self.pps.values().any(|(_, set)| set == unit),
            _ => false,
        }
    }

    pub(super) fn insert(&mut self, unit: Bytes) -> Result<bool, CodecError> {
        match unit_type(&unit) {
            nal_type::VPS => {
                let (id, _) = parse_vps(&unit)?;
                Ok(self.vps.insert(id, unit.clone()) != Some(unit))
            }
            nal_type::SPS => {
                let Sps { id, vps, .. } = Sps::parse(&unit)?;
                Ok(self.sps.insert(id, (vps, unit.clone())) != Some((vps, unit)))
            }
            _ => {
                let (id, sps) = pps_ids(&unit)?;
                Ok(self.pps.insert(id, (sps, unit.clone())) != Some((sps, unit)))
            }
        }
    }

    /// Takes the sets of an `hvcC` record; gives its length size. SEI units in it are left out.
    pub(super) fn insert_hvcc(&mut self, record: &[u8]) -> Result<u8, CodecError> {
        const CUT: CodecError = CodecError::Truncated("hvcC");
        let (head, mut rest) = record.split_first_chunk::<23>().ok_or(CUT)?;
        let [version, .., sizes, arrays] = *head;
        // Some encoders write version 0.
        if version > 1 {
            return Err(CodecError::Invalid { what: "hvcC version", value: version.into() });
        }
        let length_size = (sizes & 3) + 1;
        if length_size == 3 {
            return Err(CodecError::Invalid { what: "NAL length size", value: 3 });
        }
        for _ in 0..arrays {
            let ([_, high, low], mut sets) = rest.split_first_chunk::<3>().ok_or(CUT)?;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                let (length, after) = sets.split_first_chunk::<2>().ok_or(CUT)?;
                let length = usize::from(u16::from_be_bytes(*length));
                let (set, next) = after.split_at_checked(length).ok_or(CUT)?;
                self.observe(set)?;
                sets = next;
            }
            rest = sets;
        }
        Ok(length_size)
    }

    /// The configuration of all sets; none while a kind is missing.
    #[must_use]
    pub fn config(&self) -> Option<Result<H265Config, CodecError>> {
        if self.vps.is_empty() || self.sps.is_empty() || self.pps.is_empty() {
            return None;
        }
        let sets = |sets: &BTreeMap<u8, (u8, Bytes)>| -> Vec<Bytes> {
            sets.values().map(|(_, set)| set.clone()).collect()
        };
        let vps = self.vps.values().cloned().collect();
        Some(config(vps, sets(&self.sps), sets(&self.pps)))
    }

    /// The sets that a picture uses whose slices name `pps`, with every PPS of its SPS. None while
    /// one of them is missing.
    pub(super) fn active(&self, pps: u8) -> Option<Active> {
        let (active, _) = self.pps.get(&pps)?;
        let (vps, sps) = self.sps.get(active)?;
        let of_active = self.pps.values().filter(|(sps, _)| sps == active);
        Some(Active {
            vps: self.vps.get(vps)?.clone(),
            sps: sps.clone(),
            pps: of_active.map(|(_, set)| set.clone()).collect(),
        })
    }
}

pub(super) fn config(
    vps: Vec<Bytes>,
    sps: Vec<Bytes>,
    pps: Vec<Bytes>,
) -> Result<H265Config, CodecError> {
    let said = Sps::parse(sps.first().map_or(&[], |set| set))?;
    let (_, vps_rate) = parse_vps(vps.first().map_or(&[], |set| set))?;
    Ok(H265Config {
        vps,
        sps,
        pps,
        profile_tier_level: said.profile_tier_level,
        chroma_format: said.chroma_format,
        bit_depth_luma: said.bit_depth_luma,
        bit_depth_chroma: said.bit_depth_chroma,
        resolution: said.resolution,
        frame_rate: said.frame_rate.or(vps_rate),
    })
}

/// A picture parameter set's own id and its SPS's (§7.3.2.3).
fn pps_ids(unit: &[u8]) -> Result<(u8, u8), CodecError> {
    let rbsp = rbsp(unit, nal_type::PPS)?;
    let mut r = BitReader::new(&rbsp, "H.265 PPS");
    r.skip(16)?;
    let id = r.ue_byte("pps_pic_parameter_set_id", 63)?;
    Ok((id, r.ue_byte("pps_seq_parameter_set_id", 15)?))
}
