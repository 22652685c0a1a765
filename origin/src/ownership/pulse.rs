//! Whether the node has looked of late whether its streams are still its own.
//!
//! A process that was stopped (SIGSTOP, a frozen machine) wakes with frames in its sockets and
//! does not know what the cluster decided meanwhile. Not here: the looking (`bridge`).

use std::sync::atomic::{AtomicI64, Ordering};

use headwater_media::WallTime;

/// After a pause longer than this no frame is taken before the node has asked the cluster. Longer
/// than a busy machine keeps a task waiting; a stop that is shorter is noticed when the view of the
/// cluster comes, some milliseconds late, and what was begun meanwhile is torn.
const PAUSE_MAX_MICROS: i64 = 500_000;

/// When the node last knew that its streams were its own. Read for each frame, without a lock.
#[derive(Debug)]
pub struct Pulse {
    /// Microseconds of wall-clock time; the far future until the first beat.
    at: AtomicI64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { at: AtomicI64::new(i64::MAX) }
    }
}

impl Pulse {
    /// The node knows now.
    pub fn beat(&self, now: WallTime) {
        self.at.store(now.micros(), Ordering::Relaxed);
    }

    /// There is nobody to ask: the node is never late.
    pub fn rest(&self) {
        self.at.store(i64::MAX, Ordering::Relaxed);
    }

    /// Whether it must ask first.
    #[must_use]
    pub fn is_late(&self, now: WallTime) -> bool {
        now.micros().saturating_sub(self.at.load(Ordering::Relaxed)) > PAUSE_MAX_MICROS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_paused_must_ask_before_it_takes_frames() {
        let (pulse, now) = (Pulse::default(), WallTime(1_700_000_000_000_000));
        assert!(!pulse.is_late(now), "one that nobody beats is never late");
        pulse.beat(now);
        assert!(!pulse.is_late(now.plus_micros(PAUSE_MAX_MICROS)));
        assert!(pulse.is_late(now.plus_micros(PAUSE_MAX_MICROS + 1)));
        pulse.rest();
        assert!(!pulse.is_late(now.plus_micros(60_000_000)), "a node by itself asks nobody");
        pulse.beat(now);
        assert!(
            !pulse.is_late(now.plus_micros(-5_000_000)),
            "a clock that was set back is no pause"
        );
    }
}
