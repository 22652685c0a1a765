//! Turns the access units that an ingest receives into what the bus carries.
//!
//! Owns: the parameter sets seen so far and the configuration in force. Not here: times, RTP.

use std::ops::Range;

use bytes::Bytes;

use super::slice::{Slice, is_slice, recovers_at_once};
use super::{H264Config, ParameterSets, nal_type, sets, unit_type};
use crate::codec::nal::Source;
use crate::codec::{AccessUnit, CodecError};

/// What a track's access units have said so far. One a track.
///
/// A keyframe is an IDR picture, or an I picture with a recovery point SEI message whose
/// `recovery_frame_cnt` is 0. The second is what encoders with open GOPs send, often with no IDR
/// picture after the first; without it no viewer could join. Pictures that follow it in decoding
/// order and precede it in display order may be broken for who joins there. A picture that recovers
/// gradually (intra refresh) is no keyframe. Of a pair of fields the first decides.
///
/// Parameter sets are taken out of the payload when they are the configuration's. A change takes
/// effect at the next keyframe; changed sets that arrive before it stay in the payload.
#[derive(Debug, Default)]
pub struct AccessUnits {
    sets: ParameterSets,
    config: Option<H264Config>,
    units: Vec<Range<usize>>,
}

impl AccessUnits {
    /// A track of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration that came out of band (an `avcC`); sets in the stream are added to
    /// its own. The next keyframe does not report it again.
    ///
    /// # Errors
    /// A parameter set is malformed.
    pub fn set_config(&mut self, config: H264Config) -> Result<(), CodecError> {
        let mut sets = ParameterSets::default();
        for set in config.sps.iter().chain(&config.pps) {
            sets.insert(set.clone())?;
        }
        self.sets = sets;
        self.config = Some(config);
        Ok(())
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Option<&H264Config> {
        self.config.as_ref()
    }

    /// Takes an access unit in Annex B form; the payload is copied once.
    ///
    /// # Errors
    /// A parameter set is malformed or there are too many units. The access unit is lost; the
    /// tracker goes on.
    pub fn annex_b(&mut self, data: &[u8]) -> Result<AccessUnit<H264Config>, CodecError> {
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
    ) -> Result<AccessUnit<H264Config>, CodecError> {
        self.take(Source::LengthPrefixed(data, length_size))
    }

    fn take(&mut self, source: Source<'_>) -> Result<AccessUnit<H264Config>, CodecError> {
        source.split(&mut self.units)?;
        let data = source.data();
        let units = || self.units.iter().filter_map(|range| data.get(range.clone()));
        for unit in units() {
            self.sets.observe(unit)?;
        }
        let Some(first) = units().find(|unit| is_slice(unit)) else {
            return Ok(AccessUnit { payload: Bytes::new(), keyframe: false, config_changed: None });
        };
        let slice = if starts_decoding(units(), first) { Some(Slice::parse(first)?) } else { None };
        let active = slice.and_then(|slice| self.sets.active(slice.pps));
        let keyframe = active.is_some();
        let mut config_changed = None;
        if let Some((sps, pps)) = active
            && !self.config.as_ref().is_some_and(|config| same(config, &sps, &pps))
        {
            let config = sets::config(vec![sps], pps)?;
            self.config = Some(config.clone());
            config_changed = Some(config);
        }
        let payload = source.join(&self.units, |unit| keep(unit, self.config.as_ref()))?;
        Ok(AccessUnit { payload, keyframe, config_changed })
    }
}

/// Whether `config` is what a picture with these active sets needs: it leads with the same SPS, or
/// has no other, and has the same PPS. Sets that the picture does not use make no difference.
fn same(config: &H264Config, sps: &Bytes, pps: &[Bytes]) -> bool {
    config.sps.first() == Some(sps) && pps.iter().all(|set| config.pps.contains(set))
}

fn keep(unit: &[u8], config: Option<&H264Config>) -> bool {
    let known = |sets: fn(&H264Config) -> &Vec<Bytes>| {
        config.is_some_and(|config| sets(config).iter().any(|set| set == unit))
    };
    match unit_type(unit) {
        nal_type::AUD | nal_type::FILLER => false,
        nal_type::SPS => !known(|config| &config.sps),
        nal_type::PPS => !known(|config| &config.pps),
        _ => true,
    }
}

/// The rule of [`AccessUnits`] for keyframes, without the question whether the sets are known.
fn starts_decoding<'a>(mut units: impl Iterator<Item = &'a [u8]>, first_slice: &[u8]) -> bool {
    if unit_type(first_slice) == nal_type::IDR {
        return true;
    }
    let recovers = units.any(|unit| unit_type(unit) == nal_type::SEI && recovers_at_once(unit));
    recovers && Slice::parse(first_slice).is_ok_and(|slice| slice.intra)
}

/// Whether decoding can start at an access unit (4-byte length prefixes, as on the bus), given its
/// parameter sets; the rule is that of [`AccessUnits`].
///
/// # Errors
/// The lengths do not fit the data.
pub fn is_keyframe(access_unit: &[u8]) -> Result<bool, CodecError> {
    let units = crate::codec::nal::length_prefixed_units(access_unit, 4)?;
    let first = units.iter().find(|unit| is_slice(unit));
    Ok(first.is_some_and(|first| starts_decoding(units.iter().copied(), first)))
}

/// Whether an access unit (4-byte length prefixes, as on the bus) begins with its picture's first
/// macroblock: false where its first slices were lost on the way. (In a picture with arbitrary
/// slice order the first may come later; encoders for live video make none.)
///
/// # Errors
/// The lengths do not fit the data, or the slice cannot be read.
pub fn begins_its_picture(access_unit: &[u8]) -> Result<bool, CodecError> {
    let units = crate::codec::nal::length_prefixed_units(access_unit, 4)?;
    let first = units.iter().find(|unit| is_slice(unit));
    first.map_or(Ok(false), |first| Slice::parse(first).map(|slice| slice.first))
}
