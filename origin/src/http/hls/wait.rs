//! Requests that wait for what does not exist yet: bounded in number and in time. Driver: awaits
//! and reads the clock.
//!
//! Not here: what they wait for (`serve`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Counts the requests that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    now: AtomicUsize,
    limit: usize,
}

impl Waiting {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { now: AtomicUsize::new(0), limit })
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.now.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.now.fetch_sub(1, Ordering::Relaxed);
            metrics::counter!("headwater_hls_waiting_refused_total").increment(1);
            return None;
        }
        metrics::gauge!("headwater_hls_waiting_requests").increment(1.0);
        Some(Place(Arc::clone(self)))
    }
}

/// A place among those who wait; free again when dropped, also by a client that went away.
struct Place(Arc<Waiting>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("headwater_hls_waiting_requests").decrement(1.0);
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
        if place.is_none() {
            place = Some(waiting.enter().ok_or(Unanswered::Full)?);
        }
        let changed = changes.iter_mut().map(|receiver| Box::pin(receiver.changed()));
        let any = futures_util::future::select_all(changed);
        if tokio::time::timeout_at(begun + limit, any).await.is_err() {
            return Err(Unanswered::TimedOut);
        }
    }
}

/// Waits for a while, unless too many wait already.
pub(super) async fn pause(waiting: &Arc<Waiting>, time: Duration) {
    if let Some(_place) = waiting.enter() {
        tokio::time::sleep(time).await;
    }
}
