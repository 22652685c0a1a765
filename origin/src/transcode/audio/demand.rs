//! Translates what HLS clients ask for into bridges.
//!
//! Not here: what a playlist lists (`packager`), the bridges themselves (`super`).

use headwater_media::{Broadcast, StreamName};

use super::{AudioBridges, AudioTarget};
use crate::http::hls::{AudioCodec, Demand};
use crate::streams::Streams;

/// Finds streams, and begins and prolongs bridges, for HLS, whose clients have no sessions: each request for a
/// playlist counts as listening.
pub struct HlsAudio {
    streams: Streams,
    bridges: AudioBridges,
}

impl HlsAudio {
    /// For the streams of a node.
    #[must_use]
    pub fn new(streams: Streams, bridges: AudioBridges) -> Self {
        Self { streams, bridges }
    }
}

impl Demand for HlsAudio {
    fn find(&self, stream: &StreamName) -> Option<Broadcast> {
        self.streams.find(stream)
    }

    fn want(&self, stream: &StreamName, codec: AudioCodec) -> bool {
        let target = match codec {
            AudioCodec::Aac => AudioTarget::Aac,
            AudioCodec::Opus => AudioTarget::Opus,
        };
        let Some(broadcast) = self.streams.get(stream) else { return false };
        self.bridges.is_source(&broadcast, target)
            || self.bridges.comes_from_elsewhere(&broadcast)
            || self.bridges.listen(&broadcast, target).is_some()
    }
}
