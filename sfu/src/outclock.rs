//! RTP time stamps towards a viewer, and the moments they stand for.
//!
//! Within one discontinuity a track's time stamps keep the exact distances of its frames. Where
//! a new one begins (a publisher came back, the timeline jumped) they are set anew from the
//! frames' wall-clock times, which all tracks share; so picture and sound stay together, and a
//! time stamp never goes back.
//! Not here: RTCP (the engine makes sender reports from the pairs given here).

use std::time::{Duration, Instant};

use headwater_media::{ClockRate, DiscontinuitySeq, MediaTime, WallTime};

use crate::peer::Now;

/// Time stamps begin this far from zero, so that nothing before the first frame is negative.
const ORIGIN_MICROS: i64 = 60_000_000;

/// A track whose frames' times and wall-clock times have come apart by more than this is set
/// anew: half of what lip sync bears.
const DRIFT_MAX_MICROS: i64 = 40_000;

/// The step to the next time stamp where the wall clock gives none: a hundredth of a second.
const STEPS_PER_SECOND: i64 = 100;

/// The origin that all tracks of a viewer share.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    wall: Option<WallTime>,
    /// How far frames' wall-clock times run ahead of this machine's clock (the owner's may
    /// differ); taken off, since nothing can have been captured later than now.
    ahead_micros: i64,
}

impl Origin {
    /// Microseconds from the origin, positive for any frame that may come.
    fn since(&mut self, wall: WallTime) -> i64 {
        let origin = *self.wall.get_or_insert(wall.plus_micros(-ORIGIN_MICROS));
        wall.micros_since(origin)
    }

    /// The moment of this machine's clock that a frame's wall-clock time stands for; not later
    /// than now.
    pub(crate) fn moment(&mut self, wall: WallTime, now: Now) -> Instant {
        let ahead = wall.micros_since(now.wall);
        self.ahead_micros = self.ahead_micros.max(ahead).max(0);
        let ago = now.wall.micros_since(wall).saturating_add(self.ahead_micros);
        let ago = Duration::from_micros(u64::try_from(ago).unwrap_or_default());
        now.instant.checked_sub(ago).unwrap_or(now.instant)
    }
}

/// One track's time stamps.
#[derive(Debug)]
pub(crate) struct OutClock {
    rate: ClockRate,
    base: Option<Base>,
    last: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    discontinuity: DiscontinuitySeq,
    pts: MediaTime,
    out: i64,
    /// How far the time stamps run ahead of the wall clock, where it stepped back.
    ahead: i64,
}

impl OutClock {
    pub(crate) fn new(rate: ClockRate) -> Self {
        Self { rate, base: None, last: None }
    }

    /// The time stamp of a frame, widened.
    pub(crate) fn stamp(
        &mut self,
        origin: &mut Origin,
        pts: MediaTime,
        wall: WallTime,
        discontinuity: DiscontinuitySeq,
    ) -> i64 {
        let by_wall = MediaTime::new(origin.since(wall), ClockRate::MICROS).to_rate(self.rate);
        let drift_max = i64::from(self.rate.hz()) * DRIFT_MAX_MICROS / 1_000_000;
        let by_wall = by_wall.ticks();
        let kept = self.base.filter(|base| base.discontinuity == discontinuity).and_then(|base| {
            let out = base.out.saturating_add(pts.since(base.pts).to_rate(self.rate).ticks());
            let drift = out.saturating_sub(by_wall).saturating_sub(base.ahead);
            (drift.saturating_abs() <= drift_max).then_some(out)
        });
        let out = kept.unwrap_or_else(|| {
            let out = match self.last {
                // The wall clock stepped back: go on after the last.
                Some(last) if by_wall <= last => {
                    last.saturating_add(i64::from(self.rate.hz()) / STEPS_PER_SECOND)
                }
                _ => by_wall,
            };
            self.base = Some(Base { discontinuity, pts, out, ahead: out.saturating_sub(by_wall) });
            out
        });
        self.after_last(out)
    }

