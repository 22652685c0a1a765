//! What a simulation found, as text, JSON and one HTML page.
//!
//! Not here: drawing (`report::plot`).

use std::fmt::Write as _;

use serde::Serialize;

use super::Options;
use crate::histogram::Percentiles;
use crate::report::html::page;
use crate::report::plot::{Line, Plot};

/// A simulation.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// Things that happened.
    pub events: u64,
    /// Viewers at the end by their node's hops from the owner.
    pub depths: Vec<u64>,
    /// What relays send at the end.
    pub relays: Load,
    /// What origins send at the end.
    pub origins: Load,
    /// From a viewer's wish to its first frame, handshakes included.
    pub startup: Percentiles,
    /// Its cumulative distribution: milliseconds, share.
    pub startup_distribution: Vec<(f64, f64)>,
    /// Of that, until its node had the stream.
    pub wait: Percentiles,
    /// What died.
    pub deaths: Deaths,
    /// How long viewers below a dead node had nothing.
    pub freeze: Percentiles,
    /// Its cumulative distribution: milliseconds, share.
    pub freeze_distribution: Vec<(f64, f64)>,
    /// How long a dead node's own viewers took to play elsewhere.
    pub moved_viewers: Percentiles,
    /// What each new plan moved.
    pub churn: Vec<Churn>,
    /// One entry a simulated second.
    pub series: Vec<Sample>,
}

/// What nodes send to viewers and other nodes, in Mb/s.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Load {
    /// How many there are.
    pub nodes: usize,
    /// The mean.
    pub mean_mbps: f64,
    /// Half send at most this.
    pub p50_mbps: f64,
    /// 99 % send at most this.
    pub p99_mbps: f64,
    /// The most.
    pub max_mbps: f64,
}

impl Load {
    pub(super) fn of(sorted: &[f64]) -> Self {
        let at = |percent: usize| {
            sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        };
        Self {
            nodes: sorted.len(),
            mean_mbps: sorted.iter().sum::<f64>() / sorted.len().max(1) as f64,
            p50_mbps: at(50).copied().unwrap_or_default(),
            p99_mbps: at(99).copied().unwrap_or_default(),
            max_mbps: sorted.last().copied().unwrap_or_default(),
        }
    }
}

/// What died.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Deaths {
    /// Nodes.
    pub nodes: u64,
    /// Their own viewers.
    pub viewers: u64,
    /// Streams of other nodes that came from them.
    pub orphans: u64,
}

/// What a new plan moved.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Churn {
    /// Nodes before.
    pub nodes: usize,
    /// How many of them left.
    pub left: usize,
    /// Edges in use.
    pub edges: u64,
    /// Those with another parent than before.
    pub moved: u64,
}

/// One simulated second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Sample {
    /// Its end.
    pub at_s: f64,
    /// Viewers who play.
    pub viewers: u64,
    /// Copies of streams from node to node.
    pub hop_copies: u64,
    /// Those between regions.
    pub far_copies: u64,
    /// The least there could be: one into each region where a stream is watched.
    pub far_copies_least: u64,
    /// What the busiest node sends.
    pub node_mbps_max: f64,
    /// What nodes send on average.
    pub node_mbps_mean: f64,
}

impl Report {
    /// The share of edges that new plans moved, for each node that left, and the least it could
    /// be: 1/n.
    #[must_use]
    pub fn churn_in_all(&self) -> (f64, f64) {
        let one = self.churn.iter().filter(|churn| churn.left == 1 && churn.edges > 0);
        let count = one.clone().count().max(1) as f64;
        let moved = one.clone().map(|churn| churn.moved as f64 / churn.edges as f64).sum::<f64>();
        (moved / count, one.map(|churn| 1.0 / churn.nodes as f64).sum::<f64>() / count)
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// A figure is no number.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The report for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let Options { viewers, relays, streams, regions, seed, .. } = &self.options;
        let mut text = format!(
            "{viewers} viewers, {relays} relays in {regions} regions, {streams} streams; seed \
             {seed}, {} events\n",
            self.events
        );
        self.describe(&mut text);
        text
    }

