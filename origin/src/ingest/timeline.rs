//! Makes final times of a publisher's: one track's place on the broadcast's timeline.
//!
//! Decoding times run at the track's cadence without a gap, and follow the publisher's clock in
//! whole frames, so that parts are full to the tick; presentation times of video stay exact.
//! Not here: groups (`core`), the cadence's measure (`cadence`).

use headwater_media::{ClockRate, MediaDuration, MediaKind, MediaTime, PartPlan};

use super::cadence::Cadence;

/// A lag of more than so many parts is a pause.
const PAUSE_PARTS: i64 = 3;

/// Where a frame ended up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    pub(super) pts: MediaTime,
    pub(super) dts: MediaTime,
    pub(super) duration: MediaDuration,
}

/// One track's timeline within one publisher's session.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    kind: MediaKind,
    rate: ClockRate,
    cadence: Cadence,
    plan: PartPlan,
    /// Where the next frame goes.
    next_dts: Option<i64>,
    /// Ticks in the open part: the same sum that the packager makes.
    part_ticks: i64,
    /// What whole ticks have left of `cadence` so far, in `1 / den` ticks.
    remainder: u32,
}

impl Timeline {
    pub(super) fn new(kind: MediaKind, rate: ClockRate, cadence: Cadence, plan: PartPlan) -> Self {
        Self { kind, rate, cadence, plan, next_dts: None, part_ticks: 0, remainder: 0 }
    }

    /// Ticks a frame, rounded down.
    pub(super) fn frame_ticks(&self) -> i64 {
        self.cadence.ticks()
    }

    /// Where the next frame goes, once there was one.
    pub(super) fn next_dts(&self) -> Option<MediaTime> {
        self.next_dts.map(|ticks| MediaTime::new(ticks, self.rate))
    }

    /// A group begins with the next frame, and so does a part.
    pub(super) fn begin_group(&mut self) {
        self.part_ticks = 0;
    }

    /// The decoding time the next frame would get, given its own on the broadcast's timeline.
    pub(super) fn preview(&self, dts: i64) -> MediaTime {
        MediaTime::new(self.place_dts(dts), self.rate)
    }

    /// Video's decoding times run one frame ahead of the publisher's, so that jitter never puts
    /// a frame's decoding after its presentation.
    fn lead(&self) -> i64 {
        match self.kind {
            MediaKind::Video => self.frame_ticks(),
            MediaKind::Audio => 0,
        }
    }

    /// Frames follow one another without a gap, so that durations add up to the time that passes:
    /// a small lag goes into longer durations. Only after a pause the timeline jumps, at a part's
    /// start.
    fn place_dts(&self, dts: i64) -> i64 {
        let wanted = dts.saturating_sub(self.lead());
        let pause = i64::from(self.plan.target_ticks).saturating_mul(PAUSE_PARTS);
        match self.next_dts {
            None => wanted,
            Some(next) if self.part_ticks == 0 && wanted.saturating_sub(next) > pause => wanted,
            Some(next) => next,
        }
    }

    /// Goes on at another cadence, from the next group's start.
    pub(super) fn change_cadence(&mut self, cadence: Cadence, plan: PartPlan) {
        (self.cadence, self.plan, self.remainder) = (cadence, plan, 0);
    }

    /// Whether a lag is worth a whole frame.
    fn is_behind(&self, lag: i64) -> bool {
        lag.saturating_mul(10) >= self.frame_ticks().saturating_mul(9)
    }

    /// Gives a frame its final times. `pts` and `dts` are in ticks of the track's rate on the
    /// broadcast's timeline, as the publisher has them.
    pub(super) fn place(&mut self, pts: i64, dts: i64) -> Placed {
        let placed = self.place_dts(dts);
        let wanted = dts.saturating_sub(self.lead());
        let lag = wanted.saturating_sub(placed);
        let duration = self.duration(lag);
        self.next_dts = Some(placed.saturating_add(duration));
        self.part_ticks = self.part_ticks.saturating_add(duration);
        if self.plan.is_full(u64::try_from(self.part_ticks).unwrap_or(0)) {
            self.part_ticks = 0;
        }
        let pts = match self.kind {
            MediaKind::Video => pts,
            MediaKind::Audio => placed,
        };
        Placed {
            pts: MediaTime::new(pts, self.rate),
            dts: MediaTime::new(placed, self.rate),
            duration: MediaDuration::new(duration, self.rate),
        }
    }

