//! The H.264 sequence parameter set (ITU-T H.264 §7.3.2.1.1).
//!
//! Not here: the VUI at its end (`vui`), picture parameter sets (`sets`).

use super::vui::{self, Vui};
use crate::codec::bits::BitReader;
use crate::codec::nal::{PARAMETER_SET_BYTES_MAX, unescape};
use crate::codec::{CodecError, FrameRate, Resolution};

/// Macroblocks of a picture at most: `MaxFS` of level 6.2 (Table A-1).
const MACROBLOCKS_MAX: u32 = 139_264;
/// Macroblocks of a row or column at most: `Sqrt(MaxFS * 8)` (§A.3.1).
const SIDE_MACROBLOCKS_MAX: u32 = 1_055;

/// What a sequence parameter set says, as far as this server needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sps {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags' byte.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// Bits a luma sample, 8 to 14.
    pub bit_depth_luma: u8,
    /// Bits a chroma sample, 8 to 14.
    pub bit_depth_chroma: u8,
    /// After cropping.
    pub resolution: Resolution,
    /// From the VUI's timing information.
    pub frame_rate: Option<FrameRate>,
    /// `fixed_frame_rate_flag`: the frame rate is kept.
    pub fixed_frame_rate: bool,
    /// `max_num_reorder_frames`, or what §E.2.1 infers without it.
    pub reorder_frames: u8,
    /// `max_num_reorder_frames` was there.
    pub reorder_declared: bool,
}

impl Sps {
    /// Reads a sequence parameter set, a NAL unit with its header byte.
    ///
    /// # Errors
    /// It is cut short, too long, or says what the specification forbids.
    pub fn parse(unit: &[u8]) -> Result<Self, CodecError> {
        if unit.len() > PARAMETER_SET_BYTES_MAX {
            let value = unit.len() as u64;
            return Err(CodecError::Invalid { what: "length of H.264 SPS", value });
        }
        if super::unit_type(unit) != super::nal_type::SPS {
            let value = super::unit_type(unit).into();
            return Err(CodecError::Invalid { what: "NAL unit type of H.264 SPS", value });
        }
        let rbsp = unescape(unit, PARAMETER_SET_BYTES_MAX);
        let mut r = BitReader::new(&rbsp, "H.264 SPS");
        r.skip(8)?;
        let (profile, constraints, level) = (r.byte(8)?, r.byte(8)?, r.byte(8)?);
        let id = r.ue_byte("seq_parameter_set_id", 31)?;
        let format = Format::parse(&mut r, profile)?;
        r.ue_max("log2_max_frame_num_minus4", 12)?;
        let order_type = picture_order(&mut r)?;
        r.ue_max("max_num_ref_frames", 16)?;
        r.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let picture = Picture::parse(&mut r, &format)?;
        let vui = if r.flag()? { vui::parse(&mut r)? } else { Vui::default() };
        let inferred = || {
            let baseline = profile == 66;
            let intra_only =
                constraints & 0x10 != 0 && matches!(profile, 44 | 86 | 100 | 110 | 122 | 244);
            if baseline || intra_only || order_type == 2 {
                0
            } else {
                dpb_frames(level, profile, constraints, picture.macroblocks)
            }
        };
        Ok(Self {
            id,
            profile,
            constraints,
            level,
            chroma_format: format.chroma,
            bit_depth_luma: format.depth_luma,
            bit_depth_chroma: format.depth_chroma,
            resolution: picture.resolution,
            frame_rate: vui.frame_rate,
            fixed_frame_rate: vui.fixed_frame_rate,
            reorder_frames: vui.reorder_frames.unwrap_or_else(inferred),
            reorder_declared: vui.reorder_frames.is_some(),
        })
    }
}

struct Format {
    chroma: u8,
    separate_planes: bool,
    depth_luma: u8,
    depth_chroma: u8,
}

