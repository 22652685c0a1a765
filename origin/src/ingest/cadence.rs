//! Finds a track's cadence: the duration of a frame, from the header or from the first frames.
//!
//! Not here: what is done about frames that do not keep it (`timeline`).

use headwater_media::codec::FrameRate;
use headwater_media::{ClockRate, Codec};

/// The duration of a frame: `num / den` ticks of the track's rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cadence {
    pub(super) num: u32,
    pub(super) den: u32,
    /// Whether sources of this rate exist. An odd one was measured in a bad moment, or varies.
    pub(super) known: bool,
}

/// A track whose groups run at a rate farther than this from its cadence has another one.
const CHANGED: f64 = 0.06;

/// Frame rates that sources really have; a measured one within 3 % of them is taken for them.
const KNOWN: [(u32, u32); 16] = [
    (24, 1),
    (25, 1),
    (30, 1),
    (50, 1),
    (60, 1),
    (24_000, 1_001),
    (30_000, 1_001),
    (60_000, 1_001),
    (48, 1),
    (15, 1),
    (20, 1),
    (10, 1),
    (12, 1),
    (5, 1),
    (90, 1),
    (120, 1),
];

/// Frames needed to measure where no header declares a rate: six intervals average out the
/// rounding of millisecond time stamps and the jitter of cameras; a fifth of a second at 30 fps.
const FRAMES_TO_MEASURE: usize = 7;
/// Frames needed to see that a declared rate is the real one (headers lie about field rates).
const FRAMES_TO_CONFIRM: usize = 3;
/// Parts are filled at least so far by whole frames: 85 % is what a part must have (RFC 8216bis
/// §4.4.4.9), and frames may be placed 8 % short.
const PART_FILL_PERCENT: u64 = 93;
/// Slowest and fastest cadence believed, in frames a second.
const RATE_MIN: u32 = 1;
const RATE_MAX: u32 = 240;

impl Cadence {
    fn of_rate(rate: FrameRate, clock: ClockRate) -> Option<Self> {
        if rate.num == 0 || rate.den == 0 {
            return None;
        }
        let fps = rate.num / rate.den;
        if !(RATE_MIN..=RATE_MAX).contains(&fps) {
            return None;
        }
        let num = u64::from(clock.hz()) * u64::from(rate.den);
        let divisor = gcd(num, u64::from(rate.num));
        let num = u32::try_from(num / divisor).ok()?;
        let den = u32::try_from(u64::from(rate.num) / divisor).ok()?;
        Some(Self { num, den, known: true })
    }

    /// Ticks a frame, rounded down.
    pub(super) fn ticks(self) -> i64 {
        i64::from(self.num / self.den)
    }

    /// The cadence of an audio codec, exact.
    pub(super) fn of_audio(codec: &Codec, packet_samples: u32) -> Self {
        let samples = match codec {
            Codec::Aac(config) => u32::from(config.frame_samples),
            _ => packet_samples,
        };
        Self { num: samples.max(1), den: 1, known: true }
    }

    /// The cadence of video from the decoding times of its first frames, in ticks of `clock`, or
    /// none while there are too few of them. `patient`: whether more frames may be waited for.
    pub(super) fn of_video(
        dts: &[i64],
        declared: Option<FrameRate>,
        clock: ClockRate,
        patient: bool,
    ) -> Option<Self> {
        let declared = declared.and_then(|rate| Self::of_rate(rate, clock));
        let measured = mean_interval(dts);
        if let (Some(declared), Some(measured)) = (declared, measured)
            && (dts.len() >= FRAMES_TO_CONFIRM || !patient)
            && is_near(measured, f64::from(declared.num) / f64::from(declared.den), 0.08)
        {
            return Some(declared);
        }
        if dts.len() < FRAMES_TO_MEASURE && patient {
            return None;
        }
        let Some(measured) = measured else {
            let thirty = FrameRate { num: 30, den: 1 };
            return declared.or_else(|| Self::of_rate(thirty, clock));
        };
        let known = KNOWN.iter().filter_map(|&(num, den)| {
            let cadence = Self::of_rate(FrameRate { num, den }, clock)?;
            let ticks = f64::from(cadence.num) / f64::from(cadence.den);
            let error = (measured - ticks).abs() / ticks;
            (error <= 0.03).then_some((error, cadence))
        });
        // Ties within a thousandth (30 and 29.97 under millisecond stamps) go to the whole rate,
        // which the list names first.
        let best = known.reduce(|best, next| if next.0 + 0.002 < best.0 { next } else { best });
        let slowest = f64::from(clock.hz() / RATE_MIN);
        let fastest = f64::from(clock.hz() / RATE_MAX);
        let num = measured.clamp(fastest, slowest).round() as u32;
        Some(best.map_or(Self { num, den: 1, known: false }, |(_, cadence)| cadence))
    }

