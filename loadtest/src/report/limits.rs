//! Limits that a run must keep, and which of them it missed.
//!
//! Not here: what is done about it (the exit code).

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::{Report, Viewers};
use crate::units;

/// Limits on the command line. Those of viewers hold for every kind, or for one when the limit
/// is written as `whep:200ms`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits (exit code 1 when one is missed)")]
pub struct Limits {
    /// Latency that 99 % of the frames keep
    #[arg(long, value_name = "[KIND:]TIME")]
    pub max_latency_p99: Vec<Of<Time>>,
    /// Latency that half of the frames keep
    #[arg(long, value_name = "[KIND:]TIME")]
    pub max_latency_p50: Vec<Of<Time>>,
    /// Time to the first frame that 95 % of the viewers keep
    #[arg(long, value_name = "[KIND:]TIME")]
    pub max_startup_p95: Vec<Of<Time>>,
    /// Share of the frames that are lost
    #[arg(long, value_name = "[KIND:]PERCENT")]
    pub max_loss: Vec<Of<Share>>,
    /// Longest gap between two frames (parts, for LL-HLS) of any viewer
    #[arg(long, value_name = "[KIND:]TIME")]
    pub max_gap: Vec<Of<Time>>,
    /// Viewers and publishers that fail
    #[arg(long, value_name = "COUNT")]
    pub max_failed: Option<u64>,
    /// Server's CPU microseconds an RTP packet (needs --pid)
    #[arg(long, value_name = "MICROSECONDS")]
    pub max_cpu_us_per_packet: Option<f64>,
    /// Server's CPU microseconds a request for a playlist (needs --pid)
    #[arg(long, value_name = "MICROSECONDS")]
    pub max_cpu_us_per_playlist_request: Option<f64>,
    /// Server's memory a viewer (needs --pid)
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub max_rss_per_viewer: Option<u64>,
}

/// A limit of one kind of viewers, or of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Of<T> {
    kind: Option<String>,
    limit: T,
}

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Time(Duration);

/// A share of 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        units::duration(text).map(Self)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        units::percent(text).map(Self)
    }
}

impl<T: FromStr<Err = String>> FromStr for Of<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, limit) = match text.split_once(':') {
            Some((kind, limit)) => (Some(kind.to_owned()), limit),
            None => (None, text),
        };
        Ok(Self { kind, limit: limit.parse()? })
    }
}

/// What a viewer kind that misbehaves on purpose is called: limits without a kind spare it.
const MISBEHAVING: &str = "-bad";

impl Limits {
    /// The limits that were missed, each as a sentence.
    #[must_use]
    pub fn broken(&self, report: &Report) -> Vec<String> {
        let mut broken = Vec::new();
        type Measure = fn(&Viewers) -> f64;
        let times: [(&str, &[Of<Time>], Measure); 4] = [
            ("latency p50", &self.max_latency_p50, |v| v.latency.p50_ms),
            ("latency p99", &self.max_latency_p99, |v| v.latency.p99_ms),
            ("start-up p95", &self.max_startup_p95, |v| v.startup.p95_ms),
            ("longest gap", &self.max_gap, |v| v.counts.longest_gap_us as f64 / 1_000.0),
        ];
        for (name, limits, measure) in times {
            for (viewers, Time(limit)) in applied(limits, report) {
                let (got, limit) = (measure(viewers), limit.as_secs_f64() * 1_000.0);
                if got > limit || viewers.counts.frames == 0 {
                    broken.push(format!("{}: {name} {got:.1} ms > {limit} ms", viewers.kind));
                }
            }
        }
        for (viewers, Share(limit)) in applied(&self.max_loss, report) {
            if viewers.loss > *limit || viewers.counts.frames == 0 {
                let (got, limit) = (viewers.loss * 100.0, limit * 100.0);
                broken.push(format!("{}: loss {got:.3} % > {limit} %", viewers.kind));
            }
        }
        let failed = report.viewers.iter().map(|v| v.failed).sum::<u64>()
            + report.publishers.iter().map(|p| p.failed).sum::<u64>();
        if self.max_failed.is_some_and(|limit| failed > limit) {
            broken.push(format!("failed: {failed} > {}", self.max_failed.unwrap_or(0)));
        }
        self.broken_by_server(report, &mut broken);
        broken
    }

