//! Codec headers and access units of tags, brought into the bus's form.
//!
//! Not here: times, and what to do with codecs that are not carried (`tracks`).

use bytes::Bytes;
use headwater_media::Codec;
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::av1::{self, Av1Config};
use headwater_media::codec::h264::{self, H264Config};
use headwater_media::codec::h265::{self, H265Config};
use headwater_media::codec::opus::{self, OpusConfig};
use headwater_media::codec::vp9::Vp9Config;
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
    /// With the bytes of a length prefix.
    H265(Box<h265::AccessUnits>, u8),
    Av1(av1::TemporalUnits),
    /// With the configuration of the last keyframe.
    Vp9(Option<Vp9Config>),
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
            VideoCodec::Hevc => {
                let (config, length_size) = H265Config::from_hvcc(record)?;
                let mut units = Box::new(h265::AccessUnits::new());
                units.set_config(config.clone())?;
                (VideoUnits::H265(units, length_size), Some(Codec::H265(config)))
            }
            VideoCodec::Av1 => {
                let mut units = av1::TemporalUnits::new();
                let config = match Av1Config::from_av1c(record) {
                    Ok(config) => Some(config),
                    // Without a sequence header: keyframes bring it.
                    Err(CodecError::Unsupported(_)) => None,
                    Err(error) => return Err(error),
                };
                if let Some(config) = &config {
                    units.set_config(config.clone());
                }
                (VideoUnits::Av1(units), config.map(Codec::Av1))
            }
            // `vpcC` lacks the size: keyframes tell all.
            VideoCodec::Vp9 => (VideoUnits::Vp9(None), None),
            VideoCodec::Legacy(_) | VideoCodec::FourCc(_) => {
                return Err(CodecError::Unsupported("this video codec over RTMP"));
            }
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
            VideoUnits::H265(units, length_size) => {
                Ok(Unit::new(units.length_prefixed(data, *length_size)?, Codec::H265))
            }
            VideoUnits::Av1(units) => Ok(Unit::new(units.take(data)?, Codec::Av1)),
            VideoUnits::Vp9(last) => {
                let found = Vp9Config::from_keyframe(data)?;
                let keyframe = found.is_some();
                let config = found.filter(|config| last.as_ref() != Some(config));
                if let Some(config) = &config {
                    *last = Some(config.clone());
                }
                Ok(Unit { payload: data.clone(), keyframe, config: config.map(Codec::Vp9) })
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
