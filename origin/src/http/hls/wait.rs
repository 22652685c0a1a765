//! Requests that wait for what does not exist yet: bounded in number and in time. Driver: awaits
//! and reads the clock.
//!
//! Not here: what they wait for (`serve`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;

/// Counts the requests that wait.
pub(super) struct Waiting {
    now: AtomicUsize,
    limit: usize,
    /// The node shuts down.
    closed: AtomicBool,
    gauge: Gauge,
}

impl Waiting {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let gauge = metrics::gauge!("headwater_hls_waiting_requests");
        let (now, closed) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { now, limit, closed, gauge })
    }

    /// Nobody waits any more from the next change on: see that there is one.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the node shuts down.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.now.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.now.fetch_sub(1, Ordering::Relaxed);
            metrics::counter!("headwater_hls_waiting_refused_total").increment(1);
            return None;
        }
        self.gauge.increment(1.0);
        Some(Place(Arc::clone(self)))
    }
}

/// A place among those who wait; free again when dropped, also by a client that went away.
pub(super) struct Place(Arc<Waiting>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.decrement(1.0);
    }
}

/// What one look found.
pub(super) enum Look<T> {
    /// The answer.
    Done(T),
    /// Not yet; wait so long in all.
    Wait(Duration),
}

/// How a wait ended without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// `[limits] hls_waiting` is reached.
    Full,
    /// It took too long.
    TimedOut,
    /// The node shuts down.
    Draining,
}

/// Looks at once and after every change, until there is an answer or the time is up.
pub(super) async fn until<T>(
    waiting: &Arc<Waiting>,
    mut changes: Vec<watch::Receiver<u64>>,
    mut look: impl FnMut(&mut Vec<watch::Receiver<u64>>) -> Look<T>,
) -> Result<T, Unanswered> {
    let begun = Instant::now();
    let mut place = None;
    loop {
        changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let limit = match look(&mut changes) {
            Look::Done(answer) => return Ok(answer),
            Look::Wait(limit) => limit,
        };
        if waiting.is_closed() {
            return Err(Unanswered::Draining);
        }
        if place.is_none() {
            place = Some(waiting.enter().ok_or(Unanswered::Full)?);
        }
        if tokio::time::timeout_at(begun + limit, any(&mut changes)).await.is_err() {
            return Err(Unanswered::TimedOut);
        }
    }
}

/// Waits until one of them changes.
async fn any(changes: &mut [watch::Receiver<u64>]) {
    // A sender that is gone is a change too. Nearly all wait for one thing, thousands at a time.
    if let [one] = changes {
        let _ = one.changed().await;
        return;
    }
    let changed = changes.iter_mut().map(|receiver| Box::pin(receiver.changed()));
    let _ = futures_util::future::select_all(changed).await;
}

/// Waits for a while, unless too many wait already.
pub(super) async fn pause(waiting: &Arc<Waiting>, time: Duration) {
    if let Some(_place) = waiting.enter() {
        tokio::time::sleep(time).await;
    }
}
