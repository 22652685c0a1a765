//! Video tags: legacy AVC and HEVC, and Enhanced RTMP's FourCC codecs.
//!
//! Not here: NAL units and OBUs, which stay as they came.

use bytes::Bytes;

use super::{FlvError, Parsed, array, i24, modifiers, multitrack, u8};

/// A codec of a video tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// H.264.
    Avc,
    /// H.265.
    Hevc,
    /// AV1.
    Av1,
    /// VP9.
    Vp9,
    /// One that is not carried, by its legacy number.
    Legacy(u8),
    /// One that is not carried, by its FourCC.
    FourCc([u8; 4]),
}

impl VideoCodec {
    pub(super) fn from_legacy(id: u8) -> Self {
        match id {
            7 => Self::Avc,
            // Not in the specification, but what encoders send before Enhanced RTMP.
            12 => Self::Hevc,
            other => Self::Legacy(other),
        }
    }

    /// The codec of a FourCC.
    #[must_use]
    pub fn from_four_cc(four_cc: [u8; 4]) -> Self {
        match &four_cc {
            b"avc1" => Self::Avc,
            b"hvc1" => Self::Hevc,
            b"av01" => Self::Av1,
            b"vp09" => Self::Vp9,
            _ => Self::FourCc(four_cc),
        }
    }

    /// The codec that `videocodecid` of `onMetaData` names: a legacy number, or a FourCC as one.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match u8::try_from(number) {
            Ok(id) => Self::from_legacy(id),
            Err(_) => Self::from_four_cc(number.to_be_bytes()),
        }
    }

    /// A name for logs.
    #[must_use]
    pub fn name(self) -> String {
        let known = match self {
            Self::Avc => "H.264",
            Self::Hevc => "H.265",
            Self::Av1 => "AV1",
            Self::Vp9 => "VP9",
            Self::Legacy(2) => "Sorenson H.263",
            Self::Legacy(3 | 6) => "Screen Video",
            Self::Legacy(4 | 5) => "VP6",
            Self::Legacy(8) | Self::FourCc([b'v', b'p', b'0', b'8']) => "VP8",
            Self::FourCc([b'v', b'v', b'c', b'1']) => "VVC",
            Self::Legacy(id) => return format!("video codec {id}"),
            Self::FourCc(four_cc) => return format!("video codec {}", four_cc.escape_ascii()),
        };
        known.to_owned()
    }
}

/// What a video tag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoTag {
    /// The decoder configuration record (`avcC`, `hvcC`, `av1C`, `vpcC`).
    Header(VideoCodec, Bytes),
    /// An access unit.
    Frame {
        /// In this codec.
        codec: VideoCodec,
        /// By the tag's frame type.
        keyframe: bool,
        /// `pts - dts` in milliseconds.
        composition: i32,
        /// To add to the time stamp, in nanoseconds.
        nanos: u32,
        /// The access unit.
        data: Bytes,
    },
    /// The end of the sequence.
    End,
    /// A start of AV1 in MPEG-2 TS form, which is not carried.
    TsHeader(VideoCodec),
}

const KEYFRAME: u8 = 1;
const COMMAND_FRAME: u8 = 5;

const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
const CODED_FRAMES_X: u8 = 3;
const METADATA: u8 = 4;
const TS_SEQUENCE_START: u8 = 5;
const MULTITRACK: u8 = 6;

/// Reads a video message's body.
///
/// # Errors
/// When it is cut short or has a type that the specifications do not know.
pub fn parse_video(mut body: Bytes) -> Result<Parsed<VideoTag>, FlvError> {
    let first = u8(&mut body)?;
    let frame_type = (first >> 4) & 0x07;
    if first & 0x80 != 0 {
        return enhanced(frame_type, first & 0x0f, body);
    }
    if frame_type == COMMAND_FRAME {
        return Ok(Parsed::nothing());
    }
    let codec = VideoCodec::from_legacy(first & 0x0f);
    if matches!(codec, VideoCodec::Legacy(_)) {
        return Ok(Parsed::one(frame(codec, frame_type, 0, 0, body)));
    }
    let packet_type = u8(&mut body)?;
    let composition = i24(&mut body)?;
    match packet_type {
        0 => Ok(Parsed::one(VideoTag::Header(codec, body))),
        1 if body.is_empty() => Ok(Parsed::nothing()),
        1 => Ok(Parsed::one(frame(codec, frame_type, composition, 0, body))),
        2 => Ok(Parsed::one(VideoTag::End)),
        other => Err(FlvError::PacketType(other)),
    }
}

fn frame(codec: VideoCodec, frame_type: u8, composition: i32, nanos: u32, data: Bytes) -> VideoTag {
    VideoTag::Frame { codec, keyframe: frame_type == KEYFRAME, composition, nanos, data }
}

fn enhanced(
    frame_type: u8,
    packet_type: u8,
    mut body: Bytes,
) -> Result<Parsed<VideoTag>, FlvError> {
    let modified = modifiers(packet_type, &mut body)?;
    let mut packet_type = modified.packet_type;
    if packet_type == METADATA || frame_type == COMMAND_FRAME {
        return Ok(Parsed::nothing());
    }
    let mut other_tracks = false;
    let four_cc = if packet_type == MULTITRACK {
        let found = multitrack(MULTITRACK, &mut body)?;
        packet_type = found.packet_type;
        other_tracks = found.other_tracks;
        let Some(track) = found.track else { return Ok(Parsed { tag: None, other_tracks }) };
        body = track.body;
        track.four_cc
    } else {
        array(&mut body)?
    };
    let codec = VideoCodec::from_four_cc(four_cc);
    let has_composition =
        matches!(codec, VideoCodec::Avc | VideoCodec::Hevc) || four_cc == *b"vvc1";
    let tag = match packet_type {
        SEQUENCE_START => Some(VideoTag::Header(codec, body)),
        CODED_FRAMES => {
            let composition = if has_composition { i24(&mut body)? } else { 0 };
            (!body.is_empty()).then(|| frame(codec, frame_type, composition, modified.nanos, body))
        }
        CODED_FRAMES_X => {
            (!body.is_empty()).then(|| frame(codec, frame_type, 0, modified.nanos, body))
        }
        SEQUENCE_END => Some(VideoTag::End),
        TS_SEQUENCE_START => Some(VideoTag::TsHeader(codec)),
        METADATA => None,
        other => return Err(FlvError::PacketType(other)),
    };
    Ok(Parsed { tag, other_tracks })
}
