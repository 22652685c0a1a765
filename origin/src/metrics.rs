//! The metrics of the process: one recorder, rendered as Prometheus text.
//!
//! Not here: what is counted (each part counts its own). A driver file: reads `/proc`.

mod help;

use std::fmt::Write as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of every histogram of seconds: from a part's delay within the node up to a hold-back.
const SECONDS_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Bounds of every histogram of bytes.
const BYTES_BUCKETS: [f64; 8] =
    [1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder for the process; the second and further calls change nothing. Metrics
/// are counted from here on, so this comes before any part starts.
pub fn install() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES_BUCKETS)
            });
        let recorder = match builder {
            Ok(builder) => builder.build_recorder(),
            Err(error) => {
                tracing::error!(%error, "metrics are off: their buckets are refused");
                return None;
            }
        };
        let handle = recorder.handle();
        help::describe(&recorder);
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        Some(handle)
    });
}

/// Lets the recorder fold its histograms; to be called every few seconds.
pub fn upkeep() {
    if let Some(Some(handle)) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// Everything as Prometheus text.
#[must_use]
pub fn render() -> String {
    record_process();
    let Some(Some(handle)) = HANDLE.get() else { return String::new() };
    let mut text = handle.render();
    if let Some(seconds) = processor_seconds() {
        // By hand: the recorder's counters are whole numbers.
        let (name, help) = help::PROCESSOR_TIME;
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}\n\n");
    }
    text
}

/// Memory, descriptors and threads of this process, where `/proc` tells.
fn record_process() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        metrics::gauge!("headwater_process_resident_memory_bytes").set(kib * 1_024.0);
    }
    if let Some(threads) = field("Threads:") {
        metrics::gauge!("headwater_process_threads").set(threads);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!("headwater_process_open_fds").set(entries.count() as f64);
    }
}

/// User and system time of all threads.
fn processor_seconds() -> Option<f64> {
    /// `USER_HZ`, 100 on every Linux that Rust supports.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in brackets, may hold anything; fields are counted after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_text_bears_the_process_and_what_was_counted() {
        super::install();
        super::install();
        metrics::counter!("headwater_test_total").increment(3);
        metrics::histogram!("headwater_test_seconds").record(0.003);
        let text = super::render();
        for expected in [
            "headwater_process_resident_memory_bytes ",
            "headwater_process_open_fds ",
            "# HELP headwater_process_threads Threads of the process.\n",
            "# TYPE headwater_process_cpu_seconds_total counter\nheadwater_process_cpu_seconds_total ",
            "headwater_test_total 3",
            "headwater_test_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
