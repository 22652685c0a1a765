//! From tags to frames: one timeline for both tracks, codec headers, and what is left out.
//!
//! Not here: the tags' layout (`flv`), access units (`decoder`), final times (`ingest`).

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_media::codec::CodecError;
use headwater_media::{ClockRate, Codec, MediaKind, MediaTime};
use thiserror::Error;

use super::amf0::Value;
use super::decoder::{AudioDecoder, VideoDecoder};
use super::flv::{AudioCodec, AudioTag, FlvError, VideoCodec, VideoTag, parse_audio, parse_video};

/// Why a tag was dropped. The publisher's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TagError {
    /// It is not an FLV tag.
    #[error("FLV: {0}")]
    Flv(#[from] FlvError),
    /// Its codec header or access unit cannot be used.
    #[error("{0}")]
    Codec(#[from] CodecError),
    /// A frame before its codec's header.
    #[error("a frame came before its codec's header")]
    NoHeader,
}

/// What follows from the tags so far.
#[derive(Debug, Clone, PartialEq)]
pub enum TrackEvent {
    /// A track of this kind will come; said once a kind.
    Announce(MediaKind),
    /// The headers of a track, at first and whenever they change.
    Configure(Codec),
    /// A frame.
    Frame(TrackFrame),
    /// Something the operator should know; said once a key.
    Warn(&'static str, String),
}

/// A frame on the publisher's timeline, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFrame {
    /// Of which track.
    pub kind: MediaKind,
    /// When it is shown.
    pub pts: MediaTime,
    /// When it is decoded.
    pub dts: MediaTime,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// In the bus's form.
    pub payload: Bytes,
}

/// One publisher's tracks.
#[derive(Debug, Default)]
pub struct Tracks {
    clock: Unwrap,
    video: Option<VideoDecoder>,
    audio: Option<AudioDecoder>,
    /// Kinds whose last header was one that this server does not carry.
    left_out: Vec<MediaKind>,
    announced: Vec<MediaKind>,
    configured: Vec<Codec>,
    warned: Vec<&'static str>,
    events: VecDeque<TrackEvent>,
}

impl Tracks {
    /// What follows, in order; drain it after each tag.
    pub fn poll(&mut self) -> Option<TrackEvent> {
        self.events.pop_front()
    }

    /// Takes `onMetaData`: tracks of codecs that are carried are announced.
    pub fn metadata(&mut self, metadata: &Value) {
        let video = metadata
            .get("videocodecid")
            .and_then(|id| named(id, VideoCodec::from_number, VideoCodec::from_four_cc));
        if video.is_some_and(is_carried_video) {
            self.announce(MediaKind::Video);
        }
        let audio = metadata
            .get("audiocodecid")
            .and_then(|id| named(id, AudioCodec::from_number, AudioCodec::from_four_cc));
        if audio.is_some_and(is_carried_audio) {
            self.announce(MediaKind::Audio);
        }
    }

    /// Takes a video message's body.
    ///
    /// # Errors
    /// When the tag is dropped for what it says.
    pub fn video(&mut self, time: u32, body: Bytes) -> Result<(), TagError> {
        let millis = self.clock.unwrap(time);
        let parsed = parse_video(body)?;
        if parsed.other_tracks {
            self.warn_multitrack("rtmp_video_tracks", "video");
        }
        match parsed.tag {
            Some(VideoTag::Header(codec, record)) => {
                if !self.carries_video(codec) {
                    return Ok(());
                }
                let read = VideoDecoder::new(codec, &record);
                let Some((decoder, config)) = self.carried(MediaKind::Video, read)? else {
                    return Ok(());
                };
                self.video = Some(decoder);
                config.into_iter().for_each(|config| self.configure(config));
            }
            Some(VideoTag::Frame { codec, composition, nanos, data, .. }) => {
                if !self.carries_video(codec) || self.left_out.contains(&MediaKind::Video) {
                    return Ok(());
                }
                let decoder = self.video.as_mut().filter(|decoder| decoder.codec() == codec);
                let Some(decoder) = decoder else { return Err(TagError::NoHeader) };
                let unit = decoder.frame(&data)?;
                unit.config.into_iter().for_each(|config| self.configure(config));
                let dts = micros(millis, nanos);
                let pts = dts.saturating_add(i64::from(composition).saturating_mul(1_000));
                self.frame(MediaKind::Video, pts, dts, unit.keyframe, unit.payload);
            }
            Some(VideoTag::TsHeader(_)) => {
                let text = "the video's header is in MPEG-2 TS form, which is not carried over \
                            RTMP: send an av1C sequence start";
                self.warn("rtmp_video_ts_header", text.to_owned());
            }
            Some(VideoTag::End) | None => {}
        }
        Ok(())
    }

    /// Takes an audio message's body.
    ///
    /// # Errors
    /// When the tag is dropped for what it says.
    pub fn audio(&mut self, time: u32, body: Bytes) -> Result<(), TagError> {
        let millis = self.clock.unwrap(time);
        let parsed = parse_audio(body)?;
        if parsed.other_tracks {
            self.warn_multitrack("rtmp_audio_tracks", "audio");
        }
        match parsed.tag {
            Some(AudioTag::Header(codec, header)) => {
                if !self.carries_audio(codec) {
                    return Ok(());
                }
                let read = AudioDecoder::new(codec, &header);
                let Some((decoder, config)) = self.carried(MediaKind::Audio, read)? else {
                    return Ok(());
                };
                self.audio = Some(decoder);
                self.configure(config);
            }
            Some(AudioTag::Frame { codec, nanos, data }) => {
                if !self.carries_audio(codec) || self.left_out.contains(&MediaKind::Audio) {
                    return Ok(());
                }
                let decoder = self.audio.as_ref().filter(|decoder| decoder.codec() == codec);
                decoder.ok_or(TagError::NoHeader)?.check(&data)?;
                let dts = micros(millis, nanos);
                self.frame(MediaKind::Audio, dts, dts, true, data);
            }
            Some(AudioTag::End) | None => {}
        }
        Ok(())
    }

    fn frame(&mut self, kind: MediaKind, pts: i64, dts: i64, keyframe: bool, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        let time = |micros| MediaTime::new(micros, ClockRate::MICROS);
        let frame = TrackFrame { kind, pts: time(pts), dts: time(dts), keyframe, payload };
        self.events.push_back(TrackEvent::Frame(frame));
    }

    fn announce(&mut self, kind: MediaKind) {
        if !self.announced.contains(&kind) {
            self.announced.push(kind);
            self.events.push_back(TrackEvent::Announce(kind));
        }
    }

    fn configure(&mut self, config: Codec) {
        let kind = config.kind();
        self.announce(kind);
        if !self.configured.contains(&config) {
            self.configured.retain(|other| other.kind() != kind);
            self.configured.push(config.clone());
            self.events.push_back(TrackEvent::Configure(config));
        }
    }

    /// A header that is correct but not carried leaves its track out, with a warning.
    fn carried<T>(
        &mut self,
        kind: MediaKind,
        read: Result<T, CodecError>,
    ) -> Result<Option<T>, TagError> {
        self.left_out.retain(|other| *other != kind);
        match read {
            Ok(found) => Ok(Some(found)),
            Err(CodecError::Unsupported(what)) => {
                self.left_out.push(kind);
                let (key, name, remedy) = match kind {
                    MediaKind::Video => ("rtmp_video_header", "video", "8-bit 4:2:0 H.264"),
                    MediaKind::Audio => ("rtmp_audio_header", "audio", "stereo AAC-LC or Opus"),
                };
                let text = format!(
                    "the {name} is left out, for {what} is not supported: set the encoder to \
                     {remedy}"
                );
                self.warn(key, text);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn carries_video(&mut self, codec: VideoCodec) -> bool {
        let carried = is_carried_video(codec);
        if !carried {
            let text = format!(
                "the video is {}, which is not carried, and is left out: set the encoder to \
                 H.264, H.265, AV1 or VP9",
                codec.name()
            );
            self.warn("rtmp_video_codec", text);
        }
        carried
    }

    fn carries_audio(&mut self, codec: AudioCodec) -> bool {
        let carried = is_carried_audio(codec);
        if !carried {
            let text = format!(
                "the audio is {}, which is not carried, and is left out: set the encoder to AAC \
                 or Opus",
                codec.name()
            );
            self.warn("rtmp_audio_codec", text);
        }
        carried
    }

    fn warn_multitrack(&mut self, key: &'static str, kind: &str) {
        let text = format!(
            "the publisher sends several {kind} tracks in one stream: the first is taken; publish \
             the others under names of their own"
        );
        self.warn(key, text);
    }

    fn warn(&mut self, key: &'static str, text: String) {
        if !self.warned.contains(&key) {
            self.warned.push(key);
            self.events.push_back(TrackEvent::Warn(key, text));
        }
    }
}

fn is_carried_video(codec: VideoCodec) -> bool {
    !matches!(codec, VideoCodec::Legacy(_) | VideoCodec::FourCc(_))
}

fn is_carried_audio(codec: AudioCodec) -> bool {
    !matches!(codec, AudioCodec::Legacy(_) | AudioCodec::FourCc(_))
}

/// A codec that metadata names by a number or by the letters of a FourCC.
fn named<T>(
    id: &Value,
    from_number: impl Fn(u32) -> T,
    from_four_cc: impl Fn([u8; 4]) -> T,
) -> Option<T> {
    match id {
        Value::Number(number) => whole(*number).map(from_number),
        Value::String(text) => text.as_bytes().try_into().ok().map(from_four_cc),
        _ => None,
    }
}

/// A double that is a whole number of 32 bits.
fn whole(number: f64) -> Option<u32> {
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    fits.then_some(number as u32)
}

fn micros(millis: i64, nanos: u32) -> i64 {
    millis.saturating_mul(1_000).saturating_add(i64::from(nanos / 1_000))
}

/// Widens the 32-bit milliseconds of all tracks: each is taken as the nearest to the last.
#[derive(Debug, Default)]
struct Unwrap {
    last: Option<i64>,
}

impl Unwrap {
    fn unwrap(&mut self, time: u32) -> i64 {
        let time = i64::from(time);
        let wide = match self.last {
            None => time,
            Some(last) => {
                const TURN: i64 = 1 << 32;
                let ahead = (time - last).rem_euclid(TURN);
                last.saturating_add(if ahead > TURN / 2 { ahead - TURN } else { ahead })
            }
        };
        self.last = Some(wide);
        wide
    }
}

#[cfg(test)]
mod tests;
