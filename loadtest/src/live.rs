//! What is counted while a run goes on, shared by everything that publishes or views: the
//! progress line and the report read it.
//!
//! Not here: what one viewer sees (`meter`), what is printed (`report`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::histogram::Histogram;
use crate::meter::{Meter, Totals};

/// Different problems that are told apart; further ones count as "other problems".
const PROBLEMS_MAX: usize = 32;

/// All viewers of one kind, or all publishers.
#[derive(Debug, Default)]
pub struct Side {
    /// `whep`, `hls`, `whip`, …
    pub kind: &'static str,
    /// Connected now.
    pub active: AtomicU64,
    /// Began to connect.
    pub started: AtomicU64,
    /// Could not connect, or were cut off.
    pub failed: AtomicU64,
    /// Video frames received or sent.
    pub frames: AtomicU64,
    /// RTP packets received or sent; 0 where the protocol has none.
    pub packets: AtomicU64,
    /// Media bytes received or sent.
    pub bytes: AtomicU64,
    /// Requests for playlists; 0 where the protocol has none.
    pub playlist_requests: AtomicU64,
    /// Other requests.
    pub requests: AtomicU64,
    /// Packets lost on purpose, by the switch for it.
    pub dropped: AtomicU64,
    interval: Mutex<Histogram>,
    totals: Mutex<Totals>,
    problems: Mutex<BTreeMap<String, u64>>,
}

impl Side {
    /// Nobody yet.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Latencies since the last call of [`Self::take_interval`].
    pub fn latencies(&self, since: &Histogram) {
        lock(&self.interval).merge(since);
    }

    /// The latencies of the time since the last call.
    #[must_use]
    pub fn take_interval(&self) -> Histogram {
        std::mem::take(&mut *lock(&self.interval))
    }

    /// A viewer is done.
    pub fn left(&self, meter: &Meter) {
        lock(&self.totals).add(meter);
    }

    /// Many viewers are done.
    pub fn left_all(&self, totals: &Totals) {
        lock(&self.totals).merge(totals);
    }

    /// What all viewers saw that are done.
    #[must_use]
    pub fn totals(&self) -> Totals {
        lock(&self.totals).clone()
    }

    /// Something failed: counts it, and what it was.
    pub fn fail(&self, problem: impl Into<String>) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut problems = lock(&self.problems);
        let mut text = problem.into();
        if problems.len() >= PROBLEMS_MAX && !problems.contains_key(&text) {
            text = "other problems".to_owned();
        }
        *problems.entry(text).or_default() += 1;
    }

    /// What failed, and how often.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<String, u64> {
        lock(&self.problems).clone()
    }
}

/// Adds to a counter that nobody waits for.
pub fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Takes from a counter that nobody waits for.
pub fn sub(counter: &AtomicU64, by: u64) {
    counter.fetch_sub(by, Ordering::Relaxed);
}

/// Reads a counter that nobody waits for.
#[must_use]
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A thread that panicked leaves counts that are still right to read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