    /// The cadence at which frames of this one are placed in parts of `target_ticks`: this one, or
    /// the next faster one that fills a part, where this would leave parts too short. What frames
    /// then come late is made up by whole frames.
    pub(super) fn filling(self, target_ticks: u32) -> Self {
        let (num, den) = (u64::from(self.num), u64::from(self.den));
        let target = u64::from(target_ticks);
        let frames = target * den / num.max(1);
        let filled = frames.saturating_mul(num).saturating_mul(100);
        if frames == 0 || filled >= target.saturating_mul(den * PART_FILL_PERCENT) {
            return self;
        }
        let den = u32::try_from(frames + 1).unwrap_or(u32::MAX);
        Self { num: target_ticks, den, ..self }
    }

    /// Whether a fifth of these intervals are no longer than the cadence says. Then the source has
    /// it, and is slower on the whole because it leaves out frames, as cameras do in the dark:
    /// frames placed at its mean rate would run ahead of it.
    pub(super) fn is_kept_at_times(self, mut intervals: Vec<i64>) -> bool {
        intervals.sort_unstable();
        let short = intervals.get(intervals.len() / 5);
        let own = f64::from(self.num) / f64::from(self.den);
        short.is_some_and(|ticks| *ticks as f64 <= own * (1.0 + CHANGED))
    }