    /// The cadence's duration, whole frames more where the publisher skipped some and the part
    /// has room, a little less where we run ahead of it.
    fn duration(&mut self, lag: i64) -> i64 {
        let (num, den) = (self.cadence.num, self.cadence.den);
        let sum = num % den + self.remainder;
        self.remainder = sum % den;
        let frame = i64::from(num / den) + i64::from(sum / den);
        let room = i64::from(self.plan.target_ticks).saturating_sub(self.part_ticks);
        // Frames rounded up must not make a part a tick too long.
        let frame = if frame == room.saturating_add(1) { room.max(1) } else { frame };
        if self.is_behind(lag) {
            let missing = lag.saturating_add(frame / 10) / frame.max(1);
            let fits = (room / frame.max(1)).max(1) - 1;
            frame * (1 + missing.min(fits))
        } else if lag < -2 * frame {
            (frame / 2).max(1)
        } else if lag < -frame / 2 {
            // A part of frames 8 % short is 92 % full: within the 85 % that a part must have.
            (frame - frame * 8 / 100).max(1)
        } else {
            frame
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeline(kind: MediaKind, num: u32, den: u32) -> Timeline {
        let target = Duration::from_millis(200);
        let plan = PartPlan::for_cadence(num, den, ClockRate::VIDEO, target);
        Timeline::new(kind, ClockRate::VIDEO, Cadence { num, den, known: true }, plan)
    }

    /// Durations of the parts that the frames make, as shares of the target, but for the last.
    fn parts(timeline: &Timeline, frames: &[Placed]) -> Vec<f64> {
        let (mut sum, mut parts) = (0, Vec::new());
        for frame in frames {
            sum += frame.duration.ticks();
            if timeline.plan.is_full(sum as u64) {
                parts.push(sum as f64 / f64::from(timeline.plan.target_ticks));
                sum = 0;
            }
        }
        parts
    }

    fn check(frames: &[Placed]) {
        for pair in frames.windows(2) {
            let end = pair[0].dts.plus(pair[0].duration);
            assert!(pair[1].dts.ticks() >= end.ticks(), "decoding times overlap: {pair:?}");
            assert!(pair[0].duration.ticks() > 0);
        }
    }

    #[test]
    fn a_steady_source_fills_every_part_and_keeps_its_presentation_times() {
        for (num, den) in
            [(3_750, 1), (3_600, 1), (3_003, 1), (3_000, 1), (1_800, 1), (3_003, 2), (1_500, 1)]
        {
            let mut timeline = timeline(MediaKind::Video, num, den);
            let stamps = (0..900).map(|n| 90_000 + n * i64::from(num) / i64::from(den));
            let frames: Vec<_> = stamps.map(|t| timeline.place(t, t)).collect();
            check(&frames);
            for part in parts(&timeline, &frames) {
                assert!((0.998..=1.0).contains(&part), "{num}/{den}: a part is {part} full");
            }
            assert_eq!(frames[899].pts.ticks(), 90_000 + 899 * i64::from(num) / i64::from(den));
        }
    }

    #[test]
    fn jitter_and_dropped_frames_leave_parts_within_85_and_100_percent() {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut timeline = timeline(MediaKind::Video, 3_000, 1);
        let mut frames = Vec::new();
        for n in 0..5_000i64 {
            if random(20) == 0 {
                continue;
            }
            let t = 90_000 + n * 3_000 + random(1_400) as i64 - 700;
            frames.push(timeline.place(t, t));
        }
        check(&frames);
        for part in parts(&timeline, &frames) {
            assert!((0.85..=1.0).contains(&part), "a part is {part} full");
        }
        for frame in &frames {
            let ahead = frame.pts.since(frame.dts).ticks();
            assert!((0..18_000).contains(&ahead), "pts is {ahead} ticks after dts");
        }
    }

    #[test]
    fn a_source_slightly_faster_or_slower_than_its_cadence_is_followed() {
        for real in [2_990.0, 3_010.0, 2_997.0] {
            let mut timeline = timeline(MediaKind::Video, 3_000, 1);
            let stamps = (0..20_000).map(|n| 90_000 + (f64::from(n) * real) as i64);
            let frames: Vec<_> = stamps.map(|t| timeline.place(t, t)).collect();
            check(&frames);
            for part in parts(&timeline, &frames) {
                assert!((0.85..=1.0).contains(&part), "{real}: a part is {part} full");
            }
            let last = frames.last().unwrap();
            assert!((0..9_000).contains(&last.pts.since(last.dts).ticks()), "{real}");
        }
    }

    #[test]
    fn after_a_pause_the_timeline_jumps_at_a_parts_start() {
        let mut timeline = timeline(MediaKind::Video, 3_000, 1);
        let before: Vec<_> = (0..9).map(|n| timeline.place(n * 3_000, n * 3_000)).collect();
        let after: Vec<_> =
            (0..12).map(|n| 900_000 + n * 3_000).map(|t| timeline.place(t, t)).collect();
        let frames: Vec<_> = before.iter().chain(&after).copied().collect();
        check(&frames);
        assert_eq!(after[0].pts.ticks(), 900_000, "shown when it should be");
        assert_eq!(after[11].dts.ticks(), 900_000 + 10 * 3_000, "caught up");
        let jumps: Vec<_> = (1..frames.len())
            .filter(|n| frames[n - 1].dts.plus(frames[n - 1].duration) != frames[*n].dts)
            .collect();
        assert_eq!(jumps.len(), 1, "one jump");
    }

    #[test]
    fn audio_is_shown_as_it_is_decoded() {
        let rate = ClockRate::new(48_000).unwrap();
        let plan = PartPlan::for_cadence(1_024, 1, rate, Duration::from_millis(200));
        let mut timeline = Timeline::new(
            MediaKind::Audio,
            rate,
            Cadence { num: 1_024, den: 1, known: true },
            plan,
        );
        for n in 0..1_000i64 {
            // Millisecond stamps.
            let stamp = (n * 1_024 * 1_000 / 48_000) * 48;
            let frame = timeline.place(stamp, stamp);
            assert_eq!(frame.pts, frame.dts);
            assert_eq!(frame.dts.ticks(), n * 1_024);
        }
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let mut timeline = timeline(MediaKind::Video, 3_000, 1);
        for t in [i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN] {
            let placed = timeline.place(t, t);
            assert!(placed.duration.ticks() > 0);
        }
    }
}
