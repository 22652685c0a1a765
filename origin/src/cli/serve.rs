//! `headwater serve`: a runtime, a node, and the signals that end it. A driver file.
//!
//! Not here: what the node does.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::logging;
use crate::node::Node;

/// Runs a node until SIGTERM or SIGINT, then drains; a second signal ends at once.
pub(super) fn serve(config: Config) -> anyhow::Result<()> {
    logging::install(&config.values().log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let node = Node::bind(config).await?;
        let shutdown = CancellationToken::new();
        let mut running = std::pin::pin!(node.run(shutdown.clone()));
        tokio::select! {
            ended = &mut running => return ended,
            name = signals.next() => tracing::info!("{name}: once more ends at once"),
        }
        shutdown.cancel();
        tokio::select! {
            ended = running => ended,
            name = signals.next() => anyhow::bail!("{name} came again: ended without draining"),
        }
    });
    // Whatever still runs has had its time.
    runtime.shutdown_background();
    result
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
