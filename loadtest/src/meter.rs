//! What one viewer sees of its frames, and what many viewers see together.
//!
//! A frame counts as lost once it has left the window of recent sequence numbers unseen, or is
//! missing when the viewer leaves; within the window it may still come, and counts as reordered.
//! Not here: clocks (the caller says when), where stamps come from.

use serde::Serialize;

use crate::histogram::{Histogram, Percentiles};
use crate::stamp::Stamp;

/// Sequence numbers in which a frame may come out of order: four seconds at 30 frames a second,
/// longer than any server or player waits.
const WINDOW: u64 = 128;
/// Freezes are gaps longer than so many frame intervals …
const FREEZE_INTERVALS: u64 = 3;
/// … and than this, in microseconds: what an eye takes for a stop, not for a stutter.
const FREEZE_MIN_US: u64 = 200_000;
/// A viewer that leaves sooner, in microseconds, need not have had a frame.
const STAY_MIN_US: u64 = 1_000_000;

/// The meter of one viewer.
#[derive(Debug, Clone)]
pub struct Meter {
    interval_us: u64,
    joined_us: Option<u64>,
    startup_us: Option<u64>,
    left_us: Option<u64>,
    window: Option<Window>,
    last_arrival_us: u64,
    last_sent_us: u64,
    counts: Counts,
    latency: Histogram,
}

/// Sequence numbers seen lately: bit n is `highest - n`.
#[derive(Debug, Clone, Copy)]
struct Window {
    highest: u64,
    seen: u128,
}

/// Counts of a [`Meter`] and, added up, of [`Totals`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Different frames that came.
    pub frames: u64,
    /// Of them, those that were sent before the viewer began to join: their latency says when the
    /// viewer came, not how quick the server is, and is left out.
    pub backlog: u64,
    /// Frames that never came although later ones did.
    pub lost: u64,
    /// Frames that came after later ones.
    pub reordered: u64,
    /// Frames that came again.
    pub duplicates: u64,
    /// Gaps between arrivals that a viewer notices.
    pub freezes: u64,
    /// Time in such gaps beyond the usual interval, in microseconds.
    pub frozen_us: u64,
    /// The longest gap between arrivals, in microseconds.
    pub longest_gap_us: u64,
    /// Times that the stream began anew: its publisher returned with numbers from 0.
    pub restarts: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.backlog += other.backlog;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.freezes += other.freezes;
        self.frozen_us += other.frozen_us;
        self.longest_gap_us = self.longest_gap_us.max(other.longest_gap_us);
        self.restarts += other.restarts;
    }
}

impl Meter {
    /// A meter of a viewer to whom something should come every `expected_interval_us`
    /// microseconds: a frame by WebRTC, a part by LL-HLS.
    #[must_use]
    pub fn new(expected_interval_us: u64) -> Self {
        Self {
            interval_us: expected_interval_us,
            joined_us: None,
            startup_us: None,
            left_us: None,
            window: None,
            last_arrival_us: 0,
            last_sent_us: 0,
            counts: Counts::default(),
            latency: Histogram::default(),
        }
    }

    /// The viewer begins to join: its first request leaves.
    pub fn on_join(&mut self, now_us: u64) {
        self.joined_us = Some(now_us);
    }

    /// A frame came, whole or its first bytes as the caller has it. Gives its latency in
    /// microseconds, none of a duplicate or of a frame from before the viewer joined.
    pub fn on_frame(&mut self, stamp: Stamp, now_us: u64) -> Option<u64> {
        if !self.place(stamp) {
            self.counts.duplicates += 1;
            return None;
        }
        self.arrive(now_us);
        self.counts.frames += 1;
        self.last_sent_us = self.last_sent_us.max(stamp.sent_us);
        if self.joined_us.is_some_and(|joined| stamp.sent_us < joined) {
            self.counts.backlog += 1;
            return None;
        }
        let latency = now_us.saturating_sub(stamp.sent_us);
        self.latency.record(latency);
        Some(latency)
    }

