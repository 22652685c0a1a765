//! What the codecs' headers say, as far as containers, playlists and protocols need it.
//!
//! Not here: encoding or decoding of pictures and sound.

pub mod aac;
mod access_unit;
pub mod av1;
pub mod bits;
pub mod h264;
pub mod h265;
pub mod nal;
pub mod opus;
#[cfg(test)]
mod testing;
pub mod vp8;
pub mod vp9;

pub use access_unit::AccessUnit;
pub use bits::BitReader;

use thiserror::Error;

/// What a track carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MediaKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// A picture's size in pixels, after cropping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Resolution {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Frames a second as a ratio.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameRate {
    /// Frames …
    pub num: u32,
    /// … in this many seconds; not 0.
    pub den: u32,
}

impl FrameRate {
    /// The ratio in lowest terms; none where a term is 0, does not fit, or the rate is above
    /// 1000 Hz: encoders without a cadence declare such things.
    fn plausible(num: u64, den: u64) -> Option<Self> {
        let (mut divisor, mut rest) = (num, den);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        if num == 0 || den == 0 || num / den > 1_000 {
            return None;
        }
        let term = |term: u64| u32::try_from(term / divisor).ok();
        Some(Self { num: term(num)?, den: term(den)? })
    }
}

/// A codec header that cannot be used. The peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end before the header does.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A value that the specification forbids or that is absurd.
    #[error("{what}: {value} is not allowed")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Correct, but not something this server carries.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// A track's codec with everything its headers say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Codec {
    /// ITU-T H.264.
    H264(h264::H264Config),
    /// ITU-T H.265.
    H265(h265::H265Config),
    /// AV1.
    Av1(av1::Av1Config),
    /// VP8.
    Vp8(vp8::Vp8Config),
    /// VP9.
    Vp9(vp9::Vp9Config),
    /// AAC.
    Aac(aac::AacConfig),
    /// Opus.
    Opus(opus::OpusConfig),
}

impl Codec {
    /// Video or audio.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::H264(_) | Self::H265(_) | Self::Av1(_) | Self::Vp8(_) | Self::Vp9(_) => {
                MediaKind::Video
            }
            Self::Aac(_) | Self::Opus(_) => MediaKind::Audio,
        }
    }

    /// A short name for logs, metrics and the API: `h264`, `h265`, `av1`, `vp8`, `vp9`, `aac`,
    /// `opus`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::H264(_) => "h264",
            Self::H265(_) => "h265",
            Self::Av1(_) => "av1",
            Self::Vp8(_) => "vp8",
            Self::Vp9(_) => "vp9",
            Self::Aac(_) => "aac",
            Self::Opus(_) => "opus",
        }
    }

    /// The picture's size, where the header tells.
    #[must_use]
    pub fn resolution(&self) -> Option<Resolution> {
        match self {
            Self::H264(config) => Some(config.resolution),
            Self::H265(config) => Some(config.resolution),
            Self::Av1(config) => Some(config.resolution),
            Self::Vp8(config) => Some(config.resolution),
            Self::Vp9(config) => Some(config.resolution),
            Self::Aac(_) | Self::Opus(_) => None,
        }
    }

    /// The frame rate that the header declares (which a stream need not keep).
    #[must_use]
    pub fn frame_rate(&self) -> Option<FrameRate> {
        match self {
            Self::H264(config) => config.frame_rate,
            Self::H265(config) => config.frame_rate,
            Self::Av1(config) => config.frame_rate,
            Self::Vp8(_) | Self::Vp9(_) | Self::Aac(_) | Self::Opus(_) => None,
        }
    }

    /// Samples a second and channels of audio.
    #[must_use]
    pub fn audio(&self) -> Option<(u32, u8)> {
        match self {
            Self::Aac(config) => Some((config.sample_rate, config.channels)),
            Self::Opus(config) => Some((48_000, config.channels)),
            _ => None,
        }
    }

    /// The RFC 6381 string for `CODECS`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        match self {
            Self::H264(config) => config.codecs_string(),
            Self::H265(config) => config.codecs_string(),
            Self::Av1(config) => config.codecs_string(),
            Self::Vp8(config) => config.codecs_string(),
            Self::Vp9(config) => config.codecs_string(),
            Self::Aac(config) => config.codecs_string(),
            Self::Opus(config) => config.codecs_string(),
        }
    }
}