    /// The time stamp for a wall-clock time alone, for frames that are not shown at their own
    /// time.
    pub(crate) fn stamp_by_wall(&mut self, origin: &mut Origin, wall: WallTime) -> i64 {
        let by_wall = MediaTime::new(origin.since(wall), ClockRate::MICROS).to_rate(self.rate);
        self.after_last(by_wall.ticks())
    }

    /// Two frames never share a time stamp: receivers would join them into one.
    fn after_last(&mut self, out: i64) -> i64 {
        let out = self.last.map_or(out, |last| out.max(last.saturating_add(1)));
        self.last = Some(out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(clock: &mut OutClock, origin: &mut Origin, pts: i64, wall: i64, d: u64) -> i64 {
        let pts = MediaTime::new(pts, ClockRate::VIDEO);
        clock.stamp(origin, pts, WallTime(wall), DiscontinuitySeq(d))
    }

    #[test]
    fn distances_are_exact_within_a_discontinuity_though_wall_times_wobble() {
        let (mut origin, mut clock) = (Origin::default(), OutClock::new(ClockRate::VIDEO));
        let first = stamp(&mut clock, &mut origin, 900, 5_000_000, 0);
        for n in 1..100 {
            let wobble = if n % 2 == 0 { 700 } else { -700 };
            let wall = 5_000_000 + n * 33_333 + wobble;
            assert_eq!(stamp(&mut clock, &mut origin, 900 + n * 3_000, wall, 0), first + n * 3_000);
        }
    }

    #[test]
    fn a_new_publisher_goes_on_by_the_wall_clock_and_never_back() {
        let (mut origin, mut clock) = (Origin::default(), OutClock::new(ClockRate::VIDEO));
        let first = stamp(&mut clock, &mut origin, 1_000_000, 0, 0);
        let after = stamp(&mut clock, &mut origin, 5, 3_000_000, 1);
        assert_eq!(after, first + 270_000);
        let back = stamp(&mut clock, &mut origin, 900_000, 1_000_000, 2);
        assert!(back > after);
        assert!(stamp(&mut clock, &mut origin, 903_000, 1_033_333, 2) > back);
    }

    #[test]
    fn a_wall_clock_that_steps_back_keeps_the_frames_distances() {
        let (mut origin, mut clock) = (Origin::default(), OutClock::new(ClockRate::VIDEO));
        let mut last = stamp(&mut clock, &mut origin, 0, 1_000_000, 0);
        for n in 1..50 {
            let next = stamp(&mut clock, &mut origin, n * 3_000, n * 33_333, 0);
            assert_eq!(next - last, if n == 1 { 900 } else { 3_000 }, "frame {n}");
            last = next;
        }
    }

    #[test]
    fn a_jump_of_the_timeline_without_a_discontinuity_is_mended() {
        let (mut origin, mut clock) = (Origin::default(), OutClock::new(ClockRate::VIDEO));
        let first = stamp(&mut clock, &mut origin, 0, 0, 0);
        let next = stamp(&mut clock, &mut origin, 90_000_000, 33_333, 0);
        assert!((next - first - 3_000).abs() <= 1, "{}", next - first);
    }

    #[test]
    fn tracks_of_a_viewer_share_one_origin() {
        let mut origin = Origin::default();
        let (mut video, mut audio) =
            (OutClock::new(ClockRate::VIDEO), OutClock::new(ClockRate::OPUS));
        let v = stamp(&mut video, &mut origin, 7, 1_000_000, 0);
        let pts = MediaTime::new(123, ClockRate::OPUS);
        let a = audio.stamp(&mut origin, pts, WallTime(1_500_000), DiscontinuitySeq(0));
        assert_eq!(a * 90_000 / 48_000 - v, 45_000);
    }

    #[test]
    fn a_frame_of_the_future_is_taken_for_one_of_now() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Now { instant: Instant::now(), wall: WallTime(10_000_000) };
        let mut origin = Origin::default();
        assert_eq!(origin.moment(WallTime(9_000_000), now), now.instant - Duration::from_secs(1));
        assert_eq!(origin.moment(WallTime(12_000_000), now), now.instant);
        // From then on both tracks are shifted alike.
        assert_eq!(origin.moment(WallTime(11_000_000), now), now.instant - Duration::from_secs(1));
    }
}
