//! Configuration records of video: the bodies of `avcC`, `hvcC` and `vpcC`.
//!
//! Not here: the boxes around them (`entry`), reading of parameter sets (`codec`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::CodecError;
use crate::codec::h264::H264Config;
use crate::codec::h265::H265Config;
use crate::codec::vp9::Vp9Config;

/// Reserved bits that are ones.
const RESERVED_6: u8 = 0xfc;
const RESERVED_5: u8 = 0xf8;
/// Frames carry lengths of four bytes; records say one less.
const LENGTH_SIZE_MINUS_ONE: u8 = 3;

fn invalid(what: &'static str, value: usize) -> CodecError {
    CodecError::Invalid { what, value: value as u64 }
}

/// The length of a parameter set in 16 bits.
fn length(set: &[u8]) -> Result<u16, CodecError> {
    u16::try_from(set.len()).map_err(|_| invalid("length of a parameter set", set.len()))
}

/// Parameter sets with their lengths.
fn put_sets(out: &mut BytesMut, sets: &[Bytes]) -> Result<(), CodecError> {
    for set in sets {
        out.put_u16(length(set)?);
        out.put_slice(set);
    }
    Ok(())
}

/// `avcC`, after a look whether its counts and lengths hold what the configuration has.
pub(super) fn avcc(config: &H264Config) -> Result<Bytes, CodecError> {
    const SPS_MAX: usize = 31;
    const PPS_MAX: usize = 255;
    let (sps, pps) = (config.sps.len(), config.pps.len());
    if sps > SPS_MAX {
        return Err(invalid("number of sequence parameter sets", sps));
    }
    if pps > PPS_MAX {
        return Err(invalid("number of picture parameter sets", pps));
    }
    config.sps.iter().chain(&config.pps).try_for_each(|set| length(set).map(|_| ()))?;
    Ok(config.to_avcc().into())
}

/// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1), of one temporal layer and with
/// all parameter sets in it.
pub(super) fn hvcc(config: &H265Config) -> Result<Bytes, CodecError> {
    const NESTED_ONE_LAYER: u8 = 1 << 3 | 1 << 2;
    const COMPLETE: u8 = 0x80;
    let mut out = BytesMut::new();
    out.put_u8(1);
    out.put_slice(&config.profile_tier_level);
    out.put_u16(0xf000); // no smallest spatial segmentation
    out.put_u8(RESERVED_6); // parallelism: unknown
    out.put_u8(RESERVED_6 | config.chroma_format & 3);
    out.put_u8(RESERVED_5 | config.bit_depth_luma.saturating_sub(8) & 7);
    out.put_u8(RESERVED_5 | config.bit_depth_chroma.saturating_sub(8) & 7);
    out.put_u16(0); // frame rate: unspecified
    out.put_u8(NESTED_ONE_LAYER | LENGTH_SIZE_MINUS_ONE);
    out.put_u8(3);
    for (unit_type, sets) in [(32, &config.vps), (33, &config.sps), (34, &config.pps)] {
        out.put_u8(COMPLETE | unit_type);
        let count = u16::try_from(sets.len());
        out.put_u16(count.map_err(|_| invalid("number of parameter sets", sets.len()))?);
        put_sets(&mut out, sets)?;
    }
    Ok(out.freeze())
}

/// `vpcC`, which is a full box of version 1.
pub(super) fn vpcc(config: &Vp9Config) -> Vec<u8> {
    [&[1, 0, 0, 0], config.to_vpcc().as_slice()].concat()
}
