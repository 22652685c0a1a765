//! One timeline for all tracks of a publisher: from RTP time stamps to wall-clock time.
//!
//! A track's capture time is `rtp + offset`. At first the offset comes from arrivals: the
//! smallest transit seen so far, for the least delayed packet tells most. Once RTCP sender
//! reports (or abs-capture-time) tie the track's RTP clock to the sender's NTP clock, the target
//! is `sender's time + transit`, where `transit` is the smallest of *all* synced tracks: what one
//! track lags behind another in the network or the encoder then no longer shifts it.
//! The offset in use moves towards its target by at most [`SLEW_PER_MILLE`] of the time that
//! passes, so that a track's times never jump; only an error above [`JUMP_MICROS`] (a sender
//! that changed its clock) is taken at once.
//! Not here: frames' final times (the node's ingest).

use headwater_media::{MediaTime, WallTime};

/// 2 %: a first guess that was 40 ms off is right after two seconds.
const SLEW_PER_MILLE: i64 = 20;
/// Above this the timeline follows at once.
const JUMP_MICROS: i64 = 1_000_000;
/// How fast the smallest transit is forgotten, as clocks drift apart: 100 µs a second, above any
/// quartz.
const FORGET_PER_MILLION: i64 = 100;

/// A point where the sender ties its RTP clock to its wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderPoint {
    /// The sender's wall clock.
    pub(crate) ntp: WallTime,
    /// The RTP time at that moment.
    pub(crate) rtp: MediaTime,
}

/// The smallest value of late, slowly forgotten.
#[derive(Clone, Copy, Debug)]
struct Smallest {
    micros: i64,
    at: WallTime,
}

impl Smallest {
    fn update(current: &mut Option<Self>, micros: i64, now: WallTime) -> i64 {
        let aged = current.map(|smallest| {
            let age = now.micros_since(smallest.at).max(0);
            smallest.micros.saturating_add(age.saturating_mul(FORGET_PER_MILLION) / 1_000_000)
        });
        let micros = aged.map_or(micros, |aged| aged.min(micros));
        *current = Some(Self { micros, at: now });
        micros
    }
}

/// The state of one track on the session's [`Timeline`].
#[derive(Debug, Default)]
pub(crate) struct TrackTimeline {
    point: Option<SenderPoint>,
    by_arrival: Option<Smallest>,
    /// What is in use, and when it was last moved.
    offset: Option<(i64, WallTime)>,
}

/// What all tracks of a session share.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    transit: Option<Smallest>,
}

impl Timeline {
    /// The capture time of a frame that arrived at `arrival`, and whether it rests on the
    /// sender's clock. `point` is the newest known one.
    pub(crate) fn capture(
        &mut self,
        track: &mut TrackTimeline,
        rtp: MediaTime,
        arrival: WallTime,
        point: Option<SenderPoint>,
    ) -> (WallTime, bool) {
        let rtp_micros = rtp.micros();
        track.point = point.or(track.point);
        let lag = arrival.micros().saturating_sub(rtp_micros);
        let by_arrival = Smallest::update(&mut track.by_arrival, lag, arrival);
        let target = match track.point {
            None => by_arrival,
            Some(point) => {
                let sender = point.ntp.micros().saturating_sub(point.rtp.micros());
                let transit = by_arrival.saturating_sub(sender);
                sender.saturating_add(self.smallest_transit(transit, arrival))
            }
        };
        let offset = match track.offset {
            None => target,
            Some((offset, at)) => {
                let error = target.saturating_sub(offset);
                let most = arrival.micros_since(at).max(0).saturating_mul(SLEW_PER_MILLE) / 1_000;
                if error.saturating_abs() > JUMP_MICROS {
                    target
                } else {
                    offset.saturating_add(error.clamp(-most, most))
                }
            }
        };
        track.offset = Some((offset, arrival));
        (WallTime(rtp_micros.saturating_add(offset)), track.point.is_some())
    }

