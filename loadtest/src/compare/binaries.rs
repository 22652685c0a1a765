//! Two builds of the node, each started anew for every run of the same scenario. Driver: waits.
//!
//! Not here: the scenario (`crate::scenario`).
#![allow(clippy::print_stderr, reason = "progress goes to stderr")]

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::figures::{Comparison, Limit};
use super::node::{self, Node};
use crate::report::Report;
use crate::scenario::{self, Options};

/// See [`super::Command::Headwater`].
#[derive(Args, Clone, Debug)]
pub struct Binaries {
    /// The first build
    #[arg(long, value_name = "PATH")]
    pub a: PathBuf,
    /// The second build
    #[arg(long, value_name = "PATH")]
    pub b: PathBuf,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// First port to use
    #[arg(long, default_value_t = 22_400)]
    pub port: u16,
    /// Limit of a ratio of b to a, `FIGURE=RATIO`; may be repeated
    #[arg(long, value_name = "FIGURE=RATIO")]
    pub max_ratio: Vec<Limit>,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(binaries: &Binaries) -> anyhow::Result<Comparison> {
    if binaries.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    let mut compared = Comparison {
        a: binaries.a.display().to_string(),
        b: binaries.b.display().to_string(),
        what: "the same load on a node started anew for each run".to_owned(),
        ..Comparison::default()
    };
    for round in 1..=binaries.rounds {
        for (name, program) in [("A", &binaries.a), ("B", &binaries.b)] {
            eprintln!("round {round}: {name}");
            let report = once(binaries, program).await?;
            for (figure, value) in figures(&report) {
                if name == "A" {
                    compared.a(&figure, value);
                } else {
                    compared.b(&figure, value);
                }
            }
            compared.broken.extend(
                report.broken.iter().map(|broken| format!("{name}, round {round}: {broken}")),
            );
        }
    }
    compared.hold_ratios(&binaries.max_ratio);
    Ok(compared)
}

async fn once(binaries: &Binaries, program: &Path) -> anyhow::Result<Report> {
    let port = node::free_ports(binaries.port, node::PORTS)?;
    let program = program.to_owned();
    let connections = binaries.options.hls.saturating_mul(6);
    let node = tokio::task::spawn_blocking(move || Node::start(&program, port, connections));
    let node = node.await??;
    let options = Options {
        server: node.url(),
        srt: Some(node.srt()),
        rtmp: Some(node.rtmp()),
        pid: Some(node.pid()),
        ..binaries.options.clone()
    };
    let report = scenario::run(&options, std::future::pending()).await;
    // It drains: not on a thread that others wait for.
    tokio::task::spawn_blocking(move || drop(node)).await?;
    report
}

/// The figures of a run that are worth a ratio.
fn figures(report: &Report) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    if let Some(server) = &report.server {
        let of_server = [
            ("server_cores", Some(server.cores)),
            ("cpu_us_per_packet", server.cpu_us_per_packet),
            ("cpu_us_per_playlist_request", server.cpu_us_per_playlist_request),
            ("cpu_ms_per_publisher", server.cpu_ms_per_publisher),
            ("rss_per_viewer_bytes", server.rss_per_viewer_bytes),
            ("send_delay_p50_ms", server.send_delay.map(|delay| delay.p50_ms)),
            ("send_delay_p99_ms", server.send_delay.map(|delay| delay.p99_ms)),
        ];
        let there = of_server.into_iter().filter_map(|(name, value)| Some((name, value?)));
        figures.extend(there.map(|(name, value)| (name.to_owned(), value)));
    }
    for viewers in &report.viewers {
        for (name, value) in [
            ("latency_p50_ms", viewers.latency.p50_ms),
            ("latency_p99_ms", viewers.latency.p99_ms),
            ("startup_p95_ms", viewers.startup.p95_ms),
        ] {
            figures.push((format!("{}_{name}", viewers.kind), value));
        }
    }
    figures
}
