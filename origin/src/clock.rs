//! The node's clock (driver): wall-clock time that never steps.
//!
//! Not here: media time. Cores are given a `WallTime` and never ask for one.
#![allow(clippy::disallowed_methods, reason = "driver: the one place that reads the clock")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use headwater_media::WallTime;

/// Wall-clock time anchored to the system's clock once, then advanced by the monotonic clock, so
/// that a step of the system's clock tears no timeline.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    wall: WallTime,
}

impl Clock {
    /// Anchors to the system's clock as it stands.
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        Self { instant: Instant::now(), wall }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> WallTime {
        self.at(Instant::now())
    }

    /// The time at `instant`.
    #[must_use]
    pub fn at(&self, instant: Instant) -> WallTime {
        let micros =
            |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.wall.plus_micros(micros(after)),
            None => self.wall.plus_micros(-micros(self.instant.duration_since(instant))),
        }
    }
}
