//! Times: of the run, and of the media.
//!
//! Not here: the clock (the drivers read it).

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of the run: microseconds since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(u64);

impl At {
    /// The moment `micros` after the run's begin.
    #[must_use]
    pub fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `time` after the run's begin.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(micros(time))
    }

    /// How long after `earlier` it is; nothing where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Since the run's begin.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl Add<Duration> for At {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(micros(time)))
    }
}

/// A position on a stream's timeline, or a length on it: microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Media(i64);

impl Media {
    /// So many microseconds.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// As microseconds.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// As a duration; nothing where it is negative.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for Media {
    fn from(time: Duration) -> Self {
        Self(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Add for Media {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Media {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Whole microseconds.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
