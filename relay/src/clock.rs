//! By how much the clock of the node at the other end differs from ours.
//!
//! Not here: who asks and when (`child`).

use std::collections::VecDeque;
use std::time::Duration;

use headwater_media::WallTime;

/// The best of so many questions counts: at ten a second, what was measured in the last 1.6 s.
const SAMPLES_MAX: usize = 16;

/// An estimate of the offset between two wall clocks from questions and answers (the arithmetic of
/// RFC 5905 §8). The answer with the shortest way is the least wrong: its error is at most half
/// its round-trip time.
#[derive(Clone, Debug, Default)]
pub struct ClockOffset {
    samples: VecDeque<(i64, i64)>,
}

impl ClockOffset {
    /// Takes an answer: the question left at `sent` and its answer came at `now` by our clock, and
    /// the other node had it at `received` by its own. Clocks that were set in between are passed
    /// over.
    pub fn take(&mut self, sent: WallTime, received: WallTime, now: WallTime) {
        let round_trip = now.micros_since(sent);
        if round_trip < 0 {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let offset = received.micros_since(sent.plus_micros(round_trip / 2));
        self.samples.push_back((round_trip, offset));
    }

    /// The other node's clock less ours, in microseconds.
    #[must_use]
    pub fn micros(&self) -> Option<i64> {
        self.samples.iter().min_by_key(|(round_trip, _)| *round_trip).map(|(_, offset)| *offset)
    }

    /// The shortest round trip of late, the other node's program included.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        let shortest = self.samples.iter().map(|(round_trip, _)| *round_trip).min()?;
        Some(Duration::from_micros(shortest.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_with_the_shortest_way_counts() {
        let mut clock = ClockOffset::default();
        assert_eq!(clock.micros(), None);
        // The other clock is 5 s ahead; the way there takes 1 ms, the way back 9 ms.
        clock.take(WallTime(0), WallTime(5_001_000), WallTime(10_000));
        assert_eq!(clock.micros(), Some(4_996_000));
        // Both ways take 1 ms.
        clock.take(WallTime(20_000), WallTime(5_021_000), WallTime(22_000));
        assert_eq!(clock.micros(), Some(5_000_000));
        assert_eq!(clock.round_trip(), Some(Duration::from_millis(2)));
    }

    #[test]
    fn a_clock_that_was_set_back_between_question_and_answer_is_passed_over() {
        let mut clock = ClockOffset::default();
        clock.take(WallTime(10_000), WallTime(0), WallTime(9_000));
        assert_eq!(clock.micros(), None);
    }
}