    fn broken_by_server(&self, report: &Report, broken: &mut Vec<String>) {
        let server = report.server.as_ref();
        let mut check = |name: &str, limit: Option<f64>, got: Option<f64>, unit: &str| {
            let Some(limit) = limit else { return };
            match got {
                Some(got) if got <= limit => {}
                Some(got) => {
                    broken.push(format!("server: {name} {got:.2} {unit} > {limit} {unit}"))
                }
                None => broken.push(format!("server: {name} was not measured (--pid, viewers?)")),
            }
        };
        check(
            "CPU per packet",
            self.max_cpu_us_per_packet,
            server.and_then(|server| server.cpu_us_per_packet),
            "µs",
        );
        check(
            "CPU per playlist request",
            self.max_cpu_us_per_playlist_request,
            server.and_then(|server| server.cpu_us_per_playlist_request),
            "µs",
        );
        check(
            "memory per viewer",
            self.max_rss_per_viewer.map(|limit| limit as f64 / 1_000.0),
            server.and_then(|server| server.rss_per_viewer_bytes).map(|bytes| bytes / 1_000.0),
            "KB",
        );
    }
}

/// The viewers that each limit is for.
fn applied<'a, T>(
    limits: &'a [Of<T>],
    report: &'a Report,
) -> impl Iterator<Item = (&'a Viewers, &'a T)> {
    limits.iter().flat_map(|of| {
        report.viewers.iter().filter_map(move |viewers| {
            let meant = match &of.kind {
                Some(kind) => viewers.kind == *kind,
                None => !viewers.kind.ends_with(MISBEHAVING),
            };
            meant.then_some((viewers, &of.limit))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Percentiles;
    use crate::meter::Counts;
    use crate::report::Server;

    fn report() -> Report {
        let counts = Counts { frames: 1_000, lost: 2, longest_gap_us: 90_000, ..Counts::default() };
        let viewers = |kind: &str, p99_ms: f64| Viewers {
            kind: kind.to_owned(),
            counts,
            loss: 0.002,
            latency: Percentiles { p99_ms, ..Percentiles::default() },
            ..Viewers::default()
        };
        let server = Server { cpu_us_per_packet: Some(1.5), ..Server::default() };
        Report {
            viewers: vec![viewers("whep", 9.0), viewers("hls", 700.0), viewers("whep-bad", 9e9)],
            server: Some(server),
            ..Report::default()
        }
    }

    fn of<T: FromStr<Err = String>>(text: &str) -> Vec<Of<T>> {
        vec![text.parse().unwrap()]
    }

    #[test]
    fn a_limit_that_is_kept_is_not_named() {
        let limits = Limits {
            max_latency_p99: of("whep:10ms"),
            max_loss: of("1%"),
            max_gap: of("100ms"),
            max_failed: Some(0),
            max_cpu_us_per_packet: Some(2.0),
            ..Limits::default()
        };
        assert_eq!(limits.broken(&report()), [] as [&str; 0]);
    }

    #[test]
    fn each_missed_limit_is_named_with_both_numbers() {
        let limits = Limits {
            max_latency_p99: of("200ms"),
            max_loss: of("whep:0.1%"),
            max_cpu_us_per_packet: Some(1.0),
            max_rss_per_viewer: Some(1),
            ..Limits::default()
        };
        assert_eq!(
            limits.broken(&report()),
            [
                "hls: latency p99 700.0 ms > 200 ms",
                "whep: loss 0.200 % > 0.1 %",
                "server: CPU per packet 1.50 µs > 1 µs",
                "server: memory per viewer was not measured (--pid, viewers?)",
            ]
        );
    }

    #[test]
    fn viewers_without_frames_break_every_limit() {
        let mut report = report();
        report.viewers.truncate(1);
        report.viewers[0].counts.frames = 0;
        let limits = Limits { max_loss: of("50%"), ..Limits::default() };
        assert_eq!(limits.broken(&report).len(), 1);
    }
}