    /// Notes a sequence number; whether it is new.
    fn place(&mut self, stamp: Stamp) -> bool {
        let sequence = stamp.sequence;
        let Some(window) = &mut self.window else {
            // What lies before the first frame is not missed.
            self.window = Some(Window { highest: sequence, seen: u128::MAX });
            return true;
        };
        if let Some(ahead) = sequence.checked_sub(window.highest).filter(|ahead| *ahead > 0) {
            let kept = if ahead < WINDOW { window.seen << ahead | 1 } else { 1 };
            // Unseen numbers that leave the window, and those that the jump passes over.
            let leaving =
                if ahead < WINDOW { window.seen >> (WINDOW - ahead) } else { window.seen };
            let gone = ahead.min(WINDOW);
            self.counts.lost += gone - u64::from(leaving.count_ones());
            self.counts.lost += ahead - gone;
            *window = Window { highest: sequence, seen: kept };
            return true;
        }
        let behind = window.highest - sequence;
        if behind >= WINDOW {
            // Long past: an old copy, unless it was sent after all others.
            if stamp.sent_us <= self.last_sent_us {
                return false;
            }
            self.counts.lost += u64::from(window.seen.count_zeros());
            self.counts.restarts += 1;
            self.window = Some(Window { highest: sequence, seen: u128::MAX });
            return true;
        }
        let bit = 1_u128 << behind;
        let new = window.seen & bit == 0;
        window.seen |= bit;
        self.counts.reordered += u64::from(new);
        new
    }

    fn arrive(&mut self, now_us: u64) {
        if self.counts.frames == 0 {
            self.startup_us = self.joined_us.map(|joined| now_us.saturating_sub(joined));
        } else {
            self.gap(now_us);
        }
        self.last_arrival_us = now_us;
    }

    fn gap(&mut self, now_us: u64) {
        let gap = now_us.saturating_sub(self.last_arrival_us);
        self.counts.longest_gap_us = self.counts.longest_gap_us.max(gap);
        if gap > (FREEZE_INTERVALS * self.interval_us).max(FREEZE_MIN_US) {
            self.counts.freezes += 1;
            self.counts.frozen_us += gap - self.interval_us.min(gap);
        }
    }

    /// The viewer leaves while frames should still come: a freeze that lasts counts too.
    pub fn on_leave(&mut self, now_us: u64) {
        self.left_us = Some(now_us);
        if self.counts.frames > 0 {
            self.gap(now_us);
        }
    }

    /// What was counted so far; frames that are missing now count as lost.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let missing = self.window.map_or(0, |window| u64::from(window.seen.count_zeros()));
        Counts { lost: self.counts.lost + missing, ..self.counts }
    }

    /// Whether it had no frame although it stayed long enough for one.
    fn is_without_frames(&self) -> bool {
        let stayed = self.joined_us.zip(self.left_us).map(|(from, to)| to.saturating_sub(from));
        self.counts.frames == 0 && stayed.is_none_or(|stayed| stayed >= STAY_MIN_US)
    }

    /// From joining to the first frame, in microseconds.
    #[must_use]
    pub fn startup_us(&self) -> Option<u64> {
        self.startup_us
    }
}

/// What many viewers saw.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Viewers added up.
    pub viewers: u64,
    /// Of them, those that never had a frame, although they stayed a second or were cut off.
    pub without_frames: u64,
    /// Of them, those that froze at least once.
    pub frozen_viewers: u64,
    /// Of them, those that lost at least one frame.
    pub losing_viewers: u64,
    /// Their counts.
    pub counts: Counts,
    /// Latency of every frame.
    pub latency: Histogram,
    /// Start-up time of every viewer that had a frame.
    pub startup: Histogram,
    /// Mean latency of each viewer: shows whether some are worse off than others.
    pub viewer_latency: Histogram,
}

impl Totals {
    /// Adds a viewer.
    pub fn add(&mut self, meter: &Meter) {
        let counts = meter.counts();
        self.viewers += 1;
        self.without_frames += u64::from(meter.is_without_frames());
        self.frozen_viewers += u64::from(counts.freezes > 0);
        self.losing_viewers += u64::from(counts.lost > 0);
        self.counts.add(&counts);
        self.latency.merge(&meter.latency);
        if let Some(startup) = meter.startup_us {
            self.startup.record(startup);
        }
        if counts.frames > 0 {
            self.viewer_latency.record((meter.latency.percentiles().mean_ms * 1_000.0) as u64);
        }
    }

    /// Adds other viewers.
    pub fn merge(&mut self, other: &Self) {
        self.viewers += other.viewers;
        self.without_frames += other.without_frames;
        self.frozen_viewers += other.frozen_viewers;
        self.losing_viewers += other.losing_viewers;
        self.counts.add(&other.counts);
        self.latency.merge(&other.latency);
        self.startup.merge(&other.startup);
        self.viewer_latency.merge(&other.viewer_latency);
    }

    /// Percentiles of the latency of frames.
    #[must_use]
    pub fn latency(&self) -> Percentiles {
        self.latency.percentiles()
    }

    /// Percentiles of the viewers' start-up times.
    #[must_use]
    pub fn startup(&self) -> Percentiles {
        self.startup.percentiles()
    }

    /// Lost frames as a share of those that should have come, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let expected = self.counts.frames + self.counts.lost;
        self.counts.lost as f64 / expected.max(1) as f64
    }
}

#[cfg(test)]
mod tests;
