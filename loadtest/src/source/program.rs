//! Picture and sound of a stream in the order in which they are due.
//!
//! Not here: waiting until they are.

use super::audio::SAMPLES_PER_SECOND;
use super::{AccessUnit, AudioCodec, Settings, Video};

/// One thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A picture.
    Video(AccessUnit),
    /// A packet of sound.
    Audio {
        /// Samples at 48 kHz from the stream's start.
        pts: u64,
        /// Its bytes.
        packet: &'static [u8],
    },
}

/// A stream's items.
#[derive(Debug)]
pub struct Program {
    video: Video,
    audio: Option<AudioCodec>,
    packets: u64,
}

impl Program {
    /// A stream with sound in this codec, where the settings ask for sound.
    #[must_use]
    pub fn new(settings: Settings, audio: AudioCodec, stream: u32, seed: u64) -> Self {
        let audio = settings.audio.then_some(audio);
        Self { video: Video::new(settings, stream, seed), audio, packets: 0 }
    }

    /// Keyframes come when asked for.
    pub fn keyframes_on_request(&mut self) {
        self.video.keyframes_on_request();
    }

    /// Its pictures.
    #[must_use]
    pub fn video(&self) -> &Video {
        &self.video
    }

    /// The next picture that may be a keyframe is one.
    pub fn want_keyframe(&mut self) {
        self.video.want_keyframe();
    }

    /// When the next item is due, in microseconds from the stream's start.
    #[must_use]
    pub fn due_us(&self) -> u64 {
        self.audio_due_us().map_or(self.video.due_us(), |audio| audio.min(self.video.due_us()))
    }

    /// The next item; a picture is stamped with this time.
    pub fn next_item(&mut self, now_us: u64) -> Item {
        match (self.audio, self.audio_due_us()) {
            (Some(codec), Some(due)) if due < self.video.due_us() => {
                let pts = self.packets * codec.packet_samples();
                self.packets += 1;
                Item::Audio { pts, packet: codec.packet() }
            }
            _ => Item::Video(self.video.next_unit(now_us)),
        }
    }

    fn audio_due_us(&self) -> Option<u64> {
        let samples = self.packets * self.audio?.packet_samples();
        Some(samples * 1_000_000 / SAMPLES_PER_SECOND)
    }
}
