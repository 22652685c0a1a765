//! Knows since when an HTTP/2 connection has no request under way. One of HTTP/1.1 is bounded by
//! the time for the next request's header, which has no counterpart there.
//!
//! Not here: closing the connection (`library`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use parking_lot::Mutex;

use super::guarded::{Guard, guarded};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    underway: usize,
    /// When the last one that was under way ended, while none is.
    idle_since: Option<Instant>,
}

impl Requests {
    /// A request begins; it is over when what is given back is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Underway {
        let mut state = self.state.lock();
        state.underway += 1;
        state.idle_since = None;
        Underway { of: Arc::clone(self) }
    }

    /// For how long there has been none; nothing while there is one, and before the first.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        let since = self.state.lock().idle_since?;
        Some(now.saturating_duration_since(since))
    }
}

/// A request that is under way, and its answer.
#[derive(Debug)]
pub(super) struct Underway {
    of: Arc<Requests>,
}

impl Underway {
    /// Goes on until `body` is sent.
    pub(super) fn until_sent(self, body: Body) -> Body {
        if body.is_end_stream() { body } else { guarded(body, self) }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut state = self.of.state.lock();
        state.underway = state.underway.saturating_sub(1);
        if state.underway == 0 {
            state.idle_since = Some(Instant::now());
        }
    }
}

impl Guard for Underway {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_from_the_end_of_its_last_body_on() {
        let requests = Arc::new(Requests::default());
        let later = || Instant::now() + Duration::from_secs(5);
        assert_eq!(requests.idle_for(later()), None, "not asked anything yet");
        let (first, second) = (requests.begin(), requests.begin());
        drop(first.until_sent(Body::empty()));
        let body = second.until_sent(Body::from("a"));
        assert_eq!(requests.idle_for(later()), None, "an answer is under way");
        drop(body);
        assert!(requests.idle_for(later()).unwrap() >= Duration::from_secs(4));
        let _third = requests.begin();
        assert_eq!(requests.idle_for(later()), None);
    }
}
