//! A log-linear histogram of durations in microseconds: 2.3 KB a viewer, so that each of
//! thousands can have its own, and merging is adding.
//!
//! Exact to 16 µs below half a millisecond and to 3 % above, up to 67 s.
//! Not here: what is measured (`meter`).

use serde::Serialize;

/// Microseconds of the finest step.
const UNIT_US: u64 = 16;
/// Steps of an octave, and of the linear beginning.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Octaves after the linear beginning: `UNIT_US * STEPS << OCTAVES` is 67 s.
const OCTAVES: usize = 17;
const BUCKETS: usize = STEPS * (OCTAVES + 1);

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Empty until something is recorded.
    counts: Vec<u32>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

/// The percentiles of a [`Histogram`], in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// Half were at most this.
    pub p50_ms: f64,
    /// 90 % were at most this.
    pub p90_ms: f64,
    /// 95 % were at most this.
    pub p95_ms: f64,
    /// 99 % were at most this.
    pub p99_ms: f64,
    /// The largest, exactly.
    pub max_ms: f64,
}

impl Histogram {
    /// Records one duration; what exceeds the range counts as its end.
    pub fn record(&mut self, us: u64) {
        if self.counts.is_empty() {
            self.counts.resize(BUCKETS, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count = count.saturating_add(1);
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    /// Adds everything that `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts.resize(BUCKETS, 0);
        }
        for (mine, more) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*more);
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest, in microseconds; 0 of none.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The duration that `percent` % of those recorded do not exceed, in microseconds; 0 of none.
    #[must_use]
    pub fn percentile_us(&self, percent: f64) -> u64 {
        let wanted = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return upper_us(index).min(self.max_us);
            }
        }
        self.max_us
    }

    /// The usual percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |percent| self.percentile_us(percent) as f64 / 1_000.0;
        Percentiles {
            count: self.count,
            mean_ms: self.sum_us as f64 / self.count.max(1) as f64 / 1_000.0,
            p50_ms: at(50.0),
            p90_ms: at(90.0),
            p95_ms: at(95.0),
            p99_ms: at(99.0),
            max_ms: self.max_us as f64 / 1_000.0,
        }
    }

    /// The cumulative distribution: upper bounds in milliseconds, with the share of 0 to 1 that
    /// does not exceed them; only where something was recorded.
    #[must_use]
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        let mut seen = 0_u64;
        let mut points = Vec::new();
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += u64::from(*count);
            let upper = upper_us(index).min(self.max_us);
            points.push((upper as f64 / 1_000.0, seen as f64 / self.count.max(1) as f64));
        }
        points
    }
}

fn bucket(us: u64) -> usize {
    let units = us / UNIT_US;
    if units < STEPS as u64 {
        return units as usize;
    }
    // The highest set bit names the octave, the next `STEP_BITS` the step in it.
    let octave = units.ilog2() - STEP_BITS;
    let step = (units >> octave) as usize - STEPS;
    (STEPS * (octave as usize + 1) + step).min(BUCKETS - 1)
}

/// The end of a bucket.
fn upper_us(bucket: usize) -> u64 {
    let (octave, step) = (bucket / STEPS, bucket % STEPS);
    match octave.checked_sub(1) {
        None => (step as u64 + 1) * UNIT_US - 1,
        Some(shift) => (((STEPS + step + 1) as u64) << shift) * UNIT_US - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket_within_three_percent() {
        for us in (0..60_000_000).step_by(997) {
            let index = bucket(us);
            let upper = upper_us(index);
            assert!(upper >= us, "{us} in {index}, which ends at {upper}");
            let slack = (us as f64 * 0.032).max(UNIT_US as f64);
            assert!((upper - us) as f64 <= slack, "{us} in {index}, which ends at {upper}");
            if index > 0 {
                assert!(upper_us(index - 1) < us);
            }
        }
    }

    #[test]
    fn percentiles_of_a_ramp_are_its_places() {
        let mut histogram = Histogram::default();
        for ms in 1..=1_000 {
            histogram.record(ms * 1_000);
        }
        let got = histogram.percentiles();
        for (value, expected) in
            [(got.p50_ms, 500.0), (got.p90_ms, 900.0), (got.p95_ms, 950.0), (got.p99_ms, 990.0)]
        {
            assert!((value / expected - 1.0).abs() < 0.035, "{value} is not {expected}");
        }
        assert_eq!((got.max_ms, got.count), (1_000.0, 1_000));
        assert_eq!(got.mean_ms, 500.5);
    }

    #[test]
    fn merging_is_as_recording_all_in_one() {
        let (mut all, mut one, mut two) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for us in [0, 5, 900, 33_000, 1_000_000, u64::MAX] {
            all.record(us);
            if us % 2 == 0 { &mut one } else { &mut two }.record(us);
        }
        one.merge(&two);
        assert_eq!(one.percentiles(), all.percentiles());
        assert_eq!(one.distribution(), all.distribution());
        assert_eq!(all.distribution().last().unwrap().1, 1.0);
    }

    #[test]
    fn an_empty_histogram_says_nothing() {
        let empty = Histogram::default();
        assert_eq!(empty.percentiles(), Percentiles::default());
        assert!(empty.distribution().is_empty());
    }
}
