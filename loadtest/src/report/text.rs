//! A report as text for a terminal.
//!
//! Not here: JSON and HTML.

use std::fmt::Write as _;

use super::{Report, SendDelay, Server, Viewers};
use crate::histogram::Percentiles;
use crate::units::{show_bytes, show_count};

impl Report {
    /// The report as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let run = &self.run;
        let (width, height) = run.size;
        writeln!(out, "server      {}", run.server)?;
        writeln!(
            out,
            "streams     {width}x{height}, {:.2} frames/s, {:.2} Mb/s; measured for {:.1} s",
            run.fps,
            run.bitrate as f64 / 1e6,
            run.measured_s
        )?;
        for publishers in &self.publishers {
            writeln!(
                out,
                "\npublishers  {} by {}: {} frames, {} sent; {} failed",
                publishers.count,
                publishers.kind,
                show_count(publishers.frames),
                show_bytes(publishers.bytes as f64),
                publishers.failed
            )?;
            problems(out, &publishers.problems)?;
        }
        for viewers in &self.viewers {
            section(out, viewers, run.measured_s)?;
        }
        if let Some(server) = &self.server {
            server.write(out)?;
        }
        let own = &self.generator;
        write!(
            out,
            "\ngenerator   {:.2} cores, {}",
            own.cores,
            show_bytes(own.usage.rss_bytes as f64)
        )?;
        if let Some(us) = own.cpu_us_per_packet {
            write!(out, ", {us:.2} µs a packet")?;
        }
        writeln!(out, "; timers late by {:.1} ms at worst", own.late_ms_max)?;
        for broken in &self.broken {
            writeln!(out, "MISSED      {broken}")?;
        }
        Ok(())
    }
}

fn section(out: &mut String, viewers: &Viewers, seconds: f64) -> std::fmt::Result {
    let counts = &viewers.counts;
    writeln!(
        out,
        "\nviewers     {} by {}; {} failed, {} without a frame",
        show_count(viewers.started),
        viewers.kind,
        viewers.failed,
        viewers.without_frames
    )?;
    problems(out, &viewers.problems)?;
    percentiles(out, "latency", &viewers.latency)?;
    percentiles(out, "start-up", &viewers.startup)?;
    writeln!(
        out,
        "  frames    {} came, {} lost ({:.4} %), {} out of order, {} twice",
        show_count(counts.frames),
        show_count(counts.lost),
        viewers.loss * 100.0,
        counts.reordered,
        counts.duplicates
    )?;
    writeln!(
        out,
        "  freezes   {} of {} viewers, {:.1} s in all; longest gap {:.0} ms",
        counts.freezes,
        viewers.frozen_viewers,
        counts.frozen_us as f64 / 1e6,
        counts.longest_gap_us as f64 / 1e3
    )?;
    let rate = |count: u64| show_count((count as f64 / seconds.max(0.001)) as u64);
    write!(out, "  rate      {}/s", show_bytes(viewers.bytes as f64 / seconds.max(0.001)))?;
    for (count, name) in [
        (viewers.packets, "packets"),
        (viewers.playlist_requests, "playlist requests"),
        (viewers.requests, "other requests"),
    ] {
        if count > 0 {
            write!(out, ", {} {name}/s", rate(count))?;
        }
    }
    if viewers.dropped > 0 {
        write!(out, "; {} dropped on purpose", show_count(viewers.dropped))?;
    }
    writeln!(out)?;
    viewers.hls.iter().try_for_each(|found| write!(out, "{found}"))
}

fn percentiles(out: &mut String, name: &str, of: &Percentiles) -> std::fmt::Result {
    writeln!(
        out,
        "  {name:<9} p50 {:>7.1}  p90 {:>7.1}  p95 {:>7.1}  p99 {:>7.1}  max {:>7.1} ms",
        of.p50_ms, of.p90_ms, of.p95_ms, of.p99_ms, of.max_ms
    )
}

fn problems(
    out: &mut String,
    problems: &std::collections::BTreeMap<String, u64>,
) -> std::fmt::Result {
    problems.iter().try_for_each(|(text, count)| writeln!(out, "  {count} times  {text}"))
}

impl Server {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nserver      {:.3} cores ({:.2} s user, {:.2} s system), {} resident, {} threads, {} descriptors",
            self.cores,
            self.usage.user_s,
            self.usage.system_s,
            show_bytes(self.usage.rss_bytes as f64),
            self.usage.threads,
            self.usage.descriptors
        )?;
        let mut figures = Vec::new();
        if let Some(us) = self.cpu_us_per_packet {
            figures.push(format!("{us:.3} µs an RTP packet"));
        }
        if let Some(us) = self.cpu_us_per_playlist_request {
            figures.push(format!("{us:.2} µs a playlist request"));
        }
        if let Some(ms) = self.cpu_ms_per_publisher {
            figures.push(format!("{ms:.2} ms/s a publisher"));
        }
        if let Some(bytes) = self.rss_per_viewer_bytes {
            figures.push(format!("{} a viewer", show_bytes(bytes)));
        }
        if !figures.is_empty() {
            writeln!(out, "  cost      {}", figures.join(", "))?;
        }
        if let Some(SendDelay { samples, p50_ms, p99_ms }) = self.send_delay {
            let samples = show_count(samples);
            writeln!(
                out,
                "  inside    p50 {p50_ms:.2}, p99 {p99_ms:.2} ms from a frame's arrival to its sending ({samples} samples)"
            )?;
        }
        Ok(())
    }
}
