//! What the workers and the handle share: limits, loads, and the list of sessions.
//!
//! Touched when sessions come and go and when somebody asks, never on the packet path.
//! Not here: the sessions themselves (`shard`).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_media::{SessionId, StreamName};

use crate::error::SfuError;
use crate::stats::{SessionCounters, SessionKind, SessionStats};

/// A session in the list.
pub(crate) struct Listed {
    pub(crate) kind: SessionKind,
    pub(crate) worker: usize,
    pub(crate) counters: Arc<SessionCounters>,
}

/// Shared by all workers and the handle.
pub(crate) struct Shared {
    sessions_max: usize,
    half_open_max: usize,
    sessions: AtomicUsize,
    half_open: AtomicUsize,
    loads: Vec<AtomicUsize>,
    list: Mutex<HashMap<SessionId, Listed>>,
}

/// By how many sessions, and by what share of the least loaded worker's, a stream's own worker may
/// be ahead and still get the stream's next publisher.
const HOME_AHEAD: usize = 16;
/// Sessions up to which a worker takes all that its streams bring. A frame wakes every worker that
/// has a viewer of it, and a thread that wakes for a few viewers costs more than they do: with 100
/// viewers on one worker a packet costs a seventh less than on two. So many viewers' packets of a
/// usual frame leave within one or two milliseconds.
const PACKED: usize = 128;
const HOME_AHEAD_SHARE: usize = 4;

/// Counts up unless `limit` is reached.
fn take(counter: &AtomicUsize, limit: usize) -> bool {
    let up = |count: usize| (count < limit).then_some(count + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, up).is_ok()
}

impl Shared {
    pub(crate) fn new(workers: usize, sessions_max: usize, half_open_max: usize) -> Self {
        Self {
            sessions_max,
            half_open_max,
            sessions: AtomicUsize::new(0),
            half_open: AtomicUsize::new(0),
            loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            list: Mutex::default(),
        }
    }

    fn list(&self) -> MutexGuard<'_, HashMap<SessionId, Listed>> {
        // A panic elsewhere leaves a map that is still a map.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker with the fewest sessions.
    pub(crate) fn least_loaded(&self) -> usize {
        let loads = self.loads.iter().enumerate();
        loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed)).map_or(0, |(at, _)| at)
    }

    /// The worker for a publisher of the stream: always the same one unless it is far ahead of the
    /// others, so that a publisher who returns finds the memory that it left there.
    pub(crate) fn home(&self, stream: &StreamName) -> usize {
        let least = self.least_loaded();
        let load = |at: usize| self.loads.get(at).map_or(0, |load| load.load(Ordering::Relaxed));
        let mut hasher = DefaultHasher::new();
        stream.hash(&mut hasher);
        let workers = u64::try_from(self.loads.len().max(1)).unwrap_or(1);
        let home = usize::try_from(hasher.finish() % workers).unwrap_or(least);
        let room = load(least) + HOME_AHEAD + load(least) / HOME_AHEAD_SHARE;
        if load(home) <= room.max(PACKED) { home } else { least }
    }

    /// The worker for a viewer of the stream: its own one, where its publisher is too, while that
    /// has room; then all share alike.
    pub(crate) fn seat(&self, stream: &StreamName) -> usize {
        let home = self.home(stream);
        let load = self.loads.get(home).map_or(0, |load| load.load(Ordering::Relaxed));
        if load < PACKED { home } else { self.least_loaded() }
    }

    /// Reserves room for a session on a worker, half open.
    ///
    /// # Errors
    /// [`SfuError::LimitReached`].
    pub(crate) fn reserve(&self, worker: usize) -> Result<(), SfuError> {
        if !take(&self.sessions, self.sessions_max) {
            crate::metrics::refused("sessions");
            return Err(SfuError::LimitReached { what: "sessions", limit: self.sessions_max });
        }
        if !take(&self.half_open, self.half_open_max) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            crate::metrics::refused("half_open");
            let (what, limit) = ("sessions that are still connecting", self.half_open_max);
            return Err(SfuError::LimitReached { what, limit });
        }
        if let Some(load) = self.loads.get(worker) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A session is connected: it is not half open any more.
    pub(crate) fn opened(&self) {
        self.half_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A session's room is free again.
    pub(crate) fn release(&self, worker: usize, half_open: bool) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        if half_open {
            self.opened();
        }
        if let Some(load) = self.loads.get(worker) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Puts a session on the list; false when its id is there already.
    pub(crate) fn list_session(&self, session: SessionId, listed: Listed) -> bool {
        let mut list = self.list();
        if list.contains_key(&session) {
            return false;
        }
        list.insert(session, listed);
        true
    }

    pub(crate) fn unlist(&self, session: SessionId) {
        self.list().remove(&session);
    }

    pub(crate) fn worker_of(&self, session: SessionId) -> Option<usize> {
        self.list().get(&session).map(|listed| listed.worker)
    }

    pub(crate) fn stats(&self) -> Vec<SessionStats> {
        let list = self.list();
        list.iter().map(|(id, s)| SessionStats::read(*id, s.kind, s.worker, &s.counters)).collect()
    }

    pub(crate) fn session_stats(&self, session: SessionId) -> Option<SessionStats> {
        let list = self.list();
        list.get(&session).map(|s| SessionStats::read(session, s.kind, s.worker, &s.counters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_publishers_share_a_worker_until_it_is_far_ahead() {
        let shared = Shared::new(4, 1_000, 1_000);
        let stream = StreamName::parse("auction/lot-7").unwrap();
        let home = shared.home(&stream);
        for _ in 0..PACKED {
            shared.reserve(home).unwrap();
            assert_eq!(shared.home(&stream), home);
        }
        shared.reserve(home).unwrap();
        assert_ne!(shared.home(&stream), home);
        let other = |n: u32| shared.home(&StreamName::parse(&format!("lot-{n}")).unwrap());
        let used: std::collections::HashSet<_> = (0..100).map(other).collect();
        assert!(used.len() >= 3, "streams are spread: {used:?}");
    }

    #[test]
    fn a_streams_viewers_share_a_worker_until_it_is_full_and_then_all_share_alike() {
        let shared = Shared::new(2, 1_000, 1_000);
        let stream = StreamName::parse("auction/lot-7").unwrap();
        let home = shared.seat(&stream);
        for _ in 0..PACKED {
            assert_eq!(shared.seat(&stream), home);
            shared.reserve(home).unwrap();
        }
        for _ in 0..PACKED {
            assert_ne!(shared.seat(&stream), home);
            shared.reserve(1 - home).unwrap();
        }
        for _ in 0..100 {
            shared.reserve(shared.seat(&stream)).unwrap();
        }
        let load = |at: usize| shared.loads[at].load(Ordering::Relaxed);
        assert_eq!(load(0), load(1));
    }

    #[test]
    fn limits_are_kept_and_given_back() {
        let shared = Shared::new(2, 3, 2);
        shared.reserve(0).unwrap();
        assert_eq!(shared.least_loaded(), 1);
        shared.reserve(1).unwrap();
        assert!(matches!(shared.reserve(0), Err(SfuError::LimitReached { limit: 2, .. })));
        shared.opened();
        shared.reserve(0).unwrap();
        assert!(matches!(
            shared.reserve(0),
            Err(SfuError::LimitReached { what: "sessions", limit: 3 })
        ));
        shared.release(1, false);
        shared.release(0, true);
        shared.reserve(1).unwrap();
    }
}
