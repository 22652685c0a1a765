//! Finds answers that a client does not take: bodies that gave bytes and were not asked for more.
//! Whoever holds them holds media that the node wants to forget.
//!
//! Not here: closing the connection (`server`); a client whose machine takes nothing at all, which
//! the system finds (`TCP_USER_TIMEOUT`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use parking_lot::Mutex;

use super::guarded::{Guard, guarded};

/// The bodies of one connection.
#[derive(Debug)]
pub(super) struct Bodies {
    began: Instant,
    open: Mutex<Open>,
}

/// Bodies under way; those that are over are forgotten when there are `prune_at`.
#[derive(Debug)]
struct Open {
    bodies: Vec<Weak<AtomicU64>>,
    prune_at: usize,
}

/// Bodies that are held before any is looked at: more than a player has under way.
const PRUNE_MIN: usize = 64;

impl Open {
    fn push(&mut self, body: Weak<AtomicU64>) {
        if self.bodies.len() >= self.prune_at {
            self.bodies.retain(|body| body.strong_count() > 0);
            self.prune_at = (2 * self.bodies.len()).max(PRUNE_MIN);
        }
        self.bodies.push(body);
    }
}

/// Nothing was handed out that has not been taken.
const TAKEN: u64 = 0;

impl Bodies {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            open: Mutex::new(Open { bodies: Vec::new(), prune_at: PRUNE_MIN }),
        })
    }

    /// Milliseconds of the connection's life, from 1 on.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Watches a body.
    pub(super) fn watch(self: &Arc<Self>, body: Body) -> Body {
        // One that is over already has nothing to hold.
        if body.is_end_stream() {
            return body;
        }
        let at = Arc::new(AtomicU64::new(TAKEN));
        self.open.lock().push(Arc::downgrade(&at));
        guarded(body, Handed { at, of: Arc::clone(self) })
    }

    /// Whether a body waits for its client for longer than `patience`. Forgets those that are over.
    pub(super) fn stalled(&self, patience: Duration) -> bool {
        let now = self.now();
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let mut stalled = false;
        self.open.lock().bodies.retain(|handed| {
            let Some(handed) = handed.upgrade() else { return false };
            let since = handed.load(Ordering::Relaxed);
            stalled |= since != TAKEN && now.saturating_sub(since) > patience;
            true
        });
        stalled
    }
}

/// A body's mark.
struct Handed {
    /// When bytes were handed out for which no more have been asked since.
    at: Arc<AtomicU64>,
    of: Arc<Bodies>,
}

impl Guard for Handed {
    fn asked(&mut self, gave: bool) {
        // One that has nothing yet waits for the node, not for the client.
        let at = if gave { self.of.now() } else { TAKEN };
        self.at.store(at, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_stalls_when_nobody_asks_on_and_not_when_it_waits_itself() {
        let bodies = Bodies::new();
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, axum::Error>>(1);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        let mut body = bodies.watch(Body::new(StreamBody::new(stream)));
        assert!(!bodies.stalled(Duration::ZERO), "not begun");
        sender.send(Ok(Frame::data(Bytes::from_static(b"a")))).await.unwrap();
        body.frame().await.unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(3));
        assert!(bodies.stalled(Duration::from_millis(1)), "handed out, and not asked on");
        assert!(!bodies.stalled(Duration::from_secs(60)), "patience");
        assert!(futures_util::poll!(body.frame()).is_pending());
        std::thread::sleep(Duration::from_millis(3));
        assert!(!bodies.stalled(Duration::from_millis(1)), "it is the node's turn");
        drop(body);
        assert!(!bodies.stalled(Duration::ZERO));
        assert!(bodies.open.lock().bodies.is_empty(), "forgotten");
    }

    #[test]
    fn empty_bodies_are_not_watched() {
        let bodies = Bodies::new();
        drop(bodies.watch(Body::new(Full::<Bytes>::default())));
        assert!(bodies.open.lock().bodies.is_empty());
    }
}
