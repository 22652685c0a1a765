//! Maps a publisher's time stamps onto the broadcast's timeline, and never trusts them.
//!
//! One policy for all protocols: duplicates are dropped, a stamp that is a little late is kept
//! and mended, a jump is mapped anew so that the timeline goes on, and a publisher that keeps
//! jumping is refused. Each is counted. Not here: what a frame's duration becomes (`timeline`).

use std::collections::VecDeque;

use headwater_media::{MediaKind, WallTime};

use super::policy::PushError;

/// A stamp may run ahead of its arrival by this much more than its predecessor did before it is
/// a jump: file-based publishers send bursts of a second or so.
const JUMP_AHEAD_MICROS: i64 = 2_000_000;
/// A stamp that goes back by more than this is a jump, and not a late frame.
const JUMP_BACK_MICROS: i64 = 500_000;
/// A track whose stamp is within this of where another track's mapping puts it has jumped along
/// with that one, and keeps its lip sync.
const SAME_JUMP_MICROS: i64 = 500_000;
/// Jumps within a minute after which no timeline can be made.
const JUMPS_MAX: u32 = 20;
const JUMPS_WINDOW_MICROS: i64 = 60_000_000;
/// Stamps beyond this (126 years) are nonsense; WHIP's count from the Unix epoch.
const STAMP_MAX_MICROS: i64 = 4_000_000_000_000_000;
/// The first frame of a broadcast is put here, so that frames a little earlier have room.
const HEAD_ROOM_MICROS: i64 = 1_000_000;
/// The drift of the publisher's clock is taken every ten seconds …
const DRIFT_WINDOW_MICROS: i64 = 10_000_000;
/// … and followed by at most a thousandth, which no player notices.
const SLEW_STEP_MAX_MICROS: i64 = 10_000;

/// What to do with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Take it, and add this many microseconds to its times.
    Take(i64),
    /// Drop it; the reason is the metric's label.
    Drop(&'static str),
}

/// The mapping of one publisher's session.
#[derive(Debug)]
pub(super) struct SourceClock {
    /// The wall-clock time of the broadcast's time zero.
    zero: WallTime,
    tracks: Vec<TrackClock>,
    jumps: VecDeque<WallTime>,
    drift: Drift,
}

#[derive(Debug, Default)]
struct TrackClock {
    kind: Option<MediaKind>,
    offset: Option<i64>,
    last: Option<Stamp>,
}

#[derive(Clone, Copy, Debug)]
struct Stamp {
    dts: i64,
    pts: i64,
    arrival: WallTime,
}

/// How far the publisher's clock has moved against ours: the least delay seen in a window, as
/// against the first window's.
#[derive(Debug)]
struct Drift {
    window_start: Option<WallTime>,
    least: i64,
    first: Option<i64>,
    /// The slew at the session's start.
    base: i64,
    slew: i64,
}

impl SourceClock {
    /// For a broadcast whose first frame ever arrives at `first_arrival`.
    pub(super) fn zero_for(first_arrival: WallTime) -> WallTime {
        first_arrival.plus_micros(-HEAD_ROOM_MICROS)
    }

    /// The mapping of a session that begins after one whose clock had been slewed by `slew`
    /// microseconds (0 for the first one).
    pub(super) fn new(zero: WallTime, slew: i64) -> Self {
        let drift = Drift { window_start: None, least: i64::MAX, first: None, base: slew, slew };
        Self { zero, tracks: Vec::new(), jumps: VecDeque::new(), drift }
    }

    /// By how many microseconds the wall clock of the timeline has been moved, for the session
    /// that follows.
    pub(super) fn slew(&self) -> i64 {
        self.drift.slew
    }

    pub(super) fn add_track(&mut self, kind: MediaKind) {
        self.tracks.push(TrackClock { kind: Some(kind), ..TrackClock::default() });
    }

    /// Judges a frame of `track` with these times in microseconds. `floor`: the broadcast's
    /// timeline is taken up to here.
    pub(super) fn judge(
        &mut self,
        track: usize,
        pts: i64,
        dts: i64,
        now: WallTime,
        floor: i64,
    ) -> Result<Verdict, PushError> {
        let nonsense = |stamp: i64| !(-STAMP_MAX_MICROS..=STAMP_MAX_MICROS).contains(&stamp);
        if nonsense(pts) || nonsense(dts) {
            self.count_jump(now)?;
            return Ok(Verdict::Drop("absurd_timestamp"));
        }
        let Some(clock) = self.tracks.get(track) else { return Err(PushError::NoTrack) };
        let stamp = Stamp { dts, pts, arrival: now };
        let (last, offset) = (clock.last, clock.offset);
        let offset = match (last, offset) {
            (Some(last), Some(offset)) => {
                let step = dts - last.dts;
                if step == 0 && pts == last.pts {
                    return Ok(Verdict::Drop("duplicate"));
                }
                let ahead = step - now.micros_since(last.arrival);
                if step < -JUMP_BACK_MICROS
                    || (step > JUMP_AHEAD_MICROS && ahead > JUMP_AHEAD_MICROS)
                {
                    self.count_jump(now)?;
                    self.offset_after_jump(track, stamp, floor)
                } else if step <= 0 && clock.kind == Some(MediaKind::Audio) {
                    return Ok(Verdict::Drop("late"));
                } else {
                    if step <= 0 {
                        metrics::counter!("headwater_ingest_mended_total", "reason" => "late")
                            .increment(1);
                    }
                    offset
                }
            }
            _ => self.first_offset(stamp, floor),
        };
        if let Some(clock) = self.tracks.get_mut(track) {
            clock.last = Some(stamp);
            clock.offset = Some(offset);
        }
        self.drift.observe(now, now.micros_since(self.zero) - (dts + offset));
        Ok(Verdict::Take(offset))
    }

