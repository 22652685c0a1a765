//! Configuration records of video: the bodies of `avcC`, `hvcC` and `vpcC`, which the codecs'
//! configurations write, checked for what their fields can hold.
//!
//! Not here: the boxes around them (`entry`), reading of parameter sets (`codec`).

use bytes::Bytes;

use crate::codec::CodecError;
use crate::codec::h264::H264Config;
use crate::codec::h265::H265Config;
use crate::codec::vp9::Vp9Config;

/// Counts of parameter sets: five bits, eight bits, sixteen bits.
const AVCC_SPS_MAX: usize = 31;
const AVCC_PPS_MAX: usize = 255;
const HVCC_SETS_MAX: usize = 65_535;
/// Bytes of a parameter set: a length of sixteen bits.
const SET_BYTES_MAX: usize = 65_535;

/// Whether these sets fit a record that holds at most `max`.
fn check(sets: &[Bytes], max: usize) -> Result<(), CodecError> {
    let invalid = |what, value: usize| Err(CodecError::Invalid { what, value: value as u64 });
    if sets.len() > max {
        return invalid("number of parameter sets", sets.len());
    }
    match sets.iter().find(|set| set.len() > SET_BYTES_MAX) {
        Some(set) => invalid("length of a parameter set", set.len()),
        None => Ok(()),
    }
}

/// `avcC` (ISO/IEC 14496-15 §5.3.3.1).
pub(super) fn avcc(config: &H264Config) -> Result<Vec<u8>, CodecError> {
    check(&config.sps, AVCC_SPS_MAX)?;
    check(&config.pps, AVCC_PPS_MAX)?;
    Ok(config.to_avcc())
}

/// `hvcC` (ISO/IEC 14496-15 §8.3.3.1).
pub(super) fn hvcc(config: &H265Config) -> Result<Vec<u8>, CodecError> {
    for sets in [&config.vps, &config.sps, &config.pps] {
        check(sets, HVCC_SETS_MAX)?;
    }
    Ok(config.to_hvcc())
}

/// `vpcC`, which is a full box of version 1.
pub(super) fn vpcc(config: &Vp9Config) -> Vec<u8> {
    [&[1, 0, 0, 0], config.to_vpcc().as_slice()].concat()
}