    /// The cadence of a group of `frames` frames over `ticks`, where that is not this one.
    pub(super) fn corrected(self, frames: u32, ticks: i64, clock: ClockRate) -> Option<Self> {
        if (frames as usize) < 2 * FRAMES_TO_MEASURE || ticks <= 0 {
            return None;
        }
        let measured = ticks as f64 / f64::from(frames);
        if is_near(measured, f64::from(self.num) / f64::from(self.den), CHANGED) {
            return None;
        }
        let even: Vec<i64> =
            (0..=FRAMES_TO_MEASURE).map(|n| (measured * n as f64).round() as i64).collect();
        Self::of_video(&even, None, clock, false).filter(|cadence| *cadence != self)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn is_near(value: f64, of: f64, tolerance: f64) -> bool {
    (value - of).abs() <= of * tolerance
}

/// The mean of the intervals that are within half of their median, so that one pause or burst at
/// the start does not spoil the measure.
fn mean_interval(dts: &[i64]) -> Option<f64> {
    let pairs = dts.iter().zip(dts.iter().skip(1));
    let mut intervals: Vec<i64> =
        pairs.map(|(a, b)| b.saturating_sub(*a)).filter(|interval| *interval > 0).collect();
    intervals.sort_unstable();
    let median = *intervals.get(intervals.len() / 2)? as f64;
    let near: Vec<f64> =
        intervals.iter().map(|i| *i as f64).filter(|i| is_near(*i, median, 0.5)).collect();
    (!near.is_empty()).then(|| near.iter().sum::<f64>() / near.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(fps: f64, count: usize, round_to: i64) -> Vec<i64> {
        let exact = (0..count).map(|n| n as f64 * 90_000.0 / fps);
        exact.map(|t| (t / round_to as f64).round() as i64 * round_to).collect()
    }

    fn measure(dts: &[i64], declared: Option<(u32, u32)>) -> Option<Cadence> {
        let declared = declared.map(|(num, den)| FrameRate { num, den });
        Cadence::of_video(dts, declared, ClockRate::VIDEO, true)
    }

    #[test]
    fn whole_rates_are_found_in_millisecond_stamps() {
        for (fps, num, den) in [
            (24.0, 3_750, 1),
            (25.0, 3_600, 1),
            (30.0, 3_000, 1),
            (50.0, 1_800, 1),
            (60.0, 1_500, 1),
        ] {
            assert_eq!(
                measure(&stamps(fps, 7, 90), None),
                Some(Cadence { num, den, known: true }),
                "{fps}"
            );
        }
    }

    #[test]
    fn ntsc_rates_are_found_in_exact_stamps_or_by_declaration() {
        let ntsc = Some(Cadence { num: 3_003, den: 1, known: true });
        assert_eq!(measure(&stamps(30_000.0 / 1_001.0, 3, 90), Some((30_000, 1_001))), ntsc);
        let doubled = Some(Cadence { num: 3_003, den: 2, known: true });
        assert_eq!(measure(&stamps(60_000.0 / 1_001.0, 3, 1), Some((60_000, 1_001))), doubled);
    }

    #[test]
    fn a_declared_rate_that_the_frames_do_not_keep_is_not_believed() {
        let stamps = stamps(30.0, 7, 1);
        assert_eq!(measure(&stamps[..3], Some((60, 1))), None, "wait for more");
        assert_eq!(
            measure(&stamps, Some((60, 1))),
            Some(Cadence { num: 3_000, den: 1, known: true })
        );
    }

    #[test]
    fn jitter_and_one_long_pause_do_not_hide_the_rate() {
        let jittered = [0, 2_800, 6_150, 8_950, 12_100, 102_000, 105_050, 107_900];
        assert_eq!(measure(&jittered, None), Some(Cadence { num: 3_000, den: 1, known: true }));
    }

    #[test]
    fn a_cadence_measured_in_a_bad_moment_is_corrected_by_a_whole_group() {
        let odd = Cadence { num: 2_450, den: 1, known: false };
        let thirty = Cadence { num: 3_000, den: 1, known: true };
        assert_eq!(odd.corrected(60, 180_400, ClockRate::VIDEO), Some(thirty));
        assert_eq!(thirty.corrected(60, 178_000, ClockRate::VIDEO), None, "near enough");
        assert_eq!(odd.corrected(5, 15_000, ClockRate::VIDEO), None, "too few frames");
        assert_eq!(odd.corrected(60, 0, ClockRate::VIDEO), None);
    }

    #[test]
    fn a_cadence_that_leaves_parts_too_short_is_placed_by_the_next_that_fills_them() {
        let cadence = |num, den| Cadence { num, den, known: false };
        for (given, target, placed) in [
            (cadence(3_000, 1), 18_000, cadence(3_000, 1)),
            (cadence(11_250, 1), 18_000, cadence(18_000, 2)),
            (cadence(3_750, 1), 18_000, cadence(18_000, 5)),
            (cadence(3_003, 2), 18_000, cadence(18_000, 12)),
            (cadence(90_000, 1), 18_000, cadence(90_000, 1)),
        ] {
            assert_eq!(given.filling(target), placed, "{given:?}");
        }
    }

    #[test]
    fn nonsense_gives_some_cadence_and_no_panic() {
        for dts in
            [vec![], vec![5], vec![0; 9], vec![i64::MAX, i64::MIN, 0, i64::MAX], vec![9, 5, 1]]
        {
            let cadence = Cadence::of_video(&dts, None, ClockRate::VIDEO, false).unwrap();
            assert!(cadence.num > 0 && cadence.den > 0, "{dts:?}");
        }
    }
}