    /// The first track's first frame is put where its arrival says, after all that is taken; the
    /// others share its mapping, so that lip sync is the publisher's.
    fn first_offset(&mut self, stamp: Stamp, floor: i64) -> i64 {
        let shared = self.tracks.iter().find_map(|track| {
            let (offset, last) = (track.offset?, track.last?);
            // A track that begins far from the others has a timeline of its own.
            let near = (stamp.dts - last.dts - stamp.arrival.micros_since(last.arrival)).abs()
                <= 10 * JUMP_AHEAD_MICROS;
            near.then_some(offset)
        });
        shared.unwrap_or_else(|| {
            let arrival = stamp.arrival.micros_since(self.zero);
            if arrival > floor && self.tracks.iter().all(|track| track.last.is_none()) {
                // The timeline has a gap here, after which its clock is right again.
                (self.drift.base, self.drift.slew) = (0, 0);
            }
            arrival.max(floor) - stamp.pts.min(stamp.dts)
        })
    }

    /// Where another track has jumped to already, or else where the arrival says: by the clock of
    /// the timeline, which a publisher of hours has moved away from ours, and never before what
    /// is taken.
    fn offset_after_jump(&self, track: usize, stamp: Stamp, floor: i64) -> i64 {
        metrics::counter!("headwater_ingest_mended_total", "reason" => "jump").increment(1);
        let arrival = stamp.arrival.micros_since(self.zero) - self.drift.slew;
        let target = arrival.max(floor);
        let others = self.tracks.iter().enumerate().filter(|(n, _)| *n != track);
        let along = others
            .filter_map(|(_, other)| other.offset)
            .find(|offset| (stamp.dts + offset - target).abs() <= SAME_JUMP_MICROS);
        along.unwrap_or(target - stamp.dts)
    }

    fn count_jump(&mut self, now: WallTime) -> Result<(), PushError> {
        while self.jumps.front().is_some_and(|at| now.micros_since(*at) > JUMPS_WINDOW_MICROS) {
            self.jumps.pop_front();
        }
        self.jumps.push_back(now);
        let jumps = u32::try_from(self.jumps.len()).unwrap_or(u32::MAX);
        if jumps > JUMPS_MAX { Err(PushError::TimestampsUnusable(jumps)) } else { Ok(()) }
    }

    /// Wall-clock time of a position on the broadcast's timeline.
    pub(super) fn wall(&self, micros: i64) -> WallTime {
        self.zero.plus_micros(micros.saturating_add(self.drift.slew))
    }
}

