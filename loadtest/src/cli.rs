//! The command line of `headwater-loadtest`.
//!
//! Not here: what the commands do.
#![allow(clippy::print_stdout, reason = "results go to stdout")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::scenario;

/// Publishers and viewers by the thousand for live servers, with a latency meter and a report.
#[derive(Debug, Parser)]
#[command(name = "headwater-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs publishers and viewers against a server, and reports.
    Run(scenario::Options),
}

/// Runs the program; the exit code is 0, 1 for errors and missed limits, 2 for bad usage.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(_) => ExitCode::SUCCESS,
    }
}
