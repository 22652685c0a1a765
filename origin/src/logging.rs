//! Log lines on standard error, as text or JSON.
//!
//! Not here: what is logged (each part says its own, with the fields `stream`, `session`, `peer`).

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// Installs the subscriber for the process. `RUST_LOG` goes before the configured filter.
///
/// # Errors
/// `RUST_LOG` is not a filter, or a subscriber is installed already.
pub fn install(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => filter(&text)
            .map_err(|error| anyhow::anyhow!("RUST_LOG={text:?} is not a filter: {error}"))?,
        _ => filter(&log.filter.0)?,
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // A reader of the log that goes away must not take the node with it.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE);
    let installed = match log.format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}

/// A filter, to which openraft's own lines belong only if it names them: the library tells of each
/// heartbeat that a dead node misses, and the cluster says what matters of it.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let quiet = if text.contains("openraft") { "" } else { ",openraft=off" };
    Ok(EnvFilter::try_new(format!("{text}{quiet}"))?)
}
