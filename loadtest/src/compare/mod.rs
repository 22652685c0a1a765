//! Two servers in turn, A B A B: ratios of what they used and how fast they were, with their
//! spread over the rounds.
//!
//! Not here: one run (`scenario`).

mod binaries;
mod figures;
mod nginx;
pub mod node;
mod playlist;
mod scratch;

use clap::Subcommand;

pub use binaries::Binaries;
pub use figures::{Comparison, Figure, Limit, Spread};
pub use playlist::AgainstNginx;

/// What to compare.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Live playlists of a node with a static file of their size from nginx
    Nginx(AgainstNginx),
    /// Two builds of the node, in the same run
    Headwater(Box<Binaries>),
}

/// Compares; ends early, without figures, when `stop` resolves.
///
/// # Errors
/// A server cannot be started, or does not serve.
pub async fn run(command: &Command, stop: impl Future<Output = ()>) -> anyhow::Result<Comparison> {
    let compared = async {
        match command {
            Command::Nginx(options) => playlist::run(options).await,
            Command::Headwater(options) => binaries::run(options).await,
        }
    };
    tokio::select! {
        compared = compared => compared,
        () = stop => Err(anyhow::anyhow!("stopped: no figures")),
    }
}
