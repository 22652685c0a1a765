//! H.264 syntax (ITU-T H.264 §7.3) as far as a picture without an encoder needs it: parameter
//! sets, and slices of skipped, flat and raw macroblocks. Raw ones (I_PCM, 384 bytes each) bring
//! a picture to its size; they are real slice data, so that no server drops them as filler.
//!
//! Not here: which picture comes when, and how large (`video`).

use super::Settings;
use super::bits::BitWriter;

/// Bytes of a raw macroblock: 256 luma samples, 128 chroma samples.
pub(super) const PCM_BYTES: usize = 384;
/// `frame_num` and `pic_order_cnt_lsb` have so many bits.
const NUMBER_BITS: u32 = 16;
const MACROBLOCK: u32 = 16;

const PROFILE_BASELINE: u32 = 66;
const PROFILE_MAIN: u32 = 77;
/// Constrained Baseline: sets 0, 1 and 2.
const CONSTRAINTS_BASELINE: u32 = 0xe0;
/// Main: set 1.
const CONSTRAINTS_MAIN: u32 = 0x40;

const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;
const NAL_IDR: u8 = 0x65;
const NAL_REFERENCE: u8 = 0x41;
const NAL_DISPOSABLE: u8 = 0x01;

/// Table A-1: `level_idc`, macroblocks a second, macroblocks a picture, bits a second (Baseline
/// and Main).
const LEVELS: [(u32, u64, u64, u64); 12] = [
    (10, 1_485, 99, 64_000),
    (12, 6_000, 396, 384_000),
    (20, 11_880, 396, 2_000_000),
    (21, 19_800, 792, 4_000_000),
    (30, 40_500, 1_620, 10_000_000),
    (31, 108_000, 3_600, 14_000_000),
    (32, 216_000, 5_120, 20_000_000),
    (40, 245_760, 8_192, 20_000_000),
    (42, 522_240, 8_704, 50_000_000),
    (50, 589_824, 22_080, 135_000_000),
    (51, 983_040, 36_864, 240_000_000),
    (52, 2_073_600, 36_864, 240_000_000),
];

/// What kind of picture a slice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An instantaneous decoder refresh: a keyframe.
    Idr,
    /// Predicted, and a reference.
    P,
    /// Between two references, and none itself.
    B,
}

/// Numbers of a picture in its slice header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) frame_num: u16,
    pub(super) idr_pic_id: u16,
    /// Only written where pictures are reordered.
    pub(super) picture_order: u16,
}

/// The picture's size in macroblocks.
pub(super) fn macroblocks(settings: &Settings) -> (u32, u32) {
    (settings.width.div_ceil(MACROBLOCK), settings.height.div_ceil(MACROBLOCK))
}

fn level(settings: &Settings) -> u32 {
    let (columns, rows) = macroblocks(settings);
    let picture = u64::from(columns) * u64::from(rows);
    let (num, den) = settings.fps;
    let second = picture * u64::from(num) / u64::from(den.max(1));
    let fits = |(_, seconds, pictures, bits): &&(u32, u64, u64, u64)| {
        second <= *seconds && picture <= *pictures && settings.bitrate <= *bits
    };
    LEVELS.iter().find(fits).map_or(52, |(level, ..)| *level)
}

/// The sequence parameter set.
pub(super) fn sps(settings: &Settings) -> Vec<u8> {
    let b_frames = settings.b_frames;
    let mut w = BitWriter::with_capacity(48);
    w.bits(if b_frames { PROFILE_MAIN } else { PROFILE_BASELINE }, 8);
    w.bits(if b_frames { CONSTRAINTS_MAIN } else { CONSTRAINTS_BASELINE }, 8);
    w.bits(level(settings), 8);
    w.ue(0); // seq_parameter_set_id
    w.ue(NUMBER_BITS - 4); // log2_max_frame_num_minus4
    if b_frames {
        w.ue(0); // pic_order_cnt_type
        w.ue(NUMBER_BITS - 4); // log2_max_pic_order_cnt_lsb_minus4
    } else {
        w.ue(2); // output order is decoding order
    }
    w.ue(if b_frames { 2 } else { 1 }); // max_num_ref_frames
    w.flag(false); // gaps_in_frame_num_value_allowed_flag
    let (columns, rows) = macroblocks(settings);
    w.ue(columns.saturating_sub(1));
    w.ue(rows.saturating_sub(1));
    w.flag(true); // frame_mbs_only_flag
    w.flag(true); // direct_8x8_inference_flag
    let right = (columns * MACROBLOCK - settings.width) / 2;
    let bottom = (rows * MACROBLOCK - settings.height) / 2;
    w.flag(right + bottom > 0);
    if right + bottom > 0 {
        [0, right, 0, bottom].into_iter().for_each(|crop| w.ue(crop));
    }
    w.flag(true); // vui_parameters_present_flag
    vui(&mut w, settings);
    w.into_unit(NAL_SPS)
}

/// §E.1.1: the frame rate, and how far pictures are reordered.
fn vui(w: &mut BitWriter, settings: &Settings) {
    let (num, den) = settings.fps;
    // No aspect ratio, overscan, signal type or chroma location.
    w.bits(0, 4);
    w.flag(true); // timing_info_present_flag
    w.bits(den, 32);
    w.bits(num.saturating_mul(2), 32);
    w.flag(true); // fixed_frame_rate_flag
    w.bits(0, 3); // no HRD parameters, no pic_struct
    w.flag(true); // bitstream_restriction_flag
    w.flag(true); // motion_vectors_over_pic_boundaries_flag
    w.ue(0); // max_bytes_per_pic_denom: no bound
    w.ue(0); // max_bits_per_mb_denom: no bound
    w.ue(10);
    w.ue(10);
    w.ue(u32::from(settings.b_frames)); // max_num_reorder_frames
    w.ue(if settings.b_frames { 2 } else { 1 }); // max_dec_frame_buffering
}

