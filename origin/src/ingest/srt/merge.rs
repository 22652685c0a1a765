//! Puts the frames of several tracks into one order, by decoding time.
//!
//! A frame goes out once no other track can have an earlier one: when every other track has a
//! later frame waiting, has ended, or has kept the frame waiting for [`HOLD`].
//! Not here: reading the bus (`play`), the multiplexer (`media::ts`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::{Frame, Group};

/// How long a frame waits for other tracks' earlier frames. Encoders interleave to within a few
/// tens of milliseconds; a track that lags more is sent late rather than delay the others.
const HOLD: Duration = Duration::from_millis(60);
/// Frames of a track that wait at most; beyond that the first goes out whatever the others do.
const WAITING_MAX: usize = 256;

/// A frame with the group it is of.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) frame: Frame,
    pub(super) group: Arc<Group>,
    /// It is the first of its group.
    pub(super) first: bool,
}

impl Waiting {
    /// Order of decoding, across breaks of the timeline.
    fn key(&self) -> (u64, i64) {
        (self.group.header().discontinuity.0, self.frame.dts.micros())
    }
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<(Instant, Waiting)>,
    ended: bool,
}

/// See the module.
pub(super) struct Merge {
    lanes: Vec<Lane>,
}

impl Merge {
    /// For that many tracks.
    pub(super) fn new(tracks: usize) -> Self {
        Self { lanes: (0..tracks).map(|_| Lane::default()).collect() }
    }

    /// One more track.
    pub(super) fn add(&mut self) {
        self.lanes.push(Lane::default());
    }

    /// Takes a track's next frame.
    pub(super) fn push(&mut self, now: Instant, track: usize, frame: Waiting) {
        if let Some(lane) = self.lanes.get_mut(track) {
            lane.waiting.push_back((now, frame));
        }
    }

    /// No more frames come from a track.
    pub(super) fn end(&mut self, track: usize) {
        if let Some(lane) = self.lanes.get_mut(track) {
            lane.ended = true;
        }
    }

    /// The next frame in order, with its track.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(usize, Waiting)> {
        let ready = |lane: &Lane| !lane.waiting.is_empty() || lane.ended;
        let complete = self.lanes.iter().all(ready);
        let (first, lane) = self
            .lanes
            .iter()
            .enumerate()
            .filter_map(|(track, lane)| Some((track, lane.waiting.front()?)))
            .min_by_key(|(_, (_, frame))| frame.key())
            .map(|(track, (since, _))| (track, *since))?;
        let overdue = now.saturating_duration_since(lane) >= HOLD;
        let crowded = self.lanes.iter().any(|lane| lane.waiting.len() >= WAITING_MAX);
        if !(complete || overdue || crowded) {
            return None;
        }
        let (_, frame) = self.lanes.get_mut(first)?.waiting.pop_front()?;
        Some((first, frame))
    }

    /// When [`Self::pop`] gives a frame even if none comes.
    pub(super) fn due(&self) -> Option<Instant> {
        let fronts = self.lanes.iter().filter_map(|lane| lane.waiting.front());
        let first = fronts.min_by_key(|(_, frame)| frame.key())?;
        first.0.checked_add(HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use headwater_media::{ClockRate, MediaDuration, MediaTime, WallTime};

    #[allow(clippy::disallowed_methods, reason = "tests begin somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    fn frame(millis: i64, rate: ClockRate) -> Waiting {
        let time = MediaTime::new(millis, ClockRate::MILLIS).to_rate(rate);
        let frame = Frame {
            pts: time,
            dts: time,
            duration: MediaDuration::new(1, rate),
            keyframe: true,
            capture: WallTime(0),
            payload: Bytes::new(),
        };
        Waiting { frame, group: crate::ingest::srt::play::tests::group(), first: false }
    }

    fn drain(merge: &mut Merge, now: Instant) -> Vec<(usize, i64)> {
        let next = || merge.pop(now);
        std::iter::from_fn(next)
            .map(|(track, waiting)| (track, waiting.frame.dts.micros() / 1_000))
            .collect()
    }

    #[test]
    fn frames_leave_by_decoding_time_as_soon_as_their_order_is_certain() {
        let now = start();
        let mut merge = Merge::new(2);
        for millis in [0, 40, 80] {
            merge.push(now, 0, frame(millis, ClockRate::VIDEO));
        }
        assert_eq!(drain(&mut merge, now), []);
        for millis in [0, 21, 43] {
            merge.push(now, 1, frame(millis, ClockRate::OPUS));
        }
        assert_eq!(drain(&mut merge, now), [(0, 0), (1, 0), (1, 21), (0, 40), (1, 43)]);
        assert_eq!(merge.due(), Some(now + HOLD));
    }

    #[test]
    fn a_track_that_lags_or_has_ended_holds_nobody_for_long() {
        let now = start();
        let mut merge = Merge::new(2);
        for millis in [0, 40] {
            merge.push(now, 0, frame(millis, ClockRate::VIDEO));
        }
        assert_eq!(drain(&mut merge, now + HOLD / 2), []);
        assert_eq!(drain(&mut merge, now + HOLD), [(0, 0), (0, 40)]);
        merge.end(1);
        merge.push(now, 0, frame(80, ClockRate::VIDEO));
        assert_eq!(drain(&mut merge, now), [(0, 80)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = start();
        let mut merge = Merge::new(2);
        for number in 0..1_000 {
            merge.push(now, 0, frame(number, ClockRate::VIDEO));
            while merge.pop(now).is_some() {}
        }
        assert!(merge.lanes[0].waiting.len() < WAITING_MAX);
    }
}
