//! Codec headers and access units of tags, brought into the bus's form.
//!
//! Not here: times, and what to do with codecs that are not carried (`tracks`).

use bytes::Bytes;
use headwater_media::Codec;
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::h264::{self, H264Config};
use headwater_media::codec::opus::{self, OpusConfig};
use headwater_media::codec::{AccessUnit, CodecError};

use super::flv::{AudioCodec, VideoCodec};

/// An access unit in the bus's form.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// Empty where the tag held no picture.
    pub(super) payload: Bytes,
    pub(super) keyframe: bool,
    /// The configuration, when it differs from the one before.
    pub(super) config: Option<Codec>,
}

impl Unit {
    fn new<C>(unit: AccessUnit<C>, codec: impl FnOnce(C) -> Codec) -> Self {
        let AccessUnit { payload, keyframe, config_changed } = unit;
        Self { payload, keyframe, config: config_changed.map(codec) }
    }
}

/// A video track's codec in progress.
#[derive(Debug)]
pub(super) struct VideoDecoder {
    codec: VideoCodec,
    units: VideoUnits,
}

#[derive(Debug)]
enum VideoUnits {
    /// With the bytes of a length prefix.
    H264(Box<h264::AccessUnits>, u8),
}

impl VideoDecoder {
    /// Reads a decoder configuration record. No configuration comes of it where the codec's
    /// frames tell it instead.
    pub(super) fn new(
        codec: VideoCodec,
        record: &Bytes,
    ) -> Result<(Self, Option<Codec>), CodecError> {
        let (units, config) = match codec {
            VideoCodec::Avc => {
                let (config, length_size) = H264Config::from_avcc(record)?;
                let mut units = Box::new(h264::AccessUnits::new());
                units.set_config(config.clone())?;
                (VideoUnits::H264(units, length_size), Some(Codec::H264(config)))
            }
            _ => return Err(CodecError::Unsupported("this video codec over RTMP")),
        };
        Ok((Self { codec, units }, config))
    }

    /// The codec as tags name it.
    pub(super) fn codec(&self) -> VideoCodec {
        self.codec
    }

    /// Takes a tag's access unit.
    pub(super) fn frame(&mut self, data: &Bytes) -> Result<Unit, CodecError> {
        match &mut self.units {
            VideoUnits::H264(units, length_size) => {
                Ok(Unit::new(units.length_prefixed(data, *length_size)?, Codec::H264))
            }
        }
    }
}

/// An audio track's codec.
#[derive(Debug)]
pub(super) struct AudioDecoder {
    codec: AudioCodec,
}

impl AudioDecoder {
    /// Reads an AudioSpecificConfig or an Opus identification header.
    pub(super) fn new(codec: AudioCodec, header: &[u8]) -> Result<(Self, Codec), CodecError> {
        let config = match codec {
            AudioCodec::Aac => Codec::Aac(AacConfig::from_asc(header)?),
            AudioCodec::Opus => Codec::Opus(OpusConfig::from_opus_head(header)?),
            AudioCodec::Legacy(_) | AudioCodec::FourCc(_) => {
                return Err(CodecError::Unsupported("this audio codec over RTMP"));
            }
        };
        Ok((Self { codec }, config))
    }

    /// The codec as tags name it.
    pub(super) fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// Checks what can be checked of a packet without decoding it.
    pub(super) fn check(&self, packet: &[u8]) -> Result<(), CodecError> {
        match self.codec {
            AudioCodec::Opus => opus::packet_duration_samples(packet).map(drop),
            _ => Ok(()),
        }
    }
}
