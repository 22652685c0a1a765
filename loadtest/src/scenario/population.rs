//! How many viewers should be there at a time, and how many change places: pure arithmetic.
//!
//! Not here: joining and leaving them (`run`).

use std::time::Duration;

/// Viewers of one kind over the time of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Population {
    /// How many there are in the end.
    pub(super) count: usize,
    /// When the first comes.
    pub(super) from: Duration,
    /// How long until the last has come.
    pub(super) ramp: Duration,
    /// How many leave and come anew, a second, once all are there.
    pub(super) churn: f64,
}

impl Population {
    /// How many have come at this time, without those that came in exchange.
    pub(super) fn at(&self, now: Duration) -> usize {
        let Some(since) = now.checked_sub(self.from) else { return 0 };
        if since >= self.ramp {
            return self.count;
        }
        let share = since.as_secs_f64() / self.ramp.as_secs_f64();
        ((self.count as f64 * share) as usize).min(self.count)
    }

    /// How many have been exchanged at this time.
    pub(super) fn exchanged(&self, now: Duration) -> usize {
        let since = now.saturating_sub(self.from + self.ramp);
        if self.count == 0 { 0 } else { (since.as_secs_f64() * self.churn) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn viewers_come_evenly_over_the_ramp_and_all_by_its_end() {
        let population = Population { count: 100, from: S, ramp: 10 * S, churn: 0.0 };
        for (at, expected) in [(0, 0), (1, 0), (2, 10), (6, 50), (11, 100), (60, 100)] {
            assert_eq!(population.at(at * S), expected, "at {at} s");
        }
        let at_once = Population { ramp: Duration::ZERO, ..population };
        assert_eq!((at_once.at(S / 2), at_once.at(S)), (0, 100));
    }

    #[test]
    fn churn_begins_after_the_ramp() {
        let population = Population { count: 5, from: S, ramp: S, churn: 2.5 };
        for (at, expected) in [(0, 0), (2, 0), (4, 5), (6, 10)] {
            assert_eq!(population.exchanged(at * S), expected, "at {at} s");
        }
        assert_eq!(Population { count: 0, ..population }.exchanged(60 * S), 0);
    }
}
