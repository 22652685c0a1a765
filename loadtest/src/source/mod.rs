//! What publishers send: H.264 and sound that are made without an encoder, the same for the same
//! settings and seed.
//!
//! Not here: when it is sent (`publish`), how a protocol wraps it.

mod audio;
mod bits;
mod h264;
mod program;
mod video;

pub use audio::AudioCodec;
pub use program::{Item, Program};
pub use video::{AccessUnit, Video};

/// Where in a picture its stamp stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum StampPlace {
    /// In an SEI message before the slice: a small packet of its own by WebRTC.
    #[default]
    Sei,
    /// In the slice's raw samples, where the picture has some: packets as a browser sends them.
    Slice,
}

/// What a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Columns of the picture, even.
    pub width: u32,
    /// Rows of the picture, even.
    pub height: u32,
    /// Frames a second, as a fraction.
    pub fps: (u32, u32),
    /// Bits a second of video.
    pub bitrate: u64,
    /// Seconds from a keyframe to the next.
    pub gop_s: f64,
    /// Two B-frames between reference frames; Main profile instead of Baseline.
    pub b_frames: bool,
    /// Whether there is sound.
    pub audio: bool,
    /// Where the stamps stand.
    pub stamp: StampPlace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            width: 1_280,
            height: 720,
            fps: (30, 1),
            bitrate: 2_500_000,
            gop_s: 2.0,
            b_frames: false,
            audio: true,
            stamp: StampPlace::Sei,
        }
    }
}

impl Settings {
    /// Time between two frames, in microseconds.
    #[must_use]
    pub fn frame_interval_us(&self) -> u64 {
        let (num, den) = self.fps;
        1_000_000 * u64::from(den) / u64::from(num.max(1))
    }

    /// Frames from a keyframe to the next.
    #[must_use]
    pub fn gop_frames(&self) -> u64 {
        let (num, den) = self.fps;
        let frames = self.gop_s * f64::from(num) / f64::from(den.max(1));
        (frames.round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests;
