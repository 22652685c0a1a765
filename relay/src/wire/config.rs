//! A track's configuration on the wire: every field by itself, as the owner understood its
//! publisher's headers, so that nodes of different versions make the same init section of it.
//!
//! Not here: reading codec headers (`headwater_media::codec`).

use bytes::{BufMut, Bytes, BytesMut};
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::av1::Av1Config;
use headwater_media::codec::h264::H264Config;
use headwater_media::codec::h265::H265Config;
use headwater_media::codec::nal::PARAMETER_SET_BYTES_MAX;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::codec::vp8::Vp8Config;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::codec::{FrameRate, Resolution};
use headwater_media::{ClockRate, Codec, ConfigVersion, PartPlan, TrackConfig};

use super::input::{put_len, put_option, put_run};
use super::{Input, PARAMETER_SETS_MAX, WireError, put_uint};

/// An AV1 sequence header or AudioSpecificConfig is far shorter.
const HEADER_BYTES_MAX: usize = 4_096;

const H264: u8 = 1;
const H265: u8 = 2;
const AV1: u8 = 3;
const VP8: u8 = 4;
const VP9: u8 = 5;
const AAC: u8 = 6;
const OPUS: u8 = 7;

pub(super) fn put_config(out: &mut BytesMut, config: &TrackConfig) {
    put_uint(out, config.version.0.into());
    put_uint(out, config.rate.hz().into());
    put_uint(out, config.parts.target_ticks.into());
    put_uint(out, config.parts.frame_ticks.into());
    put_codec(out, &config.codec);
}

pub(super) fn read_config(input: &mut Input<'_>) -> Result<TrackConfig, WireError> {
    let version = ConfigVersion(input.small("configuration version")?);
    let hz: u32 = input.small("clock rate")?;
    let rate = ClockRate::new(hz).ok_or(WireError::Invalid { what: "clock rate", value: 0 })?;
    let parts = PartPlan {
        target_ticks: input.small("part target")?,
        frame_ticks: input.small("frame duration")?,
    };
    Ok(TrackConfig { version, codec: read_codec(input)?, rate, parts })
}

fn put_codec(out: &mut BytesMut, codec: &Codec) {
    match codec {
        Codec::H264(config) => {
            out.put_slice(&[H264, config.profile, config.constraints, config.level]);
            out.put_u8(config.reorder_frames);
            put_resolution(out, config.resolution);
            put_rate(out, config.frame_rate);
            put_sets(out, &config.sps);
            put_sets(out, &config.pps);
        }
        Codec::H265(config) => {
            out.put_u8(H265);
            out.put_slice(&config.profile_tier_level);
            let depths = [config.chroma_format, config.bit_depth_luma, config.bit_depth_chroma];
            out.put_slice(&depths);
            put_resolution(out, config.resolution);
            put_rate(out, config.frame_rate);
            put_sets(out, &config.vps);
            put_sets(out, &config.sps);
            put_sets(out, &config.pps);
        }
        Codec::Av1(config) => {
            let subsampling = [config.subsampling_x, config.subsampling_y].map(u8::from);
            out.put_slice(&[AV1, config.profile, config.level, config.tier, config.bit_depth]);
            out.put_u8(config.monochrome.into());
            out.put_slice(&subsampling);
            out.put_u8(config.chroma_sample_position);
            put_resolution(out, config.resolution);
            put_rate(out, config.frame_rate);
            put_run(out, &config.sequence_header);
        }
        Codec::Vp8(config) => {
            out.put_u8(VP8);
            put_resolution(out, config.resolution);
        }
        Codec::Vp9(config) => {
            out.put_slice(&[VP9, config.profile, config.level, config.bit_depth]);
            out.put_slice(&[config.chroma_subsampling, config.full_range.into()]);
            put_resolution(out, config.resolution);
        }
        Codec::Aac(config) => {
            out.put_slice(&[AAC, config.object_type, config.channels]);
            put_uint(out, config.sample_rate.into());
            put_uint(out, config.frame_samples.into());
            put_run(out, &config.asc);
        }
        Codec::Opus(config) => {
            out.put_slice(&[OPUS, config.channels]);
            put_uint(out, config.pre_skip.into());
            put_uint(out, config.input_sample_rate.into());
        }
    }
}

