//! `headwater serve`: a runtime, a node, and the signals that end it. A driver file.
//!
//! Not here: what the node does.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::descriptors;
use crate::config::{Config, Demo};
use crate::demo::{self, DemoOptions};
use crate::logging;
use crate::node::{Node, api_url};

/// Runs a node, with the test stream where `demo` says so, until SIGTERM or SIGINT, then drains; a second signal ends at once.
pub(super) fn serve(config: Config, demo: bool) -> anyhow::Result<()> {
    logging::install(&config.values().log)?;
    descriptors::raise(config.values());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let node = Node::bind(config).await?;
        let shutdown = CancellationToken::new();
        if demo {
            begin_demo(&node, shutdown.clone());
        }
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

/// Publishes the test stream beside the node and says where it is shown.
fn begin_demo(node: &Node, shutdown: CancellationToken) {
    let app = node.app();
    let options = demo_options(&app.config.values().demo);
    match node.addresses().http {
        Some(http) => {
            let page = format!("{}/play/{}\n", api_url(http), options.stream);
            if let Err(error) = super::say(&page) {
                tracing::warn!(%error, "cannot print the demo's page");
            }
        }
        None => tracing::warn!("no page shows the demo: [http] enabled = false"),
    }
    let (streams, sessions, clock) = (app.streams.clone(), app.sessions.clone(), app.clock);
    tokio::spawn(async move {
        match demo::run(options, streams, sessions, clock, shutdown).await {
            Ok(()) => tracing::info!("the demo has ended"),
            Err(error) => tracing::error!(%error, "the demo has failed"),
        }
    });
}

fn demo_options(demo: &Demo) -> DemoOptions {
    let even = |pixels: u32| usize::try_from(pixels & !1).unwrap_or(usize::MAX);
    DemoOptions {
        stream: demo.stream.clone(),
        width: even(demo.width),
        height: even(demo.height),
        fps: demo.frame_rate,
        bitrate_bps: u32::try_from(demo.bitrate.0).unwrap_or(u32::MAX),
    }
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
