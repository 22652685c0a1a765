//! How many players follow a stream by its playlists, estimated from what they take: whoever
//! follows a live stream takes one second of it a second.
//!
//! Not here: who they are (playlists' addresses bear no session, and many may share an address).

use std::time::Instant;

use super::snapshot::Snapshot;

/// Seconds that are remembered.
const MEMORY_S: u64 = 32;
/// Seconds that are looked back on: several parts of the longest, and a few reloads of a player
/// that asks once a target duration.
const LOOK_BACK_S_MIN: u64 = 6;
const LOOK_BACK_S_MAX: u64 = MEMORY_S - 2;
/// What is assumed while the target duration is not known, in seconds.
const TARGET_GUESS_S: u32 = 2;
/// One request counts for so many target durations at most: a player that was away that long
/// starts anew.
const TARGETS_MAX: i64 = 3;

/// What the players of one stream took lately.
#[derive(Debug)]
pub struct Audience {
    began: Instant,
    /// Second since `began`, and media time taken in it in microseconds.
    seconds: [(u64, i64); MEMORY_S as usize],
}

impl Audience {
    /// Nobody yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { began: now, seconds: [(0, 0); MEMORY_S as usize] }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }

    /// Somebody took `micros` of media time.
    pub fn note(&mut self, now: Instant, micros: i64) {
        let second = self.second(now);
        let at = usize::try_from(second % MEMORY_S).unwrap_or(0);
        if let Some(slot) = self.seconds.get_mut(at) {
            if slot.0 != second {
                *slot = (second, 0);
            }
            slot.1 = slot.1.saturating_add(micros);
        }
    }

    /// Players that follow the stream, whose target duration is `target_s`.
    #[must_use]
    pub fn viewers(&self, now: Instant, target_s: Option<u32>) -> usize {
        let target = u64::from(target_s.unwrap_or(TARGET_GUESS_S));
        let span = (target * 3).clamp(LOOK_BACK_S_MIN, LOOK_BACK_S_MAX);
        let second = self.second(now);
        // Whole seconds for the count; the one that runs shows whoever has just come.
        let taken = |from: u64, to: u64| -> i64 {
            let within = |(at, _): &&(u64, i64)| (from..to).contains(at);
            self.seconds.iter().filter(within).fold(0, |sum, (_, m)| sum.saturating_add(*m))
        };
        let whole = taken(second.saturating_sub(span), second);
        let rounded = (whole as f64 / (span as f64 * 1e6)).round() as usize;
        rounded.max(usize::from(taken(second.saturating_sub(span), second + 1) > 0))
    }
}

/// The media time, in microseconds, by which a playlist is ahead of what its reader has: of what
/// was asked for with `_HLS_msn` and `_HLS_part` on. Who asks for nothing in particular reads the
/// playlist about once a target duration.
#[must_use]
pub fn taken_micros(snapshot: &Snapshot, msn: Option<u64>, part: Option<u64>) -> i64 {
    let target_s = snapshot.target_duration_s.unwrap_or(TARGET_GUESS_S);
    let target = i64::from(target_s).saturating_mul(1_000_000);
    let Some(msn) = msn else { return target };
    let newer = snapshot.segments.iter().rev().take_while(|segment| segment.seq.0 >= msn);
    let micros = newer.map(|segment| match part {
        Some(part) if segment.seq.0 == msn => {
            let known = usize::try_from(part).unwrap_or(usize::MAX);
            segment.parts.iter().skip(known).map(|part| part.duration.micros()).sum()
        }
        None if segment.is_open() => 0,
        _ => segment.micros(),
    });
    micros.fold(0, i64::saturating_add).clamp(0, target.saturating_mul(TARGETS_MAX))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests: an instant to count from")]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `players` take a part of `part_ms` each time one is born, for `seconds`.
    fn follow(audience: &mut Audience, began: Instant, players: u32, part_ms: u64, seconds: u64) {
        for part in 0..seconds * 1_000 / part_ms {
            let now = began + Duration::from_millis(part * part_ms + 3);
            for _ in 0..players {
                audience.note(now, i64::try_from(part_ms * 1_000).unwrap());
            }
        }
    }

    #[test]
    fn players_are_counted_once_each_however_often_they_ask() {
        let began = Instant::now();
        for (players, part_ms) in [(1, 200), (7, 200), (7, 1_000), (3, 100), (500, 2_000)] {
            let mut audience = Audience::new(began);
            assert_eq!(audience.viewers(began, None), 0);
            follow(&mut audience, began, players, part_ms, 20);
            let now = began + Duration::from_secs(20);
            assert_eq!(audience.viewers(now, Some(2)), players as usize, "parts of {part_ms} ms");
            assert_eq!(audience.viewers(now + Duration::from_secs(60), Some(2)), 0);
        }
    }

    #[test]
    fn one_who_has_just_come_is_seen_at_once() {
        let began = Instant::now();
        let mut audience = Audience::new(began);
        audience.note(began + Duration::from_millis(10), 200_000);
        assert_eq!(audience.viewers(began + Duration::from_millis(20), Some(2)), 1);
        assert_eq!(audience.viewers(began + Duration::from_secs(9), Some(2)), 0);
    }
}
