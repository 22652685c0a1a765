//! Counts what is refused, by reason, and logs it with the peer, though never more often than the
//! log can bear.
//!
//! Not here: the decision to refuse (`identity::verify`, `accept`, `transport`, `control`).

#![allow(clippy::disallowed_methods, reason = "driver: spaces its log lines by the clock")]

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::id::NodeId;
use crate::identity::Refusal;

/// One line a second and reason: a stranger who knocks for ever must not fill the disk. The counter
/// has them all.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// How often each thing was refused, since the start.
#[derive(Clone, Default)]
pub struct Refused(Arc<Table>);

#[derive(Default)]
struct Table {
    counts: [AtomicU64; Refusal::ALL.len()],
    logged: Mutex<[Option<Instant>; Refusal::ALL.len()]>,
}

impl Refused {
    /// Counts and logs one.
    pub fn note(
        &self,
        refusal: Refusal,
        peer: SocketAddr,
        node: Option<NodeId>,
        detail: &dyn fmt::Display,
    ) {
        let index = refusal.index();
        if let Some(count) = self.0.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        metrics::counter!("headwater_cluster_refused_total", "reason" => refusal.name())
            .increment(1);
        if self.may_log(index) {
            let node = node.map(|node| node.0);
            tracing::warn!(%peer, node, reason = refusal.name(), %detail, "refused on the cluster port");
        }
    }

    /// How often that was refused.
    pub fn count(&self, refusal: Refusal) -> u64 {
        self.0.counts.get(refusal.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Everything that was refused.
    pub fn total(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn may_log(&self, index: usize) -> bool {
        let now = Instant::now();
        let mut logged = self.0.logged.lock();
        let Some(last) = logged.get_mut(index) else { return false };
        let due = last.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Refusal::ALL.iter().map(|&refusal| (refusal.name(), self.count(refusal)));
        f.debug_map().entries(counts.filter(|(_, count)| *count > 0)).finish()
    }
}
