//! The sequence header's syntax (AV1 §5.5).
//!
//! Not here: the OBU around it (`obu`).

use bytes::Bytes;

use super::Av1Config;
use crate::codec::{BitReader, CodecError, FrameRate, Resolution};

const COLOUR_PRIMARIES_BT_709: u32 = 1;
const TRANSFER_SRGB: u32 = 13;
const MATRIX_IDENTITY: u32 = 0;
const UNSPECIFIED: u32 = 2;
/// `select_screen_content_tools` and `select_integer_mv`: chosen frame by frame.
const SELECT: u32 = 2;

/// What comes before the sizes.
struct Points {
    level: u8,
    tier: u8,
    frame_rate: Option<FrameRate>,
    reduced: bool,
}

/// Parses the payload of a sequence header; `own` is the whole OBU.
pub(super) fn parse(payload: &[u8], own: Bytes) -> Result<Av1Config, CodecError> {
    let mut bits = BitReader::new(payload, "AV1 sequence header");
    let profile = bits.byte(3)?;
    if profile > 2 {
        return Err(CodecError::Invalid { what: "AV1 profile", value: profile.into() });
    }
    // still_picture.
    bits.skip(1)?;
    let points = operating_points(&mut bits)?;
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    let resolution =
        Resolution { width: bits.bits(width_bits)? + 1, height: bits.bits(height_bits)? + 1 };
    tools(&mut bits, points.reduced)?;
    let colour = colour(&mut bits, profile)?;
    Ok(Av1Config {
        sequence_header: own,
        profile,
        level: points.level,
        tier: points.tier,
        bit_depth: colour.bit_depth,
        monochrome: colour.monochrome,
        subsampling_x: colour.subsampling.0,
        subsampling_y: colour.subsampling.1,
        chroma_sample_position: colour.position,
        resolution,
        frame_rate: points.frame_rate,
    })
}

fn operating_points(bits: &mut BitReader<'_>) -> Result<Points, CodecError> {
    if bits.flag()? {
        // reduced_still_picture_header.
        return Ok(Points { level: bits.byte(5)?, tier: 0, frame_rate: None, reduced: true });
    }
    let (mut frame_rate, mut decoder_model) = (None, None);
    if bits.flag()? {
        frame_rate = timing_info(bits)?;
        if bits.flag()? {
            let delay_bits = bits.bits(5)? + 1;
            bits.skip(32 + 5 + 5)?;
            decoder_model = Some(delay_bits);
        }
    }
    let display_delay = bits.flag()?;
    let (mut level, mut tier) = (0, 0);
    for point in 0..=bits.bits(5)? {
        bits.skip(12)?;
        let own_level = bits.byte(5)?;
        let own_tier = if own_level > 7 { bits.byte(1)? } else { 0 };
        if let Some(delay_bits) = decoder_model
            && bits.flag()?
        {
            bits.skip(2 * delay_bits as usize + 1)?;
        }
        if display_delay && bits.flag()? {
            bits.skip(4)?;
        }
        if point == 0 {
            (level, tier) = (own_level, own_tier);
        }
    }
    Ok(Points { level, tier, frame_rate, reduced: false })
}

/// `timing_info()` (§5.5.3): a rate only where pictures come at equal distances.
fn timing_info(bits: &mut BitReader<'_>) -> Result<Option<FrameRate>, CodecError> {
    let (ticks, scale) = (bits.bits(32)?, bits.bits(32)?);
    if !bits.flag()? {
        return Ok(None);
    }
    // num_ticks_per_picture_minus_1, as uvlc(), which is ue(v) under another name.
    let per_picture = bits.ue()?.saturating_add(1);
    let den = u64::from(ticks) * u64::from(per_picture);
    let rate = u32::try_from(den).ok().filter(|den| *den > 0 && scale > 0);
    Ok(rate.map(|den| FrameRate { num: scale, den }))
}

/// Everything from the frame ids to the film grain's neighbours, of which nothing is kept.
fn tools(bits: &mut BitReader<'_>, reduced: bool) -> Result<(), CodecError> {
    if !reduced && bits.flag()? {
        bits.skip(4 + 3)?;
    }
    // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter.
    bits.skip(3)?;
    if !reduced {
        // enable_interintra_compound, masked_compound, warped_motion, dual_filter.
        bits.skip(4)?;
        let order_hint = bits.flag()?;
        if order_hint {
            bits.skip(2)?;
        }
        let screen_content = if bits.flag()? { SELECT } else { bits.bits(1)? };
        if screen_content > 0 && !bits.flag()? {
            // seq_force_integer_mv.
            bits.skip(1)?;
        }
        if order_hint {
            bits.skip(3)?;
        }
    }
    // enable_superres, enable_cdef, enable_restoration.
    bits.skip(3)
}

struct Colour {
    bit_depth: u8,
    monochrome: bool,
    subsampling: (bool, bool),
    position: u8,
}

/// `color_config()` (§5.5.2).
fn colour(bits: &mut BitReader<'_>, profile: u8) -> Result<Colour, CodecError> {
    let high = bits.flag()?;
    let bit_depth = match (profile, high) {
        (2, true) if bits.flag()? => 12,
        (_, true) => 10,
        _ => 8,
    };
    let monochrome = profile != 1 && bits.flag()?;
    let described = bits.flag()?;
    let code = |bits: &mut BitReader<'_>| if described { bits.bits(8) } else { Ok(UNSPECIFIED) };
    let (primaries, transfer, matrix) = (code(bits)?, code(bits)?, code(bits)?);
    let mut result = Colour { bit_depth, monochrome, subsampling: (true, true), position: 0 };
    if monochrome {
        return Ok(result);
    }
    if primaries == COLOUR_PRIMARIES_BT_709
        && transfer == TRANSFER_SRGB
        && matrix == MATRIX_IDENTITY
    {
        result.subsampling = (false, false);
        return Ok(result);
    }
    // color_range.
    bits.skip(1)?;
    result.subsampling = match profile {
        0 => (true, true),
        1 => (false, false),
        _ if bit_depth == 12 => {
            let x = bits.flag()?;
            (x, x && bits.flag()?)
        }
        _ => (true, false),
    };
    if result.subsampling == (true, true) {
        result.position = bits.byte(2)?;
    }
    Ok(result)
}
