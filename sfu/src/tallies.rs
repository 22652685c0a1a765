//! What a peer counts of its engine's words: totals turned into news, frames that failed.
//!
//! Not here: the session's counters (`stats`).

use std::time::{Duration, Instant};

/// Frames of a publisher that could not be put together, in a [`BAD_FRAMES_SPAN`]: more, and
/// nothing of what it sends is of use.
const BAD_FRAMES_MAX: u32 = 100;
const BAD_FRAMES_SPAN: Duration = Duration::from_secs(10);

/// Frames that the engine could not put together, since a moment.
pub(crate) struct BadFrames {
    since: Instant,
    count: u32,
}

impl BadFrames {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    /// Counts one; false when there are too many.
    pub(crate) fn count(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) > BAD_FRAMES_SPAN {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count <= BAD_FRAMES_MAX
    }
}

/// The engine's totals by track, summed over tracks since the last report.
#[derive(Default)]
pub(crate) struct Totals {
    per_track: Vec<(String, u64, u64)>,
}

impl Totals {
    /// What is new in a track's totals: NACKs, and PLIs and FIRs.
    pub(crate) fn news(&mut self, track: String, nacks: u64, plis: u64) -> (u64, u64) {
        let at = match self.per_track.iter().position(|(name, ..)| *name == track) {
            Some(at) => at,
            None => {
                self.per_track.push((track, 0, 0));
                self.per_track.len() - 1
            }
        };
        let Some((_, old_nacks, old_plis)) = self.per_track.get_mut(at) else { return (0, 0) };
        let news = (nacks.saturating_sub(*old_nacks), plis.saturating_sub(*old_plis));
        (*old_nacks, *old_plis) = (nacks, plis);
        news
    }
}
