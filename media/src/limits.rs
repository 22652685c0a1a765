//! The caps of the live model. Each has a name and, in the node, a config key.
//!
//! Not here: limits of protocols and sessions (their own modules).

use std::time::Duration;

/// What a track may keep, and how large its parts may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusLimits {
    /// Media time of ended groups kept behind the newest one (`[media] window`, 30 s). Longer
    /// lets late readers and HTTP clients reach further back and costs memory in proportion.
    pub window: Duration,
    /// Payload bytes a track keeps at most (`[limits] track_bytes`, 64 MiB); the oldest groups
    /// go first, the newest always stays.
    pub track_bytes: usize,
    /// Frames a group holds at most (`[limits] group_frames`, 8192): a publisher that sends
    /// thousands of tiny frames gets its group cut, not a growing one.
    pub group_frames: u32,
    /// Payload bytes of one frame (`[limits] frame_bytes`, 16 MiB).
    pub frame_bytes: usize,
    /// Tracks of a broadcast (`[limits] tracks`, 16).
    pub tracks: usize,
}

impl Default for BusLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            track_bytes: 64 << 20,
            group_frames: 8_192,
            frame_bytes: 16 << 20,
            tracks: 16,
        }
    }
}
