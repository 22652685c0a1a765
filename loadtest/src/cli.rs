//! The command line of `headwater-loadtest`.
//!
//! Not here: what the commands do.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "results go to stdout")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::clock;
use crate::compare;
use crate::process;
use crate::scenario::{self, Options};
use crate::simulate;

/// Publishers and viewers by the thousand for live servers, with a latency meter and a report.
#[derive(Debug, Parser)]
#[command(name = "headwater-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs publishers and viewers against a server, and reports
    ///
    /// Figures of CPU and memory are the server's own with `--pid`. Latency is from handing a
    /// frame to the publisher's protocol to having it whole, by one clock: run both sides on one
    /// machine, or keep the machines' clocks together.
    Run(Box<Load>),
    /// Publishes alone, until interrupted or for `--hold`
    Publish(Box<Load>),
    /// Views alone what is live already
    View(Box<Load>),
    /// Runs two servers in turn, and prints ratios
    Compare {
        /// What to compare
        #[command(subcommand)]
        what: compare::Command,
        /// Writes the figures as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Simulates a cluster with up to a thousand relays and a million viewers
    Simulate(Box<Paper>),
}

#[derive(Debug, clap::Args)]
struct Paper {
    #[command(flatten)]
    options: simulate::Options,
    /// Writes the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Load {
    #[command(flatten)]
    options: Options,
    /// Writes the report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    json: Option<PathBuf>,
    /// Writes the report as one HTML page with plots
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    html: Option<PathBuf>,
}

/// Runs the program; the exit code is 0, 1 for errors and missed limits, 2 for bad usage.
#[must_use]
pub fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    process::open_many_files();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no event loop")
        .and_then(|runtime| runtime.block_on(command(cli.command)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; whether every limit was kept.
async fn command(command: Command) -> anyhow::Result<bool> {
    let load = match command {
        Command::Run(load) => load,
        Command::Publish(mut load) => {
            (load.options.whep, load.options.hls, load.options.flash) = (0, 0, 0);
            load.options.waiting = 0;
            load
        }
        Command::View(mut load) => {
            load.options.publish.clear();
            load
        }
        Command::Compare { what, json } => {
            let compared = Box::pin(compare::run(&what, interrupt())).await?;
            println!("{compared}");
            if let Some(file) = &json {
                write(file, serde_json::to_string_pretty(&compared)?)?;
            }
            return Ok(compared.broken.is_empty());
        }
        Command::Simulate(paper) => return simulated(&paper),
    };
    let report = Box::pin(scenario::run(&load.options, interrupt())).await?;
    println!("{}", report.text());
    if let Some(file) = &load.json {
        write(file, report.json()?)?;
    }
    if let Some(file) = &load.html {
        write(file, report.html()?)?;
    }
    Ok(report.broken.is_empty())
}

fn simulated(paper: &Paper) -> anyhow::Result<bool> {
    let began_us = clock::now_us();
    let report = simulate::run(&paper.options)?;
    print!("{}", report.text());
    println!("simulated in {:.1} s", clock::now_us().saturating_sub(began_us) as f64 / 1e6);
    if let Some(file) = &paper.json {
        write(file, report.json()?)?;
    }
    if let Some(file) = &paper.html {
        write(file, report.html()?)?;
    }
    Ok(true)
}

/// Resolves when the user interrupts the program.
async fn interrupt() {
    // Without a handler the signal ends the program at once, which is no worse.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn write(file: &Path, text: String) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
