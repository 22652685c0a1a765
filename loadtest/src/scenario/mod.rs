//! A run: publishers start, viewers come and go, everything is counted, and a report is made.
//!
//! Not here: how a protocol publishes or views.

use clap::Args;

use crate::report::Report;

/// What to run; every command that runs a load takes these.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The server's HTTP interface, for WHIP, WHEP and HLS.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// Its process, on this machine: the report says what it used.
    #[arg(long)]
    pub pid: Option<u32>,
}

/// Runs a load until it is over, or `stop` resolves.
///
/// # Errors
/// The options contradict each other, or the server is not there.
pub async fn run(options: &Options, stop: impl Future<Output = ()>) -> anyhow::Result<Report> {
    let _ = (options, stop);
    Ok(Report::default())
}
