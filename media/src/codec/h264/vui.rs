//! Video usability information of an H.264 SPS (ITU-T H.264 Annex E).
//!
//! Not here: colour and aspect ratio, which players take from the bitstream itself.

use crate::codec::bits::BitReader;
use crate::codec::{CodecError, FrameRate};

#[derive(Default)]
pub(super) struct Vui {
    pub(super) frame_rate: Option<FrameRate>,
    pub(super) fixed_frame_rate: bool,
    pub(super) reorder_frames: Option<u8>,
}

/// Reads `vui_parameters` (§E.1.1).
pub(super) fn parse(r: &mut BitReader<'_>) -> Result<Vui, CodecError> {
    const EXTENDED_SAR: u32 = 255;
    let mut vui = Vui::default();
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
        r.ue_max("chroma_sample_loc_type", 5)?;
        r.ue_max("chroma_sample_loc_type", 5)?;
    }
    if r.flag()? {
        let (tick, scale) = (r.bits(32)?, r.bits(32)?);
        vui.fixed_frame_rate = r.flag()?;
        // A tick is a field.
        vui.frame_rate = FrameRate::plausible(scale.into(), u64::from(tick) * 2);
    }
    let nal_hrd = r.flag()?;
    if nal_hrd {
        skip_hrd(r)?;
    }
    let vcl_hrd = r.flag()?;
    if vcl_hrd {
        skip_hrd(r)?;
    }
    if nal_hrd || vcl_hrd {
        r.skip(1)?; // low_delay_hrd_flag
    }
    r.skip(1)?; // pic_struct_present_flag
    if r.flag()? {
        r.skip(1)?; // motion_vectors_over_pic_boundaries_flag
        for _ in 0..4 {
            r.ue()?; // max_bytes_per_pic_denom to log2_max_mv_length_vertical
        }
        vui.reorder_frames = Some(r.ue_byte("max_num_reorder_frames", 16)?);
        r.ue_max("max_dec_frame_buffering", 16)?;
    }
    Ok(vui)
}

/// `hrd_parameters` (§E.1.2).
fn skip_hrd(r: &mut BitReader<'_>) -> Result<(), CodecError> {
    let schedules = r.ue_max("cpb_cnt_minus1", 31)? + 1;
    r.skip(8)?;
    for _ in 0..schedules {
        r.ue()?;
        r.ue()?;
        r.skip(1)?;
    }
    r.skip(20)
}
