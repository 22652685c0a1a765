//! What a codec's frames say: the bus's form, keyframes, headers.
//!
//! Not here: the headers themselves (`headwater_media::codec`).

use bytes::Bytes;
use headwater_media::Codec;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::codec::vp8::Vp8Config;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::codec::{AccessUnit, CodecError, av1, h264};
use headwater_sfu::IncomingCodec;

/// A frame in the bus's form.
#[derive(Debug, PartialEq)]
pub(super) struct Unit {
    /// Empty when there is nothing to decode.
    pub(super) payload: Bytes,
    pub(super) keyframe: bool,
    /// The headers, when they are new.
    pub(super) config: Option<Codec>,
}

/// Follows one encoded stream's headers.
pub(super) enum Decoder {
    H264(Box<h264::AccessUnits>),
    Av1(Box<av1::TemporalUnits>),
    /// The newest keyframe's headers.
    Vp8(Option<Vp8Config>),
    /// The newest keyframe's headers.
    Vp9(Option<Vp9Config>),
    /// Sound whose headers come from the negotiation; none once they were told.
    Opus(Option<OpusConfig>),
}

impl Decoder {
    pub(super) fn new(codec: IncomingCodec) -> Self {
        match codec {
            IncomingCodec::H264 => Self::H264(Box::default()),
            IncomingCodec::Vp8 => Self::Vp8(None),
            IncomingCodec::Vp9 => Self::Vp9(None),
            IncomingCodec::Av1 => Self::Av1(Box::default()),
            IncomingCodec::Opus { channels } => Self::Opus(Some(OpusConfig {
                channels,
                // WebRTC has no start to cut off: a session joins a stream that runs.
                pre_skip: 0,
                input_sample_rate: 48_000,
            })),
        }
    }

    /// Reads a frame.
    pub(super) fn take(&mut self, data: &Bytes) -> Result<Unit, CodecError> {
        match self {
            Self::H264(units) => units.annex_b(data).map(|unit| of(unit, Codec::H264)),
            Self::Av1(units) => units.take(data).map(|unit| of(unit, Codec::Av1)),
            Self::Vp8(known) => Ok(whole(data, known, Vp8Config::from_keyframe(data)?, Codec::Vp8)),
            Self::Vp9(known) => Ok(whole(data, known, Vp9Config::from_keyframe(data)?, Codec::Vp9)),
            Self::Opus(config) => Ok(Unit {
                payload: data.clone(),
                keyframe: true,
                config: config.take().map(Codec::Opus),
            }),
        }
    }
}

/// Whether a keyframe of which packets may be missing is all there. What the RTP side delivers has
/// no hole before its last packet, so that only the beginning of one in several slices can lack.
pub(super) fn is_whole_keyframe(codec: IncomingCodec, unit: &Unit) -> bool {
    codec != IncomingCodec::H264 || h264::begins_its_picture(&unit.payload).unwrap_or(false)
}

fn of<C>(unit: AccessUnit<C>, codec: impl FnOnce(C) -> Codec) -> Unit {
    Unit { payload: unit.payload, keyframe: unit.keyframe, config: unit.config_changed.map(codec) }
}

/// A frame that the bus takes as it is; `header` is there on keyframes.
fn whole<C: Clone + PartialEq>(
    data: &Bytes,
    known: &mut Option<C>,
    header: Option<C>,
    codec: impl FnOnce(C) -> Codec,
) -> Unit {
    let keyframe = header.is_some();
    let news = header.filter(|header| known.as_ref() != Some(header));
    if news.is_some() {
        known.clone_from(&news);
    }
    Unit { payload: data.clone(), keyframe, config: news.map(codec) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VP8 keyframe's header of this width, 16 rows (RFC 6386 §9.1).
    fn vp8(keyframe: bool, width: u8) -> Bytes {
        let tag = u8::from(!keyframe);
        Bytes::from(vec![0x10 | tag, 0, 0, 0x9d, 0x01, 0x2a, width, 0, 16, 0, 0, 0])
    }

    #[test]
    fn headers_are_told_when_they_are_new_and_only_then() {
        let mut decoder = Decoder::new(IncomingCodec::Vp8);
        let mut told = Vec::new();
        for (keyframe, width) in [(true, 32), (false, 32), (true, 32), (true, 64)] {
            let unit = decoder.take(&vp8(keyframe, width)).unwrap();
            assert_eq!(unit.keyframe, keyframe);
            let size = unit.config.and_then(|config| config.resolution());
            told.push(size.map(|size| size.width));
        }
        assert_eq!(told, [Some(32), None, None, Some(64)]);
    }

    #[test]
    fn opus_headers_come_from_the_negotiation_once() {
        let mut decoder = Decoder::new(IncomingCodec::Opus { channels: 1 });
        let first = decoder.take(&Bytes::from_static(&[0xfc, 0, 0])).unwrap();
        assert_eq!(first.config.and_then(|config| config.audio()), Some((48_000, 1)));
        assert_eq!(decoder.take(&Bytes::from_static(&[0xfc, 0, 0])).unwrap().config, None);
    }

    #[test]
    fn a_keyframe_without_its_first_slice_is_not_whole() {
        const SETS: &[u8] = &[
            0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xb8, 0x10, 0, 0, 0, 1,
            0x68, 0xcb, 0x83, 0xcb, 0x20,
        ];
        // first_mb_in_slice 0 and 1, slice_type 7, pps 0.
        for (slice, whole) in [([0b1000_1000, 0xc0], true), ([0b0100_0010, 0x3f], false)] {
            let data = [SETS, &[0, 0, 0, 1, 0x65], &slice, &[0xff]].concat();
            let unit = Decoder::new(IncomingCodec::H264).take(&Bytes::from(data)).unwrap();
            assert!(unit.keyframe);
            assert_eq!(is_whole_keyframe(IncomingCodec::H264, &unit), whole);
        }
    }

    #[test]
    fn garbage_is_an_error_or_nothing_and_never_a_keyframe() {
        for codec in [IncomingCodec::H264, IncomingCodec::Vp9, IncomingCodec::Av1] {
            for bytes in [&[][..], &[0xff], &[0, 0, 0, 1], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
                let unit = Decoder::new(codec).take(&Bytes::copy_from_slice(bytes));
                assert!(!unit.is_ok_and(|unit| unit.keyframe), "{codec:?} {bytes:?}");
            }
        }
    }
}
