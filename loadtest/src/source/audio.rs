//! Sound without an encoder: packets of silence that decode, over and over.
//!
//! Not here: when they are sent (`program`).

/// How the sound of a stream is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// Opus, stereo, packets of 20 ms: for WebRTC.
    Opus,
    /// AAC-LC, stereo at 48 kHz, frames of 1024 samples: for SRT and RTMP.
    Aac,
}

/// Samples a second of either.
pub(super) const SAMPLES_PER_SECOND: u64 = 48_000;

/// CELT, full band, 20 ms, stereo, one frame (RFC 6716 §3.1), which says that it is silent
/// (§4.3).
const OPUS_SILENCE: [u8; 3] = [0xfc, 0xff, 0xfe];
/// A `raw_data_block` of one channel pair without spectral data and the end element.
const AAC_SILENCE: [u8; 6] = [0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c];

impl AudioCodec {
    /// Samples of a packet, at 48 kHz.
    #[must_use]
    pub fn packet_samples(self) -> u64 {
        match self {
            Self::Opus => 960,
            Self::Aac => 1_024,
        }
    }

    /// The bytes of a packet.
    #[must_use]
    pub fn packet(self) -> &'static [u8] {
        match self {
            Self::Opus => &OPUS_SILENCE,
            Self::Aac => &AAC_SILENCE,
        }
    }
}
