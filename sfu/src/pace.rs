//! How fast packets leave towards one viewer: a token bucket of bytes.
//!
//! Not here: which packets (`viewer`).

use std::time::{Duration, Instant};

/// Bytes a second that leave towards one viewer: above any stream's rate, so that only the start
/// and large keyframes are spread out, which overflow queues on the way otherwise.
const BYTES_PER_SECOND: u64 = 12_500_000;
/// Bytes that may leave at once: browsers' sockets hold 64 KiB.
const BURST_BYTES: i64 = 40 << 10;
/// Bytes that must have gathered until more leave, for a millisecond or so: packets go in batches.
const QUANTUM_BYTES: i64 = 12 << 10;

const _: () = assert!(QUANTUM_BYTES < BURST_BYTES);

/// A token bucket of bytes.
pub(crate) struct Pace {
    /// Bytes that may leave; what is sent is taken from it.
    pub(crate) budget: i64,
    at: Instant,
}

impl Pace {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { budget: BURST_BYTES, at: now }
    }

    pub(crate) fn refill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.at).as_micros();
        let bytes = micros.saturating_mul(u128::from(BYTES_PER_SECOND)) / 1_000_000;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.budget = self.budget.saturating_add(bytes).min(BURST_BYTES);
        self.at = self.at.max(now);
    }

    /// When bytes may leave again.
    pub(crate) fn ready(&self) -> Instant {
        let missing = QUANTUM_BYTES.saturating_sub(self.budget);
        let missing = u64::try_from(missing).unwrap_or_default();
        self.at + Duration::from_micros(missing.saturating_mul(1_000_000) / BYTES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_the_rate() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let (mut pace, mut now, mut sent) = (Pace::new(start), start, 0);
        while sent < 1_000_000 {
            pace.refill(now);
            while pace.budget > 0 {
                pace.budget -= 1_200;
                sent += 1_200;
            }
            now = pace.ready().max(now + Duration::from_micros(1));
        }
        let took = now - start;
        let expected = Duration::from_micros((1_000_000 - 40_960) * 2 / 25);
        assert!(took.abs_diff(expected) < Duration::from_millis(2), "{took:?} for {expected:?}");
    }
}
