//! Which WebRTC sessions there are, and under which resource.
//!
//! Not here: the node's list of all sessions (`crate::sessions`), their media (the SFU).

use std::collections::HashMap;

use headwater_media::{SessionId, StreamName};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The sessions that have a resource. Bounded by `[limits] sessions`, since each holds a handle
/// of that registry.
#[derive(Default)]
pub struct WebRtcSessions {
    open: Mutex<HashMap<SessionId, Entry>>,
}

struct Entry {
    stream: StreamName,
    protocol: &'static str,
    /// Cancelled when the session ends, asks for another feed of events, or gives this one up.
    feed: CancellationToken,
    /// The session gave its feed up, and has not asked for a new one.
    given_up: bool,
}

impl WebRtcSessions {
    pub(super) fn insert(&self, id: SessionId, stream: StreamName, protocol: &'static str) {
        let entry = Entry { stream, protocol, feed: CancellationToken::new(), given_up: false };
        self.open.lock().insert(id, entry);
    }

    pub(super) fn remove(&self, id: SessionId) {
        if let Some(entry) = self.open.lock().remove(&id) {
            entry.feed.cancel();
        }
    }

    /// Whether the session is one of this stream and protocol.
    pub(super) fn is(&self, id: SessionId, stream: &StreamName, protocol: &'static str) -> bool {
        let open = self.open.lock();
        open.get(&id).is_some_and(|entry| entry.stream == *stream && entry.protocol == protocol)
    }

    /// Whether feeds of events may be had (again): false for an unknown session.
    pub(super) fn offer_feed(&self, id: SessionId) -> bool {
        self.open.lock().get_mut(&id).map(|entry| entry.given_up = false).is_some()
    }

    /// Ends the session's feed of events. False when it has none to end.
    pub(super) fn give_feed_up(&self, id: SessionId) -> bool {
        let mut open = self.open.lock();
        let Some(entry) = open.get_mut(&id).filter(|entry| !entry.given_up) else { return false };
        entry.given_up = true;
        entry.feed.cancel();
        true
    }

    /// Begins a feed of events for the session, in the place of the one that it had: what tells
    /// it to end. None when the session gave its feed up.
    pub(super) fn feed(&self, id: SessionId) -> Option<CancellationToken> {
        let mut open = self.open.lock();
        let entry = open.get_mut(&id).filter(|entry| !entry.given_up)?;
        let feed = CancellationToken::new();
        std::mem::replace(&mut entry.feed, feed.clone()).cancel();
        Some(feed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_feed_of_events_which_ends_with_it() {
        let sessions = WebRtcSessions::default();
        let id = SessionId::from_random([1; 16]);
        assert!(sessions.feed(id).is_none());
        sessions.insert(id, StreamName::parse("a").unwrap(), "whep");
        let first = sessions.feed(id).unwrap();
        assert!(!first.is_cancelled());
        let second = sessions.feed(id).unwrap();
        assert!(first.is_cancelled() && !second.is_cancelled());
        assert!(sessions.give_feed_up(id) && second.is_cancelled());
        assert!(!sessions.give_feed_up(id) && sessions.feed(id).is_none());
        assert!(sessions.offer_feed(id));
        let third = sessions.feed(id).unwrap();
        sessions.remove(id);
        assert!(third.is_cancelled() && !sessions.offer_feed(id));
    }
}