impl Format {
    fn parse(r: &mut BitReader<'_>, profile: u8) -> Result<Self, CodecError> {
        let mut format = Self { chroma: 1, separate_planes: false, depth_luma: 8, depth_chroma: 8 };
        let high = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
        if !high.contains(&profile) {
            return Ok(format);
        }
        format.chroma = r.ue_byte("chroma_format_idc", 3)?;
        format.separate_planes = format.chroma == 3 && r.flag()?;
        format.depth_luma = 8 + r.ue_byte("bit_depth_luma_minus8", 6)?;
        format.depth_chroma = 8 + r.ue_byte("bit_depth_chroma_minus8", 6)?;
        r.skip(1)?; // qpprime_y_zero_transform_bypass_flag
        if r.flag()? {
            for list in 0..if format.chroma == 3 { 12 } else { 8 } {
                if r.flag()? {
                    skip_scaling_list(r, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(format)
    }
}

/// `scaling_list` (§7.3.2.1.1.1).
fn skip_scaling_list(r: &mut BitReader<'_>, size: usize) -> Result<(), CodecError> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            let delta = r.se()?;
            if !(-128..=127).contains(&delta) {
                let value = delta.unsigned_abs();
                return Err(CodecError::Invalid { what: "delta_scale", value });
            }
            next = (last + delta + 256) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// Reads the picture order count fields; gives `pic_order_cnt_type`.
fn picture_order(r: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let order_type = r.ue_max("pic_order_cnt_type", 2)?;
    match order_type {
        0 => drop(r.ue_max("log2_max_pic_order_cnt_lsb_minus4", 12)?),
        1 => {
            r.skip(1)?;
            r.se()?;
            r.se()?;
            for _ in 0..r.ue_max("num_ref_frames_in_pic_order_cnt_cycle", 255)? {
                r.se()?;
            }
        }
        _ => {}
    }
    Ok(order_type)
}

struct Picture {
    macroblocks: u32,
    resolution: Resolution,
}

impl Picture {
    fn parse(r: &mut BitReader<'_>, format: &Format) -> Result<Self, CodecError> {
        let columns = r.ue_max("pic_width_in_mbs_minus1", SIDE_MACROBLOCKS_MAX - 1)? + 1;
        let map_units = r.ue_max("pic_height_in_map_units_minus1", SIDE_MACROBLOCKS_MAX - 1)? + 1;
        let frames_only = r.flag()?;
        if !frames_only {
            r.skip(1)?; // mb_adaptive_frame_field_flag
        }
        let fields = if frames_only { 1 } else { 2 };
        let rows = map_units * fields;
        let macroblocks = columns * rows;
        if rows > SIDE_MACROBLOCKS_MAX || macroblocks > MACROBLOCKS_MAX {
            let value = macroblocks.into();
            return Err(CodecError::Invalid { what: "macroblocks of a picture", value });
        }
        r.skip(1)?; // direct_8x8_inference_flag
        let (mut width, mut height) = (columns * 16, rows * 16);
        if r.flag()? {
            let (unit_x, unit_y) = match format.chroma {
                1 => (2, 2 * fields),
                2 => (2, fields),
                _ => (1, fields),
            };
            debug_assert!(!format.separate_planes || unit_x == 1, "planes are 4:4:4");
            let mut crop = |unit: u32, size: u32| {
                let before = r.ue_max("frame_crop_offset", size)?;
                let after = r.ue_max("frame_crop_offset", size)?;
                let left = size.checked_sub((before + after) * unit).filter(|left| *left > 0);
                left.ok_or(CodecError::Invalid { what: "frame cropping", value: size.into() })
            };
            width = crop(unit_x, width)?;
            height = crop(unit_y, height)?;
        }
        Ok(Self { macroblocks, resolution: Resolution { width, height } })
    }
}

/// `MaxDpbFrames` (§A.3.1): what a decoder must hold back without `max_num_reorder_frames`.
fn dpb_frames(level: u8, profile: u8, constraints: u8, macroblocks: u32) -> u8 {
    let level_1b = level == 11 && constraints & 0x10 != 0 && matches!(profile, 66 | 77 | 88);
    let dpb_macroblocks = match level {
        9 | 10 => 396,
        11 if level_1b => 396,
        11 => 900,
        12 | 13 | 20 => 2_376,
        21 => 4_752,
        22 | 30 => 8_100,
        31 => 18_000,
        32 => 20_480,
        40 | 41 => 32_768,
        42 => 34_816,
        50 => 110_400,
        51 | 52 => 184_320,
        _ => 696_320,
    };
    u8::try_from((dpb_macroblocks / macroblocks.max(1)).min(16)).unwrap_or(16)
}
