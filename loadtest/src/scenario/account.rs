//! Counts of a run at moments, and what lies between two of them.
//!
//! Not here: when those moments are (`run`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::time::Instant;

use super::exposition::SendDelays;
use crate::live::{Side, get};
use crate::process::Usage;
use crate::report::{Generator, Publishers, Report, Sample, Server, ViewerSample, Viewers};
use crate::units::{show_bytes, show_count};

/// The counters of one kind of viewers at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    frames: u64,
    packets: u64,
    bytes: u64,
    playlist_requests: u64,
    requests: u64,
}

impl Counters {
    fn of(side: &Side) -> Self {
        Self {
            frames: get(&side.frames),
            packets: get(&side.packets),
            bytes: get(&side.bytes),
            playlist_requests: get(&side.playlist_requests),
            requests: get(&side.requests),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            frames: self.frames.saturating_sub(earlier.frames),
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            playlist_requests: self.playlist_requests.saturating_sub(earlier.playlist_requests),
            requests: self.requests.saturating_sub(earlier.requests),
        }
    }
}

/// Everything that is counted, at a moment.
#[derive(Debug, Clone)]
struct Moment {
    at: Instant,
    server: Option<Usage>,
    own: Usage,
    viewers: Vec<Counters>,
}

/// The books of a run.
pub(super) struct Account {
    pid: Option<u32>,
    began: Instant,
    pub(super) publishers: Vec<(Arc<Side>, u64)>,
    pub(super) viewers: Vec<Arc<Side>>,
    last: Moment,
    from: Option<Moment>,
    to: Option<Moment>,
    /// Before and after the measured time.
    delays: (SendDelays, SendDelays),
    rss_before: u64,
    rss_max: u64,
    viewers_max: u64,
    pub(super) series: Vec<Sample>,
}

impl Account {
    pub(super) fn new(
        pid: Option<u32>,
        publishers: Vec<(Arc<Side>, u64)>,
        viewers: Vec<Arc<Side>>,
    ) -> Self {
        let began = Instant::now();
        let own = Usage::own();
        let server = pid.and_then(Usage::of);
        let rss = server.map_or(0, |usage| usage.rss_bytes);
        let none = vec![Counters::default(); viewers.len()];
        Self {
            pid,
            began,
            publishers,
            viewers,
            last: Moment { at: began, server, own, viewers: none },
            from: None,
            to: None,
            delays: <_>::default(),
            rss_before: rss,
            rss_max: rss,
            viewers_max: 0,
            series: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            at: Instant::now(),
            server: self.pid.and_then(Usage::of),
            own: Usage::own(),
            viewers: self.viewers.iter().map(|side| Counters::of(side)).collect(),
        }
    }

    /// The measured time begins.
    pub(super) fn begin(&mut self, delays: SendDelays) {
        self.from = Some(self.moment());
        self.delays.0 = delays;
    }

    /// The measured time ends.
    pub(super) fn end(&mut self) {
        self.to = Some(self.moment());
    }

    /// What the server says of the delays up to here.
    pub(super) fn delays(&mut self, delays: SendDelays) {
        self.delays.1 = delays;
    }