/// The picture parameter set.
pub(super) fn pps() -> Vec<u8> {
    let mut w = BitWriter::with_capacity(8);
    w.ue(0); // pic_parameter_set_id
    w.ue(0); // seq_parameter_set_id
    w.flag(false); // CAVLC
    w.flag(false); // bottom_field_pic_order_in_frame_present_flag
    w.ue(0); // one slice group
    w.ue(0); // num_ref_idx_l0_default_active_minus1
    w.ue(0); // num_ref_idx_l1_default_active_minus1
    w.flag(false); // weighted_pred_flag
    w.bits(0, 2); // weighted_bipred_idc
    w.se_zero(); // pic_init_qp_minus26
    w.se_zero(); // pic_init_qs_minus26
    w.se_zero(); // chroma_qp_index_offset
    w.flag(true); // deblocking_filter_control_present_flag
    w.flag(false); // constrained_intra_pred_flag
    w.flag(false); // redundant_pic_cnt_present_flag
    w.into_unit(NAL_PPS)
}

/// One picture as one slice, at least `bytes` long up to a macroblock's worth, where the picture
/// has that much room. `samples` gives the content of a raw macroblock.
pub(super) fn slice(
    settings: &Settings,
    kind: Kind,
    numbers: Numbers,
    bytes: usize,
    first_raw: u32,
    mut samples: impl FnMut() -> [u8; PCM_BYTES],
) -> Vec<u8> {
    let (columns, rows) = macroblocks(settings);
    let count = columns * rows;
    // A flat macroblock of a keyframe takes a byte, a skipped one next to nothing.
    let flat = if kind == Kind::Idr { count as usize } else { 4 };
    let raw = (bytes.saturating_sub(flat + 12) / (PCM_BYTES + 1)) as u32;
    let raw = raw.min(count);
    let first_raw = first_raw % (count - raw + 1);
    let mut w = BitWriter::with_capacity(bytes + PCM_BYTES);
    header(&mut w, settings.b_frames, kind, numbers);
    let place = Raw { first: first_raw, end: first_raw + raw, columns };
    match kind {
        Kind::Idr => (0..count).for_each(|at| intra(&mut w, &place, at, &mut samples)),
        Kind::P | Kind::B => {
            // Table 7-11 and 7-14: I_PCM is 25 after the inter types of the slice.
            let mb_type = if kind == Kind::P { 5 + 25 } else { 23 + 25 };
            for at in place.first..place.end {
                w.ue(if at == place.first { at } else { 0 }); // mb_skip_run
                w.ue(mb_type);
                w.align_zero();
                w.bytes(&samples());
            }
            let left = if raw > 0 { count - place.end } else { count };
            if left > 0 {
                w.ue(left);
            }
        }
    }
    w.into_unit(match kind {
        Kind::Idr => NAL_IDR,
        Kind::P => NAL_REFERENCE,
        Kind::B => NAL_DISPOSABLE,
    })
}

/// §7.3.3.
fn header(w: &mut BitWriter, reordered: bool, kind: Kind, numbers: Numbers) {
    w.ue(0); // first_mb_in_slice
    w.ue(match kind {
        Kind::Idr => 7,
        Kind::P => 5,
        Kind::B => 6,
    });
    w.ue(0); // pic_parameter_set_id
    w.bits(u32::from(numbers.frame_num), NUMBER_BITS);
    if kind == Kind::Idr {
        w.ue(u32::from(numbers.idr_pic_id));
    }
    if reordered {
        w.bits(u32::from(numbers.picture_order), NUMBER_BITS);
    }
    match kind {
        // dec_ref_pic_marking of an IDR picture
        Kind::Idr => w.bits(0, 2),
        // num_ref_idx_active_override_flag, ref_pic_list_modification_flag_l0,
        // adaptive_ref_pic_marking_mode_flag
        Kind::P => w.bits(0, 3),
        // direct_spatial_mv_pred_flag, override, modification of both lists; not a reference
        Kind::B => w.bits(0b1000, 4),
    }
    w.se_zero(); // slice_qp_delta
    w.ue(1); // disable_deblocking_filter_idc
}

/// Where the raw macroblocks are, in raster order.
struct Raw {
    first: u32,
    end: u32,
    columns: u32,
}

impl Raw {
    fn holds(&self, at: u32) -> bool {
        (self.first..self.end).contains(&at)
    }
}

/// A macroblock of a keyframe: raw, or flat as its neighbours' mean.
fn intra(w: &mut BitWriter, place: &Raw, at: u32, samples: &mut impl FnMut() -> [u8; PCM_BYTES]) {
    if place.holds(at) {
        w.ue(25); // I_PCM
        w.align_zero();
        w.bytes(&samples());
        return;
    }
    w.ue(3); // I_16x16, DC prediction, no coefficients
    w.ue(0); // intra_chroma_pred_mode
    w.se_zero(); // mb_qp_delta
    // coeff_token of no coefficients (Table 9-5). Raw neighbours count as full of coefficients
    // (§9.2.1), which selects another column.
    let left = !at.is_multiple_of(place.columns) && place.holds(at - 1);
    let above = at >= place.columns && place.holds(at - place.columns);
    if left || above { w.bits(0b00_0011, 6) } else { w.bits(1, 1) }
}