fn read_codec(input: &mut Input<'_>) -> Result<Codec, WireError> {
    match input.byte()? {
        H264 => Ok(Codec::H264(H264Config {
            profile: input.byte()?,
            constraints: input.byte()?,
            level: input.byte()?,
            reorder_frames: input.byte()?,
            resolution: read_resolution(input)?,
            frame_rate: read_rate(input)?,
            sps: read_sets(input)?,
            pps: read_sets(input)?,
        })),
        H265 => read_h265(input),
        AV1 => read_av1(input),
        VP8 => Ok(Codec::Vp8(Vp8Config { resolution: read_resolution(input)? })),
        VP9 => Ok(Codec::Vp9(Vp9Config {
            profile: up_to(input, "VP9 profile", 3)?,
            level: input.byte()?,
            bit_depth: depth(input)?,
            chroma_subsampling: up_to(input, "VP9 subsampling", 3)?,
            full_range: input.flag("VP9 range")?,
            resolution: read_resolution(input)?,
        })),
        AAC => {
            let (object_type, channels) = (input.byte()?, channels(input, 8)?);
            let sample_rate = input.small("AAC sample rate")?;
            let frame_samples = input.small("AAC frame")?;
            if sample_rate == 0 || frame_samples == 0 {
                return Err(WireError::Invalid { what: "AAC sample rate or frame", value: 0 });
            }
            let asc = Bytes::copy_from_slice(input.run("AudioSpecificConfig", HEADER_BYTES_MAX)?);
            Ok(Codec::Aac(AacConfig { asc, object_type, sample_rate, channels, frame_samples }))
        }
        OPUS => Ok(Codec::Opus(OpusConfig {
            channels: channels(input, 2)?,
            pre_skip: input.small("Opus pre-skip")?,
            input_sample_rate: input.small("Opus input rate")?,
        })),
        other => Err(WireError::Invalid { what: "codec", value: other.into() }),
    }
}

fn read_h265(input: &mut Input<'_>) -> Result<Codec, WireError> {
    let mut profile_tier_level = [0u8; 12];
    profile_tier_level.copy_from_slice(input.bytes(12)?);
    Ok(Codec::H265(H265Config {
        profile_tier_level,
        chroma_format: up_to(input, "chroma format", 3)?,
        bit_depth_luma: depth(input)?,
        bit_depth_chroma: depth(input)?,
        resolution: read_resolution(input)?,
        frame_rate: read_rate(input)?,
        vps: read_sets(input)?,
        sps: read_sets(input)?,
        pps: read_sets(input)?,
    }))
}

fn read_av1(input: &mut Input<'_>) -> Result<Codec, WireError> {
    Ok(Codec::Av1(Av1Config {
        profile: up_to(input, "AV1 profile", 7)?,
        level: up_to(input, "AV1 level", 31)?,
        tier: up_to(input, "AV1 tier", 1)?,
        bit_depth: depth(input)?,
        monochrome: input.flag("AV1 monochrome")?,
        subsampling_x: input.flag("AV1 subsampling")?,
        subsampling_y: input.flag("AV1 subsampling")?,
        chroma_sample_position: up_to(input, "AV1 chroma position", 3)?,
        resolution: read_resolution(input)?,
        frame_rate: read_rate(input)?,
        sequence_header: Bytes::copy_from_slice(
            input.run("AV1 sequence header", HEADER_BYTES_MAX)?,
        ),
    }))
}

fn up_to(input: &mut Input<'_>, what: &'static str, max: u8) -> Result<u8, WireError> {
    match input.byte()? {
        value if value <= max => Ok(value),
        value => Err(WireError::Invalid { what, value: value.into() }),
    }
}

fn depth(input: &mut Input<'_>) -> Result<u8, WireError> {
    match input.byte()? {
        value @ 8..=16 => Ok(value),
        value => Err(WireError::Invalid { what: "bit depth", value: value.into() }),
    }
}

fn channels(input: &mut Input<'_>, max: u8) -> Result<u8, WireError> {
    match up_to(input, "channels", max)? {
        0 => Err(WireError::Invalid { what: "channels", value: 0 }),
        count => Ok(count),
    }
}

fn put_resolution(out: &mut BytesMut, size: Resolution) {
    put_uint(out, size.width.into());
    put_uint(out, size.height.into());
}

fn read_resolution(input: &mut Input<'_>) -> Result<Resolution, WireError> {
    Ok(Resolution { width: input.small("width")?, height: input.small("height")? })
}

fn put_rate(out: &mut BytesMut, rate: Option<FrameRate>) {
    put_option(out, rate, |out, rate| {
        put_uint(out, rate.num.into());
        put_uint(out, rate.den.into());
    });
}

fn read_rate(input: &mut Input<'_>) -> Result<Option<FrameRate>, WireError> {
    input.option("frame rate", |input| {
        let rate = FrameRate { num: input.small("frame rate")?, den: input.small("frame rate")? };
        if rate.den == 0 {
            return Err(WireError::Invalid { what: "frame rate", value: 0 });
        }
        Ok(rate)
    })
}

fn put_sets(out: &mut BytesMut, sets: &[Bytes]) {
    put_len(out, sets.len());
    for set in sets {
        put_run(out, set);
    }
}

fn read_sets(input: &mut Input<'_>) -> Result<Vec<Bytes>, WireError> {
    let count = input.count("parameter sets", PARAMETER_SETS_MAX)?;
    // Grows with what is there: the count alone allocates nothing.
    let mut sets = Vec::new();
    for _ in 0..count {
        let set = input.run("parameter set", PARAMETER_SET_BYTES_MAX)?;
        sets.push(Bytes::copy_from_slice(set));
    }
    Ok(sets)
}
