//! AAC headers (ISO/IEC 14496-3 AudioSpecificConfig; ADTS).
//!
//! Not here: LATM.

use bytes::Bytes;

/// An AudioSpecificConfig and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AacConfig {
    /// The AudioSpecificConfig as it came.
    pub asc: Bytes,
    /// Audio object type: 2 is LC, 5 is HE, 29 is HE v2.
    pub object_type: u8,
    /// Samples a second of the core (for HE, half of what is heard).
    pub sample_rate: u32,
    /// Channels of the core.
    pub channels: u8,
    /// Samples a frame at `sample_rate`: 1024 or 960.
    pub frame_samples: u16,
}

impl AacConfig {
    /// `mp4a.40.N`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}
