//! Turns the access units that an ingest receives into what the bus carries.
//!
//! Owns: the parameter sets seen so far and the configuration in force. Not here: times.

use std::ops::Range;

use bytes::Bytes;

use super::sets::{self, Active, is_set};
use super::{H265Config, ParameterSets, nal_type, unit_type};
use crate::codec::bits::BitReader;
use crate::codec::nal::{Source, length_prefixed_units, unescape};
use crate::codec::{AccessUnit, CodecError};

/// What a track's access units have said so far. One a track.
///
/// A keyframe is an intra random access point: IDR, CRA or BLA. Leading pictures after a CRA may be
/// broken for who joins there. Only the base layer is carried. Parameter sets are treated as in
/// [`crate::codec::h264::AccessUnits`].
#[derive(Debug, Default)]
pub struct AccessUnits {
    sets: ParameterSets,
    config: Option<H265Config>,
    units: Vec<Range<usize>>,
}

impl AccessUnits {
    /// A track of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration that came out of band (an `hvcC`); sets in the stream are added to
    /// its own. The next keyframe does not report it again.
    ///
    /// # Errors
    /// A parameter set is malformed.
    pub fn set_config(&mut self, config: H265Config) -> Result<(), CodecError> {
        let mut sets = ParameterSets::default();
        for set in config.vps.iter().chain(&config.sps).chain(&config.pps) {
            sets.insert(set.clone())?;
        }
        self.sets = sets;
        self.config = Some(config);
        Ok(())
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Option<&H265Config> {
        self.config.as_ref()
    }

    /// Takes an access unit in Annex B form; the payload is copied once.
    ///
    /// # Errors
    /// A parameter set is malformed or there are too many units. The access unit is lost; the
    /// tracker goes on.
    pub fn annex_b(&mut self, data: &[u8]) -> Result<AccessUnit<H265Config>, CodecError> {
        self.take(Source::AnnexB(data))
    }

    /// Takes a length-prefixed access unit; the payload is shared where nothing in its middle is
    /// left out and the prefixes have four bytes, else copied once.
    ///
    /// # Errors
    /// As [`Self::annex_b`], or the lengths do not fit the data.
    pub fn length_prefixed(
        &mut self,
        data: &Bytes,
        length_size: u8,
    ) -> Result<AccessUnit<H265Config>, CodecError> {
        self.take(Source::LengthPrefixed(data, length_size))
    }

    fn take(&mut self, source: Source<'_>) -> Result<AccessUnit<H265Config>, CodecError> {
        source.split(&mut self.units)?;
        let data = source.data();
        let units = || self.units.iter().filter_map(|range| data.get(range.clone()));
        for unit in units() {
            self.sets.observe(unit)?;
        }
        let Some(first) = units().find(|unit| is_slice(unit)) else {
            return Ok(AccessUnit { payload: Bytes::new(), keyframe: false, config_changed: None });
        };
        let pps = if is_random_access(first) { Some(slice_pps(first)?) } else { None };
        let active = pps.and_then(|pps| self.sets.active(pps));
        let keyframe = active.is_some();
        let mut config_changed = None;
        if let Some(active) = active
            && !self.config.as_ref().is_some_and(|config| same(config, &active))
        {
            let config = sets::config(vec![active.vps], vec![active.sps], active.pps)?;
            self.config = Some(config.clone());
            config_changed = Some(config);
        }
        let payload = source.join(&self.units, |unit| keep(unit, self.config.as_ref()))?;
        Ok(AccessUnit { payload, keyframe, config_changed })
    }
}

/// Whether `config` is what a picture with these sets needs; further sets make no difference.
fn same(config: &H265Config, active: &Active) -> bool {
    config.vps.first() == Some(&active.vps)
        && config.sps.first() == Some(&active.sps)
        && active.pps.iter().all(|set| config.pps.contains(set))
}

fn keep(unit: &[u8], config: Option<&H265Config>) -> bool {
    if !is_base(unit) || matches!(unit_type(unit), nal_type::AUD | nal_type::FILLER) {
        return false;
    }
    let known = |config: &H265Config| {
        config.vps.iter().chain(&config.sps).chain(&config.pps).any(|set| set == unit)
    };
    !(is_set(unit) && config.is_some_and(known))
}

/// Whether a unit has a whole header and belongs to the base layer (`nuh_layer_id` 0).
pub(super) fn is_base(unit: &[u8]) -> bool {
    matches!(unit, [first, second, ..] if first & 1 == 0 && second >> 3 == 0)
}

fn is_slice(unit: &[u8]) -> bool {
    is_base(unit) && unit_type(unit) <= nal_type::SLICE_LAST
}

fn is_random_access(unit: &[u8]) -> bool {
    (nal_type::IRAP_FIRST..=nal_type::IRAP_LAST).contains(&unit_type(unit))
}

/// `slice_pic_parameter_set_id` of a random access point's slice (§7.3.6.1).
fn slice_pps(unit: &[u8]) -> Result<u8, CodecError> {
    let rbsp = unescape(unit, 32);
    let mut r = BitReader::new(&rbsp, "H.265 slice header");
    r.skip(18)?; // header, first_slice_segment_in_pic_flag, no_output_of_prior_pics_flag
    r.ue_byte("slice_pic_parameter_set_id", 63)
}

/// Whether decoding can start at an access unit (4-byte length prefixes, as on the bus), given its
/// parameter sets.
///
/// # Errors
/// The lengths do not fit the data.
pub fn is_keyframe(access_unit: &[u8]) -> Result<bool, CodecError> {
    let units = length_prefixed_units(access_unit, 4)?;
    Ok(units.iter().find(|unit| is_slice(unit)).is_some_and(|unit| is_random_access(unit)))
}