    /// Notes the second that has passed; gives the line that says how it was.
    pub(super) fn second(&mut self) -> String {
        let now = self.moment();
        let seconds = (now.at - self.last.at).as_secs_f64().max(0.001);
        let cores = |now: &Usage, last: &Usage| now.since(last).cpu_s() / seconds;
        let server_cores = now.server.zip(self.last.server).map(|(now, last)| cores(&now, &last));
        let mut sample = Sample {
            at_s: (now.at - self.began).as_secs_f64(),
            server_cores: server_cores.unwrap_or(0.0),
            server_rss_bytes: now.server.map_or(0, |usage| usage.rss_bytes),
            generator_cores: cores(&now.own, &self.last.own),
            viewers: Vec::new(),
        };
        let mut line = format!("{:>4.0}s", sample.at_s);
        for (side, count) in &self.publishers {
            line += &format!("  {} {}/{count}", side.kind, get(&side.active));
        }
        for ((side, now), last) in self.viewers.iter().zip(&now.viewers).zip(&self.last.viewers) {
            let passed = now.since(last);
            let latency = side.take_interval().percentiles();
            let active = get(&side.active);
            line += &format!("  {} {active}", side.kind);
            let failed = get(&side.failed);
            if failed > 0 {
                line += &format!(" ({failed} failed)");
            }
            if active > 0 {
                let things = passed.packets.max(passed.playlist_requests + passed.requests);
                let (p50, p99) = (latency.p50_ms, latency.p99_ms);
                line += &format!(" {}/s p50 {p50:.0} p99 {p99:.0} ms", show_count(things));
            }
            let (frames, packets) = (passed.frames, passed.packets);
            sample.viewers.push(ViewerSample { active, frames, packets, latency });
        }
        if let (Some(cores), Some(usage)) = (server_cores, now.server) {
            line += &format!("  server {cores:.2} cores {}", show_bytes(usage.rss_bytes as f64));
        }
        line += &format!("  own {:.2}", sample.generator_cores);
        self.rss_max = self.rss_max.max(sample.server_rss_bytes);
        self.viewers_max =
            self.viewers_max.max(sample.viewers.iter().map(|viewers| viewers.active).sum());
        self.series.push(sample);
        self.last = now;
        line
    }

    /// The report, once all viewers have left.
    pub(super) fn report(self, mut report: Report, late_ms_max: f64) -> Report {
        let from = self.from.as_ref().unwrap_or(&self.last);
        let to = self.to.as_ref().unwrap_or(&self.last);
        let seconds = (to.at - from.at).as_secs_f64();
        report.run.measured_s = seconds;
        for (side, count) in &self.publishers {
            report.publishers.push(Publishers {
                kind: side.kind.to_owned(),
                count: *count,
                failed: get(&side.failed),
                frames: get(&side.frames),
                bytes: get(&side.bytes),
                problems: side.problems(),
            });
        }
        let mut passed = Counters::default();
        for ((side, to), from) in self.viewers.iter().zip(&to.viewers).zip(&from.viewers) {
            let own = to.since(from);
            passed.packets += own.packets;
            passed.playlist_requests += own.playlist_requests;
            let mut viewers = Viewers {
                kind: side.kind.to_owned(),
                started: get(&side.started),
                failed: get(&side.failed),
                packets: own.packets,
                bytes: own.bytes,
                playlist_requests: own.playlist_requests,
                requests: own.requests,
                dropped: get(&side.dropped),
                problems: side.problems(),
                ..Viewers::default()
            };
            viewers.see(&side.totals());
            report.viewers.push(viewers);
        }
        let own = to.own.since(&from.own);
        let each = |seconds: f64, count: u64| (count > 0).then(|| seconds * 1e6 / count as f64);
        report.generator = Generator {
            usage: own,
            cores: own.cpu_s() / seconds.max(0.001),
            cpu_us_per_packet: each(own.cpu_s(), passed.packets),
            late_ms_max,
        };
        report.server = self.pid.zip(to.server.zip(from.server)).map(|(pid, (to, from))| {
            let usage = to.since(&from);
            let publishers: u64 = self.publishers.iter().map(|(_, count)| count).sum();
            let grown = self.rss_max.saturating_sub(self.rss_before) as f64;
            Server {
                pid,
                usage,
                cores: usage.cpu_s() / seconds.max(0.001),
                cpu_us_per_packet: each(usage.cpu_s(), passed.packets),
                cpu_us_per_playlist_request: each(usage.cpu_s(), passed.playlist_requests),
                cpu_ms_per_publisher: (publishers > 0)
                    .then(|| usage.cpu_s() * 1e3 / seconds.max(0.001) / publishers as f64),
                rss_before_bytes: self.rss_before,
                rss_max_bytes: self.rss_max,
                send_delay: self.delays.1.since(&self.delays.0),
                rss_per_viewer_bytes: (self.viewers_max > 0)
                    .then(|| grown / self.viewers_max as f64),
            }
        });
        report.series = self.series;
        report
    }
}
