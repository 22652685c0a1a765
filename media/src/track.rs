//! What a track is: its name, its configuration, and the rule that cuts its groups into parts.
//!
//! Not here: the frames themselves (`frame`), how they move (`bus`).

use std::sync::Arc;
use std::time::Duration;

use crate::bus::TrackShared;
use crate::codec::{Codec, MediaKind};
use crate::id::{ConfigVersion, TrackName};
use crate::time::{ClockRate, MediaDuration};

/// How a group is cut into parts. Chosen by the owner at the stream's start and carried with the
/// track, so that every node cuts alike; the cut depends on the frames' durations alone.
///
/// `target` stays for the life of the stream; `frame` may follow the source's cadence from group
/// to group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartPlan {
    /// Longest part, in ticks of the track's rate: `PART-TARGET`.
    pub target_ticks: u32,
    /// The expected duration of a frame, rounded down to a tick.
    pub frame_ticks: u32,
}

impl PartPlan {
    /// The plan for frames of `frame_num / frame_den` ticks each: the largest whole number of
    /// frames that fits `configured`, and at least one.
    #[must_use]
    pub fn for_cadence(
        frame_num: u32,
        frame_den: u32,
        rate: ClockRate,
        configured: Duration,
    ) -> Self {
        let (num, den) = (u64::from(frame_num.max(1)), u64::from(frame_den.max(1)));
        let room = configured.as_micros() * u128::from(rate.hz()) / 1_000_000;
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        let frames = (room.saturating_mul(den) / num).max(1);
        let target = frames.saturating_mul(num).div_ceil(den);
        Self {
            target_ticks: u32::try_from(target).unwrap_or(u32::MAX),
            frame_ticks: u32::try_from(num / den).unwrap_or(u32::MAX).max(1),
        }
    }

    /// Whether a part that has come to `part_ticks` is full, that is, has no room for one more
    /// expected frame. This is the whole rule of where parts end, but for a group's end.
    #[must_use]
    pub fn is_full(&self, part_ticks: u64) -> bool {
        part_ticks.saturating_add(u64::from(self.frame_ticks)) > u64::from(self.target_ticks)
    }

    /// The longest part as a duration.
    #[must_use]
    pub fn target(&self, rate: ClockRate) -> MediaDuration {
        MediaDuration::new(i64::from(self.target_ticks), rate)
    }
}

/// A track's configuration: everything an init section says. A change makes a new one with a
/// higher `version`, and takes effect at a group's start.
#[derive(Clone, PartialEq, Debug)]
pub struct TrackConfig {
    /// The `n` of `init-{n}.mp4`.
    pub version: ConfigVersion,
    /// The codec and its headers.
    pub codec: Codec,
    /// Ticks a second of the frames' times: 90 kHz for video, the sample rate for audio.
    pub rate: ClockRate,
    /// Where parts end.
    pub parts: PartPlan,
}

/// A reader's handle on a track: cheap to clone, gives cursors.
#[derive(Clone)]
pub struct Track {
    pub(crate) shared: Arc<TrackShared>,
}

impl Track {
    /// The track's name, which is its rendition's name.
    #[must_use]
    pub fn name(&self) -> &TrackName {
        &self.shared.name
    }

    /// Video or audio.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        self.shared.kind
    }

    /// Whether both are handles on one track.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_in_a_part(num: u32, den: u32) -> (u64, f64) {
        let plan = PartPlan::for_cadence(num, den, ClockRate::VIDEO, Duration::from_millis(200));
        let mut count = 0u64;
        loop {
            count += 1;
            let ticks = count * u64::from(num) / u64::from(den);
            if plan.is_full(ticks) {
                return (count, ticks as f64 / f64::from(plan.target_ticks));
            }
        }
    }

    #[test]
    fn parts_hold_the_most_whole_frames_within_the_target() {
        for (num, den, frames) in [
            (3_750, 1, 4),  // 24 fps
            (3_600, 1, 5),  // 25
            (3_003, 1, 5),  // 29.97
            (3_000, 1, 6),  // 30
            (1_800, 1, 10), // 50
            (3_003, 2, 11), // 59.94
            (1_500, 1, 12), // 60
            (90_000, 1, 1), // 1
        ] {
            let (count, fill) = frames_in_a_part(num, den);
            assert_eq!(count, frames, "{num}/{den}");
            assert!((0.85..=1.0).contains(&fill), "{num}/{den} fills {fill}");
        }
    }
}