    fn smallest_transit(&mut self, transit: i64, arrival: WallTime) -> i64 {
        // A sender that set its clock makes every earlier transit meaningless.
        if self.transit.is_some_and(|s| transit.saturating_sub(s.micros) > JUMP_MICROS) {
            self.transit = None;
        }
        Smallest::update(&mut self.transit, transit, arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_media::ClockRate;

    const SECOND: i64 = 1_000_000;
    /// The sender's clock is years off.
    const SENDER_AHEAD: i64 = -5_000_000 * SECOND;

    struct Source {
        rate: ClockRate,
        rtp_base: i64,
        delay: i64,
        track: TrackTimeline,
    }

    impl Source {
        /// The error of the capture time of what was captured at `at`.
        fn error(&mut self, timeline: &mut Timeline, at: i64, synced: bool) -> i64 {
            let rtp =
                MediaTime::new(self.rtp_base + at * i64::from(self.rate.hz()) / SECOND, self.rate);
            let point = synced.then(|| SenderPoint { ntp: WallTime(at + SENDER_AHEAD), rtp });
            let arrival = WallTime(at + self.delay);
            timeline.capture(&mut self.track, rtp, arrival, point).0.micros() - at
        }
    }

    fn sources() -> (Source, Source) {
        let video = Source {
            rate: ClockRate::VIDEO,
            rtp_base: 1_234_567,
            delay: 60_000,
            track: TrackTimeline::default(),
        };
        let audio = Source {
            rate: ClockRate::OPUS,
            rtp_base: 4_000_000_000,
            delay: 20_000,
            track: TrackTimeline::default(),
        };
        (video, audio)
    }

    #[test]
    fn tracks_line_up_once_both_have_reports_and_never_jump() {
        let (mut timeline, (mut video, mut audio)) = (Timeline::default(), sources());
        let mut last = (60_000, 20_000);
        for step in 0..1_000 {
            let at = 100 * SECOND + step * 20_000;
            let errors = (
                video.error(&mut timeline, at, step > 40),
                audio.error(&mut timeline, at, step > 60),
            );
            assert!((errors.0 - last.0).abs() <= 420, "video moved from {last:?} to {errors:?}");
            assert!((errors.1 - last.1).abs() <= 420, "audio moved from {last:?} to {errors:?}");
            last = errors;
        }
        assert!((last.0 - last.1).abs() < 1_000, "{last:?}");
        assert!((last.0 - 20_000).abs() < 3_000, "{last:?}");
    }

    #[test]
    fn jitter_does_not_move_the_timeline() {
        let (mut timeline, (mut video, _)) = (Timeline::default(), sources());
        let mut seed = 1u64;
        for step in 0..2_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            video.delay = 20_000 + if step == 0 { 0 } else { (seed >> 48) as i64 };
            let error = video.error(&mut timeline, step * 33_333, step > 30);
            assert!((19_900..27_000).contains(&error), "step {step}: {error}");
        }
    }

    #[test]
    fn a_sender_that_sets_its_clock_is_followed() {
        let (mut timeline, (mut video, _)) = (Timeline::default(), sources());
        for step in 0..100 {
            video.error(&mut timeline, step * 33_333, true);
        }
        let at = 100 * 33_333;
        let rtp = MediaTime::new(video.rtp_base + at * 9 / 100, ClockRate::VIDEO);
        for ahead in [3_600 * SECOND, -7_200 * SECOND] {
            let point = Some(SenderPoint { ntp: WallTime(at + ahead), rtp });
            let arrival = WallTime(at + 60_000);
            let (capture, _) = timeline.capture(&mut video.track, rtp, arrival, point);
            assert!((capture.micros() - at - 60_000).abs() < 2 * JUMP_MICROS, "{capture:?}");
        }
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut timeline = Timeline::default();
        let mut track = TrackTimeline::default();
        for (rtp, ntp) in [(i64::MAX, i64::MIN), (i64::MIN, i64::MAX), (0, 0), (i64::MAX, 5)] {
            let rtp = MediaTime::new(rtp, ClockRate::VIDEO);
            let point = Some(SenderPoint { ntp: WallTime(ntp), rtp });
            timeline.capture(&mut track, rtp, WallTime(1), point);
        }
    }
}