    fn describe(&self, text: &mut String) {
        let last = self.series.last().copied().unwrap_or_default();
        let gbps = self.options.bitrate as f64 / 1e9;
        let watching = self.depths.iter().sum::<u64>().max(1) as f64;
        let depths = self.depths.iter().enumerate().filter(|(_, viewers)| **viewers > 0);
        let depths: Vec<_> = depths
            .map(|(hops, viewers)| format!("{hops}: {:.1} %", *viewers as f64 * 100.0 / watching))
            .collect();
        let mut line = |name: &str, words: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<22}{words}");
        };
        line("hops from the owner", depths.join(", "));
        line(
            "between nodes",
            format!(
                "{} copies, {:.1} Gb/s ({:.1} % of what viewers take)",
                last.hop_copies,
                last.hop_copies as f64 * gbps,
                last.hop_copies as f64 * 100.0 / last.viewers.max(1) as f64,
            ),
        );
        line(
            "between regions",
            format!(
                "{} copies, {:.1} Gb/s: {:.2} times the least",
                last.far_copies,
                last.far_copies as f64 * gbps,
                last.far_copies as f64 / last.far_copies_least.max(1) as f64,
            ),
        );
        for (name, load) in [("a relay sends", &self.relays), ("an origin sends", &self.origins)] {
            line(
                name,
                format!(
                    "mean {:.0}, p99 {:.0}, most {:.0} Mb/s ({:.2} times the mean)",
                    load.mean_mbps,
                    load.p99_mbps,
                    load.max_mbps,
                    load.max_mbps / load.mean_mbps.max(1e-9)
                ),
            );
        }
        let times = |one: &Percentiles| {
            format!(
                "p50 {:.0}, p95 {:.0}, p99 {:.0}, most {:.0} ms of {}",
                one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms, one.count
            )
        };
        line("start-up", times(&self.startup));
        line("  until the stream", times(&self.wait));
        if self.deaths.nodes > 0 {
            line(
                "died",
                format!(
                    "{} nodes with {} viewers, and {} streams of other nodes",
                    self.deaths.nodes, self.deaths.viewers, self.deaths.orphans
                ),
            );
            line("  freeze below them", times(&self.freeze));
            line("  their own viewers", times(&self.moved_viewers));
            let (moved, least) = self.churn_in_all();
            if moved > 0.0 {
                line(
                    "  edges moved",
                    format!("{:.3} % for each node: {:.2}/n", moved * 100.0, moved / least),
                );
            }
        }
    }

    /// The report as an HTML page.
    ///
    /// # Errors
    /// A plot cannot be drawn.
    pub fn html(&self) -> anyhow::Result<String> {
        let over_time = |name: &str, value: fn(&Sample) -> f64| Line {
            name: name.to_owned(),
            points: self.series.iter().map(|sample| (sample.at_s, value(sample))).collect(),
        };
        let distribution = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.iter().map(|(ms, share)| (*ms, share * 100.0)).collect(),
        };
        let plot =
            |title, across, up, lines, logarithmic| Plot { title, across, up, lines, logarithmic };
        let viewers = [over_time("viewers", |one| one.viewers as f64)];
        let copies = [
            over_time("between nodes", |one| one.hop_copies as f64),
            over_time("between regions", |one| one.far_copies as f64),
            over_time("the least between regions", |one| one.far_copies_least as f64),
        ];
        let load = [
            over_time("busiest node", |one| one.node_mbps_max),
            over_time("mean", |one| one.node_mbps_mean),
        ];
        let times = [
            distribution("start-up", &self.startup_distribution),
            distribution("freeze", &self.freeze_distribution),
        ];
        let plots = [
            plot("Viewers", "seconds", "playing", &viewers[..], false),
            plot("Copies of streams", "seconds", "copies", &copies[..], false),
            plot("What nodes send", "seconds", "Mb/s", &load[..], false),
            plot("Start-up and freezes", "milliseconds", "% of the viewers", &times[..], true),
        ];
        let mut drawn = Vec::new();
        for plot in plots {
            drawn.extend(plot.svg()?);
        }
        Ok(page("A simulated cluster", &self.text(), &drawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_told_by_their_place_in_the_order() {
        let loads: Vec<f64> = (1..=200).map(f64::from).collect();
        let load = Load::of(&loads);
        assert_eq!(
            (load.nodes, load.p50_mbps, load.p99_mbps, load.max_mbps),
            (200, 101.0, 199.0, 200.0)
        );
        assert_eq!(Load::of(&[]).max_mbps, 0.0);
    }
}
