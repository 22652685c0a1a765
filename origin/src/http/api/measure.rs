//! Rates of a track as the last seconds on its bus show them.
//!
//! Not here: rates that playlists promise (the packager).

use std::sync::Arc;

use headwater_media::Group;

/// Media time that is looked back on: long enough to hold a group of most publishers.
const LOOK_BACK_SECONDS: f64 = 4.0;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Frames a second.
    pub(super) frame_rate: f64,
    /// Bits a second.
    pub(super) bitrate: u64,
}

/// Measures the newest groups that together cover the look-back; none while there is nothing.
pub(super) fn measure(window: &[Arc<Group>]) -> Option<Rates> {
    let (mut seconds, mut bytes, mut frames) = (0.0, 0u64, 0u64);
    for group in window.iter().rev() {
        seconds += group.end().since(group.header().start).seconds().max(0.0);
        bytes = bytes.saturating_add(group.bytes());
        frames += u64::from(group.len());
        if seconds >= LOOK_BACK_SECONDS {
            break;
        }
    }
    (seconds > 0.0).then(|| Rates {
        frame_rate: (frames as f64 / seconds * 1_000.0).round() / 1_000.0,
        bitrate: (bytes as f64 * 8.0 / seconds) as u64,
    })
}
