//! The H.265 sequence parameter set (ITU-T H.265 §7.3.2.2) and the timing of a VPS.
//!
//! Not here: tools of range, multilayer and screen content extensions.

use crate::codec::bits::BitReader;
use crate::codec::nal::{PARAMETER_SET_BYTES_MAX, unescape};
use crate::codec::{CodecError, FrameRate, Resolution};

/// Samples of a picture at most: `MaxLumaPs` of level 6.2 (Table A.8).
const LUMA_SAMPLES_MAX: u64 = 35_651_584;
/// Columns or rows at most: `Sqrt(MaxLumaPs * 8)`.
const SIDE_MAX: u32 = 16_888;

/// What a sequence parameter set says, as far as this server needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `sps_video_parameter_set_id`, 0 to 15.
    pub vps: u8,
    /// `sps_max_sub_layers_minus1 + 1`, 1 to 7.
    pub layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub nested: bool,
    /// From `general_profile_space` to `general_level_idc`.
    pub profile_tier_level: [u8; 12],
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// Bits a luma sample, 8 to 16.
    pub bit_depth_luma: u8,
    /// Bits a chroma sample, 8 to 16.
    pub bit_depth_chroma: u8,
    /// After the conformance window.
    pub resolution: Resolution,
    /// From the VUI's timing information.
    pub frame_rate: Option<FrameRate>,
}

impl Sps {
    /// Reads a sequence parameter set, a NAL unit with its two header bytes.
    ///
    /// # Errors
    /// It is cut short, too long, or says what the specification forbids.
    pub fn parse(unit: &[u8]) -> Result<Self, CodecError> {
        let rbsp = rbsp(unit, super::nal_type::SPS)?;
        let mut r = BitReader::new(&rbsp, "H.265 SPS");
        r.skip(16)?;
        let vps = r.byte(4)?;
        let layers = r.byte(3)? + 1;
        if layers > 7 {
            return Err(CodecError::Invalid { what: "sps_max_sub_layers_minus1", value: 7 });
        }
        let nested = r.flag()?;
        let profile_tier_level = profile_tier_level(&mut r, layers)?;
        let id = r.ue_byte("sps_seq_parameter_set_id", 15)?;
        let chroma_format = r.ue_byte("chroma_format_idc", 3)?;
        if chroma_format == 3 {
            r.skip(1)?; // separate_colour_plane_flag
        }
        let resolution = resolution(&mut r, chroma_format)?;
        let bit_depth_luma = 8 + r.ue_byte("bit_depth_luma_minus8", 8)?;
        let bit_depth_chroma = 8 + r.ue_byte("bit_depth_chroma_minus8", 8)?;
        let order_bits = r.ue_max("log2_max_pic_order_cnt_lsb_minus4", 12)? + 4;
        let each = r.flag()?; // sps_sub_layer_ordering_info_present_flag
        for _ in 0..if each { layers } else { 1 } {
            r.ue()?;
            r.ue()?;
            r.ue()?;
        }
        for _ in 0..6 {
            r.ue()?; // block sizes and transform depths
        }
        if r.flag()? && r.flag()? {
            skip_scaling_lists(&mut r)?;
        }
        r.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
        if r.flag()? {
            r.skip(8)?; // PCM bit depths
            r.ue()?;
            r.ue()?;
            r.skip(1)?;
        }
        skip_reference_sets(&mut r)?;
        if r.flag()? {
            for _ in 0..r.ue_max("num_long_term_ref_pics_sps", 32)? {
                r.skip(order_bits as usize + 1)?;
            }
        }
        r.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
        let frame_rate = if r.flag()? { vui_frame_rate(&mut r)? } else { None };
        Ok(Self {
            id,
            vps,
            layers,
            nested,
            profile_tier_level,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            resolution,
            frame_rate,
        })
    }
}

/// A parameter set of `kind` without emulation prevention bytes.
pub(super) fn rbsp(unit: &[u8], kind: u8) -> Result<Vec<u8>, CodecError> {
    if unit.len() > PARAMETER_SET_BYTES_MAX {
        let value = unit.len() as u64;
        return Err(CodecError::Invalid { what: "length of H.265 parameter set", value });
    }
    let found = super::unit_type(unit);
    if found != kind {
        let value = found.into();
        return Err(CodecError::Invalid { what: "NAL unit type of H.265 parameter set", value });
    }
    Ok(unescape(unit, PARAMETER_SET_BYTES_MAX))
}

/// `profile_tier_level` (§7.3.3): the general 12 bytes; those of sub-layers are left out.
fn profile_tier_level(r: &mut BitReader<'_>, layers: u8) -> Result<[u8; 12], CodecError> {
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = r.byte(8)?;
    }
    let mut present = Vec::with_capacity(6);
    for _ in 1..layers {
        present.push((r.flag()?, r.flag()?));
    }
    if layers > 1 {
        r.skip(2 * (9 - usize::from(layers)))?;
    }
    for (profile, level) in present {
        r.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Ok(general)
}

