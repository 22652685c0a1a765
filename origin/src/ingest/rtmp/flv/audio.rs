//! Audio tags: legacy AAC, and Enhanced RTMP's FourCC codecs.
//!
//! Not here: what an AudioSpecificConfig or an Opus header says.

use bytes::Bytes;

use super::{FlvError, Parsed, array, modifiers, multitrack, u8};

/// A codec of an audio tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// AAC.
    Aac,
    /// Opus.
    Opus,
    /// One that is not carried, by its legacy number.
    Legacy(u8),
    /// One that is not carried, by its FourCC.
    FourCc([u8; 4]),
}

impl AudioCodec {
    pub(super) fn from_legacy(id: u8) -> Self {
        if id == 10 { Self::Aac } else { Self::Legacy(id) }
    }

    /// The codec of a FourCC.
    #[must_use]
    pub fn from_four_cc(four_cc: [u8; 4]) -> Self {
        match &four_cc {
            b"mp4a" => Self::Aac,
            b"Opus" => Self::Opus,
            _ => Self::FourCc(four_cc),
        }
    }

    /// The codec that `audiocodecid` of `onMetaData` names: a legacy number, or a FourCC as one.
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
            Self::Aac => "AAC",
            Self::Opus => "Opus",
            Self::Legacy(0 | 3) => "PCM",
            Self::Legacy(1) => "ADPCM",
            Self::Legacy(2 | 14) | Self::FourCc([b'.', b'm', b'p', b'3']) => "MP3",
            Self::Legacy(4..=6) => "Nellymoser",
            Self::Legacy(7) => "G.711 A-law",
            Self::Legacy(8) => "G.711 mu-law",
            Self::Legacy(11) => "Speex",
            Self::FourCc([b'a', b'c', b'-', b'3']) => "AC-3",
            Self::FourCc([b'e', b'c', b'-', b'3']) => "E-AC-3",
            Self::FourCc([b'f', b'L', b'a', b'C']) => "FLAC",
            Self::Legacy(id) => return format!("audio codec {id}"),
            Self::FourCc(four_cc) => return format!("audio codec {}", four_cc.escape_ascii()),
        };
        known.to_owned()
    }
}

/// What an audio tag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioTag {
    /// The codec's header: an AudioSpecificConfig, or an Opus identification header.
    Header(AudioCodec, Bytes),
    /// A packet.
    Frame {
        /// In this codec.
        codec: AudioCodec,
        /// To add to the time stamp, in nanoseconds.
        nanos: u32,
        /// The packet.
        data: Bytes,
    },
    /// The end of the sequence.
    End,
}

/// Legacy sound format: an Enhanced RTMP header.
const EX_HEADER: u8 = 9;

const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
const MULTICHANNEL_CONFIG: u8 = 4;
const MULTITRACK: u8 = 5;

/// Reads an audio message's body.
///
/// # Errors
/// When it is cut short or has a type that the specifications do not know.
pub fn parse_audio(mut body: Bytes) -> Result<Parsed<AudioTag>, FlvError> {
    let first = u8(&mut body)?;
    let format = first >> 4;
    if format == EX_HEADER {
        return enhanced(first & 0x0f, body);
    }
    let codec = AudioCodec::from_legacy(format);
    if codec != AudioCodec::Aac {
        return Ok(Parsed::one(AudioTag::Frame { codec, nanos: 0, data: body }));
    }
    match u8(&mut body)? {
        0 => Ok(Parsed::one(AudioTag::Header(codec, body))),
        1 if body.is_empty() => Ok(Parsed::nothing()),
        1 => Ok(Parsed::one(AudioTag::Frame { codec, nanos: 0, data: body })),
        other => Err(FlvError::PacketType(other)),
    }
}

fn enhanced(packet_type: u8, mut body: Bytes) -> Result<Parsed<AudioTag>, FlvError> {
    let modified = modifiers(packet_type, &mut body)?;
    let mut packet_type = modified.packet_type;
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
    let codec = AudioCodec::from_four_cc(four_cc);
    let tag = match packet_type {
        SEQUENCE_START => Some(AudioTag::Header(codec, body)),
        CODED_FRAMES if body.is_empty() => None,
        CODED_FRAMES => Some(AudioTag::Frame { codec, nanos: modified.nanos, data: body }),
        SEQUENCE_END => Some(AudioTag::End),
        MULTICHANNEL_CONFIG => None,
        other => return Err(FlvError::PacketType(other)),
    };
    Ok(Parsed { tag, other_tracks })
}