impl Drift {
    fn observe(&mut self, now: WallTime, delay: i64) {
        self.least = self.least.min(delay);
        let start = *self.window_start.get_or_insert(now);
        if now.micros_since(start) < DRIFT_WINDOW_MICROS {
            return;
        }
        let first = *self.first.get_or_insert(self.least);
        let wanted = self.base + self.least - first;
        self.slew += (wanted - self.slew).clamp(-SLEW_STEP_MAX_MICROS, SLEW_STEP_MAX_MICROS);
        (self.window_start, self.least) = (Some(now), i64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = 33_333;

    struct Bed {
        clock: SourceClock,
        now: WallTime,
        floor: i64,
    }

    fn bed() -> Bed {
        let now = WallTime(1_000_000_000);
        let mut clock = SourceClock::new(SourceClock::zero_for(now), 0);
        clock.add_track(MediaKind::Video);
        clock.add_track(MediaKind::Audio);
        Bed { clock, now, floor: 0 }
    }

    impl Bed {
        /// Where on the broadcast's timeline the frame went, or why it was dropped.
        fn at(&mut self, track: usize, stamp: i64) -> Result<Result<i64, &'static str>, PushError> {
            let verdict = self.clock.judge(track, stamp, stamp, self.now, self.floor)?;
            Ok(match verdict {
                Verdict::Take(offset) => Ok(stamp + offset),
                Verdict::Drop(reason) => Err(reason),
            })
        }

        fn later(&mut self, micros: i64) {
            self.now = self.now.plus_micros(micros);
        }
    }

    #[test]
    fn both_tracks_share_one_mapping_whatever_the_publishers_zero() {
        for base in [0, -5_000_000, 95_443_717_000] {
            let mut bed = bed();
            assert_eq!(bed.at(0, base), Ok(Ok(HEAD_ROOM_MICROS)));
            assert_eq!(bed.at(1, base - 20_000), Ok(Ok(HEAD_ROOM_MICROS - 20_000)));
        }
    }

    #[test]
    fn a_jump_goes_on_where_time_has_come_to_and_takes_the_other_track_along() {
        for jump in [-90_000_000, 90_000_000, 95_443_717_688] {
            let mut bed = bed();
            bed.at(0, 0).unwrap().unwrap();
            bed.at(1, 10_000).unwrap().unwrap();
            bed.later(FRAME);
            assert_eq!(bed.at(0, jump + FRAME), Ok(Ok(HEAD_ROOM_MICROS + FRAME)), "{jump}");
            assert_eq!(bed.at(1, jump + FRAME + 10_000), Ok(Ok(HEAD_ROOM_MICROS + FRAME + 10_000)));
        }
    }

    #[test]
    fn a_pause_is_not_a_jump() {
        let mut bed = bed();
        bed.at(0, 0).unwrap().unwrap();
        bed.later(30_000_000);
        assert_eq!(bed.at(0, 30_000_000), Ok(Ok(HEAD_ROOM_MICROS + 30_000_000)));
        bed.later(5_000_000);
        assert_eq!(bed.at(0, 30_000_000 + FRAME), Ok(Ok(HEAD_ROOM_MICROS + 30_000_000 + FRAME)));
    }

    #[test]
    fn duplicates_and_late_sound_are_dropped_and_late_pictures_kept() {
        let mut bed = bed();
        bed.at(0, 100_000).unwrap().unwrap();
        assert_eq!(bed.at(0, 100_000), Ok(Err("duplicate")));
        assert!(bed.at(0, 90_000).unwrap().is_ok());
        bed.at(1, 100_000).unwrap().unwrap();
        assert_eq!(bed.at(1, 90_000), Ok(Err("late")));
    }

    #[test]
    fn a_publisher_that_keeps_jumping_is_refused_and_nonsense_never_overflows() {
        let mut bed = bed();
        let mut refused = false;
        for n in 0..=JUMPS_MAX + 1 {
            bed.later(FRAME);
            let stamp = if n % 2 == 0 { i64::MAX } else { i64::MIN };
            refused = bed.at(0, stamp).is_err();
        }
        assert!(refused);
    }

    #[test]
    fn the_wall_clock_follows_a_drifting_publisher_gently() {
        let mut bed = bed();
        let mut stamp = 0i64;
        let mut last = bed.now;
        for _ in 0..60 * 30 * 10 {
            // The publisher's clock is slow by a two-thousandth.
            let at = bed.at(0, stamp).unwrap().unwrap();
            let wall = bed.clock.wall(at);
            assert!((0..2 * FRAME).contains(&wall.micros_since(last)));
            last = wall;
            stamp += FRAME;
            bed.later(FRAME + FRAME / 2_000);
        }
        let behind = bed.now.micros_since(last);
        assert!((0..100_000).contains(&behind), "{behind} µs behind after ten minutes");
    }

    /// Twelve minutes of a publisher whose clock is fast (or slow) by a thousandth.
    fn drifted(parts: i64) -> Bed {
        let mut bed = bed();
        for n in 0..60 * 30 * 12 {
            let at = bed.at(0, n * FRAME).unwrap().unwrap();
            bed.floor = at + FRAME;
            bed.later(FRAME + FRAME / parts);
        }
        bed
    }

    #[test]
    fn a_jump_of_a_publisher_that_drifted_leaves_neither_a_gap_nor_an_overlap() {
        for parts in [1_000, -1_000] {
            let mut bed = drifted(parts);
            let after = bed.at(0, 95_443_717_688).unwrap().unwrap();
            let gap = after - bed.floor;
            assert!((0..150_000).contains(&gap), "{gap} µs between the frames ({parts})");
            let behind = bed.now.micros_since(bed.clock.wall(after));
            assert!(behind.abs() < 150_000, "the wall clock is {behind} µs off ({parts})");
        }
    }

    #[test]
    fn a_publisher_that_follows_one_that_drifted_is_told_the_right_time() {
        for parts in [1_000, -1_000] {
            let mut bed = drifted(parts);
            bed.clock = SourceClock::new(bed.clock.zero, bed.clock.slew());
            bed.clock.add_track(MediaKind::Video);
            let at = bed.at(0, 0).unwrap().unwrap();
            assert!(at >= bed.floor);
            for n in 1..60 * 30 {
                bed.later(FRAME);
                let at = bed.at(0, n * FRAME).unwrap().unwrap();
                let behind = bed.now.micros_since(bed.clock.wall(at));
                assert!(behind.abs() < 150_000, "the wall clock is {behind} µs off ({parts})");
            }
        }
    }
}