fn resolution(r: &mut BitReader<'_>, chroma_format: u8) -> Result<Resolution, CodecError> {
    let mut width = r.ue_max("pic_width_in_luma_samples", SIDE_MAX)?;
    let mut height = r.ue_max("pic_height_in_luma_samples", SIDE_MAX)?;
    let samples = u64::from(width) * u64::from(height);
    if samples == 0 || samples > LUMA_SAMPLES_MAX {
        return Err(CodecError::Invalid { what: "samples of a picture", value: samples });
    }
    if r.flag()? {
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let mut crop = |unit: u32, size: u32| {
            let before = r.ue_max("conf_win_offset", size)?;
            let after = r.ue_max("conf_win_offset", size)?;
            let left = size.checked_sub((before + after) * unit).filter(|left| *left > 0);
            left.ok_or(CodecError::Invalid { what: "conformance window", value: size.into() })
        };
        width = crop(unit_x, width)?;
        height = crop(unit_y, height)?;
    }
    Ok(Resolution { width, height })
}

/// `scaling_list_data` (§7.3.4).
fn skip_scaling_lists(r: &mut BitReader<'_>) -> Result<(), CodecError> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !r.flag()? {
                r.ue_max("scaling_list_pred_matrix_id_delta", 5)?;
                continue;
            }
            if size > 1 {
                r.se()?;
            }
            for _ in 0..(1u32 << (4 + 2 * size)).min(64) {
                r.se()?;
            }
        }
    }
    Ok(())
}

/// The short-term reference picture sets (§7.3.7): only their lengths matter here.
fn skip_reference_sets(r: &mut BitReader<'_>) -> Result<(), CodecError> {
    const PICTURES_MAX: u32 = 16;
    let count = r.ue_max("num_short_term_ref_pic_sets", 64)?;
    let mut previous = 0;
    for index in 0..count {
        let predicted = index > 0 && r.flag()?;
        if predicted {
            r.skip(1)?; // delta_rps_sign
            r.ue()?;
            let mut pictures = 0;
            for _ in 0..=previous {
                // used_by_curr_pic_flag, else use_delta_flag: each means one picture.
                if r.flag()? || r.flag()? {
                    pictures += 1;
                }
            }
            previous = pictures;
        } else {
            let negative = r.ue_max("num_negative_pics", PICTURES_MAX)?;
            let positive = r.ue_max("num_positive_pics", PICTURES_MAX)?;
            previous = negative + positive;
            for _ in 0..previous {
                r.ue()?;
                r.skip(1)?;
            }
        }
        if previous > PICTURES_MAX {
            let value = previous.into();
            return Err(CodecError::Invalid { what: "pictures of a reference set", value });
        }
    }
    Ok(())
}

/// The frame rate of `vui_parameters` (§E.2.1); what follows the timing is not read.
fn vui_frame_rate(r: &mut BitReader<'_>) -> Result<Option<FrameRate>, CodecError> {
    const EXTENDED_SAR: u32 = 255;
    if r.flag()? && r.bits(8)? == EXTENDED_SAR {
        r.skip(32)?;
    }
    if r.flag()? {
        r.skip(1)?; // overscan_appropriate_flag
    }
    if r.flag()? {
        r.skip(4)?; // video_format, video_full_range_flag
        if r.flag()? {
            r.skip(24)?;
        }
    }
    if r.flag()? {
        r.ue()?;
        r.ue()?;
    }
    r.skip(3)?; // neutral chroma, fields, frame_field_info_present_flag
    if r.flag()? {
        for _ in 0..4 {
            r.ue()?; // default display window
        }
    }
    if r.flag()? { timing(r) } else { Ok(None) }
}

fn timing(r: &mut BitReader<'_>) -> Result<Option<FrameRate>, CodecError> {
    let (tick, scale) = (r.bits(32)?, r.bits(32)?);
    Ok(FrameRate::plausible(scale.into(), tick.into()))
}

/// The id of a video parameter set and the frame rate of its timing information (§7.3.2.1).
pub(super) fn parse_vps(unit: &[u8]) -> Result<(u8, Option<FrameRate>), CodecError> {
    let rbsp = rbsp(unit, super::nal_type::VPS)?;
    let mut r = BitReader::new(&rbsp, "H.265 VPS");
    r.skip(16)?;
    let id = r.byte(4)?;
    r.skip(8)?; // base layer flags, vps_max_layers_minus1
    let layers = r.byte(3)? + 1;
    if layers > 7 {
        return Err(CodecError::Invalid { what: "vps_max_sub_layers_minus1", value: 7 });
    }
    r.skip(17)?; // nesting flag, reserved
    profile_tier_level(&mut r, layers)?;
    let each = r.flag()?;
    for _ in 0..if each { layers } else { 1 } {
        r.ue()?;
        r.ue()?;
        r.ue()?;
    }
    let layer_ids = r.bits(6)? as usize + 1;
    let sets = r.ue_max("vps_num_layer_sets_minus1", 1_023)? as usize;
    r.skip(sets * layer_ids)?;
    let frame_rate = if r.flag()? { timing(&mut r)? } else { None };
    Ok((id, frame_rate))
}
