//! How long frames were inside the server before they left it, as it says itself in its metrics
//! (Prometheus text).
//!
//! Not here: asking for them (`run`).

use crate::report::SendDelay;

/// Our node's histogram of it; other servers have none.
const BUCKETS: &str = "headwater_webrtc_send_delay_seconds_bucket{le=\"";

/// A cumulative histogram: upper bounds in seconds, and how many were at most that.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SendDelays(Vec<(f64, u64)>);

impl SendDelays {
    /// What the metrics of a server say; nothing where they do not.
    pub(super) fn read(text: &str) -> Self {
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(BUCKETS)?.split_once("\"} ")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(bucket).collect())
    }

    /// What came since `earlier`; none where nothing did.
    pub(super) fn since(&self, earlier: &Self) -> Option<SendDelay> {
        let before = |bound: f64| {
            earlier.0.iter().find(|(other, _)| *other == bound).map_or(0, |(_, count)| *count)
        };
        let counts =
            self.0.iter().map(|(bound, count)| (*bound, count - before(*bound).min(*count)));
        let counts: Vec<(f64, u64)> = counts.collect();
        let samples = counts.last().map_or(0, |(_, count)| *count);
        (samples > 0).then(|| SendDelay {
            samples,
            p50_ms: quantile(&counts, samples, 0.5) * 1e3,
            p99_ms: quantile(&counts, samples, 0.99) * 1e3,
        })
    }
}

/// As Prometheus reckons it: evenly spread within a bucket. Beyond the last bound, that bound.
fn quantile(counts: &[(f64, u64)], samples: u64, of: f64) -> f64 {
    let rank = samples as f64 * of;
    let (mut below, mut counted) = (0.0, 0);
    for (bound, count) in counts {
        if *count as f64 >= rank {
            if bound.is_infinite() {
                return below;
            }
            let within = (rank - counted as f64) / (count - counted).max(1) as f64;
            return below + (bound - below) * within;
        }
        (below, counted) = (*bound, *count);
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(counts: [u64; 3]) -> String {
        let [a, b, c] = counts;
        let name = BUCKETS;
        format!("# HELP x\n{name}0.001\"}} {a}\n{name}0.002\"}} {b}\n{name}+Inf\"}} {c}\nother 7\n")
    }

    #[test]
    fn the_delays_of_the_measured_time_are_told_from_those_before() {
        let (before, after) =
            (SendDelays::read(&text([100, 100, 100])), SendDelays::read(&text([150, 198, 200])));
        let delay = after.since(&before).unwrap();
        assert_eq!(delay.samples, 100);
        assert!((delay.p50_ms - 1.0).abs() < 1e-9, "{delay:?}");
        assert!((delay.p99_ms - 2.0).abs() < 1e-9, "beyond the last bound: {delay:?}");
    }

    #[test]
    fn a_server_without_such_metrics_has_no_figure() {
        let nothing = SendDelays::read("a 1\n");
        assert_eq!(nothing.since(&SendDelays::default()), None);
        let some = SendDelays::read(&text([1, 2, 3]));
        assert_eq!(some.since(&some), None);
    }
}
