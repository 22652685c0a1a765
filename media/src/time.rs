//! Times that know their unit: positions and lengths on a track's timeline, and wall-clock time.
//!
//! Not here: reading a clock. Cores are given the time; driver files read it.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Ticks a second of a track's timeline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClockRate(NonZeroU32);

impl ClockRate {
    /// 90 kHz: every video track, as in RTP and MPEG-TS.
    pub const VIDEO: Self = Self(NonZeroU32::new(90_000).unwrap());
    /// 48 kHz: Opus.
    pub const OPUS: Self = Self(NonZeroU32::new(48_000).unwrap());
    /// 1 kHz: RTMP's time stamps.
    pub const MILLIS: Self = Self(NonZeroU32::new(1_000).unwrap());
    /// 1 MHz.
    pub const MICROS: Self = Self(NonZeroU32::new(1_000_000).unwrap());

    /// A rate of `hz` ticks a second; none when `hz` is 0.
    #[must_use]
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    /// Ticks a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0.get()
    }
}

/// `ticks * to / from`, to the nearest, ties away from zero; saturates.
fn rescale(ticks: i64, from: ClockRate, to: ClockRate) -> i64 {
    if from == to {
        return ticks;
    }
    let (from, to) = (i128::from(from.hz()), i128::from(to.hz()));
    let scaled = i128::from(ticks) * to;
    let half = if scaled < 0 { -(from / 2) } else { from / 2 };
    let rounded = (scaled + half) / from;
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

/// A position on one track's timeline, in ticks of `rate`. Compare and subtract only positions of
/// one timeline; mixing rates is an explicit [`MediaTime::to_rate`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaTime {
    ticks: i64,
    rate: ClockRate,
}

impl MediaTime {
    /// `ticks` at `rate`.
    #[must_use]
    pub const fn new(ticks: i64, rate: ClockRate) -> Self {
        Self { ticks, rate }
    }

    /// Ticks of [`Self::rate`].
    #[must_use]
    pub const fn ticks(self) -> i64 {
        self.ticks
    }

    /// The unit.
    #[must_use]
    pub const fn rate(self) -> ClockRate {
        self.rate
    }

    /// The same position in other ticks, to the nearest.
    #[must_use]
    pub fn to_rate(self, rate: ClockRate) -> Self {
        Self { ticks: rescale(self.ticks, self.rate, rate), rate }
    }

    /// Microseconds from the timeline's zero.
    #[must_use]
    pub fn micros(self) -> i64 {
        rescale(self.ticks, self.rate, ClockRate::MICROS)
    }

    /// `self - earlier`, in `self`'s rate; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> MediaDuration {
        let earlier = earlier.to_rate(self.rate);
        MediaDuration { ticks: self.ticks.saturating_sub(earlier.ticks), rate: self.rate }
    }

    /// The position `by` later (earlier where `by` is negative), in `self`'s rate.
    #[must_use]
    pub fn plus(self, by: MediaDuration) -> Self {
        Self { ticks: self.ticks.saturating_add(by.to_rate(self.rate).ticks), rate: self.rate }
    }
}

impl fmt::Debug for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ticks, self.rate.hz())
    }
}

/// A length on a track's timeline, in ticks of `rate`; signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaDuration {
    ticks: i64,
    rate: ClockRate,
}

impl MediaDuration {
    /// `ticks` at `rate`.
    #[must_use]
    pub const fn new(ticks: i64, rate: ClockRate) -> Self {
        Self { ticks, rate }
    }

    /// `duration` in ticks of `rate`, to the nearest.
    #[must_use]
    pub fn from_std(duration: Duration, rate: ClockRate) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::new(rescale(micros, ClockRate::MICROS, rate), rate)
    }

    /// Ticks of [`Self::rate`].
    #[must_use]
    pub const fn ticks(self) -> i64 {
        self.ticks
    }

    /// The unit.
    #[must_use]
    pub const fn rate(self) -> ClockRate {
        self.rate
    }

    /// The same length in other ticks, to the nearest.
    #[must_use]
    pub fn to_rate(self, rate: ClockRate) -> Self {
        Self { ticks: rescale(self.ticks, self.rate, rate), rate }
    }

    /// Microseconds, signed.
    #[must_use]
    pub fn micros(self) -> i64 {
        rescale(self.ticks, self.rate, ClockRate::MICROS)
    }

    /// Seconds as a float, for display and playlists.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.ticks as f64 / f64::from(self.rate.hz())
    }
}

impl fmt::Debug for MediaDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ticks, self.rate.hz())
    }
}

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The time `micros` later (earlier where negative).
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// `self - earlier` in microseconds; negative when `earlier` is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// ISO 8601 with milliseconds and `Z`, as `EXT-X-PROGRAM-DATE-TIME` wants it
    /// (RFC 8216bis §4.4.4.6). Civil-date arithmetic on the proleptic Gregorian calendar.
    #[must_use]
    pub fn to_rfc3339_millis(self) -> String {
        let millis = self.0.div_euclid(1_000);
        let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        // Days counted from 0000-03-01, so that the leap day is a year's last.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (seconds, millis) = (of_day / 1_000 % 60, of_day % 1_000);
        format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_rounds_to_the_nearest_tick_and_never_overflows() {
        let time = MediaTime::new(1_001, ClockRate::MILLIS);
        assert_eq!(time.to_rate(ClockRate::VIDEO).ticks(), 90_090);
        assert_eq!(MediaTime::new(-1, ClockRate::VIDEO).to_rate(ClockRate::MILLIS).ticks(), 0);
        assert_eq!(MediaTime::new(-46, ClockRate::VIDEO).to_rate(ClockRate::MILLIS).ticks(), -1);
        let far = MediaTime::new(i64::MAX, ClockRate::MILLIS);
        assert_eq!(far.to_rate(ClockRate::VIDEO).ticks(), i64::MAX);
        assert_eq!(far.plus(MediaDuration::new(1, ClockRate::MILLIS)).ticks(), i64::MAX);
    }

    #[test]
    fn wall_time_prints_as_iso_8601() {
        assert_eq!(WallTime(0).to_rfc3339_millis(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallTime(951_782_400_123_456).to_rfc3339_millis(), "2000-02-29T00:00:00.123Z");
        assert_eq!(WallTime(1_795_384_844_999_999).to_rfc3339_millis(), "2026-11-22T22:00:44.999Z");
        assert_eq!(WallTime(-1).to_rfc3339_millis(), "1969-12-31T23:59:59.999Z");
    }
}
